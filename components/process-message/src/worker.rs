//! What happens to a message that comes out of the queue. Pure: it says what to
//! store, and does not store it.

use std::time::SystemTime;

use crate::message::{Message, from_epoch_millis};

/// The system attribute that SQS stamps a message with when it takes it in.
pub(crate) const SENT_TIMESTAMP: &str = "SentTimestamp";

/// What is to be stored for a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) key: String,
    pub(crate) document: Vec<u8>,
}

/// The message can never be processed. Text that begins with `reject:` sends it
/// to the dead-letter queue at once instead of being retried.
#[derive(Debug, thiserror::Error)]
#[error("reject: {0}")]
pub(crate) struct Reject(String);

/// Turns a received message into what is stored.
pub(crate) fn process(
    id: Option<&str>,
    body: Option<&str>,
    sent_timestamp: Option<&str>,
    now: SystemTime,
) -> Result<Stored, Reject> {
    let id = id.ok_or_else(|| Reject("the message has no id".to_owned()))?;
    let body = body.unwrap_or_default();
    let message = Message::parse(body.as_bytes()).map_err(|error| Reject(error.to_string()))?;
    let received_at = sent_timestamp.and_then(from_epoch_millis).unwrap_or(now);
    let document = message
        .document(id, received_at, now)
        .map_err(|error| Reject(format!("the document cannot be written: {error}")))?;
    Ok(Stored {
        key: id.to_owned(),
        document,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> SystemTime {
        from_epoch_millis("1767225600000").unwrap()
    }

    fn text(stored: &Stored) -> &str {
        std::str::from_utf8(&stored.document).unwrap()
    }

    #[test]
    fn a_message_is_stored_under_its_id() {
        let stored = process(Some("id-1"), Some("[1]"), Some("1767225599000"), now()).unwrap();
        assert_eq!(stored.key, "id-1");
        assert!(text(&stored).contains(r#""received_at":"2025-12-31T23:59:59.000Z""#));
        assert!(text(&stored).contains(r#""processed_at":"2026-01-01T00:00:00.000Z""#));
    }

    #[test]
    fn without_a_usable_stamp_it_was_received_now() {
        for stamp in [None, Some("soon")] {
            let stored = process(Some("id-1"), Some("1"), stamp, now()).unwrap();
            assert!(text(&stored).contains(r#""received_at":"2026-01-01T00:00:00.000Z""#));
        }
    }

    #[test]
    fn what_can_never_succeed_is_rejected() {
        for (id, body) in [
            (None, Some("1")),
            (Some("a"), None),
            (Some("a"), Some("not json")),
        ] {
            let reject = process(id, body, None, now()).unwrap_err().to_string();
            assert!(reject.starts_with("reject: "), "{reject}");
        }
    }
}
