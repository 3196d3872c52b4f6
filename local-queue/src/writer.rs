//! The one thread that touches the database: it takes what waits in its bounded channel, commits
//! it as one transaction, and only then answers. Owns group commit, receivers that wait, and
//! timers; refuses to know what an operation means to SQS.
//!
//! A group that holds a send is synced to disk before anyone is answered. When a group fails,
//! nothing of it is kept and each of its operations is tried again alone, so that one failure
//! does not become its neighbours'.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc;

use crate::errors::{QueueError, StorageError};
use crate::limits;
use crate::model::{Message, QueueName};
use crate::operation::{Op, Receiver, Slot, release};
use crate::store::{Store, Swept, Taken};

/// Sweeps and clock corrections happen at least so often, also when nobody calls.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);
/// Between a failed step of a message move task and the next.
const MOVE_RETRY_PAUSE: Duration = Duration::from_secs(1);

/// A receiver that found nothing yet.
struct Parked {
    receiver: Receiver,
    slot: Slot<Vec<Message>>,
    deadline: Instant,
}

impl Parked {
    fn is_gone(&self) -> bool {
        self.slot.reply.is_closed()
    }
}

pub(crate) struct Writer {
    store: Store,
    inbox: mpsc::Receiver<Op>,
    /// First come, first served, in each queue.
    parked: HashMap<QueueName, VecDeque<Parked>>,
    clock: Clock,
    next_sweep: Instant,
    /// Message move tasks rest until then after a failure.
    moves_from: Instant,
    /// A receive stopped at its bound on disposals; go on without waiting for an event.
    unfinished: bool,
    /// The counts in memory could not be read again after a failure.
    stale: bool,
    closing: bool,
}

impl Writer {
    pub(crate) fn new(store: Store, inbox: mpsc::Receiver<Op>, clock: Clock) -> Self {
        Self {
            store,
            inbox,
            parked: HashMap::new(),
            clock,
            next_sweep: Instant::now() + SWEEP_INTERVAL,
            moves_from: Instant::now(),
            unfinished: false,
            stale: false,
            closing: false,
        }
    }

    /// Works until [`Op::Close`] or until every handle is dropped, then finishes what waits.
    pub(crate) fn run(mut self, runtime: &tokio::runtime::Runtime) {
        let mut group = Vec::with_capacity(limits::GROUP_OPERATIONS);
        loop {
            let pause = self.next_event().saturating_duration_since(Instant::now());
            let received = runtime.block_on(async {
                let next = self.inbox.recv_many(&mut group, limits::GROUP_OPERATIONS);
                tokio::time::timeout(pause, next).await
            });
            if received == Ok(0) {
                break;
            }
            self.work(std::mem::take(&mut group));
            if self.closing {
                // Later calls are refused; those already accepted are still received above.
                self.inbox.close();
            }
        }
        for parked in std::mem::take(&mut self.parked).into_values().flatten() {
            drop(parked.slot.reply.send(Ok(Vec::new())));
        }
        if let Err(error) = self.store.checkpoint() {
            tracing::warn!(%error, "the queue's write-ahead log stays for the next start");
        }
    }

    fn work(&mut self, mut group: Vec<Op>) {
        self.forget_gone_receivers();
        let failed = match self.commit(&mut group) {
            Ok(()) => None,
            Err(error) if group.len() == 1 => Some(error),
            Err(error) => {
                tracing::warn!(%error, operations = group.len(), "retrying a group one by one");
                for op in group {
                    self.work(vec![op]);
                }
                return;
            }
        };
        if let Some(error) = &failed {
            tracing::error!(%error, "a queue operation failed");
        }
        for op in group {
            self.finish(op, failed.clone());
        }
        self.move_when_due();
        self.serve_parked();
        self.end_waits();
        self.sweep_when_due();
    }

