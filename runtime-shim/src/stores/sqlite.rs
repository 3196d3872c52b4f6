//! The embedded key-value store: SQLite with Spin's schema, so that a file
//! written by one host reads on the other.
//!
//! Every write is on disk when it returns (`synchronous = FULL`). One thread
//! writes; what waits for it is committed together, so that many writers share
//! one sync of the disk. Readers have connections of their own and never wait
//! for the writer.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::{Fingerprint, Found, Limits, MAX_RESULT_BYTES, SCANS, StoreError, WAITING_KIB, kib};

/// Writes that may wait for the writer. A full queue makes callers wait.
const WAITING_WRITES: usize = 1024;
/// Writes committed together at most.
const GROUP: usize = 256;
/// How long to wait for another process that writes to the same file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections for reading.
const READERS: usize = 4;
/// Keys on one page of `list-keys`.
const PAGE: u32 = 1000;

/// Spin: key-value-spin/src/store.rs.
const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS spin_key_value (
    store TEXT NOT NULL,
    key   TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (store, key)
)";
const GET: &str = "SELECT value FROM spin_key_value WHERE store = ?1 AND key = ?2";
const EXISTS: &str = "SELECT 1 FROM spin_key_value WHERE store = ?1 AND key = ?2";
const SET: &str = "INSERT INTO spin_key_value (store, key, value) VALUES (?1, ?2, ?3)
    ON CONFLICT (store, key) DO UPDATE SET value = excluded.value";
const DELETE: &str = "DELETE FROM spin_key_value WHERE store = ?1 AND key = ?2";
/// When rows expire stands in a table of our own: Spin's has Spin's columns.
const EXPIRY_SCHEMA: &str = "CREATE TABLE IF NOT EXISTS gristmill_expiry (
    store TEXT NOT NULL,
    key   TEXT NOT NULL,
    at    INTEGER NOT NULL,
    PRIMARY KEY (store, key)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS gristmill_expiry_at ON gristmill_expiry (at)";
const SET_EXPIRY: &str = "INSERT INTO gristmill_expiry (store, key, at)
    VALUES (?1, ?2, unixepoch() + ?3)
    ON CONFLICT (store, key) DO UPDATE SET at = excluded.at";
const EXPIRED: &str =
    "SELECT store, key FROM gristmill_expiry WHERE at <= unixepoch() ORDER BY at LIMIT ?1";
const DELETE_EXPIRY: &str = "DELETE FROM gristmill_expiry WHERE store = ?1 AND key = ?2";
/// Expired rows that one write removes: more than it adds.
const SWEPT: u32 = 8;
const KEYS: &str = "SELECT key FROM spin_key_value WHERE store = ?1 ORDER BY key";
const FIRST_PAGE: &str = "SELECT key FROM spin_key_value WHERE store = ?1 ORDER BY key LIMIT ?2";
const NEXT_PAGE: &str =
    "SELECT key FROM spin_key_value WHERE store = ?1 AND key > ?3 ORDER BY key LIMIT ?2";

/// Runs inside the writer's transaction (or is told why there is none); what it
/// returns runs after the commit.
type Write = Box<dyn FnOnce(Result<&Connection, StoreError>) -> Acknowledge + Send>;
type Acknowledge = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// One SQLite file.
pub struct SqliteDatabase {
    writes: mpsc::Sender<Write>,
    /// KiB of values that may still be handed to the writer.
    budget: Arc<Semaphore>,
    readers: Vec<Mutex<Connection>>,
    next_reader: AtomicUsize,
    scans: Semaphore,
}

