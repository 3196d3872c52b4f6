//! The lease on a message: as long as it holds, nobody else gets the message.
//! Heartbeats extend it, and a component never runs past its end.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use tokio_util::sync::CancellationToken;

use super::dedup::Turn;
use super::message::Received;
use super::settle::{Action, Settled, Settler};

/// How much earlier than the lease a component must be done, so that its
/// message can still be settled: a tenth of the visibility timeout, from 200 ms
/// to 30 s.
fn margin(visibility: Duration) -> Duration {
    (visibility / 10).clamp(Duration::from_millis(200), Duration::from_secs(30))
}

/// The time a component gets where none is configured.
pub(super) fn default_timeout(visibility: Duration) -> Duration {
    visibility
        .saturating_sub(margin(visibility))
        .max(Duration::from_millis(100))
}

/// How long a message can be hidden in all, counted from its receive; less what
/// the receive itself may have taken. SQS: visibility timeout.
const LONGEST_HIDDEN: Duration = Duration::from_secs(43_200 - 30);

/// As much of `delay` as `received` may still be hidden for, from `now` on. More
/// would be refused, and the message would not be hidden at all.
pub(super) fn hideable(received: &Received, delay: Duration, now: Instant) -> Duration {
    let gone = now.saturating_duration_since(received.at);
    delay.min(Duration::from_secs(
        LONGEST_HIDDEN.saturating_sub(gone).as_secs(),
    ))
}

/// The lease on one message.
pub(super) struct Lease<'a> {
    received: &'a Received,
    visibility: Duration,
    end: Mutex<Instant>,
    /// Cancelled when the message may be somebody else's.
    lost: CancellationToken,
    /// Cancelled when it needs no more heartbeats.
    released: CancellationToken,
    /// Locked while a heartbeat is under way.
    beating: tokio::sync::Mutex<()>,
    /// The right to handle the message, where duplicates are told.
    turn: Mutex<Option<Turn>>,
}

impl<'a> Lease<'a> {
    /// The lease on `received`, which lasts for `visibility` from its receive.
    pub(super) fn new(received: &'a Received, visibility: Duration) -> Self {
        Self {
            received,
            visibility,
            end: Mutex::new(received.at + visibility),
            lost: CancellationToken::new(),
            released: CancellationToken::new(),
            beating: tokio::sync::Mutex::new(()),
            turn: Mutex::new(None),
        }
    }

    /// When it ends, as things stand.
    pub(super) fn end(&self) -> Instant {
        *self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn extend_to(&self, end: Instant) {
        *self.end.lock().unwrap_or_else(PoisonError::into_inner) = end;
    }

    /// Keeps the right to handle the message until it is released.
    pub(super) fn keep_turn(&self, turn: Turn) {
        *self.turn.lock().unwrap_or_else(PoisonError::into_inner) = Some(turn);
    }

    /// Ends the heartbeats, and the right to handle the message: it is about to be
    /// settled.
    pub(super) fn release(&self) {
        self.released.cancel();
        self.turn
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }

    /// Waits for the heartbeat that was under way at the release: it must not come to
    /// the queue after what settles the message, and take its place.
    pub(super) async fn quiet(&self) {
        drop(self.beating.lock().await);
    }

    /// Whether the message may be somebody else's from now on.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    /// Returns when the message may be somebody else's.
    pub(super) async fn lost(&self) {
        self.lost.cancelled().await;
    }

    /// Extends the lease until it is released, or lost.
    pub(super) async fn hold(&self, settler: &Settler, heartbeats: &Counter) {
        self.keep(settler, heartbeats).await;
        if !self.released.is_cancelled() {
            self.lost.cancel();
        }
    }

    /// Waits until then; whether the lease is still to be held.
    async fn sleep_until(&self, then: Instant) -> bool {
        tokio::select! {
            biased;
            () = self.released.cancelled() => false,
            () = tokio::time::sleep_until(then.into()) => true,
        }
    }

    /// Extends the lease whenever half of it is over. Returns when it cannot be
    /// held, or is released.
    async fn keep(&self, settler: &Settler, heartbeats: &Counter) {
        // A batch may have waited before it came here.
        let mut next = self.received.at + self.visibility / 2;
        loop {
            if !self.sleep_until(next).await {
                return;
            }
            let beating = self.beating.lock().await;
            let beat = Instant::now();
            let safe_end = self
                .end()
                .checked_sub(margin(self.visibility))
                .unwrap_or(beat);
            let extension = hideable(self.received, self.visibility, beat);
            if beat + extension <= self.end() {
                // It is held for as long as can be.
                drop(beating);
                self.sleep_until(safe_end).await;
                return;
            }
            // A try that hangs must leave time for another one.
            let patience = safe_end.saturating_duration_since(beat) / 3;
            let extend = Action::Hide(extension);
            let until = beat + patience;
            let call = settler.settle(&self.received.receipt, extend, until);
            let answer = tokio::time::timeout(patience, call).await;
            drop(beating);
            match answer {
                Ok(Settled::Done) => {
                    // Counted from before the call: the queue's clock may have
                    // started anywhere in between.
                    self.extend_to(beat + extension);
                    heartbeats.inc();
                    next = beat + self.visibility / 2;
                    continue;
                }
                Ok(Settled::Expired) => return,
                // Why it failed is in the settler's log.
                Ok(Settled::GaveUp) | Err(_) => {
                    tracing::warn!(
                        message_id = self.received.id,
                        "the heartbeat was not answered"
                    );
                }
            }
            next = Instant::now() + self.visibility / 20;
            if next >= safe_end {
                return;
            }
        }
    }
}

/// Returns when none of `leases` is held any more.
pub(super) async fn all_lost(leases: &[&Lease<'_>]) {
    for lease in leases {
        lease.lost().await;
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::Receipt;
    use super::*;

    #[test]
    fn nothing_is_hidden_for_longer_than_sqs_allows() {
        let received = Received {
            id: String::new(),
            receipt: Receipt(String::new()),
            body: String::new(),
            system: Vec::new(),
            custom: Vec::new(),
            receive_count: 1,
            at: Instant::now(),
        };
        for (after, delay, hidden) in [
            (0, 900, 900),
            (42_000, 900, 900),
            (43_000, 900, 170),
            // Half of the longest lease is over: nothing can be added to it.
            (21_600, 43_200, 21_570),
            (50_000, 900, 0),
        ] {
            let now = received.at + Duration::from_secs(after);
            let got = hideable(&received, Duration::from_secs(delay), now);
            assert_eq!(got, Duration::from_secs(hidden), "{after} {delay}");
        }
    }

    #[test]
    fn the_deadline_leaves_time_to_settle() {
        for (visibility, timeout) in [(1_000, 800), (30_000, 27_000), (43_200_000, 43_170_000)] {
            let visibility = Duration::from_millis(visibility);
            assert_eq!(default_timeout(visibility), Duration::from_millis(timeout));
        }
    }
}
