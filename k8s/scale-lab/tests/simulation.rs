//! The simulator held against what is known without it: closed forms of queueing theory,
//! conservation, its own second model, and a bound on its time.

#![expect(
    clippy::unwrap_used,
    reason = "a test that unwraps fails at the line that was wrong"
)]
#![expect(clippy::float_cmp, reason = "whole numbers, exact as floats")]

use std::path::Path;
use std::time::{Duration, Instant};

use scale_lab::scaled_object::{Pod, ScaledObject, Trigger, Worker};
use scale_lab::scenario::{Costs, Resolution, Scenario};
use scale_lab::simulate::run;
use scale_lab::summary::Summary;
use scale_lab::timeline::{EventKind, Sample, Timeline};

/// Consumers whose replicas stay within `min` and `max`.
fn worker(min: u32, max: u32, queue_length: u64) -> Worker {
    let seconds = Duration::from_secs;
    Worker {
        name: "worker".to_owned(),
        queue: "messages".to_owned(),
        scaled: ScaledObject {
            name: "worker".to_owned(),
            polling_interval: seconds(10),
            initial_cooldown: Duration::ZERO,
            cooldown: seconds(120),
            idle: None,
            min,
            max,
            fallback: None,
            behavior: None,
            pause: scale_lab::scaled_object::Pause::default(),
            trigger: Trigger {
                queue_url: "http://127.0.0.1:9324/000000000000/messages".to_owned(),
                region: "us-east-1".to_owned(),
                endpoint: None,
                queue_length,
                activation: 0,
                on_in_flight: true,
                on_delayed: false,
            },
        },
        deployment: Pod {
            replicas: None,
            grace_period: seconds(50),
            pre_stop: Duration::ZERO,
            drain: Some(seconds(40)),
            min_ready: Duration::ZERO,
            startup: None,
            readiness: None,
            liveness: None,
            cpu_request_millis: 100,
            cpu_limit_millis: None,
            memory_request_bytes: 0,
            memory_limit_bytes: None,
            one_per_node: false,
            args: Vec::new(),
        },
    }
}

fn scenario(text: &str) -> Scenario {
    Scenario::parse(text, Path::new(".")).unwrap()
}

/// The same by each of the two models.
fn by_both(text: &str, worker: &Worker) -> [Timeline; 2] {
    [Resolution::Single, Resolution::Cohorts].map(|messages| {
        let mut scenario = scenario(text);
        scenario.model.messages = messages;
        run(&scenario, worker).unwrap()
    })
}

fn last(timeline: &Timeline) -> Sample {
    *timeline.samples.last().unwrap()
}

/// Mean of the backlog, the first tenth left out.
fn mean_backlog(timeline: &Timeline) -> f64 {
    let samples = &timeline.samples[timeline.samples.len() / 10..];
    samples
        .iter()
        .map(|sample| sample.depth.backlog())
        .sum::<f64>()
        / samples.len() as f64
}

/// Two messages a second, the n-th at n/2; one place, a second each: the n-th is done at n + 0.5.
#[test]
fn one_place_and_a_constant_service_time_are_exact() {
    let text = "duration_seconds = 60
        trace = { kind = 'step', before = 2, after = 0, at_seconds = 30 }
        consumer = { concurrency = 1, call_seconds = 0, service_time = { fixed_seconds = 1 } }";
    for timeline in by_both(text, &worker(1, 1, 5)) {
        for (second, sample) in timeline.samples.iter().enumerate() {
            let second = second as f64;
            let sent = 2.0 * second.min(30.0);
            let processed = (second - 0.5).floor().max(0.0);
            assert_eq!(
                (sample.sent, sample.processed),
                (sent, processed),
                "{second} s"
            );
            assert_eq!(
                sample.depth.in_flight,
                f64::from(u8::from(second > 0.0)),
                "{second} s"
            );
            // The oldest is the next to be done.
            let next_sent = f64::midpoint(processed, 1.0);
            let age = if second > 0.0 {
                second - next_sent
            } else {
                0.0
            };
            assert!(
                (sample.oldest_age - age).abs() < 0.001,
                "{second} s: {}",
                sample.oldest_age
            );
        }
    }
}

