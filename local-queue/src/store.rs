//! The queue's operations on the database, one call each, inside a transaction that the writer
//! opened. Owns the agreement between rows and the counts in memory; refuses to know channels,
//! waiting receivers and the clock (`now` is handed in, so that tests can move it).

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use rusqlite::{Connection, params};
use uuid::Uuid;

use crate::attributes::{AttributeChanges, QueueDescription, QueueSettings};
use crate::digest::Md5Digest;
use crate::errors::{OpenError, QueueError, StorageError};
use crate::limits;
use crate::model::{
    ACCOUNT_ID, Deletion, Message, MessageAttribute, MessageId, QueueName, QueuePage, Receipt,
    ReceiptHandle,
};
use crate::schedule::{Lease, Schedule};
use crate::schema::Database;
use crate::validate;

/// Bits of a row id that hold the sequence number; the queue's id lies above them. 2^40
/// messages in the life of a queue, 2^23 queues (and purges) in the life of a database.
const SEQ_BITS: u32 = 40;

fn row_id(queue_id: i64, seq: i64) -> i64 {
    (queue_id << SEQ_BITS) | seq
}

fn queue_of(row: i64) -> i64 {
    row >> SEQ_BITS
}

fn seq_of(row: i64) -> i64 {
    row & ((1 << SEQ_BITS) - 1)
}

/// A message that was checked and digested on its way to the writer.
#[derive(Debug)]
pub(crate) struct PreparedMessage {
    pub(crate) id: MessageId,
    pub(crate) body: String,
    pub(crate) body_md5: Md5Digest,
    pub(crate) attributes: Option<String>,
    pub(crate) trace_header: Option<String>,
    pub(crate) delay_secs: Option<u32>,
    /// Bytes that count towards the queue's `MaximumMessageSize`.
    pub(crate) bytes: usize,
}

/// How much to take, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Take {
    pub(crate) max: usize,
    pub(crate) visibility_secs: Option<u32>,
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
    next_seq: i64,
    schedule: Schedule,
    /// Where the next sweep goes on: (`visible_at`, seq).
    sweep_from: (i64, i64),
}

/// A candidate row of a receive.
struct Candidate {
    seq: i64,
    visible_at: i64,
    sent_at: u64,
    receive_count: u32,
    first_received_at: u64,
}

pub(crate) struct Store {
    database: Database,
    region: String,
    queues: HashMap<QueueName, Queue>,
    /// Ids of deleted and purged queues whose messages are still on disk.
    dropped: Vec<i64>,
}

type StoreResult<T> = Result<T, QueueError>;

impl From<rusqlite::Error> for QueueError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Storage(StorageError::from(error))
    }
}

// Transactions and loading.
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
            dropped: Vec::new(),
        };
        store.reload(now).map_err(|source| OpenError::Database {
            dir: dir.to_owned(),
            source,
        })?;
        Ok(store)
    }

    pub(crate) fn begin(&self, durable: bool) -> Result<(), StorageError> {
        // The level belongs to the connection and cannot change inside a transaction.
        let level = if durable {
            "PRAGMA synchronous = FULL"
        } else {
            "PRAGMA synchronous = NORMAL"
        };
        self.run(level)?;
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
        let conn = &self.database.conn;
        let mut names = HashMap::new();
        let mut statement = conn.prepare_cached(
            "SELECT id, name, settings, created_at, modified_at, dropped FROM queue",
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
            let queue = Queue {
                id,
                settings: serde_json::from_str(&settings).map_err(|e| unreadable(2, e))?,
                created_at: row.get(3)?,
                modified_at: row.get(4)?,
                next_seq: last_seq(conn, id)? + 1,
                schedule: Schedule::default(),
                sweep_from: (i64::MIN, 0),
            };
            names.insert(id, name.clone());
            self.queues.insert(name, queue);
        }
        let mut statement =
            conn.prepare_cached("SELECT queue_id, visible_at, seq, nonce FROM delivery")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let queue = names
                .get(&row.get(0)?)
                .and_then(|name| self.queues.get_mut(name));
            let Some(queue) = queue else { continue };
            let (visible_at, seq, nonce) = (row.get(1)?, row.get(2)?, row.get(3)?);
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

fn unreadable(
    column: usize,
    error: impl std::error::Error + Send + Sync + 'static,
) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
}

