//! `scale-lab live`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use scale_lab::live::{self, Options, Outcome};
use scale_lab::timeline::Timeline;
use scale_lab::{csv, plot, simulate};

use super::{Input, remove_dir, say, tell, write};

/// Runs a scenario with real `gristmill` processes, and accounts for every message.
///
/// Acts as KEDA, the HorizontalPodAutoscaler, the ReplicaSet and the kubelet: starts a queue,
/// sends the trace, asks the depth as KEDA does, starts and stops consumers. Then simulates
/// the same, and says how far apart the two backlogs are. Exit code 1 if a message was lost,
/// a further call is unexplained, or the two are too far apart.
#[derive(Args)]
pub(crate) struct Live {
    #[command(flatten)]
    input: Input,
    /// The host: `cargo xtask build`.
    #[arg(long, value_name = "FILE", default_value = "target/release/gristmill")]
    gristmill: PathBuf,
    /// What consumes: `cargo build-component --package scale-lab-handler`.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "target/wasm32-wasip2/release/scale_lab_handler.wasm"
    )]
    handler: PathBuf,
    /// Another SQS endpoint, one that checks no signatures. Without: `gristmill queue`.
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// So many times faster than the scenario, 1 to 100. Without: the scenario's `live.speed`.
    #[arg(long, value_name = "FACTOR")]
    speed: Option<f64>,
    /// How far the simulated backlog may be from the live one on average, as a share of its
    /// peak.
    #[arg(long, value_name = "SHARE", default_value_t = 0.15)]
    tolerance: f64,
    /// Writes live.csv, simulated.csv, plot.svg, plot.png and report.json into this folder;
    /// logs and the queue are in its `run`.
    #[arg(long, value_name = "FOLDER")]
    into: Option<PathBuf>,
}

/// Whether nothing was lost, every further call is explained, and the two agree.
pub(crate) fn run(options: &Live) -> Result<bool> {
    let scenario = options.input.read()?;
    let worker = scenario.chart.worker(&options.input.helm)?;
    let how = Options {
        gristmill: options.gristmill.clone(),
        handler: options.handler.clone(),
        endpoint: options.endpoint.clone(),
        speed: options.speed,
        folder: options.into.as_ref().map(|folder| folder.join("run")),
        report: |line| tell(line),
    };
    if let Some(folder) = &how.folder {
        // Logs of an earlier run would be read as this one's.
        remove_dir(folder)?;
    }
    let runtime = tokio::runtime::Runtime::new().context("cannot start threads")?;
    let outcome = runtime.block_on(live::run(&scenario, &worker, &how))?;
    let simulated = simulate::run(&outcome.scenario, &worker)?;
    let error = live::compare(&outcome.timeline, &simulated);
    say(&outcome.account);
    for note in &outcome.notes {
        say(format_args!("note: {note}"));
    }
    say(format_args!(
        "the simulated backlog is {:.1} % of the live peak away on average, {:.0} % may be",
        error * 100.0,
        options.tolerance * 100.0
    ));
    if let Some(folder) = &options.into {
        write_all(folder, &scenario.title, &outcome, &simulated, error)?;
    }
    Ok(outcome.account.balances() && error <= options.tolerance)
}

fn write_all(
    folder: &Path,
    title: &str,
    outcome: &Outcome,
    simulated: &Timeline,
    error: f64,
) -> Result<()> {
    let runs = [("live", &outcome.timeline), ("simulated", simulated)];
    let svg = plot::svg(title, &runs);
    let report = serde_json::json!({
        "title": title,
        "account": outcome.account,
        "unexplained": outcome.account.unexplained(),
        "duplicates": outcome.account.duplicates(),
        "balances": outcome.account.balances(),
        "backlog_error": error,
        "busy": outcome.busy,
        "notes": outcome.notes,
    });
    write(&folder.join("live.csv"), csv::write(&outcome.timeline))?;
    write(&folder.join("simulated.csv"), csv::write(simulated))?;
    write(&folder.join("plot.png"), plot::png(&svg)?)?;
    write(&folder.join("plot.svg"), svg)?;
    write(&folder.join("report.json"), format!("{report:#}\n"))
}
