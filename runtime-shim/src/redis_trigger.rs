//! The Redis trigger: one connection to each server gets what is published on the
//! channels of its triggers, and hands each message to its component in a sandbox
//! of its own. Redis keeps no message: what comes while the host is away, or while
//! too many wait, is lost. What was lost here is counted.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use redis::{Msg, Value};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{JoinError, JoinSet, unconstrained};
use tokio_util::sync::CancellationToken;

use crate::app::RedisTrigger;
use crate::health::Health;
use crate::invoker::{Invoker, Outcome};
use crate::metrics::{BackendLabels, ComponentLabels, Metrics};
use crate::redis_server::{RedisServer, Subscription, means_down};

/// Messages that wait for one trigger.
const MAX_WAITING: usize = 1024;
/// Bytes of the messages that all triggers have, waiting or running.
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// Bytes of one message: a component must fit it into its memory several times.
const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;
/// How often the server is asked whether it is still there, and for how long. A
/// connection that nothing comes on looks like one that is broken.
const PING_PAUSE: Duration = Duration::from_secs(5);
const PING_LIMIT: Duration = Duration::from_secs(5);
/// Between attempts to subscribe: the first pause and the longest.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(5);
/// Between two log lines about losses of one trigger.
const LOSS_PAUSE: Duration = Duration::from_secs(10);

/// The subscriber of one server, for all triggers that name it.
pub struct Subscriber {
    server: RedisServer,
    channels: BTreeMap<String, Vec<Handler>>,
    workers: Vec<Worker>,
    room: Arc<Semaphore>,
    health: Arc<Health>,
    subscribed: Gauge,
    /// Made before the host says that it is ready.
    first: Option<Counted>,
}

/// A subscription that shows in the metrics as long as it is there. Counted, not
/// set: when an application is loaded anew, the next one begins before the last ends.
struct Counted {
    subscription: Subscription,
    shown: Shown,
}

struct Shown(Gauge);

impl Shown {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Where the messages for one trigger wait.
struct Handler {
    queue: mpsc::Sender<Arc<Waiting>>,
    received: Counter,
    loss: Loss,
}

/// A message and its share of the memory for messages.
struct Waiting {
    message: Msg,
    _room: OwnedSemaphorePermit,
}

/// What takes messages out of a handler's queue.
struct Worker {
    trigger: Arc<RedisTrigger>,
    queue: mpsc::Receiver<Arc<Waiting>>,
    invoker: Arc<Invoker>,
}

impl Subscriber {
    /// A subscriber for each server of `triggers`. Each has tried to subscribe; one
    /// that could not goes on trying when it runs.
    pub async fn start_all(
        triggers: Vec<RedisTrigger>,
        invoker: &Arc<Invoker>,
        metrics: &Metrics,
    ) -> Vec<Self> {
        let room = Arc::new(Semaphore::new(MAX_BYTES));
        let mut all: Vec<Self> = Vec::new();
        for trigger in triggers {
            let known = all.iter().position(|each| each.server == trigger.server);
            let at = known.unwrap_or_else(|| {
                all.push(Self::new(&trigger.server, Arc::clone(&room), metrics));
                all.len() - 1
            });
            all[at].add(trigger, invoker, metrics);
        }
        let starting = all.iter_mut().map(|subscriber| async {
            subscriber.first = subscriber.subscribe().await;
        });
        futures::future::join_all(starting).await;
        all
    }

    fn new(server: &RedisServer, room: Arc<Semaphore>, metrics: &Metrics) -> Self {
        let labels = BackendLabels {
            backend: server.name().to_owned(),
        };
        Self {
            server: server.clone(),
            channels: BTreeMap::new(),
            workers: Vec::new(),
            room,
            health: Arc::new(Health::new(server.name().to_owned())),
            subscribed: metrics.redis_subscribed.get_or_create_owned(&labels),
            first: None,
        }
    }

    fn add(&mut self, trigger: RedisTrigger, invoker: &Arc<Invoker>, metrics: &Metrics) {
        let labels = ComponentLabels {
            component: trigger.component.to_string(),
        };
        let trigger = Arc::new(trigger);
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        let handlers = self.channels.entry(trigger.channel.clone()).or_default();
        handlers.push(Handler {
            queue: sender,
            received: metrics.received.get_or_create_owned(&labels),
            loss: Loss::new(&trigger, metrics.redis_lost.get_or_create_owned(&labels)),
        });
        self.workers.push(Worker {
            trigger,
            queue: receiver,
            invoker: Arc::clone(invoker),
        });
    }

    /// Whether its channels are subscribed to.
    pub fn health(&self) -> Arc<Health> {
        Arc::clone(&self.health)
    }

    /// Takes messages until `stop`, then finishes those that it has.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut workers = JoinSet::new();
        for worker in self.workers.drain(..) {
            workers.spawn(worker.run());
        }
        self.receive(&stop).await;
        // Without their senders the workers end when nothing waits any more.
        drop(self);
        while let Some(ended) = workers.join_next().await {
            note_panic(ended);
        }
    }

