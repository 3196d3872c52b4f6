//! KEDA and the HorizontalPodAutoscaler as one state machine: it is told the queue's depth
//! and the workload's pods, and says what `spec.replicas` becomes. It has no clock and
//! sends nothing: `simulate` and `live` drive the same code.

use std::time::Duration;

use crate::hpa::{self, Behavior, Hpa, Select};
use crate::keda::Keda;
use crate::scaled_object::ScaledObject;
use crate::time::Time;
use crate::timeline::Depth;

/// `--horizontal-pod-autoscaler-sync-period` of the controller manager, its default.
pub const SYNC_PERIOD: Duration = Duration::from_secs(15);

/// Controllers read their clocks after the queue has answered, so much later at least. It
/// decides what happens where a window ends in the very millisecond of a poll or a sync,
/// as it does in a cluster: it has ended. The autoscaler's next sync is delayed by it, too
/// (it waits its period from the end of a sync on, KEDA from the start of a poll on).
pub const ASKING: Duration = Duration::from_millis(1);

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
    keda: Keda,
    hpa: Hpa,
    target_millis: u64,
    paused: Paused,
    poll_period: Duration,
    next_poll: Time,
    next_sync: Time,
}

/// A pause of everything (`handlePause`, `controllers/keda/scaledobject_controller.go`):
/// no polls, and the HorizontalPodAutoscaler is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Paused {
    /// Not paused.
    No,
    /// To be set to so many replicas, once.
    At(u32),
    /// Left alone.
    Yes,
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
        let paused = match scaled.pause.at {
            Some(replicas) => Paused::At(replicas),
            None if scaled.pause.all => Paused::Yes,
            None => Paused::No,
        };
        Self {
            keda: Keda::new(scaled, start),
            hpa: Hpa::new(scaled.min, scaled.max, behavior(scaled)),
            target_millis: scaled.trigger.queue_length.saturating_mul(1000),
            paused,
            poll_period: scaled.polling_interval,
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
        let (poll, sync) = (self.next_poll <= now, self.next_sync <= now);
        let asked = now + ASKING;
        let mut replicas = workload.replicas;
        let mut changes = Vec::new();
        if poll {
            self.next_poll = now + self.poll_period;
            let change = match self.paused {
                Paused::No => self.keda.poll(asked, depth.clone(), replicas),
                Paused::Yes => None,
                Paused::At(to) => {
                    self.paused = Paused::Yes;
                    let reason = "KEDA: paused-replicas".to_owned();
                    (to != replicas).then_some(Change { to, reason })
                }
            };
            replicas = change.as_ref().map_or(replicas, |change| change.to);
            changes.extend(change);
        }
        if sync {
            self.next_sync = asked + SYNC_PERIOD;
            if self.paused == Paused::No {
                changes.extend(self.sync(asked, depth, replicas, workload.pods));
            }
        }
        changes
    }

    /// A sync of the HorizontalPodAutoscaler; without a metric it holds.
    fn sync(
        &mut self,
        now: Time,
        depth: Result<Depth, Unavailable>,
        replicas: u32,
        pods: u32,
    ) -> Option<Change> {
        let tolerances = self.hpa.tolerances();
        let rescale = self.hpa.sync(now, replicas, || {
            let metric = self.keda.metric(depth, replicas)?;
            let target = self.target_millis;
            Ok::<_, Unavailable>(hpa::average_value(metric, target, pods, tolerances))
        });
        let rescale = rescale.ok().flatten()?;
        Some(Change {
            to: rescale.to,
            reason: format!("HPA: {}", rescale.reason),
        })
    }
}

/// The `behavior` that KEDA gives the HorizontalPodAutoscaler (`newHPAForScaledObject`,
/// `controllers/keda/hpa.go`): a pause of one direction disables that direction.
fn behavior(scaled: &ScaledObject) -> Option<Behavior> {
    let mut behavior = scaled.behavior.clone();
    if scaled.pause.scale_in {
        behavior.get_or_insert_default().down.select = Select::Disabled;
    }
    if scaled.pause.scale_out {
        behavior.get_or_insert_default().up.select = Select::Disabled;
    }
    behavior
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaled_object::Trigger;

    const BACKLOG: Depth = Depth {
        visible: 500.0,
        in_flight: 0.0,
        delayed: 0.0,
    };

    fn scaled() -> ScaledObject {
        let trigger = Trigger::of("https://sqs.eu-central-1.amazonaws.com/1/q", "eu-central-1");
        ScaledObject::of("case", trigger)
    }

    fn workload(replicas: u32) -> Workload {
        Workload {
            replicas,
            pods: replicas,
        }
    }

    #[test]
    fn each_controller_keeps_its_own_time() {
        let phases = Phases {
            poll: Duration::from_millis(2_500),
            sync: Duration::from_secs(4),
        };
        let mut autoscaler = Autoscaler::with_phases(&scaled(), Time::from_millis(1_000), phases);
        let mut due = Vec::new();
        while due.len() < 6 {
            let now = autoscaler.next_due();
            due.push(now.millis());
            autoscaler.step(now, Ok(BACKLOG), workload(100));
        }
        assert_eq!(due, [3_500, 5_000, 20_001, 33_500, 35_002, 50_003]);
    }

    #[test]
    fn nothing_is_done_before_it_is_due() {
        let start = Time::from_millis(10_000);
        let mut autoscaler = Autoscaler::new(&scaled(), start);
        assert_eq!(autoscaler.next_due(), start);
        let early = Time::from_millis(9_999);
        assert_eq!(autoscaler.step(early, Ok(BACKLOG), workload(0)), []);
        assert_eq!(autoscaler.next_due(), start);
        assert_eq!(autoscaler.step(start, Ok(BACKLOG), workload(0)).len(), 1);
        assert_eq!(autoscaler.next_due(), start + SYNC_PERIOD);
    }

    #[test]
    fn who_is_late_does_a_thing_once() {
        let mut autoscaler = Autoscaler::new(&scaled(), Time::ZERO);
        let late = Time::from_millis(100_000);
        let changes = autoscaler.step(late, Ok(BACKLOG), workload(0));
        let to: Vec<_> = changes.iter().map(|change| change.to).collect();
        assert_eq!(to, [1, 4]);
        assert_eq!(autoscaler.next_due(), late + ASKING + SYNC_PERIOD);
    }

    #[test]
    fn paused_replicas_are_set_once() {
        let mut scaled = scaled();
        scaled.pause.at = Some(2);
        let mut autoscaler = Autoscaler::new(&scaled, Time::ZERO);
        let changes = autoscaler.step(Time::ZERO, Ok(BACKLOG), workload(5));
        assert_eq!(changes.first().map(|change| change.to), Some(2));
        // Somebody else scales; KEDA does not look.
        let later = autoscaler.step(Time::from_millis(60_000), Ok(BACKLOG), workload(7));
        assert_eq!(later, []);
    }
}