impl SqliteDatabase {
    /// Opens the file, creating it and its folder where missing.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|e| StoreError::Database(e.to_string()))?;
        }
        let connection = connect(path)?;
        connection.execute_batch(SCHEMA)?;
        let readers = (0..READERS)
            .map(|_| connect(path).map(Mutex::new))
            .collect::<Result<_, _>>()?;
        let (writes, waiting) = mpsc::channel(WAITING_WRITES);
        // The thread ends by itself when the last sender is dropped, after it
        // has committed what was sent before.
        std::thread::Builder::new()
            .name("kv-writer".into())
            .spawn(move || write_loop(&connection, waiting))
            .map_err(|e| StoreError::Database(e.to_string()))?;
        Ok(Self {
            writes,
            budget: Arc::new(Semaphore::new(WAITING_KIB as usize)),
            readers,
            next_reader: AtomicUsize::new(0),
            scans: Semaphore::new(SCANS),
        })
    }

    /// Runs `operation`, which holds values of `bytes` together, in the writer's
    /// transaction and returns once it is on disk.
    async fn write<T: Send + 'static>(
        &self,
        bytes: usize,
        operation: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let share = Arc::clone(&self.budget)
            .acquire_many_owned(kib(bytes))
            .await;
        let share = share.map_err(|_| StoreError::Closed)?;
        let (reply, answer) = oneshot::channel();
        let write: Write = Box::new(move |connection| {
            let outcome = connection.and_then(operation);
            // Held as long as the values are, also when the caller is gone.
            drop(share);
            Box::new(move |committed| {
                // The caller may have been cancelled: its write stands all the same.
                let _ = reply.send(committed.and(outcome));
            })
        });
        self.writes
            .send(write)
            .await
            .map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// As `read`, for queries that may touch many rows: the other tasks of this
    /// thread move to another one first.
    async fn scan<T>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let _permit = self.scans.acquire().await.map_err(|_| StoreError::Closed)?;
        tokio::task::block_in_place(|| self.read(query))
    }

    /// Runs `query` on a reading connection. Reads come from the page cache and
    /// take microseconds: they run where they are asked.
    fn read<T>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let start = self.next_reader.fetch_add(1, Ordering::Relaxed);
        let free = (0..READERS).find_map(|i| self.readers[(start + i) % READERS].try_lock().ok());
        let connection = match free {
            Some(connection) => connection,
            None => self.readers[start % READERS]
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        };
        query(&connection)
    }
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.set_prepared_statement_cache_capacity(16);
    Ok(connection)
}

fn write_loop(connection: &Connection, mut waiting: mpsc::Receiver<Write>) {
    let mut acknowledgements = Vec::with_capacity(GROUP);
    while let Some(first) = waiting.blocking_recv() {
        let committed = commit_group(connection, first, &mut waiting, &mut acknowledgements);
        if committed.is_err() && !connection.is_autocommit() {
            // The error is what the callers are told; a failed rollback adds nothing to it.
            let _ = connection.execute_batch("ROLLBACK");
        }
        for acknowledge in acknowledgements.drain(..) {
            acknowledge(committed.clone());
        }
    }
}

fn commit_group(
    connection: &Connection,
    first: Write,
    waiting: &mut mpsc::Receiver<Write>,
    acknowledgements: &mut Vec<Acknowledge>,
) -> Result<(), StoreError> {
    let begun = connection
        .execute_batch("BEGIN IMMEDIATE")
        .map_err(StoreError::from);
    acknowledgements.push(first(begun.clone().map(|()| connection)));
    begun?;
    while !connection.is_autocommit()
        && acknowledgements.len() < GROUP
        && let Ok(write) = waiting.try_recv()
    {
        acknowledgements.push(write(Ok(connection)));
    }
    if connection.is_autocommit() {
        // On some errors, a full disk among them, SQLite rolls back by itself.
        let reason = "the transaction was rolled back".to_owned();
        return Err(StoreError::Database(reason));
    }
    connection.execute_batch("COMMIT")?;
    Ok(())
}

/// A store: the rows of one label in one file.
#[derive(Clone)]
pub struct SqliteStore {
    database: Arc<SqliteDatabase>,
    name: Arc<str>,
    limits: Limits,
}

impl SqliteStore {
    /// The rows called `name` in `database`.
    pub fn new(database: Arc<SqliteDatabase>, name: &str, limits: Limits) -> Self {
        Self {
            database,
            name: name.into(),
            limits,
        }
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.database
            .read(|connection| get(connection, &self.name, key))
    }

    /// Whether `key` has a value.
    pub fn exists(&self, key: &str) -> Result<bool, StoreError> {
        self.database.read(|connection| {
            Ok(connection
                .prepare_cached(EXISTS)?
                .exists([&self.name, key])?)
        })
    }