    async fn receive(&mut self, stop: &CancellationToken) {
        let mut retry = FIRST_RETRY;
        let mut subscription = self.first.take();
        loop {
            if let Some(current) = subscription.take() {
                let since = Instant::now();
                let Some(reason) = self.listen(current, stop).await else {
                    return;
                };
                self.note_failure(&format!("the subscription ended: {reason}"));
                if since.elapsed() > LONGEST_RETRY {
                    retry = FIRST_RETRY;
                }
            }
            let pause = retry.mul_f64(0.5 + fastrand::f64() / 2.0);
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            retry = (retry * 2).min(LONGEST_RETRY);
            subscription = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                subscribed = self.subscribe() => subscribed,
            };
        }
    }

    async fn subscribe(&self) -> Option<Counted> {
        let channels: Vec<&str> = self.channels.keys().map(String::as_str).collect();
        match self.server.subscribe(&channels).await {
            Ok(subscription) => {
                self.health.set(None);
                let server = self.server.name();
                tracing::info!(server, channels = channels.len(), "subscribed");
                let shown = Shown::new(&self.subscribed);
                Some(Counted {
                    subscription,
                    shown,
                })
            }
            Err(error) => {
                self.note_failure(&format!("cannot subscribe: {error}"));
                None
            }
        }
    }

    fn note_failure(&self, reason: &str) {
        if self.health.set(Some(reason.to_owned())) {
            tracing::warn!(
                server = self.server.name(),
                "{reason}; what is published meanwhile is lost"
            );
        }
    }

    /// Hands messages on until `stop`, or until the connection is broken: returns
    /// why.
    async fn listen(&self, counted: Counted, stop: &CancellationToken) -> Option<String> {
        let Counted {
            subscription,
            shown: _shown,
        } = counted;
        let Subscription {
            mut messages,
            mut control,
        } = subscription;
        let mut silence = pin!(async {
            loop {
                tokio::time::sleep(PING_PAUSE).await;
                let answer = control.ping::<Value>();
                match tokio::time::timeout(PING_LIMIT, answer).await {
                    Ok(Err(error)) if means_down(&error) => return error.to_string(),
                    // Who may not ask has been answered, too.
                    Ok(_) => {}
                    Err(_) => return format!("no answer within {} s", PING_LIMIT.as_secs()),
                }
            }
        });
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                reason = &mut silence => return Some(reason),
                message = messages.next() => match message {
                    Some(message) => self.hand_on(message),
                    None => return Some("the connection was closed".to_owned()),
                },
            }
        }
        // What has come before the signal is handled, too: all that is there, however
        // much this task has done already.
        while let Some(Some(message)) = unconstrained(messages.next()).now_or_never() {
            self.hand_on(message);
        }
        None
    }

    fn hand_on(&self, message: Msg) {
        let Some(handlers) = self.channels.get(message.get_channel_name()) else {
            return;
        };
        let bytes = message.get_payload_bytes().len();
        for handler in handlers {
            handler.received.inc();
        }
        let lose = |reason| {
            for handler in handlers {
                handler.loss.note(reason);
            }
        };
        if bytes > MAX_MESSAGE_BYTES {
            return lose("a message has more than 16 MiB");
        }
        let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(bytes as u32) else {
            return lose("the messages that wait have 64 MiB");
        };
        let waiting = Arc::new(Waiting {
            message,
            _room: room,
        });
        for handler in handlers {
            if handler.queue.try_send(Arc::clone(&waiting)).is_err() {
                handler.loss.note("1024 messages wait");
            }
        }
    }
}

/// Counts what was lost, and logs it now and then.
struct Loss {
    trigger: Arc<RedisTrigger>,
    lost: Counter,
    logged: Mutex<Option<Instant>>,
}

impl Loss {
    fn new(trigger: &Arc<RedisTrigger>, lost: Counter) -> Self {
        Self {
            trigger: Arc::clone(trigger),
            lost,
            logged: Mutex::new(None),
        }
    }

    fn note(&self, reason: &str) {
        let before = self.lost.inc();
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.is_some_and(|last| last.elapsed() < LOSS_PAUSE) {
            return;
        }
        *logged = Some(Instant::now());
        let RedisTrigger {
            component, channel, ..
        } = &*self.trigger;
        tracing::warn!(
            %component, channel, lost_so_far = before + 1,
            "messages are lost: {reason}"
        );
    }
}

impl Worker {
    /// Ends when its queue is closed and empty, and its calls have ended.
    async fn run(mut self) {
        let most = self.trigger.max_concurrency as usize;
        let mut calls = JoinSet::new();
        loop {
            tokio::select! {
                Some(ended) = calls.join_next() => note_panic(ended),
                waiting = self.queue.recv(), if calls.len() < most => {
                    let Some(waiting) = waiting else {
                        break;
                    };
                    let (trigger, invoker) = (Arc::clone(&self.trigger), Arc::clone(&self.invoker));
                    calls.spawn(async move { call(&trigger, &invoker, &waiting.message).await });
                }
            }
        }
        while let Some(ended) = calls.join_next().await {
            note_panic(ended);
        }
    }
}

async fn call(trigger: &RedisTrigger, invoker: &Arc<Invoker>, message: &Msg) {
    let RedisTrigger {
        component,
        channel,
        timeout,
        ..
    } = trigger;
    let outcome = invoker.redis_message(component, message.get_payload_bytes(), *timeout);
    let reason = match outcome.await {
        Outcome::Completed(()) => return,
        Outcome::GuestError(reason) => format!("error: {reason}"),
        Outcome::Trap(reason) => format!("trap: {reason}"),
        Outcome::TimedOut(limit) => format!("no answer within {} s", limit.as_secs_f64()),
        Outcome::Overloaded => "no sandbox was free".to_owned(),
    };
    tracing::warn!(%component, channel, "message failed: {reason}");
}

fn note_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!("a message's task ended unexpectedly: {error}");
    }
}
