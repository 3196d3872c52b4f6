//! Key-value backends and which label each stands behind. Components never see
//! this module: `capabilities` checks grants first.

mod dynamo;
mod errors;
mod limits;
mod redis;
mod sqlite;
mod tally;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

pub use dynamo::{DynamoConfig, DynamoStore};
pub use errors::{OpenStoresError, StoreError};
pub use limits::{DEFAULT_MAX_VALUE, Limits, MAX_MAX_VALUE, MAX_RESULT_BYTES};
use limits::{SCANS, WAITING_KIB, kib};
pub use redis::RedisStore;
pub use sqlite::{SqliteDatabase, SqliteStore};

use crate::aws::AwsSettings;
use crate::backends::{Backend, Backends};
use crate::names::StoreLabel;
use crate::redis_server::RedisServer;

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
    /// A Redis database.
    Redis(RedisStore),
    /// A DynamoDB table.
    Dynamo(DynamoStore),
}

/// Calls the same method of whichever store it is.
macro_rules! each {
    ($store:expr, $method:ident($($argument:expr),*)) => {
        match $store {
            Store::Sqlite(store) => store.$method($($argument),*).await,
            Store::Redis(store) => store.$method($($argument),*).await,
            Store::Dynamo(store) => store.$method($($argument),*).await,
        }
    };
}

impl Store {
    /// The value of `key`.
    pub async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        match self {
            Self::Sqlite(store) => store.get(key),
            Self::Redis(store) => store.get(key).await,
            Self::Dynamo(store) => store.get(key).await,
        }
    }

    /// The value of `key` as it is now, for a compare-and-swap: where `get` may
    /// lag behind writes, this does not.
    pub async fn current(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        match self {
            Self::Dynamo(store) => store.current(key).await,
            _ => self.get(key).await,
        }
    }

    /// Whether `key` has a value.
    pub async fn exists(&self, key: &str) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(store) => store.exists(key),
            Self::Redis(store) => store.exists(key).await,
            Self::Dynamo(store) => store.exists(key).await,
        }
    }

    /// Every key. Fails rather than hand over more than 128 MiB.
    pub async fn keys(&self) -> Result<Vec<String>, StoreError> {
        each!(self, keys())
    }

    /// A page of keys after `cursor`, and the cursor of the next page.
    pub async fn keys_after(
        &self,
        cursor: Option<String>,
    ) -> Result<(Vec<String>, Option<String>), StoreError> {
        each!(self, keys_after(cursor))
    }

    /// The values of `keys`, in their order.
    pub async fn get_many(&self, keys: Vec<String>) -> Result<Vec<Found>, StoreError> {
        each!(self, get_many(keys))
    }

    /// Stores `value` under `key`.
    pub async fn set(&self, key: String, value: Vec<u8>) -> Result<(), StoreError> {
        each!(self, set(key, value))
    }

    /// Stores `value` under `key`, for so long. A store may keep it longer.
    pub async fn set_expiring(
        &self,
        key: String,
        value: Vec<u8>,
        lifetime: Duration,
    ) -> Result<(), StoreError> {
        each!(self, set_expiring(key, value, lifetime))
    }

    /// Stores all the pairs.
    pub async fn set_many(&self, pairs: Vec<(String, Vec<u8>)>) -> Result<(), StoreError> {
        each!(self, set_many(pairs))
    }

    /// Removes `key`, if it is there.
    pub async fn delete(&self, key: String) -> Result<(), StoreError> {
        each!(self, delete(key))
    }

    /// Removes all the keys.
    pub async fn delete_many(&self, keys: Vec<String>) -> Result<(), StoreError> {
        each!(self, delete_many(keys))
    }

    /// Adds `delta` to the counter under `key` (0 where there is none) and
    /// returns its new value. It is never applied twice; after an error that
    /// leaves it open whether it was applied, it is not tried again.
    pub async fn increment(&self, key: String, delta: i64) -> Result<i64, StoreError> {
        each!(self, increment(key, delta))
    }

    /// Stores `value` under `key` if its value is still `expected`; tells
    /// whether it did.
    pub async fn compare_and_swap(
        &self,
        key: String,
        expected: Option<Fingerprint>,
        value: Vec<u8>,
    ) -> Result<bool, StoreError> {
        each!(self, compare_and_swap(key, expected, value))
    }

    /// The server behind it, where there is one.
    fn backend(&self) -> Option<Arc<Backend>> {
        match self {
            Self::Sqlite(_) => None,
            Self::Redis(store) => Some(Arc::clone(store.backend())),
            Self::Dynamo(store) => Some(Arc::clone(store.backend())),
        }
    }
}

/// Pauses before the further tries of what may be done any number of times.
const RETRY_PAUSES: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(200)];

/// Tries `call` again, with jitter, when the connection broke or the server
/// asked for patience.
async fn idempotent<T, F>(call: impl Fn() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    for pause in RETRY_PAUSES {
        match call().await {
            Err(StoreError::Broken(_) | StoreError::Throttled) => {
                tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            }
            answer => return answer,
        }
    }
    call().await
}

/// Where embedded stores live when nothing else is configured: Spin's own file
/// for `default`, a file for each other label beside it.
pub fn embedded_path(state_dir: &Path, label: &StoreLabel) -> PathBuf {
    match label.as_str() {
        "default" => state_dir.join("sqlite_key_value.db"),
        other => state_dir.join(format!("sqlite_key_value-{other}.db")),
    }
}

