//! A scenario with real processes: `gristmill queue` (or another SQS endpoint), senders on
//! the trace, `gristmill up --trigger sqs` processes as pods, and the autoscaler that
//! `simulate` has, which asks the queue as KEDA does. Everything is `speed` times faster than
//! the scenario; what cannot be is in the notes of the outcome. Owns the order of things; its
//! parts know nothing of each other.

mod account;
mod calibrate;
mod clock;
mod endpoint;
mod pods;
mod process;
mod record;
mod senders;
mod sqs;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

pub use account::{Account, Cause, LogError};
pub use process::ProcessError;
pub use sqs::SqsError;

use crate::autoscaler::{Autoscaler, Unavailable, Workload};
use crate::scaled_object::Worker;
use crate::scenario::{Affects, Outage, Scenario};
use crate::time::Time;
use crate::timeline::{Event, EventKind, Sample, Timeline};

use calibrate::Calibration;
use clock::Clock;
use endpoint::Endpoint;
use pods::{Pods, Template};
use process::Plan;
use senders::Sending;
use sqs::Sqs;

/// The most messages of a live run: each is accounted for in memory.
pub const MAX_MESSAGES: u64 = 1_000_000;
/// The most pods of a live run: each is a process.
pub const MAX_PODS: u32 = 50;
/// After the scenario's end, its messages are settled within so long, in real time, or count
/// as left.
const SETTLE: Duration = Duration::from_mins(2);
/// Between samples, in the scenario.
const SAMPLE: Duration = Duration::from_secs(1);
/// What the host needs to stop that no speed shortens: the last long poll of an SQS endpoint
/// takes a second, and three of its grace period are kept for its own end (ARCHITECTURE.md,
/// Durability).
const STOPPING: Duration = Duration::from_secs(4);
/// From the host's own grace period to SIGKILL, at least.
const MARGIN: Duration = Duration::from_secs(2);
/// Handlers may take so long: what limits them is the scenario, not the host's deadline.
const DEADLINE: Duration = Duration::from_mins(5);

/// How to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The host.
    pub gristmill: PathBuf,
    /// The handler, `scale_lab_handler.wasm`.
    pub handler: PathBuf,
    /// An SQS endpoint that checks no signatures; without, `gristmill queue` is started.
    pub endpoint: Option<String>,
    /// Replaces the scenario's `live.speed`.
    pub speed: Option<f64>,
    /// Where logs and the queue are kept; without, a folder that goes with the run.
    pub folder: Option<PathBuf>,
    /// Gets a line for each thing that happens.
    pub report: fn(&str),
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// As `simulate` writes it.
    pub timeline: Timeline,
    /// What became of every message.
    pub account: Account,
    /// The scenario as this machine ran it: with the mean start-up of the run's pods, the
    /// length of a call as it was measured before, and whole seconds where nothing else is
    /// possible. `simulate` of it is what the run is compared with.
    pub scenario: Scenario,
    /// What was different from the scenario, a line each.
    pub notes: Vec<String>,
    /// Share of the machine's processors that were busy, 0 to 1, where the system says so.
    pub busy: Option<f64>,
}

