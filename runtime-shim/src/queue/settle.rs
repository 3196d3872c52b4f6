//! Settling: deletes, visibility changes and heartbeats, coalesced into batches,
//! with single failed entries tried again until the lease runs out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::error::Elapsed;

use super::message::Receipt;
use super::source::{EntryOutcome, QueueSource, SourceError};
use prometheus_client::metrics::counter::Counter;

/// Entries of one batch call. SQS API Reference, `DeleteMessageBatch`.
const BATCH: usize = 10;
/// Batch calls of one kind under way at once.
const CALLS: usize = 16;
/// How long a batch that is not full waits for company while another is under
/// way. A lone message does not wait at all.
const LINGER: Duration = Duration::from_millis(5);
/// Requests of one kind that may wait; more make their senders wait.
const WAITING: usize = 512;
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LONGEST_RETRY: Duration = Duration::from_secs(5);

/// What to do with a received message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Remove it.
    Delete,
    /// Hide it for so long from now.
    Hide(Duration),
}

/// How that went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// Done.
    Done,
    /// The queue no longer knows the receipt.
    Expired,
    /// The lease ran out before the queue answered.
    GaveUp,
}

struct Request {
    receipt: Receipt,
    action: Action,
    /// Trying longer is pointless: the message is visible again.
    until: Instant,
    reply: oneshot::Sender<Settled>,
}

/// Takes requests to settle and answers each. Deletes and visibility changes are
/// calls of two kinds: each fills batches of its own.
pub(super) struct Settler {
    deletes: Lane,
    changes: Lane,
}

/// Requests of one kind, and who makes calls of them.
struct Lane {
    requests: mpsc::Sender<Request>,
    worker: JoinHandle<()>,
}

impl Lane {
    fn start(source: Arc<QueueSource>, retries: Counter) -> Self {
        let (requests, waiting) = mpsc::channel(WAITING);
        let worker = tokio::spawn(run(source, waiting, retries));
        Self { requests, worker }
    }

    async fn finish(self) {
        drop(self.requests);
        if let Err(error) = self.worker.await {
            tracing::error!("settling ended unexpectedly: {error}");
        }
    }
}

impl Settler {
    /// Starts settling on `source`; `retries` counts entries tried again.
    pub(super) fn start(source: &Arc<QueueSource>, retries: &Counter) -> Self {
        Self {
            deletes: Lane::start(Arc::clone(source), retries.clone()),
            changes: Lane::start(Arc::clone(source), retries.clone()),
        }
    }

    /// Settles one message; returns when the queue confirmed it.
    pub(super) async fn settle(
        &self,
        receipt: &Receipt,
        action: Action,
        until: Instant,
    ) -> Settled {
        let (reply, answer) = oneshot::channel();
        let request = Request {
            receipt: receipt.clone(),
            action,
            until,
            reply,
        };
        let lane = match action {
            Action::Delete => &self.deletes,
            Action::Hide(_) => &self.changes,
        };
        if lane.requests.send(request).await.is_err() {
            return Settled::GaveUp;
        }
        answer.await.unwrap_or(Settled::GaveUp)
    }

    /// Waits for every request to be answered.
    pub(super) async fn finish(self) {
        tokio::join!(self.deletes.finish(), self.changes.finish());
    }
}

async fn run(source: Arc<QueueSource>, mut waiting: mpsc::Receiver<Request>, retries: Counter) {
    let mut calls = JoinSet::new();
    let slots = Arc::new(Semaphore::new(CALLS));
    while let Some(first) = waiting.recv().await {
        let batch = gather(first, &mut waiting, &mut calls).await;
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            break;
        };
        let calling = Calling {
            source: Arc::clone(&source),
            slots: Arc::clone(&slots),
            retries: retries.clone(),
        };
        calls.spawn(calling.settle_batch(batch, slot));
        while calls.try_join_next().is_some() {}
    }
    while calls.join_next().await.is_some() {}
}