/// The answer to `get-many`: a key that was asked for twice is answered twice,
/// and counts twice.
fn in_order(
    keys: &[String],
    values: &BTreeMap<&str, Option<Vec<u8>>>,
) -> Result<Vec<Found>, StoreError> {
    let mut size = 0;
    let found = keys.iter().map(|key| {
        let value = values.get(key.as_str()).and_then(Option::as_ref);
        size += key.len() + value.map_or(0, Vec::len);
        if size > MAX_RESULT_BYTES {
            return Err(StoreError::too_large());
        }
        Ok((key.clone(), value.cloned()))
    });
    found.collect()
}

/// What stands behind a label.
pub enum StoreConfig {
    /// An embedded SQLite file.
    Sqlite(PathBuf),
    /// A Redis database.
    Redis(RedisServer),
    /// A DynamoDB table.
    Dynamo(DynamoConfig),
}

impl StoreConfig {
    /// Refuses a component that stores values of `needed` bytes where they
    /// cannot be held.
    pub fn check_holds(
        &self,
        needed: usize,
        label: &StoreLabel,
        component: &str,
        limits: Limits,
    ) -> Result<(), OpenStoresError> {
        let dynamo_limit = dynamo::largest_value();
        let (kind, limit, hint) = match self {
            Self::Dynamo(_) if dynamo_limit < limits.max_value => (
                "DynamoDB",
                dynamo_limit,
                "put it on another kind of store (`spin` or `redis`)",
            ),
            _ => ("gristmill", limits.max_value, "raise `--max-value-bytes`"),
        };
        if needed <= limit {
            return Ok(());
        }
        Err(OpenStoresError::TooSmall {
            component: component.to_owned(),
            label: label.clone(),
            needed,
            kind,
            limit,
            hint,
        })
    }
}

/// Every store of the application, by label.
#[derive(Clone, Default)]
pub struct Stores {
    by_label: BTreeMap<StoreLabel, Store>,
}

impl Stores {
    /// Opens the store of each label. Files are opened, and may be shared;
    /// servers need not be there yet: `backends` watches them.
    pub async fn open(
        configs: BTreeMap<StoreLabel, StoreConfig>,
        aws: &AwsSettings,
        backends: &Backends,
        limits: Limits,
    ) -> Result<Self, OpenStoresError> {
        let mut files = SqliteFiles::default();
        let mut servers: Vec<(RedisServer, RedisStore)> = Vec::new();
        let mut tables: Vec<(DynamoConfig, DynamoStore)> = Vec::new();
        let mut by_label = BTreeMap::new();
        for (label, config) in configs {
            let too_many = |source| OpenStoresError::Backends {
                label: label.clone(),
                source,
            };
            let store = match config {
                StoreConfig::Sqlite(path) => {
                    let database = files.open(&label, path)?;
                    Store::Sqlite(SqliteStore::new(database, label.as_str(), limits))
                }
                StoreConfig::Redis(server) => {
                    // Labels on one database share its connection.
                    Store::Redis(match opened(&servers, &server) {
                        Some(store) => store,
                        None => {
                            let store = RedisStore::new(server.clone(), backends, limits);
                            let store = store.map_err(too_many)?;
                            servers.push((server, store.clone()));
                            store
                        }
                    })
                }
                StoreConfig::Dynamo(config) => Store::Dynamo(match opened(&tables, &config) {
                    Some(store) => store,
                    None => {
                        let store = DynamoStore::new(&config, aws, backends, limits).await;
                        let store = store.map_err(too_many)?;
                        tables.push((config, store.clone()));
                        store
                    }
                }),
            };
            by_label.insert(label, store);
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

    /// Waits for writes that go on although their callers are gone.
    pub async fn close(&self) {
        for store in self.by_label.values() {
            if let Store::Dynamo(store) = store {
                store.close().await;
            }
        }
    }

    /// Asks every embedded store for a key, and tells which labels did not
    /// answer. Servers are watched instead.
    pub fn failing(&self) -> Vec<(StoreLabel, StoreError)> {
        let mut failing = Vec::new();
        for (label, store) in &self.by_label {
            if let Store::Sqlite(store) = store
                && let Err(error) = store.exists("gristmill-ready")
            {
                failing.push((label.clone(), error));
            }
        }
        failing
    }
}

/// The store that was opened for the same configuration before.
fn opened<C: PartialEq, S: Clone>(open: &[(C, S)], config: &C) -> Option<S> {
    let same = open.iter().find(|(known, _)| known == config);
    same.map(|(_, store)| store.clone())
}

/// The SQLite files that are open.
#[derive(Default)]
struct SqliteFiles(BTreeMap<PathBuf, Arc<SqliteDatabase>>);

impl SqliteFiles {
    fn open(
        &mut self,
        label: &StoreLabel,
        path: PathBuf,
    ) -> Result<Arc<SqliteDatabase>, OpenStoresError> {
        if let Some(database) = self.0.get(&path) {
            return Ok(Arc::clone(database));
        }
        let opened = SqliteDatabase::open(&path).map_err(|source| OpenStoresError::Open {
            label: label.clone(),
            path: path.clone(),
            source,
        })?;
        Ok(Arc::clone(self.0.entry(path).or_insert(Arc::new(opened))))
    }
}
