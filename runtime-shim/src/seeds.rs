//! What is put into stores and databases before anything runs: Spin's
//! `--key-value` and `--sqlite`. Each trigger of an application gets these flags,
//! so they are planted once by each, as on Spin.

use std::path::PathBuf;
use std::str::FromStr;

use crate::names::DatabaseLabel;

/// What the command line gives.
#[derive(Clone, Debug, Default)]
pub struct Seeds {
    /// For the store `default`.
    pub pairs: Vec<Pair>,
    /// For databases, in this order.
    pub statements: Vec<Statements>,
}

/// `key=value`. What is under the key already is replaced.
#[derive(Clone)]
pub struct Pair {
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
}

/// Without the value.
impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}=…", self.key)
    }
}

impl FromStr for Pair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
        Ok(Self {
            key: key.to_owned(),
            value: value.to_owned(),
        })
    }
}

/// SQL, and where it runs.
#[derive(Clone, Debug)]
pub enum Statements {
    /// Here, for the database `default`.
    Text(String),
    /// In a file, for a database: `@file` or `@file:label`.
    File(PathBuf, DatabaseLabel),
}

impl FromStr for Statements {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(file) = text.strip_prefix('@') else {
            return Ok(Self::Text(text.to_owned()));
        };
        let (file, label) = file.split_once(':').unwrap_or((file, "default"));
        if file.trim().is_empty() {
            return Err("expected a statement, @FILE or @FILE:LABEL".to_owned());
        }
        let label = DatabaseLabel::new(label.trim()).map_err(|error| error.to_string())?;
        Ok(Self::File(file.trim().into(), label))
    }
}

/// Why something could not be planted.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// A pair.
    #[error("`--key-value {key}=…`: {reason}")]
    Pair {
        /// Its key.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// A database that the runtime configuration does not define.
    #[error("`--sqlite`: the runtime configuration does not define the database `{0}`")]
    Database(DatabaseLabel),
    /// A file of statements.
    #[error("`--sqlite`: cannot read `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Statements.
    #[error("`--sqlite`: database `{label}`: {source}")]
    Sql {
        /// Where they ran.
        label: DatabaseLabel,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_here_or_in_a_file() {
        for (text, expected) in [
            ("CREATE TABLE t (a)", "Text(\"CREATE TABLE t (a)\")"),
            ("@m.sql", "File(\"m.sql\", DatabaseLabel(\"default\"))"),
            (
                "@m.sql:accounts",
                "File(\"m.sql\", DatabaseLabel(\"accounts\"))",
            ),
        ] {
            let parsed: Statements = text.parse().expect(text);
            assert_eq!(format!("{parsed:?}"), expected);
        }
        for text in ["@", "@:accounts", "@m.sql:"] {
            assert!(text.parse::<Statements>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_pair_is_split_once_and_its_value_is_not_shown() {
        let pair: Pair = "k=v=w".parse().expect("a pair");
        assert_eq!((&*pair.key, &*pair.value), ("k", "v=w"));
        assert_eq!(format!("{pair:?}"), "k=…");
        assert!("k".parse::<Pair>().is_err());
    }
}
