//! The wire side of SQS: signed requests in its JSON protocol, and what its
//! answers mean. Pure: builds and reads, but sends nothing.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use outbound::{Answer, Call};
use serde::{Deserialize, Serialize};

/// A queue, and how to sign for it.
pub struct Queue {
    /// Scheme, host and port of the SQS endpoint.
    pub origin: String,
    /// The queue's URL, which names it to the endpoint.
    pub url: String,
    /// The region that requests are signed for.
    pub region: String,
    /// What requests are signed with.
    pub credentials: Credentials,
}

/// How many messages a queue holds, as the endpoint counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Depth {
    /// Ready to be received.
    pub visible: u64,
    /// Received and not settled.
    pub in_flight: u64,
}

/// A request could not be signed: the variables hold something impossible.
#[derive(Debug, thiserror::Error)]
#[error("cannot sign a request to the queue: {0}")]
pub(crate) struct Unsignable(String);

/// Why the queue did not take a message.
#[derive(Debug, PartialEq, Eq)]
pub enum SendFailure {
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
    attribute_names: &'a [&'a str],
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Sent {
    message_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Attributes {
    attributes: Counts,
}

/// SQS writes its numbers as texts.
#[derive(Deserialize)]
struct Counts {
    #[serde(rename = "ApproximateNumberOfMessages")]
    visible: String,
    #[serde(rename = "ApproximateNumberOfMessagesNotVisible")]
    in_flight: String,
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
    pub(crate) fn message(&self, body: &str, now: SystemTime) -> Result<Call, Unsignable> {
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
    pub(crate) fn ask_presence(&self, now: SystemTime) -> Result<Call, Unsignable> {
        let attributes = GetQueueAttributes {
            queue_url: &self.url,
            attribute_names: &["QueueArn"],
        };
        self.post("GetQueueAttributes", &attributes, now)
    }

    /// The request for the queue's depth.
    pub(crate) fn ask_depth(&self, now: SystemTime) -> Result<Call, Unsignable> {
        let attributes = GetQueueAttributes {
            queue_url: &self.url,
            attribute_names: &[
                "ApproximateNumberOfMessages",
                "ApproximateNumberOfMessagesNotVisible",
            ],
        };
        self.post("GetQueueAttributes", &attributes, now)
    }

    fn post(
        &self,
        action: &str,
        input: &impl Serialize,
        now: SystemTime,
    ) -> Result<Call, Unsignable> {
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
        Ok(Call {
            method: "POST",
            url,
            headers,
            body,
        })
    }
}

/// The message id, or what went wrong, of an answer to `SendMessage`.
pub(crate) fn sent(answer: &Answer) -> Result<String, SendFailure> {
    if answer.is_success() {
        return serde_json::from_slice(&answer.body)
            .map(|sent: Sent| sent.message_id)
            .map_err(|error| {
                SendFailure::Unavailable(format!("the queue's answer cannot be read: {error}"))
            });
    }
    let fault = Fault::read(&answer.body);
    match fault.name() {
        "InvalidMessageContents" => Err(SendFailure::Refused(fault.message)),
        _ => Err(SendFailure::Unavailable(describe(answer.status, &fault))),
    }
}

/// Whether an answer to the ping shows a queue that takes messages. A key that
/// may only send is refused the attributes, by a queue that is there.
pub(crate) fn is_present(answer: &Answer) -> Result<(), String> {
    let fault = Fault::read(&answer.body);
    let is_there =
        answer.is_success() || ["AccessDenied", "AccessDeniedException"].contains(&fault.name());
    if is_there {
        Ok(())
    } else {
        Err(describe(answer.status, &fault))
    }
}

/// The depth that an answer tells.
pub(crate) fn depth(answer: &Answer) -> Result<Depth, String> {
    if !answer.is_success() {
        return Err(describe(answer.status, &Fault::read(&answer.body)));
    }
    let read: Attributes = serde_json::from_slice(&answer.body)
        .map_err(|error| format!("the queue's answer cannot be read: {error}"))?;
    let number = |text: &str| {
        text.parse()
            .map_err(|_| format!("the queue's answer holds `{text}` for a number"))
    };
    Ok(Depth {
        visible: number(&read.attributes.visible)?,
        in_flight: number(&read.attributes.in_flight)?,
    })
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
        SystemTime::UNIX_EPOCH + std::time::Duration::from_hours(490_896)
    }

    fn header<'a>(post: &'a Call, name: &str) -> Option<&'a str> {
        post.headers
            .iter()
            .find(|(own, _)| own == name)
            .map(|(_, value)| value.as_str())
    }

    #[test]
    fn a_send_is_a_signed_json_request() {
        let post = queue(None).message(r#"{"a": "ä"}"#, now()).unwrap();
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
            let post = queue(None).message(body, now()).unwrap();
            header(&post, "authorization").map(str::to_owned)
        };
        assert_eq!(sign("1"), sign("1"));
        assert_ne!(sign("1"), sign("2"));
    }

    #[test]
    fn a_session_token_is_sent_when_there_is_one() {
        let with = queue(Some("token")).ask_presence(now()).unwrap();
        assert_eq!(header(&with, "x-amz-security-token"), Some("token"));
        let without = queue(None).ask_presence(now()).unwrap();
        assert_eq!(header(&without, "x-amz-security-token"), None);
    }

    fn answer(status: u16, body: &[u8]) -> Answer {
        Answer {
            status,
            body: body.to_vec(),
        }
    }

    #[test]
    fn answers_to_a_send() {
        let id = sent(&answer(
            200,
            br#"{"MD5OfMessageBody":"x","MessageId":"id-1"}"#,
        ));
        assert_eq!(id, Ok("id-1".to_owned()));
        let refused =
            br#"{"__type":"com.amazonaws.sqs#InvalidMessageContents","message":"U+FFFE"}"#;
        assert_eq!(
            sent(&answer(400, refused)),
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
            let failure = sent(&answer(status, body));
            assert!(
                matches!(failure, Err(SendFailure::Unavailable(_))),
                "{status} {failure:?}"
            );
        }
    }

    #[test]
    fn a_send_only_key_still_shows_a_queue() {
        assert_eq!(is_present(&answer(200, b"{}")), Ok(()));
        let denied =
            br#"{"__type":"com.amazon.coral.service#AccessDeniedException","Message":"no"}"#;
        assert_eq!(is_present(&answer(403, denied)), Ok(()));
        let gone = br#"{"__type":"com.amazonaws.sqs#QueueDoesNotExist","message":"no queue"}"#;
        let reason = is_present(&answer(400, gone)).unwrap_err();
        assert_eq!(reason, "the queue answered 400 QueueDoesNotExist no queue");
        assert!(is_present(&answer(403, br#"{"__type":"InvalidClientTokenId"}"#)).is_err());
    }

    #[test]
    fn a_depth_is_two_numbers() {
        let body = br#"{"Attributes":{"ApproximateNumberOfMessages":"12","ApproximateNumberOfMessagesNotVisible":"3"}}"#;
        let expected = Depth {
            visible: 12,
            in_flight: 3,
        };
        assert_eq!(depth(&answer(200, body)), Ok(expected));
        assert!(depth(&answer(200, b"{}")).is_err());
        let gone = br#"{"__type":"com.amazonaws.sqs#QueueDoesNotExist","message":"no queue"}"#;
        let reason = depth(&answer(400, gone)).unwrap_err();
        assert_eq!(reason, "the queue answered 400 QueueDoesNotExist no queue");
    }
}