/// Messages that each take 0.1 s and calls of 0.02 s: 20 places do 20 / 0.14 s.
#[test]
fn a_pod_settles_what_its_places_allow() {
    let text = "duration_seconds = 100
        trace = { kind = 'constant', rate = 1000 }
        consumer = { concurrency = 20, service_time = { fixed_seconds = 0.1 } }";
    for timeline in by_both(text, &worker(3, 3, 5)) {
        let expected = 3.0 * 20.0 / 0.14 * 100.0;
        let processed = last(&timeline).processed;
        assert!(
            (processed / expected - 1.0).abs() < 0.01,
            "{processed}, not {expected}"
        );
    }
    let capped = text.replace(
        "concurrency = 20",
        "concurrency = 20, max_messages_per_second = 50",
    );
    for timeline in by_both(&capped, &worker(3, 3, 5)) {
        let processed = last(&timeline).processed;
        assert!(
            (processed / 15_000.0 - 1.0).abs() < 0.01,
            "{processed}, not 15000"
        );
    }
}

/// M/M/1 at half load holds ρ/(1−ρ) = 1 message on average; by Little's law each stays
/// 1/(μ−λ) = 0.2 s. M/D/1 holds ρ + ρ²/(2(1−ρ)) = 0.75.
#[test]
fn long_runs_follow_queueing_theory() {
    for (service, backlog) in [("exponential", 1.0), ("fixed", 0.75)] {
        let text = format!(
            "duration_seconds = 40000
            random_arrivals = true
            trace = {{ kind = 'constant', rate = 5 }}
            consumer = {{ concurrency = 1, call_seconds = 0, service_time = {{ {service}_seconds = 0.1 }} }}"
        );
        let timeline = run(&scenario(&text), &worker(1, 1, 5)).unwrap();
        let mean = mean_backlog(&timeline);
        assert!(
            (mean / backlog - 1.0).abs() < 0.05,
            "{service}: {mean}, not {backlog}"
        );
        let sent = last(&timeline).sent;
        assert!((sent / 200_000.0 - 1.0).abs() < 0.01, "{sent}");
    }
}

/// Little's law: what is in the queue is what comes in a second times how long it stays.
#[test]
fn littles_law_holds_over_a_long_run_with_scaling() {
    let text = "duration_seconds = 14400
        random_arrivals = true
        trace = { kind = 'diurnal', low = 5, high = 60, period_seconds = 3600 }
        consumer = { concurrency = 8, service_time = { exponential_seconds = 1 } }";
    for timeline in by_both(text, &worker(1, 12, 10)) {
        let summary = Summary::of(&timeline, &Costs::default());
        let samples = &timeline.samples;
        let backlogs = samples.iter().map(|sample| sample.depth.backlog());
        let mean = backlogs.sum::<f64>() / samples.len() as f64;
        let little = summary.sent / summary.seconds * summary.age_mean;
        assert!((mean / little - 1.0).abs() < 0.02, "{mean}, not {little}");
        assert!(summary.scaled_up > 3 && summary.scaled_down > 3);
    }
}

#[test]
fn no_more_are_in_flight_than_the_queue_allows() {
    let text = "duration_seconds = 60
        trace = { kind = 'constant', rate = 400 }
        sqs = { in_flight_max = 50 }
        consumer = { concurrency = 100, call_seconds = 0, service_time = { fixed_seconds = 1 } }";
    for timeline in by_both(text, &worker(3, 3, 5)) {
        let most = timeline.samples.iter().map(|sample| sample.depth.in_flight);
        assert_eq!(most.fold(0.0, f64::max), 50.0);
        // 50 a second, from the first on.
        let processed = last(&timeline).processed;
        assert!((processed - 59.0 * 50.0).abs() <= 50.0, "{processed}");
    }
}

#[test]
fn requests_are_held_to_the_quota() {
    let text = "duration_seconds = 60
        trace = { kind = 'constant', rate = 90 }
        sqs = { requests_per_second = 20, receive_batch = 5 }
        faults.outages = [{ from_seconds = 10, to_seconds = 30 }]
        consumer = { concurrency = 400, service_time = { fixed_seconds = 0.1 } }";
    for timeline in by_both(text, &worker(3, 3, 5)) {
        // 100 a second: what senders kept for 20 s takes long to be worked off.
        for pair in timeline.samples.windows(2) {
            let settled = pair[1].processed - pair[0].processed;
            // Up to a second's worth was saved up.
            assert!(settled <= 205.0, "{settled} at {}", pair[1].time);
        }
        let (at_30, at_60) = (
            timeline.samples[30].processed,
            timeline.samples[60].processed,
        );
        assert!(at_60 - at_30 <= 31.0 * 100.0, "{}", at_60 - at_30);
        assert!(at_60 - at_30 >= 29.0 * 100.0, "{}", at_60 - at_30);
    }
}

