//! Which settings of the ScaledObject meet a target at least cost: a coarse grid, then one
//! setting after the other, until none gets better. It knows only what the scenario asks:
//! another load has other settings.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::hpa::Behavior;
use crate::scaled_object::Worker;
use crate::scenario::{Resolution, Scenario};
use crate::simulate::{self, SimulateError};
use crate::summary::Summary;
use crate::trace::Trace;

/// Rounds over all settings; each that helps is followed by another, up to this.
const ROUNDS: usize = 6;
/// Above so many messages they are simulated as cohorts: the search takes many runs.
const SINGLE_MAX: f64 = 20_000.0;
/// Costs so close are the same.
const SAME_COST: f64 = 1e-9;

const QUEUE_LENGTHS: [u64; 18] = [
    1, 2, 3, 5, 8, 12, 20, 30, 50, 80, 120, 200, 300, 500, 800, 1200, 2000, 5000,
];
const MAX_REPLICAS: [u32; 16] = [1, 2, 3, 4, 5, 8, 10, 12, 16, 20, 30, 50, 80, 120, 200, 500];
const STABILIZATIONS: [u64; 7] = [0, 15, 30, 60, 120, 300, 600];
const COOLDOWNS: [u64; 6] = [15, 30, 60, 120, 300, 600];
/// The grid has each second to third of the values.
const GRID_STEP: usize = 3;

/// What is searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Settings {
    /// `queueLength`.
    pub queue_length: u64,
    /// `maxReplicas`.
    pub max: u32,
    /// `behavior.scaleDown.stabilizationWindowSeconds`.
    pub stabilization: Duration,
    /// `cooldownPeriod`.
    pub cooldown: Duration,
}

/// What settings do, over all seeds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trial {
    /// The settings.
    pub settings: Settings,
    /// The 99th percentile of ages, in seconds; the worst of the seeds.
    pub p99: f64,
    /// The mean cost of a run.
    pub cost: f64,
    /// The most pods.
    pub pods: u32,
    /// The most flaps.
    pub flaps: usize,
}

/// What a search found.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// What the chart has now.
    pub now: Trial,
    /// The best: the cheapest that meets the target, else the nearest to it.
    pub best: Trial,
    /// Whether it meets the target.
    pub met: bool,
    /// Settings that were tried.
    pub tried: usize,
}

/// What is wanted, and how it is searched.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Goal {
    /// The 99th percentile of ages, in seconds, at most.
    pub p99_age: f64,
    /// Seeds that the target must be met with: the scenario's and those after it; 1 or more.
    pub seeds: u64,
    /// Replicas that the cluster has room for.
    pub room: u32,
}

/// Searches. `progress` is told each trial that is better than all before.
///
/// # Errors
///
/// As [`simulate::run`].
pub fn search(
    scenario: &Scenario,
    worker: &Worker,
    goal: Goal,
    progress: &mut dyn FnMut(&Trial),
) -> Result<Found, SimulateError> {
    let mut search = Search::new(scenario, worker, goal, progress);
    let now = search.now();
    let current = search.trial(now)?;
    search.best = current;
    search.grid()?;
    for _ in 0..ROUNDS {
        let before = search.best;
        search.round()?;
        if before == search.best {
            break;
        }
    }
    Ok(Found {
        now: current,
        best: search.best,
        met: search.best.p99 <= goal.p99_age,
        tried: search.tried.len(),
    })
}

struct Search<'a> {
    scenario: Scenario,
    worker: &'a Worker,
    goal: Goal,
    best: Trial,
    tried: BTreeMap<Settings, Trial>,
    progress: &'a mut dyn FnMut(&Trial),
}

impl<'a> Search<'a> {
    fn new(
        scenario: &Scenario,
        worker: &'a Worker,
        goal: Goal,
        progress: &'a mut dyn FnMut(&Trial),
    ) -> Self {
        let mut scenario = scenario.clone();
        let share = messages(&scenario.trace, &scenario);
        if scenario.model.messages == Resolution::Auto && share > SINGLE_MAX {
            scenario.model.messages = Resolution::Cohorts;
        }
        let best = Trial {
            settings: Settings {
                queue_length: 1,
                max: 1,
                stabilization: Duration::ZERO,
                cooldown: Duration::ZERO,
            },
            p99: f64::INFINITY,
            cost: f64::INFINITY,
            pods: 0,
            flaps: 0,
        };
        Self {
            scenario,
            worker,
            goal,
            best,
            tried: BTreeMap::new(),
            progress,
        }
    }

    /// What the chart has.
    fn now(&self) -> Settings {
        let scaled = &self.worker.scaled;
        let behavior = scaled.behavior.as_ref();
        let stabilization = behavior.and_then(|behavior| behavior.down.stabilization);
        Settings {
            queue_length: scaled.trigger.queue_length,
            max: scaled.max,
            stabilization: stabilization.unwrap_or(crate::hpa::DOWNSCALE_STABILIZATION),
            cooldown: scaled.cooldown,
        }
    }

    fn grid(&mut self) -> Result<(), SimulateError> {
        let from = self.best.settings;
        for max in self.max_replicas().into_iter().rev().step_by(GRID_STEP) {
            for queue_length in QUEUE_LENGTHS.into_iter().step_by(GRID_STEP) {
                self.consider(Settings {
                    queue_length,
                    max,
                    ..from
                })?;
            }
        }
        Ok(())
    }

