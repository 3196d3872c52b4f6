//! Checks on what callers send, made before anything reaches the writer.
//! Owns SQS's rules about contents and batches; refuses to know a particular queue's settings.

use std::collections::{BTreeMap, HashSet};

use crate::errors::QueueError;
use crate::limits;
use crate::model::{AttributeValue, BatchEntry, MessageAttribute, OutgoingMessage, is_plain_id};

/// Checks contents (SQS API Reference, `SendMessage`) and returns the size that counts:
/// body plus names, types and values of message attributes. System attributes do not count.
pub(crate) fn message_size(message: &OutgoingMessage) -> Result<usize, QueueError> {
    if message.body.is_empty() {
        return Err(QueueError::MissingParameter("MessageBody"));
    }
    if !message.body.chars().all(is_allowed) {
        return Err(QueueError::InvalidMessageContents);
    }
    DELAY.check(message.delay_secs)?;
    fifo_id("MessageGroupId", message.group_id.as_deref())?;
    fifo_id(
        "MessageDeduplicationId",
        message.deduplication_id.as_deref(),
    )?;
    if message.attributes.len() > limits::MAX_MESSAGE_ATTRIBUTES {
        return Err(QueueError::InvalidParameter(format!(
            "Number of message attributes [{}] exceeds the allowed maximum [{}].",
            message.attributes.len(),
            limits::MAX_MESSAGE_ATTRIBUTES
        )));
    }
    let mut bytes = message.body.len();
    for (name, attribute) in &message.attributes {
        check_attribute(name, attribute)?;
        bytes += name.len() + attribute.size();
    }
    Ok(bytes)
}

/// 1 to 128 letters, digits and punctuation of ASCII (SQS API Reference, `SendMessage`,
/// `MessageGroupId`; the same for `MessageDeduplicationId` and `ReceiveRequestAttemptId`).
pub(crate) fn fifo_id(parameter: &'static str, id: Option<&str>) -> Result<(), QueueError> {
    let fits = |id: &str| {
        (1..=limits::MAX_FIFO_ID_LEN).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_graphic())
    };
    match id {
        Some(id) if !fits(id) => Err(QueueError::parameter(
            parameter,
            id,
            format!(
                "{parameter} can only include alphanumeric and punctuation characters. 1 to 128 \
                 in length."
            ),
        )),
        _ => Ok(()),
    }
}

/// Checks tags that are to be added (SQS API Reference, `TagQueue`).
pub(crate) fn tags(tags: &BTreeMap<String, String>) -> Result<(), QueueError> {
    let refuse = |reason: &str| Err(QueueError::InvalidParameter(reason.to_owned()));
    if tags.is_empty() {
        return Err(QueueError::MissingParameter("Tags"));
    }
    for (key, value) in tags {
        if !(1..=limits::MAX_TAG_KEY_LEN).contains(&key.chars().count()) {
            return refuse("Tag keys must be between 1 and 128 characters in length.");
        }
        if value.chars().count() > limits::MAX_TAG_VALUE_LEN {
            return refuse("Tag values must be between 0 and 256 characters in length.");
        }
        if !key.chars().all(is_tag_character) {
            return refuse(
                "Tag keys may only contain unicode letters, digits, whitespace, or one of these \
                 symbols: _ . : / = + - @",
            );
        }
        if !value.chars().all(is_tag_character) {
            return refuse(
                "Tag values may only contain unicode letters, digits, whitespace, or one of these \
                 symbols: _ . : / = + - @",
            );
        }
        if [key, value]
            .iter()
            .any(|text| text.to_ascii_lowercase().starts_with("aws:"))
        {
            return refuse("Tag keys and values must not begin with aws:, which is reserved.");
        }
    }
    Ok(())
}

fn is_tag_character(c: char) -> bool {
    c.is_alphanumeric() || c.is_whitespace() || "_.:/=+-@".contains(c)
}

/// Refuses a message of `bytes` beyond `limit`. SQS has other words for a batch's entry.
pub(crate) fn check_size(bytes: usize, limit: u32, in_batch: bool) -> Result<(), QueueError> {
    if bytes <= limit as usize {
        return Ok(());
    }
    let cannot = if in_batch {
        "cannot be validated"
    } else {
        "are invalid"
    };
    Err(QueueError::InvalidParameter(format!(
        "One or more parameters {cannot}. Reason: Message must be shorter than {limit} bytes."
    )))
}

/// Characters that a body and a text attribute may hold (SQS API Reference, `SendMessage`).
fn is_allowed(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..)
}

