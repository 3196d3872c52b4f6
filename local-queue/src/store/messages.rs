//! Sending, receiving, deleting and hiding messages.
//! Owns the life of a message; refuses to know when anything happens.

use rusqlite::params;

use super::rows::{
    Candidate, delete_delivery, fresh_nonce, insert_delivery, insert_payload, queue_of,
    read_payload, row_id, select_visible, seq_of,
};
use super::{PreparedMessage, Store, StoreResult, Take, Taken};
use crate::errors::QueueError;
use crate::limits;
use crate::model::{Deletion, Message, QueueName, Receipt, ReceiptHandle};
use crate::schedule::Lease;
use crate::validate;

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
        delete_delivery(conn, queue.id, visible_at, seq)?;
        conn.prepare_cached("DELETE FROM payload WHERE row = ?1")?
            .execute([row_id(queue.id, seq)])?;
        queue.schedule.remove(seq, visible_at as u64);
        Ok(())
    }
}
