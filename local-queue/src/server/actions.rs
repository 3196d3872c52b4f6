//! The actions of the SQS API: each turns its JSON into a call of [`LocalQueue`] and the outcome
//! into JSON. Owns names, URLs and required parameters; refuses to know HTTP.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use super::errors::{RequestError, queue_error};
use super::protocol as wire;
use crate::attributes::AttributeChanges;
use crate::errors::QueueError;
use crate::handle::LocalQueue;
use crate::model::{
    ACCOUNT_ID, BatchEntry, BatchOutcome, MoveRequest, OutgoingMessage, QueueName, ReceiptHandle,
    ReceiveOptions, SentMessage, VisibilityChange,
};
use crate::policy::Permission;
use crate::validate::{self, CHANGED_VISIBILITY, DELAY, VISIBILITY, WAIT};

/// The namespace of `X-Amz-Target`.
pub(super) const TARGET_PREFIX: &str = "AmazonSQS.";

/// One request's surroundings.
pub(super) struct Context<'a> {
    pub(super) queue: &'a LocalQueue,
    /// `HOST:PORT` in the queue URLs of this answer.
    pub(super) authority: &'a str,
    /// Ends long polls early.
    pub(super) stopping: &'a CancellationToken,
}

type Answer = Result<Vec<u8>, RequestError>;

