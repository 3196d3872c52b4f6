//! The vocabulary: names, handles, messages, batches.
//! Owns the forms in which strings enter; refuses to know SQL and HTTP.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::digest::Md5Digest;
use crate::errors::QueueError;
use crate::limits;

/// The account of every embedded queue, in queue URLs and ARNs.
pub const ACCOUNT_ID: &str = "000000000000";

/// How the names of FIFO queues end.
const FIFO_SUFFIX: &str = ".fifo";

/// SQS's words for a name that no standard queue can have.
pub(crate) const INVALID_NAME: &str =
    "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length";
/// SQS's words for a name that no FIFO queue can have.
pub(crate) const INVALID_FIFO_NAME: &str = "The name of a FIFO queue can only include alphanumeric \
     characters, hyphens, or underscores, must end with .fifo suffix and be 1 to 80 in length";

/// A queue's name: 1 to 80 letters, digits, hyphens and underscores, the last five of a FIFO
/// queue's being `.fifo` (SQS API Reference, `CreateQueue`, `QueueName`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueName(Arc<str>);

impl QueueName {
    /// Checks a name.
    pub fn parse(name: &str) -> Result<Self, QueueError> {
        let stem = name.strip_suffix(FIFO_SUFFIX).unwrap_or(name);
        if !is_plain_id(stem) || name.len() > limits::MAX_NAME_LEN {
            return Err(invalid_name(name));
        }
        Ok(Self(name.into()))
    }

    /// The queue that a queue URL names by its last segments `000000000000/NAME`, whatever host
    /// comes before them: clients may reach the server under another name. A bare name will do.
    /// What cannot be a queue's URL here is a queue that does not exist.
    pub fn from_url(url: &str) -> Result<Self, QueueError> {
        let path = url
            .split(['?', '#'])
            .next()
            .unwrap_or(url)
            .trim_end_matches('/');
        let mut segments = path.rsplit('/');
        let name = segments.next().unwrap_or_default();
        let account = segments.next();
        if account.is_some_and(|account| account != ACCOUNT_ID) {
            return Err(QueueError::QueueDoesNotExist);
        }
        Self::parse(name).map_err(|_| QueueError::QueueDoesNotExist)
    }

    /// The queue that an ARN `arn:aws:sqs:REGION:000000000000:NAME` names; `None` when it names
    /// none that could be here.
    pub(crate) fn from_arn(arn: &str) -> Option<Self> {
        let parts: Vec<&str> = arn.split(':').collect();
        match parts[..] {
            ["arn", _, "sqs", _, ACCOUNT_ID, name] => Self::parse(name).ok(),
            _ => None,
        }
    }

    /// The name that `ensure_queue_with_dlq` gives to this queue's dead-letter queue: `NAME-dlq`,
    /// and `NAME-dlq.fifo` for `NAME.fifo`.
    pub fn dead_letter(&self) -> Result<Self, QueueError> {
        match self.0.strip_suffix(FIFO_SUFFIX) {
            Some(stem) => Self::parse(&format!("{stem}-dlq{FIFO_SUFFIX}")),
            None => Self::parse(&format!("{self}-dlq")),
        }
    }

