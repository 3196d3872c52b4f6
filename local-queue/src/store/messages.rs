//! Sending, receiving, deleting and hiding messages.
//! Owns the life of a message; refuses to know when anything happens.

use rusqlite::{Connection, params};

use super::fifo::{check_fifo_batch, check_kind};
use super::rows::{
    Candidate, delete_delivery, delete_grouped, first_of_group, fresh_nonce, insert_delivery,
    insert_payload, queue_of, read_payload, received_at, row_id, select_visible, seq_of,
};
use super::{PreparedMessage, Queue, Store, StoreResult, Stored, Take, Taken};
use crate::errors::QueueError;
use crate::limits;
use crate::model::{
    Deletion, Message, MessageId, QueueName, Receipt, ReceiptHandle, SequenceNumber,
};
use crate::schedule::Lease;
use crate::validate;

/// Why a message goes from one queue to another, and what changes on the way.
#[derive(Clone, Copy)]
pub(super) enum Transfer<'a> {
    /// It was received too often. On standard queues it stays as old as it was sent (SQS
    /// Developer Guide, dead-letter queues, retention).
    DeadLetter { source_arn: &'a str },
    /// A message move task takes it back, as a new message.
    Move { id: MessageId },
}

impl Store {
    /// Stores messages; each is refused on its own when it does not fit the queue. A batch whose
    /// entries lack what a FIFO queue asks of them is refused whole.
    pub(crate) fn send(
        &mut self,
        name: &QueueName,
        messages: &[PreparedMessage],
        in_batch: bool,
        now: u64,
    ) -> StoreResult<Vec<Result<Stored, QueueError>>> {
        let queue = self
            .queues
            .get_mut(name)
            .ok_or(QueueError::QueueDoesNotExist)?;
        let conn = &self.database.conn;
        if let Some(fifo) = queue.settings.fifo.filter(|_| in_batch) {
            check_fifo_batch(fifo, messages)?;
        }
        let mut results = Vec::with_capacity(messages.len());
        for message in messages {
            let limit = queue.settings.maximum_message_bytes;
            let fits = validate::check_size(message.bytes, limit, in_batch);
            match fits.and_then(|()| queue.store(conn, message, now)) {
                Err(QueueError::Storage(error)) => return Err(error.into()),
                result => results.push(result),
            }
        }
        Ok(results)
    }