impl Context<'_> {
    /// Performs `action` on its JSON input.
    pub(super) async fn perform(&self, action: &str, input: &[u8]) -> Answer {
        match action {
            "CreateQueue" => self.create_queue(read(input)?).await,
            "GetQueueUrl" => self.get_queue_url(read(input)?).await,
            "ListQueues" => self.list_queues(read(input)?).await,
            "DeleteQueue" => self.delete_queue(read(input)?).await,
            "PurgeQueue" => self.purge_queue(read(input)?).await,
            "GetQueueAttributes" => self.get_attributes(read(input)?).await,
            "SetQueueAttributes" => self.set_attributes(read(input)?).await,
            "SendMessage" => self.send(read(input)?).await,
            "SendMessageBatch" => self.send_batch(read(input)?).await,
            "ReceiveMessage" => self.receive(read(input)?).await,
            "DeleteMessage" => self.delete(read(input)?).await,
            "DeleteMessageBatch" => self.delete_batch(read(input)?).await,
            "ChangeMessageVisibility" => self.change_visibility(read(input)?).await,
            "ChangeMessageVisibilityBatch" => self.change_visibility_batch(read(input)?).await,
            "TagQueue" => self.tag_queue(read(input)?).await,
            "UntagQueue" => self.untag_queue(read(input)?).await,
            "ListQueueTags" => self.list_tags(read(input)?).await,
            "ListDeadLetterSourceQueues" => self.list_sources(read(input)?).await,
            "StartMessageMoveTask" => self.start_move(read(input)?).await,
            "CancelMessageMoveTask" => self.cancel_move(read(input)?).await,
            "ListMessageMoveTasks" => self.list_moves(read(input)?).await,
            "AddPermission" => self.add_permission(read(input)?).await,
            "RemovePermission" => self.remove_permission(read(input)?).await,
            _ => Err(RequestError::UnknownAction(action.to_owned())),
        }
    }

    fn queue_url(&self, name: &QueueName) -> String {
        queue_url(self.authority, name)
    }

    async fn create_queue(&self, input: wire::CreateQueue) -> Answer {
        let name = named(input.queue_name)?;
        let changes = AttributeChanges::parse(&input.attributes.unwrap_or_default())?;
        let tags = input.tags.unwrap_or_default();
        self.queue.create_tagged_queue(&name, changes, tags).await?;
        write(&wire::QueueUrlResult {
            queue_url: self.queue_url(&name),
        })
    }

    async fn get_queue_url(&self, input: wire::GetQueueUrl) -> Answer {
        let name = named(input.queue_name)?;
        self.queue.describe(&name).await?;
        write(&wire::QueueUrlResult {
            queue_url: self.queue_url(&name),
        })
    }

    async fn list_queues(&self, input: wire::ListQueues) -> Answer {
        let prefix = input.queue_name_prefix.unwrap_or_default();
        let page = self
            .queue
            .list_queues(&prefix, input.max_results, input.next_token)
            .await?;
        write(&wire::ListQueuesResult {
            queue_urls: page.names.iter().map(|name| self.queue_url(name)).collect(),
            next_token: page.next_token,
        })
    }

    async fn list_sources(&self, input: wire::ListSources) -> Answer {
        let name = queue_name(input.queue_url)?;
        let page = self
            .queue
            .list_dead_letter_sources(&name, input.max_results, input.next_token)
            .await?;
        write(&wire::ListSourcesResult {
            queue_urls: page.names.iter().map(|name| self.queue_url(name)).collect(),
            next_token: page.next_token,
        })
    }

    async fn tag_queue(&self, input: wire::TagQueue) -> Answer {
        let name = queue_name(input.queue_url)?;
        let tags = required("Tags", input.tags)?;
        self.queue.tag_queue(&name, tags).await?;
        write(&wire::Empty {})
    }

    async fn untag_queue(&self, input: wire::UntagQueue) -> Answer {
        let name = queue_name(input.queue_url)?;
        let keys = required("TagKeys", input.tag_keys)?;
        self.queue.untag_queue(&name, keys).await?;
        write(&wire::Empty {})
    }

    async fn list_tags(&self, input: wire::QueueOnly) -> Answer {
        let tags = self.queue.queue_tags(&queue_name(input.queue_url)?).await?;
        write(&wire::TagsResult { tags })
    }

    async fn add_permission(&self, input: wire::AddPermission) -> Answer {
        let name = queue_name(input.queue_url)?;
        let permission = Permission {
            label: required("Label", input.label)?,
            account_ids: input.account_ids.unwrap_or_default(),
            actions: input.actions.unwrap_or_default(),
        };
        self.queue.add_permission(&name, permission).await?;
        write(&wire::Empty {})
    }

    async fn remove_permission(&self, input: wire::RemovePermission) -> Answer {
        let name = queue_name(input.queue_url)?;
        let label = required("Label", input.label)?;
        self.queue.remove_permission(&name, label).await?;
        write(&wire::Empty {})
    }

    async fn start_move(&self, input: wire::StartMessageMoveTask) -> Answer {
        let rate = input.max_number_of_messages_per_second;
        let request = MoveRequest {
            source_arn: required("SourceArn", input.source_arn)?,
            destination_arn: input.destination_arn,
            // Out of range on either side is refused alike.
            per_second: rate.map(|rate| u32::try_from(rate).unwrap_or(0)),
        };
        write(&wire::StartMoveResult {
            task_handle: self.queue.start_move_task(request).await?,
        })
    }

    async fn cancel_move(&self, input: wire::CancelMessageMoveTask) -> Answer {
        let handle = required("TaskHandle", input.task_handle)?;
        write(&wire::CancelMoveResult {
            approximate_number_of_messages_moved: self.queue.cancel_move_task(handle).await?,
        })
    }

    async fn list_moves(&self, input: wire::ListMessageMoveTasks) -> Answer {
        let source_arn = required("SourceArn", input.source_arn)?;
        let max = input.max_results.unwrap_or(1);
        let tasks = self.queue.list_move_tasks(source_arn, max).await?;
        write(&wire::ListMovesResult {
            results: tasks.into_iter().map(Into::into).collect(),
        })
    }

    async fn delete_queue(&self, input: wire::QueueOnly) -> Answer {
        self.queue
            .delete_queue(&queue_name(input.queue_url)?)
            .await?;
        write(&wire::Empty {})
    }

    async fn purge_queue(&self, input: wire::QueueOnly) -> Answer {
        self.queue
            .purge_queue(&queue_name(input.queue_url)?)
            .await?;
        write(&wire::Empty {})
    }

    async fn get_attributes(&self, input: wire::GetQueueAttributes) -> Answer {
        let description = self.queue.describe(&queue_name(input.queue_url)?).await?;
        let attributes = description.attributes(&input.attribute_names.unwrap_or_default())?;
        write(&wire::AttributesResult { attributes })
    }

    async fn set_attributes(&self, input: wire::SetQueueAttributes) -> Answer {
        let name = queue_name(input.queue_url)?;
        let changes = AttributeChanges::parse(&required("Attributes", input.attributes)?)?;
        self.queue.set_attributes(&name, changes).await?;
        write(&wire::Empty {})
    }

    async fn send(&self, input: wire::SendMessage) -> Answer {
        let name = queue_name(input.queue_url)?;
        let sent = self.queue.send(&name, outgoing(input.message)?).await?;
        write(&send_result(None, &sent))
    }

    async fn send_batch(&self, input: wire::Batch<wire::SendEntry>) -> Answer {
        let name = queue_name(input.queue_url)?;
        let (good, bad) = split(validate::SEND_ENTRY, input.entries, |entry| {
            (entry.id, outgoing(entry.message))
        })?;
        let done = if good.is_empty() {
            Vec::new()
        } else {
            self.queue.send_batch(&name, good).await?
        };
        batch_result(done, bad, |id, sent| send_result(Some(id), &sent))
    }

    async fn receive(&self, input: wire::ReceiveMessage) -> Answer {
        let name = queue_name(input.queue_url)?;
        let max = input.max_number_of_messages.unwrap_or(1);
        let wait = input.wait_time_seconds.map(|secs| WAIT.read(secs));
        let visibility = input.visibility_timeout.map(|secs| VISIBILITY.read(secs));
        let options = ReceiveOptions {
            max: usize::try_from(max).map_err(|_| validate::max_messages(&max))?,
            wait: wait
                .transpose()?
                .map(|secs| Duration::from_secs(secs.into())),
            visibility_secs: visibility.transpose()?,
        };
        let attempt = input.receive_request_attempt_id;
        let mut system = input.message_system_attribute_names.unwrap_or_default();
        system.extend(input.attribute_names.unwrap_or_default());
        let message = input.message_attribute_names.unwrap_or_default();
        let selection = wire::Selection { system, message };
        // Dropping the receive is safe: it gives back what was on its way. `biased`, so that a
        // receive that is ready is answered also while stopping.
        let messages = tokio::select! {
            biased;
            received = self.queue.receive_attempt(&name, options, attempt) => received?,
            () = self.stopping.cancelled() => Vec::new(),
        };
        let messages = messages
            .into_iter()
            .map(|message| wire::ReceivedMessage::new(message, &selection))
            .collect();
        write(&wire::ReceiveResult { messages })
    }

    async fn delete(&self, input: wire::DeleteMessage) -> Answer {
        let name = queue_name(input.queue_url)?;
        self.queue
            .delete(&name, receipt_handle(input.receipt_handle)?)
            .await?;
        write(&wire::Empty {})
    }

    async fn delete_batch(&self, input: wire::Batch<wire::DeleteEntry>) -> Answer {
        let name = queue_name(input.queue_url)?;
        let (good, bad) = split(validate::DELETE_ENTRY, input.entries, |entry| {
            (entry.id, receipt_handle(entry.receipt_handle))
        })?;
        let done = if good.is_empty() {
            Vec::new()
        } else {
            self.queue.delete_batch(&name, good).await?
        };
        batch_result(done, bad, |id, _| wire::IdResult { id })
    }

    async fn change_visibility(&self, input: wire::ChangeMessageVisibility) -> Answer {
        let name = queue_name(input.queue_url)?;
        let change = visibility_change(input.receipt_handle, input.visibility_timeout)?;
        let VisibilityChange {
            receipt_handle,
            visibility_secs,
        } = change;
        self.queue
            .change_visibility(&name, receipt_handle, visibility_secs)
            .await?;
        write(&wire::Empty {})
    }

    async fn change_visibility_batch(&self, input: wire::Batch<wire::VisibilityEntry>) -> Answer {
        let name = queue_name(input.queue_url)?;
        let (good, bad) = split(validate::VISIBILITY_ENTRY, input.entries, |entry| {
            (
                entry.id,
                visibility_change(entry.receipt_handle, entry.visibility_timeout),
            )
        })?;
        let done = if good.is_empty() {
            Vec::new()
        } else {
            self.queue.change_visibility_batch(&name, good).await?
        };
        batch_result(done, bad, |id, ()| wire::IdResult { id })
    }
}

