//! `scale-lab simulate`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use scale_lab::summary::Summary;
use scale_lab::{csv, http, plot, simulate};

use super::{Input, say, write};

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
    /// Draws depth, age and replicas.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
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
    if let Some(file) = &options.svg {
        write(
            file,
            plot::svg(&scenario.title, &[("simulated", &timeline)]),
        )?;
    }
    if options.events {
        for event in &timeline.events {
            say(event);
        }
    }
    let summary = Summary::of(&timeline, &scenario.costs);
    if options.json {
        say(serde_json::to_string_pretty(&summary)?);
    } else {
        say(summary.to_string().trim_end());
    }
    Ok(())
}
