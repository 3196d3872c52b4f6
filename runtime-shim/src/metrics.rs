//! What the host counts, under Prometheus' names. Each event is counted in one
//! place, beside its log line.

use std::fmt::Write as _;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Labels of everything that belongs to one component.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ComponentLabels {
    /// The component's id.
    pub component: String,
}

/// Labels of an invocation's end.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabels {
    /// The component's id.
    pub component: String,
    /// How it ended.
    pub outcome: &'static str,
}

/// Labels of what was done with a message.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SettlementLabels {
    /// The component's id.
    pub component: String,
    /// What was done.
    pub settlement: SettlementLabel,
}

/// What was done with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SettlementLabel {
    /// Removed: it is done.
    Deleted,
    /// Its visibility timeout was left as it was.
    Left,
    /// Hidden until it is tried again.
    Retried,
    /// Sent to the dead-letter queue, with the reason.
    DeadLettered,
    /// The reason could not be attached, or there is no dead-letter queue:
    /// redrive decides.
    DeadLetterRefused,
    /// The queue no longer knew the receipt: the message comes, or came, again.
    Expired,
    /// The queue did not answer until the lease ran out.
    Failed,
    /// Handed back unhandled: an earlier message of its group failed, or the host
    /// stops.
    Released,
    /// Removed without a call: it had been done before.
    Duplicate,
}

impl SettlementLabel {
    /// Every one.
    pub const ALL: [Self; 9] = [
        Self::Deleted,
        Self::Left,
        Self::Retried,
        Self::DeadLettered,
        Self::DeadLetterRefused,
        Self::Expired,
        Self::Failed,
        Self::Released,
        Self::Duplicate,
    ];
}

impl EncodeLabelValue for SettlementLabel {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        encoder.write_str(match self {
            Self::Deleted => "deleted",
            Self::Left => "left",
            Self::Retried => "retried",
            Self::DeadLettered => "dead_lettered",
            Self::DeadLetterRefused => "dead_letter_refused",
            Self::Expired => "expired",
            Self::Failed => "failed",
            Self::Released => "released",
            Self::Duplicate => "duplicate",
        })
    }
}

/// Labels of a state of a queue.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct QueueLabels {
    /// The queue's name.
    pub queue: String,
    /// `visible`, `in_flight` or `delayed`.
    pub state: &'static str,
}

/// Labels of a server that components lean on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct BackendLabels {
    /// Its kind and address.
    pub backend: String,
}

/// Labels of a reload.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReloadLabels {
    /// `done` or `refused`.
    outcome: &'static str,
}

/// Every metric of the process.
pub struct Metrics {
    registry: Registry,
    /// Invocations by component and outcome.
    pub invocations: Family<OutcomeLabels, Counter>,
    /// Seconds from a fresh sandbox to its end.
    pub invocation_seconds: Family<ComponentLabels, Histogram>,
    /// Invocations that run now.
    pub running: Family<ComponentLabels, Gauge>,
    /// Messages received.
    pub received: Family<ComponentLabels, Counter>,
    /// Messages received that no filter matched.
    pub filtered: Family<ComponentLabels, Counter>,
    /// Receive calls that failed.
    pub receive_errors: Family<ComponentLabels, Counter>,
    /// 1 while receiving pauses, because a server that the component needs is down.
    pub paused: Family<ComponentLabels, Gauge>,
    /// Messages, or batches, that consumers may have handled at once.
    pub concurrency_limit: Family<ComponentLabels, Gauge>,
    /// Messages not settled for good at the last receive that the redrive policy allows.
    pub exhausted: Family<ComponentLabels, Counter>,
    /// Messages handled again that had been begun before, and whose end is unknown.
    pub reinvocations: Family<ComponentLabels, Counter>,
    /// Ticks of schedules that came while a call ran.
    pub ticks_missed: Family<ComponentLabels, Counter>,
    /// Messages of Redis that no component got: too many waited, or too large.
    pub redis_lost: Family<ComponentLabels, Counter>,
    /// 1 while the channels of a server are subscribed to.
    pub redis_subscribed: Family<BackendLabels, Gauge>,
    /// Messages settled, by what was done.
    pub settled: Family<SettlementLabels, Counter>,
    /// Leases that were extended.
    pub heartbeats: Family<ComponentLabels, Counter>,
    /// Single failed entries of batch calls that were tried again.
    pub entry_retries: Family<ComponentLabels, Counter>,
    /// Messages of embedded queues.
    pub queue_messages: Family<QueueLabels, Gauge>,
    /// 1 for a server that answers, 0 for one that is down.
    pub backend_up: Family<BackendLabels, Gauge>,
    reloads: Family<ReloadLabels, Counter>,
    last_reload_successful: Gauge,
}

