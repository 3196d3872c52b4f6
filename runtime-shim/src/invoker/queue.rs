//! Messages of queues: which export of a component handles them, and the calls.
//! What becomes of a message is the queue trigger's to decide.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use wasmtime::Store;

use super::bindings::SpinSqs;
use super::{
    BatchMessage, BatchOutcome, Delivery, GuestError, Invoker, Loaded, MessageAction, Outcome,
    QUEUE_EXPORT, command, environment, shortened, unknown,
};
use crate::app::QueueTrigger;
use crate::capabilities::Sandbox;
use crate::invoker::{BATCH_EXPORT, Caller};
use crate::names::{ComponentId, StoreLabel};
use crate::stores::Store as KeyValueStore;

/// The export of a component that handles messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueExport {
    /// `handle-batch`: many with one call.
    Batch,
    /// `handle-queue-message`: one with each call.
    Message,
    /// `wasi:cli/run`: one with each run.
    Program,
    /// `wasi:http/incoming-handler`: one with each request.
    Http,
}

impl Loaded {
    /// What handles messages: its HTTP export where a path for that is set, else the
    /// first of these that it exports.
    pub(super) fn queue_export(&self, trigger: &QueueTrigger) -> Option<QueueExport> {
        if trigger.http_path.is_some() {
            return self.http.is_some().then_some(QueueExport::Http);
        }
        [
            (self.batch.is_some(), QueueExport::Batch),
            (self.queue.is_some(), QueueExport::Message),
            (self.command.is_some(), QueueExport::Program),
            (self.http.is_some(), QueueExport::Http),
        ]
        .into_iter()
        .find_map(|(exported, export)| exported.then_some(export))
    }
}

/// A sandbox for several messages, one after the other. A message that breaks it
/// costs the next one no more than a fresh sandbox.
pub struct Session<'a> {
    invoker: &'a Arc<Invoker>,
    loaded: &'a Loaded,
    own: Caller,
    sandbox: Option<(Store<Sandbox>, SpinSqs)>,
    _permit: OwnedSemaphorePermit,
}

impl Invoker {
    /// The export of the component of `trigger` that handles its messages.
    pub fn queue_export(&self, trigger: &QueueTrigger) -> Option<QueueExport> {
        let loaded = self.components.get(&trigger.component)?;
        loaded.queue_export(trigger)
    }

    /// A store that component `id` is granted.
    pub fn store(&self, id: &ComponentId, label: &StoreLabel) -> Option<KeyValueStore> {
        let loaded = self.components.get(id)?;
        loaded.grants.stores.get(label).cloned()
    }

    /// Hands a message to component `id`, which must be done within `timeout`.
    pub async fn queue_message(
        self: &Arc<Self>,
        id: &ComponentId,
        delivery: &Delivery<'_>,
        timeout: Duration,
    ) -> Outcome<MessageAction> {
        let Some(loaded) = self.components.get(id) else {
            return unknown(id);
        };
        if let Some(pre) = &loaded.queue {
            return self
                .run_event(loaded, timeout, None, async |store| {
                    let handler = pre.instantiate_async(&mut *store).await?;
                    let answer = handler
                        .call_handle_queue_message(&mut *store, delivery.message)
                        .await?;
                    Ok(answer.map_err(|GuestError::Other(reason)| shortened(reason)))
                })
                .await;
        }
        let Some(pre) = &loaded.command else {
            return Outcome::Trap(format!("component `{id}` does not export `{QUEUE_EXPORT}`"));
        };
        let body = delivery.message.body.clone().unwrap_or_default();
        let environment = environment::of_message(delivery);
        let (run, command) = command::Run::new(pre, Bytes::from(body), environment);
        self.run_event(loaded, timeout, Some(command), async |store| {
            Ok(match run.finish(store).await? {
                Ok(()) => Ok(MessageAction::Delete),
                Err(failure) => failure.of_message(),
            })
        })
        .await
    }