fn last_seq(conn: &Connection, queue_id: i64) -> rusqlite::Result<i64> {
    let last: Option<i64> = conn
        .prepare_cached("SELECT max(row) FROM payload WHERE row >= ?1 AND row < ?2")?
        .query_row([row_id(queue_id, 0), row_id(queue_id + 1, 0)], |row| {
            row.get(0)
        })?;
    Ok(last.map_or(0, seq_of))
}

// Queues.
impl Store {
    pub(crate) fn create_queue(
        &mut self,
        name: &QueueName,
        changes: &AttributeChanges,
        now: u64,
    ) -> StoreResult<()> {
        if let Some(queue) = self.queues.get(name) {
            return match changes.conflict_with(&queue.settings) {
                Some(attribute) => Err(QueueError::QueueNameExists { attribute }),
                None => Ok(()),
            };
        }
        let settings = changes.applied_to(&QueueSettings::default());
        self.check_redrive(name, &settings)?;
        let id = insert_queue(&self.database.conn, name, &settings, now, now)?;
        self.queues
            .insert(name.clone(), Queue::new(id, settings, now, now));
        Ok(())
    }

    fn check_redrive(&self, name: &QueueName, settings: &QueueSettings) -> StoreResult<()> {
        let Some(policy) = &settings.redrive else {
            return Ok(());
        };
        let target = policy.target()?;
        let reason = if target == *name {
            "a queue cannot be its own dead-letter queue"
        } else if self.queues.contains_key(&target) {
            return Ok(());
        } else {
            "Dead letter target does not exist."
        };
        Err(QueueError::attribute("RedrivePolicy", reason))
    }

    pub(crate) fn set_attributes(
        &mut self,
        name: &QueueName,
        changes: &AttributeChanges,
        now: u64,
    ) -> StoreResult<()> {
        let settings = changes.applied_to(&self.queue(name)?.settings);
        if changes.redrive.is_some() {
            self.check_redrive(name, &settings)?;
        }
        let queue = self
            .queues
            .get_mut(name)
            .ok_or(QueueError::QueueDoesNotExist)?;
        self.database
            .conn
            .prepare_cached("UPDATE queue SET settings = ?2, modified_at = ?3 WHERE id = ?1")?
            .execute(params![queue.id, settings_json(&settings)?, now])?;
        queue.settings = settings;
        queue.modified_at = now;
        Ok(())
    }

    pub(crate) fn delete_queue(&mut self, name: &QueueName) -> StoreResult<()> {
        let id = self.queue(name)?.id;
        drop_queue(&self.database.conn, id)?;
        self.queues.remove(name);
        self.dropped.push(id);
        Ok(())
    }

    /// Gives the queue a new id, whatever its depth; the sweep takes the old messages away.
    pub(crate) fn purge_queue(&mut self, name: &QueueName) -> StoreResult<()> {
        let conn = &self.database.conn;
        let queue = self
            .queues
            .get_mut(name)
            .ok_or(QueueError::QueueDoesNotExist)?;
        drop_queue(conn, queue.id)?;
        let id = insert_queue(
            conn,
            name,
            &queue.settings,
            queue.created_at,
            queue.modified_at,
        )?;
        let fresh = Queue::new(
            id,
            queue.settings.clone(),
            queue.created_at,
            queue.modified_at,
        );
        let old = std::mem::replace(queue, fresh);
        self.dropped.push(old.id);
        Ok(())
    }

    pub(crate) fn list_queues(
        &self,
        prefix: &str,
        max: Option<usize>,
        after: Option<&str>,
    ) -> QueuePage {
        let mut names: Vec<QueueName> = self
            .queues
            .keys()
            .filter(|name| name.as_str().starts_with(prefix))
            .filter(|name| after.is_none_or(|after| name.as_str() > after))
            .cloned()
            .collect();
        names.sort();
        let limit = max.unwrap_or(limits::MAX_LIST_RESULTS);
        let more = names.len() > limit;
        names.truncate(limit);
        // SQS pages only when the caller says how long a page is.
        let last = names.last().filter(|_| more && max.is_some());
        let next_token = last.map(|name| name.as_str().to_owned());
        QueuePage { names, next_token }
    }