/// Why there was no run.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// A live run has no such thing.
    #[error("`{key}` is only simulated: {hint}, or use `scale-lab simulate`")]
    OnlySimulated {
        /// What the scenario asks for.
        key: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// Too much for one machine.
    #[error("the scenario has {count} {what}, a live run at most {most}: use `scale-lab simulate`")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// So many.
        count: u64,
        /// The bound.
        most: u64,
    },
    /// The speed is out of its bounds.
    #[error("a speed of {0} is not possible: give 1 to 100")]
    Speed(f64),
    /// A file or folder of the run.
    #[error("cannot write `{0}`: {1}")]
    Folder(PathBuf, std::io::Error),
    /// The handler is missing.
    #[error(
        "there is no handler at `{0}`: build it with `cargo build-component --package scale-lab-handler`, or name it with --handler"
    )]
    NoHandler(PathBuf),
    /// A process of the run.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The queue.
    #[error(transparent)]
    Sqs(#[from] SqsError),
    /// The log of a pod.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}

/// Runs a scenario on the workload that the chart renders.
///
/// # Errors
///
/// When the scenario asks for what is only simulated, or a process or the queue fails where
/// the scenario does not make it fail.
pub async fn run(
    scenario: &Scenario,
    worker: &Worker,
    options: &Options,
) -> Result<Outcome, LiveError> {
    let mut scenario = scenario.clone();
    scenario.live.speed = options.speed.unwrap_or(scenario.live.speed);
    refuse(&scenario, worker, options)?;
    let temporary;
    let folder = match &options.folder {
        Some(folder) => folder.as_path(),
        None => {
            let made = tempfile::tempdir();
            temporary = made.map_err(|error| LiveError::Folder(std::env::temp_dir(), error))?;
            temporary.path()
        }
    };
    std::fs::create_dir_all(folder).map_err(|error| LiveError::Folder(folder.to_owned(), error))?;
    let mut endpoint = match &options.endpoint {
        Some(url) => Endpoint::foreign(url),
        None => Endpoint::start(&options.gristmill, folder).await?,
    };
    let queues = Queues::create(&endpoint, &scenario).await?;
    let mut notes = Vec::new();
    let adapted = adapt(&scenario, &mut notes);
    let ran = tokio::select! {
        ran = measured(adapted, worker, options, folder, &mut endpoint, &queues, notes) => ran,
        () = interrupted() => Err(LiveError::Interrupted),
    };
    if !endpoint.is_own() {
        queues.delete(&endpoint).await?;
    }
    endpoint.stop().await?;
    ran
}

/// Returns at Ctrl-C or SIGTERM: every process of the run ends with it.
async fn interrupted() {
    let terminate = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => terminate.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate => {}
    }
}

/// Calibrates, then runs.
async fn measured(
    mut scenario: Scenario,
    worker: &Worker,
    options: &Options,
    folder: &Path,
    endpoint: &mut Endpoint,
    queues: &Queues,
    mut notes: Vec<String>,
) -> Result<Outcome, LiveError> {
    let sqs = Sqs::new(&endpoint.url);
    let clock = Clock::start(scenario.live.speed);
    let trial = template(&scenario, worker, options, folder, "trial", &queues.trial)?;
    let calibration =
        calibrate::measure(&trial, &sqs, &queues.trial, &scenario.consumer, &clock).await?;
    calibrated(&mut scenario, &clock, calibration, &mut notes);
    (options.report)(&format!(
        "calibrated: a process starts in {:.0} ms, a call takes {:.1} ms",
        calibration.process_start.as_secs_f64() * 1e3,
        calibration.call.as_secs_f64() * 1e3
    ));
    let template = Template {
        process_start: calibration.process_start,
        ..template(&scenario, worker, options, folder, "pod", &queues.main)?
    };
    let phases = scenario.phases(worker.scaled.polling_interval);
    let mut run = Run {
        autoscaler: Autoscaler::with_phases(&worker.scaled, Time::ZERO, phases),
        desired: scenario.pods.initial.unwrap_or(worker.scaled.min),
        jitter: fastrand::Rng::with_seed(scenario.seed),
        pods: Pods::new(clock, template.clone()),
        faults: Fault::all(&scenario),
        scenario,
        clock,
        sqs,
        queue: queues.main.clone(),
        endpoint,
        samples: Vec::new(),
        events: Vec::new(),
        outages: Vec::new(),
        report: options.report,
    };
    let before = Busy::now();
    let sending = run.all().await?;
    let busy = before
        .zip(Busy::now())
        .map(|(before, after)| after.since(&before));
    run.settle(&template, &sending, queues, notes, busy).await
}

