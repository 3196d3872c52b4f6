//! A server that refuses things, for tests of how it says so.

use serde_json::{Value, json};

use super::Endpoint;
use super::raw::action;

pub const INVALID: &str = "InvalidParameterValue";
pub const MISSING: &str = "MissingParameter";

/// A server with `q`, `q.fifo` and `content.fifo`.
pub struct Queues(pub Endpoint);

impl Queues {
    pub async fn create() -> Self {
        let queues = Self(Endpoint::start().await);
        queues.ok("CreateQueue", json!({ "QueueName": "q" })).await;
        for (name, by_content) in [("q.fifo", "false"), ("content.fifo", "true")] {
            let attributes =
                json!({ "FifoQueue": "true", "ContentBasedDeduplication": by_content });
            let queue = json!({ "QueueName": name, "Attributes": attributes });
            queues.ok("CreateQueue", queue).await;
        }
        queues
    }

    /// What must go well.
    pub async fn ok(&self, name: &str, input: Value) -> Value {
        let answer = action(&self.0, name, &input.to_string()).await;
        assert_eq!(answer.status, 200, "{name} {input}: {}", answer.body);
        serde_json::from_str(&answer.body).unwrap()
    }

    /// `queue` is named by the URL that the input gets.
    pub async fn check(
        &self,
        name: &str,
        queue: &str,
        mut input: Value,
        code: &str,
        message: &str,
    ) {
        if !queue.is_empty() {
            input["QueueUrl"] = self.url(queue).into();
        }
        let answer = action(&self.0, name, &input.to_string()).await;
        assert!(answer.status >= 400, "{name} {input:.200} is not refused");
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(body["message"], message, "{name} {input:.200}");
        let header = format!("x-amzn-query-error: {};sender", code.to_ascii_lowercase());
        assert!(answer.head.contains(&header), "{name}: {}", answer.head);
    }

    pub fn url(&self, queue: &str) -> String {
        format!("{}/000000000000/{queue}", self.0.url())
    }
}

/// The form that most refusals of a value have.
pub fn invalid(parameter: &str, value: impl std::fmt::Display, reason: &str) -> String {
    format!("Value {value} for parameter {parameter} is invalid. Reason: {reason}")
}
