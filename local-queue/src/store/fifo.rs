//! What only FIFO queues do: sequence numbers, deduplication, receiving by group, and receives
//! that are repeated. Owns the order within a group; refuses to know standard queues.
//! Source: SQS Developer Guide, "FIFO queues"; SQS API Reference, `SendMessage`,
//! `ReceiveMessage`.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, params};
use uuid::Uuid;

use super::rows::{read_payload, row_id, select_group, select_one};
use super::{PreparedMessage, Queue, Store, StoreResult, Stored, Take, Taken};
use crate::attributes::{DeduplicationScope, FifoSettings};
use crate::errors::QueueError;
use crate::limits;
use crate::model::{Message, MessageId, QueueName, Receipt, SequenceNumber};
use crate::schedule::Lease;

/// What each kind of queue refuses in a message; of a FIFO queue, the deduplication id.
pub(super) fn check_kind(
    fifo: Option<FifoSettings>,
    message: &PreparedMessage,
) -> Result<Option<&str>, QueueError> {
    let refuse = |parameter, value| Err(QueueError::NotOfThisQueueType { parameter, value });
    let id = message.deduplication_id.as_deref();
    let Some(fifo) = fifo else {
        return match id {
            Some(id) => refuse("MessageDeduplicationId", id.to_owned()),
            None => Ok(None),
        };
    };
    // A queue's delay is for all of its messages alike, or they would overtake each other.
    if let Some(secs) = message.delay_secs.filter(|secs| *secs > 0) {
        return refuse("DelaySeconds", secs.to_string());
    }
    if message.group_id.is_none() {
        return Err(QueueError::MissingParameter("MessageGroupId"));
    }
    let digest = message.body_sha256.as_deref();
    let digest = digest.filter(|_| fifo.content_based_deduplication);
    match id.or(digest) {
        Some(id) => Ok(Some(id)),
        None => Err(QueueError::NoDeduplicationId),
    }
}

/// Refuses a batch of which an entry has no group, or nothing to be told from duplicates by
/// (so does SQS, though it refuses the same message by its entry for other reasons).
pub(super) fn check_fifo_batch(
    fifo: FifoSettings,
    messages: &[PreparedMessage],
) -> Result<(), QueueError> {
    for message in messages {
        if message.group_id.is_none() {
            let reason = QueueError::MissingParameter("MessageGroupId").to_string();
            return Err(QueueError::InvalidParameter(reason));
        }
        if message.deduplication_id.is_none() && !fifo.content_based_deduplication {
            return Err(QueueError::NoDeduplicationId);
        }
    }
    Ok(())
}

/// What a message is told from others by, within its queue. Ids hold no spaces.
fn deduplication_key(fifo: FifoSettings, group: &str, id: &str) -> String {
    match fifo.deduplication_scope {
        DeduplicationScope::Queue => id.to_owned(),
        DeduplicationScope::MessageGroup => format!("{group} {id}"),
    }
}

impl Queue {
    /// The next sequence number. Those of a FIFO queue never come twice: they are set aside on
    /// disk, a block at a time.
    pub(super) fn take_seq(&mut self, conn: &Connection) -> rusqlite::Result<i64> {
        let seq = self.next_seq;
        self.next_seq += 1;
        if self.settings.fifo.is_some() && self.next_seq > self.seq_reserved {
            self.seq_reserved = self.next_seq + limits::SEQUENCE_BLOCK;
            conn.prepare_cached("UPDATE queue SET next_seq = ?2 WHERE id = ?1")?
                .execute([self.id, self.seq_reserved])?;
        }
        Ok(seq)
    }

    /// The message that was sent with this deduplication id in the last five minutes.
    pub(super) fn duplicate_of(
        &self,
        conn: &Connection,
        message: &PreparedMessage,
        id: &str,
        now: u64,
    ) -> rusqlite::Result<Option<Stored>> {
        let (Some(fifo), Some(group)) = (self.settings.fifo, &message.group_id) else {
            return Ok(None);
        };
        conn.prepare_cached(
            "SELECT id, seq FROM deduplication
             WHERE queue_id = ?1 AND key = ?2 AND sent_at > ?3",
        )?
        .query_row(
            params![
                self.id,
                deduplication_key(fifo, group, id),
                now.saturating_sub(limits::DEDUPLICATION_MS)
            ],
            |row| {
                Ok(Stored {
                    id: MessageId(Uuid::from_bytes(row.get(0)?)),
                    sequence_number: Some(SequenceNumber(row.get(1)?)),
                })
            },
        )
        .optional()
    }

