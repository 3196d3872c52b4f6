//! The course of a run: one loop in which controllers decide, pods come and go, faults
//! happen and samples are taken; then the account. Does not know how its parts were made.

use std::time::Duration;

use tokio::task::JoinSet;

use super::clock::Clock;
use super::endpoint::Endpoint;
use super::pods::{Pods, Template};
use super::queues::Queues;
use super::senders::{self, Sending};
use super::sqs::Sqs;
use super::{LiveError, Outcome, account, record};
use crate::autoscaler::{Autoscaler, Unavailable, Workload};
use crate::scenario::{Affects, Outage, Scenario};
use crate::time::Time;
use crate::timeline::{Event, EventKind, Sample, Timeline};

/// After the scenario's end, its messages are settled within so long, in real time, or count
/// as left.
const SETTLE: Duration = Duration::from_mins(2);
/// Between samples, in the scenario.
const SAMPLE: Duration = Duration::from_secs(1);

/// What is done to the run, and when.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    Kill(u32),
    Break,
    Repair,
}

impl Fault {
    /// Of a scenario, the last one first.
    pub(super) fn all(scenario: &Scenario) -> Vec<(Time, Self)> {
        let faults = &scenario.faults;
        let kills = faults
            .kills
            .iter()
            .map(|kill| (kill.at, Self::Kill(kill.pods)));
        let hit = |outage: &&Outage| outage.affects == Affects::Everybody;
        let outages = faults.outages.iter().filter(hit);
        let outages = outages.flat_map(|one| [(one.from, Self::Break), (one.to, Self::Repair)]);
        let mut all: Vec<_> = kills.chain(outages).collect();
        all.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        all
    }
}

/// A run under way: what the loop of [`Self::all`] holds.
pub(super) struct Run<'a> {
    pub(super) scenario: Scenario,
    pub(super) clock: Clock,
    pub(super) sqs: Sqs,
    pub(super) queue: String,
    pub(super) endpoint: &'a mut Endpoint,
    pub(super) pods: Pods,
    pub(super) autoscaler: Autoscaler,
    /// `spec.replicas`.
    pub(super) desired: u32,
    pub(super) jitter: fastrand::Rng,
    /// The next one is the last.
    pub(super) faults: Vec<(Time, Fault)>,
    /// And whether the queue answered.
    pub(super) samples: Vec<(Sample, bool)>,
    pub(super) events: Vec<Event>,
    pub(super) outages: Vec<(Time, Time)>,
    pub(super) report: fn(&str),
}

