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
    in_range("DelaySeconds", message.delay_secs, limits::MAX_DELAY_SECS)?;
    fifo_id("MessageGroupId", message.group_id.as_deref())?;
    fifo_id(
        "MessageDeduplicationId",
        message.deduplication_id.as_deref(),
    )?;
    if message.attributes.len() > limits::MAX_MESSAGE_ATTRIBUTES {
        return Err(attribute_error(format!(
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
    let refuse = |reason: String| Err(QueueError::parameter("Tags", reason));
    if tags.is_empty() {
        return Err(QueueError::MissingParameter("Tags"));
    }
    for (key, value) in tags {
        if !(1..=limits::MAX_TAG_KEY_LEN).contains(&key.chars().count()) {
            return refuse(format!("Tag key `{key}` must have 1 to 128 characters."));
        }
        if value.chars().count() > limits::MAX_TAG_VALUE_LEN {
            return refuse(format!("The value of tag `{key}` is over 256 characters."));
        }
        if key.to_ascii_lowercase().starts_with("aws:") {
            return refuse(format!("Tag key `{key}` must not begin with aws:."));
        }
    }
    Ok(())
}

/// Refuses a message of `bytes` beyond `limit`.
pub(crate) fn check_size(bytes: usize, limit: u32) -> Result<(), QueueError> {
    if bytes > limit as usize {
        return Err(QueueError::parameter(
            "MessageBody",
            format!("Message must be shorter than or equal to {limit} bytes; it has {bytes}."),
        ));
    }
    Ok(())
}

/// Characters that a body and a text attribute may hold (SQS API Reference, `SendMessage`).
fn is_allowed(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..)
}

fn attribute_error(reason: String) -> QueueError {
    QueueError::parameter("MessageAttributes", reason)
}

fn check_attribute(name: &str, attribute: &MessageAttribute) -> Result<(), QueueError> {
    let refuse = |reason: &str| {
        Err(attribute_error(format!(
            "The message attribute '{name}' {reason}."
        )))
    };
    let lower = name.to_ascii_lowercase();
    let well_formed = (1..=limits::MAX_ATTRIBUTE_NAME_LEN).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
        && !(name.starts_with('.') || name.ends_with('.') || name.contains(".."));
    if !well_formed {
        return refuse(
            "has an invalid name: 1 to 256 letters, digits, underscores, hyphens and single \
             periods, without a period at either end",
        );
    }
    if lower.starts_with("aws.") || lower.starts_with("amazon.") {
        return refuse("has a reserved name: it must not start with AWS. or Amazon.");
    }
    let data_type = attribute.data_type();
    if data_type.len() > limits::MAX_ATTRIBUTE_NAME_LEN {
        return refuse("has a type of more than 256 characters");
    }
    let base = data_type
        .split_once('.')
        .map_or(data_type, |(base, _)| base);
    match (base, attribute.value()) {
        ("String" | "Number", AttributeValue::Text(text)) if text.is_empty() => {
            refuse("must contain a non-empty value")
        }
        ("Binary", AttributeValue::Binary(bytes)) if bytes.is_empty() => {
            refuse("must contain a non-empty value")
        }
        ("String" | "Number", AttributeValue::Text(text)) if !text.chars().all(is_allowed) => {
            refuse("contains invalid characters")
        }
        ("Number", AttributeValue::Text(text)) if !is_number(text) => {
            refuse("is a Number, but its value is not a number of up to 38 digits")
        }
        ("String" | "Number", AttributeValue::Text(_)) | ("Binary", AttributeValue::Binary(_)) => {
            Ok(())
        }
        ("String" | "Number" | "Binary", _) => refuse("has a value that is not of its type"),
        _ => refuse("has an invalid type: it must start with String, Number or Binary"),
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

/// Refuses a value above `max`; `None` is fine.
pub(crate) fn in_range(
    parameter: &'static str,
    value: Option<u32>,
    max: u32,
) -> Result<(), QueueError> {
    match value {
        Some(value) if value > max => Err(QueueError::parameter(
            parameter,
            format!("{value} must be from 0 to {max}."),
        )),
        _ => Ok(()),
    }
}

/// Checks the shape of a batch: 1 to 10 entries with well-formed, distinct ids.
pub(crate) fn batch<T>(entries: &[BatchEntry<T>]) -> Result<(), QueueError> {
    if entries.is_empty() {
        return Err(QueueError::EmptyBatchRequest);
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
        for name in ["a", "A.b-c_d", &"x".repeat(256)] {
            assert!(with(name, MessageAttribute::string("v")).is_ok(), "{name}");
        }
        for name in [
            "",
            ".a",
            "a.",
            "a..b",
            "a b",
            "ä",
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