pub(super) fn queue_url(authority: &str, name: &QueueName) -> String {
    format!("http://{authority}/{ACCOUNT_ID}/{name}")
}

fn read<T: DeserializeOwned>(input: &[u8]) -> Result<T, RequestError> {
    // Some clients send no body where every member is optional.
    let input = if input.is_empty() { b"{}" } else { input };
    serde_json::from_slice(input).map_err(|error| RequestError::Serialization(error.to_string()))
}

fn write<T: Serialize>(output: &T) -> Answer {
    serde_json::to_vec(output).map_err(|error| RequestError::Serialization(error.to_string()))
}

fn required<T>(parameter: &'static str, value: Option<T>) -> Result<T, QueueError> {
    value.ok_or(QueueError::MissingParameter(parameter))
}

fn named(name: Option<String>) -> Result<QueueName, QueueError> {
    let missing = "Value for parameter QueueName is invalid. Reason: Must specify a queue name.";
    let name = name.ok_or_else(|| QueueError::InvalidParameter(missing.to_owned()))?;
    QueueName::parse(&name)
}

fn queue_name(url: Option<String>) -> Result<QueueName, QueueError> {
    QueueName::from_url(&required("QueueUrl", url)?)
}

fn receipt_handle(handle: Option<String>) -> Result<ReceiptHandle, QueueError> {
    required("ReceiptHandle", handle).map(ReceiptHandle::from)
}

