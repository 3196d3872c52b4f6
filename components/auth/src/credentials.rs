//! What a person types to register or log in: a name and a password. Neither has
//! a `Debug`: they must not reach a log by accident.

use serde::Deserialize;
use sha2::{Digest, Sha256};

/// How refusals describe the body of both requests.
pub(crate) const FORM: &str = r#"{"username": text, "password": text}"#;

/// The body of both requests.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Credentials {
    pub(crate) username: String,
    pub(crate) password: Password,
}

/// A password as it was typed.
#[derive(Deserialize)]
#[serde(transparent)]
pub(crate) struct Password(String);

impl Password {
    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
impl From<&str> for Password {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// A name that an account can have.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Username(String);

/// Why a text is no name.
#[derive(Debug, thiserror::Error)]
#[error("a username has 3 to 32 characters of a-z 0-9 - _ and begins with a letter")]
pub(crate) struct BadName;

impl Username {
    /// Upper case is folded: names that look alike are one.
    pub(crate) fn parse(text: &str) -> Result<Self, BadName> {
        let name = text.to_ascii_lowercase();
        let fits =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
        let is_name = (3..=32).contains(&name.len())
            && name.bytes().all(fits)
            && name.starts_with(|first: char| first.is_ascii_lowercase());
        is_name.then_some(Self(name)).ok_or(BadName)
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

/// The name of an attempt to log in: perhaps no account's, and perhaps not even a
/// name. All take the same way.
pub(crate) struct AttemptedName(Option<Username>);

impl AttemptedName {
    pub(crate) fn of(text: &str) -> Self {
        Self(Username::parse(text).ok())
    }

    /// What accounts are looked up by; that of no account when it can be none's.
    pub(crate) fn text(&self) -> &str {
        self.0.as_ref().map_or("", Username::text)
    }

    /// What attempts are counted by. A hash, and of what can be no name the same
    /// one: now and then a person types the password here.
    pub(crate) fn digest(&self) -> String {
        reply::hex(&Sha256::digest(self.text()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_folded_and_bounded() {
        let longest = "a".repeat(32);
        for (text, name) in [
            ("bob", Some("bob")),
            ("Bob-2_x", Some("bob-2_x")),
            (&longest, Some(longest.as_str())),
            ("bo", None),
            (&"a".repeat(33), None),
            ("2bob", None),
            ("-bob", None),
            ("_bob", None),
            (" bob", None),
            ("bob ", None),
            ("bob\0", None),
            ("b.ob", None),
            ("böb", None),
            // The Kelvin sign: folds to `k` where folding knows all of Unicode.
            ("bo\u{212a}", None),
            ("", None),
        ] {
            let parsed = Username::parse(text).ok();
            assert_eq!(parsed.as_ref().map(Username::text), name, "{text:?}");
        }
    }

    #[test]
    fn attempts_are_counted_by_a_hash_of_the_folded_name() {
        let digest = |text| AttemptedName::of(text).digest();
        assert_eq!(digest("Bob"), digest("bob"));
        assert_ne!(digest("bob"), digest("rob"));
        assert_eq!(digest("bob").len(), 64);
        assert_eq!(digest("my secret!"), digest("another secret!"));
        assert_eq!(AttemptedName::of("my secret!").text(), "");
    }

    #[test]
    fn credentials_have_two_fields() {
        let parse = serde_json::from_str::<Credentials>;
        assert!(parse(r#"{"username":"bob","password":"x"}"#).is_ok());
        for body in [
            r#"{"username":"bob"}"#,
            r#"{"username":"bob","password":null}"#,
            r#"{"username":"bob","password":["x"]}"#,
            r#"{"username":"bob","password":"x","admin":true}"#,
            r#"{"username":"bob","password":"x","password":"y"}"#,
        ] {
            assert!(parse(body).is_err(), "{body}");
        }
    }
}
