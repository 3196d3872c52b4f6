//! The queue trigger: receives messages, hands each to its component in a
//! sandbox of its own, and settles it by the outcome.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::lease::{Lease, Lost, default_timeout};
use super::message::Received;
use super::settle::{Action, Settled, Settler};
use super::source::{DeadLetterError, QueueSource, SourceError};
use crate::app::{Mismatch, QueueTrigger};
use crate::backends::Dependencies;
use crate::health::Health;
use crate::invoker::{Delivery, Invoker, MessageAction, Outcome, REJECT};
use crate::metrics::{ComponentLabels, Metrics, SettlementLabel, SettlementLabels};

/// The longest long poll. SQS API Reference, `ReceiveMessage`.
const LONG_POLL: Duration = Duration::from_secs(20);
/// How long further pollers wait for a message before they end.
const SHORT_POLL: Duration = Duration::from_secs(1);
/// How long to wait for as many permits as make a receive worth its while.
const GATHER: Duration = Duration::from_millis(10);
/// Receive calls under way at once, while every one comes back full.
const MAX_POLLERS: usize = 16;
/// The `error` of a dead letter that was never handed to its component.
const NO_FILTER_MATCHES: &str = "no filter matches";
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(10);

/// One consumer of one queue.
pub struct Consumer {
    trigger: QueueTrigger,
    source: Arc<QueueSource>,
    invoker: Arc<Invoker>,
    dependencies: Arc<Dependencies>,
    health: Arc<Health>,
    visibility: Duration,
    timeout: Duration,
    counters: Counters,
}

struct Counters {
    received: Counter,
    filtered: Counter,
    receive_errors: Counter,
    heartbeats: Counter,
    entry_retries: Counter,
    paused: Gauge,
    settled: [(SettlementLabel, Counter); SettlementLabel::ALL.len()],
}

/// What a running consumer shares with its tasks.
struct Running {
    consumer: Consumer,
    permits: Arc<Semaphore>,
    settler: Settler,
    messages: TaskTracker,
    stop: CancellationToken,
}

impl Consumer {
    /// A consumer of `source` for `trigger`.
    pub fn new(
        trigger: QueueTrigger,
        source: Arc<QueueSource>,
        invoker: Arc<Invoker>,
        metrics: &Metrics,
    ) -> Self {
        let visibility = source.visibility();
        let timeout = trigger
            .timeout
            .unwrap_or_else(|| default_timeout(visibility));
        let labels = ComponentLabels {
            component: trigger.component.to_string(),
        };
        Self {
            health: Arc::new(Health::new(format!("queue `{}`", source.name()))),
            dependencies: invoker.dependencies(&trigger.component),
            counters: Counters {
                received: metrics.received.get_or_create_owned(&labels),
                filtered: metrics.filtered.get_or_create_owned(&labels),
                receive_errors: metrics.receive_errors.get_or_create_owned(&labels),
                heartbeats: metrics.heartbeats.get_or_create_owned(&labels),
                entry_retries: metrics.entry_retries.get_or_create_owned(&labels),
                paused: metrics.paused.get_or_create_owned(&labels),
                settled: SettlementLabel::ALL.map(|settlement| {
                    let component = trigger.component.to_string();
                    let labels = SettlementLabels {
                        component,
                        settlement,
                    };
                    (settlement, metrics.settled.get_or_create_owned(&labels))
                }),
            },
            trigger,
            source,
            invoker,
            visibility,
            timeout,
        }
    }

    /// Whether its queue answers.
    pub fn health(&self) -> Arc<Health> {
        Arc::clone(&self.health)
    }

    /// Consumes until `stop`, then finishes what was received.
    pub async fn run(self, stop: CancellationToken) {
        let settler = Settler::start(
            Arc::clone(&self.source),
            self.counters.entry_retries.clone(),
        );
        let running = Arc::new(Running {
            permits: Arc::new(Semaphore::new(self.trigger.max_concurrency as usize)),
            settler,
            messages: TaskTracker::new(),
            stop,
            consumer: self,
        });
        running.poll().await;
        running.messages.close();
        running.messages.wait().await;
        if let Some(running) = Arc::into_inner(running) {
            running.settler.finish().await;
        }
    }
}