/// What a live run does not do.
fn refuse(scenario: &Scenario, worker: &Worker, options: &Options) -> Result<(), LiveError> {
    let only = |yes: bool, key, hint| {
        if yes {
            Err(LiveError::OnlySimulated { key, hint })
        } else {
            Ok(())
        }
    };
    let most = |what, count: u64, most: u64| {
        if count > most {
            Err(LiveError::TooMuch { what, count, most })
        } else {
            Ok(())
        }
    };
    let sqs = &scenario.sqs;
    let everybody = |outage: &Outage| outage.affects == Affects::Everybody;
    only(
        scenario.http.is_some(),
        "http",
        "take a scenario with a queue",
    )?;
    only(scenario.nodes.is_some(), "nodes", "leave it out")?;
    only(scenario.random_arrivals, "random_arrivals", "leave it out")?;
    only(
        scenario.consumer.error_share > 0.0,
        "consumer.error_share",
        "use `poison_share`",
    )?;
    only(sqs.partitions > 1, "sqs.partitions", "leave it out")?;
    only(
        sqs.requests_per_second.is_some(),
        "sqs.requests_per_second",
        "leave it out",
    )?;
    only(
        !sqs.metrics_lag.is_zero(),
        "sqs.metrics_lag_seconds",
        "leave it out",
    )?;
    only(
        options.endpoint.is_some() && scenario.faults.outages.iter().any(everybody),
        "faults.outages of everybody",
        "leave out --endpoint",
    )?;
    if !(1.0..=100.0).contains(&scenario.live.speed) {
        return Err(LiveError::Speed(scenario.live.speed));
    }
    if !options.handler.is_file() {
        return Err(LiveError::NoHandler(options.handler.clone()));
    }
    most(
        "messages",
        scenario.trace.total(scenario.end()),
        MAX_MESSAGES,
    )?;
    most(
        "pods (the chart's `maxReplicas`)",
        worker.scaled.max.into(),
        MAX_PODS.into(),
    )
}

/// The scenario with what whole seconds leave of its periods.
fn adapt(scenario: &Scenario, notes: &mut Vec<String>) -> Scenario {
    let mut adapted = scenario.clone();
    let speed = scenario.live.speed;
    let mut whole = |key: &str, value: &mut Duration| {
        let real = value.div_f64(speed).as_secs_f64();
        let possible = Duration::from_secs_f64(real.ceil().max(1.0)).mul_f64(speed);
        if possible != *value {
            notes.push(format!(
                "{key} is {:.0} s instead of {:.0} s: whole seconds at speed {speed}",
                possible.as_secs_f64(),
                value.as_secs_f64()
            ));
            *value = possible;
        }
    };
    whole(
        "sqs.visibility_timeout",
        &mut adapted.sqs.visibility_timeout,
    );
    if scenario.consumer.poison_share > 0.0 {
        whole("consumer.backoff_base", &mut adapted.consumer.backoff_base);
        whole("consumer.backoff_cap", &mut adapted.consumer.backoff_cap);
    }
    if !scenario.faults.outages.is_empty() {
        notes.push(format!(
            "after an outage consumers pause for 0.1 to 10 s as always, which is {:.0} to {:.0} s of the scenario",
            0.1 * speed,
            10.0 * speed
        ));
    }
    notes.push(format!(
        "a stopped pod's last long poll takes up to a second, {speed:.0} s of the scenario"
    ));
    adapted
}

/// The scenario with what was measured.
fn calibrated(
    scenario: &mut Scenario,
    clock: &Clock,
    calibration: Calibration,
    notes: &mut Vec<String>,
) {
    let millis = |duration: Duration| Duration::from_millis(duration.as_millis() as u64);
    scenario.consumer.call = millis(clock.stretched(calibration.call));
    let least = millis(clock.stretched(calibration.process_start));
    let wanted = scenario.pods.schedule + scenario.pods.start;
    if wanted < least {
        notes.push(format!(
            "a pod takes {:.1} s to start instead of {:.1} s: a process does",
            least.as_secs_f64(),
            wanted.as_secs_f64()
        ));
        scenario.pods.start = least.saturating_sub(scenario.pods.schedule);
    }
}

