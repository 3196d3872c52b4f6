//! What the messages of a batch mean. Pure: `cargo test` runs it without a host.

use serde_json::Value;

/// What becomes of one message. There is a third way, to have it delivered again:
/// `Outcome::Retry` in `lib.rs`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is done, and deleted.
    Done(String),
    /// It can never be handled: it goes to the dead-letter queue, with the reason.
    Never(String),
}

/// Greets whom the bodies name: one verdict for each, in their order. What many
/// messages have in common, such as a query or a transaction, is done here once.
/// Messages may come twice: what this does must be harmless the second time.
pub(crate) fn handle(bodies: &[&str]) -> Vec<Verdict> {
    bodies.iter().map(|body| greet(body)).collect()
}

fn greet(body: &str) -> Verdict {
    let message: Value = match serde_json::from_str(body) {
        Ok(message) => message,
        Err(error) => return Verdict::Never(format!("the body is not JSON: {error}")),
    };
    match message["name"].as_str() {
        Some(name) => Verdict::Done(format!("Hello, {name}!")),
        None => Verdict::Never("the body has no `name`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_has_its_own_verdict() {
        let verdicts = handle(&[r#"{"name": "Ada"}"#, "{}", r#"{"name": "Grace"}"#]);
        assert_eq!(
            verdicts,
            [
                Verdict::Done("Hello, Ada!".to_owned()),
                Verdict::Never("the body has no `name`".to_owned()),
                Verdict::Done("Hello, Grace!".to_owned()),
            ]
        );
    }

    #[test]
    fn what_can_never_succeed_is_told_apart() {
        for verdict in handle(&["", "Ada", r#"{"name": 1}"#]) {
            assert!(matches!(verdict, Verdict::Never(_)), "{verdict:?}");
        }
    }
}