    /// Runs and commits a group, or undoes all of it.
    fn commit(&mut self, group: &mut [Op]) -> Result<(), StorageError> {
        if group.is_empty() {
            return Ok(());
        }
        let durable = group.iter().any(Op::is_durable);
        self.transaction(durable, |store, now| {
            group.iter_mut().try_for_each(|op| op.run(store, now))
        })
    }

    fn transaction<T>(
        &mut self,
        durable: bool,
        work: impl FnOnce(&mut Store, u64) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let now = self.clock.now();
        if self.stale {
            self.store.roll_back(now)?;
            self.stale = false;
        }
        let store = &mut self.store;
        let done = store.begin(durable).and_then(|()| {
            let value = work(store, now)?;
            store.commit()?;
            Ok(value)
        });
        if done.is_err() {
            self.stale = self.store.roll_back(now).is_err();
        }
        done
    }

    fn finish(&mut self, op: Op, failed: Option<StorageError>) {
        let committed = failed.map_or(Ok(()), Err);
        match op {
            Op::Create { slot, .. }
            | Op::Set { slot, .. }
            | Op::Tag { slot, .. }
            | Op::Untag { slot, .. }
            | Op::ChangePolicy { slot, .. } => slot.answer(committed),
            Op::Tags { slot, .. } => slot.answer(committed),
            Op::StartMove { slot, .. } => slot.answer(committed),
            Op::CancelMove { slot, .. } => slot.answer(committed),
            Op::ListMoves { slot, .. } => slot.answer(committed),
            Op::DeleteQueue { slot, .. } | Op::Purge { slot, .. } => {
                // What they left behind goes soon, and bit by bit.
                self.next_sweep = Instant::now();
                slot.answer(committed);
            }
            Op::Describe { slot, .. } => slot.answer(committed),
            Op::List { slot, .. } | Op::ListSources { slot, .. } => slot.answer(committed),
            Op::Send { slot, .. } => slot.answer(committed),
            Op::ChangeVisibility { slot, .. } => slot.answer(committed),
            Op::Delete { slot, .. } => slot.answer(committed),
            Op::Receive { receiver, slot } => self.finish_receive(receiver, slot, committed),
            Op::Release { .. } => {}
            Op::Close => self.closing = true,
        }
    }

    fn finish_receive(
        &mut self,
        receiver: Receiver,
        mut slot: Slot<Vec<Message>>,
        committed: Result<(), StorageError>,
    ) {
        match (committed, slot.outcome.take(), receiver.deadline) {
            (Ok(()), None, Some(deadline)) => {
                let line = self.parked.entry(receiver.queue.clone()).or_default();
                line.push_back(Parked {
                    receiver,
                    slot,
                    deadline,
                });
            }
            (Ok(()), Some(outcome), _) => self.hand_over(&receiver.queue, outcome, slot),
            (committed, ..) => slot.answer(committed),
        }
    }

    /// Gives messages to their receiver, or back to the queue when it has gone away.
    fn hand_over(
        &mut self,
        queue: &QueueName,
        outcome: Result<Vec<Message>, QueueError>,
        slot: Slot<Vec<Message>>,
    ) {
        let Err(Ok(messages)) = slot.reply.send(outcome) else {
            return;
        };
        if messages.is_empty() {
            return;
        }
        let handles: Vec<_> = messages.into_iter().map(|m| m.receipt_handle).collect();
        let released = self.transaction(false, |store, now| release(store, queue, &handles, now));
        if let Err(error) = released {
            tracing::warn!(%error, %queue, "undelivered messages wait for their visibility timeout");
        }
    }

