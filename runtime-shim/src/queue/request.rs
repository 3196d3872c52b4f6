//! A message as an HTTP request, and a response as a verdict: the same for a
//! component that is called in this process and for a server elsewhere. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use wasmtime_wasi_http::WasiBody;

use super::handler::Verdict;
use crate::invoker::{Delivery, MessageAttribute, MessageAttributeValue, Outcome};
use crate::names::ComponentId;

/// Bytes of the value of one header: what servers take.
const MAX_VALUE: usize = 4 * 1024;
/// Bytes of all headers of attributes, names included.
const MAX_ATTRIBUTES: usize = 24 * 1024;
const OMITTED: HeaderName = HeaderName::from_static("gristmill-omitted");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// The request for component `id`; none where the message has no valid form.
pub(super) fn in_process(
    id: &ComponentId,
    path: &str,
    delivery: &Delivery<'_>,
) -> Option<Request<WasiBody>> {
    let body = delivery.message.body.clone().unwrap_or_default();
    let body = Full::new(Bytes::from(body)).map_err(|never| match never {});
    let mut request = Request::post(format!("http://{id}.spin.internal{path}"))
        .body(body.boxed_unsync())
        .ok()?;
    *request.headers_mut() = headers(delivery);
    Some(request)
}

/// What a handler is told of the message beside its body.
pub(super) fn headers(delivery: &Delivery<'_>) -> HeaderMap {
    let message = delivery.message;
    let body = message.body.as_deref().unwrap_or_default();
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, if is_json(body) { JSON } else { TEXT });
    headers.insert("gristmill-receive-count", delivery.receive_count.into());
    let id = message.id.as_deref().unwrap_or_default();
    for (name, value) in [
        ("gristmill-message-id", id),
        ("gristmill-queue", delivery.queue),
    ] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    add_attributes(&mut headers, &message.message_attributes);
    headers
}

/// Adds a header for each attribute. Those that have no valid header, take too
/// much room, or would pass for another, are named in `gristmill-omitted`.
fn add_attributes(headers: &mut HeaderMap, attributes: &[MessageAttribute]) {
    let mut room = MAX_ATTRIBUTES;
    let mut omitted = Vec::new();
    let mut ambiguous = Vec::new();
    for attribute in attributes {
        let Some(name) = header_name(attribute) else {
            // What is no header's name is no header's value either: only counted.
            omitted.push("?".to_owned());
            continue;
        };
        let value = header_value(attribute);
        let left = value
            .as_ref()
            .and_then(|value| room.checked_sub(name.as_str().len() + value.len()));
        match (value, left) {
            (Some(value), Some(left)) if !ambiguous.contains(&name) => {
                if headers.insert(name.clone(), value).is_some() {
                    headers.remove(&name);
                    omitted.push(name.to_string());
                    ambiguous.push(name);
                }
                room = left;
            }
            _ => omitted.push(name.to_string()),
        }
    }
    omitted.sort();
    omitted.dedup();
    if !omitted.is_empty()
        && let Ok(value) = HeaderValue::from_str(&omitted.join(" "))
    {
        headers.insert(OMITTED, value);
    }
}

fn header_name(attribute: &MessageAttribute) -> Option<HeaderName> {
    // The queue's own have no type.
    let kind = match attribute.data_type {
        Some(_) => "attribute",
        None => "system-attribute",
    };
    let encoding = match attribute.value {
        MessageAttributeValue::Str(_) => "",
        MessageAttributeValue::Binary(_) => "-base64",
    };
    let name = attribute.name.to_ascii_lowercase();
    HeaderName::from_bytes(format!("gristmill-{kind}-{name}{encoding}").as_bytes()).ok()
}

fn header_value(attribute: &MessageAttribute) -> Option<HeaderValue> {
    let value = match &attribute.value {
        MessageAttributeValue::Str(text) if text.len() <= MAX_VALUE => text.clone(),
        MessageAttributeValue::Binary(bytes) if bytes.len() <= MAX_VALUE => STANDARD.encode(bytes),
        _ => return None,
    };
    // Spaces at the ends are lost in HTTP, and so would be the value's meaning.
    if value.len() > MAX_VALUE || value.trim() != value {
        return None;
    }
    HeaderValue::from_bytes(value.as_bytes()).ok()
}

fn is_json(body: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(body).is_ok()
}

/// What the response wants done with the message.
pub(super) fn verdict(response: &Response<Bytes>) -> Outcome<Verdict> {
    let status = response.status();
    if status.is_success() {
        return Outcome::Completed(Verdict::Ack);
    }
    let again = status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error();
    if again && let Some(secs) = retry_after(response.headers()) {
        return Outcome::Completed(Verdict::retry_after(secs));
    }
    let reason = describe(status, response.body());
    if status.is_client_error() && !again {
        return Outcome::Completed(Verdict::DeadLetter(reason));
    }
    Outcome::GuestError(reason)
}

