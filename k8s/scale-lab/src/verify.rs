//! The arithmetic proven: cases from the documented behaviour and the sources of KEDA 2.20
//! and Kubernetes 1.35, each with the replicas that must come of it. `scale-lab verify`
//! prints them; each is a test, too. The cases themselves are in `cases`.

mod cases;

use std::fmt;

use crate::autoscaler::{Autoscaler, Phases, SYNC_PERIOD, Unavailable, Workload};
use crate::hpa::{self, CpuPod, Tolerances};
use crate::scaled_object::ScaledObject;
use crate::time::Time;
use crate::timeline::Depth;

pub use cases::all;

/// One case.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it shows.
    pub name: &'static str,
    /// Where that is written: a file and a function, or a page of the documentation.
    pub source: &'static str,
    /// What goes in, and what must come out.
    pub kind: Kind,
}

/// The two metrics that the chart scales by.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Messages of a queue, by KEDA.
    Queue(Box<Queue>),
    /// CPU of pods, by a HorizontalPodAutoscaler.
    Cpu(Cpu),
}

/// A queue over time. KEDA polls first at 0 s, the HorizontalPodAutoscaler syncs first at 15 s.
#[derive(Clone, Debug)]
pub struct Queue {
    /// The settings.
    pub scaled: ScaledObject,
    /// Replicas at the start.
    pub start: u32,
    /// From when on, in seconds, what is seen.
    pub seen: Vec<(u64, Seen)>,
    /// The end, in seconds.
    pub until: u64,
    /// Every change up to then: when, to the second, and the new replicas.
    pub expect: Vec<(u64, u32)>,
}

/// What the controllers see of the world.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Seen {
    /// The queue; `None` while it cannot be asked.
    pub depth: Option<Depth>,
    /// `status.replicas`; `None`: as many as `spec.replicas`, which is where a Deployment
    /// is a moment later.
    pub pods: Option<u32>,
}

/// Pods at one moment, and the replicas recommended for them.
#[derive(Clone, Debug)]
pub struct Cpu {
    /// When that is.
    pub now: Time,
    /// `spec.replicas`.
    pub replicas: u32,
    /// The pods.
    pub pods: Vec<CpuPod>,
    /// `averageUtilization`, in per cent of the request.
    pub target: u32,
    /// What comes out; `None`: no recommendation.
    pub expect: Option<u32>,
}

/// A case that was run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Which one.
    pub name: &'static str,
    /// Where it is from.
    pub source: &'static str,
    /// Whether what came out is what must.
    pub passed: bool,
    /// What had to come out.
    pub expected: String,
    /// What came out.
    pub got: String,
    /// Settings, and what was seen.
    pub inputs: Vec<String>,
    /// Why, change by change.
    pub reasons: Vec<String>,
}

/// All cases, run.
#[derive(Clone, Debug)]
pub struct Report {
    /// In the order of the table.
    pub outcomes: Vec<Outcome>,
    /// Whether inputs and reasons are shown of cases that passed, too.
    pub details: bool,
}

impl Report {
    /// Runs every case whose name contains `filter`.
    #[must_use]
    pub fn of(filter: &str, details: bool) -> Self {
        let chosen = all().into_iter().filter(|case| case.name.contains(filter));
        Self {
            outcomes: chosen.map(|case| case.run()).collect(),
            details,
        }
    }

    /// How many failed.
    #[must_use]
    pub fn failures(&self) -> usize {
        self.outcomes.iter().filter(|one| !one.passed).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |of: fn(&Outcome) -> &str| {
            let widths = self.outcomes.iter().map(|one| of(one).chars().count());
            widths.max().unwrap_or(0)
        };
        let (name, expected) = (width(|one| one.name), width(|one| &one.expected));
        for one in &self.outcomes {
            let verdict = if one.passed { "ok    " } else { "FAILED" };
            let line = format!(
                "{verdict}  {:name$}  {:expected$}  {}",
                one.name, one.expected, one.source
            );
            writeln!(f, "{line}")?;
            if !one.passed {
                writeln!(f, "        got {}", one.got)?;
            }
            if !one.passed || self.details {
                for line in one.inputs.iter().chain(&one.reasons) {
                    writeln!(f, "        {line}")?;
                }
            }
        }
        let count = self.outcomes.len();
        write!(f, "{count} cases, {} failed", self.failures())
    }
}

