//! A posted message and the document that is stored for it. Pure: bytes in,
//! bytes out. The posted JSON is kept byte for byte, numbers of any size included.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reply::{hex, timestamp};
use serde::Serialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

/// The largest message that is taken in.
pub(crate) const MAX_BYTES: usize = 256 * 1024;

/// Deeper nesting is refused here: most JSON readers, ours among them, stop there.
const MAX_DEPTH: usize = 128;

/// Text that is known to be one JSON value.
#[derive(Debug)]
pub(crate) struct Message<'a> {
    text: &'a str,
    json: &'a RawValue,
}

/// Why bytes are no message.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotJson {
    #[error("the body is not UTF-8 text")]
    Encoding,
    #[error("the body is not JSON: {0}")]
    Syntax(String),
    #[error("the body is nested deeper than {MAX_DEPTH} levels")]
    Depth,
}

impl<'a> Message<'a> {
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, NotJson> {
        let text = std::str::from_utf8(body).map_err(|_| NotJson::Encoding)?;
        let json: &RawValue =
            serde_json::from_str(text).map_err(|error| NotJson::Syntax(error.to_string()))?;
        if depth(json.get()) > MAX_DEPTH {
            return Err(NotJson::Depth);
        }
        Ok(Self { text, json })
    }

    /// The whole text, as it was posted.
    pub(crate) fn text(&self) -> &'a str {
        self.text
    }

    /// The document that is stored under the message's id.
    pub(crate) fn document(
        &self,
        message_id: &str,
        received_at: SystemTime,
        processed_at: SystemTime,
    ) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&Document {
            message_id,
            body: self.json,
            received_at: timestamp(received_at),
            processed_at: timestamp(processed_at),
            sha256: hex(&Sha256::digest(self.text)),
        })
    }
}

#[derive(Serialize)]
struct Document<'a> {
    message_id: &'a str,
    body: &'a RawValue,
    received_at: String,
    processed_at: String,
    sha256: String,
}

/// How deep valid JSON nests; counts instead of recursing.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0_usize);
    let (mut in_string, mut escaped) = (false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// The time that SQS writes: milliseconds since 1970, in decimal. Nothing when
/// it is no such number, or one that no calendar holds.
pub(crate) fn from_epoch_millis(text: &str) -> Option<SystemTime> {
    /// The end of the year 9999, where RFC 3339 ends.
    const END: u64 = 253_402_300_800_000;
    let millis = text.parse().ok().filter(|millis| *millis < END)?;
    UNIX_EPOCH.checked_add(Duration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(body: &str) -> String {
        let received = from_epoch_millis("1767225600123").unwrap();
        let processed = received + Duration::from_millis(877);
        let message = Message::parse(body.as_bytes()).unwrap();
        String::from_utf8(message.document("id-1", received, processed).unwrap()).unwrap()
    }

    #[test]
    fn the_document_holds_body_stamps_and_hash() {
        assert_eq!(
            document(r#"{"hello": "world"}"#),
            r#"{"message_id":"id-1","body":{"hello": "world"},"received_at":"2026-01-01T00:00:00.123Z","processed_at":"2026-01-01T00:00:01.000Z","sha256":"5f8f04f6a3a892aaabbddb6cf273894493773960d4a325b105fee46eef4304f1"}"#
        );
    }

    #[test]
    fn the_body_is_kept_byte_for_byte() {
        for body in [
            "12345678901234567890123456789.000",
            "1e999",
            r#"{"a":1,"a":2}"#,
            r#""\ud83d\ude00 ä""#,
            "null",
            "[ 1 ,\t2 ]",
        ] {
            assert!(
                document(body).contains(&format!(r#""body":{body},"#)),
                "{body}"
            );
        }
    }

    #[test]
    fn space_around_the_value_counts_for_the_hash_only() {
        let document = document(" 1\n");
        assert!(document.contains(r#""body":1,"#), "{document}");
        // What `printf ' 1\n' | sha256sum` prints.
        let sum = "ed32f242203b8e7cf7822ab7ed18481d883e3e9d91f4f3b14fcb3e4c674c0037";
        assert!(document.contains(sum), "{document}");
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for body in [
            "",
            " ",
            "{",
            "{'a':1}",
            "nul",
            "1 2",
            "[1,]",
            "\u{feff}1",
            "01",
            "\"\n\"",
        ] {
            let refused = Message::parse(body.as_bytes());
            assert!(matches!(refused, Err(NotJson::Syntax(_))), "{body:?}");
        }
        assert_eq!(Message::parse(b"\"\xff\"").unwrap_err(), NotJson::Encoding);
    }

    #[test]
    fn nesting_is_limited_but_brackets_in_strings_do_not_count() {
        let nested = |levels| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
        assert!(Message::parse(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert_eq!(
            Message::parse(nested(MAX_DEPTH + 1).as_bytes()).unwrap_err(),
            NotJson::Depth
        );
        assert_eq!(
            Message::parse(nested(130_000).as_bytes()).unwrap_err(),
            NotJson::Depth
        );
        let in_string = format!("\"{}\\\"{}\"", "[".repeat(500), "{".repeat(500));
        assert!(Message::parse(in_string.as_bytes()).is_ok());
        let side_by_side = format!("[{}1]", "[],".repeat(500));
        assert!(Message::parse(side_by_side.as_bytes()).is_ok());
    }

    #[test]
    fn sent_timestamps_are_milliseconds() {
        assert_eq!(from_epoch_millis("0"), Some(UNIX_EPOCH));
        for text in ["", "-1", "soon", "253402300800000", "99999999999999999999"] {
            assert_eq!(from_epoch_millis(text), None, "{text}");
        }
    }
}
