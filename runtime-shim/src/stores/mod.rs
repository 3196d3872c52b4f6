//! Key-value backends and which label each stands behind. Components never see
//! this module: `capabilities` checks grants first.

mod sqlite;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use sqlite::{SqliteDatabase, SqliteStore};

use sha2::{Digest, Sha256};

use crate::backends::Backend;
use crate::names::StoreLabel;

/// Stands for a value where only sameness matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The SHA-256 of `value`.
    pub fn of(value: &[u8]) -> Self {
        Self(Sha256::digest(value).into())
    }
}

/// A key that was asked for, with its value.
pub type Found = (String, Option<Vec<u8>>);

/// The key-value store behind a label. Every backend answers alike; what one
/// cannot hold it refuses by a [`StoreError`].
#[derive(Clone)]
pub enum Store {
    /// Embedded.
    Sqlite(SqliteStore),
}

macro_rules! each {
    ($store:expr, $found:ident => $call:expr) => {
        match $store {
            Store::Sqlite($found) => $call,
        }
    };
}

impl Store {
    /// The value of `key`.
    pub async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        each!(self, store => store.get(key))
    }

    /// Whether `key` has a value.
    pub async fn exists(&self, key: &str) -> Result<bool, StoreError> {
        each!(self, store => store.exists(key))
    }

    /// Every key. Fails rather than hand over more than 128 MiB.
    pub async fn keys(&self) -> Result<Vec<String>, StoreError> {
        each!(self, store => store.keys().await)
    }

    /// A page of keys after `cursor`, and the cursor of the next page.
    pub async fn keys_after(
        &self,
        cursor: Option<String>,
    ) -> Result<(Vec<String>, Option<String>), StoreError> {
        each!(self, store => store.keys_after(cursor).await)
    }

    /// The values of `keys`, in their order.
    pub async fn get_many(&self, keys: Vec<String>) -> Result<Vec<Found>, StoreError> {
        each!(self, store => store.get_many(keys).await)
    }

    /// Stores `value` under `key`.
    pub async fn set(&self, key: String, value: Vec<u8>) -> Result<(), StoreError> {
        each!(self, store => store.set(key, value).await)
    }

    /// Stores all the pairs.
    pub async fn set_many(&self, pairs: Vec<(String, Vec<u8>)>) -> Result<(), StoreError> {
        each!(self, store => store.set_many(pairs).await)
    }

    /// Removes `key`, if it is there.
    pub async fn delete(&self, key: String) -> Result<(), StoreError> {
        each!(self, store => store.delete(key).await)
    }

    /// Removes all the keys.
    pub async fn delete_many(&self, keys: Vec<String>) -> Result<(), StoreError> {
        each!(self, store => store.delete_many(keys).await)
    }

    /// Adds `delta` to the counter under `key` (0 where there is none) and
    /// returns its new value. It is never applied twice; after an error that
    /// leaves it open whether it was applied, it is not tried again.
    pub async fn increment(&self, key: String, delta: i64) -> Result<i64, StoreError> {
        each!(self, store => store.increment(key, delta).await)
    }

    /// Stores `value` under `key` if its value is still `expected`; tells
    /// whether it did.
    pub async fn compare_and_swap(
        &self,
        key: String,
        expected: Option<Fingerprint>,
        value: Vec<u8>,
    ) -> Result<bool, StoreError> {
        each!(self, store => store.compare_and_swap(key, expected, value).await)
    }

    /// The server behind it, where there is one.
    fn backend(&self) -> Option<Arc<Backend>> {
        match self {
            Self::Sqlite(_) => None,
        }
    }
}

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
    by_label: BTreeMap<StoreLabel, Store>,
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
            by_label.insert(label, Store::Sqlite(store));
        }
        Ok(Self { by_label })
    }

    /// The stores behind `labels`.
    pub fn granted(&self, labels: &BTreeSet<StoreLabel>) -> BTreeMap<StoreLabel, Store> {
        let open = self
            .by_label
            .iter()
            .filter(|(label, _)| labels.contains(*label));
        open.map(|(label, store)| (label.clone(), store.clone()))
            .collect()
    }

    /// The servers behind `labels`.
    pub fn backends(&self, labels: &BTreeSet<StoreLabel>) -> Vec<Arc<Backend>> {
        let open = self.granted(labels);
        open.values().filter_map(Store::backend).collect()
    }

    /// Asks every embedded store for a key, and tells which labels did not
    /// answer. Servers are watched by `backends`.
    pub fn failing(&self) -> Vec<(StoreLabel, StoreError)> {
        let mut failing = Vec::new();
        for (label, store) in &self.by_label {
            let Store::Sqlite(store) = store;
            if let Err(error) = store.exists("gristmill-ready") {
                failing.push((label.clone(), error));
            }
        }
        failing
    }
}
