//! One invocation: a fresh sandbox, a deadline, and one [`Outcome`]. Triggers
//! map the outcome; they never see a store, a trap or a timer.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Request, Response, StatusCode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use wasmtime::component::{InstancePre, Linker};
use wasmtime::{PoolConcurrencyLimitError, Store, Trap};
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::{Error as HttpError, WasiBody, WasiHttpView};

use crate::app::{App, Component};
use crate::capabilities::{self, Grants, HttpClient, MemoryBudget, Sandbox};
use crate::engine::{CHAIN_SANDBOXES, Engine, EngineError, HTTP_SANDBOXES};
use crate::http::request;
use crate::http::router::{RouteMatch, Router};
use crate::metrics::{ComponentLabels, Metrics, OutcomeLabels};
use crate::names::ComponentId;
use crate::stores::Stores;

#[allow(
    missing_docs,
    unreachable_pub,
    clippy::pedantic,
    reason = "generated from wit/, where the contract is documented"
)]
mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit/spin-sqs.wit",
        world: "spin-sqs",
        exports: { default: async },
    });
}

use bindings::SpinSqsPre;
use bindings::fermyon::spin_sqs::sqs_types::Error as GuestError;
pub use bindings::fermyon::spin_sqs::sqs_types::{
    Message, MessageAction, MessageAttribute, MessageAttributeValue,
};

const HTTP_EXPORT: &str = "wasi:http/incoming-handler";
const QUEUE_EXPORT: &str = "handle-queue-message";

/// How an invocation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<T> {
    /// The component returned.
    Completed(T),
    /// The component returned an error of its own.
    GuestError(String),
    /// The component broke: a panic, an endless recursion, too much memory.
    Trap(String),
    /// The deadline passed and the component was stopped.
    TimedOut(Duration),
    /// No sandbox was free.
    Overloaded,
}

impl<T> Outcome<T> {
    fn label(&self) -> &'static str {
        match self {
            Self::Completed(_) => "completed",
            Self::GuestError(_) => "error",
            Self::Trap(_) => "trap",
            Self::TimedOut(_) => "timeout",
            Self::Overloaded => "overloaded",
        }
    }
}

/// Why the application cannot be invoked.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The engine or a wasm file.
    #[error("component `{component}`: {source}")]
    Engine {
        /// The component.
        component: ComponentId,
        /// What went wrong.
        source: EngineError,
    },
    /// The engine itself.
    #[error(transparent)]
    Start(#[from] EngineError),
    /// The host's interfaces do not fit together.
    #[error("cannot set up the host's interfaces: {0:#}")]
    Linker(wasmtime::Error),
    /// Imports that this host does not offer.
    #[error("component `{component}` cannot be linked: {reason}")]
    Import {
        /// The component.
        component: ComponentId,
        /// Which import, and why.
        reason: String,
    },
    /// A trigger needs an export that is not there.
    #[error(
        "component `{component}` is called by {trigger} but does not export `{export}`: it exports {found}"
    )]
    Export {
        /// The component.
        component: ComponentId,
        /// What calls it.
        trigger: &'static str,
        /// What is missing.
        export: &'static str,
        /// What is there.
        found: String,
    },
}

/// A component that is ready to run.
struct Loaded {
    grants: Arc<Grants>,
    http: Option<ProxyPre<Sandbox>>,
    queue: Option<SpinSqsPre<Sandbox>>,
    meter: Meter,
}

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

