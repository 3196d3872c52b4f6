//! KEDA's operator for one ScaledObject, as in KEDA 2.20: what a trigger's reading means,
//! when it starts the first replica and stops the last, and what it tells the
//! HorizontalPodAutoscaler. Knows nothing of what that makes of it.
//!
//! Files and functions named below are those of KEDA's `pkg/`.

use crate::autoscaler::{Change, Unavailable};
use crate::scaled_object::{Fallback, FallbackBehavior, ScaledObject, Trigger};
use crate::time::Time;
use crate::timeline::Depth;

/// What the trigger says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reading {
    /// The metric, in thousandths of a message.
    millis: u64,
    /// Whether there is work.
    active: bool,
    /// Whether the queue could not be asked, and the fallback speaks.
    fallback: bool,
}

/// What the operator remembers of a ScaledObject.
#[derive(Clone, Debug)]
pub struct Keda {
    scaled: ScaledObject,
    /// `metadata.creationTimestamp`.
    created: Time,
    /// `status.lastActiveTime`.
    last_active: Option<Time>,
    /// `status.health.numberOfFailures`: failures in a row, of polls and of the questions
    /// of the HorizontalPodAutoscaler alike. Counted only where there is a fallback.
    failures: u32,
}

impl Keda {
    /// For a ScaledObject that was created at `created`.
    #[must_use]
    pub fn new(scaled: &ScaledObject, created: Time) -> Self {
        Self {
            scaled: scaled.clone(),
            created: stored(created),
            last_active: None,
            failures: 0,
        }
    }

    /// What the HorizontalPodAutoscaler gets when it asks (`GetScaledObjectMetrics`,
    /// `scaling/scale_handler.go`): messages in thousandths. The queue is asked anew, the
    /// last poll does not matter.
    pub fn metric(
        &mut self,
        depth: Result<Depth, Unavailable>,
        replicas: u32,
    ) -> Result<u64, Unavailable> {
        Ok(self.read(depth, replicas)?.millis)
    }

    /// One poll (`checkScalers`, then `RequestScale` of
    /// `scaling/executor/scale_scaledobjects.go`).
    pub fn poll(
        &mut self,
        now: Time,
        depth: Result<Depth, Unavailable>,
        replicas: u32,
    ) -> Option<Change> {
        let reading = self.read(depth, replicas);
        let failed = reading.is_err();
        match reading {
            Ok(reading) if reading.active => self.active(now, replicas, failed, &describe(reading)),
            _ if self.scaled.pause.force_active => {
                self.active(now, replicas, failed, "force-activation")
            }
            // Waits for the fallback: the autoscaler could not start a replica from zero for it.
            Err(_) if self.scaled.fallback.is_none_or(|own| own.replicas != 0) => None,
            _ => self.inactive(now, replicas),
        }
    }

    /// Asks the trigger, with the fallback where it is due (`GetMetricsWithFallback`,
    /// `fallback/fallback.go`; an active fallback makes the trigger active: `getScalerState`).
    fn read(
        &mut self,
        depth: Result<Depth, Unavailable>,
        replicas: u32,
    ) -> Result<Reading, Unavailable> {
        let Some(fallback) = self.scaled.fallback else {
            return depth.map(|depth| direct(&self.scaled.trigger, depth));
        };
        match depth {
            Ok(depth) => {
                self.failures = 0;
                Ok(direct(&self.scaled.trigger, depth))
            }
            Err(why) => {
                self.failures = self.failures.saturating_add(1);
                if self.failures <= fallback.failure_threshold {
                    return Err(why);
                }
                let each = self.scaled.trigger.queue_length.saturating_mul(1000);
                Ok(Reading {
                    millis: each.saturating_mul(u64::from(stand_in(fallback, replicas))),
                    active: true,
                    fallback: true,
                })
            }
        }
    }

    /// There is work: from zero, or from idle, to `minReplicaCount`, or 1.
    fn active(&mut self, now: Time, replicas: u32, failed: bool, why: &str) -> Option<Change> {
        let idle = self.scaled.idle.is_some() && replicas < self.scaled.min;
        if !idle && replicas != 0 {
            if !failed {
                self.last_active = Some(stored(now));
            }
            return None;
        }
        if self.scaled.pause.scale_out {
            return None;
        }
        self.last_active = Some(stored(now));
        Some(Change {
            to: self.scaled.min.max(1),
            reason: format!("KEDA: activated, {why}"),
        })
    }

