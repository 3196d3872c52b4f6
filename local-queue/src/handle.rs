//! The typed, in-process face of the queue: what callers hold.
//! Owns checks before the writer and the cancellation of receives; refuses to know SQL and HTTP.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::attributes::{AttributeChanges, QueueDescription, RedrivePolicy};
use crate::digest::Md5Digest;
use crate::errors::{OpenError, QueueError};
use crate::limits;
use crate::model::{
    BatchEntry, BatchOutcome, Deletion, Depth, Message, MessageAttribute, MessageId, MoveRequest,
    MoveTask, OutgoingMessage, QueueName, QueuePage, ReceiptHandle, ReceiveOptions, SentMessage,
    VisibilityChange,
};
use crate::operation::{Op, PolicyChange, Receiver, Slot};
use crate::policy::Permission;
use crate::store::{PreparedMessage, Store, Stored, Take, too_many_tags};
use crate::validate;
use crate::writer::{Clock, Writer};

/// How to open a queue directory.
#[derive(Clone, Debug)]
pub struct Options {
    /// The region in ARNs.
    pub region: String,
    /// The most bytes that the database may grow to; beyond it sends fail with
    /// [`QueueError::Storage`] and everything else goes on. `None` leaves it to the disk.
    pub max_database_bytes: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            region: "us-east-1".to_owned(),
            max_database_bytes: None,
        }
    }
}

/// A durable set of queues in one directory. Cloning is cheap; every clone is the same queues.
///
/// A send that returned is on disk. Dropping the last clone finishes what was accepted and gives
/// the directory back, which may block for the time of a commit; [`LocalQueue::close`] does the
/// same without blocking.
#[derive(Clone, Debug)]
pub struct LocalQueue {
    // Fields drop in order: the last clone's sender goes before the thread is joined.
    writer: mpsc::Sender<Op>,
    thread: Arc<WriterThread>,
    region: Arc<str>,
}

/// Joins the writer when the last handle goes.
#[derive(Debug)]
struct WriterThread {
    handle: Option<JoinHandle<()>>,
    /// Closed by the writer as its last act.
    ended: mpsc::Sender<()>,
}

impl Drop for WriterThread {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take()
            && handle.join().is_err()
        {
            tracing::error!("the queue's writer thread panicked");
        }
    }
}

impl LocalQueue {
    /// Opens or creates the queues in `dir`. Blocks while the database is read (a second for
    /// some millions of messages). Refuses a directory that is open elsewhere.
    pub fn open(dir: &Path, options: Options) -> Result<Self, OpenError> {
        let mut clock = Clock::new();
        let region = options.region.as_str().into();
        let store = Store::open(dir, options.region, options.max_database_bytes, clock.now())?;
        let (sender, inbox) = mpsc::channel(limits::WRITER_CHANNEL);
        let (ended, end) = mpsc::channel(1);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(OpenError::Thread)?;
        let handle = std::thread::Builder::new()
            .name("local-queue".to_owned())
            .spawn(move || {
                // Dropped last, after the database is closed and unlocked.
                let _end = end;
                Writer::new(store, inbox, clock).run(&runtime);
            })
            .map_err(OpenError::Thread)?;
        let thread = Arc::new(WriterThread {
            handle: Some(handle),
            ended,
        });
        Ok(Self {
            writer: sender,
            thread,
            region,
        })
    }

    /// Stops taking operations, finishes those accepted, ends long polls with nothing, and waits
    /// until the directory is free. Every clone is closed; closing again is fine.
    pub async fn close(&self) {
        // An error means that the writer has ended already.
        drop(self.writer.send(Op::Close).await);
        self.thread.ended.closed().await;
    }

    /// Creates a queue, or accepts an existing one whose attributes agree with `changes`
    /// (SQS API Reference, `CreateQueue`).
    pub async fn create_queue(
        &self,
        queue: &QueueName,
        changes: AttributeChanges,
    ) -> Result<(), QueueError> {
        self.create_tagged_queue(queue, changes, BTreeMap::new())
            .await
    }

