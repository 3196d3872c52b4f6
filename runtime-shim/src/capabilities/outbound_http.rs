//! Outbound `wasi:http`: to hosts that the manifest allows, and nowhere else;
//! to other components (service chaining) without leaving the process.

use std::error::Error as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::uri::Scheme;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi_http::p2::bindings::http::outgoing_handler::Host as _;
use wasmtime_wasi_http::p2::bindings::http::types;
use wasmtime_wasi_http::p2::types::{HostFutureIncomingResponse, HostOutgoingRequest};
use wasmtime_wasi_http::{
    Error, RequestOptions, WasiBody, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

use super::{Clients, Grants, Sandbox, refusal};
use crate::allowed_hosts::SERVICE_CHAINING_SUFFIX;
use crate::invoker::{Caller, Invoker};
use crate::tls::{self, LookupError, Resolver};

/// The host that means the application's own routes, for SDKs that need one.
const ITSELF: &str = "self.alt";
/// Components that may call each other in a row. A cycle ends here.
const MAX_DEPTH: u8 = 16;
/// Requests of one sandbox under way at once.
const MAX_REQUESTS_EACH: usize = 32;
/// Requests under way at once, over all components, until their bodies have ended.
const MAX_REQUESTS: usize = 1024;
/// Connections kept for reuse to one host.
const MAX_IDLE_PER_HOST: usize = 64;
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Until the response begins, and between its parts, unless the guest says.
const DEFAULT_TIMEOUT: Duration = Duration::from_mins(1);

/// The client that all components share; its connections are pooled.
pub(super) struct HttpClient {
    client: Client<HttpsConnector<HttpConnector<Resolver>>, WasiBody>,
    requests: Arc<Semaphore>,
}

impl HttpClient {
    pub(super) fn new() -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(MAX_IDLE_PER_HOST)
            .build(tls::connector(CONNECT_TIMEOUT));
        Self {
            client,
            requests: Arc::new(Semaphore::new(MAX_REQUESTS)),
        }
    }

    async fn send(
        &self,
        request: Request<WasiBody>,
        options: RequestOptions,
        own: OwnedSemaphorePermit,
    ) -> Result<Response<WasiBody>, Error> {
        let between_bytes = options.between_bytes_timeout.unwrap_or(DEFAULT_TIMEOUT);
        let shared = Arc::clone(&self.requests).acquire_owned().await;
        let shared = shared.map_err(|_| Error::ConnectionLimitReached)?;
        let response = self
            .client
            .request(request)
            .await
            .map_err(|error| explain(&error))?;
        Ok(response.map(|body| {
            let body = body.map_err(Error::from).boxed_unsync();
            ResponseBody::new(body, between_bytes, [own, shared]).boxed_unsync()
        }))
    }
}

/// How long to wait until the response begins.
fn patience(options: &RequestOptions) -> Duration {
    let first_byte = options.first_byte_timeout.unwrap_or(DEFAULT_TIMEOUT);
    first_byte.saturating_add(options.connect_timeout.unwrap_or_default())
}

/// The most telling error code for what the client says.
fn explain(error: &hyper_util::client::legacy::Error) -> Error {
    let mut source = error.source();
    while let Some(cause) = source {
        if cause.is::<LookupError>() {
            // Spin's words, and its number.
            return Error::DnsError {
                rcode: Some("address not available".to_owned()),
                info_code: Some(0),
            };
        }
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            if is_tls(io) {
                return Error::TlsProtocolError;
            }
            match io.kind() {
                io::ErrorKind::ConnectionRefused => return Error::ConnectionRefused,
                io::ErrorKind::TimedOut => return Error::ConnectionTimeout,
                io::ErrorKind::ConnectionReset
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::UnexpectedEof => return Error::ConnectionTerminated,
                io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                    return Error::DestinationIpUnroutable;
                }
                _ => {}
            }
        }
        source = cause.source();
    }
    if error.is_connect() {
        Error::DestinationUnavailable
    } else {
        Error::HttpProtocolError
    }
}

/// The TLS library's errors come wrapped, perhaps more than once.
fn is_tls(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| {
        inner.is::<rustls::Error>() || inner.downcast_ref::<io::Error>().is_some_and(is_tls)
    })
}

/// What outgoing requests see of a sandbox.
pub(super) struct Outbound {
    grants: Arc<Grants>,
    invoker: Arc<Invoker>,
    own: Caller,
    /// Made for the first request: most sandboxes make none.
    requests: Option<Arc<Semaphore>>,
}

enum Target {
    /// The application itself, through its routes.
    Itself,
    /// A component of the application.
    Component(String),
    /// Anything else.
    Network,
}

impl Target {
    fn of(request: &Request<WasiBody>) -> Self {
        let host = request
            .uri()
            .host()
            .unwrap_or_default()
            .to_ascii_lowercase();
        if host.is_empty() || host == ITSELF {
            return Self::Itself;
        }
        // A name under it that is no component's must not reach the resolver.
        match host.strip_suffix(SERVICE_CHAINING_SUFFIX) {
            Some(component) => Self::Component(component.to_owned()),
            None => Self::Network,
        }
    }
}