    pub(crate) fn describe(&mut self, name: &QueueName, now: u64) -> StoreResult<QueueDescription> {
        let arn = self.arn(name);
        let queue = self
            .queues
            .get_mut(name)
            .ok_or(QueueError::QueueDoesNotExist)?;
        queue.schedule.advance(now);
        Ok(QueueDescription {
            name: name.clone(),
            arn,
            settings: queue.settings.clone(),
            created_at_ms: queue.created_at,
            modified_at_ms: queue.modified_at,
            depth: queue.schedule.depth(),
        })
    }

    /// How long a receive waits when it does not say, in seconds.
    pub(crate) fn receive_wait_secs(&self, name: &QueueName) -> StoreResult<u32> {
        Ok(self.queue(name)?.settings.receive_wait_secs)
    }

    /// When a message of the queue becomes visible by itself; `None` when none is going to, or
    /// when the queue is gone.
    pub(crate) fn next_due(&self, name: &QueueName) -> Option<u64> {
        self.queues.get(name)?.schedule.next_due()
    }

    pub(crate) fn arn(&self, name: &QueueName) -> String {
        format!("arn:aws:sqs:{}:{ACCOUNT_ID}:{name}", self.region)
    }

    fn queue(&self, name: &QueueName) -> StoreResult<&Queue> {
        self.queues.get(name).ok_or(QueueError::QueueDoesNotExist)
    }
}

impl Queue {
    fn new(id: i64, settings: QueueSettings, created_at: u64, modified_at: u64) -> Self {
        Self {
            id,
            settings,
            created_at,
            modified_at,
            next_seq: 1,
            schedule: Schedule::default(),
            sweep_from: (i64::MIN, 0),
        }
    }

    fn is_expired(&self, sent_at: u64, now: u64) -> bool {
        sent_at + u64::from(self.settings.retention_secs) * 1000 <= now
    }
}