fn check_attribute(name: &str, attribute: &MessageAttribute) -> Result<(), QueueError> {
    let refuse = |reason: String| Err(QueueError::InvalidParameter(reason));
    if let Some(reason) = unfit_name(name) {
        return refuse(reason.to_owned());
    }
    let data_type = attribute.data_type();
    if data_type.is_empty() {
        return refuse(format!(
            "The message (user) attribute '{name}' must contain a non-empty message attribute type."
        ));
    }
    if data_type.len() > limits::MAX_ATTRIBUTE_NAME_LEN {
        return refuse("Message (user) attribute type must be shorter than 256 bytes.".to_owned());
    }
    let base = data_type
        .split_once('.')
        .map_or(data_type, |(base, _)| base);
    let is_empty = match attribute.value() {
        AttributeValue::Text(text) => text.is_empty(),
        AttributeValue::Binary(bytes) => bytes.is_empty(),
    };
    match (base, attribute.value()) {
        ("String" | "Number" | "Binary", _) if is_empty => refuse(format!(
            "Message (user) attribute '{name}' must contain a non-empty value of type '{base}'."
        )),
        ("String" | "Number", AttributeValue::Text(text)) if !text.chars().all(is_allowed) => {
            Err(QueueError::InvalidMessageContents)
        }
        ("Number", AttributeValue::Text(text)) if !is_number(text) => refuse(format!(
            "Can't cast the value of message (user) attribute '{name}' to a number."
        )),
        ("String" | "Number", AttributeValue::Text(_)) | ("Binary", AttributeValue::Binary(_)) => {
            Ok(())
        }
        ("String" | "Number", _) => refuse(format!(
            "The message (user) attribute '{name}' with type '{data_type}' must use field 'String'."
        )),
        ("Binary", _) => refuse(format!(
            "The message (user) attribute '{name}' with type '{data_type}' must use field 'Binary'."
        )),
        _ => refuse(format!(
            "The type of message (user) attribute '{name}' is invalid. You must use only the \
             following supported type prefixes: Binary, Number, String."
        )),
    }
}

/// Why a message attribute cannot have this name. SQS takes letters beyond ASCII, too, though its
/// documentation does not say so.
fn unfit_name(name: &str) -> Option<&'static str> {
    let lower = name.to_ascii_lowercase();
    let fits = |c: char| c.is_alphanumeric() || "_-.".contains(c);
    if name.is_empty() {
        Some("The request must contain non-empty message (user) attribute names.")
    } else if name.len() > limits::MAX_ATTRIBUTE_NAME_LEN {
        Some("Message (user) attribute name must be shorter than 256 bytes.")
    } else if lower.starts_with("aws.") || lower.starts_with("amazon.") {
        Some(
            "You can't use message attribute names beginning with 'AWS.' or 'Amazon.'. These \
             strings are reserved for internal use.",
        )
    } else if name.starts_with('.') {
        Some("Message (user) attribute name must not begin with character '.'.")
    } else if name.ends_with('.') {
        Some("Message (user) attribute name must not end with character '.'.")
    } else if name.contains("..") {
        Some("Message (user) attribute name must not have successive '.' characters.")
    } else if !name.chars().all(fits) {
        Some(
            "Message (user) attribute name can only contain upper and lower score characters, \
             digits, periods, hyphens and underscores.",
        )
    } else {
        None
    }
}

/// A decimal number of up to 38 digits, optionally with sign, fraction and exponent.
fn is_number(text: &str) -> bool {
    let mantissa = text.split(['e', 'E']).next().unwrap_or(text);
    let digits = mantissa.bytes().filter(u8::is_ascii_digit).count();
    (1..=38).contains(&digits)
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b))
        && text.parse::<f64>().is_ok_and(f64::is_finite)
}

/// A parameter that is a number of seconds, from 0 on.
pub(crate) struct Seconds {
    parameter: &'static str,
    max: u32,
    reason: &'static str,
}

/// Of a message.
pub(crate) const DELAY: Seconds = Seconds {
    parameter: "DelaySeconds",
    max: limits::MAX_DELAY_SECS,
    reason: "DelaySeconds must be >= 0 and <= 900.",
};
/// Of a receive.
pub(crate) const WAIT: Seconds = Seconds {
    parameter: "WaitTimeSeconds",
    max: limits::MAX_WAIT_SECS,
    reason: "Must be >= 0 and <= 20, if provided.",
};
/// Of a receive.
pub(crate) const VISIBILITY: Seconds = Seconds {
    parameter: "VisibilityTimeout",
    max: limits::MAX_VISIBILITY_SECS,
    reason: "Must be >= 0 and <= 43200, if provided.",
};
/// Of `ChangeMessageVisibility`.
pub(crate) const CHANGED_VISIBILITY: Seconds = Seconds {
    parameter: "VisibilityTimeout",
    max: limits::MAX_VISIBILITY_SECS,
    reason: "Must be between 0 and 43200.",
};