/// The manifest of a pod, and how it is run: with the chart's own memory bound and grace.
fn template(
    scenario: &Scenario,
    worker: &Worker,
    options: &Options,
    folder: &Path,
    name: &str,
    queue: &str,
) -> Result<Template, LiveError> {
    let speed = scenario.live.speed;
    let manifest = folder.join(format!("{name}.toml"));
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let string = |text: &str| toml::Value::from(text).to_string();
    let backoff = |duration: Duration| duration.div_f64(speed).as_secs_f64().ceil().max(1.0);
    let text = format!(
        "spin_manifest_version = 2\n\
         [application]\n\
         name = \"scale-lab\"\n\
         [[trigger.sqs]]\n\
         component = \"handler\"\n\
         queue_url = {}\n\
         [application.trigger.sqs.handler]\n\
         max_concurrency = {}\n\
         timeout_secs = {}\n\
         backoff_base_secs = {}\n\
         backoff_cap_secs = {}\n\
         [component.handler]\n\
         source = {}\n",
        string(queue),
        scenario.consumer.concurrency,
        DEADLINE.as_secs(),
        backoff(scenario.consumer.backoff_base),
        backoff(
            scenario
                .consumer
                .backoff_cap
                .max(scenario.consumer.backoff_base)
        ),
        string(&absolute(&options.handler).to_string_lossy()),
    );
    let wrong = |error| LiveError::Folder(manifest.clone(), error);
    std::fs::write(&manifest, text).map_err(wrong)?;
    let pod = &worker.deployment;
    let service = scenario.consumer.service_time.mean().div_f64(speed);
    let drain = pod.drain.unwrap_or(pod.grace_period);
    let grace = drain.div_f64(speed).max(STOPPING + service * 4);
    let grace = Duration::from_secs_f64(grace.as_secs_f64().ceil());
    let margin = pod.grace_period.saturating_sub(drain).div_f64(speed);
    let mut arguments: Vec<String> = ["up", "--trigger", "sqs", "--no-local-queue"]
        .into_iter()
        .chain(["--admin-listen", "127.0.0.1:0", "--cache-dir", "cache"])
        .map(str::to_owned)
        .collect();
    arguments.extend(["--from".to_owned(), format!("{name}.toml")]);
    arguments.extend(["--state-dir".to_owned(), format!("{name}-{{pod}}")]);
    arguments.extend(["--grace-period".to_owned(), grace.as_secs().to_string()]);
    let memory = pod
        .args
        .iter()
        .position(|one| one == "--max-instance-memory");
    if let Some(memory) = memory.and_then(|at| pod.args.get(at..at + 2)) {
        arguments.extend_from_slice(memory);
    }
    Ok(Template {
        plan: Plan {
            program: absolute(&options.gristmill),
            folder: folder.to_owned(),
            arguments,
            log: folder.join(format!("{name}-{{pod}}.log")),
        },
        grace: grace + margin.max(MARGIN),
        process_start: Duration::ZERO,
    })
}

/// URLs of the queues of a run.
struct Queues {
    main: String,
    dead: String,
    trial: String,
}

impl Queues {
    /// Queues that nobody else has: their names hold the time.
    async fn create(endpoint: &Endpoint, scenario: &Scenario) -> Result<Self, LiveError> {
        let sqs = Sqs::new(&endpoint.url);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let name = format!("scale-lab-{}", now.unwrap_or_default().as_millis());
        let visibility = scenario.sqs.visibility_timeout.div_f64(scenario.live.speed);
        let visibility = visibility.as_secs_f64().ceil().max(1.0) as u64;
        // Dead letters are received once, at the end.
        let hour = 3_600;
        let dead = sqs.create(&format!("{name}-dlq"), hour, None).await?;
        let receives = scenario.sqs.max_receive_count;
        Ok(Self {
            main: sqs
                .create(&name, visibility, Some((&dead, receives)))
                .await?,
            trial: sqs
                .create(&format!("{name}-trial"), visibility, None)
                .await?,
            dead,
        })
    }

    async fn delete(&self, endpoint: &Endpoint) -> Result<(), SqsError> {
        let sqs = Sqs::new(&endpoint.url);
        for queue in [&self.main, &self.trial, &self.dead] {
            sqs.delete(queue).await?;
        }
        Ok(())
    }
}

/// What is done to the run, and when.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Kill(u32),
    Break,
    Repair,
}

