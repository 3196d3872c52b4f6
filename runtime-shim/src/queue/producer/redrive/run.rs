//! One run over a dead-letter queue: receives, moves several batches at once, and
//! gives back what stays.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::super::account::Account;
use super::super::deliver::{TRIES, deliver, pause};
use super::super::pace::Pace;
use super::super::{BATCH, Outgoing};
use super::Destinations;
use super::choose::{Choice, copy};
use crate::cli::RedriveArgs;
use crate::printer::Tally;
use crate::queue::message::{Receipt, Received};
use crate::queue::source;
use crate::queue::source::EntryOutcome;
use crate::queue::sqs::SqsSource;

/// How long a dead letter is hidden: above what sending and deleting a batch take at
/// the longest.
const HIDDEN: Duration = Duration::from_mins(5);
/// A long poll asks all of a queue's servers. SQS Developer Guide, "Amazon SQS short
/// and long polling".
const WAIT: Duration = Duration::from_secs(1);
/// Receives in a row without a message after which the queue counts as empty.
const EMPTY: u32 = 2;
/// Messages that stay and are hidden until the end of the run. SQS allows 120,000 in
/// flight.
const MAX_HELD: usize = 100_000;

pub(super) struct Run {
    queue: Arc<SqsSource>,
    destinations: Destinations,
    choice: Choice,
    max: u64,
    dry: bool,
    lanes: usize,
    pace: Pace,
    /// Received in this run, and to stay: their last receipts.
    held: HashMap<String, Receipt>,
    /// Under way: a queue may give a message twice.
    moving: HashSet<String>,
    /// Sent in this run, and still there.
    undeleted: HashSet<String>,
    flights: JoinSet<Vec<Moved>>,
    /// Chosen so far.
    taken: u64,
    /// Receives in a row that gave nothing.
    empty: u32,
    /// Receives in a row that gave what is known to stay.
    stale: usize,
    tallied: Tallied,
    bar: Tally,
    stop: CancellationToken,
}

/// What became of the dead letters.
pub(super) struct Tallied {
    pub(super) account: Account,
    /// By destination; in a dry run, what would be moved.
    pub(super) moved: Vec<u64>,
    /// Not chosen.
    pub(super) left: u64,
    /// Chosen, but nobody knows where they came from.
    pub(super) homeless: u64,
    /// Sent, but still in the dead-letter queue.
    pub(super) undeleted: u64,
}

/// How moving one message went.
struct Moved {
    message: Received,
    destination: usize,
    result: Result<Deleted, String>,
    retries: u64,
    /// Why others would fail as well; told by one message of a batch.
    gave_up: Option<String>,
}

/// A message that was sent.
enum Deleted {
    Yes,
    No,
}

impl Run {
    pub(super) fn new(
        args: &RedriveArgs,
        queue: SqsSource,
        destinations: Destinations,
        choice: Choice,
        waiting: Option<u64>,
        stop: CancellationToken,
    ) -> Self {
        let fifo = source::is_fifo(queue.url());
        let max = args.max.unwrap_or(u64::MAX);
        Self {
            queue: Arc::new(queue),
            choice,
            max,
            dry: args.dry_run,
            // Batches that overtake each other would break the order of a group.
            lanes: if fifo { 1 } else { args.concurrency.into() },
            pace: Pace::new(args.rate),
            held: HashMap::new(),
            moving: HashSet::new(),
            undeleted: HashSet::new(),
            flights: JoinSet::new(),
            taken: 0,
            empty: 0,
            stale: 0,
            tallied: Tallied {
                account: Account::new(),
                moved: vec![0; destinations.0.len()],
                left: 0,
                homeless: 0,
                undeleted: 0,
            },
            destinations,
            bar: Tally::new(waiting.map(|waiting| waiting.min(max))),
            stop,
        }
    }

    /// Until nothing new comes, enough was taken, or the run stops; then finishes
    /// what was begun and gives back the rest.
    pub(super) async fn finish(mut self) -> Tallied {
        while self.has_more() && self.may_go_on().await {
            let Some(received) = self.receive().await else {
                break;
            };
            let chosen = self.sort(received);
            self.pace.take(chosen.len() as u64);
            self.start(chosen);
        }
        while let Some(flight) = self.flights.join_next().await {
            self.absorb(flight);
        }
        self.give_back().await;
        self.tallied.undeleted = self.undeleted.len() as u64;
        self.tallied
    }

    /// Whether the queue may hold something to move. What stays comes again when it
    /// was hidden for long, and is behind as soon as all of it was seen.
    fn has_more(&self) -> bool {
        self.taken < self.max
            && self.empty < EMPTY
            && self.stale <= self.held.len() + self.moving.len()
    }