    /// Whether the name is a FIFO queue's.
    pub fn is_fifo(&self) -> bool {
        self.0.ends_with(FIFO_SUFFIX)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for QueueName {
    type Err = QueueError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::parse(name)
    }
}

/// What SQS says to a name that is no queue's.
fn invalid_name(name: &str) -> QueueError {
    let reason = if name.is_empty() {
        "Queue name cannot be empty"
    } else if name.ends_with(FIFO_SUFFIX) {
        INVALID_FIFO_NAME
    } else {
        INVALID_NAME
    };
    QueueError::InvalidParameter(reason.to_owned())
}

/// 1 to 80 of `[A-Za-z0-9_-]`: queue names and batch entry ids share the form.
pub(crate) fn is_plain_id(text: &str) -> bool {
    (1..=limits::MAX_NAME_LEN).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// A message's identity, kept through every receive and through dead-lettering; a message move
/// task gives a new one (UUID v4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(pub(crate) Uuid);

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One receive of one message; opaque. Any text may be wrapped: an operation that cannot
/// read it answers [`QueueError::ReceiptHandleIsInvalid`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ReceiptHandle(String);

/// What a receipt handle says once it was read: the stored row and the nonce of the receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Receipt {
    pub(crate) row: i64,
    pub(crate) nonce: i64,
}

const RECEIPT_VERSION: u8 = 1;

impl ReceiptHandle {
    /// The handle as text, as it goes over the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn encode(receipt: Receipt) -> Self {
        let mut bytes = [RECEIPT_VERSION; 17];
        bytes[1..9].copy_from_slice(&receipt.row.to_be_bytes());
        bytes[9..].copy_from_slice(&receipt.nonce.to_be_bytes());
        Self(URL_SAFE_NO_PAD.encode(bytes))
    }

    pub(crate) fn decode(&self) -> Result<Receipt, QueueError> {
        let read = || {
            let bytes: [u8; 17] = URL_SAFE_NO_PAD.decode(&self.0).ok()?.try_into().ok()?;
            let (version, rest) = bytes.split_first()?;
            let (row, nonce) = rest.split_first_chunk::<8>()?;
            let nonce: &[u8; 8] = nonce.try_into().ok()?;
            (*version == RECEIPT_VERSION).then_some(Receipt {
                row: i64::from_be_bytes(*row),
                nonce: i64::from_be_bytes(*nonce),
            })
        };
        read().ok_or_else(|| QueueError::ReceiptHandleIsInvalid(self.0.clone()))
    }
}

impl From<String> for ReceiptHandle {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Display for ReceiptHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The value of a message attribute: text for `String` and `Number`, bytes for `Binary`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttributeValue {
    /// Of a `String…` or `Number…` attribute.
    Text(String),
    /// Of a `Binary…` attribute.
    Binary(Vec<u8>),
}

/// A typed message attribute (SQS API Reference, `MessageAttributeValue`). It is checked when
/// its message is sent, not when it is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "WireAttribute", into = "WireAttribute")]
pub struct MessageAttribute {
    data_type: String,
    value: AttributeValue,
}

impl MessageAttribute {
    /// A `String` attribute.
    pub fn string(value: impl Into<String>) -> Self {
        Self::text_of("String", value)
    }

    /// A `Number` attribute: decimal text, up to 38 digits.
    pub fn number(value: impl fmt::Display) -> Self {
        Self::text_of("Number", value.to_string())
    }

    /// A `Binary` attribute.
    pub fn binary(value: impl Into<Vec<u8>>) -> Self {
        Self::binary_of("Binary", value)
    }

    /// Text with a full data type such as `String.uri` or `Number.int`.
    pub fn text_of(data_type: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            data_type: data_type.into(),
            value: AttributeValue::Text(value.into()),
        }
    }

    /// Bytes with a full data type such as `Binary.png`.
    pub fn binary_of(data_type: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        Self {
            data_type: data_type.into(),
            value: AttributeValue::Binary(value.into()),
        }
    }

    /// The data type with its custom suffix.
    pub fn data_type(&self) -> &str {
        &self.data_type
    }

    /// The value.
    pub fn value(&self) -> &AttributeValue {
        &self.value
    }

    /// The value when it is text.
    pub fn as_text(&self) -> Option<&str> {
        match &self.value {
            AttributeValue::Text(text) => Some(text),
            AttributeValue::Binary(_) => None,
        }
    }

    /// Bytes that count towards the message's size, its name aside.
    pub(crate) fn size(&self) -> usize {
        self.data_type.len()
            + match &self.value {
                AttributeValue::Text(text) => text.len(),
                AttributeValue::Binary(bytes) => bytes.len(),
            }
    }
}

