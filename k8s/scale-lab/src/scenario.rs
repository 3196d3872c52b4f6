//! What a run is about: one TOML file, the same for `simulate`, `tune` and `live`. Every
//! value with its unit, bounds and default; unknown keys are refused.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use crate::autoscaler::{Phases, SYNC_PERIOD};
use crate::chart::Chart;
use crate::time::Time;
use crate::trace::{Trace, TraceError};

/// The longest scenario: a week.
pub const MAX_DURATION: Duration = Duration::from_hours(168);

/// A whole scenario. Its keys are those of the TOML file; lengths and moments are seconds
/// since the start, with parts if need be.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it shows, in a few words; over the plot.
    #[serde(default)]
    pub title: String,
    /// Of everything that varies: jitter, random arrivals and service times, the phases of the
    /// controllers. The same seed gives the same run. 1.
    #[serde(default = "one")]
    pub seed: u64,
    /// `duration_seconds`: how long it is watched; a second to a week.
    #[serde(rename = "duration_seconds", deserialize_with = "seconds")]
    pub duration: Duration,
    /// What is scaled, and how.
    #[serde(default)]
    pub chart: Chart,
    /// When messages (or requests) are sent.
    pub trace: Trace,
    /// Messages of the trace are sent at random (Poisson) rather than evenly. Only
    /// `simulate` does so. false.
    #[serde(default)]
    pub random_arrivals: bool,
    /// How messages are handled.
    #[serde(default)]
    pub consumer: Consumer,
    /// How pods start.
    #[serde(default)]
    pub pods: Pods,
    /// Where pods run; without it there is always room.
    pub nodes: Option<Nodes>,
    /// What the queue does and allows.
    #[serde(default)]
    pub sqs: Sqs,
    /// What goes wrong.
    #[serde(default)]
    pub faults: Faults,
    /// What things cost.
    #[serde(default)]
    pub costs: Costs,
    /// What only `live` needs.
    #[serde(default)]
    pub live: Live,
    /// Requests instead of messages, to a service that is scaled by CPU.
    pub http: Option<Http>,
    /// How messages are simulated.
    #[serde(default)]
    pub model: Model,
}

/// `[consumer]`: one pod, as `gristmill up --trigger sqs` is.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Consumer {
    /// How long the handler takes for a message. `{ fixed_seconds = 0.1 }`.
    pub service_time: ServiceTime,
    /// Messages handled at once by a pod: `max_concurrency` of docs/queues.md, 1 to 400; 64.
    pub concurrency: u32,
    /// `call_seconds`: how long one call to the queue takes. A message keeps its place among
    /// the `concurrency` for one receive and one delete more than the service time
    /// (docs/queues.md, Receiving). At most 10; 0.02, from some distance.
    #[serde(rename = "call_seconds", deserialize_with = "seconds")]
    pub call: Duration,
    /// What a pod settles at most in a second, however short the service time. 7,171 is what
    /// docs/benchmarks.md measures on two processors where each call takes 20 ms.
    pub max_messages_per_second: f64,
    /// Share of messages that fail each time (a poison), 0 to 1; 0.
    pub poison_share: f64,
    /// Share of calls of the handler that fail, of all other messages, 0 to below 1; 0.
    pub error_share: f64,
    /// `backoff_base_seconds` (`backoff_base_secs` of docs/queues.md): a failed message comes
    /// again after a random time up to this, doubled with each receive; 1 to 39,600; 2.
    #[serde(rename = "backoff_base_seconds", deserialize_with = "seconds")]
    pub backoff_base: Duration,
    /// `backoff_cap_seconds` (`backoff_cap_secs`): up to this at most; 900.
    #[serde(rename = "backoff_cap_seconds", deserialize_with = "seconds")]
    pub backoff_cap: Duration,
}

impl Default for Consumer {
    fn default() -> Self {
        Self {
            service_time: ServiceTime::Fixed(Duration::from_millis(100)),
            concurrency: 64,
            call: Duration::from_millis(20),
            max_messages_per_second: 7171.0,
            poison_share: 0.0,
            error_share: 0.0,
            backoff_base: Duration::from_secs(2),
            backoff_cap: Duration::from_mins(15),
        }
    }
}

