//! One invocation: a fresh sandbox, a deadline, and one [`Outcome`]. Triggers
//! map the outcome; they never see a store, a trap or a timer.

mod broken_off;
mod command;
mod environment;
mod http;
mod meter;
mod queue;
mod sandboxes;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wasmtime::component::{InstancePre, Linker};
use wasmtime::{PoolConcurrencyLimitError, Store, Trap};
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi_http::p2::bindings::ProxyPre;

use crate::app::{App, Component, SandboxPer, Wasm};
use crate::backends::{Backends, Dependencies};
use crate::capabilities::{
    self, Clients, Command, FolderError, Grants, MemoryBudget, Preopens, Sandbox,
};
use crate::databases::Databases;
use crate::engine::{Engine, EngineError};
use crate::files::MountedFiles;
use crate::http::router::{RouteMatch, Router};
use crate::metrics::Metrics;
use crate::names::ComponentId;
use crate::stores::Stores;
use crate::wasm::{self, WasmError};

pub use http::{Caller, failure_response};
use meter::Meter;
pub use queue::{QueueExport, Session};
pub use sandboxes::Sandboxes;

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

#[allow(
    missing_docs,
    unreachable_pub,
    clippy::pedantic,
    reason = "generated from wit/, where the contract is documented"
)]
mod cron_bindings {
    wasmtime::component::bindgen!({
        path: "../wit/spin-cron.wit",
        world: "spin-cron",
        exports: { default: async },
    });
}

#[allow(
    missing_docs,
    unreachable_pub,
    clippy::pedantic,
    reason = "generated from wit/, where the contract is documented"
)]
mod redis_bindings {
    wasmtime::component::bindgen!({
        path: "../wit/spin-redis.wit",
        world: "spin-redis",
        exports: { default: async },
    });
}

#[allow(
    missing_docs,
    unreachable_pub,
    clippy::pedantic,
    reason = "generated from wit/, where the contract is documented"
)]
mod batch_bindings {
    wasmtime::component::bindgen!({
        path: "../wit/gristmill-queue.wit",
        world: "batch-consumer",
        exports: { default: async },
        additional_derives: [PartialEq],
    });
}

use batch_bindings::BatchConsumerPre;
pub use batch_bindings::gristmill::queue::types::{
    Attribute as BatchAttribute, AttributeValue as BatchAttributeValue, Message as BatchMessage,
    Outcome as BatchOutcome,
};
use bindings::SpinSqsPre;
use bindings::fermyon::spin_sqs::sqs_types::Error as GuestError;
pub use bindings::fermyon::spin_sqs::sqs_types::{
    Message, MessageAction, MessageAttribute, MessageAttributeValue,
};
use cron_bindings::SpinCronPre;
use cron_bindings::fermyon::spin_cron::cron_types::{Error as CronError, Metadata};
use redis_bindings::SpinRedisPre;

/// The export for requests.
pub const HTTP_EXPORT: &str = "wasi:http/incoming-handler";
/// The export for batches of messages.
pub const BATCH_EXPORT: &str = "handle-batch";
/// The export for messages.
pub const QUEUE_EXPORT: &str = "handle-queue-message";
/// The export for schedules.
pub const CRON_EXPORT: &str = "handle-cron-event";
/// The export for messages of Redis.
pub const REDIS_EXPORT: &str = "fermyon:spin/inbound-redis";
/// The export of a program, which messages and schedules start.
pub const COMMAND_EXPORT: &str = "wasi:cli/run";

/// A guest error that begins so means the message, which no other attempt would
/// help.
pub const REJECT: &str = "reject:";

