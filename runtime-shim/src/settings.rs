//! The only place that reads the process environment. Everything else is given
//! what it needs.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// A snapshot of the environment, taken once at start.
#[derive(Clone, Default)]
pub struct Environment {
    values: BTreeMap<String, String>,
}

/// Without the values.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Environment({:?})", self.values.keys())
    }
}

/// Why a `.env` file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot read environment file `{}`: {reason}", path.display())]
pub struct DotenvError {
    path: PathBuf,
    reason: String,
}

impl Environment {
    /// The environment of this process. Values that are not UTF-8 are left out.
    pub fn capture() -> Self {
        let values = std::env::vars_os()
            .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self { values }
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }

    /// Adds what a `.env` file says, under what is set already. A file that is
    /// not there adds nothing.
    pub fn with_dotenv(mut self, path: &Path) -> Result<Self, DotenvError> {
        let error = |reason: String| DotenvError {
            path: path.to_owned(),
            reason,
        };
        match dotenvy::from_path_iter(path) {
            Err(e) if e.not_found() => Ok(self),
            Err(e) => Err(error(e.to_string())),
            Ok(entries) => {
                for entry in entries {
                    // The error of a bad line would print the line, which may hold a secret.
                    let (key, value) =
                        entry.map_err(|_| error("a line is not `KEY=value`".to_owned()))?;
                    self.values.entry(key).or_insert(value);
                }
                Ok(self)
            }
        }
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self {
            values: pairs
                .into_iter()
                .map(|(k, v)| (k.into(), v.into()))
                .collect(),
        }
    }
}
