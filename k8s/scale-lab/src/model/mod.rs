//! The messages of one queue and the pods that consume them, twice: one by one
//! ([`single`]), or as cohorts of a tick ([`cohorts`]). Both count in whole numbers and
//! know nothing of controllers, nodes and start-up.
//!
//! Of a message: it is handed out by a receive, handled, and settled when the delete reaches
//! the queue, one service time and one call later. Its place in the pod is free for the next
//! one after another call. A message whose pod is lost stays hidden until its lease ends: a
//! visibility timeout after the last heartbeat, which comes each half of it (docs/queues.md,
//! Lease). Messages are handed out in the order in which they became visible, as the embedded
//! queue does.

pub(crate) mod cohorts;
pub(crate) mod kube;
pub(crate) mod single;

use std::time::Duration;

use crate::scenario::{Affects, Outage, Resolution, Scenario};
use crate::time::Time;
use crate::trace::Trace;

/// Messages that are simulated one by one at most, where the scenario leaves it open.
pub(crate) const SINGLE_MAX: f64 = 1e6;

/// One pod: the order of starts.
pub(crate) type PodId = usize;

/// What is where, in messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    /// Sent since the start.
    pub(crate) sent: u64,
    /// Settled since the start.
    pub(crate) processed: u64,
    /// In the dead-letter queue.
    pub(crate) dead: u64,
    /// Waiting.
    pub(crate) visible: u64,
    /// Handed out, or hidden after that.
    pub(crate) in_flight: u64,
}

impl Count {
    /// Whether every message is somewhere, and once.
    pub(crate) fn balanced(self) -> bool {
        self.sent == self.processed + self.dead + self.visible + self.in_flight
    }
}

/// A queue and its consumers. Every moment given is no earlier than the last.
pub(crate) trait Messages {
    /// Everything that happens until then.
    fn advance(&mut self, to: Time);
    /// A pod consumes from now on.
    fn start(&mut self, pod: PodId);
    /// A pod receives nothing more, and is cut off at `deadline`.
    fn stop(&mut self, pod: PodId, deadline: Time);
    /// A pod is gone.
    fn kill(&mut self, pod: PodId);
    /// Stopped pods that have ended since the last call.
    fn ended(&mut self) -> Vec<PodId>;
    /// What is where, as it was counted on the way.
    fn count(&self) -> Count;
    /// What is where, every message counted anew.
    fn recount(&self) -> Count;
    /// When the oldest message was sent that is neither settled nor dead.
    fn oldest(&self) -> Option<Time>;
}

/// The model for a scenario.
pub(crate) fn of(scenario: &Scenario) -> Box<dyn Messages> {
    let share = scenario.trace.cumulative(scenario.end()) / f64::from(scenario.sqs.partitions);
    match scenario.model.messages {
        Resolution::Auto if share <= SINGLE_MAX => Box::new(single::Single::new(scenario)),
        Resolution::Single => Box::new(single::Single::new(scenario)),
        Resolution::Auto | Resolution::Cohorts => Box::new(cohorts::Cohorts::new(scenario)),
    }
}

/// The trace of one partition, as whole messages. While the queue does not answer, senders
/// keep theirs.
#[derive(Clone, Debug)]
pub(crate) struct Arrivals {
    trace: Trace,
    partitions: f64,
    outages: Vec<Outage>,
    end: Time,
    sent: u64,
    /// With random arrivals: where on the integral of the rate the next message is.
    random: Option<(fastrand::Rng, f64)>,
}