impl Running {
    /// One poller asks all the time. While polls come back full, more join it;
    /// one that comes back empty ends, unless it is the first.
    async fn poll(self: &Arc<Self>) {
        let max_pollers = self
            .permits
            .available_permits()
            .div_ceil(10)
            .min(MAX_POLLERS);
        let mut pollers = JoinSet::new();
        pollers.spawn(Arc::clone(self).poll_once(true));
        let mut retry = FIRST_RETRY;
        while let Some(polled) = pollers.join_next().await {
            if self.stop.is_cancelled() {
                continue;
            }
            match polled {
                Ok(Ok(Polled::Full)) => {
                    retry = FIRST_RETRY;
                    if pollers.len() + 2 <= max_pollers {
                        pollers.spawn(Arc::clone(self).poll_once(false));
                    }
                    pollers.spawn(Arc::clone(self).poll_once(pollers.is_empty()));
                }
                // A short answer proves nothing: SQS samples its servers.
                Ok(Ok(Polled::Some)) => {
                    retry = FIRST_RETRY;
                    pollers.spawn(Arc::clone(self).poll_once(pollers.is_empty()));
                }
                Ok(Ok(Polled::None)) => {
                    retry = FIRST_RETRY;
                    if pollers.is_empty() {
                        pollers.spawn(Arc::clone(self).poll_once(true));
                    }
                }
                Ok(Err(error)) => {
                    self.consumer.counters.receive_errors.inc();
                    self.consumer.health.set(Some(error.to_string()));
                    tracing::warn!(
                        queue = self.consumer.source.name(),
                        "cannot receive: {error}"
                    );
                    if pollers.is_empty() {
                        self.pause(retry).await;
                        retry = (retry * 2).min(LONGEST_RETRY);
                        // Not a long poll: readiness waits for its answer.
                        pollers.spawn(Arc::clone(self).poll_once(false));
                    }
                }
                Err(error) => {
                    tracing::error!("a poller ended unexpectedly: {error}");
                    pollers.spawn(Arc::clone(self).poll_once(true));
                }
            }
        }
    }

    async fn pause(&self, retry: Duration) {
        let jittered = retry.mul_f64(0.5 + fastrand::f64() / 2.0);
        tokio::select! {
            () = tokio::time::sleep(jittered) => {}
            () = self.stop.cancelled() => {}
        }
    }

    /// Waits until the servers that the component needs answer; tells whether
    /// they do, or the host stops first.
    async fn dependencies_up(&self) -> bool {
        tokio::select! {
            biased;
            () = self.consumer.dependencies.up() => true,
            () = self.stop.cancelled() => false,
        }
    }

    /// As long as a server that the component needs is down, messages wait in
    /// the queue, where no receive is counted.
    async fn pause_while_down(&self) {
        let Consumer {
            trigger, counters, ..
        } = &self.consumer;
        let component = &trigger.component;
        let mut waiting = pin!(self.dependencies_up());
        if futures::poll!(&mut waiting).is_ready() {
            return;
        }
        // The first poller tells, and the last.
        if counters.paused.inc() == 0 {
            tracing::warn!(%component, "receiving pauses: what the component needs is down");
        }
        let up = waiting.await;
        if counters.paused.dec() == 1 && up {
            tracing::info!(%component, "receiving goes on");
        }
    }

