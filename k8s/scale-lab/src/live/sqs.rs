//! A client for the few calls of the SQS API (AWS JSON 1.0) that a live run makes. Requests
//! are not signed: it is for endpoints that do not check, which all local ones are.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::timeline::Depth;

/// An answer takes milliseconds here; a call that hangs is an outage.
const PATIENCE: Duration = Duration::from_secs(5);
/// Messages in one call, by SQS.
pub(super) const BATCH: usize = 10;

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum SqsError {
    /// Nobody answered, or not in time.
    #[error("{action} at {endpoint}: {said}")]
    Unreachable {
        /// The action of the API.
        action: &'static str,
        /// Where.
        endpoint: String,
        /// What happened.
        said: String,
    },
    /// The endpoint refused.
    #[error("{action} at {endpoint} answers {status}: {said}")]
    Refused {
        /// The action of the API.
        action: &'static str,
        /// Where.
        endpoint: String,
        /// The status.
        status: u16,
        /// The beginning of the answer.
        said: String,
    },
}

/// Calls one endpoint; clones share its connections.
#[derive(Clone, Debug)]
pub(super) struct Sqs {
    client: Client<HttpConnector, Full<Bytes>>,
    endpoint: String,
}

/// A message that was accepted.
#[derive(Debug, Deserialize)]
struct Accepted {
    #[serde(rename = "Id")]
    entry: String,
    #[serde(rename = "MessageId")]
    message: String,
}

impl Sqs {
    pub(super) fn new(endpoint: &str) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(PATIENCE));
        Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            endpoint: endpoint.trim_end_matches('/').to_owned(),
        }
    }

    async fn call(&self, action: &'static str, body: &Value) -> Result<Value, SqsError> {
        let unreachable = |said: String| SqsError::Unreachable {
            action,
            endpoint: self.endpoint.clone(),
            said,
        };
        let request = hyper::Request::post(&self.endpoint)
            .header("content-type", "application/x-amz-json-1.0")
            .header("x-amz-target", format!("AmazonSQS.{action}"))
            // Local endpoints read the region here, and check nothing.
            .header(
                "authorization",
                "AWS4-HMAC-SHA256 Credential=lab/20260101/us-east-1/sqs/aws4_request, SignedHeaders=host, Signature=none",
            )
            .body(Full::new(Bytes::from(body.to_string())))
            .map_err(|error| unreachable(error.to_string()))?;
        let exchange = async {
            let response = self.client.request(request).await;
            let response = response.map_err(|error| unreachable(chain(&error)))?;
            let status = response.status();
            let body = response.into_body().collect().await;
            let body = body.map_err(|error| unreachable(chain(&error)))?.to_bytes();
            Ok((status, body))
        };
        let (status, body) = tokio::time::timeout(PATIENCE, exchange)
            .await
            .map_err(|_| unreachable(format!("no answer within {} s", PATIENCE.as_secs())))??;
        if !status.is_success() {
            let said = String::from_utf8_lossy(&body).chars().take(500).collect();
            return Err(SqsError::Refused {
                action,
                endpoint: self.endpoint.clone(),
                status: status.as_u16(),
                said,
            });
        }
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body).map_err(|error| unreachable(error.to_string()))
    }

    /// Creates a queue and returns its URL, as this machine reaches it.
    pub(super) async fn create(
        &self,
        name: &str,
        visibility_secs: u64,
        dead_letters: Option<(&str, u32)>,
    ) -> Result<String, SqsError> {
        let mut attributes = json!({ "VisibilityTimeout": visibility_secs.to_string() });
        if let Some((queue, receives)) = dead_letters {
            let of = json!({ "QueueUrl": queue, "AttributeNames": ["QueueArn"] });
            let answer = self.call("GetQueueAttributes", &of).await?;
            let target = text(&answer, &["Attributes", "QueueArn"]);
            let policy = json!({ "deadLetterTargetArn": target, "maxReceiveCount": receives });
            attributes["RedrivePolicy"] = policy.to_string().into();
        }
        let body = json!({ "QueueName": name, "Attributes": attributes });
        let answer = self.call("CreateQueue", &body).await?;
        Ok(text(&answer, &["QueueUrl"]).to_owned())
    }

    /// Removes a queue with all that is in it.
    pub(super) async fn delete(&self, queue: &str) -> Result<(), SqsError> {
        let body = json!({ "QueueUrl": queue });
        self.call("DeleteQueue", &body).await.map(drop)
    }

    /// What KEDA's scaler asks.
    pub(super) async fn depth(&self, queue: &str) -> Result<Depth, SqsError> {
        let body = json!({ "QueueUrl": queue, "AttributeNames": [
            "ApproximateNumberOfMessages",
            "ApproximateNumberOfMessagesNotVisible",
            "ApproximateNumberOfMessagesDelayed",
        ]});
        let answer = self.call("GetQueueAttributes", &body).await?;
        let number = |name| {
            text(&answer, &["Attributes", name])
                .parse()
                .map_err(|error| SqsError::Unreachable {
                    action: "GetQueueAttributes",
                    endpoint: self.endpoint.clone(),
                    said: format!("{name} in {answer}: {error}"),
                })
        };
        Ok(Depth {
            visible: number("ApproximateNumberOfMessages")?,
            in_flight: number("ApproximateNumberOfMessagesNotVisible")?,
            delayed: number("ApproximateNumberOfMessagesDelayed")?,
        })
    }

    /// Sends up to [`BATCH`] messages; for each its id, or `None` where it was refused.
    pub(super) async fn send(
        &self,
        queue: &str,
        bodies: &[String],
    ) -> Result<Vec<Option<String>>, SqsError> {
        let entries: Vec<_> = bodies
            .iter()
            .enumerate()
            .map(|(index, body)| json!({ "Id": index.to_string(), "MessageBody": body }))
            .collect();
        let body = json!({ "QueueUrl": queue, "Entries": entries });
        let answer = self.call("SendMessageBatch", &body).await?;
        let mut ids = vec![None; bodies.len()];
        let accepted = answer.get("Successful").and_then(Value::as_array);
        for one in accepted.into_iter().flatten() {
            if let Ok(accepted) = Accepted::deserialize(one)
                && let Ok(index) = accepted.entry.parse::<usize>()
                && let Some(place) = ids.get_mut(index)
            {
                *place = Some(accepted.message);
            }
        }
        Ok(ids)
    }

    /// Ids of up to [`BATCH`] messages, which stay hidden for the queue's visibility timeout.
    pub(super) async fn receive(&self, queue: &str) -> Result<Vec<String>, SqsError> {
        let body = json!({ "QueueUrl": queue, "MaxNumberOfMessages": BATCH });
        let answer = self.call("ReceiveMessage", &body).await?;
        let messages = answer.get("Messages").and_then(Value::as_array);
        let ids = messages.into_iter().flatten();
        Ok(ids
            .map(|one| text(one, &["MessageId"]).to_owned())
            .collect())
    }
}

/// What is said and what it came from.
fn chain(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        said = format!("{said}: {cause}");
        source = cause.source();
    }
    said
}

fn text<'a>(value: &'a Value, path: &[&str]) -> &'a str {
    let found = path.iter().try_fold(value, |value, key| value.get(key));
    found.and_then(Value::as_str).unwrap_or_default()
}