impl Seconds {
    /// Refuses a value above the maximum; `None` is fine.
    pub(crate) fn check(&self, value: Option<u32>) -> Result<(), QueueError> {
        match value {
            Some(value) if value > self.max => Err(self.refusal(&value)),
            _ => Ok(()),
        }
    }

    /// A value as it came over the wire.
    pub(crate) fn read(&self, value: i64) -> Result<u32, QueueError> {
        let read = u32::try_from(value).ok();
        read.filter(|value| *value <= self.max)
            .ok_or_else(|| self.refusal(&value))
    }

    pub(crate) fn refusal(&self, value: &impl ToString) -> QueueError {
        QueueError::parameter(self.parameter, value.to_string(), self.reason)
    }
}

/// Refuses the number of messages that a receive asks for.
pub(crate) fn max_messages(value: &impl ToString) -> QueueError {
    let reason = "Must be between 1 and 10, if provided.";
    QueueError::parameter("MaxNumberOfMessages", value.to_string(), reason)
}

/// What SQS calls the entries of each batch.
pub(crate) const SEND_ENTRY: &str = "SendMessageBatchRequestEntry";
/// As [`SEND_ENTRY`].
pub(crate) const DELETE_ENTRY: &str = "DeleteMessageBatchRequestEntry";
/// As [`SEND_ENTRY`].
pub(crate) const VISIBILITY_ENTRY: &str = "ChangeMessageVisibilityBatchRequestEntry";

/// Checks the shape of a batch: 1 to 10 entries with well-formed, distinct ids.
/// `entry` is what SQS calls one of them.
pub(crate) fn batch<T>(entry: &'static str, entries: &[BatchEntry<T>]) -> Result<(), QueueError> {
    if entries.is_empty() {
        return Err(QueueError::EmptyBatchRequest(entry));
    }
    if entries.len() > limits::MAX_BATCH_ENTRIES {
        return Err(QueueError::TooManyEntriesInBatchRequest(entries.len()));
    }
    let mut seen = HashSet::new();
    for entry in entries {
        if !is_plain_id(&entry.id) {
            return Err(QueueError::InvalidBatchEntryId);
        }
        if !seen.insert(entry.id.as_str()) {
            return Err(QueueError::BatchEntryIdsNotDistinct(entry.id.clone()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &str, attribute: MessageAttribute) -> Result<usize, QueueError> {
        let mut message = OutgoingMessage::new("x");
        message.attributes.insert(name.to_owned(), attribute);
        message_size(&message)
    }

    #[test]
    fn size_counts_names_types_and_values() {
        assert_eq!(
            with("name", MessageAttribute::string("value")).ok(),
            Some(1 + 4 + 6 + 5)
        );
        assert_eq!(
            with("n", MessageAttribute::binary(vec![0, 1])).ok(),
            Some(1 + 1 + 6 + 2)
        );
    }

    #[test]
    fn attribute_names_follow_the_rules() {
        for name in ["a", "A.b-c_d", "ø", &"x".repeat(256)] {
            assert!(with(name, MessageAttribute::string("v")).is_ok(), "{name}");
        }
        for name in [
            "",
            ".a",
            "a.",
            "a..b",
            "a b",
            "§",
            "AWS.x",
            "amazon.y",
            &"x".repeat(257),
        ] {
            assert!(with(name, MessageAttribute::string("v")).is_err(), "{name}");
        }
    }

    #[test]
    fn attribute_types_follow_the_rules() {
        for ok in ["1", "-1.5", "1e10", &"9".repeat(38)] {
            assert!(with("n", MessageAttribute::number(ok)).is_ok(), "{ok}");
        }
        for bad in ["", "x", "inf", "NaN", "1 ", &"9".repeat(39)] {
            assert!(with("n", MessageAttribute::number(bad)).is_err(), "{bad}");
        }
        assert!(with("n", MessageAttribute::text_of("Binary", "x")).is_err());
        assert!(with("n", MessageAttribute::binary_of("String", vec![1])).is_err());
        assert!(with("n", MessageAttribute::text_of("Text", "x")).is_err());
        assert!(with("n", MessageAttribute::text_of("String.uri", "x")).is_ok());
    }

    #[test]
    fn bodies_refuse_what_xml_refuses() {
        for ok in ["\t\n\r ", "\u{D7FF}", "\u{E000}\u{FFFD}", "😀\u{10FFFF}"] {
            assert!(message_size(&OutgoingMessage::new(ok)).is_ok(), "{ok:?}");
        }
        for bad in ["\0", "\u{1f}", "\u{FFFE}", "\u{FFFF}", "a\u{b}"] {
            let refused = message_size(&OutgoingMessage::new(bad));
            assert!(
                matches!(refused, Err(QueueError::InvalidMessageContents)),
                "{bad:?}"
            );
        }
    }
}
