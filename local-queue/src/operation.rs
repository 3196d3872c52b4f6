//! What the writer can be asked, and how each request runs inside a transaction.
//! Owns requests and the outcomes that wait for the commit; refuses to know groups and threads.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::attributes::{AttributeChanges, QueueDescription};
use crate::errors::{QueueError, StorageError};
use crate::limits;
use crate::model::{
    Deletion, Message, MoveRequest, MoveTask, QueueName, QueuePage, ReceiptHandle, VisibilityChange,
};
use crate::policy::Permission;
use crate::store::{PreparedMessage, Store, Stored, Take};

/// Where an operation's outcome waits for the commit.
pub(crate) struct Slot<T> {
    pub(crate) outcome: Option<Result<T, QueueError>>,
    pub(crate) reply: oneshot::Sender<Result<T, QueueError>>,
}

impl<T> Slot<T> {
    pub(crate) fn new(reply: oneshot::Sender<Result<T, QueueError>>) -> Self {
        Self {
            outcome: None,
            reply,
        }
    }

    /// Keeps an outcome; a storage failure is handed up instead, to undo the group.
    fn fill(&mut self, outcome: Result<T, QueueError>) -> Result<(), StorageError> {
        if let Err(QueueError::Storage(error)) = outcome {
            return Err(error);
        }
        self.outcome = Some(outcome);
        Ok(())
    }

    /// Answers after the commit. A caller that went away does not mind.
    pub(crate) fn answer(self, committed: Result<(), StorageError>) {
        let outcome = match (committed, self.outcome) {
            (Ok(()), Some(outcome)) => outcome,
            (Ok(()), None) => Err(QueueError::Closed),
            (Err(error), _) => Err(QueueError::Storage(error)),
        };
        drop(self.reply.send(outcome));
    }
}

type Each<T> = Vec<Result<T, QueueError>>;

/// What the writer can be asked.
pub(crate) enum Op {
    Create {
        queue: QueueName,
        changes: AttributeChanges,
        tags: BTreeMap<String, String>,
        slot: Slot<()>,
    },
    Set {
        queue: QueueName,
        changes: AttributeChanges,
        slot: Slot<()>,
    },
    DeleteQueue {
        queue: QueueName,
        slot: Slot<()>,
    },
    Purge {
        queue: QueueName,
        slot: Slot<()>,
    },
    Describe {
        queue: QueueName,
        slot: Slot<QueueDescription>,
    },
    List {
        prefix: String,
        max: Option<usize>,
        after: Option<String>,
        slot: Slot<QueuePage>,
    },
    /// The queues whose dead-letter queue this is.
    ListSources {
        queue: QueueName,
        max: Option<usize>,
        after: Option<String>,
        slot: Slot<QueuePage>,
    },
    Tag {
        queue: QueueName,
        tags: BTreeMap<String, String>,
        slot: Slot<()>,
    },
    Untag {
        queue: QueueName,
        keys: Vec<String>,
        slot: Slot<()>,
    },
    Tags {
        queue: QueueName,
        slot: Slot<BTreeMap<String, String>>,
    },
    ChangePolicy {
        queue: QueueName,
        change: PolicyChange,
        slot: Slot<()>,
    },
    StartMove {
        request: MoveRequest,
        slot: Slot<String>,
    },
    CancelMove {
        handle: String,
        slot: Slot<u64>,
    },
    ListMoves {
        source_arn: String,
        max: usize,
        slot: Slot<Vec<MoveTask>>,
    },
    Send {
        queue: QueueName,
        messages: Vec<PreparedMessage>,
        in_batch: bool,
        slot: Slot<Each<Stored>>,
    },
    Delete {
        queue: QueueName,
        handles: Vec<ReceiptHandle>,
        slot: Slot<Each<Deletion>>,
    },
    ChangeVisibility {
        queue: QueueName,
        changes: Vec<VisibilityChange>,
        slot: Slot<Each<()>>,
    },
    Receive {
        receiver: Receiver,
        slot: Slot<Vec<Message>>,
    },
    /// Messages that reached nobody; there is nobody to answer.
    Release {
        queue: QueueName,
        handles: Vec<ReceiptHandle>,
    },
    /// Finish what waits, then stop.
    Close,
}

