//! The queue trigger: receives no more messages than there is room for, and makes
//! units of them, which `unit` sees through.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::bystanders::Bystanders;
use super::dedup::Dedup;
use super::handler::Handler;
use super::lease::default_timeout;
use super::message::Received;
use super::settle::Settler;
use super::slots::Slots;
use super::source::{QueueSource, SourceError};
use crate::app::QueueTrigger;
use crate::backends::Dependencies;
use crate::health::Health;
use crate::invoker::Invoker;
use crate::metrics::{ComponentLabels, Metrics, SettlementLabel, SettlementLabels};

/// The longest long poll. SQS API Reference, `ReceiveMessage`.
const LONG_POLL: Duration = Duration::from_secs(20);
/// How long further pollers wait for a message before they end.
const SHORT_POLL: Duration = Duration::from_secs(1);
/// How long to wait for as many permits as make a receive worth its while.
const GATHER: Duration = Duration::from_millis(10);
/// Pollers at once, while every one comes back full; and receive calls at once.
const MAX_POLLERS: usize = 16;
/// Receive calls at once that fill one batch.
const MAX_FILLERS: usize = 4;
/// Messages of one receive call. SQS API Reference, `ReceiveMessage`.
const MAX_RECEIVED: usize = 10;
/// Bytes of messages from which on a batch is full: a sandbox has 128 MiB.
const MAX_BATCH_BYTES: usize = 8 * 1024 * 1024;
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(10);

/// One consumer of one queue.
pub struct Consumer {
    pub(super) trigger: QueueTrigger,
    pub(super) source: Arc<QueueSource>,
    pub(super) invoker: Arc<Invoker>,
    pub(super) handler: Handler,
    pub(super) dedup: Option<Dedup>,
    dependencies: Arc<Dependencies>,
    health: Arc<Health>,
    pub(super) visibility: Duration,
    pub(super) timeout: Duration,
    pub(super) counters: Counters,
}

pub(super) struct Counters {
    received: Counter,
    pub(super) filtered: Counter,
    pub(super) exhausted: Counter,
    receive_errors: Counter,
    pub(super) heartbeats: Counter,
    entry_retries: Counter,
    paused: Gauge,
    limit: Gauge,
    pub(super) settled: [(SettlementLabel, Counter); SettlementLabel::ALL.len()],
}

/// What a running consumer shares with its tasks.
pub(super) struct Running {
    pub(super) consumer: Consumer,
    pub(super) slots: Slots,
    /// Rights to a receive call each.
    calls: Semaphore,
    pub(super) settler: Settler,
    pub(super) bystanders: Bystanders,
    units: TaskTracker,
    pub(super) stop: CancellationToken,
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
        let dedup = trigger.dedup.as_ref().and_then(|options| {
            Some(Dedup::new(
                invoker.store(&trigger.component, &options.store)?,
                options.window,
                options.attribute.clone(),
                source.name(),
                metrics.reinvocations.get_or_create_owned(&labels),
            ))
        });
        Self {
            dedup,
            health: Arc::new(Health::new(format!("queue `{}`", source.name()))),
            dependencies: invoker.dependencies(&trigger.component),
            handler: Handler::new(&trigger, invoker.queue_export(&trigger)),
            counters: Counters {
                received: metrics.received.get_or_create_owned(&labels),
                filtered: metrics.filtered.get_or_create_owned(&labels),
                exhausted: metrics.exhausted.get_or_create_owned(&labels),
                receive_errors: metrics.receive_errors.get_or_create_owned(&labels),
                heartbeats: metrics.heartbeats.get_or_create_owned(&labels),
                entry_retries: metrics.entry_retries.get_or_create_owned(&labels),
                paused: metrics.paused.get_or_create_owned(&labels),
                limit: metrics.concurrency_limit.get_or_create_owned(&labels),
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
        let settler = Settler::start(&self.source, &self.counters.entry_retries);
        let running = Arc::new(Running {
            slots: Slots::new(self.trigger.min_concurrency, self.trigger.max_concurrency),
            calls: Semaphore::new(MAX_POLLERS),
            settler,
            bystanders: Bystanders::default(),
            units: TaskTracker::new(),
            stop,
            consumer: self,
        });
        tokio::select! {
            () = running.poll() => {}
            () = running.slots.adapt(&running.consumer.counters.limit) => {}
        }
        running.units.close();
        running.units.wait().await;
        if let Some(running) = Arc::into_inner(running) {
            running.settler.finish().await;
        }
    }
}

impl Running {
    /// One poller asks all the time. While polls come back full, more join it;
    /// one that comes back empty ends, unless it is the first.
    async fn poll(self: &Arc<Self>) {
        let most = self.consumer.trigger.max_concurrency as usize;
        let max_pollers = most.div_ceil(10).min(MAX_POLLERS);
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
                    self.receive_failed(&error);
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
        self.pause_for(retry.mul_f64(0.5 + fastrand::f64() / 2.0))
            .await;
    }

