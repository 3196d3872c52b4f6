//! Key-value backends and which label each stands behind. Components never see
//! this module: `capabilities` checks grants first.

mod sqlite;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use sqlite::{Fingerprint, Found, SqliteDatabase, SqliteStore};

use crate::names::StoreLabel;

/// What can go wrong between the host and a store.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The database said no.
    #[error("{0}")]
    Database(String),
    /// The value under the key is not one that `increment` wrote.
    #[error("the value of key `{key}` is not a counter: it has {len} bytes, a counter has 8")]
    NotACounter {
        /// The key.
        key: String,
        /// Bytes found there.
        len: usize,
    },
    /// The counter is at the end of its range.
    #[error("adding {delta} to the counter `{key}` leaves the range of a signed 64-bit number")]
    Overflow {
        /// The key.
        key: String,
        /// What was to be added.
        delta: i64,
    },
    /// More than the store takes.
    #[error("the value has {bytes} bytes, allowed are {limit}")]
    ValueTooLarge {
        /// Its size.
        bytes: usize,
        /// The most allowed.
        limit: usize,
    },
    /// More than the host hands over at once.
    #[error("the result is larger than {limit} bytes")]
    TooLarge {
        /// Bytes.
        limit: usize,
    },
    /// The store was closed while the operation waited.
    #[error("the store is shutting down")]
    Closed,
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error.to_string())
    }
}

/// Why the stores of an application cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenStoresError {
    /// A granted label that the runtime configuration does not define.
    #[error(
        "component `{component}` is granted the key-value store `{label}`, which the runtime \
         configuration does not define: add `[key_value_store.{label}]`"
    )]
    Undefined {
        /// The component.
        component: String,
        /// The label.
        label: StoreLabel,
    },
    /// The backend did not open.
    #[error("cannot open key-value store `{label}` at `{}`: {source}", path.display())]
    Open {
        /// The label.
        label: StoreLabel,
        /// The SQLite file.
        path: PathBuf,
        /// What the database said.
        source: StoreError,
    },
}

/// Where embedded stores live when nothing else is configured: Spin's own file
/// for `default`, a file for each other label beside it.
pub fn embedded_path(state_dir: &Path, label: &StoreLabel) -> PathBuf {
    match label.as_str() {
        "default" => state_dir.join("sqlite_key_value.db"),
        other => state_dir.join(format!("sqlite_key_value-{other}.db")),
    }
}

/// Every store of the application, by label.
#[derive(Clone, Default)]
pub struct Stores {
    by_label: BTreeMap<StoreLabel, SqliteStore>,
}

impl Stores {
    /// Opens the store of each label; labels may share a file.
    pub fn open(files: BTreeMap<StoreLabel, PathBuf>) -> Result<Self, OpenStoresError> {
        let mut databases: BTreeMap<PathBuf, Arc<SqliteDatabase>> = BTreeMap::new();
        let mut by_label = BTreeMap::new();
        for (label, path) in files {
            let database = if let Some(database) = databases.get(&path) {
                Arc::clone(database)
            } else {
                let opened =
                    SqliteDatabase::open(&path).map_err(|source| OpenStoresError::Open {
                        label: label.clone(),
                        path: path.clone(),
                        source,
                    })?;
                Arc::clone(databases.entry(path).or_insert(Arc::new(opened)))
            };
            let store = SqliteStore::new(database, label.as_str());
            by_label.insert(label, store);
        }
        Ok(Self { by_label })
    }

    /// The stores behind `labels`.
    pub fn granted(&self, labels: &BTreeSet<StoreLabel>) -> BTreeMap<StoreLabel, SqliteStore> {
        let open = self
            .by_label
            .iter()
            .filter(|(label, _)| labels.contains(*label));
        open.map(|(label, store)| (label.clone(), store.clone()))
            .collect()
    }

    /// Asks every store for a key, and tells which labels did not answer.
    pub fn failing(&self) -> Vec<(StoreLabel, StoreError)> {
        let mut failing = Vec::new();
        for (label, store) in &self.by_label {
            if let Err(error) = store.exists("gristmill-ready") {
                failing.push((label.clone(), error));
            }
        }
        failing
    }
}