/// The JSON form that SQS gives an attribute; the database keeps the same form.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireAttribute {
    data_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    string_value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    binary_value: Option<String>,
}

impl From<MessageAttribute> for WireAttribute {
    fn from(attribute: MessageAttribute) -> Self {
        let (string_value, binary_value) = match attribute.value {
            AttributeValue::Text(text) => (Some(text), None),
            AttributeValue::Binary(bytes) => (None, Some(STANDARD.encode(bytes))),
        };
        Self {
            data_type: Some(attribute.data_type),
            string_value,
            binary_value,
        }
    }
}

impl TryFrom<WireAttribute> for MessageAttribute {
    type Error = &'static str;

    fn try_from(wire: WireAttribute) -> Result<Self, Self::Error> {
        let value = match (wire.string_value, wire.binary_value) {
            (Some(text), None) => AttributeValue::Text(text),
            (None, Some(encoded)) => AttributeValue::Binary(
                STANDARD
                    .decode(encoded)
                    .map_err(|_| "`BinaryValue` is not base64")?,
            ),
            // An attribute without a value is refused with its name when the message is checked.
            (None, None) => AttributeValue::Text(String::new()),
            (Some(_), Some(_)) => {
                return Err("an attribute has either `StringValue` or `BinaryValue`");
            }
        };
        Ok(Self {
            data_type: wire.data_type.unwrap_or_default(),
            value,
        })
    }
}

/// A message to send (SQS API Reference, `SendMessage`).
#[derive(Clone, Debug, Default)]
pub struct OutgoingMessage {
    /// The text; must not be empty.
    pub body: String,
    /// Message attributes by name; at most 10.
    pub attributes: BTreeMap<String, MessageAttribute>,
    /// Seconds until the message becomes visible, 0 to 900; `None` takes the queue's `DelaySeconds`.
    pub delay_secs: Option<u32>,
    /// The system attribute `AWSTraceHeader`.
    pub trace_header: Option<String>,
    /// `MessageGroupId`: required on a FIFO queue; on a standard queue it is only handed on.
    pub group_id: Option<String>,
    /// `MessageDeduplicationId`, on FIFO queues only.
    pub deduplication_id: Option<String>,
}

impl OutgoingMessage {
    /// A message with a body and nothing else.
    pub fn new(body: impl Into<String>) -> Self {
        Self {
            body: body.into(),
            ..Self::default()
        }
    }
}

/// The place of a message in its FIFO queue: 20 digits, larger for later messages
/// (SQS API Reference, `SendMessage`, `SequenceNumber`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SequenceNumber(pub(crate) i64);

impl fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Row ids are positive, so 19 digits hold each; the 1 keeps the width.
        write!(f, "1{:019}", self.0)
    }
}

/// The acknowledgement of a send: the message is on disk.
#[derive(Clone, Debug)]
pub struct SentMessage {
    /// The new message's identity; that of the first one when this was a duplicate.
    pub id: MessageId,
    /// `MD5OfMessageBody`.
    pub body_md5: Md5Digest,
    /// `MD5OfMessageAttributes`; `None` without attributes.
    pub attributes_md5: Option<Md5Digest>,
    /// `MD5OfMessageSystemAttributes`; `None` without a trace header.
    pub system_attributes_md5: Option<Md5Digest>,
    /// `SequenceNumber`, on FIFO queues.
    pub sequence_number: Option<SequenceNumber>,
}

/// What to receive (SQS API Reference, `ReceiveMessage`).
#[derive(Clone, Copy, Debug)]
pub struct ReceiveOptions {
    /// The most messages to return, 1 to 10.
    pub max: usize,
    /// How long to wait for a first message, up to 20 s; `None` takes the queue's
    /// `ReceiveMessageWaitTimeSeconds`.
    pub wait: Option<Duration>,
    /// Seconds until the messages become visible again, 0 to 43,200; `None` takes the queue's
    /// `VisibilityTimeout`.
    pub visibility_secs: Option<u32>,
}

