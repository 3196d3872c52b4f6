//! A bounded HTTP/1.1 server: what it accepts, how long it waits, how it stops.
//! The application and the admin port are both served by it.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wasmtime_wasi_http::WasiBody;

use super::intake::Refused;
use super::router::RESERVED;
use super::{intake, problem, request};
use crate::invoker::{Caller, Invoker, Outcome, failure_response};

/// Connections open at once; further ones wait in the listener's backlog.
const MAX_CONNECTIONS: usize = 4096;
/// From the first byte of a request to the end of its headers, and between requests.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// After the system refused a connection, for example for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Answers requests on `listener` until `stop`; then finishes those under way.
pub async fn serve<H, F>(listener: TcpListener, stop: CancellationToken, handler: H)
where
    H: Fn(Request<Incoming>, SocketAddr) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<WasiBody>> + Send + 'static,
{
    let connections = TaskTracker::new();
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accept = async {
            let permit = Arc::clone(&permits)
                .acquire_owned()
                .await
                .map_err(io::Error::other)?;
            let (stream, peer) = listener.accept().await?;
            io::Result::Ok((permit, stream, peer))
        };
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = accept => accepted,
        };
        match accepted {
            Ok((permit, stream, peer)) => {
                let connection = serve_connection(stream, peer, stop.clone(), handler.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // New connections are refused from here on, rather than left waiting.
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn serve_connection<H, F>(
    stream: TcpStream,
    peer: SocketAddr,
    stop: CancellationToken,
    handler: H,
) where
    H: Fn(Request<Incoming>, SocketAddr) -> F,
    F: Future<Output = Response<WasiBody>>,
{
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, "cannot set TCP_NODELAY: {error}");
    }
    let service = service_fn(|request| {
        let response = handler(request, peer);
        async move { Ok::<_, Infallible>(response.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        // A client that went away is its own affair.
        tracing::debug!(%peer, "connection ended: {error}");
    }
}

/// Answers one request of the application.
pub async fn answer(
    invoker: Arc<Invoker>,
    request: Request<Incoming>,
    peer: SocketAddr,
) -> Response<WasiBody> {
    let path = request.uri().path();
    if path == "/.well-known/spin/health" {
        return Response::new(
            http_body_util::Full::from("OK")
                .map_err(|never| match never {})
                .boxed_unsync(),
        );
    }
    let matched = invoker
        .find_route(path)
        .filter(|_| !path.starts_with(RESERVED));
    let Some(matched) = matched else {
        let detail = format!("no route leads to `{path}`");
        return problem::response(StatusCode::NOT_FOUND, &detail);
    };
    let (head, body) = request.into_parts();
    let body = match intake::take_in(body, invoker.requests()).await {
        Ok(body) => body,
        Err(Refused::TooSlow) => {
            let detail = "the request's body did not arrive in time";
            return problem::response(StatusCode::REQUEST_TIMEOUT, detail);
        }
        Err(Refused::Broken) => {
            let detail = "the request's body ended early";
            return problem::response(StatusCode::BAD_REQUEST, detail);
        }
    };
    let mut request = Request::from_parts(head, body);
    request::prepare(&mut request, &matched, &peer.to_string());
    let component = &matched.component;
    match invoker.http(component, request, Caller::Client).await {
        Outcome::Completed(response) => response,
        failure => {
            let (status, detail) = failure_response(component, &failure);
            problem::response(status, &detail)
        }
    }
}