impl Case {
    /// Runs it.
    #[must_use]
    pub fn run(&self) -> Outcome {
        let (expected, got, inputs, reasons) = match &self.kind {
            Kind::Queue(queue) => {
                let (changes, reasons) = queue.run();
                let expected = steps(queue.start, &queue.expect);
                (
                    expected,
                    steps(queue.start, &changes),
                    queue.inputs(),
                    reasons,
                )
            }
            Kind::Cpu(cpu) => {
                let (got, reasons) = cpu.run();
                let expected = recommended(cpu.replicas, cpu.expect);
                (
                    expected,
                    recommended(cpu.replicas, got),
                    cpu.inputs(),
                    reasons,
                )
            }
        };
        Outcome {
            name: self.name,
            source: self.source,
            passed: expected == got,
            expected,
            got,
            inputs,
            reasons,
        }
    }
}

/// Replicas over time, as in `2, 15 s: 4, 30 s: 8`.
fn steps(start: u32, changes: &[(u64, u32)]) -> String {
    let changes = changes
        .iter()
        .map(|(seconds, to)| format!("{seconds} s: {to}"));
    let all: Vec<_> = [start.to_string()].into_iter().chain(changes).collect();
    all.join(", ")
}

fn recommended(replicas: u32, to: Option<u32>) -> String {
    match to {
        Some(to) => format!("{replicas} to {to}"),
        None => format!("{replicas}, no recommendation"),
    }
}

impl Queue {
    /// The changes, and why each was made.
    fn run(&self) -> (Vec<(u64, u32)>, Vec<String>) {
        let phases = Phases {
            poll: std::time::Duration::ZERO,
            sync: SYNC_PERIOD,
        };
        let mut autoscaler = Autoscaler::with_phases(&self.scaled, Time::ZERO, phases);
        let (mut changes, mut reasons) = (Vec::new(), Vec::new());
        let mut replicas = self.start;
        loop {
            let now = autoscaler.next_due();
            if now > Time::from_millis(self.until * 1000) {
                return (changes, reasons);
            }
            let seen = self.seen(now);
            let depth = seen
                .depth
                .ok_or_else(|| Unavailable("an outage".to_owned()));
            let workload = Workload {
                replicas,
                pods: seen.pods.unwrap_or(replicas),
            };
            for change in autoscaler.step(now, depth, workload) {
                // Syncs drift by a millisecond each.
                changes.push(((now.millis() + 500) / 1000, change.to));
                reasons.push(format!(
                    "{now}: {} to {}, {}",
                    replicas, change.to, change.reason
                ));
                replicas = change.to;
            }
        }
    }

    /// The settings, as a ScaledObject names them, and what is seen from when on.
    fn inputs(&self) -> Vec<String> {
        let ScaledObject { trigger, .. } = &self.scaled;
        let counted = format!(
            "{} messages each, active above {}, in flight {}, delayed {}",
            trigger.queue_length, trigger.activation, trigger.on_in_flight, trigger.on_delayed
        );
        let of = &self.scaled;
        let mut lines = vec![
            format!(
                "replicas {} to {}, idle {:?}; {counted}",
                of.min, of.max, of.idle
            ),
            format!(
                "poll {:?}, cooldown {:?}, at first {:?}; {:?}; {:?}",
                of.polling_interval, of.cooldown, of.initial_cooldown, of.fallback, of.pause
            ),
            format!("behavior {:?}", of.behavior),
        ];
        lines.extend(self.seen.iter().map(|(from, seen)| match seen.depth {
            Some(depth) => format!(
                "from {from} s: {} visible, {} in flight, {} delayed, pods {:?}",
                depth.visible, depth.in_flight, depth.delayed, seen.pods
            ),
            None => format!("from {from} s: the queue cannot be asked"),
        }));
        lines
    }

    fn seen(&self, now: Time) -> Seen {
        let mut past = self.seen.iter().rev();
        let last = past.find(|(from, _)| from * 1000 <= now.millis());
        last.map(|(_, seen)| *seen).unwrap_or_default()
    }
}

impl Cpu {
    fn inputs(&self) -> Vec<String> {
        let target = format!("target {} %, at {}", self.target, self.now);
        let pods = self.pods.iter().map(|pod| format!("{pod:?}"));
        [target].into_iter().chain(pods).collect()
    }

    fn run(&self) -> (Option<u32>, Vec<String>) {
        let tolerances = Tolerances::default();
        let got =
            hpa::cpu_utilization(self.now, self.replicas, &self.pods, self.target, tolerances);
        match got {
            Ok(to) => (Some(to), Vec::new()),
            Err(error) => (None, vec![error.to_string()]),
        }
    }
}
