//! Creating, changing, describing and removing queues.
//! Owns what a queue's row says; refuses to know messages, except to leave them to the sweep.

use rusqlite::{Connection, params};

use super::{Queue, Store, StoreResult};
use crate::attributes::{AttributeChanges, QueueDescription, QueueSettings};
use crate::errors::QueueError;
use crate::limits;
use crate::model::{ACCOUNT_ID, QueueName, QueuePage};
use crate::schedule::Schedule;

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

    pub(super) fn queue(&self, name: &QueueName) -> StoreResult<&Queue> {
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

    pub(super) fn is_expired(&self, sent_at: u64, now: u64) -> bool {
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