fn visibility_change(
    handle: Option<String>,
    timeout: Option<i64>,
) -> Result<VisibilityChange, QueueError> {
    let timeout = required("VisibilityTimeout", timeout)?;
    Ok(VisibilityChange {
        receipt_handle: receipt_handle(handle)?,
        visibility_secs: CHANGED_VISIBILITY.read(timeout)?,
    })
}

fn outgoing(fields: wire::SendFields) -> Result<OutgoingMessage, QueueError> {
    let delay = fields.delay_seconds.map(|secs| DELAY.read(secs));
    let mut trace_header = None;
    for (name, attribute) in fields.message_system_attributes.unwrap_or_default() {
        match (name.as_str(), attribute.data_type(), attribute.as_text()) {
            ("AWSTraceHeader", "String", Some(text)) if !text.is_empty() => {
                trace_header = Some(text.to_owned());
            }
            _ => {
                return Err(QueueError::InvalidParameter(format!(
                    "Message system attribute name '{name}' is invalid: only AWSTraceHeader, a \
                     non-empty String, is supported."
                )));
            }
        }
    }
    Ok(OutgoingMessage {
        body: required("MessageBody", fields.message_body)?,
        attributes: fields.message_attributes.unwrap_or_default(),
        delay_secs: delay.transpose()?,
        trace_header,
        group_id: fields.message_group_id,
        deduplication_id: fields.message_deduplication_id,
    })
}

fn send_result(id: Option<String>, sent: &SentMessage) -> wire::SendResult {
    wire::SendResult {
        id,
        message_id: sent.id.to_string(),
        body_md5: sent.body_md5.to_string(),
        attributes_md5: sent.attributes_md5.map(|digest| digest.to_string()),
        system_attributes_md5: sent.system_attributes_md5.map(|digest| digest.to_string()),
        sequence_number: sent.sequence_number.map(|number| number.to_string()),
    }
}

type Split<T> = (Vec<BatchEntry<T>>, Vec<wire::FailedEntry>);

/// Checks a batch's shape, then parts the entries that can be tried from those that failed
/// already.
fn split<E, T>(
    entry: &'static str,
    entries: Option<Vec<E>>,
    parse: impl Fn(E) -> (Option<String>, Result<T, QueueError>),
) -> Result<Split<T>, QueueError> {
    let numbered = entries.unwrap_or_default().into_iter().zip(1..);
    let entries = numbered.map(|(given, number)| {
        let (id, item) = parse(given);
        let id = id.ok_or(QueueError::MissingBatchEntryId { entry, number })?;
        Ok(BatchEntry { id, item })
    });
    let entries = entries.collect::<Result<Vec<_>, QueueError>>()?;
    validate::batch(entry, &entries)?;
    let mut split: Split<T> = (Vec::new(), Vec::new());
    for BatchEntry { id, item } in entries {
        match item {
            Ok(item) => split.0.push(BatchEntry { id, item }),
            Err(error) => split.1.push(failed(id, &error)),
        }
    }
    Ok(split)
}

fn failed(id: String, error: &QueueError) -> wire::FailedEntry {
    let wire_error = queue_error(error);
    wire::FailedEntry {
        id,
        sender_fault: wire_error.is_sender_fault(),
        code: wire_error.query_code.to_owned(),
        message: error.to_string(),
    }
}

fn batch_result<T, R: Serialize>(
    outcomes: Vec<BatchOutcome<T>>,
    mut failures: Vec<wire::FailedEntry>,
    show: impl Fn(String, T) -> R,
) -> Answer {
    let mut successful = Vec::new();
    for BatchOutcome { id, result } in outcomes {
        match result {
            Ok(value) => successful.push(show(id, value)),
            Err(error) => failures.push(failed(id, &error)),
        }
    }
    write(&wire::BatchResult {
        successful,
        failed: failures,
    })
}
