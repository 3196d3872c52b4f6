//! A scenario, computed: the controllers of [`crate::autoscaler`], pods and nodes, messages.
//! The same seed gives the same timeline.

use std::time::Duration;

use crate::autoscaler::{Autoscaler, Unavailable, Workload};
use crate::model::kube::{Kube, Turn};
use crate::model::{self, Count, Messages};
use crate::scaled_object::Worker;
use crate::scenario::{Outage, Scenario};
use crate::time::Time;
use crate::timeline::{Depth, Event, EventKind, Sample, Timeline};

/// How far apart samples are.
pub const SAMPLE: Duration = Duration::from_secs(1);
/// Nothing that happens is noticed later than this.
const STEP: Duration = Duration::from_millis(100);
/// Messages are counted anew, one by one, after so many samples.
const RECOUNT: u64 = 60;

/// Why there is no timeline.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// A message was lost, or made: a mistake of the simulator.
    #[error(
        "at {at}: {sent} sent are not {processed} processed + {dead} dead + {visible} visible + {in_flight} in flight: a mistake of the simulator, please report the scenario"
    )]
    Unbalanced {
        /// When.
        at: Time,
        /// Messages sent.
        sent: u64,
        /// Messages settled.
        processed: u64,
        /// Dead letters.
        dead: u64,
        /// Messages that wait.
        visible: u64,
        /// Messages in flight.
        in_flight: u64,
    },
    /// Requests are simulated elsewhere.
    #[error("the scenario has `[http]`: it is about a service, not a queue")]
    Http,
}

/// Runs a scenario with the ScaledObject and the pods of a worker.
///
/// # Errors
///
/// When the scenario is about HTTP, or the messages do not add up.
pub fn run(scenario: &Scenario, worker: &Worker) -> Result<Timeline, SimulateError> {
    if scenario.http.is_some() {
        return Err(SimulateError::Http);
    }
    let mut run = Run::new(scenario, worker);
    run.begin();
    let end = scenario.end();
    let mut now = Time::ZERO;
    let mut samples = 0;
    run.sample(now)?;
    while now < end {
        let next_sample = Time::ZERO + SAMPLE * (samples + 1);
        let next = run.next(now).min(next_sample).min(end);
        now = next;
        run.advance(now);
        if now == next_sample || now == end {
            samples += 1;
            run.sample(now)?;
            if u64::from(samples).is_multiple_of(RECOUNT) || now == end {
                check(now, run.messages.recount())?;
            }
        }
    }
    Ok(run.timeline)
}

struct Run<'a> {
    scenario: &'a Scenario,
    messages: Box<dyn Messages>,
    kube: Kube,
    autoscaler: Autoscaler,
    replicas: u32,
    kills: Vec<crate::scenario::Kill>,
    timeline: Timeline,
    least: u32,
}

impl<'a> Run<'a> {
    fn new(scenario: &'a Scenario, worker: &Worker) -> Self {
        let scaled = &worker.scaled;
        let phases = scenario.phases(scaled.polling_interval);
        let mut kills = scenario.faults.kills.clone();
        kills.sort_by_key(|kill| std::cmp::Reverse(kill.at));
        Self {
            scenario,
            messages: model::of(scenario),
            kube: Kube::new(scenario, &worker.deployment),
            autoscaler: Autoscaler::with_phases(scaled, Time::ZERO, phases),
            replicas: 0,
            kills,
            timeline: Timeline::default(),
            least: scaled.min,
        }
    }

    fn begin(&mut self) {
        self.replicas = self.scenario.pods.initial.unwrap_or(self.least);
        let turns = self.kube.begin(self.replicas);
        self.turn(turns);
    }

    /// When something happens next, or is looked at.
    fn next(&self, now: Time) -> Time {
        let kill = self.kills.last().map(|kill| kill.at);
        let due = [Some(self.autoscaler.next_due()), self.kube.next_due(), kill];
        let due = due.into_iter().flatten().filter(|due| *due > now).min();
        due.map_or(now + STEP, |due| due.min(now + STEP))
    }