/// What is counted of one component's invocations: looked up once, not each time.
struct Meter {
    outcomes: [(&'static str, Counter); 6],
    seconds: Histogram,
    running: Gauge,
}

/// How an invocation ends that was dropped, because its lease was lost or the
/// process stops.
const CANCELLED: &str = "cancelled";

impl Meter {
    fn new(metrics: &Metrics, component: &ComponentId) -> Self {
        let labels = ComponentLabels {
            component: component.to_string(),
        };
        let outcomes = [
            "completed",
            "error",
            "trap",
            "timeout",
            "overloaded",
            CANCELLED,
        ];
        let outcomes = outcomes.map(|outcome| {
            let labels = OutcomeLabels {
                component: component.to_string(),
                outcome,
            };
            (outcome, metrics.invocations.get_or_create_owned(&labels))
        });
        Self {
            outcomes,
            seconds: metrics.invocation_seconds.get_or_create_owned(&labels),
            running: metrics.running.get_or_create_owned(&labels),
        }
    }

    /// Counts an invocation from now until the guard is dropped.
    fn begin(&self) -> Running<'_> {
        self.running.inc();
        Running {
            meter: self,
            started: Instant::now(),
            outcome: CANCELLED,
        }
    }
}

/// One invocation that runs.
struct Running<'a> {
    meter: &'a Meter,
    started: Instant,
    outcome: &'static str,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.meter.running.dec();
        self.meter
            .seconds
            .observe(self.started.elapsed().as_secs_f64());
        let counter = self
            .meter
            .outcomes
            .iter()
            .find(|(label, _)| *label == self.outcome);
        if let Some((_, counter)) = counter {
            counter.inc();
        }
    }
}

/// What the host needs to know beside the application.
pub struct InvokerOptions {
    /// Bytes of linear memory for one sandbox.
    pub max_memory: usize,
    /// Where machine code is kept.
    pub cache_dir: Option<PathBuf>,
    /// How long a request may take, response body included.
    pub http_deadline: Duration,
}

/// Every component of the application, ready to run.
pub struct Invoker {
    engine: Engine,
    components: BTreeMap<ComponentId, Loaded>,
    router: Router,
    http_client: HttpClient,
    requests: TaskTracker,
    permits: Arc<Semaphore>,
    chain_permits: Arc<Semaphore>,
    max_memory: usize,
    memory_budget: Arc<MemoryBudget>,
    http_deadline: Duration,
}

impl Invoker {
    /// Compiles and links every component of `app`.
    pub fn load(
        app: App,
        stores: &Stores,
        options: InvokerOptions,
        metrics: &Metrics,
    ) -> Result<Self, LoadError> {
        let engine = Engine::new(options.max_memory, options.cache_dir)?;
        let mut linker = Linker::new(engine.wasm());
        capabilities::add_to_linker(&mut linker).map_err(LoadError::Linker)?;
        let mut components = BTreeMap::new();
        for (id, spec) in app.components {
            let loaded = Loaded::new(&engine, &linker, spec, stores, metrics)?;
            components.insert(id, loaded);
        }
        let invoker = Self {
            engine,
            components,
            router: app.router,
            http_client: HttpClient::new(),
            requests: TaskTracker::new(),
            permits: Arc::new(Semaphore::new(HTTP_SANDBOXES as usize)),
            chain_permits: Arc::new(Semaphore::new(CHAIN_SANDBOXES as usize)),
            max_memory: options.max_memory,
            memory_budget: Arc::new(MemoryBudget::of_this_machine()),
            http_deadline: options.http_deadline,
        };
        for component in &app.http_components {
            invoker.require(component, "a `[[trigger.http]]`", HTTP_EXPORT, |loaded| {
                loaded.http.is_some()
            })?;
        }
        let chained = invoker
            .components
            .values()
            .flat_map(|loaded| loaded.grants.component.allowed_hosts.chained_components());
        for target in chained {
            if let Some((id, _)) = invoker.components.get_key_value(target) {
                invoker.require(id, "service chaining", HTTP_EXPORT, |loaded| {
                    loaded.http.is_some()
                })?;
            }
        }
        for queue in &app.queues {
            let component = &queue.component;
            invoker.require(component, "a `[[trigger.sqs]]`", QUEUE_EXPORT, |loaded| {
                loaded.queue.is_some()
            })?;
        }
        Ok(invoker)
    }

    fn require(
        &self,
        id: &ComponentId,
        trigger: &'static str,
        export: &'static str,
        has: impl Fn(&Loaded) -> bool,
    ) -> Result<(), LoadError> {
        let Some(loaded) = self.components.get(id).filter(|loaded| !has(loaded)) else {
            return Ok(());
        };
        let found = match (&loaded.http, &loaded.queue) {
            (Some(_), _) => format!("`{HTTP_EXPORT}`"),
            (None, Some(_)) => format!("`{QUEUE_EXPORT}`"),
            (None, None) => "nothing that a trigger calls".to_owned(),
        };
        Err(LoadError::Export {
            component: id.clone(),
            trigger,
            export,
            found,
        })
    }