impl Default for ReceiveOptions {
    fn default() -> Self {
        Self {
            max: 1,
            wait: None,
            visibility_secs: None,
        }
    }
}

/// A received message.
#[derive(Clone, Debug)]
pub struct Message {
    /// The identity given when it was sent.
    pub id: MessageId,
    /// Names this receive, to delete the message or change its visibility.
    pub receipt_handle: ReceiptHandle,
    /// The text.
    pub body: String,
    /// `MD5OfBody`.
    pub body_md5: Md5Digest,
    /// All message attributes.
    pub attributes: BTreeMap<String, MessageAttribute>,
    /// `SentTimestamp`: milliseconds since the Unix epoch.
    pub sent_at_ms: u64,
    /// `ApproximateReceiveCount`: this receive included; counted anew in a dead-letter queue.
    pub receive_count: u32,
    /// `ApproximateFirstReceiveTimestamp`: milliseconds since the Unix epoch.
    pub first_received_at_ms: u64,
    /// `AWSTraceHeader`, when it was sent.
    pub trace_header: Option<String>,
    /// `DeadLetterQueueSourceArn`, when the message was dead-lettered.
    pub dead_letter_source_arn: Option<String>,
    /// `MessageGroupId`, when it was sent with one.
    pub group_id: Option<String>,
    /// `MessageDeduplicationId`, of messages of FIFO queues.
    pub deduplication_id: Option<String>,
    /// `SequenceNumber`, of messages of FIFO queues.
    pub sequence_number: Option<SequenceNumber>,
}

/// What became of a delete. SQS answers success for all three; only a FIFO queue refuses a
/// handle whose visibility timeout is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// The message is deleted.
    Deleted,
    /// The message was gone already.
    Gone,
    /// The message is still there, untouched: it was received again since, and only the latest
    /// receipt handle deletes it. It will be seen again.
    Stale,
}

/// One entry of a batch: an id unique in the batch and what to do.
#[derive(Clone, Debug)]
pub struct BatchEntry<T> {
    /// 1 to 80 letters, digits, hyphens and underscores.
    pub id: String,
    /// What to do.
    pub item: T,
}

impl<T> BatchEntry<T> {
    /// An entry.
    pub fn new(id: impl Into<String>, item: T) -> Self {
        Self {
            id: id.into(),
            item,
        }
    }
}

/// The outcome of one entry of a batch; entries succeed and fail on their own.
#[derive(Clone, Debug)]
pub struct BatchOutcome<T> {
    /// The entry's id.
    pub id: String,
    /// What became of it.
    pub result: Result<T, QueueError>,
}

/// A new visibility for a received message.
#[derive(Clone, Debug)]
pub struct VisibilityChange {
    /// The latest receive of the message.
    pub receipt_handle: ReceiptHandle,
    /// Seconds from now until it becomes visible, 0 to 43,200.
    pub visibility_secs: u32,
}

/// How many messages a queue holds, by state. Exact at the moment of asking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Can be received now (`ApproximateNumberOfMessages`).
    pub visible: u64,
    /// Received and not yet deleted or visible again (`ApproximateNumberOfMessagesNotVisible`).
    pub in_flight: u64,
    /// Sent with a delay that still runs (`ApproximateNumberOfMessagesDelayed`).
    pub delayed: u64,
}

/// What a message move task is to do (SQS API Reference, `StartMessageMoveTask`).
#[derive(Clone, Debug)]
pub struct MoveRequest {
    /// The dead-letter queue to move from.
    pub source_arn: String,
    /// The queue to move to; `None` moves each message back to where it was dead-lettered.
    pub destination_arn: Option<String>,
    /// Messages for each second, 1 to 500; `None` is as fast as it goes.
    pub per_second: Option<u32>,
}

/// How far a message move task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveStatus {
    /// It moves messages.
    Running,
    /// All messages that were visible are moved.
    Completed,
    /// It was cancelled.
    Cancelled,
    /// It could not go on.
    Failed,
}

