//! What a request asks of the counter, by method and path, and what it gets.

use reply::{Reply, allow};
use serde::Serialize;

/// What has to be done for a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// Nothing: this is the answer.
    Answer(Reply),
    /// Ask the store whether it is there.
    Ready,
    /// Add to a counter and return the new count.
    Count { id: String, delta: i64 },
}

/// The longest id.
const MAX_ID_CHARS: usize = 128;

/// Chooses by method and request target (path and query).
pub(crate) fn route(method: &str, target: &str) -> Route {
    let path = target.split('?').next().unwrap_or_default();
    let (resource, methods) = match path.split('/').collect::<Vec<_>>()[..] {
        ["", "healthz", "counter"] => (Route::Answer(reply::alive()), ["GET", "HEAD"].as_slice()),
        ["", "readyz", "counter"] => (Route::Ready, ["GET", "HEAD"].as_slice()),
        // No HEAD: it must be safe, and this GET counts.
        ["", "counter", id] => (count(id, 1), ["GET"].as_slice()),
        ["", "counter", id, "value"] => (count(id, 0), ["GET", "HEAD"].as_slice()),
        _ => return Route::Answer(Reply::problem(404, &format!("nothing is at `{path}`"))),
    };
    allow(methods, method).map_or(resource, Route::Answer)
}

/// Ids are 1 to 128 characters that need no escaping in a URL (RFC 3986,
/// "unreserved"), so that one counter has one address.
fn count(id: &str, delta: i64) -> Route {
    let unreserved = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
    if id.is_empty() || id.len() > MAX_ID_CHARS || !id.chars().all(unreserved) {
        let detail =
            format!("a counter id is 1 to {MAX_ID_CHARS} of the characters A-Z a-z 0-9 - . _ ~");
        return Route::Answer(Reply::problem(400, &detail));
    }
    Route::Count {
        id: id.to_owned(),
        delta,
    }
}

#[derive(Serialize)]
struct Count<'a> {
    id: &'a str,
    count: i64,
}

/// The answer when the store was asked; nothing when it did not answer.
pub(crate) fn counted(id: &str, count: Option<i64>) -> Reply {
    let reply = match count {
        Some(count) => Reply::json(200, &Count { id, count }),
        None => Reply::unavailable("the counter store does not answer now; try again"),
    };
    reply.with("cache-control", "no-store")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(id: &str, delta: i64) -> Route {
        Route::Count {
            id: id.to_owned(),
            delta,
        }
    }

    #[test]
    fn paths_find_their_route() {
        let longest = "x".repeat(MAX_ID_CHARS);
        for (target, expected) in [
            ("/counter/x", counts("x", 1)),
            ("/counter/x?now=1", counts("x", 1)),
            ("/counter/a.b-c_d~9", counts("a.b-c_d~9", 1)),
            ("/counter/x/value", counts("x", 0)),
            ("/counter/value", counts("value", 1)),
            (&format!("/counter/{longest}"), counts(&longest, 1)),
            ("/readyz/counter", Route::Ready),
            ("/healthz/counter", Route::Answer(reply::alive())),
        ] {
            assert_eq!(route("GET", target), expected, "{target}");
        }
    }

    fn status(method: &str, target: &str) -> u16 {
        match route(method, target) {
            Route::Answer(reply) => reply.status,
            other => panic!("{method} {target} is answered by {other:?}"),
        }
    }

    #[test]
    fn bad_requests_are_refused() {
        let too_long = format!("/counter/{}", "x".repeat(MAX_ID_CHARS + 1));
        for (method, target, expected) in [
            ("GET", "/counter/", 400),
            ("GET", "/counter/a%20b", 400),
            ("GET", "/counter/ä", 400),
            ("GET", &too_long, 400),
            ("GET", "/counter", 404),
            ("GET", "/counter/x/other", 404),
            ("GET", "/counter/x/value/", 404),
            ("GET", "", 404),
            ("POST", "/counter/x", 405),
            ("HEAD", "/counter/x", 405),
            ("OPTIONS", "/counter/x", 204),
            ("DELETE", "/readyz/counter", 405),
        ] {
            assert_eq!(status(method, target), expected, "{method} {target}");
        }
    }

    #[test]
    fn head_reads_without_counting() {
        assert_eq!(route("HEAD", "/counter/x/value"), counts("x", 0));
    }

    #[test]
    fn a_count_is_never_cached() {
        let reply = counted("x", Some(7));
        assert_eq!(reply.body, br#"{"id":"x","count":7}"#);
        assert_eq!(reply.header("cache-control"), Some("no-store"));
        let failed = counted("x", None);
        assert_eq!(failed.status, 503);
        assert_eq!(failed.header("retry-after"), Some("1"));
    }
}
