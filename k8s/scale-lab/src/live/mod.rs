//! A scenario with real processes: `gristmill queue` (or another SQS endpoint), senders on
//! the trace, `gristmill up --trigger sqs` processes as pods, and the autoscaler that
//! `simulate` has, which asks the queue as KEDA does. Everything is `speed` times faster than
//! the scenario; what cannot be is in the notes of the outcome. Owns the order of things; its
//! parts know nothing of each other.

mod account;
mod agreement;
mod busy;
mod calibrate;
mod clock;
mod course;
mod endpoint;
mod pods;
mod process;
mod queues;
mod record;
mod senders;
mod setup;
mod sqs;

use std::path::{Path, PathBuf};

use tokio::signal::unix::{SignalKind, signal};

pub use account::{Account, Cause, LogError};
pub use agreement::compare;
pub use process::ProcessError;
pub use sqs::SqsError;

use crate::autoscaler::Autoscaler;
use crate::scaled_object::Worker;
use crate::scenario::Scenario;
use crate::time::Time;
use crate::timeline::Timeline;

use busy::Busy;
use clock::Clock;
use course::{Fault, Run};
use endpoint::Endpoint;
use pods::{Pods, Template};
use queues::Queues;
use sqs::Sqs;

/// The most messages of a live run: each is accounted for in memory.
pub const MAX_MESSAGES: u64 = 1_000_000;
/// The most pods of a live run: each is a process.
pub const MAX_PODS: u32 = 50;

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
    setup::refuse(&scenario, worker, options)?;
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
    let adapted = setup::adapt(&scenario, &mut notes);
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
    let trial = setup::template(&scenario, worker, options, folder, "trial", &queues.trial)?;
    let calibration =
        calibrate::measure(&trial, &sqs, &queues.trial, &scenario.consumer, &clock).await?;
    setup::calibrated(&mut scenario, &clock, calibration, &mut notes);
    (options.report)(&format!(
        "calibrated: a process starts in {:.0} ms, a call takes {:.1} ms",
        calibration.process_start.as_secs_f64() * 1e3,
        calibration.call.as_secs_f64() * 1e3
    ));
    let template = Template {
        process_start: calibration.process_start,
        ..setup::template(&scenario, worker, options, folder, "pod", &queues.main)?
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
