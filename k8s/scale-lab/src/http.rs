//! Requests instead of messages: a service whose pods a HorizontalPodAutoscaler scales by CPU.
//!
//! Requests go to the pods that are ready as these have CPU for them, the oldest first; who
//! waits longer than the timeout gives up. The metrics server reads each pod's CPU every
//! [`SCRAPE`] and knows a pod after two readings (its documentation, "How CPU usage is
//! calculated"). In the timeline, requests are messages: those given up are neither processed
//! nor in the queue.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::autoscaler::SYNC_PERIOD;
use crate::hpa::{self, CpuPod, CpuUsage, Hpa, NoCpu, Phase};
use crate::model::kube::{Kube, Stage, Turn};
use crate::model::{Arrivals, Carry, PodId};
use crate::scaled_object::CpuScaled;
use crate::scenario::{Http, Scenario};
use crate::simulate::SAMPLE;
use crate::time::Time;
use crate::timeline::{Depth, Event, EventKind, Sample, Timeline};

/// How often the metrics server reads: its `--metric-resolution`.
pub const SCRAPE: Duration = Duration::from_secs(15);
/// Length of a tick.
const TICK: Duration = Duration::from_millis(20);

/// Why there is no timeline.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Nothing says what a request costs.
    #[error("the scenario has no `[http]`: give `http.cpu_seconds`")]
    NoHttp,
}

/// Runs a scenario with `[http]` against a service.
///
/// # Errors
///
/// When the scenario has no `[http]`.
pub fn run(scenario: &Scenario, service: &CpuScaled) -> Result<Timeline, HttpError> {
    let http = scenario.http.as_ref().ok_or(HttpError::NoHttp)?;
    let mut run = Run::new(scenario, http, service);
    let (mut now, mut next_sample) = (Time::ZERO, Time::ZERO);
    run.begin();
    while now < scenario.end() {
        run.tick(now);
        if now >= next_sample {
            run.sample(now);
            next_sample = next_sample + SAMPLE;
        }
        now = now + TICK;
    }
    run.tick(scenario.end());
    run.sample(scenario.end());
    Ok(run.timeline)
}

/// What the metrics server knows of a pod.
#[derive(Clone, Copy, Debug, Default)]
struct Meter {
    /// Core-seconds used since it works.
    used: f64,
    /// The same at the last reading.
    read: Option<f64>,
    usage: Option<CpuUsage>,
    /// When it became ready.
    ready: Time,
}

struct Run<'a> {
    scenario: &'a Scenario,
    http: &'a Http,
    service: &'a CpuScaled,
    arrivals: Arrivals,
    kube: Kube,
    hpa: Hpa,
    replicas: u32,
    /// Requests that wait, with when they came.
    waiting: VecDeque<(Time, u64)>,
    waits: u64,
    sent: u64,
    answered: u64,
    meters: BTreeMap<PodId, Meter>,
    /// Requests that a pod answers in a tick.
    rate: f64,
    carry: Carry,
    next_sync: Time,
    next_scrape: Time,
    kills: Vec<crate::scenario::Kill>,
    timeline: Timeline,
}

impl<'a> Run<'a> {
    fn new(scenario: &'a Scenario, http: &'a Http, service: &'a CpuScaled) -> Self {
        let limit = service.deployment.cpu_limit_millis;
        let cores = limit.map_or(http.cores, |millis| (millis as f64 / 1e3).min(http.cores));
        let phases = scenario.phases(SCRAPE);
        let mut kills = scenario.faults.kills.clone();
        kills.sort_by_key(|kill| std::cmp::Reverse(kill.at));
        Self {
            scenario,
            http,
            service,
            arrivals: Arrivals::new(scenario),
            kube: Kube::behind_probes(scenario, &service.deployment),
            hpa: Hpa::new(service.min, service.max, service.behavior.clone()),
            replicas: 0,
            waiting: VecDeque::new(),
            waits: 0,
            sent: 0,
            answered: 0,
            meters: BTreeMap::new(),
            rate: cores / http.cpu.as_secs_f64() * TICK.as_secs_f64(),
            carry: Carry::new(1.0),
            next_sync: Time::ZERO + phases.sync,
            next_scrape: Time::ZERO + phases.poll,
            kills,
            timeline: Timeline::default(),
        }
    }

