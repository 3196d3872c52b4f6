//! The directory, its lock and the database's schema.
//! Owns how a directory is opened; refuses to know what the rows mean to SQS.

use std::fs::{File, TryLockError};
use std::path::Path;

use rusqlite::Connection;

use crate::errors::{OpenError, StorageError};

/// The schema that this version writes; kept in `PRAGMA user_version`.
const SCHEMA_VERSION: i64 = 2;

/// `delivery` is the schedule: one small row for each message, in the order of visibility, moved
/// on each receive. `payload` is written once and read once; its row id is the queue's id in the
/// upper bits and the message's sequence number in the lower (`store::rows`), so that a queue's
/// messages lie together and one look-up needs one tree. A queue that was deleted or purged keeps
/// its row with `dropped = 1` until the sweep has taken its messages away.
const VERSION_1: &str = "
    CREATE TABLE queue (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL,
        settings TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        modified_at INTEGER NOT NULL,
        dropped INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE UNIQUE INDEX queue_name ON queue (name) WHERE dropped = 0;
    CREATE TABLE delivery (
        queue_id INTEGER NOT NULL,
        visible_at INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        sent_at INTEGER NOT NULL,
        receive_count INTEGER NOT NULL,
        first_received_at INTEGER NOT NULL,
        nonce INTEGER NOT NULL,
        PRIMARY KEY (queue_id, visible_at, seq)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE payload (
        row INTEGER PRIMARY KEY,
        id BLOB NOT NULL,
        body_md5 BLOB NOT NULL,
        attributes TEXT,
        trace_header TEXT,
        dead_letter_source TEXT,
        body TEXT NOT NULL
    ) STRICT;
";

/// FIFO queues, tags and message move tasks. `delivery.group_id` is set for messages of FIFO
/// queues only, so that the index costs standard queues nothing. `queue.next_seq` is where the
/// sequence numbers of a FIFO queue go on after a restart. `deduplication` holds what was sent
/// to FIFO queues in the last five minutes.
const VERSION_2: &str = "
    ALTER TABLE queue ADD COLUMN tags TEXT NOT NULL DEFAULT '{}';
    ALTER TABLE queue ADD COLUMN next_seq INTEGER NOT NULL DEFAULT 1;
    ALTER TABLE delivery ADD COLUMN group_id TEXT;
    CREATE INDEX delivery_group ON delivery (queue_id, group_id, seq)
        WHERE group_id IS NOT NULL;
    ALTER TABLE payload ADD COLUMN group_id TEXT;
    ALTER TABLE payload ADD COLUMN deduplication_id TEXT;
    CREATE TABLE deduplication (
        queue_id INTEGER NOT NULL,
        key TEXT NOT NULL,
        sent_at INTEGER NOT NULL,
        id BLOB NOT NULL,
        seq INTEGER NOT NULL,
        PRIMARY KEY (queue_id, key)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX deduplication_age ON deduplication (sent_at);
    CREATE TABLE move_task (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id BLOB NOT NULL,
        source TEXT NOT NULL,
        source_id INTEGER NOT NULL,
        source_arn TEXT NOT NULL,
        destination_arn TEXT,
        per_second INTEGER,
        status TEXT NOT NULL,
        moved INTEGER NOT NULL,
        to_move INTEGER NOT NULL,
        until_seq INTEGER NOT NULL,
        failure TEXT,
        started_at INTEGER NOT NULL
    ) STRICT;
";

/// What leads from each version to the next.
const STEPS: [&str; SCHEMA_VERSION as usize] = [VERSION_1, VERSION_2];

/// An open database and the lock that keeps others out; dropping it gives both back.
/// Fields drop in order: the connection closes before the lock goes.
pub(crate) struct Database {
    pub(crate) conn: Connection,
    _lock: File,
}

impl Database {
    pub(crate) fn open(dir: &Path, max_bytes: Option<u64>) -> Result<Self, OpenError> {
        let io = |source| OpenError::Directory {
            dir: dir.to_owned(),
            source,
        };
        std::fs::create_dir_all(dir).map_err(io)?;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(dir.join("queue.lock"))
            .map_err(io)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(OpenError::InUse {
                    dir: dir.to_owned(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        let database = |error: rusqlite::Error| OpenError::Database {
            dir: dir.to_owned(),
            source: StorageError::from(error),
        };
        let conn = Connection::open(dir.join("queue.sqlite3")).map_err(database)?;
        let found: i64 = conn
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .map_err(database)?;
        if found > SCHEMA_VERSION {
            return Err(OpenError::NewerSchema {
                dir: dir.to_owned(),
                found,
                known: SCHEMA_VERSION,
            });
        }
        prepare(&conn, found, max_bytes).map_err(database)?;
        Ok(Self { conn, _lock: lock })
    }
}

fn prepare(conn: &Connection, found: i64, max_bytes: Option<u64>) -> rusqlite::Result<()> {
    conn.execute_batch(
        "PRAGMA journal_mode = WAL;
         PRAGMA locking_mode = EXCLUSIVE;
         PRAGMA synchronous = FULL;
         PRAGMA wal_autocheckpoint = 4000;
         PRAGMA journal_size_limit = 67108864;
         PRAGMA cache_size = -32768;
         PRAGMA temp_store = MEMORY;",
    )?;
    conn.set_prepared_statement_cache_capacity(64);
    if let Some(bytes) = max_bytes {
        let page: u64 = conn.query_row("PRAGMA page_size", [], |row| row.get(0))?;
        let pages = i64::try_from(bytes / page.max(1))
            .unwrap_or(i64::MAX)
            .max(1);
        conn.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))?;
    }
    for (step, version) in STEPS.iter().zip(1..).skip(found.max(0) as usize) {
        conn.execute_batch(&format!(
            "BEGIN IMMEDIATE; {step} PRAGMA user_version = {version}; COMMIT;"
        ))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first failure")]

    use super::*;

    /// A directory that an earlier version wrote is brought up to date, with what it holds.
    #[test]
    fn version_one_becomes_the_current_version() {
        let dir = tempfile::tempdir().unwrap();
        let old = Connection::open(dir.path().join("queue.sqlite3")).unwrap();
        old.execute_batch(&format!(
            "{VERSION_1} PRAGMA user_version = 1;
             INSERT INTO queue (name, settings, created_at, modified_at) VALUES ('q', '{{}}', 1, 1);
             INSERT INTO delivery VALUES (1, 2, 3, 4, 5, 6, 7);
             INSERT INTO payload VALUES (8, x'00', x'00', NULL, NULL, NULL, 'body');"
        ))
        .unwrap();
        drop(old);
        for _ in 0..2 {
            let database = Database::open(dir.path(), None).unwrap();
            let one = |sql: &str| -> String {
                let conn = &database.conn;
                conn.query_row(sql, [], |row| row.get(0)).unwrap()
            };
            assert_eq!(one("SELECT tags || next_seq FROM queue"), "{}1");
            assert_eq!(
                one("SELECT seq || coalesce(group_id, '-') FROM delivery"),
                "3-"
            );
            assert_eq!(
                one("SELECT body || coalesce(group_id, '-') FROM payload"),
                "body-"
            );
        }
    }
}