/// `consumer.service_time`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub enum ServiceTime {
    /// `{ fixed_seconds = … }`: always the same.
    #[serde(rename = "fixed_seconds", deserialize_with = "seconds")]
    Fixed(Duration),
    /// `{ exponential_seconds = … }`: random, with this mean.
    #[serde(rename = "exponential_seconds", deserialize_with = "seconds")]
    Exponential(Duration),
}

impl ServiceTime {
    /// The mean.
    #[must_use]
    pub const fn mean(self) -> Duration {
        match self {
            Self::Fixed(mean) | Self::Exponential(mean) => mean,
        }
    }
}

/// `[pods]`: from the decision to the first message. Probes, grace periods and requests are
/// the chart's.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pods {
    /// Pods that are there and ready at the start; without, the least the `ScaledObject` allows.
    pub initial: Option<u32>,
    /// `schedule_seconds`: until a pod has its node and its sandbox; 1.
    #[serde(rename = "schedule_seconds", deserialize_with = "seconds")]
    pub schedule: Duration,
    /// `image_pull_seconds`: the image, once for each node (without `[nodes]`: never); 5.
    #[serde(rename = "image_pull_seconds", deserialize_with = "seconds")]
    pub image_pull: Duration,
    /// `start_seconds`: from the start of the container until it consumes; 2.
    #[serde(rename = "start_seconds", deserialize_with = "seconds")]
    pub start: Duration,
    /// The three vary by up to this share to both sides, 0 to 1; 0.
    pub jitter: f64,
}

impl Default for Pods {
    fn default() -> Self {
        Self {
            initial: None,
            schedule: Duration::from_secs(1),
            image_pull: Duration::from_secs(5),
            start: Duration::from_secs(2),
            jitter: 0.0,
        }
    }
}

/// `[nodes]`: machines, which a cluster autoscaler adds when pods find no room and takes away
/// when they are empty.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nodes {
    /// Pods of this kind that fit on one node; 1 or more. One, where the chart says so.
    pub pods_per_node: u32,
    /// Nodes at the start; never fewer. 1.
    #[serde(default = "one_node")]
    pub initial: u32,
    /// The most nodes there can be, 1 to 5,000.
    pub max: u32,
    /// `start_seconds`: from a pod without room until the new node takes it; 60.
    #[serde(
        rename = "start_seconds",
        deserialize_with = "seconds",
        default = "minute"
    )]
    pub start: Duration,
    /// `idle_seconds`: an empty node goes after so long; 600, the cluster autoscaler's default.
    #[serde(
        rename = "idle_seconds",
        deserialize_with = "seconds",
        default = "ten_minutes"
    )]
    pub idle: Duration,
}

/// `[sqs]`: the queue. Limits are those of Amazon SQS, for each of `partitions`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sqs {
    /// `visibility_timeout_seconds`: how long a message of a killed pod stays hidden, from its
    /// last heartbeat; 1 to 43,200; 30.
    #[serde(rename = "visibility_timeout_seconds", deserialize_with = "seconds")]
    pub visibility_timeout: Duration,
    /// `maxReceiveCount` of the redrive policy: after so many receives a message that comes
    /// again goes to the dead-letter queue; 1 to 1,000; 5.
    pub max_receive_count: u32,
    /// Messages that may be in flight at once; 120,000 (SQS quotas, standard and FIFO queues;
    /// 20,000 for FIFO queues until 2024).
    pub in_flight_max: u64,
    /// Calls a second for each action. None for standard queues; FIFO: 300, with high
    /// throughput by region up to 70,000. A trace that needs more to send is refused.
    pub requests_per_second: Option<f64>,
    /// Messages in one call, 1 to 10; 10.
    pub receive_batch: u32,
    /// `metrics_lag_seconds`: how old the numbers are that KEDA gets; SQS says that they settle
    /// within about a minute, the embedded queue's are exact. 0.
    #[serde(rename = "metrics_lag_seconds", deserialize_with = "seconds")]
    pub metrics_lag: Duration,
    /// Queues that the load is divided over evenly, each with consumers and a `ScaledObject` of
    /// its own. One of them is simulated, and the samples are so many times that, the events
    /// are one queue's; 1 to 1,000; 1.
    pub partitions: u32,
}

impl Default for Sqs {
    fn default() -> Self {
        Self {
            visibility_timeout: Duration::from_secs(30),
            max_receive_count: 5,
            in_flight_max: 120_000,
            requests_per_second: None,
            receive_batch: 10,
            metrics_lag: Duration::ZERO,
            partitions: 1,
        }
    }
}