fn settings_json(settings: &QueueSettings) -> rusqlite::Result<String> {
    serde_json::to_string(settings)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

fn insert_queue(
    conn: &Connection,
    name: &QueueName,
    settings: &QueueSettings,
    created_at: u64,
    modified_at: u64,
) -> rusqlite::Result<i64> {
    conn.prepare_cached(
        "INSERT INTO queue (name, settings, created_at, modified_at) VALUES (?1, ?2, ?3, ?4)",
    )?
    .insert(params![
        name.as_str(),
        settings_json(settings)?,
        created_at,
        modified_at
    ])
}

fn drop_queue(conn: &Connection, id: i64) -> rusqlite::Result<()> {
    conn.prepare_cached("UPDATE queue SET dropped = 1 WHERE id = ?1")?
        .execute([id])
        .map(drop)
}

// Messages.
impl Store {
    /// Stores messages; each is refused on its own when it is too long for the queue.
    pub(crate) fn send(
        &mut self,
        name: &QueueName,
        messages: &[PreparedMessage],
        now: u64,
    ) -> StoreResult<Vec<Result<(), QueueError>>> {
        let queue = self
            .queues
            .get_mut(name)
            .ok_or(QueueError::QueueDoesNotExist)?;
        let conn = &self.database.conn;
        let mut results = Vec::with_capacity(messages.len());
        for message in messages {
            let checked = validate::check_size(message.bytes, queue.settings.maximum_message_bytes);
            if checked.is_ok() {
                let seq = queue.next_seq;
                queue.next_seq += 1;
                let delay = message.delay_secs.unwrap_or(queue.settings.delay_secs);
                let visible_at = now + u64::from(delay) * 1000;
                insert_payload(conn, row_id(queue.id, seq), message)?;
                insert_delivery(conn, queue.id, visible_at, seq, now)?;
                queue.schedule.add(visible_at, now);
            }
            results.push(checked);
        }
        Ok(results)
    }

    /// Receives up to `take.max` visible messages, oldest first. Messages past the retention
    /// period are deleted and messages received too often are dead-lettered on the way.
    pub(crate) fn take(&mut self, name: &QueueName, take: Take, now: u64) -> StoreResult<Taken> {
        let mut messages: Vec<Message> = Vec::new();
        let mut taken = Vec::new();
        let mut disposed = 0;
        while messages.len() < take.max && disposed < limits::DISPOSALS_PER_RECEIVE {
            let queue = self
                .queues
                .get_mut(name)
                .ok_or(QueueError::QueueDoesNotExist)?;
            queue.schedule.advance(now);
            let depth = queue.schedule.depth();
            let room = limits::MAX_IN_FLIGHT.saturating_sub(depth.in_flight as usize);
            if depth.visible == 0 || room == 0 {
                break;
            }
            let wanted = room.min(take.max - messages.len());
            // Rows taken with a visibility of 0 seconds are visible still; they are not new.
            let candidates =
                select_visible(&self.database.conn, queue.id, now, wanted + taken.len())?;
            let before = taken.len() + disposed;
            for candidate in candidates {
                if messages.len() >= take.max || taken.contains(&candidate.seq) {
                    continue;
                }
                if self.dispose(name, &candidate, now)? {
                    disposed += 1;
                } else {
                    taken.push(candidate.seq);
                    messages.push(self.deliver(name, &candidate, take.visibility_secs, now)?);
                }
            }
            if taken.len() + disposed == before {
                break;
            }
        }
        let unfinished = disposed >= limits::DISPOSALS_PER_RECEIVE;
        Ok(Taken {
            messages,
            unfinished,
        })
    }

    /// Whether the in-flight limit is what keeps messages back.
    pub(crate) fn is_over_limit(&self, name: &QueueName) -> StoreResult<bool> {
        let depth = self.queue(name)?.schedule.depth();
        Ok(depth.in_flight as usize >= limits::MAX_IN_FLIGHT)
    }

    /// Deletes or dead-letters a message that must not be delivered any more.
    fn dispose(&mut self, name: &QueueName, row: &Candidate, now: u64) -> StoreResult<bool> {
        let queue = self.queue(name)?;
        if queue.is_expired(row.sent_at, now) {
            self.remove(name, row.seq, row.visible_at)?;
            return Ok(true);
        }
        let Some(policy) = &queue.settings.redrive else {
            return Ok(false);
        };
        if row.receive_count < policy.max_receive_count {
            return Ok(false);
        }
        let target = policy.target()?;
        if !self.queues.contains_key(&target) {
            // Its dead-letter queue was deleted: keep delivering rather than lose it.
            return Ok(false);
        }
        self.dead_letter(name, &target, row, now)?;
        Ok(true)
    }

    fn dead_letter(
        &mut self,
        name: &QueueName,
        target: &QueueName,
        row: &Candidate,
        now: u64,
    ) -> StoreResult<()> {
        let source_arn = self.arn(name);
        let conn = &self.database.conn;
        let source = self
            .queues
            .get_mut(name)
            .ok_or(QueueError::QueueDoesNotExist)?;
        delete_delivery(conn, source.id, row.visible_at, row.seq)?;
        source.schedule.remove(row.seq, row.visible_at as u64);
        let old_row = row_id(source.id, row.seq);
        let target = self
            .queues
            .get_mut(target)
            .ok_or(QueueError::QueueDoesNotExist)?;
        let seq = target.next_seq;
        target.next_seq += 1;
        conn.prepare_cached("UPDATE payload SET row = ?2, dead_letter_source = ?3 WHERE row = ?1")?
            .execute(params![old_row, row_id(target.id, seq), source_arn])?;
        // Visible at once and counted anew, but as old as it was sent.
        conn.prepare_cached("INSERT INTO delivery VALUES (?1, ?2, ?3, ?4, 0, 0, 0)")?
            .execute(params![target.id, now, seq, row.sent_at])?;
        target.schedule.add(now, now);
        Ok(())
    }

    fn deliver(
        &mut self,
        name: &QueueName,
        row: &Candidate,
        visibility_secs: Option<u32>,
        now: u64,
    ) -> StoreResult<Message> {
        let conn = &self.database.conn;
        let queue = self
            .queues
            .get_mut(name)
            .ok_or(QueueError::QueueDoesNotExist)?;
        let visibility = visibility_secs.unwrap_or(queue.settings.visibility_secs);
        let lease = Lease {
            visible_at: now + u64::from(visibility) * 1000,
            nonce: fresh_nonce(),
        };
        let first = if row.first_received_at == 0 {
            now
        } else {
            row.first_received_at
        };
        conn.prepare_cached(
            "UPDATE delivery SET visible_at = ?4, receive_count = receive_count + 1,
                 first_received_at = ?5, nonce = ?6
             WHERE queue_id = ?1 AND visible_at = ?2 AND seq = ?3",
        )?
        .execute(params![
            queue.id,
            row.visible_at,
            row.seq,
            lease.visible_at,
            first,
            lease.nonce
        ])?;
        queue.schedule.lease(row.seq, lease);
        queue.schedule.advance(now);
        let receipt = Receipt {
            row: row_id(queue.id, row.seq),
            nonce: lease.nonce,
        };
        let mut message = read_payload(conn, receipt)?;
        message.sent_at_ms = row.sent_at;
        message.receive_count = row.receive_count + 1;
        message.first_received_at_ms = first;
        Ok(message)
    }

    /// Finds the message that a receipt names. `Err` says why it is not to be touched.
    fn find(
        &mut self,
        name: &QueueName,
        handle: &ReceiptHandle,
        now: u64,
    ) -> StoreResult<Result<(i64, Lease), Deletion>> {
        let receipt = handle.decode()?;
        let queue_id = queue_of(receipt.row);
        let queue = self
            .queues
            .get_mut(name)
            .ok_or(QueueError::QueueDoesNotExist)?;
        queue.schedule.advance(now);
        if queue.id != queue_id {
            // Of another queue, or from before a purge.
            return if self.queues.values().any(|other| other.id == queue_id) {
                Err(QueueError::ReceiptHandleIsInvalid(
                    handle.as_str().to_owned(),
                ))
            } else {
                Ok(Err(Deletion::Gone))
            };
        }
        let seq = seq_of(receipt.row);
        if let Some(lease) = queue
            .schedule
            .lease_of(seq)
            .filter(|l| l.nonce == receipt.nonce)
        {
            return Ok(Ok((seq, lease)));
        }
        let exists = self
            .database
            .conn
            .prepare_cached("SELECT 1 FROM payload WHERE row = ?1")?
            .exists([receipt.row])?;
        Ok(Err(if exists {
            Deletion::Stale
        } else {
            Deletion::Gone
        }))
    }

    pub(crate) fn delete(
        &mut self,
        name: &QueueName,
        handle: &ReceiptHandle,
        now: u64,
    ) -> StoreResult<Deletion> {
        match self.find(name, handle, now)? {
            Ok((seq, lease)) => {
                self.remove(name, seq, lease.visible_at as i64)?;
                Ok(Deletion::Deleted)
            }
            Err(why) => Ok(why),
        }
    }

    pub(crate) fn change_visibility(
        &mut self,
        name: &QueueName,
        handle: &ReceiptHandle,
        visibility_secs: u32,
        now: u64,
    ) -> StoreResult<()> {
        let Ok((seq, lease)) = self.find(name, handle, now)? else {
            return Err(QueueError::MessageNotInflight);
        };
        let conn = &self.database.conn;
        let queue = self
            .queues
            .get_mut(name)
            .ok_or(QueueError::QueueDoesNotExist)?;
        if !queue.schedule.is_in_flight(seq, lease) {
            return Err(QueueError::MessageNotInflight);
        }
        let visible_at = now + u64::from(visibility_secs) * 1000;
        conn.prepare_cached(
            "UPDATE delivery SET visible_at = ?4
             WHERE queue_id = ?1 AND visible_at = ?2 AND seq = ?3",
        )?
        .execute(params![queue.id, lease.visible_at, seq, visible_at])?;
        queue.schedule.lease(
            seq,
            Lease {
                visible_at,
                ..lease
            },
        );
        queue.schedule.advance(now);
        Ok(())
    }

    /// Undoes a receive that nobody got: visible at once, in its old place, and not counted.
    pub(crate) fn release(
        &mut self,
        name: &QueueName,
        handle: &ReceiptHandle,
        now: u64,
    ) -> StoreResult<()> {
        let Ok((seq, lease)) = self.find(name, handle, now)? else {
            return Ok(());
        };
        let conn = &self.database.conn;
        let queue = self
            .queues
            .get_mut(name)
            .ok_or(QueueError::QueueDoesNotExist)?;
        conn.prepare_cached(
            "UPDATE delivery SET visible_at = sent_at, receive_count = receive_count - 1,
                 first_received_at = CASE receive_count WHEN 1 THEN 0 ELSE first_received_at END,
                 nonce = 0
             WHERE queue_id = ?1 AND visible_at = ?2 AND seq = ?3",
        )?
        .execute(params![queue.id, lease.visible_at, seq])?;
        queue.schedule.unlease(seq);
        Ok(())
    }

    fn remove(&mut self, name: &QueueName, seq: i64, visible_at: i64) -> StoreResult<()> {
        let conn = &self.database.conn;
        let queue = self
            .queues
            .get_mut(name)
            .ok_or(QueueError::QueueDoesNotExist)?;
        delete_delivery(conn, queue.id, visible_at, seq)?;
        conn.prepare_cached("DELETE FROM payload WHERE row = ?1")?
            .execute([row_id(queue.id, seq)])?;
        queue.schedule.remove(seq, visible_at as u64);
        Ok(())
    }
}

// Sweeping.
impl Store {
    /// Deletes a bounded number of messages that are past their retention period or whose queue
    /// was deleted or purged. Expired messages are never delivered, swept or not.
    pub(crate) fn sweep(&mut self, now: u64) -> StoreResult<Swept> {
        let mut swept = self.sweep_dropped()?;
        let names: Vec<QueueName> = self.queues.keys().cloned().collect();
        for name in names {
            let one = self.sweep_expired(&name, now)?;
            swept.deleted += one.deleted;
            swept.more |= one.more;
        }
        Ok(swept)
    }

    fn sweep_dropped(&mut self) -> StoreResult<Swept> {
        let Some(&id) = self.dropped.last() else {
            return Ok(Swept::default());
        };
        let conn = &self.database.conn;
        let deleted = conn
            .prepare_cached(
                "DELETE FROM payload WHERE row IN
                     (SELECT row FROM payload WHERE row >= ?1 AND row < ?2 LIMIT ?3)",
            )?
            .execute(params![
                row_id(id, 0),
                row_id(id + 1, 0),
                limits::SWEEP_DELETE_ROWS
            ])?;
        let unscheduled = conn
            .prepare_cached(
                "DELETE FROM delivery WHERE (queue_id, visible_at, seq) IN
                     (SELECT queue_id, visible_at, seq FROM delivery WHERE queue_id = ?1 LIMIT ?2)",
            )?
            .execute(params![id, limits::SWEEP_DELETE_ROWS])?;
        if deleted + unscheduled == 0 {
            conn.prepare_cached("DELETE FROM queue WHERE id = ?1")?
                .execute([id])?;
            self.dropped.pop();
        }
        Ok(Swept {
            deleted,
            more: !self.dropped.is_empty(),
        })
    }

    fn sweep_expired(&mut self, name: &QueueName, now: u64) -> StoreResult<Swept> {
        let queue = self
            .queues
            .get_mut(name)
            .ok_or(QueueError::QueueDoesNotExist)?;
        queue.schedule.advance(now);
        let mut expired = Vec::new();
        let mut scanned = 0;
        {
            let mut statement = self.database.conn.prepare_cached(
                "SELECT visible_at, seq, sent_at FROM delivery
                 WHERE queue_id = ?1 AND (visible_at, seq) > (?2, ?3)
                 ORDER BY visible_at, seq LIMIT ?4",
            )?;
            let (from_visible, from_seq) = queue.sweep_from;
            let mut rows = statement.query(params![
                queue.id,
                from_visible,
                from_seq,
                limits::SWEEP_SCAN_ROWS
            ])?;
            while expired.len() < limits::SWEEP_DELETE_ROWS
                && let Some(row) = rows.next()?
            {
                scanned += 1;
                queue.sweep_from = (row.get(0)?, row.get(1)?);
                if queue.is_expired(row.get(2)?, now) {
                    expired.push(queue.sweep_from);
                }
            }
        }
        let more = expired.len() == limits::SWEEP_DELETE_ROWS;
        if !more && scanned < limits::SWEEP_SCAN_ROWS {
            queue.sweep_from = (i64::MIN, 0);
        }
        for &(visible_at, seq) in &expired {
            self.remove(name, seq, visible_at)?;
        }
        Ok(Swept {
            deleted: expired.len(),
            more,
        })
    }
}

fn insert_payload(conn: &Connection, row: i64, message: &PreparedMessage) -> rusqlite::Result<()> {
    conn.prepare_cached("INSERT INTO payload VALUES (?1, ?2, ?3, ?4, ?5, NULL, ?6)")?
        .execute(params![
            row,
            message.id.0.as_bytes(),
            message.body_md5.0,
            message.attributes,
            message.trace_header,
            message.body
        ])
        .map(drop)
}

fn insert_delivery(
    conn: &Connection,
    queue_id: i64,
    visible_at: u64,
    seq: i64,
    sent_at: u64,
) -> rusqlite::Result<()> {
    conn.prepare_cached("INSERT INTO delivery VALUES (?1, ?2, ?3, ?4, 0, 0, 0)")?
        .execute(params![queue_id, visible_at, seq, sent_at])
        .map(drop)
}

fn delete_delivery(
    conn: &Connection,
    queue_id: i64,
    visible_at: i64,
    seq: i64,
) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "DELETE FROM delivery WHERE queue_id = ?1 AND visible_at = ?2 AND seq = ?3",
    )?
    .execute([queue_id, visible_at, seq])
    .map(drop)
}

