//! What the HTTP components answer: JSON, problem documents (RFC 9457), health.
//! Pure values with native tests; the last lines turn them into Spin's response.

mod health;
mod method;

pub use health::{Check, alive, ready};
pub use method::allow;

use std::time::SystemTime;

use serde::Serialize;

/// An answer to an HTTP request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status code.
    pub status: u16,
    /// Header names, in lower case, with their values.
    pub headers: Vec<(&'static str, String)>,
    /// The whole body.
    pub body: Vec<u8>,
}

/// A problem document; `type` is `about:blank`: the status says it all.
#[derive(Serialize)]
struct Problem<'a> {
    r#type: &'a str,
    title: &'a str,
    status: u16,
    detail: &'a str,
}

impl Reply {
    /// An answer without a body.
    pub fn empty(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// A JSON document.
    pub fn json(status: u16, document: &impl Serialize) -> Self {
        match serde_json::to_vec(document) {
            Ok(body) => Self::json_bytes(status, body),
            Err(error) => Self::problem(500, &format!("the answer could not be written: {error}")),
        }
    }

    /// A JSON document that is text already.
    pub fn json_bytes(status: u16, body: Vec<u8>) -> Self {
        Self {
            status,
            headers: vec![("content-type", "application/json".to_owned())],
            body,
        }
    }

    /// An error, as `application/problem+json`.
    pub fn problem(status: u16, detail: &str) -> Self {
        let problem = Problem {
            r#type: "about:blank",
            title: title(status),
            status,
            detail,
        };
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let content_type = "application/problem+json".to_owned();
        Self {
            status,
            headers: vec![("content-type", content_type)],
            body,
        }
    }

    /// Something that the service needs does not answer: 503, and when to try
    /// again. `detail` says what, without addresses or reasons.
    pub fn unavailable(detail: &str) -> Self {
        Self::problem(503, detail).with("retry-after", "1")
    }

    /// The same with one more header.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The same for nobody to keep: unless it says something else about that.
    #[must_use]
    pub fn uncached(self) -> Self {
        if self.header("cache-control").is_some() {
            return self;
        }
        self.with("cache-control", "no-store")
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(own, _)| *own == name)
            .map(|(_, value)| value.as_str())
    }
}

/// The reason phrase of the statuses that components use (RFC 9110).
fn title(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Error",
    }
}

/// A time as answers write it: RFC 3339 in UTC with milliseconds.
pub fn timestamp(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

/// Bytes as answers, keys and hashes write them: lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)])
        .collect()
}

#[cfg(target_family = "wasm")]
impl spin_sdk::http::IntoResponse for Reply {
    fn into_response(self) -> spin_sdk::http::Response {
        // Without it the body would go out in chunks, and HEAD would not tell its size.
        let length = self.body.len();
        let mut response = spin_sdk::http::Response::new(self.status, self.body);
        if ![204, 304].contains(&self.status) {
            response.set_header("content-length", length.to_string());
        }
        // Content is what it is declared to be, in every answer.
        response.set_header("x-content-type-options", "nosniff");
        for (name, value) in self.headers {
            response.set_header(name, value);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_names_status_and_detail() {
        let reply = Reply::problem(404, "no message `x`");
        assert_eq!(
            reply.header("content-type"),
            Some("application/problem+json")
        );
        assert_eq!(
            String::from_utf8(reply.body).unwrap(),
            r#"{"type":"about:blank","title":"Not Found","status":404,"detail":"no message `x`"}"#
        );
    }

    #[test]
    fn json_says_what_it_is() {
        let reply = Reply::json(200, &[1, 2]).with("cache-control", "no-store");
        assert_eq!(reply.body, b"[1,2]");
        assert_eq!(reply.header("content-type"), Some("application/json"));
        assert_eq!(reply.header("cache-control"), Some("no-store"));
    }

    #[test]
    fn uncached_leaves_what_was_said_about_caching() {
        let of = |reply: Reply| reply.uncached().header("cache-control").map(str::to_owned);
        assert_eq!(of(Reply::empty(204)).as_deref(), Some("no-store"));
        let public = Reply::empty(204).with("cache-control", "public");
        assert_eq!(of(public).as_deref(), Some("public"));
    }

    #[test]
    fn hexadecimal_digits_are_two_for_a_byte() {
        assert_eq!(hex(&[0, 0x0a, 0xff]), "000aff");
    }
}