/// Fills a batch with what waits, and lingers only while other batches are
/// under way.
async fn gather(
    first: Request,
    waiting: &mut mpsc::Receiver<Request>,
    calls: &mut JoinSet<()>,
) -> Vec<Request> {
    let mut batch = vec![first];
    let mut yielded = false;
    let linger = tokio::time::sleep(LINGER);
    tokio::pin!(linger);
    while batch.len() < BATCH {
        if let Ok(request) = waiting.try_recv() {
            batch.push(request);
            continue;
        }
        if calls.is_empty() {
            // Those that are ready together go together.
            if yielded {
                break;
            }
            yielded = true;
            tokio::task::yield_now().await;
            continue;
        }
        tokio::select! {
            request = waiting.recv() => match request {
                Some(request) => batch.push(request),
                None => break,
            },
            // With nothing under way, nothing is worth waiting for.
            _ = calls.join_next() => {}
            () = &mut linger => break,
        }
    }
    batch
}

/// Who makes the calls of one batch.
struct Calling {
    source: Arc<QueueSource>,
    /// Calls that may be under way at once.
    slots: Arc<Semaphore>,
    retries: Counter,
}

impl Calling {
    /// Settles requests of one kind; entries that fail are tried again by
    /// themselves, with growing pauses, in which others may call.
    async fn settle_batch(self, mut pending: Vec<Request>, slot: OwnedSemaphorePermit) {
        let mut slot = Some(slot);
        let mut pause = FIRST_RETRY;
        loop {
            // A visibility that nobody waits for any more must not take the place of
            // a later one.
            pending
                .retain(|request| request.action == Action::Delete || !request.reply.is_closed());
            // No later than the last lease of the batch.
            let Some(last) = pending.iter().map(|request| request.until).max() else {
                return;
            };
            let taken = match slot.take() {
                Some(slot) => slot,
                None => match Arc::clone(&self.slots).acquire_owned().await {
                    Ok(slot) => slot,
                    Err(_) => return,
                },
            };
            let answer = tokio::time::timeout_at(last.into(), call(&self.source, &pending)).await;
            pending = self.answer(pending, answer, pause);
            if pending.is_empty() {
                return;
            }
            drop(taken);
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            pause = (pause * 2).min(LONGEST_RETRY);
        }
    }

    /// Tells those who asked how it went; the rest is to be tried again after `pause`.
    fn answer(
        &self,
        requests: Vec<Request>,
        answer: Result<Result<Vec<EntryOutcome>, SourceError>, Elapsed>,
        pause: Duration,
    ) -> Vec<Request> {
        let failure = match answer {
            Ok(Ok(outcomes)) => Ok(outcomes),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no answer before the leases ran out".to_owned()),
        };
        let outcomes = failure.unwrap_or_else(|reason| {
            tracing::warn!(queue = self.source.name(), "settling failed: {reason}");
            vec![EntryOutcome::Failed; requests.len()]
        });
        let mut failed = Vec::new();
        for (request, outcome) in requests.into_iter().zip(outcomes) {
            let settled = match outcome {
                EntryOutcome::Done => Settled::Done,
                EntryOutcome::Expired => Settled::Expired,
                EntryOutcome::Failed if Instant::now() + pause >= request.until => Settled::GaveUp,
                EntryOutcome::Failed => {
                    self.retries.inc();
                    failed.push(request);
                    continue;
                }
            };
            // The one who asked may have been cancelled.
            let _ = request.reply.send(settled);
        }
        failed
    }
}

async fn call(
    source: &QueueSource,
    requests: &[Request],
) -> Result<Vec<EntryOutcome>, SourceError> {
    let receipts = requests.iter().map(|request| &request.receipt);
    match requests.first().map(|request| request.action) {
        None => Ok(Vec::new()),
        Some(Action::Delete) => source.delete(receipts.collect()).await,
        Some(Action::Hide(_)) => {
            let entries = requests.iter().filter_map(|request| match request.action {
                Action::Hide(delay) => Some((&request.receipt, delay)),
                Action::Delete => None,
            });
            source.change_visibility(entries.collect()).await
        }
    }
}