    /// As [`Self::create_queue`]; a queue that is new gets `tags`.
    pub async fn create_tagged_queue(
        &self,
        queue: &QueueName,
        changes: AttributeChanges,
        tags: BTreeMap<String, String>,
    ) -> Result<(), QueueError> {
        changes.check()?;
        if !tags.is_empty() {
            validate::tags(&tags)?;
        }
        if tags.len() > limits::MAX_TAGS {
            return Err(too_many_tags(queue));
        }
        let queue = queue.clone();
        self.call(|slot| Op::Create {
            queue,
            changes,
            tags,
            slot,
        })
        .await
    }

    /// Creates `NAME` and `NAME-dlq` where they are absent: visibility timeout 30 s, dead-letter
    /// after 5 receives. Leaves an existing queue as it is.
    pub async fn ensure_queue_with_dlq(&self, queue: &QueueName) -> Result<(), QueueError> {
        if self.exists(queue).await? {
            return Ok(());
        }
        let dead_letter = queue.dead_letter()?;
        if !self.exists(&dead_letter).await? {
            let changes = AttributeChanges {
                fifo: queue.is_fifo().then_some(true),
                ..AttributeChanges::default()
            };
            self.create_queue(&dead_letter, changes).await?;
        }
        let redrive = RedrivePolicy {
            target_arn: self.queue_arn(&dead_letter),
            max_receive_count: 5,
        };
        let changes = AttributeChanges {
            visibility_secs: Some(30),
            redrive: Some(Some(redrive)),
            fifo: queue.is_fifo().then_some(true),
            ..AttributeChanges::default()
        };
        match self.create_queue(queue, changes).await {
            // Somebody else created it in between.
            Err(QueueError::QueueNameExists { .. }) => Ok(()),
            other => other,
        }
    }