    /// Every key. Fails rather than hand over more than 128 MiB.
    pub async fn keys(&self) -> Result<Vec<String>, StoreError> {
        self.database
            .scan(|connection| {
                let mut statement = connection.prepare_cached(KEYS)?;
                collect_bounded(statement.query_map([&self.name], |row| row.get(0))?)
            })
            .await
    }

    /// A page of keys after `cursor`, and the cursor of the next page.
    pub async fn keys_after(
        &self,
        cursor: Option<String>,
    ) -> Result<(Vec<String>, Option<String>), StoreError> {
        self.database
            .scan(|connection| {
                let mut statement = connection.prepare_cached(if cursor.is_some() {
                    NEXT_PAGE
                } else {
                    FIRST_PAGE
                })?;
                statement.raw_bind_parameter(1, &*self.name)?;
                statement.raw_bind_parameter(2, PAGE)?;
                if let Some(cursor) = cursor {
                    statement.raw_bind_parameter(3, cursor)?;
                }
                let keys = collect_bounded(statement.raw_query().mapped(|row| row.get(0)))?;
                let next = (keys.len() == PAGE as usize)
                    .then(|| keys.last().cloned())
                    .flatten();
                Ok((keys, next))
            })
            .await
    }

    /// The values of `keys`, in their order.
    pub async fn get_many(&self, keys: Vec<String>) -> Result<Vec<Found>, StoreError> {
        self.database
            .scan(|connection| {
                let mut size = 0;
                let mut found = Vec::with_capacity(keys.len());
                for key in keys {
                    let value = get(connection, &self.name, &key)?;
                    size += key.len() + value.as_ref().map_or(0, Vec::len);
                    if size > MAX_RESULT_BYTES {
                        return Err(StoreError::too_large());
                    }
                    found.push((key, value));
                }
                Ok(found)
            })
            .await
    }

    /// Stores `value` under `key`.
    pub async fn set(&self, key: String, value: Vec<u8>) -> Result<(), StoreError> {
        let bytes = self.limits.check(&key, &value)?;
        let name = Arc::clone(&self.name);
        self.database
            .write(bytes, move |connection| {
                connection
                    .prepare_cached(SET)?
                    .execute(params![name, key, value])?;
                Ok(())
            })
            .await
    }