    /// There is no work: after the cooldown to idle, or to zero; up to `minReplicaCount` at once.
    fn inactive(&mut self, now: Time, replicas: u32) -> Option<Change> {
        let stops = self.scaled.idle.is_some_and(|idle| replicas > idle);
        if stops || (replicas > 0 && self.scaled.min == 0) {
            if self.scaled.pause.scale_in || !self.cooled(now) {
                return None;
            }
            let to = self.scaled.idle.unwrap_or(self.scaled.min);
            let reason = match self.last_active {
                Some(last) => format!("KEDA: no work since {last}"),
                None => "KEDA: no work since it was created".to_owned(),
            };
            return Some(Change { to, reason });
        }
        (self.scaled.idle.is_none() && replicas < self.scaled.min).then(|| Change {
            to: self.scaled.min,
            reason: "KEDA: below minReplicaCount".to_owned(),
        })
    }

    /// Whether the cooldown is over (`scaleToZeroOrIdle`).
    fn cooled(&self, now: Time) -> bool {
        match self.last_active {
            Some(last) => last + self.scaled.cooldown < now,
            None => self.created + self.scaled.initial_cooldown < now,
        }
    }
}

/// Times in objects are whole seconds (`metav1.Time` as JSON): the rest is cut off.
fn stored(at: Time) -> Time {
    Time::from_millis(at.millis() / 1000 * 1000)
}

/// `GetMetricsAndActivity`, `scalers/aws_sqs_queue_scaler.go`.
fn direct(trigger: &Trigger, depth: Depth) -> Reading {
    let mut messages = count(depth.visible);
    if trigger.on_in_flight {
        messages = messages.saturating_add(count(depth.in_flight));
    }
    if trigger.on_delayed {
        messages = messages.saturating_add(count(depth.delayed));
    }
    Reading {
        millis: messages.saturating_mul(1000),
        active: i64::try_from(messages).unwrap_or(i64::MAX) > trigger.activation,
        fallback: false,
    }
}

/// SQS counts whole messages; a simulated queue may have parts.
fn count(messages: f64) -> u64 {
    messages.round() as u64
}

/// The replicas that an active fallback asks for (`doFallback`).
fn stand_in(fallback: Fallback, replicas: u32) -> u32 {
    match fallback.behavior {
        FallbackBehavior::Static => fallback.replicas,
        FallbackBehavior::CurrentReplicas => replicas,
        FallbackBehavior::CurrentReplicasIfHigher => fallback.replicas.max(replicas),
        FallbackBehavior::CurrentReplicasIfLower => fallback.replicas.min(replicas),
    }
}

fn describe(reading: Reading) -> String {
    if reading.fallback {
        "fallback".to_owned()
    } else {
        format!("{} messages", reading.millis / 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn queue(visible: f64, in_flight: f64) -> Depth {
        Depth {
            visible,
            in_flight,
            delayed: 0.0,
        }
    }

    fn keda(change: impl FnOnce(&mut ScaledObject), created: u64) -> Keda {
        let trigger = Trigger::of("https://sqs.eu-central-1.amazonaws.com/1/q", "eu-central-1");
        let mut scaled = ScaledObject::of("case", trigger);
        scaled.cooldown = Duration::from_secs(10);
        scaled.initial_cooldown = Duration::from_secs(10);
        change(&mut scaled);
        Keda::new(&scaled, Time::from_millis(created))
    }

    /// When, in milliseconds, the last of one replica goes.
    fn ends(mut keda: Keda, from: u64) -> Option<u64> {
        let polls = from..from + 20_000;
        polls.into_iter().find(|now| {
            let change = keda.poll(Time::from_millis(*now), Ok(queue(0.0, 0.0)), 1);
            change.is_some_and(|change| change.to == 0)
        })
    }

    #[test]
    fn the_cooldown_counts_from_whole_seconds() {
        let mut active = keda(|_| (), 0);
        assert_eq!(
            active.poll(Time::from_millis(900), Ok(queue(1.0, 0.0)), 1),
            None
        );
        assert_eq!(ends(active, 901), Some(10_001));
        assert_eq!(ends(keda(|_| (), 900), 901), Some(10_001));
    }

    #[test]
    fn parts_of_messages_are_rounded_each() {
        assert_eq!(direct(&Trigger::of("q", "r"), Depth::default()).millis, 0);
        let read = |visible, in_flight| keda(|_| (), 0).metric(Ok(queue(visible, in_flight)), 1);
        assert_eq!(read(0.4, 0.4), Ok(0));
        assert_eq!(read(0.5, 1.2), Ok(2_000));
    }

    #[test]
    fn forced_activity_does_not_count_while_the_queue_cannot_be_asked() {
        let mut forced = keda(|scaled| scaled.pause.force_active = true, 0);
        let outage = Err(Unavailable("an outage".to_owned()));
        assert_eq!(forced.poll(Time::from_millis(1_000), outage, 1), None);
        assert_eq!(forced.last_active, None);
        assert_eq!(
            forced.poll(Time::from_millis(2_000), Ok(queue(0.0, 0.0)), 1),
            None
        );
        assert_eq!(forced.last_active, Some(Time::from_millis(2_000)));
    }
}