impl Fault {
    /// Of a scenario, the last one first.
    fn all(scenario: &Scenario) -> Vec<(Time, Self)> {
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

/// A run under way.
struct Run<'a> {
    scenario: Scenario,
    clock: Clock,
    sqs: Sqs,
    queue: String,
    endpoint: &'a mut Endpoint,
    pods: Pods,
    autoscaler: Autoscaler,
    /// `spec.replicas`.
    desired: u32,
    jitter: fastrand::Rng,
    /// The next one is the last.
    faults: Vec<(Time, Fault)>,
    /// And whether the queue answered.
    samples: Vec<(Sample, bool)>,
    events: Vec<Event>,
    outages: Vec<(Time, Time)>,
    report: fn(&str),
}

impl Run<'_> {
    /// From the first pod to the last message.
    async fn all(&mut self) -> Result<Sending, LiveError> {
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
    async fn settle(
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

/// Time that the processors of this machine were busy, and all of it.
struct Busy {
    busy: u64,
    all: u64,
}

impl Busy {
    /// Where the system has `/proc/stat` (Linux).
    fn now() -> Option<Self> {
        let stat = std::fs::read_to_string("/proc/stat").ok()?;
        let line = stat.lines().next()?.strip_prefix("cpu ")?;
        let times: Vec<u64> = line
            .split_whitespace()
            .filter_map(|time| time.parse().ok())
            .collect();
        // user, nice, system, idle, iowait, …
        let idle: u64 = times.iter().skip(3).take(2).sum();
        let all: u64 = times.iter().take(8).sum();
        Some(Self {
            busy: all.saturating_sub(idle),
            all,
        })
    }

    fn since(&self, before: &Self) -> f64 {
        let all = self.all.saturating_sub(before.all).max(1);
        self.busy.saturating_sub(before.busy) as f64 / all as f64
    }
}

/// How far a run is from the live one: the mean of the difference of their backlogs over the
/// samples of the live one, as a share of its highest backlog. 0 for two empty queues.
#[must_use]
pub fn compare(live: &Timeline, other: &Timeline) -> f64 {
    let peak = live
        .samples
        .iter()
        .map(|sample| sample.depth.backlog())
        .fold(0.0, f64::max);
    let differences = live.samples.iter().filter_map(|sample| {
        let backlog = backlog_at(other, sample.time)?;
        Some((sample.depth.backlog() - backlog).abs())
    });
    let differences: Vec<f64> = differences.collect();
    let mean = differences.iter().sum::<f64>() / differences.len().max(1) as f64;
    if mean == 0.0 { 0.0 } else { mean / peak }
}

/// The backlog at that moment, on the line between two samples; nothing after the last.
fn backlog_at(timeline: &Timeline, time: Time) -> Option<f64> {
    let after = timeline
        .samples
        .partition_point(|sample| sample.time < time);
    let next = timeline.samples.get(after)?;
    let before = after
        .checked_sub(1)
        .and_then(|index| timeline.samples.get(index))
        .unwrap_or(next);
    let span = next.time.since(before.time).as_secs_f64();
    let part = if span > 0.0 {
        time.since(before.time).as_secs_f64() / span
    } else {
        0.0
    };
    let (from, to) = (before.depth.backlog(), next.depth.backlog());
    Some(from + (to - from) * part)
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "exact by construction")]
mod tests {
    use super::*;
    use crate::timeline::Depth;

    fn timeline(backlogs: &[(u64, f64)]) -> Timeline {
        let samples = backlogs.iter().map(|(second, visible)| Sample {
            time: Time::from_millis(second * 1_000),
            depth: Depth {
                visible: *visible,
                ..Depth::default()
            },
            ..Sample::default()
        });
        Timeline {
            samples: samples.collect(),
            events: Vec::new(),
        }
    }

    #[test]
    fn the_error_is_the_mean_difference_over_the_peak() {
        let live = timeline(&[(0, 0.0), (10, 100.0), (20, 0.0), (30, 0.0)]);
        assert_eq!(compare(&live, &live), 0.0);
        // Samples at other moments are on the same lines.
        let finer = timeline(&[
            (0, 0.0),
            (5, 50.0),
            (10, 100.0),
            (15, 50.0),
            (20, 0.0),
            (30, 0.0),
        ]);
        assert_eq!(compare(&live, &finer), 0.0);
        let higher = timeline(&[(0, 10.0), (10, 110.0), (20, 10.0), (30, 10.0)]);
        assert!((compare(&live, &higher) - 0.1).abs() < 1e-9);
        // What the other does not cover does not count.
        let shorter = timeline(&[(0, 20.0), (10, 100.0)]);
        assert!((compare(&live, &shorter) - 0.1).abs() < 1e-9);
        assert!(compare(&timeline(&[(0, 0.0)]), &higher).is_infinite());
        assert_eq!(compare(&timeline(&[(0, 0.0)]), &timeline(&[(0, 0.0)])), 0.0);
    }
}
