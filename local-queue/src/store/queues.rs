//! Creating, changing, describing and removing queues.
//! Owns what a queue's row says; refuses to know messages, except to leave them to the sweep.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};
use serde::Serialize;

use super::fifo::Attempts;
use super::{Queue, Store, StoreResult};
use crate::attributes::{
    AttributeChanges, POLICY, QueueDescription, QueueSettings, check_together,
};
use crate::errors::QueueError;
use crate::limits;
use crate::model::{ACCOUNT_ID, QueueName, QueuePage};
use crate::operation::PolicyChange;
use crate::policy;
use crate::schedule::Schedule;

impl Store {
    pub(crate) fn create_queue(
        &mut self,
        name: &QueueName,
        changes: &AttributeChanges,
        tags: &BTreeMap<String, String>,
        now: u64,
    ) -> StoreResult<()> {
        changes.check_new(name)?;
        if let Some(queue) = self.queues.get(name) {
            return match changes.conflict_with(&queue.settings) {
                Some(attribute) => Err(QueueError::QueueNameExists { attribute }),
                None => Ok(()),
            };
        }
        let settings = changes.applied_to(&QueueSettings::default_of(name));
        check_together(&settings)?;
        self.check_redrive(name, &settings)?;
        let mut queue = Queue::new(0, settings, now, now);
        queue.tags.clone_from(tags);
        queue.id = insert_queue(&self.database.conn, name, &queue)?;
        self.queues.insert(name.clone(), queue);
        Ok(())
    }

    fn check_redrive(&self, name: &QueueName, settings: &QueueSettings) -> StoreResult<()> {
        let Some(policy) = &settings.redrive else {
            return Ok(());
        };
        let target = policy.target()?;
        let reason = if target == *name {
            "A queue cannot be its own dead-letter queue."
        } else if target.is_fifo() != name.is_fifo() {
            "Dead-letter queue must be same type of queue as the source."
        } else {
            match self.queues.get(&target).map(|queue| &queue.settings) {
                None => "Dead letter target does not exist.",
                Some(QueueSettings {
                    redrive_allow: Some(policy),
                    ..
                }) if !policy.allows(name) => {
                    "The dead-letter queue's RedriveAllowPolicy does not allow this queue."
                }
                Some(_) => return Ok(()),
            }
        };
        Err(policy.refusal(reason))
    }

    pub(crate) fn set_attributes(
        &mut self,
        name: &QueueName,
        changes: &AttributeChanges,
        now: u64,
    ) -> StoreResult<()> {
        changes.check_kind(name)?;
        let settings = changes.applied_to(&self.queue(name)?.settings);
        check_together(&settings)?;
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
            .execute(params![queue.id, json(&settings)?, now])?;
        let longest = queue.settings.delay_secs.max(settings.delay_secs);
        let delayed = queue.settings.delay_secs != settings.delay_secs;
        queue.settings = settings;
        queue.modified_at = now;
        if name.is_fifo() && delayed {
            self.delay_again(name, longest, now)?;
        }
        Ok(())
    }

    /// Adds a statement to the policy, or takes one away.
    pub(crate) fn change_policy(
        &mut self,
        name: &QueueName,
        change: &PolicyChange,
        now: u64,
    ) -> StoreResult<()> {
        let arn = self.arn(name);
        let policy = self.queue(name)?.settings.inert.get(POLICY);
        let policy = policy.map(String::as_str);
        let next = match change {
            PolicyChange::Add(permission) => Some(policy::add(policy, permission, &arn)?),
            PolicyChange::Remove { label } => policy::remove(policy, label, &arn)?,
        };
        // An empty value takes an attribute away.
        let inert = BTreeMap::from([(POLICY.to_owned(), next.unwrap_or_default())]);
        let changes = AttributeChanges {
            inert,
            ..AttributeChanges::default()
        };
        self.set_attributes(name, &changes, now)
    }

    /// Adds tags, or gives them other values.
    pub(crate) fn tag(
        &mut self,
        name: &QueueName,
        tags: &BTreeMap<String, String>,
    ) -> StoreResult<()> {
        let mut next = self.queue(name)?.tags.clone();
        next.extend(tags.clone());
        if next.len() > limits::MAX_TAGS {
            return Err(too_many_tags(name));
        }
        self.set_tags(name, next)
    }

    /// Takes tags away; those that are not there are no mistake.
    pub(crate) fn untag(&mut self, name: &QueueName, keys: &[String]) -> StoreResult<()> {
        let mut next = self.queue(name)?.tags.clone();
        next.retain(|key, _| !keys.contains(key));
        self.set_tags(name, next)
    }