/// A pod is killed with ten messages: they stay hidden until their lease ends, come again, and
/// none is lost.
#[test]
fn messages_of_a_killed_pod_come_again_after_their_lease() {
    let text = "duration_seconds = 80
        trace = { kind = 'spike', messages = 10, at_seconds = 1, over_seconds = 0.5 }
        faults.kills = [{ at_seconds = 20 }]
        sqs = { visibility_timeout_seconds = 30 }
        pods = { initial = 1, schedule_seconds = 0, start_seconds = 5 }
        consumer = { concurrency = 10, call_seconds = 0, service_time = { fixed_seconds = 25 } }";
    for timeline in by_both(text, &worker(1, 1, 500)) {
        let killed = timeline
            .events
            .iter()
            .filter(|event| event.kind == EventKind::Killed { pod: 0 });
        assert_eq!(killed.count(), 1);
        let at = |second: usize| timeline.samples[second];
        assert_eq!((at(21).ready, at(25).ready), (0, 1));
        // Received at 1 to 1.5 s, heartbeats 15 s later: hidden until 46 to 46.5 s.
        assert_eq!(at(45).depth.in_flight, 10.0);
        assert_eq!((at(70).processed, at(80).processed), (0.0, 10.0));
        let settled = timeline
            .samples
            .iter()
            .find(|sample| sample.processed > 0.0)
            .unwrap();
        assert!(
            (71.0..=72.0).contains(&settled.time.seconds()),
            "{}",
            settled.time
        );
    }
}

/// A tenth is poison: it goes to the dead letters after so many receives, the rest is settled.
#[test]
fn poison_ends_as_dead_letters() {
    let text = "duration_seconds = 400
        trace = { kind = 'step', before = 50, after = 0, at_seconds = 100 }
        sqs = { max_receive_count = 3 }
        consumer = { poison_share = 0.1, error_share = 0.5, concurrency = 64 }";
    for timeline in by_both(text, &worker(2, 2, 5)) {
        let summary = Summary::of(&timeline, &Costs::default());
        // One of ten, and of the others one of 2³.
        let expected = 5000.0 * (0.1 + 0.9 * 0.125);
        assert!(
            (summary.dead / expected - 1.0).abs() < 0.08,
            "{}, not {expected}",
            summary.dead
        );
        assert_eq!(summary.left, 0.0);
        assert_eq!(summary.sent, 5000.0);
    }
}

/// During an outage nothing is settled, senders keep their messages, KEDA sees nothing; a
/// message whose lease ended meanwhile comes again.
#[test]
fn an_outage_stops_everything_and_loses_nothing() {
    let text = "duration_seconds = 300
        trace = { kind = 'step', before = 20, after = 0, at_seconds = 200 }
        faults.outages = [{ from_seconds = 50, to_seconds = 150 }]
        consumer = { concurrency = 64, service_time = { fixed_seconds = 2 } }";
    for timeline in by_both(text, &worker(1, 4, 20)) {
        let at = |second: usize| timeline.samples[second];
        assert_eq!(at(51).processed, at(149).processed);
        assert_eq!(at(51).sent, at(149).sent);
        // The leases of what was under way at 50 s ended before 80 s: all of it waits again.
        assert_eq!((at(60).depth.visible, at(149).depth.in_flight), (0.0, 0.0));
        assert_eq!(at(149).depth.visible, at(149).sent - at(149).processed);
        assert_eq!(at(151).sent, 3020.0);
        assert_eq!(last(&timeline).processed, 4000.0);
        assert!(
            !timeline
                .events
                .iter()
                .any(|event| (50.0..150.0).contains(&event.time.seconds()))
        );
    }
}

