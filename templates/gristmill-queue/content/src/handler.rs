//! What a message means. Pure: `cargo test` runs it without a host.

use std::fmt;

use serde_json::Value;

/// The message can never be handled. An error that begins with `reject:` sends
/// it to the dead-letter queue at once; after any other, it comes again.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reject(String);

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "reject: {}", self.0)
    }
}

/// Greets whom the body names. Messages may come twice: what this does must be
/// harmless the second time.
pub(crate) fn handle(body: &str) -> Result<String, Reject> {
    let message: Value = serde_json::from_str(body)
        .map_err(|error| Reject(format!("the body is not JSON: {error}")))?;
    match message["name"].as_str() {
        Some(name) => Ok(format!("Hello, {name}!")),
        None => Err(Reject("the body has no `name`".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_names_who_is_greeted() {
        let done = handle(r#"{"name": "Ada"}"#);
        assert_eq!(done.as_deref(), Ok("Hello, Ada!"));
    }

    #[test]
    fn what_can_never_succeed_is_rejected() {
        for body in ["", "Ada", "{}", r#"{"name": 1}"#] {
            let reject = handle(body).expect_err(body).to_string();
            assert!(reject.starts_with("reject: the body "), "{reject}");
        }
    }
}