    /// Waits for a free lane, and until the next message is due.
    async fn may_go_on(&mut self) -> bool {
        while self.flights.len() >= self.lanes {
            if let Some(flight) = self.flights.join_next().await {
                self.absorb(flight);
            }
        }
        while let Some(flight) = self.flights.try_join_next() {
            self.absorb(flight);
        }
        if self.held.len() + self.undeleted.len() >= MAX_HELD {
            let reason = format!(
                "{MAX_HELD} messages that stay are hidden, and no more can be: drain some of them, \
                 or choose others"
            );
            self.tallied.account.gave_up.get_or_insert(reason);
        }
        tokio::select! {
            biased;
            () = self.stop.cancelled() => false,
            () = tokio::time::sleep_until(self.pace.due()) => {
                self.tallied.account.gave_up.is_none()
            }
        }
    }

    /// None when the queue does not answer. Never cut off: messages might be hidden
    /// that nobody knows of.
    async fn receive(&mut self) -> Option<Vec<Received>> {
        let left = usize::try_from(self.max - self.taken).unwrap_or(usize::MAX);
        let max = self.pace.burst(BATCH).min(left) as u16;
        for attempt in 1..=TRIES {
            match self.queue.receive(max, WAIT, HIDDEN).await {
                Ok(received) => return Some(received),
                Err(error) if attempt == TRIES || self.stop.is_cancelled() => {
                    self.tallied.account.gave_up = Some(error.to_string());
                    return None;
                }
                Err(error) => {
                    tracing::warn!("cannot receive: {error}");
                    pause(attempt).await;
                }
            }
        }
        None
    }

    /// Those to move, with their destinations, and whether they were sent before.
    fn sort(&mut self, received: Vec<Received>) -> Vec<(Received, usize, bool)> {
        let mut chosen = Vec::new();
        self.empty = if received.is_empty() {
            self.empty + 1
        } else {
            0
        };
        self.stale += usize::from(!received.is_empty());
        for message in received {
            if let Some(receipt) = self.held.get_mut(&message.id) {
                *receipt = message.receipt;
                continue;
            }
            if self.moving.contains(&message.id) {
                continue;
            }
            self.stale = 0;
            // It was sent, and is only to be deleted.
            let sent = self.undeleted.contains(&message.id);
            if !self.choice.takes(&message) {
                self.tallied.left += 1;
            } else if let Some(destination) = self.destinations.of(&message) {
                self.taken += 1;
                if !self.dry {
                    self.moving.insert(message.id.clone());
                    chosen.push((message, destination, sent));
                    continue;
                }
                self.tallied.moved[destination] += 1;
            } else {
                self.tallied.homeless += 1;
            }
            self.bar.add(1);
            self.held.insert(message.id, message.receipt);
        }
        chosen
    }

    /// Moves a batch for each destination, on a lane of its own.
    fn start(&mut self, chosen: Vec<(Received, usize, bool)>) {
        let mut batches: HashMap<(usize, bool), Vec<Received>> = HashMap::new();
        for (message, destination, sent) in chosen {
            let batch = batches.entry((destination, sent)).or_default();
            batch.push(message);
        }
        for ((destination, sent), messages) in batches {
            let queue = Arc::clone(&self.queue);
            let target = Arc::clone(&self.destinations.0[destination]);
            self.flights.spawn(async move {
                let target = (!sent).then_some(&*target);
                move_batch(&queue, target, destination, messages).await
            });
        }
    }

    fn absorb(&mut self, flight: Result<Vec<Moved>, tokio::task::JoinError>) {
        let account = &mut self.tallied.account;
        let batch = match flight {
            Ok(batch) => batch,
            Err(error) => {
                account.gave_up = Some(format!("a batch ended unexpectedly: {error}"));
                return;
            }
        };
        for moved in batch {
            account.retries += moved.retries;
            if let Some(reason) = moved.gave_up {
                account.gave_up.get_or_insert(reason);
            }
            let Moved { message, .. } = moved;
            self.moving.remove(&message.id);
            match moved.result {
                Err(reason) => {
                    account.fail(reason);
                    self.bar.add(1);
                    self.held.insert(message.id, message.receipt);
                }
                Ok(deleted) => {
                    let known = self.undeleted.contains(&message.id);
                    if !known {
                        account.sent += 1;
                        self.tallied.moved[moved.destination] += 1;
                        self.bar.add(1);
                    }
                    match deleted {
                        Deleted::Yes => self.undeleted.remove(&message.id),
                        Deleted::No => self.undeleted.insert(message.id),
                    };
                }
            }
        }
    }