impl MoveStatus {
    /// SQS's name, which the database keeps, too.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Completed => "COMPLETED",
            Self::Cancelled => "CANCELLED",
            Self::Failed => "FAILED",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [
            Self::Running,
            Self::Completed,
            Self::Cancelled,
            Self::Failed,
        ]
        .into_iter()
        .find(|status| status.as_str() == text)
    }
}

/// A message move task (SQS API Reference, `ListMessageMoveTasks`).
#[derive(Clone, Debug)]
pub struct MoveTask {
    /// Names the task, to cancel it.
    pub handle: String,
    /// What it was asked to do.
    pub request: MoveRequest,
    /// How far it is.
    pub status: MoveStatus,
    /// Messages moved so far.
    pub moved: u64,
    /// Messages that were to be moved when it began.
    pub to_move: u64,
    /// Why it failed.
    pub failure: Option<String>,
    /// Milliseconds since the Unix epoch.
    pub started_at_ms: u64,
}

/// One page of queue names in alphabetical order.
#[derive(Clone, Debug)]
pub struct QueuePage {
    /// The names.
    pub names: Vec<QueueName>,
    /// Ask for the next page with this; `None` on the last page.
    pub next_token: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_urls_name_a_queue_by_their_last_segments() {
        for url in [
            "http://127.0.0.1:9324/000000000000/jobs",
            "http://queue.local:1/000000000000/jobs/",
            "https://sqs.us-east-1.amazonaws.com/000000000000/jobs",
            "000000000000/jobs",
            "jobs",
        ] {
            let name = QueueName::from_url(url);
            assert_eq!(
                name.ok().as_ref().map(QueueName::as_str),
                Some("jobs"),
                "{url}"
            );
        }
        for url in [
            "http://h/111111111111/jobs",
            "",
            "http://h/000000000000/a b",
            "http://h/000000000000/a.b",
            "http://h/000000000000/.fifo",
        ] {
            let name = QueueName::from_url(url);
            assert!(matches!(name, Err(QueueError::QueueDoesNotExist)), "{url}");
        }
    }

    #[test]
    fn fifo_names_end_in_fifo_and_count_the_suffix() {
        let longest = format!("{}.fifo", "x".repeat(75));
        for (name, dead_letter) in [("jobs.fifo", Some("jobs-dlq.fifo")), (&longest, None)] {
            let parsed = QueueName::parse(name).ok().filter(QueueName::is_fifo);
            let dead = parsed.and_then(|name| name.dead_letter().ok());
            assert_eq!(dead.as_ref().map(QueueName::as_str), dead_letter, "{name}");
        }
        for name in [&format!("x{longest}"), "a.fifo.fifo", "a.Fifo", "fifo."] {
            assert!(QueueName::parse(name).is_err(), "{name}");
        }
        assert!(QueueName::parse("fifo").is_ok_and(|name| !name.is_fifo()));
    }

    #[test]
    fn sequence_numbers_have_twenty_digits_and_sort_as_text() {
        let numbers = [1, 2, 10, i64::MAX].map(|n| SequenceNumber(n).to_string());
        assert!(numbers.iter().all(|number| number.len() == 20));
        assert!(numbers.is_sorted());
    }

    #[test]
    fn receipt_handles_are_read_back_or_refused() {
        let receipt = Receipt {
            row: i64::MAX,
            nonce: -1,
        };
        let handle = ReceiptHandle::encode(receipt);
        assert_eq!(handle.decode().ok(), Some(receipt));
        let longer = format!("{handle}A");
        for text in ["", "nonsense", &longer, "AgAAAAAAAAAAAAAAAAAAAAA"] {
            let read = ReceiptHandle::from(text.to_owned()).decode();
            assert!(
                matches!(read, Err(QueueError::ReceiptHandleIsInvalid(_))),
                "{text}"
            );
        }
    }
}