    fn round(&mut self) -> Result<(), SimulateError> {
        for max in self.max_replicas() {
            self.consider(Settings {
                max,
                ..self.best.settings
            })?;
        }
        for queue_length in QUEUE_LENGTHS {
            self.consider(Settings {
                queue_length,
                ..self.best.settings
            })?;
        }
        for stabilization in STABILIZATIONS.map(Duration::from_secs) {
            self.consider(Settings {
                stabilization,
                ..self.best.settings
            })?;
        }
        // KEDA takes the last replica only where it may.
        if self.worker.scaled.min == 0 || self.worker.scaled.idle.is_some() {
            for cooldown in COOLDOWNS.map(Duration::from_secs) {
                self.consider(Settings {
                    cooldown,
                    ..self.best.settings
                })?;
            }
        }
        Ok(())
    }

    /// What the room and `minReplicas` leave.
    fn max_replicas(&self) -> Vec<u32> {
        let least = self.worker.scaled.min.max(1);
        let room = self.goal.room.max(least);
        let mut values: Vec<_> = MAX_REPLICAS.into_iter().filter(|max| *max < room).collect();
        values.retain(|max| *max >= least);
        values.push(room);
        values
    }

    fn consider(&mut self, settings: Settings) -> Result<(), SimulateError> {
        if self.tried.contains_key(&settings) {
            return Ok(());
        }
        let trial = self.trial(settings)?;
        if self.better(&trial) {
            (self.progress)(&trial);
            self.best = trial;
        }
        Ok(())
    }

    /// Nearer to the target; of those that meet it, cheaper, then calmer.
    fn better(&self, trial: &Trial) -> bool {
        let over = |trial: &Trial| (trial.p99 - self.goal.p99_age).max(0.0);
        let best = &self.best;
        if over(trial) > 0.0 || over(best) > 0.0 {
            return over(trial) < over(best);
        }
        let saved = best.cost - trial.cost;
        saved > SAME_COST || (saved.abs() <= SAME_COST && trial.flaps < best.flaps)
    }

    fn trial(&mut self, settings: Settings) -> Result<Trial, SimulateError> {
        let worker = with(self.worker, settings);
        let mut trial = Trial {
            settings,
            p99: 0.0,
            cost: 0.0,
            pods: 0,
            flaps: 0,
        };
        let first = self.scenario.seed;
        let seeds = self.goal.seeds.max(1);
        for seed in 0..seeds {
            self.scenario.seed = first.wrapping_add(seed);
            let run = simulate::run(&self.scenario, &worker);
            self.scenario.seed = first;
            let found = Summary::of(&run?, &self.scenario.costs);
            trial.p99 = trial.p99.max(found.age_p99);
            trial.cost += found.cost.total / seeds as f64;
            trial.pods = trial.pods.max(found.max_replicas);
            trial.flaps = trial.flaps.max(found.flaps);
        }
        self.tried.insert(settings, trial);
        Ok(trial)
    }
}

fn messages(trace: &Trace, scenario: &Scenario) -> f64 {
    trace.cumulative(scenario.end()) / f64::from(scenario.sqs.partitions)
}

/// The same consumers with other settings.
fn with(worker: &Worker, settings: Settings) -> Worker {
    let mut worker = worker.clone();
    let scaled = &mut worker.scaled;
    scaled.trigger.queue_length = settings.queue_length;
    scaled.max = settings.max;
    scaled.cooldown = settings.cooldown;
    let behavior = scaled.behavior.get_or_insert_with(Behavior::default);
    behavior.down.stabilization = Some(settings.stabilization);
    worker
}

impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings {
            queue_length,
            max,
            stabilization,
            cooldown,
        } = self.settings;
        write!(
            f,
            "queueLength {queue_length}, maxReplicas {max}, stabilization {} s, cooldown {} s: p99 age {:.1} s, cost {:.4}, {} pods at most, {} flaps",
            stabilization.as_secs(),
            cooldown.as_secs(),
            self.p99,
            self.cost,
            self.pods,
            self.flaps
        )
    }
}

impl Found {
    /// A file of values for the chart, with what was found as comments.
    #[must_use]
    pub fn values(&self, scenario: &Scenario, queue: &str, goal: Goal) -> String {
        let verdict = if self.met {
            "the cheapest found that meets it"
        } else {
            "NOTHING that was tried meets it; this is the nearest"
        };
        let last = scenario.seed.wrapping_add(goal.seeds.max(1) - 1);
        let Settings {
            queue_length,
            max,
            stabilization,
            cooldown,
        } = self.best.settings;
        format!(
            "# Made by `scale-lab tune` for the scenario \"{title}\", seeds {first} to {last}; cost in {currency}.
# Target: 99 of 100 messages settled within {target} s of their send, with at most {room} replicas.
# {tried} settings were tried; {verdict}:
#   {best}
# The chart as it is:
#   {now}
queues:
  \"{queue}\":
    scaling:
      maxReplicas: {max}
      queueLength: {queue_length}
      cooldownPeriod: {cooldown}
      behavior:
        scaleDown:
          stabilizationWindowSeconds: {stabilization}
",
            title = scenario.title.replace(['\n', '\r'], " "),
            first = scenario.seed,
            currency = scenario.costs.currency,
            target = goal.p99_age,
            room = goal.room,
            tried = self.tried,
            best = self.best,
            now = self.now,
            stabilization = stabilization.as_secs(),
            cooldown = cooldown.as_secs(),
        )
    }
}
