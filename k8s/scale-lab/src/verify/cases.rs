//! The table of cases. What must come out was worked out by hand from the sources named,
//! never taken from the code under test.

use std::time::Duration;

use super::{Case, Cpu, Kind, Queue, Seen};
use crate::hpa::{Behavior, CpuPod, CpuUsage, Phase, Policy, Rules, Select, Step};
use crate::scaled_object::{Fallback, FallbackBehavior, ScaledObject, Trigger};
use crate::time::Time;
use crate::timeline::Depth;

/// The table: a test for each, and all of them.
macro_rules! cases {
    ($($id:ident: $name:literal, $source:expr, $kind:expr;)*) => {
        /// All cases, in the order of the table.
        #[must_use]
        pub fn all() -> Vec<Case> {
            vec![$(Case { name: $name, source: $source, kind: $kind }),*]
        }

        #[cfg(test)]
        mod tests {
            use super::*;
            $(
                #[test]
                fn $id() {
                    let outcome = Case { name: $name, source: $source, kind: $kind }.run();
                    let (expected, got) = (&outcome.expected, &outcome.got);
                    assert!(outcome.passed, "{expected}\n     {got}\n{:#?}", outcome.reasons);
                }
            )*

            #[test]
            fn names_are_told_apart() {
                let mut names: Vec<_> = all().iter().map(|case| case.name).collect();
                names.sort_unstable();
                names.dedup();
                assert_eq!(names.len(), all().len());
            }
        }
    };
}

const SCALER: &str = "KEDA scalers/aws_sqs_queue_scaler.go";
const EXECUTOR: &str = "KEDA executor/scale_scaledobjects.go RequestScale";
const TO_ZERO: &str = "KEDA executor/scale_scaledobjects.go scaleToZeroOrIdle";
const FROM_ZERO: &str = "KEDA executor/scale_scaledobjects.go scaleFromZeroOrIdle";
const FALLBACK: &str = "KEDA fallback/fallback.go GetMetricsWithFallback";
const DO_FALLBACK: &str = "KEDA fallback/fallback.go doFallback";
const STATE: &str = "KEDA scale_handler.go getScalerState";
const PAUSE: &str = "KEDA scaledobject_controller.go handlePause";
const KEDA_HPA: &str = "KEDA controllers/keda/hpa.go newHPAForScaledObject";
const RECONCILE: &str = "HPA horizontal.go reconcileAutoscaler";
const METRICS: &str = "HPA horizontal.go computeReplicasForMetrics";
const LEGACY: &str = "HPA horizontal.go convertDesiredReplicasWithRules";
const STABILIZE: &str = "HPA horizontal.go stabilizeRecommendation";
const STABILIZE_BEHAVIOR: &str = "HPA horizontal.go stabilizeRecommendationWithBehaviors";
const UP_LIMIT: &str = "HPA horizontal.go calculateScaleUpLimitWithScalingRules";
const DOWN_LIMIT: &str = "HPA horizontal.go calculateScaleDownLimitWithBehaviors";
const EVENTS: &str = "HPA horizontal.go storeScaleEvent";
const TOLERANCE: &str = "HPA replica_calculator.go Tolerances.isWithin";
const PER_POD: &str = "HPA replica_calculator.go GetExternalPerPodMetricReplicas";
const RESOURCE: &str = "HPA replica_calculator.go GetResourceReplicas";
const GROUP_PODS: &str = "HPA replica_calculator.go groupPods";
const UTILIZATION: &str = "HPA metrics/utilization.go GetResourceUtilizationRatio";

/// A ScaledObject with KEDA's defaults, `length` messages for each replica, and changes.
fn sqs(length: u64, change: impl FnOnce(&mut ScaledObject)) -> ScaledObject {
    let mut trigger = Trigger::of("https://sqs.eu-central-1.amazonaws.com/1/q", "eu-central-1");
    trigger.queue_length = length;
    let mut scaled = ScaledObject::of("case", trigger);
    change(&mut scaled);
    scaled
}

/// The same with a `behavior` whose missing parts are Kubernetes' defaults.
fn behaving(length: u64, change: impl FnOnce(&mut ScaledObject, &mut Behavior)) -> ScaledObject {
    sqs(length, |scaled| {
        let mut behavior = Behavior::default();
        change(scaled, &mut behavior);
        scaled.behavior = Some(behavior);
    })
}

fn fallback(threshold: u32, replicas: u32, behavior: FallbackBehavior) -> Fallback {
    Fallback {
        failure_threshold: threshold,
        replicas,
        behavior,
    }
}