impl Run<'_> {
    /// From the first pod to the last message.
    pub(super) async fn all(&mut self) -> Result<Sending, LiveError> {
        for _ in 0..self.desired {
            self.pods.start(Duration::ZERO);
        }
        while self.pods.ready() < self.desired {
            self.pods.changed().await?;
        }
        self.clock = Clock::start(self.scenario.live.speed);
        self.pods.set_clock(self.clock);
        let mut sending = JoinSet::new();
        sending.spawn(senders::send_all(
            self.scenario.clone(),
            self.clock,
            self.sqs.clone(),
            self.queue.clone(),
        ));
        let mut sent = None;
        let mut next_sample = Time::ZERO;
        let give_up = self.scenario.end() + self.clock.stretched(SETTLE);
        loop {
            let due = self.autoscaler.next_due();
            let fault = self.faults.last().copied();
            let fault_at = fault.map_or(give_up, |(at, _)| at);
            tokio::select! {
                () = self.clock.sleep_until(due) => self.control(due).await,
                () = self.clock.sleep_until(next_sample) => {
                    let empty = self.sample().await;
                    let over = self.clock.now() >= self.scenario.end();
                    if (empty && over && sent.is_some()) || self.clock.now() >= give_up {
                        break;
                    }
                    next_sample = self.clock.now().max(next_sample + SAMPLE);
                }
                () = self.clock.sleep_until(fault_at), if fault.is_some() => {
                    self.faults.pop();
                    self.harm(fault).await?;
                }
                changed = self.pods.changed() => changed?,
                result = sending.join_next(), if sent.is_none() => {
                    sent = Some(result.and_then(Result::ok).unwrap_or_default());
                }
            }
            self.reconcile();
        }
        Ok(sent.unwrap_or_default())
    }

    /// What KEDA and the HorizontalPodAutoscaler do at that moment.
    async fn control(&mut self, due: Time) {
        let hit = |outage: &&Outage| (outage.from..outage.to).contains(&due);
        let depth = match self.scenario.faults.outages.iter().find(hit) {
            Some(_) => Err(Unavailable("an outage of the scenario".to_owned())),
            None => {
                let depth = self.sqs.depth(&self.queue).await;
                depth.map_err(|error| Unavailable(error.to_string()))
            }
        };
        let workload = Workload {
            replicas: self.desired,
            pods: self.pods.running(),
        };
        for change in self.autoscaler.step(due, depth, workload) {
            let (from, to) = (self.desired, change.to);
            (self.report)(&format!("{due:>10}  {from} → {to}  {}", change.reason));
            self.desired = to;
            let reason = change.reason;
            let kind = EventKind::Scaled { from, to, reason };
            self.events.push(Event { time: due, kind });
        }
    }

    /// Creates or stops pods until there are as many as desired.
    fn reconcile(&mut self) {
        let running = self.pods.running();
        for _ in running..self.desired {
            let after = self.start_up();
            self.pods.start(self.clock.real(after));
        }
        self.pods.stop(running.saturating_sub(self.desired));
    }

    /// How long the next pod takes until it consumes.
    fn start_up(&mut self) -> Duration {
        let (now, pods) = (self.clock.now(), &self.scenario.pods);
        let spread = pods.jitter;
        let mut vary = |length: Duration| {
            length.mul_f64((1.0 + spread * (2.0 * self.jitter.f64() - 1.0)).max(0.0))
        };
        let usual = vary(pods.schedule) + vary(pods.start);
        let slow = self.scenario.faults.slow_starts.iter();
        let slow = slow.filter(|slow| (slow.from..slow.to).contains(&now));
        usual + slow.map(|slow| slow.extra).sum::<Duration>()
    }

    async fn harm(&mut self, fault: Option<(Time, Fault)>) -> Result<(), LiveError> {
        match fault {
            Some((at, Fault::Kill(count))) => {
                for pod in self.pods.kill(count) {
                    (self.report)(&format!("{at:>10}  kill -9 of pod {pod}"));
                    let kind = EventKind::Killed { pod };
                    self.events.push(Event {
                        time: self.clock.now(),
                        kind,
                    });
                }
            }
            Some((at, Fault::Break)) => {
                (self.report)(&format!("{at:>10}  kill -9 of the queue"));
                self.outages
                    .push((self.clock.now(), Time::from_millis(u64::MAX)));
                self.endpoint.break_down().await?;
            }
            Some((at, Fault::Repair)) => {
                self.endpoint.repair().await?;
                (self.report)(&format!("{at:>10}  the queue is back"));
                if let Some(outage) = self.outages.last_mut() {
                    outage.1 = self.clock.now();
                }
            }
            None => {}
        }
        Ok(())
    }

    /// Whether the queue is empty.
    async fn sample(&mut self) -> bool {
        let depth = self.sqs.depth(&self.queue).await.ok();
        let sample = Sample {
            time: self.clock.now(),
            depth: depth.unwrap_or_default(),
            desired: self.desired,
            running: self.pods.running(),
            ready: self.pods.ready(),
            draining: self.pods.draining(),
            ..Sample::default()
        };
        self.samples.push((sample, depth.is_some()));
        depth.is_some_and(|depth| depth.backlog() == 0.0)
    }

    /// Stops everything and draws up the account.
    pub(super) async fn settle(
        mut self,
        template: &Template,
        sending: &Sending,
        queues: &Queues,
        mut notes: Vec<String>,
        busy: Option<f64>,
    ) -> Result<Outcome, LiveError> {
        self.pods.stop(self.pods.running());
        self.pods.gone().await?;
        let left = self.sqs.depth(&self.queue).await?.backlog() as u64;
        let mut dead = Vec::new();
        loop {
            let more = self.sqs.receive(&queues.dead).await?;
            if more.is_empty() {
                break;
            }
            dead.extend(more);
        }
        let mut attempts = account::Attempts::new();
        for pod in 0..self.pods.all.len() {
            let log = template.plan_of(pod).log;
            // Stopped before it was started.
            if log.exists() {
                account::read_log(&log, pod, |at| self.clock.at(at), &mut attempts)?;
            }
        }
        let ends: Vec<_> = self.pods.all.iter().map(|pod| pod.ended).collect();
        let circumstances = account::Circumstances {
            ends: &ends,
            outages: &self.outages,
            speed: self.scenario.live.speed,
        };
        let account = account::draw_up(sending, &attempts, &dead, left, &circumstances);
        self.remarks(sending, busy, &mut notes);
        record::complete(&mut self.samples, sending, &attempts);
        let end = self.scenario.end();
        let samples = self.samples.into_iter().map(|(sample, _)| sample);
        let events = self.events.into_iter().filter(|event| event.time <= end);
        Ok(Outcome {
            timeline: Timeline {
                samples: samples.filter(|sample| sample.time <= end).collect(),
                events: events.collect(),
            },
            account,
            scenario: self.scenario,
            notes,
            busy,
        })
    }

    /// Whether the machine kept up.
    fn remarks(&mut self, sending: &Sending, busy: Option<f64>, notes: &mut Vec<String>) {
        let late = sending.late.as_secs_f64();
        let away = self
            .outages
            .iter()
            .map(|(from, to)| to.since(*from).as_secs_f64());
        if late > 5.0 + away.fold(0.0, f64::max) {
            notes.push(format!(
                "a message was sent {late:.0} s late: senders or the queue were slower than the trace; a lower speed helps"
            ));
        }
        if let Some(busy) = busy {
            let hint = if busy > 0.85 {
                ": they, not service times, may have been the bottleneck; a lower speed helps"
            } else {
                ""
            };
            notes.push(format!(
                "{:.0} % of the processors were busy{hint}",
                busy * 100.0
            ));
        }
        let starts = self.pods.all.iter().filter_map(|pod| {
            let ready = pod.ready?;
            (ready > pod.created).then(|| ready.since(pod.created))
        });
        let starts: Vec<Duration> = starts.collect();
        if let (Some(longest), Ok(count)) = (starts.iter().max(), u32::try_from(starts.len())) {
            let mean = starts.iter().sum::<Duration>() / count;
            let pods = &mut self.scenario.pods;
            notes.push(format!(
                "pods took {:.1} s to consume, {:.1} s at most, instead of {:.1} s; simulated with the mean",
                mean.as_secs_f64(),
                longest.as_secs_f64(),
                (pods.schedule + pods.start).as_secs_f64(),
            ));
            // Without what slow starts of the scenario added: the simulator adds them itself.
            if self.scenario.faults.slow_starts.is_empty() {
                pods.start =
                    Duration::from_millis(mean.as_millis() as u64).saturating_sub(pods.schedule);
            }
        }
    }
}