    /// What each component exports for triggers.
    pub fn exports(&self) -> impl Iterator<Item = (&Component, Vec<&'static str>)> {
        self.components.values().map(|loaded| {
            let http = loaded.http.as_ref().map(|_| HTTP_EXPORT);
            let queue = loaded.queue.as_ref().map(|_| QUEUE_EXPORT);
            (
                &loaded.grants.component,
                http.into_iter().chain(queue).collect(),
            )
        })
    }

    /// The tasks that belong to requests under way.
    pub fn requests(&self) -> &TaskTracker {
        &self.requests
    }

    /// The client for outbound requests.
    pub fn http_client(&self) -> &HttpClient {
        &self.http_client
    }

    /// Bytes of linear memory for one sandbox.
    pub fn max_memory(&self) -> usize {
        self.max_memory
    }

    /// Bytes of linear memory for all sandboxes together.
    pub fn memory_budget(&self) -> Arc<MemoryBudget> {
        Arc::clone(&self.memory_budget)
    }

    /// Where `path` leads.
    pub fn find_route(&self, path: &str) -> Option<RouteMatch> {
        self.router.find(path)
    }

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
        request::prepare(&mut request, &matched, IN_PROCESS);
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
                let acquire = Arc::clone(&self.permits).acquire_owned();
                tokio::time::timeout_at(deadline.into(), acquire)
                    .await
                    .ok()
                    .and_then(Result::ok)
            }
            Caller::Component { .. } => Arc::clone(&self.chain_permits).try_acquire_owned().ok(),
        };
        let Some(permit) = permit else {
            return Outcome::Overloaded;
        };
        let (begin, response) = oneshot::channel();
        let invocation =
            Arc::clone(self).run_http(id.clone(), request, caller.depth(), deadline, begin, permit);
        // Boxed, because a component may call a component may call a component.
        let invocation: futures::future::BoxFuture<'static, _> = Box::pin(invocation);
        let mut answering = Answering {
            task: self.requests.spawn(invocation),
            abort_on_drop: matches!(caller, Caller::Component { .. }),
        };
        match response.await {
            Ok(Ok(response)) => {
                answering.abort_on_drop = false;
                Outcome::Completed(response)
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

    async fn run_http(
        self: Arc<Self>,
        id: ComponentId,
        request: Request<WasiBody>,
        depth: u8,
        deadline: Instant,
        begin: oneshot::Sender<HttpBegin>,
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
            .run(loaded, depth, deadline, async |store| {
                let mut view = store.data_mut().http();
                let request = view.new_incoming_request(scheme, request)?;
                let response = view.new_response_outparam(begin)?;
                let proxy = pre.instantiate_async(&mut *store).await?;
                proxy
                    .wasi_http_incoming_handler()
                    .call_handle(&mut *store, request, response)
                    .await?;
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

    /// Hands `message` to component `id`, which must be done within `timeout`.
    pub async fn queue_message(
        self: &Arc<Self>,
        id: &ComponentId,
        message: &Message,
        timeout: Duration,
    ) -> Outcome<MessageAction> {
        let Some(loaded) = self.components.get(id) else {
            return unknown(id);
        };
        let Some(pre) = &loaded.queue else {
            return Outcome::Trap(format!("component `{id}` does not export `{QUEUE_EXPORT}`"));
        };
        self.run(loaded, 0, Instant::now() + timeout, async |store| {
            let handler = pre.instantiate_async(&mut *store).await?;
            let answer = handler
                .call_handle_queue_message(&mut *store, message)
                .await?;
            Ok(answer.map_err(|GuestError::Other(reason)| shortened(reason)))
        })
        .await
    }

    /// Runs `call` in a fresh sandbox.
    async fn run<T>(
        self: &Arc<Self>,
        loaded: &Loaded,
        depth: u8,
        deadline: Instant,
        call: impl AsyncFnOnce(&mut Store<Sandbox>) -> wasmtime::Result<Result<T, String>>,
    ) -> Outcome<T> {
        let mut running = loaded.meter.begin();
        let _ticking = self.engine.keep_ticking();
        let caller = Caller::Component { depth, deadline };
        let sandbox = Sandbox::new(Arc::clone(&loaded.grants), Arc::clone(self), caller);
        let mut store = Store::new(self.engine.wasm(), sandbox);
        store.limiter(Sandbox::limits);
        // The guest yields at each tick, which lets the deadline be seen and
        // others run.
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        let outcome = match tokio::time::timeout_at(deadline.into(), call(&mut store)).await {
            Ok(Ok(Ok(value))) => Outcome::Completed(value),
            Ok(Ok(Err(reason))) => Outcome::GuestError(reason),
            Ok(Err(error)) if error.is::<PoolConcurrencyLimitError>() => Outcome::Overloaded,
            Ok(Err(error)) => {
                tracing::debug!(component = %loaded.grants.component.id, "{error:?}");
                Outcome::Trap(explain(&error))
            }
            Err(_) => Outcome::TimedOut(running.started.elapsed()),
        };
        // The sandbox is gone before its end is counted.
        drop(store);
        running.outcome = outcome.label();
        outcome
    }

    /// Waits until every request that was begun has ended.
    pub async fn drained(&self) {
        self.requests.close();
        self.requests.wait().await;
    }
}

/// The peer of a request that never left the process.
const IN_PROCESS: &str = "127.0.0.1:0";

type HttpBegin =
    Result<Response<WasiBody>, wasmtime_wasi_http::p2::bindings::http::types::ErrorCode>;

/// Bytes of a guest's own error text that the host keeps.
const MAX_REASON: usize = 2048;

/// A guest's text may be as large as its memory; logs and dead letters are not.
fn shortened(mut reason: String) -> String {
    if reason.len() > MAX_REASON {
        reason.truncate(reason.floor_char_boundary(MAX_REASON));
        reason.push('…');
    }
    reason
}

fn unknown<T>(id: &ComponentId) -> Outcome<T> {
    Outcome::Trap(format!("component `{id}` is not loaded"))
}

/// One line for an operator: the trap's own name rather than its backtrace.
fn explain(error: &wasmtime::Error) -> String {
    match error.downcast_ref::<Trap>() {
        Some(Trap::UnreachableCodeReached) => {
            "the component panicked or aborted (unreachable code reached)".to_owned()
        }
        Some(trap) => trap.to_string(),
        None => error.root_cause().to_string(),
    }
}

impl Loaded {
    fn new(
        engine: &Engine,
        linker: &Linker<Sandbox>,
        spec: Component,
        stores: &Stores,
        metrics: &Metrics,
    ) -> Result<Self, LoadError> {
        let component = engine
            .load(&spec.source)
            .map_err(|source| LoadError::Engine {
                component: spec.id.clone(),
                source,
            })?;
        let pre = linker
            .instantiate_pre(&component)
            .map_err(|error| LoadError::Import {
                component: spec.id.clone(),
                reason: format!("{error:#}"),
            })?;
        Ok(Self {
            http: exported(&pre, HTTP_EXPORT, ProxyPre::new),
            queue: exported(&pre, QUEUE_EXPORT, SpinSqsPre::new),
            meter: Meter::new(metrics, &spec.id),
            grants: Arc::new(Grants {
                stores: stores.granted(&spec.stores),
                component: spec,
            }),
        })
    }
}

/// The typed handle to an export, where the component has it.
fn exported<P>(
    pre: &InstancePre<Sandbox>,
    export: &str,
    bind: impl Fn(InstancePre<Sandbox>) -> wasmtime::Result<P>,
) -> Option<P> {
    let found = pre
        .component()
        .component_type()
        .exports(pre.engine())
        .any(|(name, _)| name.split('@').next() == Some(export));
    if !found {
        return None;
    }
    match bind(pre.clone()) {
        Ok(bound) => Some(bound),
        Err(error) => {
            tracing::warn!("export `{export}` has another type than expected: {error:#}");
            None
        }
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