impl Arrivals {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let random = scenario.random_arrivals.then(|| {
            let mut rng = fastrand::Rng::with_seed(scenario.seed ^ 0x0061_7272_6976_616c);
            let first = exponential(&mut rng);
            (rng, first)
        });
        Self {
            trace: scenario.trace.clone(),
            partitions: f64::from(scenario.sqs.partitions),
            outages: outages(scenario),
            end: scenario.end(),
            sent: 0,
            random,
        }
    }

    /// Takes the messages that are sent until then.
    pub(crate) fn take(&mut self, now: Time) -> u64 {
        if outage_at(&self.outages, now).is_some() {
            return 0;
        }
        let integral = self.integral(now);
        let taken = match &mut self.random {
            None => whole(integral).saturating_sub(self.sent),
            Some((rng, next)) => {
                let mut taken = 0;
                // Many at once: the normal distribution is close enough, and quick.
                let many = integral - *next;
                if many > 1000.0 {
                    let drawn = (many + normal(rng) * many.sqrt()).max(0.0).floor();
                    taken = 1 + drawn as u64;
                    *next = integral + exponential(rng);
                }
                while *next <= integral {
                    taken += 1;
                    *next += exponential(rng);
                }
                taken
            }
        };
        self.sent += taken;
        taken
    }

    /// When the next message is sent, to the millisecond; nothing at the end or later.
    fn next(&self, now: Time) -> Option<Time> {
        let wanted = match &self.random {
            None => self.sent as f64 + 1.0,
            Some((_, next)) => *next,
        };
        let there = |at: Time| match self.random {
            None => whole(self.integral(at)) as f64 >= wanted,
            Some(_) => self.integral(at) >= wanted,
        };
        let (mut early, mut late) = (now.millis(), now.millis() + 1);
        while !there(Time::from_millis(late)) {
            if late >= self.end.millis() {
                return None;
            }
            early = late;
            late = (late + 2 * (late - now.millis())).min(self.end.millis());
        }
        while early + 1 < late {
            let middle = u64::midpoint(early, late);
            if there(Time::from_millis(middle)) {
                late = middle;
            } else {
                early = middle;
            }
        }
        let at = Time::from_millis(late);
        Some(outage_at(&self.outages, at).map_or(at, |outage| outage.to))
    }

    fn integral(&self, at: Time) -> f64 {
        self.trace.cumulative(at) / self.partitions
    }
}

/// Takes a share of whole numbers; what it rounds off comes with the next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Carry {
    share: f64,
    rest: f64,
}

impl Carry {
    pub(crate) const fn new(share: f64) -> Self {
        Self { share, rest: 0.0 }
    }

    pub(crate) fn take(&mut self, of: u64) -> u64 {
        self.take_of(of as f64).min(of)
    }

    /// The same of a number that is not whole.
    pub(crate) fn take_of(&mut self, of: f64) -> u64 {
        let exact = of.mul_add(self.share, self.rest);
        let taken = (exact + 1e-9).floor();
        self.rest = exact - taken;
        taken as u64
    }
}

/// The floor, where 2.9999999999 is 3: a rate times a time may be a little less than it is.
fn whole(value: f64) -> u64 {
    (value + value.mul_add(1e-12, 1e-9)).floor() as u64
}

/// Times in which the queue does not answer anybody.
pub(crate) fn outages(scenario: &Scenario) -> Vec<Outage> {
    let all = scenario.faults.outages.iter().copied();
    let mut found: Vec<_> = all
        .filter(|outage| outage.affects == Affects::Everybody)
        .collect();
    found.sort_by_key(|outage| outage.from);
    found
}

/// The one that holds now.
pub(crate) fn outage_at(outages: &[Outage], now: Time) -> Option<Outage> {
    outages
        .iter()
        .copied()
        .find(|outage| (outage.from..outage.to).contains(&now))
}

/// When the lease ends of a message that was received at `received` and whose pod was well
/// until `until`; all in the same unit.
fn lease_end(received: u64, until: u64, visibility: u64) -> u64 {
    let half = (visibility / 2).max(1);
    received + until.saturating_sub(received) / half * half + visibility
}

/// The most a message waits after its n-th receive failed (docs/queues.md, Retries).
fn backoff_ceiling(base: Duration, cap: Duration, receives: u32) -> f64 {
    let doubled = base.as_secs_f64() * 2_f64.powi(receives.saturating_sub(1).min(62) as i32);
    doubled.min(cap.as_secs_f64().max(base.as_secs_f64()))
}

/// Exponentially distributed, mean 1.
fn exponential(rng: &mut fastrand::Rng) -> f64 {
    -(1.0 - rng.f64()).ln()
}

