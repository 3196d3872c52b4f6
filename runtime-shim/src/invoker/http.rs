//! Requests: who may make how many, how long they may take, and what becomes of
//! those that wait for an answer.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::task::JoinHandle;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::{Error as HttpError, WasiBody, WasiHttpView};

use super::broken_off::{Fate, Unbroken};
use super::{HTTP_EXPORT, Invoker, Outcome, unknown};
use crate::http::router::RouteMatch;
use crate::http::{reply, request};
use crate::names::ComponentId;

/// Who makes a request.
#[derive(Clone, Copy, Debug)]
pub enum Caller {
    /// Somebody outside, through the server.
    Client,
    /// A component: the `depth`-th in a row, which is stopped at `deadline`.
    Component {
        /// Components that called each other to get here.
        depth: u8,
        /// When the caller ends.
        deadline: Instant,
    },
}

impl Caller {
    /// How many components called each other to get here.
    pub fn depth(self) -> u8 {
        match self {
            Self::Client => 0,
            Self::Component { depth, .. } => depth + 1,
        }
    }
}

/// A task that answers a request. Where a component waits for it, it ends with
/// its waiter; a client that hangs up changes nothing.
struct Answering {
    task: JoinHandle<Outcome<()>>,
    abort_on_drop: bool,
}

impl Drop for Answering {
    fn drop(&mut self) {
        if self.abort_on_drop {
            self.task.abort();
        }
    }
}

/// The peer of a request to the application's own routes: it came from here.
const IN_PROCESS: &str = "127.0.0.1:0";
/// The peer of a component that another one calls. Spin: trigger-http/src/outbound_http.rs.
const CHAINED: &str = "0.0.0.0:0";

type HttpBegin =
    Result<Response<WasiBody>, wasmtime_wasi_http::p2::bindings::http::types::ErrorCode>;

impl Invoker {
    /// Calls the component that the application's own routes name.
    pub async fn call_route(
        self: &Arc<Self>,
        mut request: Request<WasiBody>,
        caller: Caller,
    ) -> Result<Response<WasiBody>, HttpError> {
        let Some(matched) = self.find_route(request.uri().path()) else {
            return Err(HttpError::DestinationNotFound);
        };
        request::prepare(&mut request, &matched, IN_PROCESS);
        self.respond(&matched.component, request, caller).await
    }

    /// Calls component `id` for another component.
    pub async fn call_chained(
        self: &Arc<Self>,
        id: &str,
        mut request: Request<WasiBody>,
        caller: Caller,
    ) -> Result<Response<WasiBody>, HttpError> {
        let Some((id, _)) = self.components.get_key_value(id) else {
            return Err(HttpError::DestinationNotFound);
        };
        let matched = RouteMatch::chained(id.clone(), request.uri().path());
        request::prepare(&mut request, &matched, CHAINED);
        self.respond(id, request, caller).await
    }

    async fn respond(
        self: &Arc<Self>,
        id: &ComponentId,
        request: Request<WasiBody>,
        caller: Caller,
    ) -> Result<Response<WasiBody>, HttpError> {
        match self.http(id, request, caller).await {
            Outcome::Completed(response) => Ok(response),
            Outcome::GuestError(reason) | Outcome::Trap(reason) => {
                Err(HttpError::InternalError(Some(reason)))
            }
            Outcome::TimedOut(_) => Err(HttpError::HttpResponseTimeout),
            Outcome::Overloaded => Err(HttpError::ConnectionLimitReached),
        }
    }

    /// Hands `request` to the HTTP export of component `id`. Returns when the
    /// response begins; its body follows while the component goes on running.
    pub async fn http(
        self: &Arc<Self>,
        id: &ComponentId,
        request: Request<WasiBody>,
        caller: Caller,
    ) -> Outcome<Response<WasiBody>> {
        let deadline = match caller {
            Caller::Client => Instant::now() + self.http_deadline,
            // A component that is called ends before the one that called it.
            Caller::Component { deadline, .. } => deadline.min(Instant::now() + self.http_deadline),
        };
        let permit = match caller {
            Caller::Client => {
                let free = self.sandboxes.for_request();
                let free = tokio::time::timeout_at(deadline.into(), free);
                free.await.ok().flatten()
            }
            Caller::Component { .. } => self.sandboxes.for_chained(),
        };
        let Some(permit) = permit else {
            return Outcome::Overloaded;
        };
        let (begin, response) = oneshot::channel();
        let failed = Arc::new(AtomicBool::new(false));
        let fate = Fate::of(Arc::clone(&failed));
        let invocation = Arc::clone(self).run_http(
            id.clone(),
            request,
            caller.depth(),
            deadline,
            (begin, fate),
            permit,
        );
        let cut = self.cut.clone();
        let invocation = async move {
            tokio::select! {
                outcome = invocation => outcome,
                () = cut.cancelled() => Outcome::Trap(
                    "the application was replaced, and the grace period is over".to_owned(),
                ),
            }
        };
        // Boxed, because a component may call a component may call a component.
        let invocation: futures::future::BoxFuture<'static, _> = Box::pin(invocation);
        let mut answering = Answering {
            task: self.requests.spawn(invocation),
            abort_on_drop: matches!(caller, Caller::Component { .. }),
        };
        match response.await {
            Ok(Ok(response)) => {
                answering.abort_on_drop = false;
                let unbroken = |body| Unbroken { body, failed }.boxed_unsync();
                Outcome::Completed(response.map(unbroken))
            }
            Ok(Err(code)) => Outcome::GuestError(format!("{code:?}")),
            // It ended without a response: the task knows why.
            Err(_) => match (&mut answering.task).await {
                Ok(Outcome::Completed(())) => {
                    Outcome::Trap("the component returned without a response".to_owned())
                }
                Ok(Outcome::GuestError(reason)) => Outcome::GuestError(reason),
                Ok(Outcome::Trap(reason)) => Outcome::Trap(reason),
                Ok(Outcome::TimedOut(limit)) => Outcome::TimedOut(limit),
                Ok(Outcome::Overloaded) => Outcome::Overloaded,
                Err(error) => Outcome::Trap(format!("the host failed: {error}")),
            },
        }
    }

