//! The event that an upload puts into the queue: which image needs a thumbnail.

use serde::Deserialize;

use crate::id::is_id;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Event<'a> {
    image: &'a str,
}

/// The message can never be handled. Text that begins with `reject:` sends it to
/// the dead-letter queue at once instead of being retried.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("reject: the message is no `{{\"image\":\"<id>\"}}`")]
pub(crate) struct Reject;

/// The message for an image.
pub(crate) fn write(id: &str) -> String {
    format!("{{\"image\":\"{id}\"}}")
}

/// The image that a message is about.
pub(crate) fn read(body: Option<&str>) -> Result<&str, Reject> {
    let event: Event = serde_json::from_str(body.unwrap_or_default()).map_err(|_| Reject)?;
    Some(event.image).filter(|id| is_id(id)).ok_or(Reject)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(write(ID), format!(r#"{{"image":"{ID}"}}"#));
        assert_eq!(read(Some(&write(ID))), Ok(ID));
    }

    #[test]
    fn anything_else_is_rejected() {
        let more = format!(r#"{{"image":"{ID}","x":1}}"#);
        for body in [
            None,
            Some(""),
            Some("{}"),
            Some("[]"),
            Some(r#"{"image":"x"}"#),
        ] {
            assert_eq!(read(body), Err(Reject), "{body:?}");
        }
        assert_eq!(read(Some(&more)), Err(Reject));
        assert!(Reject.to_string().starts_with("reject: "));
    }
}
