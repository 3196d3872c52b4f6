//! The clock of a live run: `speed` scenario seconds pass in each real one.

use std::time::{Duration, Instant, SystemTime};

use crate::time::Time;

/// Started with the run. Copies agree.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    started: Instant,
    started_at: SystemTime,
    speed: f64,
}

impl Clock {
    pub(super) fn start(speed: f64) -> Self {
        Self {
            started: Instant::now(),
            started_at: SystemTime::now(),
            speed,
        }
    }

    pub(super) fn now(&self) -> Time {
        self.scenario(self.started.elapsed())
    }

    /// The moment of a log line; the start for what was logged before.
    pub(super) fn at(&self, logged: SystemTime) -> Time {
        let since = logged.duration_since(self.started_at);
        self.scenario(since.unwrap_or_default())
    }

    /// A span of this run as one of the scenario.
    pub(super) fn stretched(&self, real: Duration) -> Duration {
        real.mul_f64(self.speed)
    }

    /// A span of the scenario as one of this run.
    pub(super) fn real(&self, scenario: Duration) -> Duration {
        scenario.div_f64(self.speed)
    }

    fn scenario(&self, real: Duration) -> Time {
        Time::ZERO + self.stretched(real)
    }

    /// Returns at that moment, or at once when it is over.
    pub(super) async fn sleep_until(&self, moment: Time) {
        let due = self.started + self.real(moment.since(Time::ZERO));
        tokio::time::sleep_until(due.into()).await;
    }
}
