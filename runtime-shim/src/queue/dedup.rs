//! What was handled already, in a key-value store: a message that comes again after
//! it was done is deleted without a second call. Entries expire by themselves.
//!
//! A message that was begun and has no end (the process was killed, or lost the
//! lease) is handled again, and counted: nobody knows how far it came. Of those that
//! are the same, this consumer handles one at a time.

use std::collections::HashSet;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::StreamExt;
use prometheus_client::metrics::counter::Counter;
use sha2::{Digest, Sha256};

use super::message::{AttributeValue, Received};
use crate::stores::{Store, StoreError};

/// Questions to the store under way at once, for one unit.
const AT_ONCE: usize = 32;
const BEGUN: &str = "begun";
const DONE: &str = "done";

/// What was handled already, of one queue.
pub(super) struct Dedup {
    store: Store,
    window: Duration,
    /// The attribute that says which messages are the same.
    attribute: Option<String>,
    queue: String,
    reinvocations: Counter,
    /// Keys of what is being handled here: no more than messages in flight.
    busy: Arc<Mutex<HashSet<String>>>,
}

/// What is to become of a message.
pub(super) enum Begun {
    /// It is to be handled, for as long as this is kept.
    Fresh(Turn),
    /// It was done already.
    Done,
    /// The same is being handled in this moment.
    Busy,
}

/// The right to handle a message; nobody else in this process has it.
pub(super) struct Turn {
    busy: Arc<Mutex<HashSet<String>>>,
    key: String,
}

impl Drop for Turn {
    fn drop(&mut self) {
        locked(&self.busy).remove(&self.key);
    }
}

/// Why nothing is known of a message.
#[derive(Debug, thiserror::Error)]
pub(super) enum DedupError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("no answer within half of the lease")]
    TooLate,
}

fn locked(busy: &Mutex<HashSet<String>>) -> MutexGuard<'_, HashSet<String>> {
    busy.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is known of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Nothing,
    Begun,
    Done,
}

impl Dedup {
    pub(super) fn new(
        store: Store,
        window: Duration,
        attribute: Option<String>,
        queue: &str,
        reinvocations: Counter,
    ) -> Self {
        Self {
            store,
            window,
            attribute,
            queue: queue.to_owned(),
            reinvocations,
            busy: Arc::default(),
        }
    }

    /// What is to become of each of `unit`; an answer that is not there when half of
    /// `lease` is over is not waited for. Notes that those to be handled begin.
    pub(super) async fn begin(
        &self,
        unit: &[&Received],
        lease: Duration,
    ) -> Vec<Result<Begun, DedupError>> {
        // Not by a closure: the compiler takes it for one that is too particular.
        let mut asked = Vec::with_capacity(unit.len());
        for received in unit {
            asked.push(self.begin_in_time(received, received.at + lease / 2));
        }
        let answers = futures::stream::iter(asked).buffered(AT_ONCE);
        answers.collect().await
    }

    async fn begin_in_time(
        &self,
        received: &Received,
        until: Instant,
    ) -> Result<Begun, DedupError> {
        match tokio::time::timeout_at(until.into(), self.begin_one(received)).await {
            Ok(begun) => Ok(begun?),
            Err(_) => Err(DedupError::TooLate),
        }
    }

    async fn begin_one(&self, received: &Received) -> Result<Begun, StoreError> {
        let key = self.key(received);
        if !locked(&self.busy).insert(key.clone()) {
            return Ok(Begun::Busy);
        }
        let turn = Turn {
            busy: Arc::clone(&self.busy),
            key: key.clone(),
        };
        let value = self.store.current(&key).await?;
        let before = known(value.as_deref(), now());
        if before == Known::Done {
            return Ok(Begun::Done);
        }
        self.note(key, BEGUN).await?;
        if before == Known::Begun {
            self.reinvocations.inc();
            tracing::info!(
                message_id = received.id,
                "handled again: it was begun before, and its end is unknown"
            );
        }
        Ok(Begun::Fresh(turn))
    }

    /// Notes that `received` is done.
    pub(super) async fn done(&self, received: &Received) {
        let noted = self.note(self.key(received), DONE).await;
        warn(received, noted);
    }