    /// Takes permits, then receives no more messages than it has permits for.
    async fn poll_once(self: Arc<Self>, patient: bool) -> Result<Polled, SourceError> {
        // Permits may come late, as when those fail who had them.
        let mut permits = loop {
            self.pause_while_down().await;
            let Some(permits) = self.take_permits().await else {
                return Ok(Polled::None);
            };
            if self.consumer.dependencies.are_up() {
                break permits;
            }
        };
        let wait = if patient { LONG_POLL } else { SHORT_POLL };
        let max = permits.num_permits() as u16;
        let receive = self
            .consumer
            .source
            .receive(max, wait, self.consumer.visibility);
        let cut = async {
            self.stop.cancelled().await;
            tokio::time::sleep(self.consumer.source.receive_grace()).await;
        };
        let received = tokio::select! {
            biased;
            received = receive => received?,
            () = cut => return Ok(Polled::None),
        };
        self.consumer.health.set(None);
        self.consumer
            .counters
            .received
            .inc_by(received.len() as u64);
        let count = received.len();
        for message in received {
            // One permit each; a queue that gives more than was asked for is
            // served all the same, one after the other.
            let permit = match permits.split(1) {
                Some(permit) => permit,
                None => match Arc::clone(&self.permits).acquire_owned().await {
                    Ok(permit) => permit,
                    Err(_) => break,
                },
            };
            let running = Arc::clone(&self);
            self.messages.spawn(async move {
                running.handle(message).await;
                drop(permit);
            });
        }
        Ok(match count {
            0 => Polled::None,
            count if count == usize::from(max) => Polled::Full,
            _ => Polled::Some,
        })
    }

    /// As many permits as one receive can use. Waits for a few at once, so that
    /// a busy consumer does not fetch its messages one by one.
    async fn take_permits(&self) -> Option<OwnedSemaphorePermit> {
        let most = u32::from(self.consumer.trigger.max_messages)
            .min(self.consumer.trigger.max_concurrency);
        let least = most.min((self.consumer.trigger.max_concurrency / 4).max(1));
        let gather = async {
            let enough = Arc::clone(&self.permits).acquire_many_owned(least);
            match tokio::time::timeout(GATHER, enough).await {
                Ok(permits) => permits,
                // Slow handlers: what is free must not wait for what is not.
                Err(_) => Arc::clone(&self.permits).acquire_owned().await,
            }
        };
        let mut permits = tokio::select! {
            biased;
            () = self.stop.cancelled() => return None,
            permits = gather => permits.ok()?,
        };
        let spare = self
            .permits
            .available_permits()
            .min(most as usize - permits.num_permits()) as u32;
        if spare > 0
            && let Ok(more) = Arc::clone(&self.permits).try_acquire_many_owned(spare)
        {
            permits.merge(more);
        }
        Some(permits)
    }

    async fn handle(&self, received: Received) {
        let Consumer {
            trigger,
            source,
            invoker,
            visibility,
            timeout,
            counters,
            ..
        } = &self.consumer;
        if let Some(settlement) = self.filter_out(&received).await {
            return self.count(settlement);
        }
        let message = received.for_component(trigger);
        let delivery = Delivery {
            message: &message,
            queue: source.name(),
            receive_count: received.receive_count,
        };
        let lease = Lease::new(source, &received.receipt, received.at, *visibility);
        let invocation = async {
            // It was received by a call that was under way when a server went
            // down: it waits here, under its lease, rather than fail.
            if !self.dependencies_up().await {
                return None;
            }
            let invocation = invoker.queue_message(&trigger.component, &delivery, *timeout);
            Some(invocation.await)
        };
        // The heartbeat is part of this future: it ends with the invocation,
        // whatever way that ends.
        let outcome = tokio::select! {
            biased;
            outcome = invocation => Ok(outcome),
            lost = lease.keep(&counters.heartbeats) => Err(lost),
        };
        let settlement = match outcome {
            Ok(Some(outcome)) => self.settle(&received, outcome, lease.end()).await,
            // The host stops: somebody else may have it.
            Ok(None) => {
                let now = Action::Hide(Duration::ZERO);
                self.apply(&received, now, lease.end()).await
            }
            Err(Lost) => {
                tracing::warn!(
                    component = %trigger.component, message_id = received.id,
                    "the lease was lost and the component stopped: the message comes again"
                );
                SettlementLabel::Expired
            }
        };
        self.count(settlement);
    }

    /// Settles a message that no filter of the component matches.
    async fn filter_out(&self, received: &Received) -> Option<SettlementLabel> {
        let (filters, mismatch) = self.consumer.trigger.filter.as_ref()?;
        if filters.matches(received) {
            return None;
        }
        self.consumer.counters.filtered.inc();
        let until = received.at + self.consumer.visibility;
        Some(match mismatch {
            Mismatch::Ack => self.apply(received, Action::Delete, until).await,
            Mismatch::Keep => SettlementLabel::Left,
            Mismatch::DeadLetter => self.reject(received, NO_FILTER_MATCHES, until).await,
        })
    }

