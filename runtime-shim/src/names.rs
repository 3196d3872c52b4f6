//! The identifiers that a manifest carries, as types: whatever holds a
//! [`ComponentId`] was checked when it was parsed.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer};

/// Why a string is not a valid identifier.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{value}` is not a valid {kind}: {rule}")]
pub struct InvalidName {
    kind: &'static str,
    value: String,
    rule: &'static str,
}

macro_rules! name_type {
    ($(#[$meta:meta])* $name:ident, $kind:literal, $rule:literal, $check:expr) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `value` against the rule of this kind of name.
            pub fn new(value: &str) -> Result<Self, InvalidName> {
                let check: fn(&str) -> bool = $check;
                if check(value) {
                    Ok(Self(value.into()))
                } else {
                    Err(InvalidName { kind: $kind, value: value.to_owned(), rule: $rule })
                }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let value = String::deserialize(deserializer)?;
                Self::new(&value).map_err(serde::de::Error::custom)
            }
        }
    };
}

name_type!(
    /// The id of a component: `[component.<id>]`.
    ComponentId,
    "component id",
    "use words of letters and digits, joined by `-`, each beginning with a letter",
    |s| words(s, '-', |c| c.is_ascii_alphanumeric())
);

name_type!(
    /// The name of an application variable: `[variables] <name>`.
    VariableName,
    "variable name",
    "use words of lower-case letters and digits, joined by `_`, each beginning with a letter",
    |s| words(s, '_', |c| c.is_ascii_lowercase() || c.is_ascii_digit())
);

name_type!(
    /// The label by which a component opens a store: `key_value_stores = ["<label>"]`.
    StoreLabel,
    "store label",
    "use words of letters and digits, joined by `-` or `_`",
    is_label
);

name_type!(
    /// The label by which a component opens a SQLite database:
    /// `sqlite_databases = ["<label>"]`.
    DatabaseLabel,
    "database label",
    "use words of letters and digits, joined by `-` or `_`",
    is_label
);

impl StoreLabel {
    /// `default`: on Spin there is always something behind it.
    pub fn spins_default() -> Self {
        Self("default".into())
    }
}

impl DatabaseLabel {
    /// `default`: on Spin there is always something behind it.
    pub fn spins_default() -> Self {
        Self("default".into())
    }
}

name_type!(
    /// The name of a plugin that `gristmill new` makes: of its package, its
    /// component and its queue.
    PluginName,
    "name for a plugin",
    "use words of lower-case letters and digits, joined by `-`, each beginning with a letter, up \
     to 64 characters, that mean nothing to Rust",
    is_plugin_name
);

/// A package's name that is a component's id and a queue's name as well.
fn is_plugin_name(s: &str) -> bool {
    s.len() <= 64
        && words(s, '-', |c| c.is_ascii_lowercase() || c.is_ascii_digit())
        && !RESERVED.contains(&s)
}

/// Words that are no names in Rust, and crates that a plugin uses itself.
const RESERVED: &[&str] = &[
    "abstract",
    "alloc",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "const",
    "continue",
    "core",
    "crate",
    "do",
    "dyn",
    "else",
    "enum",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "override",
    "priv",
    "proc-macro",
    "pub",
    "ref",
    "return",
    "self",
    "serde-json",
    "spin-sdk",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "trait",
    "true",
    "try",
    "type",
    "typeof",
    "unsafe",
    "unsized",
    "use",
    "virtual",
    "where",
    "while",
    "wit-bindgen",
    "yield",
];

/// What may stand in the name of a file, and hides nothing.
fn is_label(s: &str) -> bool {
    s.chars()
        .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
        && s.starts_with(|c: char| c.is_ascii_alphanumeric())
}

/// Spin's grammar for ids: non-empty words, each beginning with a letter.
pub(crate) fn words(s: &str, separator: char, allowed: impl Fn(char) -> bool) -> bool {
    s.split(separator).all(|word| {
        word.starts_with(|c: char| c.is_ascii_alphabetic()) && word.chars().all(&allowed)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn component_ids_are_kebab_case() {
        for good in ["a", "process-message", "v2-worker2"] {
            assert!(ComponentId::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "a--b", "a_b", "2a", "a-2", "ä", "../x"] {
            assert!(ComponentId::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn variable_names_are_snake_case() {
        assert!(VariableName::new("queue_url").is_ok());
        for bad in ["Queue", "queue-url", "_x", "x__y", ""] {
            assert!(VariableName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn plugins_have_names_that_cargo_takes() {
        for good in ["a", "hello-queue", "v2-worker2", "matches"] {
            assert!(PluginName::new(good).is_ok(), "{good}");
        }
        let long = "x".repeat(65);
        for bad in [
            "", "Hello", "a-B", "a_b", "a b", "../x", "-a", "a-2", "ä", "match", "std", "spin-sdk",
            &long,
        ] {
            assert!(PluginName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_invalid_name_says_what_and_why() {
        let error = ComponentId::new("a b").expect_err("a space is not allowed");
        assert_eq!(
            error.to_string(),
            "`a b` is not a valid component id: use words of letters and digits, joined by `-`, \
             each beginning with a letter"
        );
    }
}
