//! The HTTP face: a listener, its connections and the frames of the AWS JSON 1.0 protocol and of
//! the older query protocol (`query`).
//! Owns bounds on what clients may hold (connections, bytes, time) and the orderly end; refuses
//! to know what an action does. Credentials are accepted and never verified.

mod actions;
mod errors;
mod protocol;
mod query;

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::handle::LocalQueue;
use crate::model::QueueName;
use actions::{Context, TARGET_PREFIX};
use errors::RequestError;

/// 1 MiB of message may take six bytes for one in JSON, so 8 MiB holds every valid request.
const MAX_BODY_BYTES: usize = 8 * 1024 * 1024;
/// How much of a larger request is read and thrown away before it is refused.
const MAX_DISCARDED_BYTES: usize = 64 * 1024 * 1024;
/// Connections served at once; more wait in the listener's backlog.
const MAX_CONNECTIONS: usize = 1_024;
/// Bytes of request bodies held at once, in units of a KiB; more wait their turn.
const BODY_BUDGET_KIB: usize = 128 * 1024;
/// For the head of a request, also on an idle connection that is kept alive.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(75);
/// For the body of a request.
const BODY_READ_TIMEOUT: Duration = Duration::from_secs(30);
/// How long requests in flight may take to finish after the end was asked for.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

const TARGET: &str = "x-amz-target";
const REQUEST_ID: &str = "x-amzn-requestid";
const JSON: HeaderValue = HeaderValue::from_static("application/x-amz-json-1.0");
const XML: HeaderValue = HeaderValue::from_static("text/xml");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// An SQS endpoint for one [`LocalQueue`].
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    local_addr: SocketAddr,
    queue: LocalQueue,
}

/// What every connection shares.
struct Shared {
    queue: LocalQueue,
    local_addr: SocketAddr,
    stopping: CancellationToken,
    body_budget: Semaphore,
}

impl Server {
    /// Listens on `addr`; port 0 takes a free one. From here on clients can connect; they are
    /// answered once [`Server::serve`] runs.
    pub async fn bind(addr: SocketAddr, queue: LocalQueue) -> std::io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let local_addr = listener.local_addr()?;
        Ok(Self {
            listener,
            local_addr,
            queue,
        })
    }

    /// The address in use, with the real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The URL of a queue here: `http://HOST:PORT/000000000000/NAME`.
    pub fn queue_url(&self, queue: &QueueName) -> String {
        actions::queue_url(&self.local_addr.to_string(), queue)
    }

    /// Serves until `shutdown` is ready; then takes no more connections, ends long polls with
    /// nothing, finishes the requests in flight (for at most 5 s) and returns. Leaves the queue
    /// open.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) {
        let shared = Arc::new(Shared {
            queue: self.queue,
            local_addr: self.local_addr,
            stopping: CancellationToken::new(),
            body_budget: Semaphore::new(BODY_BUDGET_KIB),
        });
        let mut connections = JoinSet::new();
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                stream = accept(&self.listener), if connections.len() < MAX_CONNECTIONS => {
                    connections.spawn(serve_connection(stream, shared.clone()));
                }
            }
        }
        drop(self.listener);
        shared.stopping.cancel();
        let drain = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN_TIMEOUT, drain).await.is_err() {
            tracing::warn!(
                connections = connections.len(),
                "cutting off requests in flight"
            );
            connections.shutdown().await;
        }
    }
}

