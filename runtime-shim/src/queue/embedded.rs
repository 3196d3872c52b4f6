//! The embedded queue: served over SQS for everybody else, called directly by
//! the consumers in this process, which saves them the protocol.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use local_queue::{
    BatchEntry, BatchOutcome, Deletion, Depth, LocalQueue, MessageAttribute, OpenError, Options,
    OutgoingMessage, QueueError, QueueName, ReceiptHandle, ReceiveOptions, Server,
    VisibilityChange,
};

use super::message::{AttributeValue, CustomAttribute, Receipt, Received};
use super::source::{
    ConnectError, EntryOutcome, QueueFacts, REASON_ATTRIBUTE, Redrive, SourceError, is_fifo,
    queue_of_arn,
};
use crate::app::QueueUrl;
use crate::embedded_origin::origin_of;

/// Why the embedded queue cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// Its files.
    #[error("cannot open the embedded queue in `{}`: {source}", dir.display())]
    Open {
        /// Where it keeps its messages.
        dir: PathBuf,
        /// What is wrong.
        source: OpenError,
    },
    /// Its address.
    #[error(
        "cannot serve the embedded queue on {address}: {source}: choose another address with `{flag}`"
    )]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
        /// The flag that sets it.
        flag: &'static str,
    },
    /// A queue that could not be made.
    #[error("cannot create the embedded queue `{name}`: {source}")]
    Create {
        /// The queue.
        name: String,
        /// What is wrong.
        source: QueueError,
    },
}

/// The embedded queue.
#[derive(Clone)]
pub struct EmbeddedQueue {
    queue: LocalQueue,
    origin: Arc<str>,
}

impl EmbeddedQueue {
    /// Opens the messages in `dir` and binds `address`, which `flag` sets. The
    /// server is to be served by the caller.
    pub async fn open(
        dir: &Path,
        address: SocketAddr,
        flag: &'static str,
    ) -> Result<(Self, Server), EmbeddedError> {
        let queue =
            LocalQueue::open(dir, Options::default()).map_err(|source| EmbeddedError::Open {
                dir: dir.to_owned(),
                source,
            })?;
        let server = Server::bind(address, queue.clone())
            .await
            .map_err(|source| EmbeddedError::Bind {
                address,
                source,
                flag,
            })?;
        let origin = origin_of(server.local_addr()).into();
        Ok((Self { queue, origin }, server))
    }

    /// `http://host:port` where it is served.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Creates queue `name` and its dead-letter queue, unless they exist.
    pub async fn ensure(&self, name: &str) -> Result<(), EmbeddedError> {
        let create = async {
            self.queue
                .ensure_queue_with_dlq(&QueueName::parse(name)?)
                .await
        };
        create.await.map_err(|source| EmbeddedError::Create {
            name: name.to_owned(),
            source,
        })
    }

    /// The messages in every queue, by state.
    pub async fn depths(&self) -> Vec<(String, Depth)> {
        let mut depths = Vec::new();
        let mut after = None;
        loop {
            let Ok(page) = self.queue.list_queues("", Some(1000), after).await else {
                return depths;
            };
            for name in page.names {
                if let Ok(depth) = self.queue.depth(&name).await {
                    depths.push((name.to_string(), depth));
                }
            }
            after = page.next_token;
            if after.is_none() {
                return depths;
            }
        }
    }

    /// The queue at `url`, to consume.
    pub(super) async fn source(&self, url: &QueueUrl) -> Result<EmbeddedSource, ConnectError> {
        let find = async {
            let name = QueueName::parse(url.name())?;
            let description = self.queue.describe(&name).await?;
            Ok::<_, QueueError>((name, description))
        };
        let (name, description) = find.await.map_err(|error| ConnectError {
            url: url.to_string(),
            reason: error.to_string(),
        })?;
        let redrive = description.settings.redrive.and_then(|policy| {
            Some(Redrive {
                target: queue_of_arn(&policy.target_arn)?,
                max_receives: policy.max_receive_count,
            })
        });
        let facts = QueueFacts {
            name: name.to_string(),
            // A queue may hide nothing; a consumer needs a lease to work under.
            visibility: Duration::from_secs(description.settings.visibility_secs.max(1).into()),
            redrive,
        };
        Ok(EmbeddedSource {
            queue: self.queue.clone(),
            name,
            facts,
        })
    }

    /// Finishes what was begun; nothing is accepted any more.
    pub async fn close(&self) {
        self.queue.close().await;
    }
}

/// One embedded queue.
pub struct EmbeddedSource {
    queue: LocalQueue,
    name: QueueName,
    facts: QueueFacts,
}

impl From<QueueError> for SourceError {
    fn from(error: QueueError) -> Self {
        Self(error.to_string())
    }
}

impl EmbeddedSource {
    pub(super) fn facts(&self) -> &QueueFacts {
        &self.facts
    }