    /// Forgets that `received` was begun: it is to be handled again. That the same
    /// was done meanwhile, by another process, stays known.
    pub(super) async fn forget(&self, received: &Received) {
        let key = self.key(received);
        let forgotten = async {
            let value = self.store.current(&key).await?;
            match known(value.as_deref(), now()) {
                Known::Done => Ok(()),
                Known::Begun | Known::Nothing => self.store.delete(key).await,
            }
        };
        warn(received, forgotten.await);
    }

    async fn note(&self, key: String, what: &str) -> Result<(), StoreError> {
        let until = now().saturating_add(self.window.as_secs());
        let value = format!("{what} {until}").into_bytes();
        self.store.set_expiring(key, value, self.window).await
    }

    fn key(&self, received: &Received) -> String {
        key(&self.queue, self.attribute.as_deref(), received)
    }
}

/// Costs at most a second call: the message is settled all the same.
fn warn(received: &Received, outcome: Result<(), StoreError>) {
    if let Err(error) = outcome {
        tracing::warn!(
            message_id = received.id,
            "the de-duplication store does not know how the message ended: {error}"
        );
    }
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |now| now.as_secs())
}

/// Stores may keep what has expired for a while: DynamoDB for days.
fn known(value: Option<&[u8]>, now: u64) -> Known {
    let text = value.and_then(|value| std::str::from_utf8(value).ok());
    let Some((what, until)) = text.and_then(|text| text.split_once(' ')) else {
        return Known::Nothing;
    };
    match (what, until.parse::<u64>()) {
        (DONE, Ok(until)) if until > now => Known::Done,
        (BEGUN, Ok(until)) if until > now => Known::Begun,
        _ => Known::Nothing,
    }
}

/// By digest: what senders choose may be of any length.
fn key(queue: &str, attribute: Option<&str>, received: &Received) -> String {
    let chosen = attribute.and_then(|name| {
        let found = received.custom.iter().find(|custom| custom.name == name)?;
        Some(match &found.value {
            AttributeValue::Text(text) => text.as_bytes(),
            AttributeValue::Binary(bytes) => bytes,
        })
    });
    let digest = match chosen {
        Some(value) => Sha256::new().chain_update(b"key ").chain_update(value),
        None => Sha256::new()
            .chain_update(b"id ")
            .chain_update(&received.id),
    };
    let digest = digest.finalize();
    let mut key = format!("gristmill-dedup/{queue}/");
    for byte in digest {
        // Writing to a String cannot fail.
        let _ = write!(key, "{byte:02x}");
    }
    key
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::message::{CustomAttribute, Receipt};
    use super::*;

    fn received(id: &str, order: Option<&str>) -> Received {
        let custom = order.map(|order| CustomAttribute {
            name: "order".to_owned(),
            data_type: "String".to_owned(),
            value: AttributeValue::Text(order.to_owned()),
        });
        Received {
            id: id.to_owned(),
            receipt: Receipt(String::new()),
            body: String::new(),
            system: Vec::new(),
            custom: custom.into_iter().collect(),
            receive_count: 1,
            at: Instant::now(),
        }
    }

    #[test]
    fn what_has_expired_is_not_known() {
        for (value, expected) in [
            (None, Known::Nothing),
            (Some("done 101"), Known::Done),
            (Some("begun 101"), Known::Begun),
            (Some("done 100"), Known::Nothing),
            (Some("begun 99"), Known::Nothing),
            (Some("something else"), Known::Nothing),
            (Some(""), Known::Nothing),
        ] {
            assert_eq!(known(value.map(str::as_bytes), 100), expected, "{value:?}");
        }
    }

    #[test]
    fn messages_are_the_same_by_id_or_by_what_the_sender_says() {
        let by = |attribute, id, order| key("q", attribute, &received(id, order));
        assert_eq!(by(None, "1", Some("7")), by(None, "1", None));
        assert_ne!(by(None, "1", None), by(None, "2", None));
        let order = Some("order");
        assert_eq!(by(order, "1", Some("7")), by(order, "2", Some("7")));
        assert_ne!(by(order, "1", Some("7")), by(order, "1", Some("8")));
        // Without it, the id counts, and no value passes for an id.
        assert_eq!(by(order, "1", None), by(None, "1", None));
        assert_ne!(by(order, "2", Some("1")), by(order, "1", None));
    }
}