/// Seconds alone; a date is taken for none. RFC 9110, 10.2.3.
fn retry_after(headers: &HeaderMap) -> Option<u64> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()
}

fn describe(status: StatusCode, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    match text.trim() {
        "" => format!("status {status}"),
        text => format!("status {status}: {text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invoker::Message;

    fn attribute(name: &str, data_type: Option<&str>, value: &str) -> MessageAttribute {
        MessageAttribute {
            name: name.to_owned(),
            data_type: data_type.map(str::to_owned),
            value: MessageAttributeValue::Str(value.to_owned()),
        }
    }

    fn sent(body: &str, attributes: Vec<MessageAttribute>) -> Vec<String> {
        let message = Message {
            id: Some("an-id".to_owned()),
            message_attributes: attributes,
            body: Some(body.to_owned()),
        };
        let headers = headers(&Delivery {
            message: &message,
            queue: "jobs",
            receive_count: 3,
        });
        let line = |(name, value): (&HeaderName, &HeaderValue)| {
            format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()))
        };
        let mut lines: Vec<String> = headers.iter().map(line).collect();
        lines.sort();
        lines
    }

    #[test]
    fn a_message_becomes_headers() {
        let binary = MessageAttribute {
            value: MessageAttributeValue::Binary(vec![0, 1, 255]),
            ..attribute("Blob", Some("Binary"), "")
        };
        let attributes = vec![
            attribute("Trace.Id", Some("String"), "7"),
            attribute("SentTimestamp", None, "17"),
            binary,
        ];
        assert_eq!(
            sent("{}", attributes),
            [
                "content-type: application/json",
                "gristmill-attribute-blob-base64: AAH/",
                "gristmill-attribute-trace.id: 7",
                "gristmill-message-id: an-id",
                "gristmill-queue: jobs",
                "gristmill-receive-count: 3",
                "gristmill-system-attribute-senttimestamp: 17",
            ]
        );
        assert_eq!(
            sent("a b", Vec::new())[0],
            "content-type: text/plain; charset=utf-8"
        );
    }

    #[test]
    fn what_makes_no_header_is_named() {
        let long = "x".repeat(MAX_VALUE + 1);
        let attributes = vec![
            attribute("a", Some("String"), "one\r\ntwo: forged"),
            attribute("b", Some("String"), &long),
            attribute("same", Some("String"), "1"),
            attribute("Same", Some("String"), "2"),
            attribute("SAME", Some("String"), "3"),
        ];
        let lines = sent("", attributes);
        assert_eq!(
            lines
                .iter()
                .find(|line| line.starts_with("gristmill-omitted"))
                .map(String::as_str),
            Some(
                "gristmill-omitted: gristmill-attribute-a gristmill-attribute-b \
                 gristmill-attribute-same"
            )
        );
        assert!(
            !lines
                .iter()
                .any(|line| line.starts_with("gristmill-attribute")),
            "{lines:?}"
        );

        let most = "x".repeat(MAX_VALUE);
        let many = (0..10).map(|n| attribute(&format!("n{n}"), Some("String"), &most));
        let all: usize = sent("", many.collect()).iter().map(String::len).sum();
        assert!(all < MAX_ATTRIBUTES + 1024, "{all}");
    }

    #[test]
    fn statuses_are_verdicts() {
        let of = |status: u16, retry_after: Option<&str>| {
            let mut response = Response::builder().status(status);
            if let Some(value) = retry_after {
                response = response.header(RETRY_AFTER, value);
            }
            verdict(&response.body(Bytes::from_static(b"why")).expect("response"))
        };
        for status in [200, 202, 204] {
            assert_eq!(of(status, None), Outcome::Completed(Verdict::Ack));
        }
        for status in [301, 429, 500, 503] {
            assert!(
                matches!(of(status, None), Outcome::GuestError(_)),
                "{status}"
            );
        }
        for status in [400, 404, 408, 422] {
            let Outcome::Completed(Verdict::DeadLetter(reason)) = of(status, Some("5")) else {
                panic!("{status}");
            };
            assert!(
                reason.contains(&status.to_string()) && reason.ends_with("why"),
                "{reason}"
            );
        }
        assert_eq!(
            of(503, Some("5")),
            Outcome::Completed(Verdict::retry_after(5))
        );
        let date = "Sat, 21 Nov 2026 23:00:00 GMT";
        assert!(matches!(of(503, Some(date)), Outcome::GuestError(_)));
    }
}
