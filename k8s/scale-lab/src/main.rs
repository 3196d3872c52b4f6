//! The command line: parses, runs, and says on one line what went wrong.

mod commands;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use scale_lab::verify::Report;

use commands::{live, plot, say, simulate, tell, tune};

/// KEDA, the HorizontalPodAutoscaler and queue consumers on one machine.
///
/// Exit codes: 0 as it should be; 1 something that was checked is not so; 2 it could not
/// be done.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Simulate(simulate::Simulate),
    Tune(tune::Tune),
    Live(live::Live),
    Verify(Verify),
    Plot(plot::Plot),
}

/// Proves the arithmetic: cases from the sources of KEDA 2.20 and Kubernetes 1.35.
///
/// Prints for each case its replicas over time and where that is written; where something
/// else came out, that too, with the reason for each change.
#[derive(Args)]
struct Verify {
    /// Only cases whose name contains this text.
    #[arg(default_value = "")]
    name: String,
    /// Shows settings, inputs and the reason for each change of every case.
    #[arg(long)]
    details: bool,
}

/// Whether what was checked is so.
type Verdict = bool;

fn main() -> ExitCode {
    let done: Result<Verdict> = match Cli::parse().command {
        Command::Simulate(options) => simulate::run(&options).map(|()| true),
        Command::Tune(options) => tune::run(&options),
        Command::Live(options) => live::run(&options),
        Command::Verify(options) => verify(&options),
        Command::Plot(plot) => plot.run().map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            tell(format_args!("error: {error:#}"));
            ExitCode::from(2)
        }
    }
}

fn verify(options: &Verify) -> Result<Verdict> {
    let report = Report::of(&options.name, options.details);
    if report.outcomes.is_empty() {
        let name = &options.name;
        anyhow::bail!("no case has `{name}` in its name; `scale-lab verify` lists them all");
    }
    say(&report);
    Ok(report.failures() == 0)
}
