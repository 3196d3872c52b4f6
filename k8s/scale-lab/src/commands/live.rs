//! `scale-lab live`: a scenario with real processes, beside the simulation of the same trace.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use scale_lab::live::{self, Options, Outcome};
use scale_lab::scenario::Scenario;
use scale_lab::timeline::Timeline;
use scale_lab::{csv, plot, simulate};

use super::say;

/// Run a scenario with real `gristmill` processes, and account for every message.
///
/// Acts as KEDA, the HorizontalPodAutoscaler, the ReplicaSet and the kubelet: starts a queue,
/// sends the trace, asks the depth as KEDA does, starts and stops consumers. Beside it, the
/// scenario is simulated; the table ends with how far apart the two backlogs are.
#[derive(Debug, Args)]
pub(crate) struct Live {
    /// The scenario, TOML
    scenario: PathBuf,

    /// The output of `helm template`, instead of the scenario's chart
    #[arg(long, value_name = "FILE")]
    rendered: Option<PathBuf>,

    /// The program that renders charts
    #[arg(
        long,
        value_name = "FILE",
        env = "GRISTMILL_TEST_HELM",
        default_value = "helm"
    )]
    helm: PathBuf,

    /// The host
    #[arg(long, value_name = "FILE", default_value = "target/release/gristmill")]
    gristmill: PathBuf,

    /// What consumes: `cargo build-component --package scale-lab-handler`
    #[arg(
        long,
        value_name = "FILE",
        default_value = "target/wasm32-wasip2/release/scale_lab_handler.wasm"
    )]
    handler: PathBuf,

    /// Another SQS endpoint, one that checks no signatures [default: `gristmill queue`]
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,

    /// So many times faster than the scenario, 1 to 100 [default: the scenario's `live.speed`]
    #[arg(long, value_name = "FACTOR")]
    speed: Option<f64>,

    /// How far the simulated backlog may be from the live one, as a share of its peak
    #[arg(long, value_name = "SHARE", default_value_t = 0.15)]
    tolerance: f64,

    /// Write timelines (CSV), the plot (SVG, PNG), the account (JSON) and logs here
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
}

impl Live {
    /// Whether nothing was lost, every further call is explained, and the two agree.
    pub(crate) fn run(self) -> Result<bool> {
        let mut scenario = Scenario::read(&self.scenario)?;
        if self.rendered.is_some() {
            scenario.chart.rendered = self.rendered;
        }
        let worker = scenario.chart.worker(&self.helm)?;
        let options = Options {
            gristmill: self.gristmill,
            handler: self.handler,
            endpoint: self.endpoint,
            speed: self.speed,
            folder: self.into.as_ref().map(|folder| folder.join("run")),
            report: |line| eprint(line),
        };
        if let Some(folder) = &options.folder {
            // Logs of an earlier run would be read as this one's.
            super::remove_dir(folder)?;
        }
        let runtime = tokio::runtime::Runtime::new().context("cannot start threads")?;
        let outcome = runtime.block_on(live::run(&scenario, &worker, &options))?;
        let simulated = simulate::run(&outcome.scenario, &worker)?;
        let error = live::compare(&outcome.timeline, &simulated);
        say(&outcome.account);
        for note in &outcome.notes {
            say(format_args!("note: {note}"));
        }
        if let Some(busy) = outcome.busy {
            say(format_args!("processors busy: {:.0} %", busy * 100.0));
        }
        say(format_args!(
            "simulated backlog: {:.1} % of the live peak away on average (at most {:.0} %)",
            error * 100.0,
            self.tolerance * 100.0
        ));
        if let Some(folder) = &self.into {
            write(folder, &scenario.title, &outcome, &simulated, error)?;
        }
        Ok(outcome.account.balances() && error <= self.tolerance)
    }
}

fn eprint(line: &str) {
    super::tell(line);
}

fn write(
    folder: &Path,
    title: &str,
    outcome: &Outcome,
    simulated: &Timeline,
    error: f64,
) -> Result<()> {
    let runs = [("live", &outcome.timeline), ("simulated", simulated)];
    let svg = plot::svg(title, &runs);
    let report = serde_json::json!({
        "account": outcome.account,
        "balances": outcome.account.balances(),
        "backlog_error": error,
        "notes": outcome.notes,
        "busy": outcome.busy,
    });
    let files = [
        ("live.csv", csv::write(&outcome.timeline).into_bytes()),
        ("simulated.csv", csv::write(simulated).into_bytes()),
        ("plot.png", plot::png(&svg)?),
        ("plot.svg", svg.into_bytes()),
        ("report.json", format!("{report:#}\n").into_bytes()),
    ];
    for (name, content) in files {
        let path = folder.join(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
