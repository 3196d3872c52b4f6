//! One SQLite file, and how many connections to it there may be. It opens
//! connections and never takes one back: what a guest's SQL leaves behind in
//! one, from temporary tables to `total_changes()`, can be seen by nobody else.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::{DatabaseError, rules};

/// How long to wait for a connection that another sandbox has.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a statement waits for another writer. Spin has rusqlite's default, the same.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// One SQLite file.
pub struct Database {
    path: PathBuf,
    connections: usize,
    slots: Arc<Semaphore>,
    /// Open as long as this is: else the last guest to leave would fold the
    /// write-ahead log into the file and delete it, each time.
    _keeper: Mutex<Connection>,
}

impl Database {
    /// Opens the file, creating it where missing, for so many connections.
    pub fn open(path: &Path, connections: usize) -> Result<Self, rusqlite::Error> {
        let keeper = connect(path)?;
        // It stays with the file: readers and a writer do not wait for each other.
        keeper.pragma_update(None, "journal_mode", "WAL")?;
        // Only reading opens the log, which then stays open.
        keeper.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        Ok(Self {
            path: path.to_owned(),
            connections,
            slots: Arc::new(Semaphore::new(connections)),
            _keeper: Mutex::new(keeper),
        })
    }

    /// Runs statements of the operator's, who may do anything.
    pub fn run(&self, sql: &str) -> Result<(), rusqlite::Error> {
        connect(&self.path)?.execute_batch(sql)
    }

    /// Waits, within bounds, for the right to have one more connection.
    pub(super) async fn slot(&self) -> Result<OwnedSemaphorePermit, DatabaseError> {
        let slot = Arc::clone(&self.slots).acquire_owned();
        match tokio::time::timeout(CONNECTION_TIMEOUT, slot).await {
            Ok(Ok(slot)) => Ok(slot),
            Ok(Err(_)) | Err(_) => Err(DatabaseError::Exhausted(self.connections)),
        }
    }

    /// A connection for SQL that nobody vouches for. What it runs ends when
    /// `abandoned` is cancelled.
    pub(super) fn connect(
        &self,
        abandoned: CancellationToken,
    ) -> Result<Connection, rusqlite::Error> {
        let mut connection = connect(&self.path)?;
        rules::apply(&mut connection, abandoned)?;
        Ok(connection)
    }
}

fn connect(path: &Path) -> Result<Connection, rusqlite::Error> {
    // Without SQLite's own mutex: one
    // statement at a time is what Rust's borrows ensure.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, true)?;
    Ok(connection)
}
