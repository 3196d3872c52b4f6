//! What the component asks of its host: variables, the store, the queue over
//! HTTP, and the request's body. Everything is bounded in size and time.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use futures::{SinkExt, Stream, StreamExt};
use spin_sdk::http::conversions::TryIntoOutgoingRequest;
use spin_sdk::http::{IncomingRequest, Request};
use spin_sdk::key_value::{Error as StoreError, Store};
use spin_sdk::variables;
use spin_sdk::wit::wasi::http0_2_0::outgoing_handler;
use spin_sdk::wit::wasi::http0_2_0::types::RequestOptions;

use crate::queue::{Queue, SendFailure, SignedPost, pinged, sent};
use crate::worker::Stored;

/// The label that the manifest grants.
const LABEL: &str = "messages";

/// For connecting, for the first byte, and between bytes.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(5);

/// SQS answers in well under a kilobyte.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// The body of a request.
pub(crate) enum Body {
    Whole(Vec<u8>),
    TooLarge,
    Broken,
}

/// Reads at most `limit` bytes; what is announced as larger is not read at all.
pub(crate) async fn read_body(request: IncomingRequest, limit: usize) -> Body {
    let announced = request.headers().get("content-length");
    let announced = announced
        .first()
        .and_then(|value| std::str::from_utf8(value).ok()?.parse().ok());
    if announced.is_some_and(|bytes: u64| bytes > limit as u64) {
        return Body::TooLarge;
    }
    read(request.into_body_stream(), limit).await
}

async fn read<E>(stream: impl Stream<Item = Result<Vec<u8>, E>>, limit: usize) -> Body {
    let mut stream = std::pin::pin!(stream);
    let mut body = Vec::new();
    while let Some(chunk) = stream.next().await {
        let Ok(chunk) = chunk else {
            return Body::Broken;
        };
        if body.len() + chunk.len() > limit {
            return Body::TooLarge;
        }
        body.extend(chunk);
    }
    Body::Whole(body)
}

/// The stored document of a message, if it was processed.
pub(crate) fn load(message_id: &str) -> Result<Option<Vec<u8>>, String> {
    open()
        .and_then(|store| store.get(message_id))
        .map_err(explain)
        .inspect_err(|e| log(e))
}

/// Stores a document unless the message has one: a redelivery changes nothing.
pub(crate) fn store_once(stored: &Stored) -> Result<(), String> {
    let store_if_absent = || {
        let store = open()?;
        if store.exists(&stored.key)? {
            return Ok(());
        }
        store.set(&stored.key, &stored.document)
    };
    store_if_absent().map_err(explain)
}

/// Whether the store answers.
pub(crate) fn ping_store() -> Result<bool, String> {
    open()
        .and_then(|store| store.exists("readyz"))
        .map_err(explain)
}

/// Puts a message into the queue and returns the id that it got there.
pub(crate) async fn send(body: &str) -> Result<String, SendFailure> {
    let answer = async {
        let post = queue()?
            .send(body, SystemTime::now())
            .map_err(|error| error.to_string())?;
        exchange(post).await
    };
    let sent = match answer.await {
        Ok((status, body)) => sent(status, &body),
        Err(reason) => Err(SendFailure::Unavailable(reason)),
    };
    sent.inspect_err(|failure| match failure {
        SendFailure::Refused(reason) | SendFailure::Unavailable(reason) => log(reason),
    })
}

/// Whether the queue answers.
pub(crate) async fn ping_queue() -> Result<(), String> {
    let post = queue()?
        .ping(SystemTime::now())
        .map_err(|error| error.to_string())?;
    let (status, body) = exchange(post).await?;
    pinged(status, &body)
}

/// The queue as the component's variables describe it.
fn queue() -> Result<Queue, String> {
    let get = |name| variables::get(name).map_err(|error| format!("variable `{name}`: {error}"));
    let token = get("aws_session_token")?;
    Ok(Queue {
        origin: get("sqs_origin")?,
        url: get("messages_queue_url")?,
        region: get("aws_region")?,
        credentials: Credentials::new(
            get("aws_access_key_id")?,
            get("aws_secret_access_key")?,
            Some(token).filter(|token| !token.is_empty()),
            None,
            "variables",
        ),
    })
}

/// Sends a request and reads the whole answer, each step under the time limit.
async fn exchange(post: SignedPost) -> Result<(u16, Vec<u8>), String> {
    let mut request = Request::post(post.url, ());
    for (name, value) in post.headers {
        request.header(name, value);
    }
    request.header("content-length", post.body.len().to_string());
    let (request, _) = request
        .try_into_outgoing_request()
        .map_err(|error| error.to_string())?;
    let mut body = request.take_body();
    let answer = outgoing_handler::handle(request, Some(time_limits()))
        .map_err(|error| format!("the request cannot be sent: {error}"))?;
    // A body that cannot be written shows in the answer, with its reason.
    let _ = body.send(post.body).await;
    drop(body);
    answer.subscribe().block();
    let response = answer
        .get()
        .and_then(Result::ok)
        .ok_or("the queue gave no answer")?
        .map_err(|error| format!("the queue cannot be reached: {error}"))?;
    match read(response.take_body_stream(), MAX_ANSWER_BYTES).await {
        Body::Whole(body) => Ok((response.status(), body)),
        Body::TooLarge => Err(format!(
            "the queue's answer has over {MAX_ANSWER_BYTES} bytes"
        )),
        Body::Broken => Err("the queue's answer ended early".to_owned()),
    }
}

fn time_limits() -> RequestOptions {
    let options = RequestOptions::new();
    let nanoseconds = QUEUE_TIMEOUT.as_nanos() as u64;
    // A host without these limits has limits of its own.
    let _ = options.set_connect_timeout(Some(nanoseconds));
    let _ = options.set_first_byte_timeout(Some(nanoseconds));
    let _ = options.set_between_bytes_timeout(Some(nanoseconds));
    options
}

fn open() -> Result<Store, StoreError> {
    Store::open(LABEL)
}

fn explain(error: StoreError) -> String {
    match error {
        StoreError::NoSuchStore => format!("no such store: `{LABEL}`"),
        StoreError::AccessDenied => format!("access denied: `{LABEL}` is not granted"),
        StoreError::StoreTableFull => "too many stores are open".to_owned(),
        StoreError::Other(reason) => reason,
    }
}

/// The component's log is its stderr; the host keeps it.
#[allow(
    clippy::print_stderr,
    reason = "this is the component's one way to its log"
)]
fn log(reason: &str) {
    eprintln!("process-message: {reason}");
}