    /// What stays is visible again at once, rather than when its time is over.
    async fn give_back(&mut self) {
        let held: Vec<Receipt> = self.held.drain().map(|(_, receipt)| receipt).collect();
        let queue = &self.queue;
        let changes = held.chunks(BATCH).map(|batch| async move {
            let entries = batch.iter().map(|receipt| (receipt, Duration::ZERO));
            match queue.change_visibility(entries.collect()).await {
                Ok(outcomes) => outcomes
                    .into_iter()
                    .filter(|outcome| *outcome == EntryOutcome::Failed)
                    .count(),
                Err(_) => batch.len(),
            }
        });
        let hidden: usize = futures::stream::iter(changes)
            .buffer_unordered(self.lanes)
            .fold(0, |sum, failed| async move { sum + failed })
            .await;
        if hidden > 0 {
            tracing::warn!(
                "{hidden} messages stay hidden for up to {} s",
                HIDDEN.as_secs()
            );
        }
    }
}

/// Sends to `target`, if there is one, then deletes what was sent.
async fn move_batch(
    queue: &SqsSource,
    target: Option<&SqsSource>,
    destination: usize,
    messages: Vec<Received>,
) -> Vec<Moved> {
    let mut failures = vec![None; messages.len()];
    let mut retries = 0;
    let mut gave_up = None;
    if let Some(target) = target {
        let fifo = source::is_fifo(target.url());
        let copies: Vec<Outgoing> = messages.iter().map(|message| copy(message, fifo)).collect();
        // Ten large messages are more than one batch may hold.
        let mut from = 0;
        for size in batch_sizes(&copies) {
            let delivery = deliver(target, &copies[from..from + size]).await;
            retries += delivery.retries;
            failures[from..from + size].clone_from_slice(&delivery.outcomes);
            from += size;
            if let Some(reason) = delivery.gave_up {
                failures[from..].fill(Some(reason.clone()));
                gave_up = Some(reason);
                break;
            }
        }
    }
    let sent: Vec<&Received> = messages
        .iter()
        .zip(&failures)
        .filter(|(_, failure)| failure.is_none())
        .map(|(message, _)| message)
        .collect();
    let mut deleted = delete(queue, &sent).await.into_iter();
    let results: Vec<Result<Deleted, String>> = failures
        .into_iter()
        .map(|failure| match failure {
            Some(reason) => Err(reason),
            None if deleted.next() == Some(true) => Ok(Deleted::Yes),
            None => Ok(Deleted::No),
        })
        .collect();
    messages
        .into_iter()
        .zip(results)
        .map(|(message, result)| Moved {
            message,
            destination,
            result,
            retries: std::mem::take(&mut retries),
            gave_up: gave_up.take(),
        })
        .collect()
}

/// How many of the messages go into each batch of at most 1 MiB.
fn batch_sizes(messages: &[Outgoing]) -> Vec<usize> {
    let mut sizes: Vec<usize> = Vec::new();
    let mut bytes = usize::MAX;
    for message in messages {
        let size = message.size();
        match sizes.last_mut() {
            Some(count)
                if bytes.saturating_add(size) <= crate::queue::source::MAX_MESSAGE_BYTES =>
            {
                *count += 1;
                bytes += size;
            }
            _ => {
                sizes.push(1);
                bytes = size;
            }
        }
    }
    sizes
}

/// Whether each was deleted; single failed entries are tried again.
async fn delete(queue: &SqsSource, messages: &[&Received]) -> Vec<bool> {
    let mut done = vec![false; messages.len()];
    let mut pending: Vec<usize> = (0..messages.len()).collect();
    for attempt in 0..TRIES {
        if pending.is_empty() {
            break;
        }
        if attempt > 0 {
            pause(attempt).await;
        }
        let receipts = pending.iter().map(|&index| &messages[index].receipt);
        let Ok(outcomes) = queue.delete(receipts.collect()).await else {
            continue;
        };
        let mut again = Vec::new();
        for (index, outcome) in pending.into_iter().zip(outcomes) {
            match outcome {
                EntryOutcome::Done => done[index] = true,
                EntryOutcome::Expired => {}
                EntryOutcome::Failed => again.push(index),
            }
        }
        pending = again;
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::source::MAX_MESSAGE_BYTES;

    #[test]
    fn a_batch_holds_no_more_than_a_message_may() {
        let sizes = |bodies: &[usize]| {
            let messages = bodies.iter().map(|&bytes| Outgoing {
                body: "x".repeat(bytes).into(),
                attributes: Arc::new([]),
                trace_header: None,
                delay_secs: None,
                group: None,
                dedup_id: None,
            });
            batch_sizes(&messages.collect::<Vec<_>>())
        };
        assert_eq!(sizes(&[]), [0; 0]);
        assert_eq!(sizes(&[1; 10]), [10]);
        let half = MAX_MESSAGE_BYTES / 2;
        assert_eq!(sizes(&[half, half, half, 1]), [2, 2]);
        assert_eq!(sizes(&[MAX_MESSAGE_BYTES, 1, MAX_MESSAGE_BYTES]), [1, 1, 1]);
    }
}
