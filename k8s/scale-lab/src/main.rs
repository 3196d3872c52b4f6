//! The command line: parses, runs, and says on one line what went wrong.

mod commands;

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use commands::{simulate, tune};

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
}

/// Whether what was checked is so.
type Verdict = bool;

fn main() -> ExitCode {
    let done: Result<Verdict> = match Cli::parse().command {
        Command::Simulate(options) => simulate::run(&options).map(|()| true),
        Command::Tune(options) => tune::run(&options),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            // Nobody is left to tell where even this fails.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::from(2)
        }
    }
}