    /// Remembers a message for the next five minutes, whatever becomes of it.
    pub(super) fn remember(
        &self,
        conn: &Connection,
        message: &PreparedMessage,
        id: &str,
        row: i64,
        now: u64,
    ) -> rusqlite::Result<()> {
        let (Some(fifo), Some(group)) = (self.settings.fifo, &message.group_id) else {
            return Ok(());
        };
        conn.prepare_cached("INSERT OR REPLACE INTO deduplication VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![
                self.id,
                deduplication_key(fifo, group, id),
                now,
                message.id.0.as_bytes(),
                row
            ])
            .map(drop)
    }
}

/// Receives by their `ReceiveRequestAttemptId`, in memory: after a restart, messages come back
/// when their visibility timeout ends.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    by_id: HashMap<Arc<str>, Attempt>,
    /// Oldest first; an id that was used again stands here twice.
    order: VecDeque<(u64, Arc<str>)>,
}

#[derive(Clone, Debug)]
struct Attempt {
    at: u64,
    leases: Vec<(i64, Lease)>,
}

impl Attempts {
    fn forget_old(&mut self, now: u64) {
        while let Some((at, id)) = self.order.front() {
            let old = at + limits::DEDUPLICATION_MS <= now;
            if !old && self.order.len() <= limits::MAX_RECEIVE_ATTEMPTS {
                break;
            }
            if self.by_id.get(id).is_some_and(|attempt| attempt.at == *at) {
                self.by_id.remove(id);
            }
            self.order.pop_front();
        }
    }

    fn remember(&mut self, id: Arc<str>, leases: Vec<(i64, Lease)>, now: u64) {
        self.order.push_back((now, id.clone()));
        self.by_id.insert(id, Attempt { at: now, leases });
    }
}

impl Store {
    /// Receives from the groups that have no message in flight: first as many as possible from
    /// the group whose first message is oldest, then from the next.
    pub(super) fn take_grouped(
        &mut self,
        name: &QueueName,
        take: &Take,
        now: u64,
    ) -> StoreResult<Taken> {
        if let Some(messages) = self.repeat_attempt(name, take, now)? {
            let unfinished = false;
            return Ok(Taken {
                messages,
                unfinished,
            });
        }
        let mut taken = Taken::default();
        let (mut disposed, mut delayed, mut after) = (0, 0, i64::MIN);
        let mut seqs = Vec::new();
        while taken.messages.len() < take.max
            && disposed < limits::DISPOSALS_PER_RECEIVE
            && delayed < limits::DELAYED_GROUPS_PER_RECEIVE
        {
            let Some((group, rows)) = self.next_group(name, take, &mut after, seqs.len(), now)?
            else {
                break;
            };
            for (place, row) in rows.iter().enumerate() {
                if row.visible_at > now as i64 {
                    delayed += usize::from(place == 0);
                    break;
                }
                // Taken with a visibility of 0 seconds, it is the first of its group still.
                if seqs.contains(&row.seq) {
                    break;
                }
                if self.dispose(name, row, now)? {
                    disposed += 1;
                    continue;
                }
                seqs.push(row.seq);
                let message = self.deliver(name, row, Some(&group), take.visibility_secs, now)?;
                taken.messages.push(message);
            }
        }
        taken.unfinished = disposed >= limits::DISPOSALS_PER_RECEIVE;
        self.remember_attempt(name, take, &seqs, now)?;
        Ok(taken)
    }

    /// The next group behind `after` that is not blocked, and its first messages.
    fn next_group(
        &mut self,
        name: &QueueName,
        take: &Take,
        after: &mut i64,
        taken: usize,
        now: u64,
    ) -> StoreResult<Option<(Arc<str>, Vec<super::rows::Candidate>)>> {
        let conn = &self.database.conn;
        let queue = self
            .queues
            .get_mut(name)
            .ok_or(QueueError::QueueDoesNotExist)?;
        queue.schedule.advance(now);
        let depth = queue.schedule.depth();
        let room = limits::MAX_IN_FLIGHT.saturating_sub(depth.in_flight as usize);
        let next = queue.schedule.groups().and_then(|g| g.next_free(*after));
        let Some((head, group)) = next.filter(|_| depth.visible > 0 && room > 0) else {
            return Ok(None);
        };
        *after = head;
        let rows = select_group(conn, queue.id, &group, room.min(take.max - taken))?;
        Ok(Some((group, rows)))
    }