impl Outbound {
    pub(super) fn new(grants: Arc<Grants>, invoker: Arc<Invoker>, own: Caller) -> Self {
        Self {
            grants,
            invoker,
            own,
            requests: None,
        }
    }

    /// The clients that all components share.
    pub(super) fn clients(&self) -> &Clients {
        self.invoker.clients()
    }

    fn is_allowed(&self, request: &Request<WasiBody>, target: &Target) -> bool {
        let uri = request.uri();
        let scheme = uri.scheme_str().unwrap_or("https");
        let allowed = &self.grants.component.allowed_hosts;
        match target {
            Target::Itself => allowed.allow_itself("http") || allowed.allow_itself("https"),
            Target::Component(_) | Target::Network => {
                allowed.allow(scheme, uri.host().unwrap_or_default(), uri.port_u16())
            }
        }
    }

    fn refuse(&self, request: &Request<WasiBody>) -> Error {
        let uri = request.uri();
        let scheme = uri.scheme_str().unwrap_or("https");
        let host = uri.host().filter(|host| !host.is_empty()).unwrap_or("self");
        refusal::log(&self.grants.component, scheme, host, uri.port_u16());
        Error::HttpRequestDenied
    }

    /// A permit for one more request of this sandbox.
    fn admit(&mut self) -> Result<OwnedSemaphorePermit, Error> {
        let requests = self
            .requests
            .get_or_insert_with(|| Arc::new(Semaphore::new(MAX_REQUESTS_EACH)));
        Arc::clone(requests)
            .try_acquire_owned()
            .map_err(|_| Error::ConnectionLimitReached)
    }
}

type Sent = wasmtime_wasi_http::Result<(
    Response<WasiBody>,
    Box<dyn Future<Output = wasmtime_wasi_http::Result<()>> + Send>,
)>;

/// Offers `wasi:http/outgoing-handler`, by which requests are sent.
pub(super) fn add_to_linker(linker: &mut Linker<Sandbox>) -> wasmtime::Result<()> {
    let mut handler = linker.instance("wasi:http/outgoing-handler@0.2.0")?;
    handler.func_wrap(
        "handle",
        |mut store: StoreContextMut<'_, Sandbox>,
         (request, options): (Resource<HostOutgoingRequest>, Option<Resource<_>>)| {
            Ok((handle(store.data_mut().http(), request, options)?,))
        },
    )
}

fn handle(
    mut view: WasiHttpCtxView<'_>,
    request: Resource<HostOutgoingRequest>,
    options: Option<Resource<types::RequestOptions>>,
) -> wasmtime::Result<Result<Resource<HostFutureIncomingResponse>, types::ErrorCode>> {
    let asked = view.table.get_mut(&request)?;
    // A path alone is one of the application's own. To the HTTP library it would be
    // an invalid address.
    if asked.authority.as_deref().unwrap_or_default().is_empty() {
        asked.scheme = Some(types::Scheme::Http);
        asked.authority = Some(ITSELF.to_owned());
    }
    match view.handle(request, options) {
        Ok(response) => Ok(Ok(response)),
        Err(error) => Ok(Err(error.downcast()?)),
    }
}

impl WasiHttpHooks for Outbound {
    fn default_scheme(&mut self) -> Option<Scheme> {
        Some(Scheme::HTTPS)
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _request_body: Box<dyn Future<Output = wasmtime_wasi_http::Result<()>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let target = Target::of(&request);
        let admitted = if self.is_allowed(&request, &target) {
            self.admit()
                .map(|permit| (Arc::clone(&self.invoker), self.own, permit))
        } else {
            Err(self.refuse(&request))
        };
        let options = options.unwrap_or_default();
        Box::new(async move {
            let (invoker, own, permit) = admitted?;
            let exchange = async {
                if own.depth() > MAX_DEPTH {
                    return Err(Error::LoopDetected);
                }
                match target {
                    Target::Network => invoker.clients().http.send(request, options, permit).await,
                    Target::Itself => invoker.call_route(request, own).await,
                    Target::Component(id) => invoker.call_chained(&id, request, own).await,
                }
            };
            let response = tokio::time::timeout(patience(&options), exchange)
                .await
                .map_err(|_| Error::ConnectionReadTimeout)??;
            let done: Box<dyn Future<Output = wasmtime_wasi_http::Result<()>> + Send> =
                Box::new(async { Ok(()) });
            Ok((response, done))
        })
    }
}

/// Fails when the next part of the body takes too long, and keeps the request's
/// permits until its end.
struct ResponseBody {
    body: WasiBody,
    _permits: [OwnedSemaphorePermit; 2],
    limit: Duration,
    idle: Pin<Box<Sleep>>,
}

impl ResponseBody {
    fn new(body: WasiBody, limit: Duration, permits: [OwnedSemaphorePermit; 2]) -> Self {
        let idle = Box::pin(tokio::time::sleep(limit));
        Self {
            body,
            _permits: permits,
            limit,
            idle,
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            let deadline = Instant::now() + self.limit;
            self.idle.as_mut().reset(deadline);
            return Poll::Ready(frame);
        }
        ready!(self.idle.as_mut().poll(cx));
        Poll::Ready(Some(Err(Error::ConnectionReadTimeout)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