/// What becomes of a queue's policy.
pub(crate) enum PolicyChange {
    Add(Permission),
    Remove { label: String },
}

/// Who receives, what, and until when.
pub(crate) struct Receiver {
    pub(crate) queue: QueueName,
    pub(crate) take: Take,
    /// `None` waits as long as the queue's settings say.
    pub(crate) wait: Option<Duration>,
    /// Set when the receiver first found nothing.
    pub(crate) deadline: Option<Instant>,
}

impl Receiver {
    pub(crate) fn new(queue: QueueName, take: Take, wait: Option<Duration>) -> Self {
        Self {
            queue,
            take,
            wait,
            deadline: None,
        }
    }
}

impl Op {
    /// Whether the operation must be on disk before it is answered. Losing a receive, a delete or
    /// a visibility change to a power failure means a redelivery, which SQS allows.
    pub(crate) fn is_durable(&self) -> bool {
        matches!(
            self,
            Self::Send { .. }
                | Self::Create { .. }
                | Self::Set { .. }
                | Self::DeleteQueue { .. }
                | Self::Purge { .. }
                | Self::Tag { .. }
                | Self::Untag { .. }
                | Self::ChangePolicy { .. }
                | Self::StartMove { .. }
                | Self::CancelMove { .. }
        )
    }

    /// Runs inside the group's transaction; may run again after the group was undone.
    pub(crate) fn run(&mut self, store: &mut Store, now: u64) -> Result<(), StorageError> {
        match self {
            Self::Create {
                queue,
                changes,
                tags,
                slot,
            } => slot.fill(store.create_queue(queue, changes, tags, now)),
            Self::Set {
                queue,
                changes,
                slot,
            } => slot.fill(store.set_attributes(queue, changes, now)),
            Self::DeleteQueue { queue, slot } => slot.fill(store.delete_queue(queue)),
            Self::Purge { queue, slot } => slot.fill(store.purge_queue(queue)),
            Self::Describe { queue, slot } => slot.fill(store.describe(queue, now)),
            Self::List {
                prefix,
                max,
                after,
                slot,
            } => slot.fill(Ok(store.list_queues(prefix, *max, after.as_deref()))),
            Self::ListSources {
                queue,
                max,
                after,
                slot,
            } => slot.fill(store.list_sources(queue, *max, after.as_deref())),
            Self::Tag { queue, tags, slot } => slot.fill(store.tag(queue, tags)),
            Self::Untag { queue, keys, slot } => slot.fill(store.untag(queue, keys)),
            Self::Tags { queue, slot } => slot.fill(store.tags(queue)),
            Self::ChangePolicy {
                queue,
                change,
                slot,
            } => slot.fill(store.change_policy(queue, change, now)),
            Self::StartMove { request, slot } => slot.fill(store.start_move(request, now)),
            Self::CancelMove { handle, slot } => slot.fill(store.cancel_move(handle)),
            Self::ListMoves {
                source_arn,
                max,
                slot,
            } => slot.fill(store.list_moves(source_arn, *max)),
            Self::Send {
                queue,
                messages,
                in_batch,
                slot,
            } => slot.fill(store.send(queue, messages, *in_batch, now)),
            Self::Delete {
                queue,
                handles,
                slot,
            } => slot.fill(
                store
                    .describe(queue, now)
                    .and_then(|_| each(handles, |handle| store.delete(queue, handle, now))),
            ),
            Self::ChangeVisibility {
                queue,
                changes,
                slot,
            } => slot.fill(store.describe(queue, now).and_then(|_| {
                each(changes, |change| {
                    let secs = change.visibility_secs;
                    store.change_visibility(queue, &change.receipt_handle, secs, now)
                })
            })),
            Self::Receive { receiver, slot } => run_receive(receiver, slot, store, now),
            Self::Release { queue, handles } => release(store, queue, handles, now),
            Self::Close => Ok(()),
        }
    }
}