    /// Gives what is visible to receivers that wait for it, each queue's in order.
    fn serve_parked(&mut self) {
        self.unfinished = false;
        let names: Vec<QueueName> = self.parked.keys().cloned().collect();
        for name in names {
            while let Some(parked) = self.parked.get_mut(&name).and_then(VecDeque::pop_front) {
                let take = &parked.receiver.take;
                let now = self.clock.now();
                // Looking is free; a transaction is only for taking.
                let served = if self.store.has_available(&name, now) {
                    self.transaction(false, |store, now| match store.take(&name, take, now) {
                        Err(QueueError::Storage(error)) => Err(error),
                        outcome => Ok(outcome),
                    })
                } else {
                    Ok(Ok(Taken::default()))
                };
                match served {
                    Ok(Ok(taken)) if taken.messages.is_empty() => {
                        self.unfinished |= taken.unfinished;
                        self.parked
                            .entry(name.clone())
                            .or_default()
                            .push_front(parked);
                        break;
                    }
                    Ok(outcome) => {
                        self.hand_over(&name, outcome.map(|taken| taken.messages), parked.slot);
                    }
                    Err(error) => parked.slot.answer(Err(error)),
                }
            }
        }
        self.parked.retain(|_, line| !line.is_empty());
    }

    fn forget_gone_receivers(&mut self) {
        for line in self.parked.values_mut() {
            line.retain(|parked| !parked.is_gone());
        }
        self.parked.retain(|_, line| !line.is_empty());
    }

    /// Answers receivers whose wait is over with nothing.
    fn end_waits(&mut self) {
        let now = Instant::now();
        for line in self.parked.values_mut() {
            let (over, waiting): (VecDeque<_>, VecDeque<_>) =
                line.drain(..).partition(|parked| parked.deadline <= now);
            *line = waiting;
            for parked in over {
                drop(parked.slot.reply.send(Ok(Vec::new())));
            }
        }
        self.parked.retain(|_, line| !line.is_empty());
    }

    /// One step of the message move tasks that are due.
    fn move_when_due(&mut self) {
        let due = self.store.next_move();
        if due.is_none_or(|due| due > self.clock.now()) || Instant::now() < self.moves_from {
            return;
        }
        let moved = self.transaction(false, |store, now| match store.move_messages(now) {
            Err(QueueError::Storage(error)) => Err(error),
            // A queue that vanished took its task along.
            Ok(()) | Err(_) => Ok(()),
        });
        if let Err(error) = moved {
            tracing::warn!(%error, "message move tasks failed and will be tried again");
            self.moves_from = Instant::now() + MOVE_RETRY_PAUSE;
        }
    }

    fn sweep_when_due(&mut self) {
        if Instant::now() < self.next_sweep {
            return;
        }
        let swept = self.transaction(false, |store, now| match store.sweep(now) {
            Ok(swept) => Ok(swept),
            Err(QueueError::Storage(error)) => Err(error),
            // A queue that vanished in between leaves nothing to sweep.
            Err(_) => Ok(Swept::default()),
        });
        let soon = match swept {
            Ok(swept) => swept.more,
            Err(error) => {
                tracing::warn!(%error, "the queue's sweep failed and will be tried again");
                false
            }
        };
        let pause = if soon {
            Duration::from_millis(20)
        } else {
            SWEEP_INTERVAL
        };
        self.next_sweep = Instant::now() + pause;
    }

    /// When there is something to do though nobody calls.
    fn next_event(&mut self) -> Instant {
        if self.unfinished {
            return Instant::now();
        }
        let now = self.clock.now();
        let mut next = self.next_sweep;
        if let Some(due) = self.store.next_move() {
            let until = Duration::from_millis(due.saturating_sub(now));
            next = next.min((Instant::now() + until).max(self.moves_from));
        }
        for (name, line) in &self.parked {
            if let Some(due) = self.store.next_due(name) {
                let until = Duration::from_millis(due.saturating_sub(now));
                next = next.min(Instant::now() + until);
            }
            if let Some(deadline) = line.iter().map(|parked| parked.deadline).min() {
                next = next.min(deadline);
            }
        }
        next
    }
}

/// Milliseconds since the Unix epoch that never go back while the process lives.
pub(crate) struct Clock {
    latest: u64,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { latest: 0 }
    }

    pub(crate) fn now(&mut self) -> u64 {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        self.latest = self.latest.max(wall.as_millis() as u64);
        self.latest
    }
}