    fn begin(&mut self) {
        self.replicas = self.scenario.pods.initial.unwrap_or(self.service.min);
        let turns = self.kube.begin(self.replicas);
        self.turn(turns, Time::ZERO);
    }

    fn tick(&mut self, now: Time) {
        while let Some(kill) = self.kills.pop_if(|kill| kill.at <= now) {
            for pod in self.kube.oldest_ready(kill.pods) {
                self.meters.remove(&pod);
                self.kube.remove(pod, now);
                self.event(now, EventKind::Killed { pod });
            }
        }
        let arrived = self.arrivals.take(now);
        if arrived > 0 {
            self.sent += arrived;
            self.waits += arrived;
            self.waiting.push_back((now, arrived));
        }
        self.answer();
        self.give_up(now);
        if self.next_scrape <= now {
            self.scrape(now);
            self.next_scrape = self.next_scrape + SCRAPE;
        }
        if self.next_sync <= now {
            self.sync(now);
            self.next_sync = self.next_sync + SYNC_PERIOD;
        }
        let turns = self.kube.advance(now);
        self.turn(turns, now);
    }

    fn turn(&mut self, turns: Vec<Turn>, now: Time) {
        for turn in turns {
            match turn {
                Turn::Ready(pod) => {
                    self.meters.insert(
                        pod,
                        Meter {
                            ready: now,
                            ..Meter::default()
                        },
                    );
                }
                // What it has is answered within a tick or so.
                Turn::Stop(pod, _) => {
                    self.meters.remove(&pod);
                    self.kube.remove(pod, now);
                }
            }
        }
    }

    fn answer(&mut self) {
        let pods = self.meters.len();
        if pods == 0 {
            return;
        }
        let most = self.carry.take_of(self.rate * pods as f64);
        let mut left = most.min(self.waits);
        // What is not used is lost.
        let answered = left;
        while left > 0
            && let Some((_, first)) = self.waiting.front_mut()
        {
            let some = left.min(*first);
            *first -= some;
            left -= some;
            if *first == 0 {
                self.waiting.pop_front();
            }
        }
        self.waits -= answered;
        self.answered += answered;
        let each = answered as f64 * self.http.cpu.as_secs_f64() / pods as f64;
        for meter in self.meters.values_mut() {
            meter.used += each;
        }
    }

    fn give_up(&mut self, now: Time) {
        while let Some((came, requests)) = self.waiting.front()
            && now.since(*came) > self.http.timeout
        {
            self.waits -= requests;
            self.waiting.pop_front();
        }
    }

    fn scrape(&mut self, now: Time) {
        for meter in self.meters.values_mut() {
            if let Some(read) = meter.read {
                let millis = (meter.used - read) / SCRAPE.as_secs_f64() * 1e3;
                meter.usage = Some(CpuUsage {
                    millis: millis.round() as u64,
                    at: now,
                    window: SCRAPE,
                });
            }
            meter.read = Some(meter.used);
        }
    }

    fn sync(&mut self, now: Time) {
        let request_millis = self.service.deployment.cpu_request_millis;
        let pods: Vec<_> = self
            .kube
            .alive()
            .map(|(id, pod)| {
                let meter = self.meters.get(&id);
                CpuPod {
                    phase: match pod.stage {
                        Stage::Pending => Phase::Pending,
                        Stage::Starting(_) | Stage::Ready(_) => Phase::Running,
                        Stage::Terminating(_) | Stage::Gone => Phase::Gone,
                    },
                    ready: meter.is_some(),
                    started: pod.started,
                    turned: meter.map_or(pod.started, |meter| meter.ready),
                    usage: meter.and_then(|meter| meter.usage),
                    request_millis,
                }
            })
            .collect();
        let (replicas, target) = (self.replicas, self.service.cpu_utilization);
        let tolerances = self.hpa.tolerances();
        let rescale: Result<_, NoCpu> = self.hpa.sync(now, replicas, || {
            hpa::cpu_utilization(now, replicas, &pods, target, tolerances)
        });
        // Without metrics it holds.
        if let Ok(Some(rescale)) = rescale {
            let from = std::mem::replace(&mut self.replicas, rescale.to);
            let reason = format!("HPA: {}", rescale.reason);
            self.event(
                now,
                EventKind::Scaled {
                    from,
                    to: rescale.to,
                    reason,
                },
            );
            self.kube.scale(rescale.to);
        }
    }

