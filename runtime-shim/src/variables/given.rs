//! Values from the command line, in Spin's four forms.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::names::VariableName;

/// What one `--variable` says. Not to be shown: it may be a secret.
#[derive(Clone)]
pub enum Given {
    /// `name=value`
    Value(VariableName, String),
    /// `name=@file`: the file's text.
    Text(VariableName, PathBuf),
    /// `@file.json` or `@file.toml`: a table of names and values.
    Table(PathBuf, Format),
}

/// How a file of many values is written.
#[derive(Clone, Copy, Debug)]
pub enum Format {
    /// `{"name": "value"}`
    Json,
    /// `name = "value"`
    Toml,
}

/// Why a file of values cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("`--variable`: cannot use `{}`: {reason}", path.display())]
pub struct GivenError {
    path: PathBuf,
    reason: String,
}

impl Given {
    /// The file that it is read from, if it is.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Value(..) => None,
            Self::Text(_, path) | Self::Table(path, _) => Some(path),
        }
    }
}

/// Without the value.
impl std::fmt::Debug for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Value(name, _) => write!(f, "{name}=…"),
            Self::Text(name, path) => write!(f, "{name}=@{}", path.display()),
            Self::Table(path, _) => write!(f, "@{}", path.display()),
        }
    }
}

impl Given {
    /// How it is written.
    pub const FORMS: &str = "NAME=VALUE | NAME=@FILE | @FILE.json | @FILE.toml";

    /// The values that `all` give; of one name, the last counts.
    pub fn read(all: &[Self]) -> Result<BTreeMap<VariableName, String>, GivenError> {
        let mut values = BTreeMap::new();
        for given in all {
            match given {
                Self::Value(name, value) => {
                    values.insert(name.clone(), value.clone());
                }
                Self::Text(name, path) => {
                    values.insert(name.clone(), text_of(path)?);
                }
                Self::Table(path, format) => values.extend(table_of(path, *format)?),
            }
        }
        Ok(values)
    }
}

impl FromStr for Given {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix('@') {
            let path = PathBuf::from(path);
            return match path.extension().and_then(|extension| extension.to_str()) {
                Some("json") => Ok(Self::Table(path, Format::Json)),
                Some("toml") => Ok(Self::Table(path, Format::Toml)),
                _ => Err("a file of variables ends in `.json` or `.toml`".to_owned()),
            };
        }
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| format!("expected {}", Self::FORMS))?;
        let name = VariableName::new(name).map_err(|error| error.to_string())?;
        Ok(match value.strip_prefix('@') {
            Some(path) => Self::Text(name, path.into()),
            None => Self::Value(name, value.to_owned()),
        })
    }
}

fn text_of(path: &Path) -> Result<String, GivenError> {
    std::fs::read_to_string(path).map_err(|error| GivenError {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

/// The parsers' own texts would show the place, which may hold a secret.
fn table_of(path: &Path, format: Format) -> Result<BTreeMap<VariableName, String>, GivenError> {
    let text = text_of(path)?;
    let table = match format {
        Format::Json => serde_json::from_str(&text).ok(),
        Format::Toml => toml::from_str(&text).ok(),
    };
    table.ok_or_else(|| GivenError {
        path: path.to_owned(),
        reason: "it is not a table of variable names and texts".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_gives_its_values_and_the_last_counts() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).expect("written");
            path.display().to_string()
        };
        let json = file("v.json", r#"{"a": "json", "b": "json"}"#);
        let toml = file("v.toml", "b = \"toml\"");
        let text = file("v", "text");
        let given: Vec<Given> = [
            format!("@{json}"),
            format!("@{toml}"),
            format!("c=@{text}"),
            "d=x=y".to_owned(),
            "d=last".to_owned(),
        ]
        .iter()
        .map(|form| form.parse().expect(form))
        .collect();
        let values = Given::read(&given).expect("readable");
        let values: Vec<_> = values
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(values, ["a=json", "b=toml", "c=text", "d=last"]);
    }

    #[test]
    fn refuses_what_is_none_of_them_and_shows_no_value() {
        for (text, expected) in [
            ("novalue", "expected NAME=VALUE"),
            ("@values.yaml", "ends in `.json` or `.toml`"),
            ("Name=x", "`Name` is not a valid variable name"),
        ] {
            let error = text.parse::<Given>().expect_err(text);
            assert!(error.contains(expected), "{error}");
        }
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("v.json");
        std::fs::write(&path, r#"{"a": hunter2}"#).expect("written");
        let given: Given = format!("@{}", path.display()).parse().expect("a form");
        let error = Given::read(&[given]).expect_err("not JSON").to_string();
        assert!(
            error.contains("v.json") && !error.contains("hunter2"),
            "{error}"
        );
        let given: Given = "a=hunter2".parse().expect("a form");
        assert_eq!(format!("{given:?}"), "a=…");
    }
}
