//! KEDA and the HorizontalPodAutoscaler as one state machine: it is told the queue's depth
//! and the workload's pods, and says what `spec.replicas` becomes. It has no clock and
//! sends nothing: `simulate` and `live` drive the same code.

use std::time::Duration;

use crate::scaled_object::ScaledObject;
use crate::time::Time;
use crate::timeline::Depth;

/// `--horizontal-pod-autoscaler-sync-period` of the controller manager, its default.
pub const SYNC_PERIOD: Duration = Duration::from_secs(15);

/// The queue could not be asked: an outage, a throttled request. The text says why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the queue cannot be asked: {0}")]
pub struct Unavailable(pub String);

/// What the controllers see of the workload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// `spec.replicas` of the Deployment.
    pub replicas: u32,
    /// `status.replicas`: pods that exist and are not terminating.
    pub pods: u32,
}

/// `spec.replicas` is to be changed; a change to the same number is never reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The new number.
    pub to: u32,
    /// Who (`KEDA: …` or `HPA: …`), and by which rule.
    pub reason: String,
}

/// When the controllers act, after the start; a seed may vary them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    /// The first poll of KEDA; then every `pollingInterval`.
    pub poll: Duration,
    /// The first sync of the HorizontalPodAutoscaler; then every [`SYNC_PERIOD`].
    pub sync: Duration,
}

/// KEDA's operator and the HorizontalPodAutoscaler it made, for one ScaledObject.
#[derive(Clone, Debug)]
pub struct Autoscaler {
    scaled: ScaledObject,
    next_poll: Time,
    next_sync: Time,
}

impl Autoscaler {
    /// The controllers of a ScaledObject that is created at `start`: a poll at once, the
    /// first sync a period later.
    #[must_use]
    pub fn new(scaled: &ScaledObject, start: Time) -> Self {
        let phases = Phases {
            poll: Duration::ZERO,
            sync: SYNC_PERIOD,
        };
        Self::with_phases(scaled, start, phases)
    }

    /// The same with other first moments.
    #[must_use]
    pub fn with_phases(scaled: &ScaledObject, start: Time, phases: Phases) -> Self {
        Self {
            scaled: scaled.clone(),
            next_poll: start + phases.poll,
            next_sync: start + phases.sync,
        }
    }

    /// When [`Self::step`] is to be called next.
    #[must_use]
    pub fn next_due(&self) -> Time {
        self.next_poll.min(self.next_sync)
    }

    /// What the controllers do that are due at `now`: nothing before [`Self::next_due`].
    /// Where both are due, KEDA is first. Changes are in order; the last is what holds.
    pub fn step(
        &mut self,
        now: Time,
        depth: Result<Depth, Unavailable>,
        workload: Workload,
    ) -> Vec<Change> {
        let _ = (depth, workload);
        if self.next_poll <= now {
            self.next_poll = now + self.scaled.polling_interval;
        }
        if self.next_sync <= now {
            self.next_sync = now + SYNC_PERIOD;
        }
        Vec::new()
    }
}