/// A message on its way to a component.
pub struct Delivery<'a> {
    /// What the component gets of it.
    pub message: &'a Message,
    /// The name of its queue.
    pub queue: &'a str,
    /// How often it was received, this time included.
    pub receive_count: u32,
}

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
    /// What `next` makes of what the component returned.
    pub fn and_then<U>(self, next: impl FnOnce(T) -> Outcome<U>) -> Outcome<U> {
        match self {
            Self::Completed(value) => next(value),
            Self::GuestError(reason) => Outcome::GuestError(reason),
            Self::Trap(reason) => Outcome::Trap(reason),
            Self::TimedOut(limit) => Outcome::TimedOut(limit),
            Self::Overloaded => Outcome::Overloaded,
        }
    }

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
    /// Its wasm.
    #[error("component `{component}`: {source}")]
    Wasm {
        /// The component.
        component: ComponentId,
        /// What went wrong.
        source: WasmError,
    },
    /// The compiler.
    #[error("component `{component}`: `{wasm}` is {source}")]
    Engine {
        /// The component.
        component: ComponentId,
        /// Its wasm.
        wasm: Wasm,
        /// What went wrong.
        source: EngineError,
    },
    /// The engine itself.
    #[error(transparent)]
    Start(#[from] EngineError),
    /// The host's interfaces do not fit together.
    #[error("cannot set up the host's interfaces: {0:#}")]
    Linker(wasmtime::Error),
    /// Its files.
    #[error("component `{component}`: {source}")]
    Files {
        /// The component.
        component: ComponentId,
        /// What went wrong.
        source: FolderError,
    },
    /// Imports that this host does not offer.
    #[error("component `{component}` cannot be linked: {reason}")]
    Import {
        /// The component.
        component: ComponentId,
        /// Which import, and why.
        reason: String,
    },
    /// A sandbox that cannot be made.
    #[error("component `{component}` does not start in a sandbox: {reason}")]
    Sandbox {
        /// The component.
        component: ComponentId,
        /// What went wrong.
        reason: String,
    },
    /// A sandbox for each batch, of a component that takes one message a sandbox.
    #[error(
        "component `{component}`: `sandbox = \"batch\"` needs the export `{BATCH_EXPORT}` or \
         `{QUEUE_EXPORT}`, and messages go to its `{export}`, once in each sandbox"
    )]
    SandboxPerBatch {
        /// The component.
        component: ComponentId,
        /// What is called.
        export: &'static str,
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
    imports: Vec<String>,
    /// Whatever it exports.
    any: InstancePre<Sandbox>,
    http: Option<ProxyPre<Sandbox>>,
    batch: Option<BatchConsumerPre<Sandbox>>,
    queue: Option<SpinSqsPre<Sandbox>>,
    cron: Option<SpinCronPre<Sandbox>>,
    redis: Option<SpinRedisPre<Sandbox>>,
    command: Option<CommandPre<Sandbox>>,
    meter: Meter,
}

/// What a component offers, and what it asks for.
pub struct Interfaces<'a> {
    /// The component with its grants.
    pub component: &'a Component,
    /// What triggers may call.
    pub exports: Vec<&'static str>,
    /// The interfaces that it imports, with their versions.
    pub imports: &'a [String],
}

/// What the host needs to know beside the application.
pub struct InvokerOptions {
    /// Where they run.
    pub sandboxes: Sandboxes,
    /// How long a request may take, response body included.
    pub http_deadline: Duration,
    /// The servers that components may lean on.
    pub backends: Backends,
    /// The SQLite databases of all components.
    pub databases: Databases,
    /// The files of all components.
    pub files: MountedFiles,
}

/// Every component of the application, ready to run.
pub struct Invoker {
    sandboxes: Sandboxes,
    components: BTreeMap<ComponentId, Loaded>,
    router: Router,
    clients: Clients,
    backends: Backends,
    requests: TaskTracker,
    /// Cancelled when requests under way may not go on.
    cut: CancellationToken,
    http_deadline: Duration,
    /// Gone with the last invocation.
    _files: MountedFiles,
}