    /// Hands a message, as `request`, to the HTTP export of component `id`, which
    /// must be done within `timeout`. Returns when the component has ended and its
    /// response is whole: what began well may end otherwise.
    pub async fn http_message(
        self: &Arc<Self>,
        id: &ComponentId,
        mut request: Request<WasiBody>,
        timeout: Duration,
    ) -> Outcome<Response<Bytes>> {
        let Some(permit) = self.sandboxes.for_event().await else {
            return Outcome::Overloaded;
        };
        let deadline = Instant::now() + timeout;
        let matched = RouteMatch::chained(id.clone(), request.uri().path());
        request::prepare(&mut request, &matched, IN_PROCESS);
        let (begin, response) = oneshot::channel();
        let fate = Fate::of(Arc::default());
        let invocation =
            Arc::clone(self).run_http(id.clone(), request, 0, deadline, (begin, fate), permit);
        // Boxed, because a component may call a component may call a component.
        let invocation: futures::future::BoxFuture<'static, _> = Box::pin(invocation);
        let answer = async {
            match response.await {
                Ok(Ok(response)) => reply::read(response)
                    .await
                    .map_err(|error| format!("the response broke off: {error}")),
                Ok(Err(code)) => Err(format!("the response is an error: {code:?}")),
                Err(_) => Err("the component returned without a response".to_owned()),
            }
        };
        match tokio::join!(invocation, answer) {
            (Outcome::Completed(()), Ok(reply)) => Outcome::Completed(reply),
            (Outcome::Completed(()), Err(reason)) | (Outcome::GuestError(reason), _) => {
                Outcome::GuestError(reason)
            }
            (Outcome::Trap(reason), _) => Outcome::Trap(reason),
            (Outcome::TimedOut(limit), _) => Outcome::TimedOut(limit),
            (Outcome::Overloaded, _) => Outcome::Overloaded,
        }
    }

    async fn run_http(
        self: Arc<Self>,
        id: ComponentId,
        request: Request<WasiBody>,
        depth: u8,
        deadline: Instant,
        (begin, fate): (oneshot::Sender<HttpBegin>, Fate),
        _permit: OwnedSemaphorePermit,
    ) -> Outcome<()> {
        let Some(loaded) = self.components.get(&id) else {
            return unknown(&id);
        };
        let Some(pre) = &loaded.http else {
            return Outcome::Trap(format!("component `{id}` does not export `{HTTP_EXPORT}`"));
        };
        let scheme = match request.uri().scheme() {
            Some(scheme) if *scheme == http::uri::Scheme::HTTPS => Scheme::Https,
            _ => Scheme::Http,
        };
        let outcome = self
            .run(loaded, depth, deadline, None, async |store| {
                let mut view = store.data_mut().http();
                let request = view.new_incoming_request(scheme, request)?;
                let response = view.new_response_outparam(begin)?;
                let proxy = pre.instantiate_async(&mut *store).await?;
                proxy
                    .wasi_http_incoming_handler()
                    .call_handle(&mut *store, request, response)
                    .await?;
                fate.returned();
                Ok(Ok(()))
            })
            .await;
        // Here alone, because the response may have begun long before.
        match &outcome {
            Outcome::Completed(()) => {}
            Outcome::GuestError(reason) | Outcome::Trap(reason) => {
                tracing::error!(component = %id, "request failed: {reason}");
            }
            Outcome::TimedOut(limit) => {
                let secs = limit.as_secs_f64();
                tracing::error!(component = %id, "request cut off after {secs:.1} s");
            }
            Outcome::Overloaded => tracing::error!(component = %id, "no sandbox was free"),
        }
        outcome
    }
}

/// What the host answers when a component did not.
pub fn failure_response(
    id: &ComponentId,
    outcome: &Outcome<Response<WasiBody>>,
) -> (StatusCode, String) {
    match outcome {
        Outcome::TimedOut(limit) => (
            StatusCode::GATEWAY_TIMEOUT,
            format!(
                "component `{id}` did not answer within {} s",
                limit.as_secs()
            ),
        ),
        Outcome::Overloaded => (
            StatusCode::SERVICE_UNAVAILABLE,
            "no sandbox is free, try again".to_owned(),
        ),
        // What went wrong inside is for the log, not for the client.
        _ => (
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("component `{id}` failed"),
        ),
    }
}