    /// Waits so long, or until the host stops.
    async fn pause_for(&self, pause: Duration) {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.stop.cancelled() => {}
        }
    }

    /// Waits until the servers that the component needs answer; tells whether
    /// they do, or the host stops first.
    pub(super) async fn dependencies_up(&self) -> bool {
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

    async fn poll_once(self: Arc<Self>, patient: bool) -> Result<Polled, SourceError> {
        let wait = if patient { LONG_POLL } else { SHORT_POLL };
        match self.consumer.handler.batch_size() {
            1 => self.poll_messages(wait).await,
            size => self.poll_batch(size, wait).await,
        }
    }

    /// Permits to receive with: no more than `most`, no fewer than `least` if those
    /// are free soon. None when the host stops.
    async fn ready(&self, least: u32, most: u32) -> Option<OwnedSemaphorePermit> {
        // Permits may come late, as when those fail who had them.
        loop {
            self.pause_while_down().await;
            let permits = self.take_permits(least, most).await?;
            if self.consumer.dependencies.are_up() {
                return Some(permits);
            }
        }
    }

    /// Takes permits, then receives no more messages than it has permits for: each
    /// message gets a sandbox.
    async fn poll_messages(self: Arc<Self>, wait: Duration) -> Result<Polled, SourceError> {
        let concurrency = self.slots.limit();
        let most = u32::from(self.consumer.trigger.max_messages).min(concurrency);
        // A busy consumer does not fetch its messages one by one.
        let least = most.min((concurrency / 4).max(1));
        let Some(mut permits) = self.ready(least, most).await else {
            return Ok(Polled::None);
        };
        let max = permits.num_permits().min(self.most_received());
        let received = self.receive(max, wait).await?;
        let count = received.len();
        for unit in units(received, self.consumer.source.is_fifo()) {
            // One permit each; a queue that gives more than was asked for is
            // served all the same, one after the other.
            let permit = match permits.split(1) {
                Some(permit) => permit,
                None => match Arc::clone(self.slots.permits()).acquire_owned().await {
                    Ok(permit) => permit,
                    Err(_) => break,
                },
            };
            self.begin(unit, permit);
        }
        Ok(Polled::of(count, max))
    }

    /// Takes the permit for one sandbox, then receives a batch for it.
    async fn poll_batch(
        self: Arc<Self>,
        size: usize,
        wait: Duration,
    ) -> Result<Polled, SourceError> {
        let Some(permit) = self.ready(1, 1).await else {
            return Ok(Polled::None);
        };
        let each = self.most_received();
        let first = self.receive(each.min(size), wait).await?;
        if first.is_empty() {
            return Ok(Polled::None);
        }
        let batch = self.fill(first, size).await;
        let polled = Polled::of(batch.len(), size);
        self.begin(batch, permit);
        Ok(polled)
    }

    /// Receives what else is there, or comes within the batch window. Leases run
    /// meanwhile: a quarter of one is the most that may pass.
    async fn fill(&self, mut batch: Vec<Received>, size: usize) -> Vec<Received> {
        let trigger = &self.consumer.trigger;
        let each = self.most_received();
        let begun = Instant::now();
        let longest = self.consumer.visibility / 4;
        let mut full = batch.len() == each;
        let mut failed = false;
        while batch.len() < size && begun.elapsed() < longest && !self.stop.is_cancelled() {
            if batch.iter().map(Received::size).sum::<usize>() >= MAX_BATCH_BYTES {
                break;
            }
            let left = trigger
                .batch_window
                .min(longest)
                .saturating_sub(begun.elapsed());
            if !full && left.is_zero() {
                break;
            }
            // SQS waits for whole seconds.
            let wait = if full { 0 } else { left.as_secs() };
            let last = !full && wait == 0;
            if last {
                self.pause_for(left).await;
            }
            let missing = size - batch.len();
            let fillers = if full {
                missing.div_ceil(each).min(MAX_FILLERS)
            } else {
                1
            };
            let calls = (0..fillers).map(|filler| {
                let max = each.min(missing - filler * each);
                self.receive(max, Duration::from_secs(wait).min(LONG_POLL))
            });
            let mut calls: FuturesUnordered<_> = calls.collect();
            full = true;
            // A call that hangs must not cost what is here its leases.
            let cut = begun + longest * 2;
            while let Ok(Some(received)) = tokio::time::timeout_at(cut.into(), calls.next()).await {
                match received {
                    Ok(received) => {
                        full &= received.len() == each;
                        batch.extend(received);
                    }
                    Err(error) => {
                        // What is here is handed over; the next poll tells more.
                        self.receive_failed(&error);
                        failed = true;
                    }
                }
            }
            if failed {
                break;
            }
            if last && !full {
                break;
            }
        }
        batch
    }

    /// Messages of one receive call, at most.
    fn most_received(&self) -> usize {
        if self.bystanders.any(Instant::now()) {
            return 1;
        }
        self.consumer.trigger.max_messages.into()
    }

    /// One receive call. Nothing comes when the host stops.
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Received>, SourceError> {
        let Consumer {
            source, visibility, ..
        } = &self.consumer;
        let receive = async {
            let _call = self.calls.acquire().await;
            source
                .receive(max.min(MAX_RECEIVED) as u16, wait, *visibility)
                .await
        };
        let cut = async {
            self.stop.cancelled().await;
            tokio::time::sleep(source.receive_grace()).await;
        };
        let received = tokio::select! {
            biased;
            received = receive => received?,
            () = cut => return Ok(Vec::new()),
        };
        self.consumer.health.set(None);
        self.consumer
            .counters
            .received
            .inc_by(received.len() as u64);
        Ok(received)
    }

    fn receive_failed(&self, error: &SourceError) {
        self.consumer.counters.receive_errors.inc();
        self.consumer.health.set(Some(error.to_string()));
        tracing::warn!(
            queue = self.consumer.source.name(),
            "cannot receive: {error}"
        );
    }

    fn begin(self: &Arc<Self>, unit: Vec<Received>, permit: OwnedSemaphorePermit) {
        let running = Arc::clone(self);
        let handling = async move {
            running.handle(unit).await;
            running.slots.give_back(permit);
        };
        // Large, and otherwise copied several times on its way into the task.
        self.units.spawn(Box::pin(handling));
        self.slots.begun(self.units.len());
    }

    /// Up to `most` permits. Waits for `least` at once, but not for long.
    async fn take_permits(&self, least: u32, most: u32) -> Option<OwnedSemaphorePermit> {
        let gather = async {
            let enough = Arc::clone(self.slots.permits()).acquire_many_owned(least);
            match tokio::time::timeout(GATHER, enough).await {
                Ok(permits) => permits,
                // Slow handlers: what is free must not wait for what is not.
                Err(_) => Arc::clone(self.slots.permits()).acquire_owned().await,
            }
        };
        let mut permits = tokio::select! {
            biased;
            () = self.stop.cancelled() => return None,
            permits = gather => permits.ok()?,
        };
        let spare = self
            .slots
            .permits()
            .available_permits()
            .min(most as usize - permits.num_permits()) as u32;
        if spare > 0
            && let Ok(more) = Arc::clone(self.slots.permits()).try_acquire_many_owned(spare)
        {
            permits.merge(more);
        }
        Some(permits)
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

impl Polled {
    fn of(received: usize, asked: usize) -> Self {
        match received {
            0 => Self::None,
            received if received >= asked => Self::Full,
            _ => Self::Some,
        }
    }
}

/// Messages that are handled one after the other: each by itself, or, where order
/// counts, those of a group that came together. The rest of a group stays in the
/// queue as long as these are in flight.
fn units(received: Vec<Received>, fifo: bool) -> Vec<Vec<Received>> {
    let mut units: Vec<Vec<Received>> = Vec::new();
    for message in received {
        let same = |unit: &&mut Vec<Received>| {
            fifo && message.group().is_some()
                && unit.first().and_then(Received::group) == message.group()
        };
        match units.iter_mut().find(same) {
            Some(unit) => unit.push(message),
            None => units.push(vec![message]),
        }
    }
    units
}

#[cfg(test)]
mod tests {
    use super::super::message::Receipt;
    use super::*;

    fn received(id: &str, group: Option<&str>) -> Received {
        let group = group.map(|group| ("MessageGroupId".to_owned(), group.to_owned()));
        Received {
            id: id.to_owned(),
            receipt: Receipt(id.to_owned()),
            body: String::new(),
            system: group.into_iter().collect(),
            custom: Vec::new(),
            receive_count: 1,
            at: Instant::now(),
        }
    }

    fn ids(units: Vec<Vec<Received>>) -> Vec<String> {
        let unit = |unit: Vec<Received>| unit.iter().map(|m| m.id.as_str()).collect();
        units.into_iter().map(unit).collect()
    }

    #[test]
    fn groups_stay_together_where_order_counts() {
        let messages = || {
            [
                ("1", Some("a")),
                ("2", Some("b")),
                ("3", Some("a")),
                ("4", None),
                ("5", None),
            ]
            .map(|(id, group)| received(id, group))
            .to_vec()
        };
        assert_eq!(ids(units(messages(), true)), ["13", "2", "4", "5"]);
        assert_eq!(ids(units(messages(), false)), ["1", "2", "3", "4", "5"]);
    }
}
