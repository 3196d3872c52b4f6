//! What became of the messages of one run, for the last line of its output.

use std::time::{Duration, Instant};

/// Counts of one run.
pub(super) struct Account {
    start: Instant,
    /// The queue has them.
    pub(super) sent: u64,
    /// The queue does not, as far as is known.
    pub(super) failed: u64,
    /// Batch entries that were sent again.
    pub(super) retries: u64,
    /// Why the first failed.
    pub(super) first_failure: Option<String>,
    /// Why the run ended early.
    pub(super) gave_up: Option<String>,
}

impl Account {
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
            sent: 0,
            failed: 0,
            retries: 0,
            first_failure: None,
            gave_up: None,
        }
    }

    /// One message that failed.
    pub(super) fn fail(&mut self, reason: String) {
        self.failed += 1;
        self.first_failure.get_or_insert(reason);
    }

    /// How long the run took, and what that makes a second: `in 2.50 s (400/s)`.
    pub(super) fn speed(&self) -> String {
        speed(self.sent, self.start.elapsed())
    }
}

fn speed(sent: u64, took: Duration) -> String {
    let secs = took.as_secs_f64();
    let rate = if secs > 0.0 { sent as f64 / secs } else { 0.0 };
    format!("in {secs:.2} s ({rate:.0}/s)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_speed_is_messages_by_time() {
        assert_eq!(
            speed(1000, Duration::from_millis(2500)),
            "in 2.50 s (400/s)"
        );
        assert_eq!(speed(0, Duration::ZERO), "in 0.00 s (0/s)");
    }
}