/// A stopped pod finishes what it can within its grace period; what it cannot comes again.
#[test]
fn a_stopped_pod_drains() {
    let text = |service: u32| {
        format!(
        "duration_seconds = 600
        trace = {{ kind = 'spike', messages = 40, at_seconds = 1, over_seconds = 1 }}
        pods = {{ initial = 4 }}
        consumer = {{ concurrency = 10, call_seconds = 0, service_time = {{ fixed_seconds = {service} }} }}"
    )
    };
    // A queue length of 1000 takes three of four pods away at the first sync after the start
    // of its 300 s window; `behavior` makes it none.
    let mut worker = worker(1, 4, 1000);
    let mut behavior = scale_lab::hpa::Behavior::default();
    behavior.down.stabilization = Some(Duration::ZERO);
    worker.scaled.behavior = Some(behavior);
    for (service, drains) in [(30, true), (90, false)] {
        for timeline in by_both(&text(service), &worker) {
            assert_eq!(last(&timeline).processed, 40.0);
            let draining: Vec<_> = timeline
                .samples
                .iter()
                .filter(|at| at.draining > 0)
                .collect();
            assert!(
                draining
                    .iter()
                    .all(|at| at.draining == 3 && at.desired == 1)
            );
            // Done at 31 to 32 s; or cut off after the 40 s of gristmill less 3.
            let length = if drains { 15..=31 } else { 36..=38 };
            assert!(length.contains(&draining.len()), "{}", draining.len());
        }
    }
}

/// Pods beyond the room of the first node wait for the second, and it goes when it is empty.
#[test]
fn nodes_come_and_go() {
    let text = "duration_seconds = 1500
        trace = { kind = 'step', before = 0, after = 100, at_seconds = 10, until_seconds = 400 }
        nodes = { pods_per_node = 4, max = 2, start_seconds = 60, idle_seconds = 100 }
        pods = { schedule_seconds = 0, image_pull_seconds = 7, start_seconds = 3 }
        consumer = { concurrency = 10, service_time = { fixed_seconds = 1 } }";
    for timeline in by_both(text, &worker(0, 20, 10)) {
        let wanted = timeline
            .samples
            .iter()
            .position(|at| at.desired > 4)
            .unwrap();
        let most: Vec<_> = timeline.samples.iter().map(|at| at.ready).collect();
        // 60 s for the node, 7 for the image, 3 for the start.
        assert_eq!(most[wanted..wanted + 68].iter().max(), Some(&4));
        assert_eq!(most[wanted + 72], 8);
        // Two nodes are all there are.
        assert_eq!(most.iter().max(), Some(&8));
        assert!(timeline.samples.iter().any(|at| at.desired == 20));
        assert_eq!(last(&timeline).running, 0);
    }
}

/// The two models are different code for the same rules.
#[test]
fn cohorts_do_what_single_messages_do() {
    for name in ["step", "spike", "two-n-two"] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("scenarios/{name}.toml"));
        let text = std::fs::read_to_string(file).unwrap();
        let [single, cohorts] = by_both(&text, &worker(0, 10, 40));
        let peak = single
            .samples
            .iter()
            .map(|at| at.depth.backlog())
            .fold(0.0, f64::max);
        let both = single.samples.iter().zip(&cohorts.samples);
        let apart = both.map(|(one, other)| (one.depth.backlog() - other.depth.backlog()).abs());
        let apart = apart.sum::<f64>() / single.samples.len() as f64 / peak;
        assert!(apart < 0.02, "{name}: {apart} of the peak {peak}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let text = "duration_seconds = 600
        random_arrivals = true
        trace = { kind = 'on-off', on = 50, on_seconds = 60, off_seconds = 90 }
        pods = { jitter = 0.5 }
        consumer = { error_share = 0.05, concurrency = 5, service_time = { exponential_seconds = 0.5 } }";
    for messages in [Resolution::Single, Resolution::Cohorts] {
        let with_seed = |seed| {
            let mut scenario = scenario(text);
            scenario.model.messages = messages;
            scenario.seed = seed;
            run(&scenario, &worker(0, 10, 10)).unwrap()
        };
        assert_eq!(with_seed(7), with_seed(7));
        assert_ne!(with_seed(7).samples, with_seed(8).samples);
    }
}

/// Several queues with an equal part of the load each are so many times one.
#[test]
fn partitions_add_up() {
    let text = "duration_seconds = 300
        trace = { kind = 'constant', rate = 300 }
        consumer = { concurrency = 10, service_time = { fixed_seconds = 1 } }";
    let one = run(
        &scenario(&text.replace("300 }", "100 }")),
        &worker(1, 20, 10),
    )
    .unwrap();
    let three = scenario(&format!("{text}\n[sqs]\npartitions = 3"));
    let three = run(&three, &worker(1, 20, 10)).unwrap();
    for (one, three) in one.samples.iter().zip(&three.samples) {
        assert_eq!(one.sent * 3.0, three.sent);
        assert_eq!(one.depth.backlog() * 3.0, three.depth.backlog());
        assert_eq!(one.ready * 3, three.ready);
    }
}

