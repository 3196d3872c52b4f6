//! The wire side of SQS: signed requests in its JSON protocol, and what its
//! answers mean. Pure: builds and reads, but sends nothing.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use serde::{Deserialize, Serialize};

/// Where the queue is and how to sign for it, from the component's variables.
pub(crate) struct Queue {
    /// Scheme, host and port of the SQS endpoint.
    pub(crate) origin: String,
    pub(crate) url: String,
    pub(crate) region: String,
    pub(crate) credentials: Credentials,
}

/// A request that is ready to be sent.
#[derive(Debug)]
pub(crate) struct SignedPost {
    pub(crate) url: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// A request could not be signed: the variables hold something impossible.
#[derive(Debug, thiserror::Error)]
#[error("cannot sign a request to the queue: {0}")]
pub(crate) struct Unsignable(String);

/// Why the queue did not take a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SendFailure {
    /// The message itself is at fault; sending it again will not help.
    Refused(String),
    /// The queue, or the way to it, is at fault.
    Unavailable(String),
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct SendMessage<'a> {
    queue_url: &'a str,
    message_body: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct GetQueueAttributes<'a> {
    queue_url: &'a str,
    attribute_names: [&'a str; 1],
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Sent {
    message_id: String,
}

/// The error document of AWS's JSON protocol.
#[derive(Default, Deserialize)]
struct Fault {
    #[serde(default, rename = "__type")]
    kind: String,
    #[serde(default, alias = "Message")]
    message: String,
}

impl Fault {
    fn read(body: &[u8]) -> Self {
        serde_json::from_slice(body).unwrap_or_default()
    }

    /// `QueueDoesNotExist` of `com.amazonaws.sqs#QueueDoesNotExist`.
    fn name(&self) -> &str {
        self.kind.rsplit('#').next().unwrap_or(&self.kind)
    }
}

impl Queue {
    /// The request that puts a message into the queue.
    pub(crate) fn send(&self, body: &str, now: SystemTime) -> Result<SignedPost, Unsignable> {
        self.post(
            "SendMessage",
            &SendMessage {
                queue_url: &self.url,
                message_body: body,
            },
            now,
        )
    }

    /// The cheapest request that shows whether the queue is there.
    pub(crate) fn ping(&self, now: SystemTime) -> Result<SignedPost, Unsignable> {
        let attributes = GetQueueAttributes {
            queue_url: &self.url,
            attribute_names: ["QueueArn"],
        };
        self.post("GetQueueAttributes", &attributes, now)
    }

    fn post(
        &self,
        action: &str,
        input: &impl Serialize,
        now: SystemTime,
    ) -> Result<SignedPost, Unsignable> {
        let unsignable = |error: &dyn std::error::Error| Unsignable(error.to_string());
        let body = serde_json::to_vec(input).map_err(|error| unsignable(&error))?;
        let url = format!("{}/", self.origin.trim_end_matches('/'));
        let mut headers = vec![
            (
                "content-type".to_owned(),
                "application/x-amz-json-1.0".to_owned(),
            ),
            ("x-amz-target".to_owned(), format!("AmazonSQS.{action}")),
        ];
        let identity = self.credentials.clone().into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("sqs")
            .time(now)
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| unsignable(&error))?
            .into();
        let request = SignableRequest::new(
            "POST",
            url.as_str(),
            headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str())),
            SignableBody::Bytes(&body),
        )
        .map_err(|error| unsignable(&error))?;
        let (signed, _) = sign(request, &parameters)
            .map_err(|error| unsignable(&error))?
            .into_parts();
        let (signatures, _) = signed.into_parts();
        for header in signatures {
            headers.push((header.name().to_owned(), header.value().to_owned()));
        }
        Ok(SignedPost { url, headers, body })
    }
}

/// The message id, or what went wrong, of an answer to `SendMessage`.
pub(crate) fn sent(status: u16, body: &[u8]) -> Result<String, SendFailure> {
    if (200..300).contains(&status) {
        return serde_json::from_slice(body)
            .map(|sent: Sent| sent.message_id)
            .map_err(|error| {
                SendFailure::Unavailable(format!("the queue's answer cannot be read: {error}"))
            });
    }
    let fault = Fault::read(body);
    match fault.name() {
        "InvalidMessageContents" => Err(SendFailure::Refused(fault.message)),
        _ => Err(SendFailure::Unavailable(describe(status, &fault))),
    }
}

/// Whether an answer to the ping shows a queue that takes messages. A key that
/// may only send is refused the attributes, by a queue that is there.
pub(crate) fn pinged(status: u16, body: &[u8]) -> Result<(), String> {
    let fault = Fault::read(body);
    let is_there = (200..300).contains(&status)
        || ["AccessDenied", "AccessDeniedException"].contains(&fault.name());
    if is_there {
        Ok(())
    } else {
        Err(describe(status, &fault))
    }
}