/// One direction with these policies, without stabilization.
fn at_once(policies: &[(Step, u64)]) -> Rules {
    Rules {
        stabilization: Some(Duration::ZERO),
        select: Select::Max,
        policies: policies
            .iter()
            .map(|(change, period)| Policy {
                change: *change,
                period: seconds(*period),
            })
            .collect(),
        tolerance: None,
    }
}

fn queue(
    scaled: ScaledObject,
    start: u32,
    seen: &[(u64, Seen)],
    until: u64,
    expect: &[(u64, u32)],
) -> Kind {
    Kind::Queue(Box::new(Queue {
        scaled,
        start,
        seen: seen.to_vec(),
        until,
        expect: expect.to_vec(),
    }))
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A queue of visible messages, in flight and delayed ones.
fn depth(visible: u32, in_flight: u32, delayed: u32) -> Seen {
    Seen {
        depth: Some(Depth {
            visible: visible.into(),
            in_flight: in_flight.into(),
            delayed: delayed.into(),
        }),
        pods: None,
    }
}

fn visible(messages: u32) -> Seen {
    depth(messages, 0, 0)
}

/// Visible messages and a Deployment that has other pods than its spec says.
fn with_pods(messages: u32, pods: u32) -> Seen {
    Seen {
        pods: Some(pods),
        ..visible(messages)
    }
}

/// The queue cannot be asked.
const OUTAGE: Seen = Seen {
    depth: None,
    pods: None,
};

/// The moment of the cases by CPU, in seconds.
const NOW: u64 = 1000;

fn cpu(replicas: u32, pods: &[(usize, CpuPod)], target: u32, expect: Option<u32>) -> Kind {
    let pods = pods.iter().flat_map(|(count, pod)| vec![*pod; *count]);
    Kind::Cpu(Cpu {
        now: Time::ZERO + seconds(NOW),
        replicas,
        pods: pods.collect(),
        target,
        expect,
    })
}

/// A pod that has been ready for long and uses so many thousandths of its one core.
fn uses(millis: u64) -> CpuPod {
    CpuPod {
        phase: Phase::Running,
        ready: true,
        started: Time::ZERO,
        turned: Time::ZERO + seconds(10),
        usage: Some(CpuUsage {
            millis,
            at: Time::ZERO + seconds(NOW),
            window: seconds(30),
        }),
        request_millis: 1000,
    }
}

/// A pod without a metric.
fn unmeasured() -> CpuPod {
    CpuPod {
        usage: None,
        ..uses(0)
    }
}

/// A pod that started then, and whose readiness turned then.
fn young(millis: u64, started: u64, turned: u64, ready: bool) -> CpuPod {
    CpuPod {
        ready,
        started: Time::ZERO + seconds(started),
        turned: Time::ZERO + seconds(turned),
        ..uses(millis)
    }
}

fn in_phase(phase: Phase) -> CpuPod {
    CpuPod {
        phase,
        ..uses(2000)
    }
}

cases! {
    activation_holds_at_the_threshold:
        "activation: as many as `activationQueueLength` is not enough", SCALER,
        queue(sqs(50, |s| s.trigger.activation = 10), 0, &[(0, visible(10))], 300, &[]);
    activation_is_above_the_threshold:
        "activation: one more than `activationQueueLength`", SCALER,
        queue(sqs(50, |s| s.trigger.activation = 10), 0, &[(0, visible(11))], 300, &[(0, 1)]);
    one_message_activates:
        "activation: 0 to 1 by one message", FROM_ZERO,
        queue(sqs(50, |_| ()), 0, &[(0, visible(1))], 300, &[(0, 1)]);
    activation_waits_for_a_poll:
        "activation: only at a poll", EXECUTOR,
        queue(sqs(50, |_| ()), 0, &[(1, visible(1))], 300, &[(30, 1)]);
    activation_takes_the_minimum:
        "activation: 0 to `minReplicaCount`", FROM_ZERO,
        queue(sqs(50, |s| s.min = 3), 0, &[(0, visible(1))], 300, &[(0, 3)]);
    activation_may_be_negative:
        "activation: below zero is always active", SCALER,
        queue(sqs(50, |s| s.trigger.activation = -1), 0, &[(0, visible(0))], 900, &[(0, 1)]);
    below_activation_nothing_wakes:
        "activation: a backlog below it waits for ever", RECONCILE,
        queue(sqs(50, |s| s.trigger.activation = 1000), 0, &[(0, visible(500))], 3600, &[]);
    activation_does_not_hold_replicas:
        "activation: at the threshold the cooldown runs", SCALER,
        queue(
            sqs(50, |s| { s.trigger.activation = 10; s.cooldown = seconds(60); }),
            1, &[(0, visible(11)), (1, visible(10))], 300, &[(60, 0)],
        );

    in_flight_counts:
        "scaleOnInFlight on: messages in flight activate", SCALER,
        queue(sqs(50, |_| ()), 0, &[(0, depth(0, 5, 0))], 300, &[(0, 1)]);
    in_flight_does_not_count:
        "scaleOnInFlight off: messages in flight do not", SCALER,
        queue(sqs(50, |s| s.trigger.on_in_flight = false), 0, &[(0, depth(0, 5, 0))], 300, &[]);
    in_flight_counts_for_the_target:
        "scaleOnInFlight on: 100 visible, 100 in flight, 50 each", PER_POD,
        queue(sqs(50, |_| ()), 1, &[(0, depth(100, 100, 0))], 300, &[(15, 4)]);
    in_flight_does_not_count_for_the_target:
        "scaleOnInFlight off: 100 visible, 100 in flight, 50 each", PER_POD,
        queue(
            sqs(50, |s| s.trigger.on_in_flight = false),
            1, &[(0, depth(100, 100, 0))], 300, &[(15, 2)],
        );
    delayed_does_not_count:
        "scaleOnDelayed off: delayed messages do not activate", SCALER,
        queue(sqs(50, |_| ()), 0, &[(0, depth(0, 0, 500))], 300, &[]);
    delayed_counts:
        "scaleOnDelayed on: 150 delayed, 50 each", SCALER,
        queue(
            sqs(50, |s| s.trigger.on_delayed = true),
            0, &[(0, depth(0, 0, 150))], 300, &[(0, 1), (15, 3)],
        );

    cooldown_ends_in_zero:
        "cooldown: 300 s after the last poll with work", TO_ZERO,
        queue(sqs(50, |_| ()), 1, &[(0, visible(5)), (61, visible(0))], 900, &[(360, 0)]);
    cooldown_ends_at_a_poll:
        "cooldown: 100 s, at the first poll after them", TO_ZERO,
        queue(
            sqs(50, |s| s.cooldown = seconds(100)),
            1, &[(0, visible(5)), (1, visible(0))], 900, &[(120, 0)],
        );
    cooldown_ends_with_a_poll:
        "cooldown: 120 s, over at the poll 120 s later", TO_ZERO,
        queue(
            sqs(50, |s| s.cooldown = seconds(120)),
            1, &[(0, visible(5)), (1, visible(0))], 900, &[(120, 0)],
        );
    cooldown_starts_anew:
        "cooldown: starts anew with each poll that sees work", EXECUTOR,
        queue(
            sqs(50, |s| s.cooldown = seconds(100)),
            1, &[(0, visible(5)), (1, visible(0)), (85, visible(5)), (95, visible(0))],
            900, &[(210, 0)],
        );
    cooldown_from_many:
        "cooldown: from all replicas to zero, past the autoscaler's window", TO_ZERO,
        queue(
            sqs(50, |s| s.cooldown = seconds(60)),
            10, &[(0, visible(500)), (1, visible(0))], 900, &[(60, 0)],
        );
    never_active_goes_at_once:
        "cooldown: none before there ever was work", TO_ZERO,
        queue(sqs(50, |_| ()), 2, &[(0, visible(0))], 300, &[(0, 0)]);
    initial_cooldown:
        "initialCooldownPeriod: 120 s after the creation", TO_ZERO,
        queue(
            sqs(50, |s| s.initial_cooldown = seconds(120)),
            2, &[(0, visible(0))], 300, &[(120, 0)],
        );
    a_minimum_has_no_cooldown:
        "minReplicaCount 1: the autoscaler's 300 s, no cooldown, never 0", EXECUTOR,
        queue(
            sqs(50, |s| { s.min = 1; s.cooldown = seconds(30); }),
            3, &[(0, visible(0))], 1800, &[(315, 1)],
        );

    below_minimum_without_work:
        "minReplicaCount: KEDA lifts at once where there is no work", EXECUTOR,
        queue(sqs(50, |s| s.min = 3), 1, &[(0, visible(0))], 300, &[(0, 3)]);
    below_minimum_with_work:
        "minReplicaCount: the autoscaler lifts where there is work", RECONCILE,
        queue(sqs(50, |s| s.min = 10), 1, &[(0, visible(1))], 300, &[(15, 10)]);
    above_maximum:
        "maxReplicaCount: down to it at once, whatever the window", RECONCILE,
        queue(sqs(50, |_| ()), 120, &[(0, visible(6000))], 300, &[(15, 100)]);
    at_maximum:
        "maxReplicaCount: a backlog for more changes nothing", LEGACY,
        queue(sqs(50, |_| ()), 100, &[(0, visible(1_000_000))], 300, &[]);
    at_maximum_with_behavior:
        "maxReplicaCount: reached and not passed with `behavior`",
        "HPA horizontal.go convertDesiredReplicasWithBehaviorRate",
        queue(behaving(50, |s, _| s.max = 7), 5, &[(0, visible(450))], 300, &[(15, 7)]);

    above_maximum_at_once:
        "maxReplicaCount: down to it, though scaleDown is disabled", RECONCILE,
        queue(
            behaving(50, |_, b| b.down.select = Select::Disabled),
            120, &[(0, visible(6000))], 300, &[(15, 100)],
        );
    below_minimum_at_once:
        "minReplicaCount: up to it, though scaleUp is disabled", RECONCILE,
        queue(
            behaving(50, |s, b| { s.min = 10; b.up.select = Select::Disabled; }),
            1, &[(0, visible(1))], 300, &[(15, 10)],
        );
    down_to_the_minimum:
        "minReplicaCount 3: the way down ends there",
        "HPA horizontal.go convertDesiredReplicasWithBehaviorRate",
        queue(
            behaving(50, |s, b| { s.min = 3; b.down.stabilization = Some(Duration::ZERO); }),
            10, &[(0, visible(1))], 300, &[(15, 3)],
        );

    idle_takes_the_last_one:
        "idleReplicaCount 0, min 3: a single replica goes, too", TO_ZERO,
        queue(
            sqs(50, |s| { s.idle = Some(0); s.min = 3; }),
            1, &[(0, visible(0))], 300, &[(0, 0)],
        );
    idle_after_the_cooldown:
        "idleReplicaCount 0, min 3: 3 to 0 and back to 3", TO_ZERO,
        queue(
            sqs(50, |s| { s.idle = Some(0); s.min = 3; s.cooldown = seconds(60); }),
            3, &[(0, visible(5)), (1, visible(0)), (100, visible(5))],
            300, &[(60, 0), (120, 3)],
        );
    idle_lifts_to_the_minimum:
        "idleReplicaCount 0, min 3: from 1 to 3 at once with work", EXECUTOR,
        queue(
            sqs(50, |s| { s.idle = Some(0); s.min = 3; }),
            1, &[(0, visible(5))], 300, &[(0, 3)],
        );
    without_idle_the_minimum_stays:
        "no idleReplicaCount, min 3: 3 stay without work", EXECUTOR,
        queue(sqs(50, |s| s.min = 3), 3, &[(0, visible(0))], 1800, &[]);
    idle_of_one_is_undone:
        "idleReplicaCount 1, min 3: the autoscaler undoes it", RECONCILE,
        queue(
            sqs(50, |s| { s.idle = Some(1); s.min = 3; }),
            3, &[(0, visible(0))], 50, &[(0, 1), (15, 3), (30, 1), (30, 3)],
        );

    fallback_after_failures:
        "fallback: after more than 3 failures, of polls and syncs", FALLBACK,
        queue(
            sqs(50, |s| s.fallback = Some(fallback(3, 6, FallbackBehavior::Static))),
            3, &[(0, visible(150)), (20, OUTAGE)], 300, &[(60, 6)],
        );
    fallback_counts_in_a_row:
        "fallback: one answer ends the count", FALLBACK,
        queue(
            sqs(50, |s| s.fallback = Some(fallback(3, 6, FallbackBehavior::Static))),
            3, &[(0, visible(150)), (20, OUTAGE), (50, visible(150)), (70, OUTAGE)],
            300, &[(105, 6)],
        );
    fallback_at_once:
        "fallback: threshold 0 means the first failure", FALLBACK,
        queue(
            sqs(50, |s| s.fallback = Some(fallback(0, 6, FallbackBehavior::Static))),
            3, &[(0, visible(150)), (20, OUTAGE)], 300, &[(30, 6)],
        );
    fallback_wakes:
        "fallback: from 0, only polls count, then it activates", STATE,
        queue(
            sqs(50, |s| s.fallback = Some(fallback(3, 6, FallbackBehavior::Static))),
            0, &[(0, OUTAGE)], 300, &[(90, 1), (90, 4), (105, 6)],
        );
    fallback_keeps_active:
        "fallback: no cooldown while it speaks", STATE,
        queue(
            sqs(50, |s| {
                s.fallback = Some(fallback(0, 1, FallbackBehavior::Static));
                s.cooldown = seconds(60);
            }),
            1, &[(0, OUTAGE), (601, visible(0))], 900, &[(660, 0)],
        );
    no_fallback_holds:
        "no fallback: an outage changes nothing", METRICS,
        queue(sqs(50, |_| ()), 3, &[(0, visible(150)), (20, OUTAGE)], 3600, &[]);
    fallback_of_none_cools_down:
        "fallback to 0: failures below the threshold are no work", EXECUTOR,
        queue(
            sqs(50, |s| {
                s.fallback = Some(fallback(100, 0, FallbackBehavior::Static));
                s.cooldown = seconds(60);
            }),
            1, &[(0, visible(5)), (1, OUTAGE)], 300, &[(60, 0)],
        );
    fallback_waits_below_the_threshold:
        "fallback: failures below the threshold stop no replica", EXECUTOR,
        queue(
            sqs(50, |s| {
                s.fallback = Some(fallback(100, 6, FallbackBehavior::Static));
                s.cooldown = seconds(60);
            }),
            1, &[(0, visible(5)), (1, OUTAGE)], 900, &[],
        );
    fallback_within_the_maximum:
        "fallback: 200 replicas, at most `maxReplicaCount`", DO_FALLBACK,
        queue(
            sqs(50, |s| { s.max = 8; s.fallback = Some(fallback(0, 200, FallbackBehavior::Static)); }),
            4, &[(0, visible(200)), (20, OUTAGE)], 300, &[(30, 8)],
        );
    fallback_current:
        "fallback currentReplicas: 3 stay 3", DO_FALLBACK,
        queue(
            sqs(50, |s| s.fallback = Some(fallback(0, 6, FallbackBehavior::CurrentReplicas))),
            3, &[(0, visible(150)), (20, OUTAGE)], 900, &[],
        );
    fallback_higher_lifts:
        "fallback currentReplicasIfHigher 6: 3 become 6", DO_FALLBACK,
        queue(
            sqs(50, |s| s.fallback = Some(fallback(0, 6, FallbackBehavior::CurrentReplicasIfHigher))),
            3, &[(0, visible(150)), (20, OUTAGE)], 900, &[(30, 6)],
        );
    fallback_higher_keeps:
        "fallback currentReplicasIfHigher 6: 9 stay 9", DO_FALLBACK,
        queue(
            sqs(50, |s| s.fallback = Some(fallback(0, 6, FallbackBehavior::CurrentReplicasIfHigher))),
            9, &[(0, visible(450)), (20, OUTAGE)], 900, &[],
        );
    fallback_lower_sinks:
        "fallback currentReplicasIfLower 6: 9 become 6 after the window", DO_FALLBACK,
        queue(
            sqs(50, |s| s.fallback = Some(fallback(0, 6, FallbackBehavior::CurrentReplicasIfLower))),
            9, &[(0, visible(450)), (20, OUTAGE)], 900, &[(315, 6)],
        );
    fallback_lower_keeps:
        "fallback currentReplicasIfLower 6: 3 stay 3", DO_FALLBACK,
        queue(
            sqs(50, |s| s.fallback = Some(fallback(0, 6, FallbackBehavior::CurrentReplicasIfLower))),
            3, &[(0, visible(150)), (20, OUTAGE)], 900, &[],
        );

    paused:
        "paused: nothing changes", PAUSE,
        queue(
            sqs(50, |s| s.pause.all = true),
            3, &[(0, visible(5000)), (300, visible(0))], 1800, &[],
        );
    paused_at:
        "paused-replicas: set once", PAUSE,
        queue(sqs(50, |s| s.pause.at = Some(2)), 5, &[(0, visible(5000))], 900, &[(0, 2)]);
    paused_in:
        "paused-scale-in: neither to zero nor down, but up", KEDA_HPA,
        queue(
            sqs(50, |s| s.pause.scale_in = true),
            5, &[(0, visible(0)), (600, visible(500))], 1800, &[(600, 10)],
        );
    paused_out:
        "paused-scale-out: no replica more", KEDA_HPA,
        queue(sqs(50, |s| s.pause.scale_out = true), 2, &[(0, visible(5000))], 900, &[]);
    paused_out_at_zero:
        "paused-scale-out: no first replica either", FROM_ZERO,
        queue(sqs(50, |s| s.pause.scale_out = true), 0, &[(0, visible(5000))], 900, &[]);
    forced:
        "force-activation: 1 replica without work, for good", EXECUTOR,
        queue(
            sqs(50, |s| { s.pause.force_active = true; s.cooldown = seconds(30); }),
            0, &[(0, visible(0))], 900, &[(0, 1)],
        );

    tolerance_above_holds:
        "tolerance: 110 % of the target holds", TOLERANCE,
        queue(sqs(50, |_| ()), 1, &[(0, visible(55))], 300, &[]);
    tolerance_above_is_left:
        "tolerance: 112 % of the target is rounded up", TOLERANCE,
        queue(sqs(50, |_| ()), 1, &[(0, visible(56))], 300, &[(15, 2)]);
    tolerance_below_holds:
        "tolerance: 90 % of the target holds", TOLERANCE,
        queue(sqs(10, |_| ()), 10, &[(0, visible(90))], 1800, &[]);
    tolerance_below_is_left:
        "tolerance: 89 % of the target is rounded up", TOLERANCE,
        queue(sqs(10, |_| ()), 10, &[(0, visible(89))], 1800, &[(315, 9)]);
    tolerance_of_the_way_up:
        "tolerance 0.05 of scaleUp: 106 % is too much", "HPA spec.behavior.scaleUp.tolerance (beta in 1.35)",
        queue(behaving(50, |_, b| b.up.tolerance = Some(0.05)), 1, &[(0, visible(53))], 300, &[(15, 2)]);
    tolerance_of_the_way_down:
        "tolerance 0.2 of scaleDown: 81 % holds", "HPA spec.behavior.scaleDown.tolerance (beta in 1.35)",
        queue(behaving(10, |_, b| b.down.tolerance = Some(0.2)), 10, &[(0, visible(81))], 1800, &[]);
    the_target_is_rounded_up:
        "ceil: 101 messages, 50 each, are 3", PER_POD,
        queue(sqs(50, |_| ()), 1, &[(0, visible(101))], 300, &[(15, 3)]);
    tolerance_is_about_pods:
        "tolerance: within it as many as `status.replicas`, not `spec.replicas`", PER_POD,
        queue(
            behaving(10, |_, b| b.down.stabilization = Some(Duration::ZERO)),
            10, &[(0, with_pods(84, 8))], 300, &[(15, 8)],
        );
    no_pods_yet:
        "no pods yet: the messages decide", PER_POD,
        queue(sqs(50, |_| ()), 1, &[(0, with_pods(120, 0))], 300, &[(15, 3)]);
    no_pods_and_no_messages:
        "no pods, no messages: 0 divided by 0 is the minimum", PER_POD,
        queue(sqs(50, |s| s.min = 1), 1, &[(0, with_pods(0, 0))], 300, &[]);
    keda_and_autoscaler_at_once:
        "0 to 1 by KEDA, 1 to 4 by a sync in the same second", RECONCILE,
        queue(
            sqs(50, |s| s.polling_interval = seconds(15)),
            0, &[(10, visible(500))], 300, &[(15, 1), (15, 4), (30, 8), (45, 10)],
        );

    legacy_four_first:
        "no `behavior`: at most 4, then doubled, each sync", LEGACY,
        queue(
            sqs(50, |_| ()), 1, &[(0, visible(5000))],
            300, &[(15, 4), (30, 8), (45, 16), (60, 32), (75, 64), (90, 100)],
        );
    legacy_doubles:
        "no `behavior`: 3 are doubled to 6, more than 4", LEGACY,
        queue(sqs(50, |s| s.max = 6), 3, &[(0, visible(5000))], 300, &[(15, 6)]);
    legacy_window:
        "no `behavior`: down to the largest of 300 s", STABILIZE,
        queue(sqs(50, |_| ()), 10, &[(0, visible(500)), (20, visible(100))], 900, &[(315, 2)]);
    legacy_valley:
        "no `behavior`: a valley of 150 s takes no replica", STABILIZE,
        queue(
            sqs(50, |_| ()),
            10, &[(0, visible(500)), (100, visible(50)), (250, visible(500))], 1800, &[],
        );
    first_replicas_count:
        "window: what there was at the first sync is a recommendation",
        "HPA horizontal.go recordInitialRecommendation",
        queue(sqs(50, |_| ()), 10, &[(0, visible(50))], 900, &[(315, 1)]);
    outages_are_no_recommendation:
        "window: an outage leaves no recommendation, time goes on", METRICS,
        queue(
            sqs(50, |_| ()),
            10, &[(0, visible(500)), (20, OUTAGE), (400, visible(100))], 900, &[(405, 2)],
        );

    behavior_adds_four:
        "`behavior` without policies: 4 more or doubled, 1 to 5", UP_LIMIT,
        queue(
            behaving(50, |_, _| ()), 1, &[(0, visible(5000))],
            300, &[(15, 5), (30, 10), (45, 20), (60, 40), (75, 80), (90, 100)],
        );
    select_max_up:
        "selectPolicy Max up: 2 pods or 100 %, 1 to 3 to 6", UP_LIMIT,
        queue(
            behaving(50, |_, b| b.up = at_once(&[(Step::Percent(100), 15), (Step::Pods(2), 15)])),
            1, &[(0, visible(5000))], 50, &[(15, 3), (30, 6), (45, 12)],
        );
    select_min_up:
        "selectPolicy Min up: 4 pods or 100 %, whichever is less", UP_LIMIT,
        queue(
            behaving(50, |_, b| b.up.select = Select::Min), 1, &[(0, visible(5000))],
            80, &[(15, 2), (30, 4), (45, 8), (60, 12), (75, 16)],
        );
    select_disabled_up:
        "selectPolicy Disabled up: no replica more", UP_LIMIT,
        queue(behaving(50, |_, b| b.up.select = Select::Disabled), 1, &[(0, visible(5000))], 900, &[]);
    policy_over_a_minute:
        "policy: 4 pods in 60 s", UP_LIMIT,
        queue(
            behaving(50, |_, b| b.up = at_once(&[(Step::Pods(4), 60)])),
            1, &[(0, visible(5000))], 140, &[(15, 5), (75, 9), (135, 13)],
        );
    policy_sums_a_minute:
        "policy: 6 pods in 60 s, in two steps", UP_LIMIT,
        queue(
            behaving(50, |_, b| b.up = at_once(&[(Step::Pods(6), 60)])),
            1, &[(0, visible(150)), (20, visible(5000))], 80, &[(15, 3), (30, 7), (75, 9)],
        );
    policy_after_a_jump:
        "policy: after a jump to the minimum nothing sinks",
        "HPA horizontal.go convertDesiredReplicasWithBehaviorRate",
        queue(
            behaving(50, |s, b| { s.min = 10; b.up = at_once(&[(Step::Pods(1), 60)]); }),
            1, &[(0, visible(5000))], 80, &[(15, 10), (75, 11)],
        );
    percent_up_is_rounded_up:
        "policy: 10 % of 5 are 6", UP_LIMIT,
        queue(
            behaving(50, |_, b| b.up = at_once(&[(Step::Percent(10), 15)])),
            5, &[(0, visible(5000))], 20, &[(15, 6)],
        );
    percent_up_in_floats:
        "policy: 10 % of 100 are 111, by the float's last bit", UP_LIMIT,
        queue(
            behaving(50, |s, b| { s.max = 1000; b.up = at_once(&[(Step::Percent(10), 15)]); }),
            100, &[(0, visible(50_000))], 35, &[(15, 111), (30, 123)],
        );
    up_stabilization:
        "window of scaleUp 60 s: up to the smallest of them", STABILIZE_BEHAVIOR,
        queue(
            behaving(50, |_, b| b.up.stabilization = Some(seconds(60))),
            1, &[(0, visible(500))], 300, &[(75, 5), (90, 10)],
        );
    up_stabilization_spike:
        "window of scaleUp 60 s: a spike of 40 s adds no replica", STABILIZE_BEHAVIOR,
        queue(
            behaving(50, |_, b| b.up.stabilization = Some(seconds(60))),
            1, &[(0, visible(50)), (100, visible(5000)), (140, visible(50))], 900, &[],
        );
    down_stabilization_default:
        "window of scaleDown not written: 300 s",
        "HPA horizontal.go maybeInitScaleDownStabilizationWindow",
        queue(behaving(50, |_, _| ()), 10, &[(0, visible(500)), (20, visible(100))], 900, &[(315, 2)]);
    down_stabilization_none:
        "window of scaleDown 0 s: down at once", STABILIZE_BEHAVIOR,
        queue(
            behaving(50, |_, b| b.down.stabilization = Some(Duration::ZERO)),
            10, &[(0, visible(100))], 300, &[(15, 2)],
        );
    select_disabled_down:
        "selectPolicy Disabled down: no replica less", DOWN_LIMIT,
        queue(
            behaving(50, |_, b| b.down.select = Select::Disabled),
            5, &[(0, visible(1))], 1800, &[],
        );
    select_min_down:
        "selectPolicy Min down: 1 pod or 50 %, whichever is less", DOWN_LIMIT,
        queue(
            behaving(50, |_, b| {
                b.down = at_once(&[(Step::Pods(1), 15), (Step::Percent(50), 15)]);
                b.down.select = Select::Min;
            }),
            10, &[(0, visible(1))], 50, &[(15, 9), (30, 8), (45, 7)],
        );
    select_max_down:
        "selectPolicy Max down: 6 pods or 50 %, whichever is more", DOWN_LIMIT,
        queue(
            behaving(50, |_, b| b.down = at_once(&[(Step::Pods(6), 15), (Step::Percent(50), 15)])),
            10, &[(0, visible(1))], 300, &[(15, 4), (30, 1)],
        );
    the_chart_goes_down:
        "the chart's scaleDown: 120 s, then half a minute by minute, 5 to 2", DOWN_LIMIT,
        queue(
            behaving(50, |s, b| {
                s.max = 20;
                b.down = at_once(&[(Step::Percent(50), 60)]);
                b.down.stabilization = Some(seconds(120));
            }),
            20, &[(0, visible(1))], 900, &[(135, 10), (195, 5), (255, 2), (315, 1)],
        );
    the_way_up_limits_the_way_down:
        "policy down over 60 s: from what there was before the way up", DOWN_LIMIT,
        queue(
            behaving(50, |_, b| {
                b.down = at_once(&[(Step::Percent(50), 60)]);
            }),
            4, &[(0, visible(400)), (35, visible(1))],
            120, &[(15, 8), (45, 2), (105, 1)],
        );
    an_older_event_is_forgotten:
        "policy down over 60 s: an up older than 15 s was overwritten", EVENTS,
        queue(
            behaving(50, |_, b| b.down = at_once(&[(Step::Percent(50), 60)])),
            4, &[(0, visible(400)), (20, visible(800)), (35, visible(1))],
            110, &[(15, 8), (30, 16), (45, 4), (105, 2)],
        );

    cpu_doubles:
        "CPU: 140 % of a target of 70 % doubles", RESOURCE,
        cpu(4, &[(4, uses(1400))], 70, Some(8));
    cpu_tolerance:
        "CPU: 77 % of a target of 70 % holds", TOLERANCE,
        cpu(4, &[(4, uses(770))], 70, Some(4));
    cpu_whole_per_cent:
        "CPU: 77.9 % is cut to 77 % and holds", UTILIZATION,
        cpu(4, &[(4, uses(779))], 70, Some(4));
    cpu_above_tolerance:
        "CPU: 78 % of a target of 70 % is rounded up", RESOURCE,
        cpu(4, &[(4, uses(780))], 70, Some(5));
    cpu_sum:
        "CPU: the mean of pods that differ", UTILIZATION,
        cpu(2, &[(1, uses(1400)), (1, uses(0))], 70, Some(2));
    cpu_missing_up:
        "CPU: a pod without metric is idle on the way up, which ends it", RESOURCE,
        cpu(4, &[(3, uses(1000)), (1, unmeasured())], 70, Some(4));
    cpu_missing_down:
        "CPU: a pod without metric works at 100 % on the way down", RESOURCE,
        cpu(4, &[(3, uses(100)), (1, unmeasured())], 70, Some(2));
    cpu_missing_down_above_100:
        "CPU: at the target, where that is above 100 %", RESOURCE,
        cpu(4, &[(1, uses(500)), (3, unmeasured())], 150, Some(4));
    cpu_missing_turns:
        "CPU: pods without metric do not turn the direction", RESOURCE,
        cpu(4, &[(1, uses(300)), (3, unmeasured())], 70, Some(4));
    cpu_missing_never_adds:
        "CPU: the way down never ends above the replicas", RESOURCE,
        cpu(1, &[(3, uses(200)), (1, unmeasured())], 70, Some(1));
    cpu_unready_up:
        "CPU: a pod that never was ready is idle on the way up", GROUP_PODS,
        cpu(4, &[(3, uses(1000)), (1, young(2000, 0, 10, false))], 70, Some(4));
    cpu_unready_down:
        "CPU: and does not count on the way down", GROUP_PODS,
        cpu(4, &[(3, uses(100)), (1, young(2000, 0, 10, false))], 70, Some(1));
    cpu_unready_within_tolerance:
        "CPU: nor does it make the others' 65 % a reason to go down", RESOURCE,
        cpu(4, &[(3, uses(650)), (1, young(2000, 0, 10, false))], 70, Some(4));
    cpu_unready_again:
        "CPU: a pod that was ready once counts", GROUP_PODS,
        cpu(4, &[(3, uses(1000)), (1, young(1000, 0, 900, false))], 70, Some(6));
    cpu_starting:
        "CPU: a young pod counts after a window of readiness, not before", GROUP_PODS,
        cpu(4, &[(3, uses(1000)), (1, young(1000, 960, 971, true))], 70, Some(4));
    cpu_started:
        "CPU: a young pod counts after a window of readiness", GROUP_PODS,
        cpu(4, &[(3, uses(1000)), (1, young(1000, 960, 970, true))], 70, Some(6));
    cpu_initialized:
        "CPU: 300 s after its start a pod counts at once", GROUP_PODS,
        cpu(4, &[(3, uses(1000)), (1, young(1000, 700, 995, true))], 70, Some(6));
    cpu_pending:
        "CPU: a pending pod is idle on the way up", GROUP_PODS,
        cpu(4, &[(3, uses(1000)), (1, in_phase(Phase::Pending))], 70, Some(4));
    cpu_gone:
        "CPU: a terminating pod does not count", GROUP_PODS,
        cpu(4, &[(3, uses(1400)), (1, in_phase(Phase::Gone))], 70, Some(6));
    cpu_without_metrics:
        "CPU: no metrics, no recommendation", RESOURCE,
        cpu(4, &[(4, unmeasured())], 70, None);
}