    pub(super) async fn receive(
        &self,
        max: u16,
        wait: Duration,
        visibility: Duration,
    ) -> Result<Vec<Received>, SourceError> {
        let options = ReceiveOptions {
            max: max.into(),
            wait: Some(wait),
            visibility_secs: Some(visibility.as_secs() as u32),
        };
        let messages = self.queue.receive(&self.name, options).await?;
        let at = Instant::now();
        Ok(messages
            .into_iter()
            .map(|message| received(message, at))
            .collect())
    }

    pub(super) async fn delete(
        &self,
        receipts: Vec<&Receipt>,
    ) -> Result<Vec<EntryOutcome>, SourceError> {
        let entries = receipts
            .into_iter()
            .map(|receipt| ReceiptHandle::from(receipt.0.clone()));
        let outcomes = self
            .queue
            .delete_batch(&self.name, numbered(entries))
            .await?;
        Ok(outcomes
            .into_iter()
            .map(|outcome| match outcome.result {
                Ok(Deletion::Deleted | Deletion::Gone) => EntryOutcome::Done,
                Ok(Deletion::Stale) => EntryOutcome::Expired,
                Err(error) => entry_outcome(&error),
            })
            .collect())
    }

    pub(super) async fn change_visibility(
        &self,
        changes: Vec<(&Receipt, Duration)>,
    ) -> Result<Vec<EntryOutcome>, SourceError> {
        let changes = changes
            .into_iter()
            .map(|(receipt, delay)| VisibilityChange {
                receipt_handle: ReceiptHandle::from(receipt.0.clone()),
                visibility_secs: delay.as_secs() as u32,
            });
        let outcomes = self
            .queue
            .change_visibility_batch(&self.name, numbered(changes))
            .await?;
        let outcome = |outcome: BatchOutcome<()>| match outcome.result {
            Ok(()) => EntryOutcome::Done,
            Err(error) => entry_outcome(&error),
        };
        Ok(outcomes.into_iter().map(outcome).collect())
    }

    pub(super) async fn send_copy(
        &self,
        target: &str,
        message: &Received,
        note: &str,
    ) -> Result<(), SourceError> {
        let mut copy = OutgoingMessage::new(message.body.clone());
        copy.trace_header = message.system("AWSTraceHeader").map(str::to_owned);
        if is_fifo(target) {
            // The same message, rejected again, is one dead letter.
            copy.group_id = Some(message.group().unwrap_or(&message.id).to_owned());
            copy.deduplication_id = Some(message.id.clone());
        }
        for attribute in message.own_attributes() {
            let data_type = attribute.data_type.clone();
            let value = match attribute.value.clone() {
                AttributeValue::Text(text) => MessageAttribute::text_of(data_type, text),
                AttributeValue::Binary(bytes) => MessageAttribute::binary_of(data_type, bytes),
            };
            copy.attributes.insert(attribute.name.clone(), value);
        }
        copy.attributes
            .insert(REASON_ATTRIBUTE.to_owned(), MessageAttribute::string(note));
        self.queue.send(&QueueName::parse(target)?, copy).await?;
        Ok(())
    }
}

fn numbered<T>(items: impl Iterator<Item = T>) -> Vec<BatchEntry<T>> {
    items
        .enumerate()
        .map(|(index, item)| BatchEntry::new(index.to_string(), item))
        .collect()
}

fn entry_outcome(error: &QueueError) -> EntryOutcome {
    match error {
        QueueError::MessageNotInflight
        | QueueError::ReceiptHandleIsInvalid(_)
        | QueueError::ReceiptHandleHasExpired(_) => EntryOutcome::Expired,
        _ => EntryOutcome::Failed,
    }
}

fn received(message: local_queue::Message, at: Instant) -> Received {
    let mut system = vec![
        ("SenderId".to_owned(), local_queue::ACCOUNT_ID.to_owned()),
        ("SentTimestamp".to_owned(), message.sent_at_ms.to_string()),
        (
            "ApproximateReceiveCount".to_owned(),
            message.receive_count.to_string(),
        ),
        (
            "ApproximateFirstReceiveTimestamp".to_owned(),
            message.first_received_at_ms.to_string(),
        ),
    ];
    let optional = [
        ("AWSTraceHeader", message.trace_header),
        ("DeadLetterQueueSourceArn", message.dead_letter_source_arn),
        ("MessageGroupId", message.group_id),
        ("MessageDeduplicationId", message.deduplication_id),
        (
            "SequenceNumber",
            message.sequence_number.map(|number| number.to_string()),
        ),
    ];
    for (name, value) in optional {
        system.extend(value.map(|value| (name.to_owned(), value)));
    }
    let custom = message
        .attributes
        .into_iter()
        .map(|(name, attribute)| CustomAttribute {
            name,
            data_type: attribute.data_type().to_owned(),
            value: match attribute.value().clone() {
                local_queue::AttributeValue::Text(text) => AttributeValue::Text(text),
                local_queue::AttributeValue::Binary(bytes) => AttributeValue::Binary(bytes),
            },
        });
    Received {
        id: message.id.to_string(),
        receipt: Receipt(message.receipt_handle.to_string()),
        body: message.body,
        system,
        custom: custom.collect(),
        receive_count: message.receive_count,
        at,
    }
}
