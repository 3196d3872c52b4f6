//! What holds for the autoscaler whatever its settings and its load, over thousands of
//! random ones. A failure names the seed that repeats it.

use std::convert::Infallible;
use std::time::Duration;

use fastrand::Rng;
use scale_lab::autoscaler::{Autoscaler, Change, Phases, Unavailable, Workload};
use scale_lab::hpa::{self, Behavior, Hpa, Policy, Rules, Select, Step, Tolerances};
use scale_lab::scaled_object::{Fallback, FallbackBehavior, ScaledObject, Trigger};
use scale_lab::time::Time;
use scale_lab::timeline::Depth;

/// Random runs for each property.
const RUNS: u64 = 3000;

/// Calls of `step` in a run: a quarter of an hour and more.
const STEPS: usize = 90;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn rules(random: &mut Rng, mut rules: Rules) -> Rules {
    if random.bool() {
        rules.stabilization = Some(seconds(random.u64(0..=400)));
    }
    rules.select = match random.u32(0..8) {
        0 => Select::Disabled,
        1..=3 => Select::Min,
        _ => Select::Max,
    };
    if random.bool() {
        rules.policies = (0..random.usize(1..=3))
            .map(|_| Policy {
                change: if random.bool() {
                    Step::Pods(random.u32(1..=20))
                } else {
                    Step::Percent(random.u32(1..=300))
                },
                period: seconds(random.u64(1..=120)),
            })
            .collect();
    }
    if random.bool() {
        rules.tolerance = Some(random.f64() / 2.0);
    }
    rules
}

/// Settings that KEDA and Kubernetes would take.
fn settings(random: &mut Rng) -> ScaledObject {
    let mut trigger = Trigger::of("https://sqs.eu-central-1.amazonaws.com/1/q", "eu-central-1");
    trigger.queue_length = random.u64(1..=200);
    trigger.activation = random.i64(-1..=50);
    trigger.on_in_flight = random.bool();
    trigger.on_delayed = random.bool();
    let mut scaled = ScaledObject::of("random", trigger);
    scaled.polling_interval = seconds(random.u64(1..=60));
    scaled.cooldown = seconds(random.u64(0..=300));
    scaled.initial_cooldown = seconds(random.u64(0..=100));
    scaled.min = random.u32(0..=5);
    scaled.max = scaled.min.max(1) + random.u32(0..=100);
    if scaled.min > 0 && random.bool() {
        scaled.idle = Some(random.u32(0..scaled.min));
    }
    if random.bool() {
        scaled.fallback = Some(Fallback {
            failure_threshold: random.u32(0..=4),
            replicas: random.u32(0..=150),
            behavior: match random.u32(0..4) {
                0 => FallbackBehavior::Static,
                1 => FallbackBehavior::CurrentReplicas,
                2 => FallbackBehavior::CurrentReplicasIfHigher,
                _ => FallbackBehavior::CurrentReplicasIfLower,
            },
        });
    }
    if random.bool() {
        let up = rules(random, Rules::up());
        let down = rules(random, Rules::down());
        scaled.behavior = Some(Behavior { up, down });
    }
    scaled
}

/// Now and then an outage, else any load up to far too much.
fn load(random: &mut Rng) -> Result<Depth, Unavailable> {
    if random.u32(0..8) == 0 {
        return Err(Unavailable("an outage".to_owned()));
    }
    let top = [1.0, 100.0, 10_000.0, 1e9][random.usize(0..4)];
    let mut messages = || random.f64() * top;
    Ok(Depth {
        visible: messages(),
        in_flight: messages(),
        delayed: messages(),
    })
}

/// A run: what was there before each change, and the change.
fn run(seed: u64) -> (ScaledObject, Vec<(Time, u32, Change)>) {
    let random = &mut Rng::with_seed(seed);
    let scaled = settings(random);
    let phases = Phases {
        poll: Duration::from_millis(random.u64(0..60_000)),
        sync: Duration::from_millis(random.u64(0..15_000)),
    };
    let mut autoscaler = Autoscaler::with_phases(&scaled, Time::ZERO, phases);
    let mut replicas = random.u32(0..=scaled.max);
    let mut pods = replicas;
    let mut changes = Vec::new();
    for _ in 0..STEPS {
        let now = autoscaler.next_due();
        let workload = Workload { replicas, pods };
        for change in autoscaler.step(now, load(random), workload) {
            let before = std::mem::replace(&mut replicas, change.to);
            changes.push((now, before, change));
        }
        // A Deployment follows, sometimes later.
        if random.u32(0..4) > 0 {
            pods = replicas;
        }
        assert!(
            autoscaler.next_due() > now,
            "seed {seed}: time stands still at {now}"
        );
    }
    (scaled, changes)
}