    /// Stores `value` under `key`, for so long: later such writes remove it.
    pub async fn set_expiring(
        &self,
        key: String,
        value: Vec<u8>,
        lifetime: Duration,
    ) -> Result<(), StoreError> {
        let bytes = self.limits.check(&key, &value)?;
        let name = Arc::clone(&self.name);
        self.database
            .write(bytes, move |connection| {
                connection.execute_batch(EXPIRY_SCHEMA)?;
                all_or_nothing(connection, || {
                    let secs = i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX / 2);
                    connection
                        .prepare_cached(SET)?
                        .execute(params![name, key, value])?;
                    connection
                        .prepare_cached(SET_EXPIRY)?
                        .execute(params![name, key, secs])?;
                    sweep(connection)
                })
            })
            .await
    }

    /// Stores all the pairs, or none.
    pub async fn set_many(&self, pairs: Vec<(String, Vec<u8>)>) -> Result<(), StoreError> {
        let bytes = self.limits.check_all(&pairs)?;
        let name = Arc::clone(&self.name);
        self.database
            .write(bytes, move |connection| {
                all_or_nothing(connection, || {
                    let mut statement = connection.prepare_cached(SET)?;
                    for (key, value) in &pairs {
                        statement.execute(params![name, key, value])?;
                    }
                    Ok(())
                })
            })
            .await
    }

    /// Removes `key`, if it is there.
    pub async fn delete(&self, key: String) -> Result<(), StoreError> {
        self.delete_many(vec![key]).await
    }

    /// Removes all the keys, or none.
    pub async fn delete_many(&self, keys: Vec<String>) -> Result<(), StoreError> {
        let name = Arc::clone(&self.name);
        self.database
            .write(0, move |connection| {
                all_or_nothing(connection, || {
                    let mut statement = connection.prepare_cached(DELETE)?;
                    for key in &keys {
                        statement.execute(params![name, key])?;
                    }
                    Ok(())
                })
            })
            .await
    }

    /// Adds `delta` to the counter under `key` (0 where there is none) and
    /// returns its new value. Spin stores it as 8 little-endian bytes.
    pub async fn increment(&self, key: String, delta: i64) -> Result<i64, StoreError> {
        let bytes = self.limits.check(&key, &[])?;
        let name = Arc::clone(&self.name);
        self.database
            .write(bytes, move |connection| {
                let current = match get(connection, &name, &key)? {
                    None => 0,
                    Some(bytes) => {
                        let bytes = bytes
                            .try_into()
                            .map_err(|_| StoreError::NotACounter { key: key.clone() })?;
                        i64::from_le_bytes(bytes)
                    }
                };
                let count = current
                    .checked_add(delta)
                    .ok_or_else(|| StoreError::Overflow {
                        key: key.clone(),
                        delta,
                    })?;
                let bytes = count.to_le_bytes();
                connection
                    .prepare_cached(SET)?
                    .execute(params![name, key, bytes])?;
                Ok(count)
            })
            .await
    }

    /// Stores `value` under `key` if its value is still `expected`; tells
    /// whether it did.
    pub async fn compare_and_swap(
        &self,
        key: String,
        expected: Option<Fingerprint>,
        value: Vec<u8>,
    ) -> Result<bool, StoreError> {
        let bytes = self.limits.check(&key, &value)?;
        let name = Arc::clone(&self.name);
        self.database
            .write(bytes, move |connection| {
                let current = get(connection, &name, &key)?;
                let unchanged = current.as_deref().map(Fingerprint::of) == expected;
                if unchanged {
                    connection
                        .prepare_cached(SET)?
                        .execute(params![name, key, value])?;
                }
                Ok(unchanged)
            })
            .await
    }
}