    /// Receives up to `take.max` visible messages, oldest first. Messages past the retention
    /// period are deleted and messages received too often are dead-lettered on the way.
    pub(crate) fn take(&mut self, name: &QueueName, take: &Take, now: u64) -> StoreResult<Taken> {
        if self.queue(name)?.settings.fifo.is_some() {
            return self.take_grouped(name, take, now);
        }
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
                    let visibility = take.visibility_secs;
                    messages.push(self.deliver(name, &candidate, None, visibility, now)?);
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

    /// Whether the in-flight limit is what keeps messages back. Receivers of a FIFO queue are
    /// not told.
    pub(crate) fn is_over_limit(&self, name: &QueueName) -> StoreResult<bool> {
        let queue = self.queue(name)?;
        let in_flight = queue.schedule.depth().in_flight as usize;
        Ok(queue.settings.fifo.is_none() && in_flight >= limits::MAX_IN_FLIGHT)
    }

    /// Whether a receive could find something now; free of charge.
    pub(crate) fn has_available(&mut self, name: &QueueName, now: u64) -> bool {
        self.queues.get_mut(name).is_none_or(|queue| {
            queue.schedule.advance(now);
            queue.schedule.has_available()
        })
    }

    /// Deletes or dead-letters a message that must not be delivered any more.
    pub(super) fn dispose(
        &mut self,
        name: &QueueName,
        row: &Candidate,
        now: u64,
    ) -> StoreResult<bool> {
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
        let source_arn = self.arn(name);
        let why = Transfer::DeadLetter {
            source_arn: &source_arn,
        };
        self.transfer(name, &target, row, why, now)?;
        Ok(true)
    }

    /// Takes a message from one queue to the end of another: visible at once, counted anew, in
    /// its group.
    pub(super) fn transfer(
        &mut self,
        name: &QueueName,
        target: &QueueName,
        row: &Candidate,
        why: Transfer<'_>,
        now: u64,
    ) -> StoreResult<()> {
        let conn = &self.database.conn;
        let source = self
            .queues
            .get_mut(name)
            .ok_or(QueueError::QueueDoesNotExist)?;
        let group = source.unschedule(conn, row.seq, row.visible_at)?;
        let old_row = row_id(source.id, row.seq);
        let target = self
            .queues
            .get_mut(target)
            .ok_or(QueueError::QueueDoesNotExist)?;
        let fifo = target.settings.fifo.is_some();
        let seq = target.take_seq(conn)?;
        let new_row = row_id(target.id, seq);
        let sent_at = match why {
            Transfer::DeadLetter { source_arn } => {
                let sql = "UPDATE payload SET row = ?2, dead_letter_source = ?3 WHERE row = ?1";
                conn.prepare_cached(sql)?
                    .execute(params![old_row, new_row, source_arn])?;
                if fifo { now } else { row.sent_at }
            }
            Transfer::Move { id } => {
                let sql = "UPDATE payload SET row = ?2, dead_letter_source = NULL, id = ?3 \
                           WHERE row = ?1";
                conn.prepare_cached(sql)?
                    .execute(params![old_row, new_row, id.0.as_bytes()])?;
                now
            }
        };
        target.enroll(conn, seq, sent_at, now, group.as_deref(), now)?;
        Ok(())
    }

    /// `group` is that of a FIFO queue's message.
    pub(super) fn deliver(
        &mut self,
        name: &QueueName,
        row: &Candidate,
        group: Option<&str>,
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
            nonce: fresh_nonce(now),
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
        if let Some((groups, group)) = queue.schedule.groups_mut().zip(group) {
            groups.begin(group, row.seq);
        }
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
        message.sequence_number = group.map(|_| SequenceNumber(receipt.row));
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

    /// A FIFO queue refuses a handle whose visibility timeout is over: the messages behind this
    /// one may be on their way already.
    pub(crate) fn delete(
        &mut self,
        name: &QueueName,
        handle: &ReceiptHandle,
        now: u64,
    ) -> StoreResult<Deletion> {
        let found = self.find(name, handle, now)?;
        let queue = self.queue(name)?;
        let expired = queue.settings.fifo.is_some()
            && match found {
                Ok((seq, lease)) => !queue.schedule.is_in_flight(seq, lease),
                Err(why) => why == Deletion::Stale,
            };
        if expired {
            let handle = handle.as_str().to_owned();
            return Err(QueueError::ReceiptHandleHasExpired(handle));
        }
        match found {
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
        let changed = Lease {
            visible_at: now + u64::from(visibility_secs) * 1000,
            ..lease
        };
        let longest = u64::from(limits::MAX_VISIBILITY_SECS) * 1000;
        let received = received_at(lease.nonce, now);
        if received.is_some_and(|received| changed.visible_at > received + longest) {
            return Err(QueueError::TotalVisibilityTooLong(visibility_secs));
        }
        queue.hide(conn, seq, lease, changed)?;
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

    pub(super) fn remove(
        &mut self,
        name: &QueueName,
        seq: i64,
        visible_at: i64,
    ) -> StoreResult<()> {
        let conn = &self.database.conn;
        let queue = self
            .queues
            .get_mut(name)
            .ok_or(QueueError::QueueDoesNotExist)?;
        queue.unschedule(conn, seq, visible_at)?;
        conn.prepare_cached("DELETE FROM payload WHERE row = ?1")?
            .execute([row_id(queue.id, seq)])?;
        Ok(())
    }
}

impl Queue {
    /// Stores a message, unless a FIFO queue has it already.
    fn store(
        &mut self,
        conn: &Connection,
        message: &PreparedMessage,
        now: u64,
    ) -> StoreResult<Stored> {
        let deduplication_id = check_kind(self.settings.fifo, message)?;
        if let Some(id) = deduplication_id
            && let Some(first) = self.duplicate_of(conn, message, id, now)?
        {
            return Ok(first);
        }
        let seq = self.take_seq(conn)?;
        let row = row_id(self.id, seq);
        let delay = message.delay_secs.filter(|_| deduplication_id.is_none());
        let delay = delay.unwrap_or(self.settings.delay_secs);
        let visible_at = now + u64::from(delay) * 1000;
        insert_payload(conn, row, message, deduplication_id)?;
        if let Some(id) = deduplication_id {
            self.remember(conn, message, id, row, now)?;
        }
        self.enroll(conn, seq, now, visible_at, message.group_id.as_deref(), now)?;
        Ok(Stored {
            id: message.id,
            sequence_number: deduplication_id.map(|_| SequenceNumber(row)),
        })
    }

    /// Puts a message into the schedule. Only a FIFO queue orders by group.
    fn enroll(
        &mut self,
        conn: &Connection,
        seq: i64,
        sent_at: u64,
        visible_at: u64,
        group: Option<&str>,
        now: u64,
    ) -> rusqlite::Result<()> {
        let group = group.filter(|_| self.settings.fifo.is_some());
        insert_delivery(conn, self.id, visible_at, seq, sent_at, group)?;
        self.schedule.add(visible_at, now);
        if let Some((groups, group)) = self.schedule.groups_mut().zip(group) {
            groups.add(group, seq);
        }
        Ok(())
    }

    /// Takes a message out of the schedule; returns the group of a FIFO queue's.
    fn unschedule(
        &mut self,
        conn: &Connection,
        seq: i64,
        visible_at: i64,
    ) -> rusqlite::Result<Option<String>> {
        self.schedule.remove(seq, visible_at as u64);
        let Some(groups) = self.schedule.groups_mut() else {
            delete_delivery(conn, self.id, visible_at, seq)?;
            return Ok(None);
        };
        let group = delete_grouped(conn, self.id, visible_at, seq)?;
        if let Some(group) = &group
            && groups.head(group) == Some(seq)
        {
            groups.set_head(group, first_of_group(conn, self.id, group)?);
        }
        Ok(group)
    }
}