fn describe(status: u16, fault: &Fault) -> String {
    format!(
        "the queue answered {status} {} {}",
        fault.name(),
        fault.message
    )
    .trim_end()
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::from_epoch_millis;

    fn queue(token: Option<&str>) -> Queue {
        Queue {
            origin: "http://127.0.0.1:9324".to_owned(),
            url: "http://127.0.0.1:9324/000000000000/messages".to_owned(),
            region: "us-east-1".to_owned(),
            credentials: Credentials::new(
                "local",
                "secret",
                token.map(str::to_owned),
                None,
                "test",
            ),
        }
    }

    fn now() -> SystemTime {
        from_epoch_millis("1767225600000").unwrap()
    }

    fn header<'a>(post: &'a SignedPost, name: &str) -> Option<&'a str> {
        post.headers
            .iter()
            .find(|(own, _)| own == name)
            .map(|(_, value)| value.as_str())
    }

    #[test]
    fn a_send_is_a_signed_json_request() {
        let post = queue(None).send(r#"{"a": "ä"}"#, now()).unwrap();
        assert_eq!(post.url, "http://127.0.0.1:9324/");
        assert_eq!(
            String::from_utf8(post.body.clone()).unwrap(),
            r#"{"QueueUrl":"http://127.0.0.1:9324/000000000000/messages","MessageBody":"{\"a\": \"ä\"}"}"#
        );
        assert_eq!(header(&post, "x-amz-target"), Some("AmazonSQS.SendMessage"));
        assert_eq!(
            header(&post, "content-type"),
            Some("application/x-amz-json-1.0")
        );
        assert_eq!(header(&post, "x-amz-date"), Some("20260101T000000Z"));
        let authorization = header(&post, "authorization").unwrap();
        let expected = "AWS4-HMAC-SHA256 Credential=local/20260101/us-east-1/sqs/aws4_request, \
                        SignedHeaders=content-type;host;x-amz-date;x-amz-target, Signature=";
        assert!(authorization.starts_with(expected), "{authorization}");
        assert!(!format!("{post:?}").contains("secret"));
    }

    #[test]
    fn the_body_is_part_of_the_signature() {
        let sign = |body| {
            let post = queue(None).send(body, now()).unwrap();
            header(&post, "authorization").map(str::to_owned)
        };
        assert_eq!(sign("1"), sign("1"));
        assert_ne!(sign("1"), sign("2"));
    }

    #[test]
    fn a_session_token_is_sent_when_there_is_one() {
        let with = queue(Some("token")).ping(now()).unwrap();
        assert_eq!(header(&with, "x-amz-security-token"), Some("token"));
        let without = queue(None).ping(now()).unwrap();
        assert_eq!(header(&without, "x-amz-security-token"), None);
    }

    #[test]
    fn answers_to_a_send() {
        let id = sent(200, br#"{"MD5OfMessageBody":"x","MessageId":"id-1"}"#);
        assert_eq!(id, Ok("id-1".to_owned()));
        let refused =
            br#"{"__type":"com.amazonaws.sqs#InvalidMessageContents","message":"U+FFFE"}"#;
        assert_eq!(
            sent(400, refused),
            Err(SendFailure::Refused("U+FFFE".to_owned()))
        );
        for (status, body) in [
            (200, b"<html>".as_slice()),
            (500, b""),
            (503, br#"{"__type":"ServiceUnavailable"}"#),
            (
                400,
                br#"{"__type":"com.amazon.coral.service#ThrottlingException","message":"slow"}"#,
            ),
            (
                400,
                br#"{"__type":"com.amazonaws.sqs#QueueDoesNotExist","message":"gone"}"#,
            ),
            (403, br#"{"__type":"InvalidClientTokenId"}"#),
        ] {
            let failure = sent(status, body);
            assert!(
                matches!(failure, Err(SendFailure::Unavailable(_))),
                "{status} {failure:?}"
            );
        }
    }

    #[test]
    fn a_send_only_key_still_shows_a_queue() {
        assert_eq!(pinged(200, b"{}"), Ok(()));
        let denied =
            br#"{"__type":"com.amazon.coral.service#AccessDeniedException","Message":"no"}"#;
        assert_eq!(pinged(403, denied), Ok(()));
        let gone = br#"{"__type":"com.amazonaws.sqs#QueueDoesNotExist","message":"no queue"}"#;
        let reason = pinged(400, gone).unwrap_err();
        assert_eq!(reason, "the queue answered 400 QueueDoesNotExist no queue");
        assert!(pinged(403, br#"{"__type":"InvalidClientTokenId"}"#).is_err());
    }
}