/// `[faults]`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Pods that are killed without a signal they could handle (`kill -9`, a lost node).
    pub kills: Vec<Kill>,
    /// Times in which pods start slowly.
    pub slow_starts: Vec<SlowStart>,
    /// Times in which the queue does not answer.
    pub outages: Vec<Outage>,
}

/// One entry of `faults.kills`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kill {
    /// `at_seconds`: when.
    #[serde(rename = "at_seconds", deserialize_with = "moment")]
    pub at: Time,
    /// How many: the oldest of those that consume. The `ReplicaSet` replaces them. 1.
    #[serde(default = "one_node")]
    pub pods: u32,
}

/// One entry of `faults.slow_starts`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlowStart {
    /// `from_seconds`.
    #[serde(rename = "from_seconds", deserialize_with = "moment")]
    pub from: Time,
    /// `to_seconds`.
    #[serde(rename = "to_seconds", deserialize_with = "moment")]
    pub to: Time,
    /// `extra_seconds`: so much longer takes a pod whose start begins in between.
    #[serde(rename = "extra_seconds", deserialize_with = "seconds")]
    pub extra: Duration,
}

/// One entry of `faults.outages`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outage {
    /// `from_seconds`.
    #[serde(rename = "from_seconds", deserialize_with = "moment")]
    pub from: Time,
    /// `to_seconds`.
    #[serde(rename = "to_seconds", deserialize_with = "moment")]
    pub to: Time,
    /// Whom it hits. `everybody`.
    #[serde(default)]
    pub affects: Affects,
}

/// Whom an outage hits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Affects {
    /// KEDA, consumers and senders, who keep their messages until it is over.
    #[default]
    Everybody,
    /// KEDA alone: a missing permission, a throttled call.
    Keda,
}

/// `[costs]`. Defaults are list prices of AWS in us-east-1, as docs/scaling.md gives them with
/// their date; put in your own.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Costs {
    /// The currency's name; USD.
    pub currency: String,
    /// One pod for an hour, from its creation to its end.
    pub pod_hour: f64,
    /// A million requests to SQS; 0.40 (standard queues, the first 100,000 million a month).
    pub million_requests: f64,
    /// Requests for a message: a send, a receive and a delete in batches of ten are 0.3, a lone
    /// message takes 3. 0.3.
    pub requests_per_message: f64,
    /// `idle_poll_seconds`: a pod that consumes makes one request more in so long, whatever
    /// comes; 20, the long poll.
    #[serde(rename = "idle_poll_seconds", deserialize_with = "seconds")]
    pub idle_poll: Duration,
    /// What a million settled messages cost elsewhere, for instance in DynamoDB; 0.
    pub million_messages: f64,
}

impl Default for Costs {
    fn default() -> Self {
        Self {
            currency: "USD".to_owned(),
            pod_hour: 0.0225,
            million_requests: 0.40,
            requests_per_message: 0.3,
            idle_poll: Duration::from_secs(20),
            million_messages: 0.0,
        }
    }
}

/// `[live]`: how `live` runs it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Live {
    /// So many times faster than the scenario, 1 to 100; 20.
    pub speed: f64,
    /// Senders at once, 1 to 100; 10.
    pub senders: u32,
}

impl Default for Live {
    fn default() -> Self {
        Self {
            speed: 20.0,
            senders: 10,
        }
    }
}

/// `[http]`: the trace is requests/s to `chart.service`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// `cpu_seconds`: of one core, for a request; above 0.
    #[serde(rename = "cpu_seconds", deserialize_with = "seconds")]
    pub cpu: Duration,
    /// `timeout_seconds`: who waits longer gives up; 10.
    #[serde(
        rename = "timeout_seconds",
        deserialize_with = "seconds",
        default = "ten_seconds"
    )]
    pub timeout: Duration,
    /// Cores that a pod can have, where its CPU limit does not say less; 2.
    #[serde(default = "two")]
    pub cores: f64,
}

/// `[model]`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Model {
    /// Whether each message is simulated, or many together.
    pub messages: Resolution,
}

/// `model.messages`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resolution {
    /// `single` up to a million messages, else `cohorts`.
    #[default]
    Auto,
    /// Each message is an event of its own, to the microsecond.
    Single,
    /// Messages of the same tick are one cohort; whole numbers, too.
    Cohorts,
}