impl Invoker {
    /// Compiles and links every component of `app`.
    pub fn load(
        app: App,
        stores: &Stores,
        options: InvokerOptions,
        metrics: &Metrics,
    ) -> Result<Self, LoadError> {
        let sandboxes = options.sandboxes;
        let engine = &sandboxes.engine;
        let mut linker = Linker::new(engine.wasm());
        capabilities::add_to_linker(&mut linker).map_err(LoadError::Linker)?;
        let shared = Shared {
            stores,
            databases: &options.databases,
            files: &options.files,
        };
        let mut components = BTreeMap::new();
        for (id, spec) in app.components {
            let loaded = Loaded::new(engine, &linker, spec, &shared, metrics)?;
            components.insert(id, loaded);
        }
        let invoker = Self {
            sandboxes,
            components,
            router: app.router,
            clients: Clients::new(&options.backends),
            backends: options.backends,
            requests: TaskTracker::new(),
            cut: CancellationToken::new(),
            http_deadline: options.http_deadline,
            _files: options.files,
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
        for queue in app.queues.iter().filter(|queue| queue.forward_to.is_none()) {
            let component = &queue.component;
            let (asks, asked) = match &queue.http_path {
                Some(_) => ("`http_path`", HTTP_EXPORT),
                None => ("a `[[trigger.sqs]]`", QUEUE_EXPORT),
            };
            invoker.require(component, asks, asked, |loaded| {
                loaded.queue_export(queue).is_some()
            })?;
            let export = match invoker.queue_export(queue) {
                Some(QueueExport::Program) => COMMAND_EXPORT,
                Some(QueueExport::Http) => HTTP_EXPORT,
                _ => continue,
            };
            if queue.sandbox == Some(SandboxPer::Batch) {
                let component = component.clone();
                return Err(LoadError::SandboxPerBatch { component, export });
            }
        }
        for schedule in &app.schedules {
            let component = &schedule.component;
            invoker.require(component, "a `[[trigger.cron]]`", CRON_EXPORT, |loaded| {
                loaded.cron.is_some() || loaded.command.is_some()
            })?;
        }
        for subscription in &app.subscriptions {
            let component = &subscription.component;
            invoker.require(component, "a `[[trigger.redis]]`", REDIS_EXPORT, |loaded| {
                loaded.redis.is_some()
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
        let found = match loaded.exports().next() {
            Some(export) => format!("`{export}`"),
            None => "nothing that a trigger calls".to_owned(),
        };
        Err(LoadError::Export {
            component: id.clone(),
            trigger,
            export,
            found,
        })
    }

    /// Each component with its side of the contract.
    pub fn interfaces(&self) -> impl Iterator<Item = Interfaces<'_>> {
        self.components.values().map(|loaded| Interfaces {
            component: &loaded.grants.component,
            exports: loaded.exports().collect(),
            imports: &loaded.imports,
        })
    }

    /// The tasks that belong to requests under way.
    pub fn requests(&self) -> &TaskTracker {
        &self.requests
    }

    /// The clients for what goes out on behalf of components.
    pub fn clients(&self) -> &Clients {
        &self.clients
    }

    /// The servers that components lean on.
    pub fn backends(&self) -> &Backends {
        &self.backends
    }

    /// The servers that component `id` needs for its work.
    pub fn dependencies(&self, id: &ComponentId) -> Arc<Dependencies> {
        let loaded = self.components.get(id);
        loaded
            .map(|loaded| Arc::clone(&loaded.grants.dependencies))
            .unwrap_or_default()
    }

    /// Bytes of linear memory for one sandbox.
    pub fn max_memory(&self) -> usize {
        self.sandboxes.max_memory
    }

    /// Bytes of linear memory for all sandboxes together.
    pub fn memory_budget(&self) -> Arc<MemoryBudget> {
        Arc::clone(&self.sandboxes.memory_budget)
    }

    /// Where its components run.
    pub fn sandboxes(&self) -> &Sandboxes {
        &self.sandboxes
    }

    /// Where `path` leads.
    pub fn find_route(&self, path: &str) -> Option<RouteMatch> {
        self.router.find(path)
    }

    /// Calls component `id` on its schedule; `timestamp` is when it was due, in
    /// seconds since 1970. It must be done within `timeout`.
    pub async fn cron_event(
        self: &Arc<Self>,
        id: &ComponentId,
        timestamp: u64,
        timeout: Duration,
    ) -> Outcome<()> {
        let Some(loaded) = self.components.get(id) else {
            return unknown(id);
        };
        if let Some(pre) = &loaded.cron {
            return self
                .run_event(loaded, timeout, None, async |store| {
                    let handler = pre.instantiate_async(&mut *store).await?;
                    let answer = handler
                        .call_handle_cron_event(&mut *store, Metadata { timestamp })
                        .await?;
                    Ok(answer.map_err(|CronError::Other(reason)| shortened(reason)))
                })
                .await;
        }
        let Some(pre) = &loaded.command else {
            return Outcome::Trap(format!("component `{id}` does not export `{CRON_EXPORT}`"));
        };
        let environment = environment::of_tick(timestamp);
        let (run, command) = command::Run::new(pre, Bytes::new(), environment);
        self.run_event(loaded, timeout, Some(command), async |store| {
            let ended = run.finish(store).await?;
            Ok(ended.map_err(|failure| failure.to_string()))
        })
        .await
    }

    /// Hands the payload of a message of Redis to component `id`, which must be
    /// done within `timeout`. Its error says nothing: the reason is in its log.
    pub async fn redis_message(
        self: &Arc<Self>,
        id: &ComponentId,
        payload: &[u8],
        timeout: Duration,
    ) -> Outcome<()> {
        let Some(loaded) = self.components.get(id) else {
            return unknown(id);
        };
        let Some(pre) = &loaded.redis else {
            return Outcome::Trap(format!("component `{id}` does not export `{REDIS_EXPORT}`"));
        };
        self.run_event(loaded, timeout, None, async |store| {
            let handler = pre.instantiate_async(&mut *store).await?;
            let answer = handler
                .fermyon_spin_inbound_redis()
                .call_handle_message(&mut *store, payload)
                .await?;
            Ok(answer.map_err(|_| "what it printed tells why".to_owned()))
        })
        .await
    }

    /// Runs `call` for a message or a tick.
    async fn run_event<T>(
        self: &Arc<Self>,
        loaded: &Loaded,
        timeout: Duration,
        command: Option<Command>,
        call: impl AsyncFnOnce(&mut Store<Sandbox>) -> wasmtime::Result<Result<T, String>>,
    ) -> Outcome<T> {
        let Some(_permit) = self.sandboxes.for_event().await else {
            return Outcome::Overloaded;
        };
        let deadline = Instant::now() + timeout;
        self.run(loaded, 0, deadline, command, call).await
    }

    /// Runs `call` in a fresh sandbox.
    async fn run<T>(
        self: &Arc<Self>,
        loaded: &Loaded,
        depth: u8,
        deadline: Instant,
        command: Option<Command>,
        call: impl AsyncFnOnce(&mut Store<Sandbox>) -> wasmtime::Result<Result<T, String>>,
    ) -> Outcome<T> {
        let caller = Caller::Component { depth, deadline };
        let call = async || {
            let mut store = self.sandbox(loaded, caller, command);
            // Gone with this call, before its end is counted.
            Ok((call(&mut store).await?, ()))
        };
        self.run_on(loaded, deadline, call).await.0
    }

    /// Runs `call`, which says what the component answered and where it ran. Of a
    /// sandbox that broke or was cut off, nothing is left.
    async fn run_on<T, S>(
        &self,
        loaded: &Loaded,
        deadline: Instant,
        call: impl AsyncFnOnce() -> wasmtime::Result<(Result<T, String>, S)>,
    ) -> (Outcome<T>, Option<S>) {
        let mut running = loaded.meter.begin();
        let _ticking = self.sandboxes.engine.keep_ticking();
        let (outcome, sandbox) = match tokio::time::timeout_at(deadline.into(), call()).await {
            Ok(Ok((Ok(value), sandbox))) => (Outcome::Completed(value), Some(sandbox)),
            Ok(Ok((Err(reason), sandbox))) => (Outcome::GuestError(reason), Some(sandbox)),
            Ok(Err(error)) if error.is::<PoolConcurrencyLimitError>() => {
                (Outcome::Overloaded, None)
            }
            Ok(Err(error)) => {
                tracing::debug!(component = %loaded.grants.component.id, "{error:?}");
                (Outcome::Trap(explain(&error)), None)
            }
            Err(_) => {
                // As it was set: what it took to come here is not shown.
                let limit = deadline.saturating_duration_since(running.started);
                let millis = limit.as_micros().div_ceil(1000) as u64;
                (Outcome::TimedOut(Duration::from_millis(millis)), None)
            }
        };
        running.outcome = outcome.label();
        (outcome, sandbox)
    }

    /// A fresh sandbox.
    fn sandbox(
        self: &Arc<Self>,
        loaded: &Loaded,
        caller: Caller,
        command: Option<Command>,
    ) -> Store<Sandbox> {
        let grants = Arc::clone(&loaded.grants);
        let sandbox = Sandbox::new(grants, Arc::clone(self), caller, command);
        let mut store = Store::new(self.sandboxes.engine.wasm(), sandbox);
        store.limiter(Sandbox::limits);
        // The guest yields at each tick, which lets the deadline be seen and
        // others run.
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        store
    }

    /// Makes a sandbox of each component, once, and calls nothing: one that
    /// needs more than there is would fail with the first message.
    pub async fn try_out(self: &Arc<Self>) -> Result<(), LoadError> {
        let _ticking = self.sandboxes.engine.keep_ticking();
        for (id, loaded) in &self.components {
            let free = self.sandboxes.for_event();
            let free = tokio::time::timeout(START_TIMEOUT, free).await;
            let Ok(Some(_permit)) = free else {
                return Err(LoadError::Sandbox {
                    component: id.clone(),
                    reason: "none was free to try it in".to_owned(),
                });
            };
            let deadline = Instant::now() + START_TIMEOUT;
            let caller = Caller::Component { depth: 0, deadline };
            let mut store = self.sandbox(loaded, caller, None);
            let start = loaded.any.instantiate_async(&mut store);
            let reason = match tokio::time::timeout_at(deadline.into(), start).await {
                Ok(Ok(_)) => continue,
                Ok(Err(error)) => match store.data().refused() {
                    Some(refused) => refused.to_string(),
                    None => explain(&error),
                },
                Err(_) => format!("it takes longer than {} s", START_TIMEOUT.as_secs()),
            };
            let component = id.clone();
            return Err(LoadError::Sandbox { component, reason });
        }
        Ok(())
    }

    /// Ends the requests that are under way; their bodies are broken off.
    pub fn cut_off(&self) {
        self.cut.cancel();
    }

    /// Waits until every request that was begun has ended.
    pub async fn drained(&self) {
        self.requests.close();
        self.requests.wait().await;
    }
}

/// How long a component may take to start in a sandbox.
const START_TIMEOUT: Duration = Duration::from_secs(30);

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

/// What components are granted parts of.
struct Shared<'a> {
    stores: &'a Stores,
    databases: &'a Databases,
    files: &'a MountedFiles,
}

impl Loaded {
    /// What triggers may call.
    fn exports(&self) -> impl Iterator<Item = &'static str> {
        let http = self.http.as_ref().map(|_| HTTP_EXPORT);
        let batch = self.batch.as_ref().map(|_| BATCH_EXPORT);
        let queue = self.queue.as_ref().map(|_| QUEUE_EXPORT);
        let cron = self.cron.as_ref().map(|_| CRON_EXPORT);
        let redis = self.redis.as_ref().map(|_| REDIS_EXPORT);
        let command = self.command.as_ref().map(|_| COMMAND_EXPORT);
        [http, batch, queue, cron, redis, command]
            .into_iter()
            .flatten()
    }

    fn new(
        engine: &Engine,
        linker: &Linker<Sandbox>,
        spec: Component,
        shared: &Shared<'_>,
        metrics: &Metrics,
    ) -> Result<Self, LoadError> {
        let wasm = wasm::assemble(&spec).map_err(|source| LoadError::Wasm {
            component: spec.id.clone(),
            source,
        })?;
        let compiled = engine.compile(&wasm);
        let component = compiled.map_err(|source| LoadError::Engine {
            component: spec.id.clone(),
            wasm: spec.source.clone(),
            source,
        })?;
        drop(wasm);
        let pre = linker
            .instantiate_pre(&component)
            .map_err(|error| LoadError::Import {
                component: spec.id.clone(),
                reason: format!("{error:#}"),
            })?;
        let files = Preopens::open(&shared.files.of(&spec.id));
        let files = files.map_err(|source| LoadError::Files {
            component: spec.id.clone(),
            source,
        })?;
        let kind = component.component_type();
        let imports = kind.imports(engine.wasm());
        Ok(Self {
            imports: imports.map(|(name, _)| name.to_owned()).collect(),
            http: exported(&pre, HTTP_EXPORT, ProxyPre::new),
            batch: exported(&pre, BATCH_EXPORT, BatchConsumerPre::new),
            queue: exported(&pre, QUEUE_EXPORT, SpinSqsPre::new),
            cron: exported(&pre, CRON_EXPORT, SpinCronPre::new),
            redis: exported(&pre, REDIS_EXPORT, SpinRedisPre::new),
            command: exported(&pre, COMMAND_EXPORT, CommandPre::new),
            any: pre,
            meter: Meter::new(metrics, &spec.id),
            grants: Arc::new(Grants {
                dependencies: Arc::new(Dependencies::new(shared.stores.backends(&spec.stores))),
                stores: shared.stores.granted(&spec.stores),
                databases: shared.databases.granted(&spec.databases),
                files,
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
