//! The shapes of the AWS JSON 1.0 protocol for SQS: what requests hold and what answers hold.
//! Owns field names and optionality; refuses to decide anything about queues.
//! Source: botocore's SQS service model 2012-11-05.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::{Message, MessageAttribute, MoveStatus, MoveTask};

type Attributes = BTreeMap<String, MessageAttribute>;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CreateQueue {
    pub(super) queue_name: Option<String>,
    pub(super) attributes: Option<BTreeMap<String, String>>,
    /// Lower case in SQS's own model, too.
    #[serde(rename = "tags", alias = "Tags")]
    pub(super) tags: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct GetQueueUrl {
    pub(super) queue_name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListQueues {
    pub(super) queue_name_prefix: Option<String>,
    pub(super) next_token: Option<String>,
    pub(super) max_results: Option<usize>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListSources {
    pub(super) queue_url: Option<String>,
    pub(super) next_token: Option<String>,
    pub(super) max_results: Option<usize>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct TagQueue {
    pub(super) queue_url: Option<String>,
    pub(super) tags: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct UntagQueue {
    pub(super) queue_url: Option<String>,
    pub(super) tag_keys: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct AddPermission {
    pub(super) queue_url: Option<String>,
    pub(super) label: Option<String>,
    #[serde(rename = "AWSAccountIds")]
    pub(super) account_ids: Option<Vec<String>>,
    pub(super) actions: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RemovePermission {
    pub(super) queue_url: Option<String>,
    pub(super) label: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct StartMessageMoveTask {
    pub(super) source_arn: Option<String>,
    pub(super) destination_arn: Option<String>,
    pub(super) max_number_of_messages_per_second: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CancelMessageMoveTask {
    pub(super) task_handle: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListMessageMoveTasks {
    pub(super) source_arn: Option<String>,
    pub(super) max_results: Option<usize>,
}

/// `DeleteQueue`, `PurgeQueue` and `ListQueueTags`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct QueueOnly {
    pub(super) queue_url: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct GetQueueAttributes {
    pub(super) queue_url: Option<String>,
    pub(super) attribute_names: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SetQueueAttributes {
    pub(super) queue_url: Option<String>,
    pub(super) attributes: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SendMessage {
    pub(super) queue_url: Option<String>,
    #[serde(flatten)]
    pub(super) message: SendFields,
}

/// What a single send and a batch's entry have in common.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SendFields {
    pub(super) message_body: Option<String>,
    pub(super) delay_seconds: Option<i64>,
    pub(super) message_attributes: Option<Attributes>,
    pub(super) message_system_attributes: Option<Attributes>,
    pub(super) message_group_id: Option<String>,
    pub(super) message_deduplication_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Batch<T> {
    pub(super) queue_url: Option<String>,
    pub(super) entries: Option<Vec<T>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SendEntry {
    pub(super) id: Option<String>,
    #[serde(flatten)]
    pub(super) message: SendFields,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ReceiveMessage {
    pub(super) queue_url: Option<String>,
    pub(super) attribute_names: Option<Vec<String>>,
    pub(super) message_system_attribute_names: Option<Vec<String>>,
    pub(super) message_attribute_names: Option<Vec<String>>,
    pub(super) max_number_of_messages: Option<i64>,
    pub(super) visibility_timeout: Option<i64>,
    pub(super) wait_time_seconds: Option<i64>,
    pub(super) receive_request_attempt_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DeleteMessage {
    pub(super) queue_url: Option<String>,
    pub(super) receipt_handle: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DeleteEntry {
    pub(super) id: Option<String>,
    pub(super) receipt_handle: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ChangeMessageVisibility {
    pub(super) queue_url: Option<String>,
    pub(super) receipt_handle: Option<String>,
    pub(super) visibility_timeout: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct VisibilityEntry {
    pub(super) id: Option<String>,
    pub(super) receipt_handle: Option<String>,
    pub(super) visibility_timeout: Option<i64>,
}

#[derive(Serialize)]
pub(super) struct Empty {}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct QueueUrlResult {
    pub(super) queue_url: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListQueuesResult {
    pub(super) queue_urls: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next_token: Option<String>,
}

#[derive(Serialize)]
pub(super) struct ListSourcesResult {
    /// Lower case in SQS's own model, too.
    #[serde(rename = "queueUrls")]
    pub(super) queue_urls: Vec<String>,
    #[serde(rename = "NextToken", skip_serializing_if = "Option::is_none")]
    pub(super) next_token: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct TagsResult {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) tags: BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct StartMoveResult {
    pub(super) task_handle: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CancelMoveResult {
    pub(super) approximate_number_of_messages_moved: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListMovesResult {
    pub(super) results: Vec<MoveResult>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct MoveResult {
    #[serde(skip_serializing_if = "Option::is_none")]
    task_handle: Option<String>,
    status: &'static str,
    source_arn: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination_arn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_number_of_messages_per_second: Option<u32>,
    approximate_number_of_messages_moved: u64,
    approximate_number_of_messages_to_move: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure_reason: Option<String>,
    started_timestamp: u64,
}

impl From<MoveTask> for MoveResult {
    fn from(task: MoveTask) -> Self {
        // SQS names a handle only while it can be used.
        let running = task.status == MoveStatus::Running;
        Self {
            task_handle: running.then_some(task.handle),
            status: task.status.as_str(),
            source_arn: task.request.source_arn,
            destination_arn: task.request.destination_arn,
            max_number_of_messages_per_second: task.request.per_second,
            approximate_number_of_messages_moved: task.moved,
            approximate_number_of_messages_to_move: task.to_move,
            failure_reason: task.failure,
            started_timestamp: task.started_at_ms,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct AttributesResult {
    pub(super) attributes: BTreeMap<String, String>,
}

#[derive(Serialize)]
pub(super) struct SendResult {
    #[serde(rename = "Id", skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<String>,
    #[serde(rename = "MessageId")]
    pub(super) message_id: String,
    #[serde(rename = "MD5OfMessageBody")]
    pub(super) body_md5: String,
    #[serde(
        rename = "MD5OfMessageAttributes",
        skip_serializing_if = "Option::is_none"
    )]
    pub(super) attributes_md5: Option<String>,
    #[serde(
        rename = "MD5OfMessageSystemAttributes",
        skip_serializing_if = "Option::is_none"
    )]
    pub(super) system_attributes_md5: Option<String>,
    #[serde(rename = "SequenceNumber", skip_serializing_if = "Option::is_none")]
    pub(super) sequence_number: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct IdResult {
    pub(super) id: String,
}

/// Clients expect both lists, empty or not.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct BatchResult<T> {
    pub(super) successful: Vec<T>,
    pub(super) failed: Vec<FailedEntry>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct FailedEntry {
    pub(super) id: String,
    pub(super) sender_fault: bool,
    pub(super) code: String,
    pub(super) message: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ReceiveResult {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) messages: Vec<ReceivedMessage>,
}

#[derive(Serialize)]
pub(super) struct ReceivedMessage {
    #[serde(rename = "MessageId")]
    message_id: String,
    #[serde(rename = "ReceiptHandle")]
    receipt_handle: String,
    #[serde(rename = "MD5OfBody")]
    body_md5: String,
    #[serde(rename = "Body")]
    body: String,
    #[serde(rename = "Attributes", skip_serializing_if = "BTreeMap::is_empty")]
    attributes: BTreeMap<&'static str, String>,
    #[serde(
        rename = "MD5OfMessageAttributes",
        skip_serializing_if = "Option::is_none"
    )]
    attributes_md5: Option<String>,
    #[serde(
        rename = "MessageAttributes",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    message_attributes: Attributes,
}

/// Which attributes a receiver asked for.
pub(super) struct Selection {
    pub(super) system: Vec<String>,
    pub(super) message: Vec<String>,
}

impl Selection {
    fn has_system(&self, name: &str) -> bool {
        self.system
            .iter()
            .any(|wanted| wanted == name || wanted == "All")
    }

    /// `All` and `.*` ask for every attribute, `prefix.*` for those that begin with `prefix`
    /// (SQS API Reference, `ReceiveMessage`, `MessageAttributeNames`).
    fn has_message(&self, name: &str) -> bool {
        self.message
            .iter()
            .any(|wanted| match wanted.strip_suffix(".*") {
                Some(prefix) => name.starts_with(prefix),
                None => wanted == name || wanted == "All",
            })
    }
}

impl ReceivedMessage {
    /// The message with the attributes asked for; their digest covers just these.
    pub(super) fn new(message: Message, selection: &Selection) -> Self {
        let mut message_attributes = message.attributes;
        message_attributes.retain(|name, _| selection.has_message(name));
        let digest = crate::Md5Digest::of_attributes(&message_attributes);
        let system = [
            ("SenderId", Some(crate::ACCOUNT_ID.to_owned())),
            ("SentTimestamp", Some(message.sent_at_ms.to_string())),
            (
                "ApproximateReceiveCount",
                Some(message.receive_count.to_string()),
            ),
            (
                "ApproximateFirstReceiveTimestamp",
                Some(message.first_received_at_ms.to_string()),
            ),
            ("AWSTraceHeader", message.trace_header),
            ("DeadLetterQueueSourceArn", message.dead_letter_source_arn),
            ("MessageGroupId", message.group_id),
            ("MessageDeduplicationId", message.deduplication_id),
            (
                "SequenceNumber",
                message.sequence_number.map(|number| number.to_string()),
            ),
        ];
        let attributes = system
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .filter(|(name, _)| selection.has_system(name))
            .collect();
        Self {
            message_id: message.id.to_string(),
            receipt_handle: message.receipt_handle.as_str().to_owned(),
            body_md5: message.body_md5.to_string(),
            body: message.body,
            attributes,
            attributes_md5: digest.map(|digest| digest.to_string()),
            message_attributes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attribute_names_select_by_name_prefix_or_all() {
        let check = |wanted: &[&str], name: &str, expected: bool| {
            let message = wanted.iter().map(|w| (*w).to_owned()).collect();
            let selection = Selection {
                system: Vec::new(),
                message,
            };
            assert_eq!(selection.has_message(name), expected, "{wanted:?} {name}");
        };
        check(&[], "a", false);
        check(&["a"], "a", true);
        check(&["a"], "a.b", false);
        check(&["All"], "a", true);
        check(&[".*"], "a", true);
        check(&["a.*"], "a.b", true);
        check(&["a.*"], "b.a", false);
    }
}
