//! Messages for a server elsewhere: one request for each, on pooled connections.
//! What a response means is said in `request`.

use std::error::Error as _;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::Full;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::app::ForwardUrl;
use crate::http::reply;
use crate::invoker::Outcome;
use crate::tls::{self, Resolver};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Below what servers and balancers keep idle connections for.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// The server that handles the messages of one trigger.
pub(super) struct Forwarder {
    client: Client<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>,
    url: ForwardUrl,
}

impl Forwarder {
    /// No connection is made yet; at most `connections` are kept.
    pub(super) fn new(url: &ForwardUrl, connections: u32) -> Self {
        Self {
            client: Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(IDLE_TIMEOUT)
                .pool_max_idle_per_host(connections as usize)
                .build(tls::connector(CONNECT_TIMEOUT)),
            url: url.clone(),
        }
    }

    /// The server's response to a message, whole within `timeout`.
    pub(super) async fn send(
        &self,
        headers: HeaderMap,
        body: &str,
        timeout: Duration,
    ) -> Outcome<Response<Bytes>> {
        let mut request = Request::new(Full::new(Bytes::from(body.to_owned())));
        *request.method_mut() = Method::POST;
        *request.headers_mut() = headers;
        match self.url.as_str().parse() {
            Ok(uri) => *request.uri_mut() = uri,
            Err(error) => return Outcome::GuestError(format!("{}: {error}", self.url)),
        }
        let exchange = async {
            let response = self.client.request(request).await;
            let response = response.map_err(|error| {
                let cause = error.source().map(ToString::to_string);
                format!(
                    "{}: {}",
                    self.url,
                    cause.unwrap_or_else(|| error.to_string())
                )
            })?;
            reply::read(response)
                .await
                .map_err(|error| format!("{}: the response broke off: {error}", self.url))
        };
        match tokio::time::timeout(timeout, exchange).await {
            Ok(Ok(response)) => Outcome::Completed(response),
            Ok(Err(reason)) => Outcome::GuestError(reason),
            Err(_) => Outcome::TimedOut(timeout),
        }
    }
}
