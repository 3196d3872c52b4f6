//! `runtime-config.toml`: which backend stands behind which label, and further
//! sources of variables. Keys as in Spin; the same file serves both hosts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::names::{DatabaseLabel, StoreLabel, VariableName};
use crate::redis_server::RedisServer;
use crate::settings::{DotenvError, Environment};
use crate::stores::{DynamoConfig, StoreConfig};
use crate::variables::{Provider, Variables, Vault, VaultConfig};

/// The parsed file. Not to be shown: it may hold passwords and tokens.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuntimeConfig {
    /// Where state lives, unless `--state-dir` says otherwise.
    pub state_dir: Option<PathBuf>,
    #[serde(default, rename = "log_dir")]
    _log_dir: Option<PathBuf>,
    /// Bytes of memory for one sandbox.
    pub max_instance_memory: Option<usize>,
    /// `[key_value_store.<label>]`.
    #[serde(default, rename = "key_value_store")]
    key_value_stores: BTreeMap<StoreLabel, toml::Table>,
    /// `[sqlite_database.<label>]`.
    #[serde(default, rename = "sqlite_database")]
    sqlite_databases: BTreeMap<DatabaseLabel, toml::Table>,
    #[serde(default, rename = "variables_provider")]
    providers: Vec<toml::Table>,
    outbound_http: Option<toml::Table>,
    outbound_networking: Option<toml::Table>,
    /// Relative key-value paths resolve against the folder of the file.
    #[serde(skip)]
    base_dir: PathBuf,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum KeyValueBackend {
    Spin {
        path: Option<PathBuf>,
    },
    Redis {
        url: String,
    },
    AwsDynamo {
        region: String,
        table: String,
        access_key: Option<String>,
        secret_key: Option<String>,
        token: Option<String>,
        #[serde(default)]
        consistent_read: bool,
    },
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
enum SqliteBackend {
    Spin { path: Option<PathBuf> },
    LibSql(#[allow(dead_code, reason = "its keys are Spin's business")] toml::Table),
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum ProviderConfig {
    Static {
        values: BTreeMap<VariableName, String>,
    },
    Env {
        prefix: Option<String>,
        dotenv_path: Option<PathBuf>,
    },
    Vault(VaultConfig),
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeConfigError {
    /// Not there or not readable.
    #[error("cannot read runtime configuration `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not TOML, or an unknown key.
    #[error("runtime configuration `{}` is malformed: {message}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Line, column and reason.
        message: String,
    },
    /// A section that this version does not honour.
    #[error("runtime configuration: `[{section}]` is not supported by this version of gristmill")]
    Unsupported {
        /// Its name.
        section: &'static str,
    },
    /// A store with a backend that this version does not have.
    #[error("`[key_value_store.{label}]`: {reason}")]
    Store {
        /// The label.
        label: StoreLabel,
        /// What is wrong.
        reason: String,
    },
    /// A database with a backend that this version does not have.
    #[error("`[sqlite_database.{label}]`: {reason}")]
    Database {
        /// The label.
        label: DatabaseLabel,
        /// What is wrong.
        reason: String,
    },
    /// A provider that this version does not have.
    #[error("`[[variables_provider]]` number {number}: {reason}")]
    Provider {
        /// Counted from 1.
        number: usize,
        /// What is wrong.
        reason: String,
    },
    /// Its `.env` file.
    #[error(transparent)]
    Dotenv(#[from] DotenvError),
}

impl RuntimeConfig {
    /// Reads the file at `path`.
    pub fn load(path: &Path) -> Result<Self, RuntimeConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| RuntimeConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        let mut config: Self =
            toml::from_str(&text).map_err(|error| RuntimeConfigError::Parse {
                path: path.to_owned(),
                message: without_source(&error, &text),
            })?;
        // Ignored, a restriction would be no restriction.
        for (section, used) in [
            ("outbound_http", config.outbound_http.is_some()),
            ("outbound_networking", config.outbound_networking.is_some()),
        ] {
            if used {
                return Err(RuntimeConfigError::Unsupported { section });
            }
        }
        config.base_dir = path.parent().map(Path::to_owned).unwrap_or_default();
        Ok(config)
    }

    /// What stands behind each label that the file defines. Texts may hold
    /// `{{ variable }}`, so that passwords need not stand in the file.
    pub fn key_value_stores(
        &self,
        variables: &Variables,
    ) -> Result<BTreeMap<StoreLabel, StoreConfig>, RuntimeConfigError> {
        let mut stores = BTreeMap::new();
        for (label, table) in &self.key_value_stores {
            let fail = |reason: String| RuntimeConfigError::Store {
                label: label.clone(),
                reason,
            };
            let store = section(table).and_then(|backend| self.key_value_store(backend, variables));
            stores.insert(label.clone(), store.map_err(fail)?);
        }
        Ok(stores)
    }

    fn key_value_store(
        &self,
        backend: KeyValueBackend,
        variables: &Variables,
    ) -> Result<StoreConfig, String> {
        let render = |key: &'static str, text: String| {
            let place = || format!("`{key}`");
            variables.render(&text, place).map_err(|e| e.to_string())
        };
        match backend {
            KeyValueBackend::Spin { path } => {
                let path =
                    path.ok_or("`path` is missing: a store in memory would forget everything")?;
                Ok(StoreConfig::Sqlite(self.base_dir.join(path)))
            }
            KeyValueBackend::Redis { url } => {
                let url = variables.render_url(&url, || "`url`".to_owned());
                let server = RedisServer::parse(&url.map_err(|e| e.to_string())?);
                server.map(StoreConfig::Redis).map_err(|e| e.to_string())
            }
            KeyValueBackend::AwsDynamo {
                region,
                table,
                access_key,
                secret_key,
                token,
                consistent_read,
            } => {
                let keys = match (access_key, secret_key) {
                    (Some(access), Some(secret)) => Some((
                        render("access_key", access)?,
                        render("secret_key", secret)?,
                        token.map(|token| render("token", token)).transpose()?,
                    )),
                    (None, None) if token.is_none() => None,
                    _ => return Err("`access_key` and `secret_key` go together".to_owned()),
                };
                Ok(StoreConfig::Dynamo(DynamoConfig {
                    region: render("region", region)?,
                    table: render("table", table)?,
                    keys,
                    consistent_read,
                }))
            }
        }
    }

    /// The file behind each SQLite label that the file defines. Spin resolves
    /// a relative one against the working directory.
    pub fn sqlite_files(&self) -> Result<BTreeMap<DatabaseLabel, PathBuf>, RuntimeConfigError> {
        let mut files = BTreeMap::new();
        for (label, table) in &self.sqlite_databases {
            let path = section(table).and_then(|backend| match backend {
                SqliteBackend::Spin { path } => {
                    let missing = "`path` is missing: a database in memory would forget everything";
                    path.ok_or_else(|| missing.to_owned())
                }
                SqliteBackend::LibSql(_) => {
                    Err("`libsql` is not supported by this version of gristmill".to_owned())
                }
            });
            let path = path.map_err(|reason| RuntimeConfigError::Database {
                label: label.clone(),
                reason,
            })?;
            files.insert(label.clone(), path);
        }
        Ok(files)
    }

    /// The variable providers, in the order of the file.
    pub fn providers(
        &self,
        environment: &Environment,
    ) -> Result<Vec<Provider>, RuntimeConfigError> {
        let mut providers = Vec::new();
        for (index, table) in self.providers.iter().enumerate() {
            let fail = |reason: String| RuntimeConfigError::Provider {
                number: index + 1,
                reason,
            };
            providers.push(match section(table).map_err(fail)? {
                ProviderConfig::Static { values } => Provider::Static(values),
                ProviderConfig::Env {
                    prefix,
                    dotenv_path,
                } => {
                    let mut environment = environment.clone();
                    if let Some(path) = dotenv_path {
                        environment = environment.with_dotenv(&path)?;
                    }
                    Provider::Environment {
                        prefix: prefix.unwrap_or_else(|| "SPIN_VARIABLE".to_owned()),
                        environment,
                    }
                }
                ProviderConfig::Vault(config) => {
                    let vault = Vault::new(config, environment).map_err(fail)?;
                    Provider::Vault(Box::new(vault))
                }
            });
        }
        Ok(providers)
    }
}

/// A section as `T`, or what is wrong with it.
fn section<T: for<'de> Deserialize<'de>>(table: &toml::Table) -> Result<T, String> {
    let section = table.clone().try_into();
    section.map_err(|error: toml::de::Error| without_value(&error))
}

/// The error's own text would show the line, which may hold a password or a token.
fn without_source(error: &toml::de::Error, text: &str) -> String {
    let line = error
        .span()
        .map(|span| text[..span.start].matches('\n').count() + 1);
    match line {
        Some(line) => format!("line {line}: {}", without_value(error)),
        None => without_value(error),
    }
}

/// What is wrong with a value, without the value.
fn without_value(error: &toml::de::Error) -> String {
    match error.message().split_once(", expected ") {
        Some((problem, expected)) if problem.starts_with("invalid ") => {
            format!("a value is wrong, expected {expected}")
        }
        _ => error.message().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<BTreeMap<StoreLabel, StoreConfig>, RuntimeConfigError> {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("runtime-config.toml");
        std::fs::write(&path, text).expect("write");
        let config = RuntimeConfig::load(&path)?;
        config.sqlite_files()?;
        config.key_value_stores(&Variables::default())
    }

    #[test]
    fn names_the_label_and_the_reason() {
        for (text, expected) in [
            (
                "[key_value_store.a]\ntype = \"etcd\"\n",
                "unknown variant `etcd`",
            ),
            (
                "[key_value_store.a]\ntype = \"spin\"\n",
                "[key_value_store.a]`: `path` is missing",
            ),
            (
                "[key_value_store.a]\npath = \"x\"\n",
                "missing field `type`",
            ),
            (
                "[key_value_store]\ndefault = \"redis://:hunter2@h\"\n",
                "line 2: a value is wrong, expected a map",
            ),
            (
                "[key_value_store.a]\ntype = \"redis\"\nurl = \"redis://:hunter2{{@h\"\n",
                "[key_value_store.a]`: `url`: `{{` without a closing `}}`",
            ),
            (
                "[sqlite_database.a]\ntype = \"libsql\"\nurl = \"http://x\"\ntoken = \"t\"\n",
                "`[sqlite_database.a]`: `libsql` is not supported",
            ),
            (
                "[sqlite_database.a]\ntype = \"spin\"\n",
                "[sqlite_database.a]`: `path` is missing",
            ),
            (
                "[sqlite_database.a]\ntype = \"spin\"\npath = [\"hunter2\"]\n",
                "[sqlite_database.a]`: a value is wrong, expected",
            ),
            ("[keyvalue.a]\n", "line 1: unknown field `keyvalue`"),
            (
                "[key_value_store.a]\ntype = \"spin\"\npath = \"x\"\nurl = \"y\"\n",
                "unknown field `url`",
            ),
            (
                "[key_value_store.a]\ntype = \"redis\"\nurl = \"rides://:hunter2@h\"\n",
                "[key_value_store.a]`: the address is not a Redis URL",
            ),
            (
                "[key_value_store.a]\ntype = \"redis\"\nurl = \"redis://:{{ p }}@h\"\n",
                "`url` uses `{{ p }}`, which `[variables]` does not declare",
            ),
            (
                "[key_value_store.a]\ntype = \"aws_dynamo\"\ntable = \"t\"\n",
                "missing field `region`",
            ),
            (
                "[key_value_store.a]\ntype = \"aws_dynamo\"\nregion = \"r\"\ntable = \"t\"\naccess_key = \"k\"\n",
                "`access_key` and `secret_key` go together",
            ),
            (
                "[outbound_networking]\nblock_networks = [\"private\"]\n",
                "`[outbound_networking]` is not supported",
            ),
        ] {
            let error = load(text).err().expect(text).to_string();
            assert!(error.contains(expected), "`{expected}` not in `{error}`");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_malformed_line_is_not_shown() {
        let error = load("\n[[variables_provider]]\ntype = \"static\"\nvalues = { t = \"hunter2\n");
        let error = error.err().expect("a string without an end").to_string();
        assert!(
            error.contains("line 4") && !error.contains("hunter2"),
            "{error}"
        );
    }

    #[test]
    fn relative_paths_start_at_the_file() {
        let files =
            load("[key_value_store.a]\ntype = \"spin\"\npath = \"s/a.db\"\n").expect("valid");
        let Some(StoreConfig::Sqlite(path)) = files.values().next() else {
            panic!("one file")
        };
        assert!(
            path.is_absolute() && path.ends_with("s/a.db"),
            "{}",
            path.display()
        );
    }
}