/// Why a scenario cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The file does not open.
    #[error("cannot read the scenario `{0}`: {1}")]
    Unreadable(PathBuf, std::io::Error),
    /// Not TOML, or not a scenario.
    #[error("`{file}`: {said}")]
    Parse {
        /// The file.
        file: PathBuf,
        /// What is wrong, and where.
        said: String,
    },
    /// The trace is wrong.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// A number is out of its bounds.
    #[error("`{key}` is {value}: give {low} to {high}")]
    Bound {
        /// Which number.
        key: &'static str,
        /// What it is.
        value: f64,
        /// The least.
        low: f64,
        /// The most.
        high: f64,
    },
    /// Senders alone pass the quota.
    #[error(
        "the trace's peak of {peak} messages/s needs {needed} calls/s to send in each partition, `sqs.requests_per_second` is {quota}: use more `sqs.partitions`, or high throughput"
    )]
    SendQuota {
        /// Of the whole trace.
        peak: f64,
        /// Of one partition.
        needed: f64,
        /// What is allowed.
        quota: f64,
    },
}

impl Scenario {
    /// Reads a file, and the recorded trace it names.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, or something in it is unknown or out of bounds.
    pub fn read(file: &Path) -> Result<Self, ScenarioError> {
        let text = std::fs::read_to_string(file)
            .map_err(|error| ScenarioError::Unreadable(file.to_owned(), error))?;
        let folder = file.parent().unwrap_or(Path::new("."));
        Self::parse(&text, folder).map_err(|error| match error {
            ScenarioError::Parse { said, .. } => ScenarioError::Parse {
                file: file.to_owned(),
                said,
            },
            other => other,
        })
    }