    /// A receive with the id of an earlier one gets the same messages under the same handles,
    /// with a new visibility timeout, while nothing else happened to them
    /// (SQS API Reference, `ReceiveMessage`, `ReceiveRequestAttemptId`).
    fn repeat_attempt(
        &mut self,
        name: &QueueName,
        take: &Take,
        now: u64,
    ) -> StoreResult<Option<Vec<Message>>> {
        let Some(id) = &take.attempt_id else {
            return Ok(None);
        };
        let conn = &self.database.conn;
        let queue = self
            .queues
            .get_mut(name)
            .ok_or(QueueError::QueueDoesNotExist)?;
        queue.schedule.advance(now);
        queue.attempts.forget_old(now);
        let Some(attempt) = queue.attempts.by_id.get(id).cloned() else {
            return Ok(None);
        };
        let untouched = attempt.leases.iter().all(|(seq, lease)| {
            queue.schedule.lease_of(*seq) == Some(*lease)
                && queue.schedule.is_in_flight(*seq, *lease)
        });
        if !untouched {
            return Ok(None);
        }
        let visibility = take.visibility_secs;
        let visibility = visibility.unwrap_or(queue.settings.visibility_secs);
        let mut messages = Vec::new();
        let mut leases = Vec::new();
        for (seq, lease) in attempt.leases {
            let renewed = Lease {
                visible_at: now + u64::from(visibility) * 1000,
                ..lease
            };
            messages.push(queue.show_again(conn, seq, lease)?);
            queue.hide(conn, seq, lease, renewed)?;
            leases.push((seq, renewed));
        }
        queue.attempts.remember(id.clone(), leases, now);
        queue.schedule.advance(now);
        Ok(Some(messages))
    }

    fn remember_attempt(
        &mut self,
        name: &QueueName,
        take: &Take,
        seqs: &[i64],
        now: u64,
    ) -> StoreResult<()> {
        let queue = self
            .queues
            .get_mut(name)
            .ok_or(QueueError::QueueDoesNotExist)?;
        if let Some(id) = take.attempt_id.as_ref().filter(|_| !seqs.is_empty()) {
            let lease = |seq: &i64| Some((*seq, queue.schedule.lease_of(*seq)?));
            let leases = seqs.iter().filter_map(lease).collect();
            queue.attempts.remember(id.clone(), leases, now);
        }
        Ok(())
    }

    /// A queue's delay holds for messages that it has already, too
    /// (SQS API Reference, `SetQueueAttributes`, `DelaySeconds` of FIFO queues).
    pub(super) fn delay_again(
        &mut self,
        name: &QueueName,
        longest_secs: u32,
        now: u64,
    ) -> StoreResult<()> {
        let queue = self.queue(name)?;
        let delay_ms = u64::from(queue.settings.delay_secs) * 1000;
        let since = now.saturating_sub(u64::from(longest_secs) * 1000);
        self.database
            .conn
            .prepare_cached(
                "UPDATE delivery SET visible_at = sent_at + ?2
                 WHERE queue_id = ?1 AND group_id IS NOT NULL AND receive_count = 0
                     AND nonce = 0 AND sent_at > ?3",
            )?
            .execute(params![queue.id, delay_ms, since])?;
        Ok(self.reload(now)?)
    }
}

impl Queue {
    /// A message in flight as its receiver got it.
    fn show_again(&self, conn: &Connection, seq: i64, lease: Lease) -> StoreResult<Message> {
        let row = select_one(conn, self.id, lease.visible_at, seq)?;
        let receipt = Receipt {
            row: row_id(self.id, seq),
            nonce: lease.nonce,
        };
        let mut message = read_payload(conn, receipt)?;
        message.sent_at_ms = row.sent_at;
        message.receive_count = row.receive_count;
        message.first_received_at_ms = row.first_received_at;
        message.sequence_number = Some(SequenceNumber(receipt.row));
        Ok(message)
    }

    /// Moves the end of a lease.
    pub(super) fn hide(
        &mut self,
        conn: &Connection,
        seq: i64,
        lease: Lease,
        changed: Lease,
    ) -> rusqlite::Result<()> {
        conn.prepare_cached(
            "UPDATE delivery SET visible_at = ?4
             WHERE queue_id = ?1 AND visible_at = ?2 AND seq = ?3",
        )?
        .execute(params![self.id, lease.visible_at, seq, changed.visible_at])?;
        self.schedule.lease(seq, changed);
        Ok(())
    }
}