/// Normally distributed, mean 0, deviation 1 (Box and Muller).
fn normal(rng: &mut fastrand::Rng) -> f64 {
    let radius = (2.0 * exponential(rng)).sqrt();
    radius * (std::f64::consts::TAU * rng.f64()).cos()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const EVERYTHING: &str = "duration_seconds = 600
        random_arrivals = true
        trace = { kind = 'step', before = 0, after = 60, at_seconds = 2, until_seconds = 240 }
        sqs = { visibility_timeout_seconds = 9, max_receive_count = 4, in_flight_max = 70, requests_per_second = 15 }
        faults.outages = [{ from_seconds = 33, to_seconds = 39 }, { from_seconds = 70, to_seconds = 95 }]
        [consumer]
        concurrency = 7
        poison_share = 0.03
        error_share = 0.1
        backoff_base_seconds = 1
        service_time = { exponential_seconds = 0.9 }";

    /// Whatever happens to pods, at every moment: each message is somewhere, and once; limits
    /// hold; and in the end all are settled or dead.
    #[test]
    fn messages_are_conserved_whatever_happens() {
        for (seed, cohorts) in (0..12).flat_map(|seed| [(seed, false), (seed, true)]) {
            let mut scenario = Scenario::parse(EVERYTHING, Path::new(".")).unwrap();
            scenario.seed = seed;
            let mut model: Box<dyn Messages> = if cohorts {
                Box::new(cohorts::Cohorts::new(&scenario))
            } else {
                Box::new(single::Single::new(&scenario))
            };
            let mut rng = fastrand::Rng::with_seed(seed);
            let (mut consuming, mut stopped, mut pods) = (Vec::new(), 0, 0);
            let mut now = Time::ZERO;
            while now < Time::from_millis(300_000) {
                now = now + Duration::from_millis(rng.u64(0..400));
                model.advance(now);
                stopped -= model.ended().len();
                match rng.u32(0..20) {
                    0 | 1 => {
                        model.start(pods);
                        consuming.push(pods);
                        pods += 1;
                    }
                    2 if !consuming.is_empty() => {
                        let pod = consuming.swap_remove(rng.usize(0..consuming.len()));
                        model.stop(pod, now + Duration::from_millis(rng.u64(0..4000)));
                        stopped += 1;
                    }
                    3 if !consuming.is_empty() => {
                        model.kill(consuming.swap_remove(rng.usize(0..consuming.len())));
                    }
                    _ => {}
                }
                let count = model.count();
                assert!(
                    count.balanced(),
                    "seed {seed}, cohorts {cohorts}, {now}: {count:?}"
                );
                assert_eq!(
                    count,
                    model.recount(),
                    "seed {seed}, cohorts {cohorts}, {now}"
                );
                assert!(count.in_flight <= 70, "seed {seed}, {now}: {count:?}");
            }
            for pod in pods..pods + 20 {
                model.start(pod);
            }
            model.advance(Time::from_millis(3_600_000));
            assert_eq!(stopped, model.ended().len(), "every stopped pod ends");
            let count = model.count();
            assert_eq!(
                count.sent,
                count.processed + count.dead,
                "seed {seed}: {count:?}"
            );
            assert!(count.sent > 10_000 && count.dead > 100, "{count:?}");
            assert_eq!(model.oldest(), None);
        }
    }

    #[test]
    fn leases_end_a_visibility_timeout_after_the_last_heartbeat() {
        for (well_until, end) in [(100, 130), (114, 130), (115, 145), (129, 145), (130, 160)] {
            assert_eq!(
                lease_end(100, well_until, 30),
                end,
                "well until {well_until}"
            );
        }
    }

    /// The table of docs/queues.md, Retries.
    #[test]
    fn back_off_has_the_documented_ceilings() {
        let ceiling = |n| backoff_ceiling(Duration::from_secs(2), Duration::from_mins(15), n);
        let ceilings = [1, 2, 5, 9, 10, 90].map(ceiling);
        assert_eq!(
            ceilings.map(|seconds| seconds as u32),
            [2, 4, 32, 512, 900, 900]
        );
    }

    /// The millisecond in which a message is sent, found and taken, is that of the trace.
    #[test]
    fn arrivals_come_when_the_trace_says() {
        let text = "duration_seconds = 10
            trace = { kind = 'step', before = 0.5, after = 3, at_seconds = 5 }";
        let scenario = Scenario::parse(text, Path::new(".")).unwrap();
        let mut arrivals = Arrivals::new(&scenario);
        let mut found = Vec::new();
        let mut now = Time::ZERO;
        while let Some(next) = arrivals.next(now) {
            now = next;
            found.push((now.millis(), arrivals.take(now)));
        }
        let first = [
            (2000, 1),
            (4000, 1),
            (5167, 1),
            (5500, 1),
            (5834, 1),
            (6167, 1),
        ];
        assert_eq!(found[..6], first);
        assert_eq!(found.last(), Some(&(9834, 1)));
    }
}