    /// Whether a queue of this name exists.
    pub async fn exists(&self, queue: &QueueName) -> Result<bool, QueueError> {
        match self.describe(queue).await {
            Ok(_) => Ok(true),
            Err(QueueError::QueueDoesNotExist) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The ARN that a queue of this name has here.
    pub fn queue_arn(&self, queue: &QueueName) -> String {
        format!(
            "arn:aws:sqs:{}:{}:{queue}",
            self.region,
            crate::model::ACCOUNT_ID
        )
    }

    /// Settings, timestamps and depth of a queue (SQS API Reference, `GetQueueAttributes`).
    pub async fn describe(&self, queue: &QueueName) -> Result<QueueDescription, QueueError> {
        let queue = queue.clone();
        self.call(|slot| Op::Describe { queue, slot }).await
    }

    /// The number of messages by state; counted in memory, so cheap at any depth.
    pub async fn depth(&self, queue: &QueueName) -> Result<Depth, QueueError> {
        Ok(self.describe(queue).await?.depth)
    }

    /// Changes a queue's settings (SQS API Reference, `SetQueueAttributes`); at once, where SQS
    /// may take a minute.
    pub async fn set_attributes(
        &self,
        queue: &QueueName,
        changes: AttributeChanges,
    ) -> Result<(), QueueError> {
        changes.check()?;
        let queue = queue.clone();
        self.call(|slot| Op::Set {
            queue,
            changes,
            slot,
        })
        .await
    }

    /// Names that begin with `prefix`, in alphabetical order; at most `max` (1 to 1,000) for a
    /// page. Without `max` there is one page of at most 1,000 (SQS API Reference, `ListQueues`).
    pub async fn list_queues(
        &self,
        prefix: &str,
        max: Option<usize>,
        next_token: Option<String>,
    ) -> Result<QueuePage, QueueError> {
        check_page(max)?;
        let prefix = prefix.to_owned();
        self.call(|slot| Op::List {
            prefix,
            max,
            after: next_token,
            slot,
        })
        .await
    }

    /// The queues whose dead-letter queue this is, in pages as in [`Self::list_queues`]
    /// (SQS API Reference, `ListDeadLetterSourceQueues`).
    pub async fn list_dead_letter_sources(
        &self,
        queue: &QueueName,
        max: Option<usize>,
        next_token: Option<String>,
    ) -> Result<QueuePage, QueueError> {
        check_page(max)?;
        let queue = queue.clone();
        self.call(|slot| Op::ListSources {
            queue,
            max,
            after: next_token,
            slot,
        })
        .await
    }

    /// Adds tags to a queue, 50 at most, or gives them other values (SQS API Reference,
    /// `TagQueue`).
    pub async fn tag_queue(
        &self,
        queue: &QueueName,
        tags: BTreeMap<String, String>,
    ) -> Result<(), QueueError> {
        validate::tags(&tags)?;
        let queue = queue.clone();
        self.call(|slot| Op::Tag { queue, tags, slot }).await
    }

    /// Takes tags from a queue (SQS API Reference, `UntagQueue`).
    pub async fn untag_queue(
        &self,
        queue: &QueueName,
        keys: Vec<String>,
    ) -> Result<(), QueueError> {
        if keys.is_empty() {
            return Err(QueueError::MissingParameter("TagKeys"));
        }
        let queue = queue.clone();
        self.call(|slot| Op::Untag { queue, keys, slot }).await
    }

    /// A queue's tags (SQS API Reference, `ListQueueTags`).
    pub async fn queue_tags(
        &self,
        queue: &QueueName,
    ) -> Result<BTreeMap<String, String>, QueueError> {
        let queue = queue.clone();
        self.call(|slot| Op::Tags { queue, slot }).await
    }

    /// Adds a statement to a queue's policy (SQS API Reference, `AddPermission`). The policy is
    /// kept and returned, and changes nothing here.
    pub async fn add_permission(
        &self,
        queue: &QueueName,
        permission: Permission,
    ) -> Result<(), QueueError> {
        permission.check()?;
        let queue = queue.clone();
        let change = PolicyChange::Add(permission);
        self.call(|slot| Op::ChangePolicy {
            queue,
            change,
            slot,
        })
        .await
    }

    /// Takes a statement from a queue's policy (SQS API Reference, `RemovePermission`).
    pub async fn remove_permission(
        &self,
        queue: &QueueName,
        label: String,
    ) -> Result<(), QueueError> {
        let queue = queue.clone();
        let change = PolicyChange::Remove { label };
        self.call(|slot| Op::ChangePolicy {
            queue,
            change,
            slot,
        })
        .await
    }

    /// Begins to move what is visible in a dead-letter queue, as new messages, and returns the
    /// task's handle (SQS API Reference, `StartMessageMoveTask`). The task goes on after a restart.
    pub async fn start_move_task(&self, request: MoveRequest) -> Result<String, QueueError> {
        if request
            .per_second
            .is_some_and(|rate| !limits::MOVE_RATE.contains(&rate))
        {
            return Err(QueueError::InvalidParameter(
                "Value for parameter MaxNumberOfMessagesPerSecond is invalid. Reason: You must \
                 enter a number that's between 1 and 500."
                    .to_owned(),
            ));
        }
        self.call(|slot| Op::StartMove { request, slot }).await
    }

    /// Ends a task that runs; returns how many messages it has moved, which stay where they are
    /// (SQS API Reference, `CancelMessageMoveTask`).
    pub async fn cancel_move_task(&self, handle: String) -> Result<u64, QueueError> {
        self.call(|slot| Op::CancelMove { handle, slot }).await
    }

    /// The last tasks of a source queue, at most 10, the latest first
    /// (SQS API Reference, `ListMessageMoveTasks`).
    pub async fn list_move_tasks(
        &self,
        source_arn: String,
        max: usize,
    ) -> Result<Vec<MoveTask>, QueueError> {
        if !(1..=limits::MAX_LISTED_MOVE_TASKS).contains(&max) {
            return Err(QueueError::InvalidParameter(
                "Value for parameter MaxResults is invalid. Reason: You must enter a number that's \
                 between 1 and 10."
                    .to_owned(),
            ));
        }
        self.call(|slot| Op::ListMoves {
            source_arn,
            max,
            slot,
        })
        .await
    }

    /// Deletes a queue and its messages; the name is free at once (SQS makes one wait 60 s).
    pub async fn delete_queue(&self, queue: &QueueName) -> Result<(), QueueError> {
        let queue = queue.clone();
        self.call(|slot| Op::DeleteQueue { queue, slot }).await
    }

    /// Deletes a queue's messages, at once and as often as wanted (SQS takes up to 60 s and
    /// refuses a second purge meanwhile).
    pub async fn purge_queue(&self, queue: &QueueName) -> Result<(), QueueError> {
        let queue = queue.clone();
        self.call(|slot| Op::Purge { queue, slot }).await
    }

    /// Stores a message; on return it is on disk (SQS API Reference, `SendMessage`).
    pub async fn send(
        &self,
        queue: &QueueName,
        message: OutgoingMessage,
    ) -> Result<SentMessage, QueueError> {
        let (prepared, mut sent) = prepare(queue, message)?;
        validate::check_size(prepared.bytes, limits::MAX_MESSAGE_BYTES, false)?;
        let queue = queue.clone();
        let messages = vec![prepared];
        let results = self
            .call(|slot| Op::Send {
                queue,
                messages,
                in_batch: false,
                slot,
            })
            .await?;
        one(results).map(|stored| {
            sent.became(&stored);
            sent
        })
    }

    /// Stores up to 10 messages, 1 MiB together; each succeeds or fails on its own, in the order
    /// of the entries (SQS API Reference, `SendMessageBatch`).
    pub async fn send_batch(
        &self,
        queue: &QueueName,
        entries: Vec<BatchEntry<OutgoingMessage>>,
    ) -> Result<Vec<BatchOutcome<SentMessage>>, QueueError> {
        validate::batch(validate::SEND_ENTRY, &entries)?;
        let checked: Vec<_> = entries
            .into_iter()
            .map(|entry| (entry.id, prepare(queue, entry.item)))
            .collect();
        let limit = limits::MAX_MESSAGE_BYTES;
        let bytes = checked
            .iter()
            .flat_map(|(_, p)| p)
            .map(|(p, _)| p.bytes)
            .sum();
        if bytes > limit as usize {
            return Err(QueueError::BatchRequestTooLong { limit, bytes });
        }
        let mut messages = Vec::new();
        let mut waiting = Vec::new();
        for (id, prepared) in checked {
            let result = prepared.map(|(message, sent)| {
                messages.push(message);
                sent
            });
            waiting.push(BatchOutcome { id, result });
        }
        let queue = queue.clone();
        let mut stored = self
            .call(|slot| Op::Send {
                queue,
                messages,
                in_batch: true,
                slot,
            })
            .await?
            .into_iter();
        for outcome in &mut waiting {
            if let Ok(sent) = &mut outcome.result {
                match stored.next().unwrap_or(Err(QueueError::Closed)) {
                    Ok(stored) => sent.became(&stored),
                    Err(error) => outcome.result = Err(error),
                }
            }
        }
        Ok(waiting)
    }

    /// Receives up to `max` messages, waiting for a first one as long as `wait` says
    /// (SQS API Reference, `ReceiveMessage`).
    ///
    /// Cancel-safe: messages on their way to a future that is dropped are given back at once and
    /// not counted as received (should the writer's channel be full, they wait for their
    /// visibility timeout).
    pub async fn receive(
        &self,
        queue: &QueueName,
        options: ReceiveOptions,
    ) -> Result<Vec<Message>, QueueError> {
        self.receive_attempt(queue, options, None).await
    }

    /// As [`Self::receive`]. On a FIFO queue, a receive that repeats an earlier one's `attempt_id`
    /// within five minutes gets the same messages again, if nothing else happened to them since
    /// (SQS API Reference, `ReceiveMessage`, `ReceiveRequestAttemptId`).
    pub async fn receive_attempt(
        &self,
        queue: &QueueName,
        options: ReceiveOptions,
        attempt_id: Option<String>,
    ) -> Result<Vec<Message>, QueueError> {
        validate::fifo_id("ReceiveRequestAttemptId", attempt_id.as_deref())?;
        if let Some(value) = attempt_id.as_ref().filter(|_| !queue.is_fifo()) {
            return Err(QueueError::NotOfThisQueueType {
                parameter: "ReceiveRequestAttemptId",
                value: value.clone(),
            });
        }
        if !(1..=limits::MAX_BATCH_ENTRIES).contains(&options.max) {
            return Err(validate::max_messages(&options.max));
        }
        let longest = Duration::from_secs(limits::MAX_WAIT_SECS.into());
        if let Some(wait) = options.wait.filter(|wait| *wait > longest) {
            return Err(validate::WAIT.refusal(&wait.as_secs_f64()));
        }
        validate::VISIBILITY.check(options.visibility_secs)?;
        let take = Take {
            max: options.max,
            visibility_secs: options.visibility_secs,
            attempt_id: attempt_id.map(Arc::from),
        };
        let (reply, answer) = oneshot::channel();
        let mut pending = PendingReceive {
            queue,
            writer: &self.writer,
            answer,
        };
        let receiver = Receiver::new(queue.clone(), take, options.wait);
        let op = Op::Receive {
            receiver,
            slot: Slot::new(reply),
        };
        self.writer.send(op).await.map_err(|_| QueueError::Closed)?;
        (&mut pending.answer)
            .await
            .map_err(|_| QueueError::Closed)?
    }

    /// Deletes a received message. All three [`Deletion`]s are SQS's success; only the latest
    /// receipt handle of a message deletes it (SQS API Reference, `DeleteMessage`). A FIFO queue
    /// refuses a handle whose visibility timeout is over
    /// ([`QueueError::ReceiptHandleHasExpired`]).
    pub async fn delete(
        &self,
        queue: &QueueName,
        handle: ReceiptHandle,
    ) -> Result<Deletion, QueueError> {
        let queue = queue.clone();
        let handles = vec![handle];
        one(self
            .call(|slot| Op::Delete {
                queue,
                handles,
                slot,
            })
            .await?)
    }

    /// Deletes up to 10 received messages, each on its own.
    pub async fn delete_batch(
        &self,
        queue: &QueueName,
        entries: Vec<BatchEntry<ReceiptHandle>>,
    ) -> Result<Vec<BatchOutcome<Deletion>>, QueueError> {
        validate::batch(validate::DELETE_ENTRY, &entries)?;
        let (ids, handles) = entries.into_iter().map(|e| (e.id, e.item)).unzip();
        let queue = queue.clone();
        let results = self
            .call(|slot| Op::Delete {
                queue,
                handles,
                slot,
            })
            .await?;
        Ok(outcomes(ids, results))
    }

    /// Hides a message in flight for so many seconds from now; 0 makes it visible at once
    /// (SQS API Reference, `ChangeMessageVisibility`). It is hidden for at most 12 hours from its
    /// receive on ([`QueueError::TotalVisibilityTooLong`]).
    pub async fn change_visibility(
        &self,
        queue: &QueueName,
        handle: ReceiptHandle,
        visibility_secs: u32,
    ) -> Result<(), QueueError> {
        let change = VisibilityChange {
            receipt_handle: handle,
            visibility_secs,
        };
        let entries = vec![BatchEntry::new("0", change)];
        let outcomes = self.change_visibility_batch(queue, entries).await?;
        one(outcomes.into_iter().map(|outcome| outcome.result).collect())
    }

    /// Changes the visibility of up to 10 messages, each on its own.
    pub async fn change_visibility_batch(
        &self,
        queue: &QueueName,
        entries: Vec<BatchEntry<VisibilityChange>>,
    ) -> Result<Vec<BatchOutcome<()>>, QueueError> {
        validate::batch(validate::VISIBILITY_ENTRY, &entries)?;
        let mut changes = Vec::new();
        let mut waiting = Vec::new();
        for BatchEntry { id, item } in entries {
            let secs = Some(item.visibility_secs);
            let result = validate::CHANGED_VISIBILITY.check(secs);
            if result.is_ok() {
                changes.push(item);
            }
            waiting.push(BatchOutcome { id, result });
        }
        let queue = queue.clone();
        let results = self
            .call(|slot| Op::ChangeVisibility {
                queue,
                changes,
                slot,
            })
            .await?;
        let mut results = results.into_iter();
        for outcome in waiting.iter_mut().filter(|outcome| outcome.result.is_ok()) {
            outcome.result = results.next().unwrap_or(Err(QueueError::Closed));
        }
        Ok(waiting)
    }

    async fn call<T>(&self, op: impl FnOnce(Slot<T>) -> Op) -> Result<T, QueueError> {
        let (reply, answer) = oneshot::channel();
        self.writer
            .send(op(Slot::new(reply)))
            .await
            .map_err(|_| QueueError::Closed)?;
        answer.await.map_err(|_| QueueError::Closed)?
    }
}

/// The caller's end of a receive. Dropped with messages inside, it gives them back.
struct PendingReceive<'a> {
    queue: &'a QueueName,
    writer: &'a mpsc::Sender<Op>,
    answer: oneshot::Receiver<Result<Vec<Message>, QueueError>>,
}

impl Drop for PendingReceive<'_> {
    fn drop(&mut self) {
        // From here on the writer finds the channel closed and keeps its messages.
        self.answer.close();
        let Ok(Ok(messages)) = self.answer.try_recv() else {
            return;
        };
        if messages.is_empty() {
            return;
        }
        let handles = messages.into_iter().map(|m| m.receipt_handle).collect();
        let release = Op::Release {
            queue: self.queue.clone(),
            handles,
        };
        if self.writer.try_send(release).is_err() {
            tracing::debug!(queue = %self.queue, "a cancelled receive waits for its visibility timeout");
        }
    }
}