/// What KEDA sees is older by the lag.
#[test]
fn a_lag_of_the_metrics_delays_scaling() {
    let text = |lag: u32| {
        format!(
            "duration_seconds = 200
        trace = {{ kind = 'step', before = 0, after = 20, at_seconds = 50 }}
        sqs = {{ metrics_lag_seconds = {lag} }}"
        )
    };
    let first = |lag| {
        let timeline = run(&scenario(&text(lag)), &worker(0, 5, 5)).unwrap();
        timeline.events[0].time.seconds()
    };
    assert!((first(30) - first(0) - 30.0).abs() <= 10.0);
}

/// An hour of a million messages a second on 500 pods: seconds, not hours. Unoptimized code
/// gets more of them.
#[test]
fn an_hour_of_a_million_messages_a_second_takes_seconds() {
    let text = "duration_seconds = 3600
        trace = { kind = 'diurnal', low = 100_000, high = 1_000_000, period_seconds = 3600 }
        pods = { initial = 500, jitter = 0.2 }
        nodes = { pods_per_node = 10, max = 60 }
        faults.kills = [{ at_seconds = 1800, pods = 50 }]
        consumer = { concurrency = 400, service_time = { fixed_seconds = 0.01 } }";
    let began = Instant::now();
    let timeline = run(&scenario(text), &worker(100, 500, 200)).unwrap();
    let took = began.elapsed();
    assert!(last(&timeline).sent > 1.9e9);
    let bound = if cfg!(debug_assertions) { 60 } else { 10 };
    assert!(took < Duration::from_secs(bound), "{took:?}");
}

/// What `tune` finds meets the target when it is simulated, costs no more than what there is,
/// and is no cheaper than what is known to be needed.
#[test]
fn tuning_finds_settings_that_do_what_it_says() {
    use scale_lab::tune::{Goal, search};
    let text = "duration_seconds = 500
        trace = { kind = 'step', before = 1, after = 20, at_seconds = 60, until_seconds = 180 }
        consumer = { concurrency = 5, service_time = { fixed_seconds = 1 } }";
    let scenario = scenario(text);
    let worker = worker(1, 8, 2);
    let goal = Goal {
        p99_age: 40.0,
        seeds: 2,
        room: 30,
    };
    let mut steps = 0;
    let found = search(&scenario, &worker, goal, &mut |_| steps += 1).unwrap();
    assert!(found.met && steps > 0 && found.best.p99 <= 40.0);
    assert!(
        found.best.cost < found.now.cost * 0.8,
        "{} and {}",
        found.best,
        found.now
    );
    // 20 messages/s are four pods' work.
    assert!(found.best.pods >= 4);

    let mut tuned = worker.clone();
    tuned.scaled.trigger.queue_length = found.best.settings.queue_length;
    tuned.scaled.max = found.best.settings.max;
    tuned.scaled.cooldown = found.best.settings.cooldown;
    let mut behavior = scale_lab::hpa::Behavior::default();
    behavior.down.stabilization = Some(found.best.settings.stabilization);
    tuned.scaled.behavior = Some(behavior);
    let summary = Summary::of(&run(&scenario, &tuned).unwrap(), &scenario.costs);
    assert!((summary.age_p99 - found.best.p99).abs() < 10.0 && summary.age_p99 <= 40.0);

    // Nobody can do it at once: a pod takes seconds to start.
    let never = Goal {
        p99_age: 0.5,
        ..goal
    };
    let found = search(&scenario, &worker, never, &mut |_| ()).unwrap();
    assert!(!found.met);
    let values = found.values(&scenario, "messages", never);
    assert!(values.contains("# ") && values.contains("NOTHING that was tried meets it"));
    let settings = found.best.settings;
    assert!(
        values.contains(&format!("      maxReplicas: {}\n", settings.max)),
        "{values}"
    );
}

/// Every scenario that is in the repository can be read, and says what it is about.
#[test]
fn the_scenarios_of_the_repository_are_good() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut found = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let scenario = Scenario::read(&entry.unwrap().path()).unwrap();
        assert!(!scenario.title.is_empty());
        found += 1;
    }
    assert!(found >= 8, "{found}");
}
