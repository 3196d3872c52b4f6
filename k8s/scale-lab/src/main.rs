//! The command line.

mod commands;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "scale-lab", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Live(commands::live::Live),
    Plot(commands::plot::Plot),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Live(live) => live.run(),
        Command::Plot(plot) => plot.run().map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            commands::tell(format_args!("error: {error:#}"));
            ExitCode::from(2)
        }
    }
}