fn check_page(max: Option<usize>) -> Result<(), QueueError> {
    if max.is_some_and(|max| !(1..=limits::MAX_LIST_RESULTS).contains(&max)) {
        return Err(QueueError::InvalidParameter(
            "Value for parameter MaxResults is invalid. Reason: MaxResults must be an integer \
             between 1 and 1000."
                .to_owned(),
        ));
    }
    Ok(())
}

impl SentMessage {
    /// What the writer made of it: of a duplicate, the first message.
    fn became(&mut self, stored: &Stored) {
        self.id = stored.id;
        self.sequence_number = stored.sequence_number;
    }
}

/// Checks and digests a message on the caller's thread, to keep the writer's work short.
fn prepare(
    queue: &QueueName,
    message: OutgoingMessage,
) -> Result<(PreparedMessage, SentMessage), QueueError> {
    let bytes = validate::message_size(&message)?;
    let id = MessageId(Uuid::new_v4());
    let trace = message.trace_header.as_ref();
    let system = trace
        .map(|trace| ("AWSTraceHeader".to_owned(), MessageAttribute::string(trace)))
        .into_iter()
        .collect();
    let sent = SentMessage {
        id,
        body_md5: Md5Digest::of_body(&message.body),
        attributes_md5: Md5Digest::of_attributes(&message.attributes),
        system_attributes_md5: Md5Digest::of_attributes(&system),
        sequence_number: None,
    };
    let attributes = if message.attributes.is_empty() {
        None
    } else {
        let json = serde_json::to_string(&message.attributes)
            .map_err(|error| QueueError::InvalidParameter(error.to_string()))?;
        Some(json)
    };
    let by_content = queue.is_fifo() && message.deduplication_id.is_none();
    let body_sha256 = by_content.then(|| hex(&Sha256::digest(message.body.as_bytes())));
    let prepared = PreparedMessage {
        id,
        body_md5: sent.body_md5,
        body: message.body,
        attributes,
        trace_header: message.trace_header,
        delay_secs: message.delay_secs,
        group_id: message.group_id,
        deduplication_id: message.deduplication_id,
        body_sha256,
        bytes,
    };
    Ok((prepared, sent))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}

/// The writer answers a request of one with one result.
fn one<T>(results: Vec<Result<T, QueueError>>) -> Result<T, QueueError> {
    results
        .into_iter()
        .next()
        .unwrap_or(Err(QueueError::Closed))
}

fn outcomes<T>(ids: Vec<String>, results: Vec<Result<T, QueueError>>) -> Vec<BatchOutcome<T>> {
    ids.into_iter()
        .zip(results)
        .map(|(id, result)| BatchOutcome { id, result })
        .collect()
}