/// From a tenth of a millisecond to two minutes.
const SECONDS: [f64; 14] = [
    0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 30.0, 120.0,
];

impl Metrics {
    /// All metrics at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("gristmill");
        let metrics = Self {
            invocations: Family::default(),
            invocation_seconds: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            running: Family::default(),
            received: Family::default(),
            filtered: Family::default(),
            receive_errors: Family::default(),
            paused: Family::default(),
            concurrency_limit: Family::default(),
            exhausted: Family::default(),
            reinvocations: Family::default(),
            ticks_missed: Family::default(),
            redis_lost: Family::default(),
            redis_subscribed: Family::default(),
            settled: Family::default(),
            heartbeats: Family::default(),
            entry_retries: Family::default(),
            queue_messages: Family::default(),
            backend_up: Family::default(),
            reloads: Family::default(),
            last_reload_successful: Gauge::default(),
            registry: Registry::default(),
        };
        metrics.register_invocations(&mut registry);
        metrics.register_consumers(&mut registry);
        metrics.register_listeners(&mut registry);
        metrics.register_process(&mut registry);
        Self {
            registry,
            ..metrics
        }
    }

    fn register_invocations(&self, r: &mut Registry) {
        r.register(
            "invocations",
            "Invocations by outcome",
            self.invocations.clone(),
        );
        r.register_with_unit(
            "invocation_duration",
            "Time from a fresh sandbox to its end",
            Unit::Seconds,
            self.invocation_seconds.clone(),
        );
        r.register(
            "invocations_running",
            "Invocations that run now",
            self.running.clone(),
        );
    }

    fn register_consumers(&self, r: &mut Registry) {
        r.register(
            "messages_received",
            "Messages received",
            self.received.clone(),
        );
        r.register(
            "messages_filtered",
            "Messages that no filter matched",
            self.filtered.clone(),
        );
        r.register(
            "receive_errors",
            "Receive calls that failed",
            self.receive_errors.clone(),
        );
        r.register(
            "messages_exhausted",
            "Messages not settled for good at the last receive that the redrive policy allows",
            self.exhausted.clone(),
        );
        r.register(
            "reinvocations",
            "Messages handled again that had been begun before, and whose end is unknown",
            self.reinvocations.clone(),
        );
        r.register(
            "consumer_concurrency_limit",
            "Messages, or batches, that consumers may have handled at once",
            self.concurrency_limit.clone(),
        );
        r.register(
            "receiving_paused",
            "Whether receiving waits for a server that the component needs",
            self.paused.clone(),
        );
        r.register(
            "messages_settled",
            "Messages by what was done",
            self.settled.clone(),
        );
        r.register(
            "lease_heartbeats",
            "Leases that were extended",
            self.heartbeats.clone(),
        );
        r.register(
            "batch_entry_retries",
            "Batch entries tried again",
            self.entry_retries.clone(),
        );
    }

    fn register_listeners(&self, r: &mut Registry) {
        r.register(
            "cron_ticks_missed",
            "Ticks of schedules that came while a call ran",
            self.ticks_missed.clone(),
        );
        r.register(
            "redis_messages_lost",
            "Messages of Redis that no component got",
            self.redis_lost.clone(),
        );
        r.register(
            "redis_subscribed",
            "Whether the channels of a Redis server are subscribed to",
            self.redis_subscribed.clone(),
        );
        r.register(
            "queue_messages",
            "Messages of embedded queues",
            self.queue_messages.clone(),
        );
        r.register(
            "backend_up",
            "Whether a server that components lean on answers",
            self.backend_up.clone(),
        );
    }

    fn register_process(&self, r: &mut Registry) {
        self.last_reload_successful.set(1);
        r.register(
            "reloads",
            "Times that the application was read anew",
            self.reloads.clone(),
        );
        r.register(
            "last_reload_successful",
            "Whether what was read last is what runs",
            self.last_reload_successful.clone(),
        );
    }

    /// The application was read anew, and runs as it was read, or as before.
    pub fn reloaded(&self, done: bool) {
        let outcome = if done { "done" } else { "refused" };
        self.reloads.get_or_create(&ReloadLabels { outcome }).inc();
        self.last_reload_successful.set(done.into());
    }

    /// The text that Prometheus scrapes.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
