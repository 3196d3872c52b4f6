//! Taking away what nobody will receive any more, a bounded step at a time.
//! Owns where the last step stopped; refuses to know when the next one comes.

use rusqlite::params;

use super::rows::row_id;
use super::{Store, StoreResult, Swept};
use crate::errors::QueueError;
use crate::limits;
use crate::model::QueueName;

impl Store {
    /// Deletes a bounded number of messages that are past their retention period or whose queue
    /// was deleted or purged. Expired messages are never delivered, swept or not.
    pub(crate) fn sweep(&mut self, now: u64) -> StoreResult<Swept> {
        let mut swept = self.sweep_dropped()?;
        swept.more |= self.sweep_deduplication(now)?;
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

    /// Forgets what was sent to FIFO queues more than five minutes ago; whether there is more.
    fn sweep_deduplication(&self, now: u64) -> StoreResult<bool> {
        let conn = &self.database.conn;
        let until = now.saturating_sub(limits::DEDUPLICATION_MS);
        let mut old = conn.prepare_cached(
            "SELECT queue_id, key FROM deduplication WHERE sent_at <= ?1 LIMIT ?2",
        )?;
        let old = old.query_map(params![until, limits::SWEEP_DELETE_ROWS], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
        let old: Vec<(i64, String)> = old.collect::<rusqlite::Result<_>>()?;
        // One by one: a row value `IN` a subquery would read each queue's rows whole.
        let mut delete =
            conn.prepare_cached("DELETE FROM deduplication WHERE queue_id = ?1 AND key = ?2")?;
        for (queue_id, key) in &old {
            delete.execute(params![queue_id, key])?;
        }
        Ok(old.len() == limits::SWEEP_DELETE_ROWS)
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