    /// Hands `messages` to component `id` with one call, which must be done within
    /// `timeout`. There is an outcome for each message, or none at all.
    pub async fn queue_batch(
        self: &Arc<Self>,
        id: &ComponentId,
        messages: &[BatchMessage],
        timeout: Duration,
    ) -> Outcome<Vec<BatchOutcome>> {
        let Some(loaded) = self.components.get(id) else {
            return unknown(id);
        };
        let Some(pre) = &loaded.batch else {
            return Outcome::Trap(format!("component `{id}` does not export `{BATCH_EXPORT}`"));
        };
        self.run_event(loaded, timeout, None, async |store| {
            let handler = pre.instantiate_async(&mut *store).await?;
            let outcomes = handler.call_handle_batch(&mut *store, messages).await?;
            Ok(one_for_each(outcomes, messages.len()))
        })
        .await
    }

    /// A sandbox of component `id` for several messages, which are all done within
    /// `limit`; none where the component exports no `handle-queue-message`.
    pub async fn queue_session<'a>(
        self: &'a Arc<Self>,
        id: &ComponentId,
        limit: Duration,
    ) -> Option<Session<'a>> {
        let loaded = self.components.get(id)?;
        loaded.queue.as_ref()?;
        let permit = self.sandboxes.for_event().await?;
        Some(Session {
            invoker: self,
            loaded,
            own: Caller::Component {
                depth: 0,
                deadline: Instant::now() + limit,
            },
            sandbox: None,
            _permit: permit,
        })
    }
}

impl Session<'_> {
    /// Hands over the next message, which must be done within `timeout`.
    pub async fn message(
        &mut self,
        delivery: &Delivery<'_>,
        timeout: Duration,
    ) -> Outcome<MessageAction> {
        let loaded = self.loaded;
        let Some(pre) = &loaded.queue else {
            return Outcome::Trap(format!("no export `{QUEUE_EXPORT}`"));
        };
        let deadline = Instant::now() + timeout;
        // Not there after a message that broke it, or was cut off.
        let known = self.sandbox.take();
        let (outcome, sandbox) = self
            .invoker
            .run_on(loaded, deadline, async || {
                let (mut store, handler) = match known {
                    Some(known) => known,
                    None => {
                        let mut store = self.invoker.sandbox(loaded, self.own, None);
                        let handler = pre.instantiate_async(&mut store).await?;
                        (store, handler)
                    }
                };
                let answer = handler
                    .call_handle_queue_message(&mut store, delivery.message)
                    .await?;
                let answer = answer.map_err(|GuestError::Other(reason)| shortened(reason));
                Ok((answer, (store, handler)))
            })
            .await;
        self.sandbox = sandbox;
        outcome
    }
}

/// The outcomes, if there is one for each message. Their texts are shortened.
fn one_for_each(outcomes: Vec<BatchOutcome>, messages: usize) -> Result<Vec<BatchOutcome>, String> {
    if outcomes.len() != messages {
        return Err(format!(
            "`{BATCH_EXPORT}` returned {} outcomes for {messages} messages: return one for each, \
             in their order",
            outcomes.len()
        ));
    }
    let bounded = |outcome| match outcome {
        BatchOutcome::DeadLetter(reason) => BatchOutcome::DeadLetter(shortened(reason)),
        other => other,
    };
    Ok(outcomes.into_iter().map(bounded).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_or_surplus_outcome_fails_the_batch() {
        for returned in [0, 1, 3] {
            let outcomes = vec![BatchOutcome::Ack; returned];
            let error = one_for_each(outcomes, 2).expect_err("not one for each");
            assert!(
                error.contains(&format!("{returned} outcomes for 2")),
                "{error}"
            );
        }
        let outcomes = vec![BatchOutcome::Ack, BatchOutcome::Retry(Some(7))];
        assert_eq!(one_for_each(outcomes.clone(), 2), Ok(outcomes));
    }

    #[test]
    fn a_reason_is_not_as_long_as_a_guest_likes() {
        let outcomes = vec![BatchOutcome::DeadLetter("x".repeat(1 << 20))];
        let kept = one_for_each(outcomes, 1).expect("one for each");
        let [BatchOutcome::DeadLetter(reason)] = kept.as_slice() else {
            panic!("{kept:?}");
        };
        assert!(reason.len() < 4096, "{}", reason.len());
    }
}
