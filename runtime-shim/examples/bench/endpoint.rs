//! An SQS endpoint that keeps nothing but counts: the same messages again and again,
//! from memory, after a time that is set. What it costs is the same for every
//! consumer, and its clock runs from the first receive until the last delete.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// What the messages say.
pub(crate) const BODY: &str =
    r#"{"order": 4711, "items": ["stone", "sieve"], "note": "by the millpond"}"#;
/// MD5 of `BODY`, which clients check.
const BODY_MD5: &str = "625bd6d7743e021384ba959412f94832";
const URL_PATH: &str = "/000000000000/bench";
/// How long an empty queue lets a poll wait.
const EMPTY: Duration = Duration::from_millis(200);

/// What it serves.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) messages: usize,
    /// What every call takes at least.
    pub(crate) latency: Duration,
}

impl std::str::FromStr for Load {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (messages, millis) = text.split_once(',').context("no comma")?;
        Ok(Self {
            messages: messages.parse()?,
            latency: Duration::from_millis(millis.parse()?),
        })
    }
}

struct State {
    load: Load,
    handed_out: AtomicUsize,
    deleted: AtomicUsize,
    calls: AtomicUsize,
    started: Mutex<Option<Instant>>,
    /// From the first receive until the last delete; 0 before that.
    took_micros: AtomicU64,
}

/// The queue's URL at an endpoint.
pub(crate) fn queue_url(origin: &str) -> String {
    format!("{origin}{URL_PATH}")
}

/// Serves until the process ends.
pub(crate) async fn serve(load: Load) -> anyhow::Result<()> {
    let state = Arc::new(State {
        load,
        handed_out: AtomicUsize::new(0),
        deleted: AtomicUsize::new(0),
        calls: AtomicUsize::new(0),
        started: Mutex::new(None),
        took_micros: AtomicU64::new(0),
    });
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("Serving http://{}", listener.local_addr()?);
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let state = Arc::clone(&state);
        let service = service_fn(move |request| answer(Arc::clone(&state), request));
        connections.spawn(
            hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service),
        );
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(
    state: Arc<State>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let text = if head.uri.path() == "/took" {
        state.took_micros.load(Ordering::Acquire).to_string()
    } else if head.uri.path() == "/calls" {
        state.calls.load(Ordering::Relaxed).to_string()
    } else {
        state.calls.fetch_add(1, Ordering::Relaxed);
        let target = head.headers.get("x-amz-target");
        let action = target.and_then(|value| value.to_str().ok());
        let action = action.and_then(|value| value.strip_prefix("AmazonSQS."));
        let body = body
            .collect()
            .await
            .map(http_body_util::Collected::to_bytes);
        state
            .call(action.unwrap_or_default(), &body.unwrap_or_default())
            .await
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    let json = http::HeaderValue::from_static("application/x-amz-json-1.0");
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, json);
    Ok(response)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Receive {
    max_number_of_messages: Option<usize>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Batch<'a> {
    #[serde(borrow)]
    entries: Vec<Entry<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry<'a> {
    id: &'a str,
}

impl State {
    async fn call(&self, action: &str, body: &[u8]) -> String {
        if !self.load.latency.is_zero() {
            tokio::time::sleep(self.load.latency).await;
        }
        match action {
            "ReceiveMessage" => self.receive(body).await,
            "DeleteMessageBatch" => {
                let answer = successful(body);
                self.delete(answer.entries);
                answer.text
            }
            "DeleteMessage" => {
                self.delete(1);
                "{}".to_owned()
            }
            "ChangeMessageVisibilityBatch" => successful(body).text,
            "GetQueueAttributes" => r#"{"Attributes":{"VisibilityTimeout":"30"}}"#.to_owned(),
            _ => "{}".to_owned(),
        }
    }

    async fn receive(&self, body: &[u8]) -> String {
        let asked = serde_json::from_slice::<Receive>(body).ok();
        let max = asked.and_then(|asked| asked.max_number_of_messages);
        let max = max.unwrap_or(1).min(10);
        self.started
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert_with(Instant::now);
        let first = self.handed_out.fetch_add(max, Ordering::Relaxed);
        let end = (first + max).min(self.load.messages);
        if first >= end {
            tokio::time::sleep(EMPTY).await;
            return "{}".to_owned();
        }
        let mut answer = String::from(r#"{"Messages":["#);
        for number in first..end {
            message(&mut answer, number);
            answer.push(if number + 1 == end { ']' } else { ',' });
        }
        answer.push('}');
        answer
    }

    fn delete(&self, messages: usize) {
        let deleted = self.deleted.fetch_add(messages, Ordering::AcqRel) + messages;
        if deleted < self.load.messages {
            return;
        }
        let started = *self.started.lock().unwrap_or_else(PoisonError::into_inner);
        let took = started.map_or(0, |started| started.elapsed().as_micros() as u64);
        self.took_micros.store(took.max(1), Ordering::Release);
    }
}

fn message(answer: &mut String, number: usize) {
    let body = BODY.replace('"', "\\\"");
    // Writing to a String cannot fail.
    let _ = write!(
        answer,
        r#"{{"MessageId":"00000000-0000-0000-0000-{number:012}","ReceiptHandle":"receipt-{number:060}","#
    );
    let _ = write!(
        answer,
        r#""MD5OfBody":"{BODY_MD5}","Body":"{body}","Attributes":{{"ApproximateReceiveCount":"1","#
    );
    answer.push_str(
        r#""SentTimestamp":"1700000000000","ApproximateFirstReceiveTimestamp":"1700000000001"}}"#,
    );
}

struct Successful {
    text: String,
    entries: usize,
}

fn successful(body: &[u8]) -> Successful {
    let batch = serde_json::from_slice::<Batch<'_>>(body);
    let entries = batch.map(|batch| batch.entries).unwrap_or_default();
    let ids: Vec<String> = entries
        .iter()
        .map(|entry| format!(r#"{{"Id":"{}"}}"#, entry.id))
        .collect();
    Successful {
        text: format!(r#"{{"Successful":[{}],"Failed":[]}}"#, ids.join(",")),
        entries: entries.len(),
    }
}
