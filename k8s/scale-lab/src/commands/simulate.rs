//! `scale-lab simulate`.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use scale_lab::summary::Summary;
use scale_lab::{csv, http, simulate};

use super::{Input, write};

/// Computes what KEDA, the HorizontalPodAutoscaler, pods and the queue do in a scenario.
///
/// Prints a summary. With `[http]` in the scenario: requests to a service scaled by CPU.
#[derive(Args)]
pub(crate) struct Simulate {
    #[command(flatten)]
    input: Input,
    /// Writes the timeline, a line for each second and each event.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Prints the summary as JSON.
    #[arg(long)]
    json: bool,
    /// Prints each change of replicas, with its reason, before the summary.
    #[arg(long, conflicts_with = "json")]
    events: bool,
}

pub(crate) fn run(options: &Simulate) -> Result<()> {
    let scenario = options.input.read()?;
    let helm = &options.input.helm;
    let timeline = if scenario.http.is_some() {
        http::run(&scenario, &scenario.chart.service(helm)?)?
    } else {
        simulate::run(&scenario, &scenario.chart.worker(helm)?)?
    };
    if let Some(file) = &options.csv {
        write(file, csv::write(&timeline))?;
    }
    let mut out = std::io::stdout();
    if options.events {
        for event in &timeline.events {
            writeln!(out, "{event}")?;
        }
    }
    let summary = Summary::of(&timeline, &scenario.costs);
    if options.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&summary)?)?;
    } else {
        write!(out, "{summary}")?;
    }
    Ok(())
}