    /// The same from a text; `folder` is where its files are.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    pub fn parse(text: &str, folder: &Path) -> Result<Self, ScenarioError> {
        let mut scenario: Self = toml::from_str(text).map_err(|error| ScenarioError::Parse {
            file: PathBuf::from("scenario"),
            said: error.to_string().trim().replace('\n', " "),
        })?;
        scenario.trace.load(folder)?;
        scenario.chart.resolve(folder);
        scenario.check()?;
        Ok(scenario)
    }

    /// The end.
    #[must_use]
    pub fn end(&self) -> Time {
        Time::ZERO + self.duration
    }

    /// When KEDA polls first and the HorizontalPodAutoscaler syncs first, by the seed: nobody
    /// knows where in their periods the load meets them.
    #[must_use]
    pub fn phases(&self, polling_interval: Duration) -> Phases {
        let mut rng = fastrand::Rng::with_seed(self.seed ^ 0x7068_6173_6573);
        let mut within = |period: Duration| {
            Duration::from_millis(rng.u64(0..u64::try_from(period.as_millis()).unwrap_or(1).max(1)))
        };
        Phases {
            poll: within(polling_interval),
            sync: within(SYNC_PERIOD),
        }
    }

    /// How long a message occupies a place in a pod, on average: service, receive and delete.
    #[must_use]
    pub fn occupancy(&self) -> Duration {
        self.consumer.service_time.mean() + self.consumer.call * 2
    }

    /// What one pod settles at most in a second, and what limits it.
    #[must_use]
    pub fn pod_rate(&self) -> (f64, &'static str) {
        let places = f64::from(self.consumer.concurrency) / self.occupancy().as_secs_f64();
        let (highest, why) = self.highest_rate();
        if places < highest {
            (places, "concurrency")
        } else {
            (highest, why)
        }
    }

    /// The same without the bound of `concurrency`.
    pub(crate) fn highest_rate(&self) -> (f64, &'static str) {
        let consumer = &self.consumer;
        // docs/queues.md, Receiving: up to 16 receives at once, a tenth of the concurrency.
        let calls = f64::from(consumer.concurrency.div_ceil(10).min(16));
        let receives = calls * f64::from(self.sqs.receive_batch) / consumer.call.as_secs_f64();
        if receives < consumer.max_messages_per_second {
            (receives, "receives under way")
        } else {
            (consumer.max_messages_per_second, "max_messages_per_second")
        }
    }

    /// Checks every number.
    ///
    /// # Errors
    ///
    /// When one is out of its bounds.
    pub fn check(&self) -> Result<(), ScenarioError> {
        let mut bounds = vec![
            (
                "duration_seconds",
                secs(self.duration),
                1.0,
                secs(MAX_DURATION),
            ),
            ("live.speed", self.live.speed, 1.0, 100.0),
            ("live.senders", self.live.senders.into(), 1.0, 100.0),
        ];
        self.bounds_of_pods(&mut bounds);
        self.bounds_of_queue(&mut bounds);
        let costs = &self.costs;
        bounds.extend([
            ("costs.pod_hour", costs.pod_hour, 0.0, 1e6),
            ("costs.million_requests", costs.million_requests, 0.0, 1e6),
            (
                "costs.requests_per_message",
                costs.requests_per_message,
                0.0,
                1e3,
            ),
            (
                "costs.idle_poll_seconds",
                secs(costs.idle_poll),
                1e-3,
                3600.0,
            ),
            ("costs.million_messages", costs.million_messages, 0.0, 1e6),
        ]);
        if let Some(http) = &self.http {
            bounds.extend([
                ("http.cpu_seconds", secs(http.cpu), 1e-6, 3600.0),
                ("http.timeout_seconds", secs(http.timeout), 1e-3, 3600.0),
                ("http.cores", http.cores, 1e-3, 1024.0),
            ]);
        }
        for (key, value, low, high) in bounds {
            if !(low..=high).contains(&value) {
                return Err(ScenarioError::Bound {
                    key,
                    value,
                    low,
                    high,
                });
            }
        }
        let peak = self.trace.peak();
        let needed = peak / f64::from(self.sqs.partitions) / f64::from(self.sqs.receive_batch);
        match self.sqs.requests_per_second {
            Some(quota) if needed > quota => Err(ScenarioError::SendQuota {
                peak,
                needed,
                quota,
            }),
            _ => Ok(()),
        }
    }

    fn bounds_of_pods(&self, bounds: &mut Vec<Bound>) {
        let (consumer, pods) = (&self.consumer, &self.pods);
        bounds.extend([
            (
                "consumer.service_time",
                secs(consumer.service_time.mean()),
                0.0,
                43_200.0,
            ),
            (
                "consumer.concurrency",
                consumer.concurrency.into(),
                1.0,
                400.0,
            ),
            ("consumer.call_seconds", secs(consumer.call), 0.0, 10.0),
            (
                "consumer.service_time and two calls",
                secs(self.occupancy()),
                1e-6,
                1e5,
            ),
            (
                "consumer.max_messages_per_second",
                consumer.max_messages_per_second,
                1e-3,
                1e6,
            ),
            ("consumer.poison_share", consumer.poison_share, 0.0, 1.0),
            ("consumer.error_share", consumer.error_share, 0.0, 0.999),
            (
                "consumer.backoff_base_seconds",
                secs(consumer.backoff_base),
                1.0,
                39_600.0,
            ),
            (
                "consumer.backoff_cap_seconds",
                secs(consumer.backoff_cap),
                1.0,
                39_600.0,
            ),
            ("pods.schedule_seconds", secs(pods.schedule), 0.0, 3600.0),
            (
                "pods.image_pull_seconds",
                secs(pods.image_pull),
                0.0,
                3600.0,
            ),
            ("pods.start_seconds", secs(pods.start), 0.0, 3600.0),
            ("pods.jitter", pods.jitter, 0.0, 1.0),
        ]);
        if let Some(nodes) = &self.nodes {
            bounds.extend([
                (
                    "nodes.pods_per_node",
                    nodes.pods_per_node.into(),
                    1.0,
                    10_000.0,
                ),
                ("nodes.max", nodes.max.into(), 1.0, 5_000.0),
                ("nodes.initial", nodes.initial.into(), 0.0, nodes.max.into()),
                ("nodes.start_seconds", secs(nodes.start), 0.0, 86_400.0),
                ("nodes.idle_seconds", secs(nodes.idle), 0.0, 86_400.0),
            ]);
        }
    }

    fn bounds_of_queue(&self, bounds: &mut Vec<Bound>) {
        let sqs = &self.sqs;
        bounds.extend([
            (
                "sqs.visibility_timeout_seconds",
                secs(sqs.visibility_timeout),
                1.0,
                43_200.0,
            ),
            (
                "sqs.max_receive_count",
                sqs.max_receive_count.into(),
                1.0,
                1000.0,
            ),
            ("sqs.in_flight_max", sqs.in_flight_max as f64, 1.0, 1e9),
            (
                "sqs.requests_per_second",
                sqs.requests_per_second.unwrap_or(1.0),
                1.0,
                1e7,
            ),
            ("sqs.receive_batch", sqs.receive_batch.into(), 1.0, 10.0),
            ("sqs.metrics_lag_seconds", secs(sqs.metrics_lag), 0.0, 600.0),
            ("sqs.partitions", sqs.partitions.into(), 1.0, 1000.0),
        ]);
        for outage in &self.faults.outages {
            let length = secs(outage.to - outage.from);
            bounds.push((
                "faults.outages: `to_seconds` less `from_seconds`",
                length,
                1e-3,
                1e6,
            ));
        }
    }
}