    fn count(&self, settlement: SettlementLabel) {
        let settled = &self.consumer.counters.settled;
        if let Some((_, counter)) = settled.iter().find(|(label, _)| *label == settlement) {
            counter.inc();
        }
    }

    async fn settle(
        &self,
        received: &Received,
        outcome: Outcome<MessageAction>,
        until: Instant,
    ) -> SettlementLabel {
        let reason = match outcome {
            Outcome::Completed(MessageAction::Delete) => {
                return self.apply(received, Action::Delete, until).await;
            }
            Outcome::Completed(MessageAction::Leave) => return SettlementLabel::Left,
            Outcome::GuestError(reason) => {
                if let Some(reason) = reason.strip_prefix(REJECT) {
                    return self.reject(received, reason.trim(), until).await;
                }
                format!("error: {reason}")
            }
            Outcome::Trap(reason) => format!("trap: {reason}"),
            Outcome::TimedOut(limit) => format!("no answer within {} s", limit.as_secs_f64()),
            Outcome::Overloaded => "no sandbox was free".to_owned(),
        };
        let delay = self.backoff(received);
        tracing::warn!(
            component = %self.consumer.trigger.component, message_id = received.id,
            receive_count = received.receive_count, retry_in_secs = delay.as_secs(),
            "message failed: {reason}"
        );
        self.apply(received, Action::Hide(delay), until).await
    }

    fn backoff(&self, received: &Received) -> Duration {
        let backoff = &self.consumer.trigger.backoff;
        backoff.delay(received.receive_count, fastrand::f64())
    }

    async fn apply(&self, received: &Received, action: Action, until: Instant) -> SettlementLabel {
        match self.settler.settle(&received.receipt, action, until).await {
            Settled::Done if action == Action::Delete => SettlementLabel::Deleted,
            Settled::Done => SettlementLabel::Retried,
            Settled::Expired => {
                tracing::warn!(
                    message_id = received.id,
                    "the receipt expired before it was settled"
                );
                SettlementLabel::Expired
            }
            Settled::GaveUp => {
                tracing::error!(
                    queue = self.consumer.source.name(),
                    message_id = received.id,
                    "could not settle the message before its lease ran out: it comes again"
                );
                SettlementLabel::Failed
            }
        }
    }

    /// Sends the message to the dead-letter queue with the reason, then removes
    /// it. Where that can't be done, the queue's redrive policy decides.
    async fn reject(&self, received: &Received, reason: &str, until: Instant) -> SettlementLabel {
        let component = &self.consumer.trigger.component;
        let note = serde_json::json!({
            "component": component.as_str(),
            "outcome": "rejected",
            "error": reason,
            "receive_count": received.receive_count,
            "first_received_at": received.system("ApproximateFirstReceiveTimestamp"),
        });
        tracing::warn!(
            %component, message_id = received.id, receive_count = received.receive_count,
            "message rejected: {reason}"
        );
        let note = note.to_string();
        let send = self.consumer.source.dead_letter(received, &note);
        let sent = match tokio::time::timeout_at(until.into(), send).await {
            Ok(sent) => sent,
            Err(_) => Err(DeadLetterError::TooLate),
        };
        match sent {
            Ok(()) => match self.apply(received, Action::Delete, until).await {
                SettlementLabel::Deleted => SettlementLabel::DeadLettered,
                other => other,
            },
            Err(error) => {
                let what = match &error {
                    DeadLetterError::Send(_) | DeadLetterError::TooLate => "could not be sent",
                    DeadLetterError::NoQueue | DeadLetterError::DoesNotFit => "is left to redrive",
                };
                tracing::warn!(message_id = received.id, "dead letter {what}: {error}");
                let retry = Action::Hide(self.backoff(received));
                match self.apply(received, retry, until).await {
                    SettlementLabel::Retried => SettlementLabel::DeadLetterRefused,
                    other => other,
                }
            }
        }
    }
}

enum Polled {
    /// As many messages as were asked for: there are likely more.
    Full,
    /// Fewer.
    Some,
    /// None at all.
    None,
}