#[test]
fn replicas_stay_within_their_bounds() {
    let mut total = 0;
    for seed in 0..RUNS {
        let (scaled, changes) = run(seed);
        let lowest = scaled.idle.unwrap_or(scaled.min);
        for (now, before, change) in &changes {
            let of = format!(
                "seed {seed}, {now}: {before} to {}, {}",
                change.to, change.reason
            );
            assert!(change.to <= scaled.max, "above the maximum: {of}");
            assert!(change.to >= lowest, "below the minimum: {of}");
            assert_ne!(change.to, *before, "no change: {of}");
            if change.reason.starts_with("HPA") {
                assert!(
                    change.to >= scaled.min.max(1),
                    "the autoscaler below its minimum: {of}"
                );
                assert!(*before > 0, "the autoscaler woke a workload: {of}");
            } else {
                let known = [lowest, scaled.min, scaled.min.max(1)];
                assert!(known.contains(&change.to), "KEDA chose a number: {of}");
            }
        }
        total += changes.len();
    }
    assert!(
        total > 10_000,
        "only {total} changes: the loads show nothing"
    );
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..RUNS / 10 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}

#[test]
fn a_selection_that_is_disabled_never_moves_that_way() {
    let mut seen = (0, 0);
    for seed in 0..RUNS {
        let (scaled, changes) = run(seed);
        let Some(behavior) = &scaled.behavior else {
            continue;
        };
        for (now, before, change) in &changes {
            // Bounds hold in spite of it.
            let by_metric = change.reason.starts_with("HPA: the metric");
            if !by_metric {
                continue;
            }
            let of = format!("seed {seed}, {now}: {before} to {}", change.to);
            if behavior.up.select == Select::Disabled {
                assert!(change.to < *before, "{of}");
                seen.0 += 1;
            }
            if behavior.down.select == Select::Disabled {
                assert!(change.to > *before, "{of}");
                seen.1 += 1;
            }
        }
    }
    assert!(seen.0 > 0 && seen.1 > 0, "{seen:?}");
}

/// The replicas after each sync, with these recommendations.
fn follow(behavior: &Behavior, wanted: &[u32]) -> Vec<u32> {
    let mut hpa = Hpa::new(1, 1000, Some(behavior.clone()));
    let mut replicas = 1;
    let syncs = wanted.iter().zip(0_u64..);
    let after = syncs.map(|(wanted, sync)| {
        let now = Time::from_millis(sync * 15_001);
        let Ok(rescale) = hpa.sync(now, replicas, || Ok::<_, Infallible>(*wanted));
        replicas = rescale.map_or(replicas, |rescale| rescale.to);
        replicas
    });
    after.collect()
}

/// Rules that no rate limits, with this window.
fn unlimited(window: u64) -> Rules {
    Rules {
        stabilization: Some(seconds(window)),
        policies: vec![Policy {
            change: Step::Percent(1_000_000),
            period: seconds(1),
        }],
        ..Rules::up()
    }
}

#[test]
fn a_longer_window_never_has_fewer_replicas_on_the_way_down_or_more_on_the_way_up() {
    let mut differ = 0;
    for seed in 0..RUNS {
        let random = &mut Rng::with_seed(seed);
        let wanted: Vec<_> = (0..STEPS).map(|_| random.u32(1..=1000)).collect();
        let short = random.u64(0..300);
        let long = random.u64(short..=600);
        let with = |up, down| Behavior {
            up: unlimited(up),
            down: unlimited(down),
        };
        let pairs = follow(&with(0, short), &wanted)
            .into_iter()
            .zip(follow(&with(0, long), &wanted));
        for (short, long) in pairs {
            assert!(long >= short, "seed {seed}: down");
            differ += usize::from(long > short);
        }
        let pairs = follow(&with(short, 0), &wanted)
            .into_iter()
            .zip(follow(&with(long, 0), &wanted));
        for (short, long) in pairs {
            assert!(long <= short, "seed {seed}: up");
            differ += usize::from(long < short);
        }
    }
    assert!(differ > 1000, "only {differ} syncs differ");
}

#[test]
fn more_messages_never_mean_fewer_replicas() {
    for seed in 0..RUNS {
        let random = &mut Rng::with_seed(seed);
        let target = random.u64(1..=1_000_000);
        let pods = random.u32(0..=500);
        let tolerances = Tolerances {
            down: random.f64(),
            up: random.f64(),
        };
        let fewer = random.u64(0..=1_000_000_000);
        let more = fewer + random.u64(0..=1_000_000_000);
        let replicas = |metric| hpa::average_value(metric, target, pods, tolerances);
        assert!(replicas(fewer) <= replicas(more), "seed {seed}");
        let wanted = replicas(fewer);
        let enough = u64::from(wanted) * target >= fewer;
        assert!(
            enough || wanted == pods,
            "seed {seed}: {wanted} are too few"
        );
        let spare = u64::from(wanted.saturating_sub(1)) * target >= fewer && wanted > 0;
        assert!(
            !spare || wanted == pods,
            "seed {seed}: {wanted} are too many"
        );
    }
}

#[test]
fn without_behavior_replicas_are_never_more_than_doubled_beyond_four() {
    for seed in 0..RUNS {
        let (scaled, changes) = run(seed);
        if scaled.behavior.is_some() {
            continue;
        }
        for (now, before, change) in &changes {
            if change.reason.starts_with("HPA: the metric") {
                let most = (before * 2).max(4);
                assert!(
                    change.to <= most,
                    "seed {seed}, {now}: {before} to {}",
                    change.to
                );
            }
        }
    }
}