    fn advance(&mut self, now: Time) {
        self.messages.advance(now);
        for pod in self.messages.ended() {
            self.kube.remove(pod, now);
        }
        while let Some(kill) = self.kills.pop_if(|kill| kill.at <= now) {
            for pod in self.kube.oldest_ready(kill.pods) {
                self.messages.kill(pod);
                self.kube.remove(pod, now);
                self.event(now, EventKind::Killed { pod });
            }
        }
        if self.autoscaler.next_due() <= now {
            self.control(now);
        }
        let turns = self.kube.advance(now);
        self.turn(turns);
    }

    /// KEDA and the HorizontalPodAutoscaler look, and decide.
    fn control(&mut self, now: Time) {
        let workload = Workload {
            replicas: self.replicas,
            pods: self.kube.population().running,
        };
        let depth = self.seen_depth(now);
        for change in self.autoscaler.step(now, depth, workload) {
            let from = std::mem::replace(&mut self.replicas, change.to);
            let kind = EventKind::Scaled {
                from,
                to: change.to,
                reason: change.reason,
            };
            self.event(now, kind);
            self.kube.scale(change.to);
        }
    }

    fn turn(&mut self, turns: Vec<Turn>) {
        for turn in turns {
            match turn {
                Turn::Ready(pod) => self.messages.start(pod),
                Turn::Stop(pod, deadline) => self.messages.stop(pod, deadline),
            }
        }
    }

    /// The depth of one partition as KEDA gets it: as it was some time ago, or not at all.
    fn seen_depth(&self, now: Time) -> Result<Depth, Unavailable> {
        let during = |outage: &&Outage| (outage.from..outage.to).contains(&now);
        if self
            .scenario
            .faults
            .outages
            .iter()
            .any(|outage| during(&outage))
        {
            return Err(Unavailable("the scenario has an outage".to_owned()));
        }
        let lag = self.scenario.sqs.metrics_lag;
        if lag.is_zero() {
            return Ok(depth(self.messages.count(), 1.0));
        }
        let then = now.since(Time::ZERO + lag);
        let samples = &self.timeline.samples;
        let later = samples.partition_point(|sample| sample.time.since(Time::ZERO) <= then);
        let sample = later.checked_sub(1).and_then(|index| samples.get(index));
        let partitions = f64::from(self.scenario.sqs.partitions);
        Ok(sample.map_or_else(Depth::default, |sample| Depth {
            visible: sample.depth.visible / partitions,
            in_flight: sample.depth.in_flight / partitions,
            delayed: sample.depth.delayed / partitions,
        }))
    }

    fn event(&mut self, time: Time, kind: EventKind) {
        self.timeline.events.push(Event { time, kind });
    }

    fn sample(&mut self, now: Time) -> Result<(), SimulateError> {
        let count = check(now, self.messages.count())?;
        let times = self.scenario.sqs.partitions;
        let pods = self.kube.population();
        let oldest = self.messages.oldest();
        self.timeline.samples.push(Sample {
            time: now,
            sent: count.sent as f64 * f64::from(times),
            processed: count.processed as f64 * f64::from(times),
            depth: depth(count, f64::from(times)),
            oldest_age: oldest.map_or(0.0, |sent| now.since(sent).as_secs_f64()),
            desired: self.replicas * times,
            running: pods.running * times,
            ready: pods.ready * times,
            draining: pods.draining * times,
        });
        Ok(())
    }
}

fn depth(count: Count, times: f64) -> Depth {
    Depth {
        visible: count.visible as f64 * times,
        in_flight: count.in_flight as f64 * times,
        delayed: 0.0,
    }
}

fn check(at: Time, count: Count) -> Result<Count, SimulateError> {
    let Count {
        sent,
        processed,
        dead,
        visible,
        in_flight,
    } = count;
    if count.balanced() {
        return Ok(count);
    }
    Err(SimulateError::Unbalanced {
        at,
        sent,
        processed,
        dead,
        visible,
        in_flight,
    })
}