/// Removes some of what has expired.
fn sweep(connection: &Connection) -> Result<(), StoreError> {
    let expired: Vec<(String, String)> = connection
        .prepare_cached(EXPIRED)?
        .query_map([SWEPT], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    for (store, key) in expired {
        let row = params![store, key];
        connection.prepare_cached(DELETE)?.execute(row)?;
        connection.prepare_cached(DELETE_EXPIRY)?.execute(row)?;
    }
    Ok(())
}

fn get(connection: &Connection, name: &str, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
    let value = connection
        .prepare_cached(GET)?
        .query_row([name, key], |row| row.get(0))
        .optional()?;
    Ok(value)
}

fn collect_bounded(
    rows: impl Iterator<Item = rusqlite::Result<String>>,
) -> Result<Vec<String>, StoreError> {
    let mut size = 0;
    let mut keys = Vec::new();
    for key in rows {
        let key = key?;
        size += size_of::<String>() + key.len();
        if size > MAX_RESULT_BYTES {
            return Err(StoreError::too_large());
        }
        keys.push(key);
    }
    Ok(keys)
}

/// Other writes share the transaction: a failure in the middle of this one must
/// undo this one alone.
fn all_or_nothing(
    connection: &Connection,
    operation: impl FnOnce() -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    connection.execute_batch("SAVEPOINT many")?;
    let outcome = operation();
    connection.execute_batch(match outcome {
        Ok(()) => "RELEASE many",
        Err(_) => "ROLLBACK TO many; RELEASE many",
    })?;
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stores::DEFAULT_MAX_VALUE;

    fn store(dir: &Path) -> SqliteStore {
        let database = SqliteDatabase::open(&dir.join("kv.db")).expect("open");
        SqliteStore::new(Arc::new(database), "test", Limits::default())
    }

    #[tokio::test]
    async fn values_survive_reopening() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let odd = "ключ/\u{0}'; DROP TABLE x; --".to_owned();
        let first = store(dir.path());
        first.set(odd.clone(), vec![0, 255]).await.expect("set");
        first.set("empty".into(), vec![]).await.expect("set");
        drop(first);
        let second = store(dir.path());
        assert_eq!(second.get(&odd).expect("get"), Some(vec![0, 255]));
        assert_eq!(second.get("empty").expect("get"), Some(vec![]));
        assert!(!second.exists("other").expect("exists"));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn concurrent_increments_give_each_number_once() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        // Two databases on one file, as two processes would have.
        let stores = [store(dir.path()), store(dir.path())];
        let mut tasks = tokio::task::JoinSet::new();
        for i in 0..128 {
            let store = stores[i % 2].clone();
            tasks.spawn(async move { store.increment("n".into(), 1).await.expect("increment") });
        }
        let mut counts = tasks.join_all().await;
        counts.sort_unstable();
        assert_eq!(counts, (1..=128).collect::<Vec<i64>>());
    }

    /// What has expired goes with later writes; what has not, and what never does,
    /// stays.
    #[tokio::test(flavor = "multi_thread")]
    async fn what_expires_is_removed() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let store = store(dir.path());
        let set = |key: &str, secs| {
            store.set_expiring(key.to_owned(), b"v".to_vec(), Duration::from_secs(secs))
        };
        store.set("kept".into(), b"v".to_vec()).await.expect("set");
        set("over", 0).await.expect("set");
        set("later", 1000).await.expect("set");
        let (keys, _) = store.keys_after(None).await.expect("keys");
        assert_eq!(keys, ["kept", "later"]);
    }

    #[tokio::test]
    async fn a_failing_write_fails_alone() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let store = store(dir.path());
        store
            .set("text".into(), b"abc".to_vec())
            .await
            .expect("set");
        store
            .increment("max".into(), i64::MAX)
            .await
            .expect("increment");
        let (not_a_counter, overflow, fine) = tokio::join!(
            store.increment("text".into(), 1),
            store.increment("max".into(), 1),
            store.increment("n".into(), 1),
        );
        assert!(matches!(not_a_counter, Err(StoreError::NotACounter { .. })));
        assert!(matches!(
            overflow,
            Err(StoreError::Overflow { delta: 1, .. })
        ));
        assert_eq!(fine.expect("increment"), 1);
        assert_eq!(store.get("text").expect("get"), Some(b"abc".to_vec()));
    }

    #[tokio::test]
    async fn values_have_a_bound() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let store = store(dir.path());
        let largest = vec![7; DEFAULT_MAX_VALUE];
        store
            .set("largest".into(), largest.clone())
            .await
            .expect("set");
        assert_eq!(store.get("largest").expect("get"), Some(largest));
        let error = store
            .set("over".into(), vec![7; DEFAULT_MAX_VALUE + 1])
            .await;
        let error = error.expect_err("one byte too many").to_string();
        assert_eq!(
            error,
            "the value has 16777217 bytes, this store takes 16777216"
        );
        assert!(!store.exists("over").expect("exists"));
    }

    #[tokio::test]
    async fn compare_and_swap_tells_what_happened() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let store = store(dir.path());
        let swap = |expected: Option<&str>, value: &str| {
            store.compare_and_swap(
                "k".into(),
                expected.map(|e| Fingerprint::of(e.as_bytes())),
                value.as_bytes().to_vec(),
            )
        };
        assert!(swap(None, "1").await.expect("swap"));
        assert!(!swap(None, "2").await.expect("swap"));
        assert!(!swap(Some("0"), "2").await.expect("swap"));
        assert!(swap(Some("1"), "2").await.expect("swap"));
        assert_eq!(store.get("k").expect("get"), Some(b"2".to_vec()));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn keys_come_in_pages() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let store = store(dir.path());
        let pairs: Vec<_> = (0..2500).map(|i| (format!("{i:04}"), vec![])).collect();
        store.set_many(pairs.clone()).await.expect("set");
        let (mut keys, mut cursor) = store.keys_after(None).await.expect("first page");
        while let Some(after) = cursor {
            let (page, next) = store.keys_after(Some(after)).await.expect("next page");
            keys.extend(page);
            cursor = next;
        }
        let expected: Vec<_> = pairs.into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, expected);
        assert_eq!(store.keys().await.expect("keys"), expected);
        store.delete_many(expected).await.expect("delete");
        assert!(store.keys().await.expect("keys").is_empty());
    }
}