/// A key, its value, and the least and the most it may be.
type Bound = (&'static str, f64, f64, f64);

const fn secs(length: Duration) -> f64 {
    length.as_secs_f64()
}

fn seconds<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let value = f64::deserialize(from)?;
    if (0.0..=1e9).contains(&value) {
        Ok(Duration::from_secs_f64(value))
    } else {
        let wrong = format!("{value} is not a number of seconds from 0 to 1e9");
        Err(serde::de::Error::custom(wrong))
    }
}

fn moment<'de, D: Deserializer<'de>>(from: D) -> Result<Time, D::Error> {
    seconds(from).map(|after| Time::ZERO + after)
}

const fn one() -> u64 {
    1
}

const fn one_node() -> u32 {
    1
}

const fn two() -> f64 {
    2.0
}

const fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

const fn minute() -> Duration {
    Duration::from_mins(1)
}

const fn ten_minutes() -> Duration {
    Duration::from_mins(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = "duration_seconds = 60\n[trace]\nkind = 'constant'\nrate = 1\n";

    fn error(text: &str) -> String {
        Scenario::parse(text, Path::new("."))
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn the_least_scenario_has_the_documented_defaults() {
        let scenario = Scenario::parse(LEAST, Path::new(".")).unwrap();
        assert_eq!(scenario.seed, 1);
        assert_eq!(scenario.consumer.concurrency, 64);
        assert_eq!(scenario.sqs.in_flight_max, 120_000);
        assert_eq!(scenario.end().millis(), 60_000);
        assert_eq!(scenario.occupancy(), Duration::from_millis(140));
    }

    #[test]
    fn what_is_unknown_or_out_of_bounds_is_refused_by_name() {
        for (more, said) in [
            ("[consumer]\nconcurrent = 3", "concurrent"),
            (
                "[consumer]\nconcurrency = 401",
                "`consumer.concurrency` is 401: give 1 to 400",
            ),
            (
                "[consumer]\nservice_time = { mean_seconds = 1 }",
                "mean_seconds",
            ),
            (
                "[pods]\nstart_seconds = -1",
                "-1 is not a number of seconds",
            ),
            (
                "[sqs]\nrequests_per_second = 1\nreceive_batch = 10\n[trace2]",
                "trace2",
            ),
            ("[nodes]\nmax = 3", "pods_per_node"),
        ] {
            let error = error(&format!("{LEAST}{more}"));
            assert!(error.contains(said), "{error}");
        }
        let fast = LEAST.replace("rate = 1", "rate = 5000");
        let error = error(&format!("{fast}[sqs]\nrequests_per_second = 300"));
        assert!(error.contains("needs 500 calls/s to send"), "{error}");
    }

    /// The figures of docs/queues.md (Receiving) and docs/benchmarks.md, where each call takes
    /// 20 ms and the handler next to nothing.
    #[test]
    fn a_pod_is_as_fast_as_measured() {
        let pod = |concurrency| {
            let text = format!(
                "{LEAST}[consumer]\nconcurrency = {concurrency}\nservice_time = {{ fixed_seconds = 0.0001 }}"
            );
            Scenario::parse(&text, Path::new(".")).unwrap().pod_rate()
        };
        let (default, limit) = pod(64);
        assert!((1400.0..1600.0).contains(&default), "{default}");
        assert_eq!(limit, "concurrency");
        assert_eq!(pod(400), (7171.0, "max_messages_per_second"));
    }
}