    fn event(&mut self, time: Time, kind: EventKind) {
        self.timeline.events.push(Event { time, kind });
    }

    fn sample(&mut self, now: Time) {
        let pods = self.kube.population();
        let oldest = self
            .waiting
            .front()
            .map(|(came, _)| now.since(*came).as_secs_f64());
        self.timeline.samples.push(Sample {
            time: now,
            sent: self.sent as f64,
            processed: self.answered as f64,
            depth: Depth {
                visible: self.waits as f64,
                ..Depth::default()
            },
            oldest_age: oldest.unwrap_or(0.0),
            desired: self.replicas,
            running: pods.running,
            ready: pods.ready,
            draining: pods.draining,
        });
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::scaled_object::Pod;
    use crate::summary::Summary;

    /// 0.1 cores requested, one at most, 70 % wanted: 10 ms a request are 100 requests/s for a
    /// pod at most, and 7 at the target.
    fn service(min: u32, max: u32) -> CpuScaled {
        CpuScaled {
            name: "counter".to_owned(),
            min,
            max,
            cpu_utilization: 70,
            behavior: None,
            deployment: Pod {
                replicas: None,
                grace_period: Duration::from_secs(30),
                pre_stop: Duration::ZERO,
                drain: None,
                min_ready: Duration::ZERO,
                startup: None,
                readiness: None,
                liveness: None,
                cpu_request_millis: 100,
                cpu_limit_millis: Some(1000),
                memory_request_bytes: 0,
                memory_limit_bytes: None,
                one_per_node: false,
                args: Vec::new(),
            },
        }
    }

    fn simulate(trace: &str, service: &CpuScaled) -> Timeline {
        let text =
            format!("duration_seconds = 1200\ntrace = {trace}\nhttp = {{ cpu_seconds = 0.01 }}");
        run(&Scenario::parse(&text, Path::new(".")).unwrap(), service).unwrap()
    }

    /// The load settles at load × CPU ÷ (request × target), rounded up.
    #[test]
    fn replicas_settle_where_the_arithmetic_says() {
        for (rate, replicas) in [(5.0_f64, 1), (20.0, 3), (48.0, 7), (69.0, 10), (1000.0, 12)] {
            let trace = format!("{{ kind = 'constant', rate = {rate:.1} }}");
            let timeline = simulate(&trace, &service(1, 12));
            let last = timeline.samples.last().unwrap();
            // Within the tolerance of a tenth it holds.
            let least = (rate / 7.0 / 1.1).ceil().min(12.0) as u32;
            assert!(
                (least..=replicas).contains(&last.desired),
                "{rate}: {}",
                last.desired
            );
            assert_eq!(last.desired, last.ready);
        }
    }

    #[test]
    fn requests_add_up_and_nobody_waits_longer_than_the_timeout() {
        let trace =
            "{ kind = 'step', before = 10, after = 600, at_seconds = 300, until_seconds = 700 }";
        let timeline = simulate(trace, &service(1, 4));
        for sample in &timeline.samples {
            assert!(sample.oldest_age <= 10.1, "{}", sample.oldest_age);
            assert!(sample.sent >= sample.processed + sample.depth.visible);
        }
        let found = Summary::of(&timeline, &crate::scenario::Costs::default());
        // Four pods answer 400 of 600.
        assert!((found.dead / 80_000.0 - 1.0).abs() < 0.1, "{}", found.dead);
        assert!(found.left < 1.0);
        // Down again, after five minutes.
        assert!(timeline.samples.last().unwrap().desired <= 2);
    }

    #[test]
    fn the_same_seed_gives_the_same_run() {
        let trace = "{ kind = 'diurnal', low = 1, high = 90, period_seconds = 600 }";
        assert_eq!(
            simulate(trace, &service(1, 20)),
            simulate(trace, &service(1, 20))
        );
    }
}
