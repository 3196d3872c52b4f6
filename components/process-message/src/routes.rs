//! What a request asks of the message service, by method and path, and what it
//! gets once the queue or the store has answered.

use queue::SendFailure;
use reply::{Reply, allow};
use serde::Serialize;

use crate::message::MAX_BYTES;

/// What has to be done for a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// Nothing: this is the answer.
    Answer(Reply),
    /// Ask the store and the queue whether they are there.
    Ready,
    /// Put the request's body into the queue.
    Submit,
    /// Return the document stored under this id.
    Read { message_id: String },
}

/// SQS ids are UUIDs; another producer of ids gets some room.
const MAX_ID_CHARS: usize = 128;

/// Chooses by method and request target (path and query).
pub(crate) fn route(method: &str, target: &str) -> Route {
    const READ: &[&str] = &["GET", "HEAD"];
    let path = target.split('?').next().unwrap_or_default();
    let (resource, methods) = match path.split('/').collect::<Vec<_>>()[..] {
        ["", "healthz", "process-message"] => (Route::Answer(reply::alive()), READ),
        ["", "readyz", "process-message"] => (Route::Ready, READ),
        ["", "process_message"] | ["", "process_message", ""] => (Route::Submit, &["POST"][..]),
        ["", "process_message", id] => (read(id), READ),
        _ => return Route::Answer(Reply::problem(404, &format!("nothing is at `{path}`"))),
    };
    allow(methods, method).map_or(resource, Route::Answer)
}

fn read(id: &str) -> Route {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if id.len() > MAX_ID_CHARS || !id.chars().all(plain) {
        return Route::Answer(found(id, Ok(None)));
    }
    Route::Read {
        message_id: id.to_owned(),
    }
}

#[derive(Serialize)]
struct Accepted<'a> {
    message_id: &'a str,
    status_url: &'a str,
}

/// The answer when the queue was asked to take a message.
pub(crate) fn submitted(sent: Result<String, SendFailure>) -> Reply {
    match sent {
        Ok(message_id) => {
            let status_url = format!("/process_message/{message_id}");
            let accepted = Accepted {
                message_id: &message_id,
                status_url: &status_url,
            };
            Reply::json(202, &accepted).with("location", status_url.clone())
        }
        Err(SendFailure::Refused(reason)) => {
            Reply::problem(400, &format!("the queue refused the message: {reason}"))
        }
        // The reason is for the operator's log: it may name addresses.
        Err(SendFailure::Unavailable(_)) => {
            Reply::unavailable("the queue cannot take the message now; try again")
        }
    }
}

/// The answer when the store was asked for a message.
pub(crate) fn found(message_id: &str, document: Result<Option<Vec<u8>>, String>) -> Reply {
    match document {
        Ok(Some(document)) => Reply::json_bytes(200, document),
        Ok(None) => {
            let detail = format!("no message `{message_id}` has been processed");
            Reply::problem(404, &detail).with("cache-control", "no-store")
        }
        Err(_) => Reply::unavailable("the message store cannot be read now; try again"),
    }
}

/// The answer to a body over the limit.
pub(crate) fn too_large() -> Reply {
    Reply::problem(413, &format!("a message has at most {MAX_BYTES} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_find_their_route() {
        let read = |id: &str| Route::Read {
            message_id: id.to_owned(),
        };
        for (method, target, expected) in [
            ("POST", "/process_message", Route::Submit),
            ("POST", "/process_message/", Route::Submit),
            ("POST", "/process_message?x=1", Route::Submit),
            ("GET", "/process_message/a-1_B", read("a-1_B")),
            ("HEAD", "/process_message/a", read("a")),
            ("GET", "/readyz/process-message", Route::Ready),
            (
                "GET",
                "/healthz/process-message",
                Route::Answer(reply::alive()),
            ),
        ] {
            assert_eq!(route(method, target), expected, "{method} {target}");
        }
    }

    #[test]
    fn bad_requests_are_refused() {
        let long = format!("/process_message/{}", "x".repeat(MAX_ID_CHARS + 1));
        for (method, target, status, allowed) in [
            ("GET", "/process_message", 405, Some("POST, OPTIONS")),
            ("OPTIONS", "/process_message", 204, Some("POST, OPTIONS")),
            (
                "DELETE",
                "/process_message/a",
                405,
                Some("GET, HEAD, OPTIONS"),
            ),
            (
                "POST",
                "/process_message/a",
                405,
                Some("GET, HEAD, OPTIONS"),
            ),
            (
                "POST",
                "/readyz/process-message",
                405,
                Some("GET, HEAD, OPTIONS"),
            ),
            ("GET", "/process_message/a%2Fb", 404, None),
            ("GET", "/process_message/a/b", 404, None),
            ("GET", &long, 404, None),
            ("GET", "/", 404, None),
            ("GET", "", 404, None),
        ] {
            let Route::Answer(reply) = route(method, target) else {
                panic!("{method} {target} is not answered");
            };
            assert_eq!(reply.status, status, "{method} {target}");
            assert_eq!(reply.header("allow"), allowed, "{method} {target}");
        }
    }

    #[test]
    fn an_accepted_message_says_where_it_will_be() {
        let reply = submitted(Ok("id-1".to_owned()));
        assert_eq!(reply.status, 202);
        assert_eq!(reply.header("location"), Some("/process_message/id-1"));
        assert_eq!(
            reply.body,
            br#"{"message_id":"id-1","status_url":"/process_message/id-1"}"#
        );
    }

    #[test]
    fn a_queue_failure_hides_its_reason_and_asks_to_retry() {
        let reply = submitted(Err(SendFailure::Unavailable("10.0.0.1 refused".to_owned())));
        assert_eq!(reply.status, 503);
        assert_eq!(reply.header("retry-after"), Some("1"));
        assert!(!String::from_utf8(reply.body).unwrap().contains("10.0.0.1"));
        let refused = submitted(Err(SendFailure::Refused("U+FFFE".to_owned())));
        assert_eq!(refused.status, 400);
    }

    #[test]
    fn the_store_s_answer_becomes_the_reply() {
        assert_eq!(found("a", Ok(Some(b"{}".to_vec()))).status, 200);
        assert_eq!(found("a", Ok(None)).status, 404);
        assert_eq!(found("a", Err("locked".to_owned())).status, 503);
    }
}