/// Entries fail on their own, but a storage failure is the whole operation's.
fn each<I, T>(
    items: &[I],
    mut work: impl FnMut(&I) -> Result<T, QueueError>,
) -> Result<Each<T>, QueueError> {
    let mut results = Vec::with_capacity(items.len());
    for item in items {
        match work(item) {
            Err(QueueError::Storage(error)) => return Err(error.into()),
            result => results.push(result),
        }
    }
    Ok(results)
}

/// Takes messages, or leaves the slot empty and sets the deadline when the receiver is to wait.
fn run_receive(
    receiver: &mut Receiver,
    slot: &mut Slot<Vec<Message>>,
    store: &mut Store,
    now: u64,
) -> Result<(), StorageError> {
    // The group may have been undone, and with it what this receive took before.
    slot.outcome = None;
    receiver.deadline = None;
    if slot.reply.is_closed() {
        return slot.fill(Ok(Vec::new()));
    }
    let wait = match (receiver.wait, store.receive_wait_secs(&receiver.queue)) {
        (_, Err(error)) => return slot.fill(Err(error)),
        (Some(wait), Ok(_)) => wait,
        (None, Ok(secs)) => Duration::from_secs(secs.into()),
    };
    let taken = store.take(&receiver.queue, &receiver.take, now);
    match taken.map(|taken| taken.messages) {
        Ok(messages) if messages.is_empty() && !wait.is_zero() => {
            // A long poll waits for room; only a short poll is told about the limit
            // (SQS API Reference, ReceiveMessage).
            receiver.deadline = Some(Instant::now() + wait);
            Ok(())
        }
        Ok(messages) if messages.is_empty() => {
            let over = store.is_over_limit(&receiver.queue);
            let limit = limits::MAX_IN_FLIGHT;
            slot.fill(over.and_then(|over| {
                if over {
                    Err(QueueError::OverLimit { limit })
                } else {
                    Ok(messages)
                }
            }))
        }
        outcome => slot.fill(outcome),
    }
}

pub(crate) fn release(
    store: &mut Store,
    queue: &QueueName,
    handles: &[ReceiptHandle],
    now: u64,
) -> Result<(), StorageError> {
    for handle in handles {
        // Any other error: the queue may be gone by now, and its messages with it.
        if let Err(QueueError::Storage(error)) = store.release(queue, handle, now) {
            return Err(error);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first failure")]

    use super::*;
    use crate::model::MessageId;

    /// A group that fails is undone and its operations run again.
    #[test]
    fn a_receive_that_runs_again_forgets_what_was_undone() {
        const NOW: u64 = 1_700_000_000_000;
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path(), "r".to_owned(), None, NOW).unwrap();
        let name = QueueName::parse("q").unwrap();
        store.begin(true).unwrap();
        store
            .create_queue(&name, &AttributeChanges::default(), &BTreeMap::new(), NOW)
            .unwrap();
        store.commit().unwrap();

        let (reply, _answer) = oneshot::channel();
        let mut slot = Slot::new(reply);
        let take = Take {
            max: 1,
            visibility_secs: None,
            attempt_id: None,
        };
        let mut receiver = Receiver::new(name.clone(), take, Some(Duration::from_secs(20)));
        store.begin(true).unwrap();
        let message = PreparedMessage {
            id: MessageId(uuid::Uuid::new_v4()),
            body: "x".to_owned(),
            body_md5: crate::Md5Digest::of_body("x"),
            attributes: None,
            trace_header: None,
            delay_secs: None,
            group_id: None,
            deduplication_id: None,
            body_sha256: None,
            bytes: 1,
        };
        store.send(&name, &[message], false, NOW).unwrap();
        run_receive(&mut receiver, &mut slot, &mut store, NOW).unwrap();
        assert_eq!(slot.outcome.as_ref().unwrap().as_ref().unwrap().len(), 1);
        store.roll_back(NOW).unwrap();

        store.begin(false).unwrap();
        run_receive(&mut receiver, &mut slot, &mut store, NOW).unwrap();
        assert!(slot.outcome.is_none() && receiver.deadline.is_some());
    }
}