    fn set_tags(&mut self, name: &QueueName, tags: BTreeMap<String, String>) -> StoreResult<()> {
        let queue = self
            .queues
            .get_mut(name)
            .ok_or(QueueError::QueueDoesNotExist)?;
        self.database
            .conn
            .prepare_cached("UPDATE queue SET tags = ?2 WHERE id = ?1")?
            .execute(params![queue.id, json(&tags)?])?;
        queue.tags = tags;
        Ok(())
    }

    pub(crate) fn tags(&self, name: &QueueName) -> StoreResult<BTreeMap<String, String>> {
        Ok(self.queue(name)?.tags.clone())
    }

    pub(crate) fn delete_queue(&mut self, name: &QueueName) -> StoreResult<()> {
        let id = self.queue(name)?.id;
        drop_queue(&self.database.conn, id)?;
        self.forget_moves(name)?;
        self.queues.remove(name);
        self.dropped.push(id);
        Ok(())
    }

    /// Gives the queue a new id, whatever its depth; the sweep takes the old messages away.
    /// What was sent to a FIFO queue is remembered all the same.
    pub(crate) fn purge_queue(&mut self, name: &QueueName) -> StoreResult<()> {
        let conn = &self.database.conn;
        let queue = self
            .queues
            .get_mut(name)
            .ok_or(QueueError::QueueDoesNotExist)?;
        drop_queue(conn, queue.id)?;
        let settings = queue.settings.clone();
        let mut fresh = Queue::new(0, settings, queue.created_at, queue.modified_at);
        fresh.tags.clone_from(&queue.tags);
        fresh.id = insert_queue(conn, name, &fresh)?;
        if fresh.settings.fifo.is_some() {
            conn.prepare_cached("UPDATE deduplication SET queue_id = ?2 WHERE queue_id = ?1")?
                .execute([queue.id, fresh.id])?;
        }
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
        let names = self.queues.keys();
        page(
            names.filter(|name| name.as_str().starts_with(prefix)),
            max,
            after,
        )
    }

    /// The queues whose dead-letter queue this is.
    pub(crate) fn list_sources(
        &self,
        name: &QueueName,
        max: Option<usize>,
        after: Option<&str>,
    ) -> StoreResult<QueuePage> {
        self.queue(name)?;
        Ok(page(self.sources_of(name), max, after))
    }

    pub(super) fn sources_of<'a>(
        &'a self,
        dead_letter: &QueueName,
    ) -> impl Iterator<Item = &'a QueueName> {
        self.queues.iter().filter_map(move |(name, queue)| {
            let policy = queue.settings.redrive.as_ref()?;
            let target = policy.target().ok()?;
            (target == *dead_letter).then_some(name)
        })
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
    pub(super) fn new(id: i64, settings: QueueSettings, created_at: u64, modified_at: u64) -> Self {
        Self {
            id,
            created_at,
            modified_at,
            schedule: if settings.fifo.is_some() {
                Schedule::fifo()
            } else {
                Schedule::default()
            },
            settings,
            tags: BTreeMap::new(),
            next_seq: 1,
            seq_reserved: 1,
            attempts: Attempts::default(),
            sweep_from: (i64::MIN, 0),
        }
    }

    pub(super) fn is_expired(&self, sent_at: u64, now: u64) -> bool {
        sent_at + u64::from(self.settings.retention_secs) * 1000 <= now
    }
}

/// What a queue says to its fifty-first tag.
pub(crate) fn too_many_tags(name: &QueueName) -> QueueError {
    QueueError::InvalidParameter(format!(
        "Too many tags added for queue {name}: {} is the most.",
        limits::MAX_TAGS
    ))
}

/// One page of names in alphabetical order.
fn page<'a>(
    names: impl Iterator<Item = &'a QueueName>,
    max: Option<usize>,
    after: Option<&str>,
) -> QueuePage {
    let mut names: Vec<QueueName> = names
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

fn json<T: Serialize>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

fn insert_queue(conn: &Connection, name: &QueueName, queue: &Queue) -> rusqlite::Result<i64> {
    conn.prepare_cached(
        "INSERT INTO queue (name, settings, created_at, modified_at, tags)
         VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .insert(params![
        name.as_str(),
        json(&queue.settings)?,
        queue.created_at,
        queue.modified_at,
        json(&queue.tags)?
    ])
}

fn drop_queue(conn: &Connection, id: i64) -> rusqlite::Result<()> {
    conn.prepare_cached("UPDATE queue SET dropped = 1 WHERE id = ?1")?
        .execute([id])
        .map(drop)
}