fn select_visible(
    conn: &Connection,
    queue_id: i64,
    now: u64,
    limit: usize,
) -> rusqlite::Result<Vec<Candidate>> {
    conn.prepare_cached(
        "SELECT seq, visible_at, sent_at, receive_count, first_received_at FROM delivery
         WHERE queue_id = ?1 AND visible_at <= ?2 ORDER BY visible_at, seq LIMIT ?3",
    )?
    .query_map(params![queue_id, now, limit], |row| {
        Ok(Candidate {
            seq: row.get(0)?,
            visible_at: row.get(1)?,
            sent_at: row.get(2)?,
            receive_count: row.get(3)?,
            first_received_at: row.get(4)?,
        })
    })?
    .collect()
}

/// The parts of a message that never change; the caller adds what `delivery` holds.
fn read_payload(conn: &Connection, receipt: Receipt) -> rusqlite::Result<Message> {
    conn.prepare_cached(
        "SELECT id, body_md5, attributes, trace_header, dead_letter_source, body
         FROM payload WHERE row = ?1",
    )?
    .query_row([receipt.row], |row| {
        let attributes: Option<String> = row.get(2)?;
        let attributes: BTreeMap<String, MessageAttribute> = match attributes {
            Some(json) => serde_json::from_str(&json).map_err(|error| unreadable(2, error))?,
            None => BTreeMap::new(),
        };
        Ok(Message {
            id: MessageId(Uuid::from_bytes(row.get(0)?)),
            receipt_handle: ReceiptHandle::encode(receipt),
            body: row.get(5)?,
            body_md5: Md5Digest(row.get(1)?),
            attributes,
            sent_at_ms: 0,
            receive_count: 0,
            first_received_at_ms: 0,
            trace_header: row.get(3)?,
            dead_letter_source_arn: row.get(4)?,
        })
    })
}

/// Tells two receives of one message apart, also across restarts; never 0, which in a row means
/// "not received".
fn fresh_nonce() -> i64 {
    (Uuid::new_v4().as_u64_pair().0 as i64) | 1
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