/// The next connection. Failures are passing (a client gone early, too many files open).
async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, shared: Arc<Shared>) {
    // Answers are written whole; waiting for more to send would only delay them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let service = service_fn(|request| {
        let shared = shared.clone();
        async move { Ok::<_, Infallible>(answer(request, &shared).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = shared.stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn answer(request: Request<Incoming>, shared: &Shared) -> Response<Full<Bytes>> {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return response(StatusCode::OK, TEXT, greeting(shared.local_addr));
    }
    let (head, body) = request.into_parts();
    let is_query = !head.headers.contains_key(TARGET) && query::is_form(&head.headers);
    match perform(head, body, is_query, shared).await {
        Ok((_, body)) if !is_query => response(StatusCode::OK, JSON, body),
        Ok((action, body)) => {
            let id = Uuid::new_v4().to_string();
            let xml = query::success(&action, &body, &id);
            with_request_id(response(StatusCode::OK, XML, xml), &id)
        }
        Err(error) => refusal(&error, is_query),
    }
}

/// Performs what a request asks for; returns the action and its result in JSON.
async fn perform(
    head: http::request::Parts,
    body: Incoming,
    is_query: bool,
    shared: &Shared,
) -> Result<(String, Vec<u8>), RequestError> {
    let declared = content_length(&head.headers).unwrap_or(MAX_BODY_BYTES);
    if declared > MAX_BODY_BYTES {
        discard(body).await;
        return Err(RequestError::TooLarge {
            limit: MAX_BODY_BYTES,
        });
    }
    // Held while the body is in memory; the semaphore is never closed.
    let mut budget = shared.body_budget.acquire_many(kib(declared)).await.ok();
    let body = read_body(body).await?;
    let _used = budget
        .as_mut()
        .and_then(|budget| budget.split(kib(body.len()) as usize));
    drop(budget);
    let (action, input) = if is_query {
        let request = query::read(head.uri.path(), &body)?;
        (request.action, Bytes::from(request.input))
    } else {
        (json_action(&head)?, body)
    };
    let authority = authority(shared.local_addr, &head.headers);
    let context = Context {
        queue: &shared.queue,
        authority: &authority,
        stopping: &shared.stopping,
    };
    let output = context.perform(&action, &input).await?;
    Ok((action, output))
}

fn json_action(head: &http::request::Parts) -> Result<String, RequestError> {
    let target = head.headers.get(TARGET);
    let target = target.and_then(|target| target.to_str().ok());
    let action = target.and_then(|target| target.strip_prefix(TARGET_PREFIX));
    action.map(str::to_owned).ok_or_else(|| {
        let wrong = wrong_protocol(&head.method, target);
        RequestError::WrongProtocol(wrong)
    })
}

async fn read_body(body: Incoming) -> Result<Bytes, RequestError> {
    let collected = Limited::new(body, MAX_BODY_BYTES).collect();
    match tokio::time::timeout(BODY_READ_TIMEOUT, collected).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(RequestError::TooLarge {
            limit: MAX_BODY_BYTES,
        }),
        Ok(Err(_)) | Err(_) => Err(RequestError::Unreadable),
    }
}

/// Lets a client finish sending what nobody keeps: a connection closed on it would be reset, and
/// the client would never see why. Beyond the bound it is reset all the same.
async fn discard(mut body: Incoming) {
    let discarding = async {
        let mut left = MAX_DISCARDED_BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                break;
            }
        }
    };
    // Out of time is out of patience: the answer goes out either way.
    drop(tokio::time::timeout(BODY_READ_TIMEOUT, discarding).await);
}

fn kib(bytes: usize) -> u32 {
    bytes.div_ceil(1024) as u32
}

fn content_length(headers: &HeaderMap) -> Option<usize> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

/// What stands between `http://` and the path in queue URLs: the bound address. A server bound to
/// every address has none that a client could use, so it repeats what the client called it.
fn authority(local_addr: SocketAddr, headers: &HeaderMap) -> String {
    if !local_addr.ip().is_unspecified() {
        return local_addr.to_string();
    }
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let host = host.and_then(|host| host.parse::<http::uri::Authority>().ok());
    host.map_or_else(
        || format!("127.0.0.1:{}", local_addr.port()),
        |host| host.to_string(),
    )
}

/// Names the protocols that are spoken here.
fn wrong_protocol(method: &Method, target: Option<&str>) -> String {
    let got = target.map_or_else(
        || format!("{method} without `X-Amz-Target` and without a form"),
        |target| format!("`X-Amz-Target: {target}`"),
    );
    format!(
        "This endpoint speaks the AWS JSON 1.0 protocol of SQS (header `X-Amz-Target: \
         AmazonSQS.ACTION`) and its query protocol (`application/x-www-form-urlencoded`), but the \
         request is {got}."
    )
}

fn greeting(local_addr: SocketAddr) -> String {
    format!(
        "This is an embedded queue with the API of Amazon SQS (AWS JSON 1.0 and query protocols).\n\
         Point an SQS client at http://{local_addr} with any region and any credentials, e.g.\n\
         aws sqs list-queues --endpoint-url http://{local_addr}\n"
    )
}

fn refusal(error: &RequestError, is_query: bool) -> Response<Full<Bytes>> {
    let wire = error.wire();
    if wire.status.is_server_error() {
        tracing::error!(%error, "a request failed");
    }
    if is_query {
        let id = Uuid::new_v4().to_string();
        let message = query::wording(error);
        let xml = query::failure(wire.fault(), wire.query_code, &message, &id);
        return with_request_id(response(wire.status, XML, xml), &id);
    }
    let body = serde_json::json!({ "__type": wire.shape, "message": error.to_string() });
    let mut response = response(wire.status, JSON, body.to_string());
    let query_error = format!("{};{}", wire.query_code, wire.fault());
    if let Ok(value) = HeaderValue::try_from(query_error) {
        response.headers_mut().insert("x-amzn-query-error", value);
    }
    response
}

fn with_request_id(mut response: Response<Full<Bytes>>, id: &str) -> Response<Full<Bytes>> {
    if let Ok(id) = HeaderValue::try_from(id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

fn response(
    status: StatusCode,
    content_type: HeaderValue,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, content_type);
    if let Ok(id) = HeaderValue::try_from(Uuid::new_v4().to_string()) {
        headers.insert(REQUEST_ID, id);
    }
    response
}
