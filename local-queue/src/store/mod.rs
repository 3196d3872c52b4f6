//! The queue's operations on the database, one call each, inside a transaction that the writer
//! opened. Owns the agreement between rows and the counts in memory; refuses to know channels,
//! waiting receivers and the clock (`now` is handed in, so that tests can move it).
//! Here: transactions and loading. `queues`, `messages`, `fifo`, `moves` and `sweep` hold the
//! operations, `rows` the statements they share.

mod fifo;
mod messages;
mod moves;
mod queues;
mod rows;
mod sweep;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use crate::attributes::QueueSettings;
use crate::digest::Md5Digest;
use crate::errors::{OpenError, QueueError, StorageError};
use crate::model::{Message, MessageId, QueueName, SequenceNumber};
use crate::schedule::{Lease, Schedule};
use crate::schema::Database;
use fifo::Attempts;
use moves::ActiveMove;
use rows::{last_seq, unreadable};

pub(crate) use queues::too_many_tags;

/// A message that was checked and digested on its way to the writer.
#[derive(Debug)]
pub(crate) struct PreparedMessage {
    pub(crate) id: MessageId,
    pub(crate) body: String,
    pub(crate) body_md5: Md5Digest,
    pub(crate) attributes: Option<String>,
    pub(crate) trace_header: Option<String>,
    pub(crate) delay_secs: Option<u32>,
    pub(crate) group_id: Option<String>,
    pub(crate) deduplication_id: Option<String>,
    /// The body's SHA-256, of messages to FIFO queues without a deduplication id.
    pub(crate) body_sha256: Option<String>,
    /// Bytes that count towards the queue's `MaximumMessageSize`.
    pub(crate) bytes: usize,
}

/// What a message became; of a duplicate, what the first one became.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stored {
    pub(crate) id: MessageId,
    pub(crate) sequence_number: Option<SequenceNumber>,
}

/// How much to take, and for how long.
#[derive(Clone, Debug)]
pub(crate) struct Take {
    pub(crate) max: usize,
    pub(crate) visibility_secs: Option<u32>,
    pub(crate) attempt_id: Option<Arc<str>>,
}

/// What was taken.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    pub(crate) messages: Vec<Message>,
    /// The bound on disposals ended the search; there may be more behind.
    pub(crate) unfinished: bool,
}

/// What the sweep found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Swept {
    pub(crate) deleted: usize,
    /// More is known to be waiting; sweep again soon.
    pub(crate) more: bool,
}

struct Queue {
    id: i64,
    settings: QueueSettings,
    created_at: u64,
    modified_at: u64,
    tags: BTreeMap<String, String>,
    next_seq: i64,
    /// Sequence numbers below are set aside on disk; used on FIFO queues only.
    seq_reserved: i64,
    schedule: Schedule,
    attempts: Attempts,
    /// Where the next sweep goes on: (`visible_at`, seq).
    sweep_from: (i64, i64),
}

pub(crate) struct Store {
    database: Database,
    region: String,
    queues: HashMap<QueueName, Queue>,
    /// Whether the connection's commits are synced to disk.
    synced: Cell<bool>,
    /// Ids of deleted and purged queues whose messages are still on disk.
    dropped: Vec<i64>,
    /// Message move tasks that run.
    moves: Vec<ActiveMove>,
}

type StoreResult<T> = Result<T, QueueError>;

impl From<rusqlite::Error> for QueueError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Storage(StorageError::from(error))
    }
}

impl Store {
    pub(crate) fn open(
        dir: &Path,
        region: String,
        max_bytes: Option<u64>,
        now: u64,
    ) -> Result<Self, OpenError> {
        let database = Database::open(dir, max_bytes)?;
        let mut store = Self {
            database,
            region,
            queues: HashMap::new(),
            synced: Cell::new(true),
            dropped: Vec::new(),
            moves: Vec::new(),
        };
        store.reload(now).map_err(|source| OpenError::Database {
            dir: dir.to_owned(),
            source,
        })?;
        Ok(store)
    }

    pub(crate) fn begin(&self, durable: bool) -> Result<(), StorageError> {
        if self.synced.get() != durable {
            // The level belongs to the connection and cannot change inside a transaction.
            let level = if durable { "FULL" } else { "NORMAL" };
            self.database
                .conn
                .pragma_update(None, "synchronous", level)?;
            self.synced.set(durable);
        }
        self.run("BEGIN IMMEDIATE")
    }

    pub(crate) fn commit(&self) -> Result<(), StorageError> {
        self.run("COMMIT")
    }

    /// Undoes the open transaction and reads the counts again from what is on disk.
    pub(crate) fn roll_back(&mut self, now: u64) -> Result<(), StorageError> {
        // SQLite rolls back by itself after some errors; then there is nothing left to undo.
        if !self.database.conn.is_autocommit() {
            self.run("ROLLBACK")?;
        }
        self.reload(now)
    }

    fn run(&self, sql: &str) -> Result<(), StorageError> {
        Ok(self
            .database
            .conn
            .prepare_cached(sql)?
            .execute([])
            .map(drop)?)
    }

    /// Moves the write-ahead log into the database; for an orderly end.
    pub(crate) fn checkpoint(&self) -> Result<(), StorageError> {
        self.database
            .conn
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        Ok(())
    }

    fn reload(&mut self, now: u64) -> Result<(), StorageError> {
        self.queues.clear();
        self.dropped.clear();
        self.moves = moves::read_active(&self.database.conn)?;
        let conn = &self.database.conn;
        let mut names = HashMap::new();
        let mut statement = conn.prepare_cached(
            "SELECT id, name, settings, created_at, modified_at, dropped, tags, next_seq FROM queue",
        )?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let id: i64 = row.get(0)?;
            if row.get(5)? {
                self.dropped.push(id);
                continue;
            }
            let name: String = row.get(1)?;
            let settings: String = row.get(2)?;
            let name = QueueName::parse(&name).map_err(|error| unreadable(1, error))?;
            let settings = serde_json::from_str(&settings).map_err(|e| unreadable(2, e))?;
            let mut queue = Queue::new(id, settings, row.get(3)?, row.get(4)?);
            let tags: String = row.get(6)?;
            queue.tags = serde_json::from_str(&tags).map_err(|e| unreadable(6, e))?;
            queue.seq_reserved = row.get(7)?;
            queue.next_seq = queue.seq_reserved.max(last_seq(conn, id)? + 1);
            names.insert(id, name.clone());
            self.queues.insert(name, queue);
        }
        let mut statement =
            conn.prepare_cached("SELECT queue_id, visible_at, seq, nonce, group_id FROM delivery")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let queue = names
                .get(&row.get(0)?)
                .and_then(|name| self.queues.get_mut(name));
            let Some(queue) = queue else { continue };
            let (visible_at, seq, nonce) = (row.get(1)?, row.get(2)?, row.get(3)?);
            if let Some(groups) = queue.schedule.groups_mut() {
                let group: Option<String> = row.get(4)?;
                let group = group.unwrap_or_default();
                groups.add(&group, seq);
                if nonce != 0 {
                    groups.begin(&group, seq);
                }
            }
            if nonce == 0 {
                queue.schedule.add(visible_at, now);
            } else {
                queue.schedule.add(now, now);
                queue.schedule.lease(seq, Lease { visible_at, nonce });
            }
        }
        for queue in self.queues.values_mut() {
            queue.schedule.advance(now);
        }
        Ok(())
    }
}
