//! The lease on a message: as long as it holds, nobody else gets the message.
//! Heartbeats extend it, and a component never runs past its end.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;

use super::message::Receipt;
use super::source::{EntryOutcome, QueueSource};

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

/// The lease on one message.
pub(super) struct Lease<'a> {
    source: &'a QueueSource,
    receipt: &'a Receipt,
    visibility: Duration,
    end: Mutex<Instant>,
}

/// The message may be somebody else's from now on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lost;

impl<'a> Lease<'a> {
    /// The lease on what was received at `at` for `visibility`.
    pub(super) fn new(
        source: &'a QueueSource,
        receipt: &'a Receipt,
        at: Instant,
        visibility: Duration,
    ) -> Self {
        Self {
            source,
            receipt,
            visibility,
            end: Mutex::new(at + visibility),
        }
    }

    /// When it ends, as things stand.
    pub(super) fn end(&self) -> Instant {
        *self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn extend_to(&self, end: Instant) {
        *self.end.lock().unwrap_or_else(PoisonError::into_inner) = end;
    }

    /// Extends the lease whenever half of it is over, for as long as it is
    /// polled. Returns when the lease cannot be held.
    pub(super) async fn keep(&self, heartbeats: &Counter) -> Lost {
        let mut pause = self.visibility / 2;
        loop {
            tokio::time::sleep(pause).await;
            let beat = Instant::now();
            let safe_end = self
                .end()
                .checked_sub(margin(self.visibility))
                .unwrap_or(beat);
            let call = self
                .source
                .change_visibility(vec![(self.receipt, self.visibility)]);
            // A try that hangs must leave time for another one.
            let patience = safe_end.saturating_duration_since(beat) / 3;
            match tokio::time::timeout(patience, call).await {
                Ok(Ok(outcomes)) if outcomes == [EntryOutcome::Done] => {
                    // Counted from before the call: the queue's clock may have
                    // started anywhere in between.
                    self.extend_to(beat + self.visibility);
                    heartbeats.inc();
                    pause = self.visibility / 2;
                    continue;
                }
                Ok(Ok(outcomes)) if outcomes == [EntryOutcome::Expired] => return Lost,
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    tracing::warn!(queue = self.source.name(), "heartbeat failed: {error}");
                }
                Err(_) => {
                    tracing::warn!(queue = self.source.name(), "heartbeat was not answered");
                }
            }
            pause = self.visibility / 20;
            if Instant::now() + pause >= safe_end {
                return Lost;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deadline_leaves_time_to_settle() {
        for (visibility, timeout) in [(1_000, 800), (30_000, 27_000), (43_200_000, 43_170_000)] {
            let visibility = Duration::from_millis(visibility);
            assert_eq!(default_timeout(visibility), Duration::from_millis(timeout));
        }
    }
}
