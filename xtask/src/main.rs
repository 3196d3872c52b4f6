//! `cargo xtask`: the commands of this repository. This file owns the command
//! line and the exit code; each command has a file of its own.

mod printer;
mod process;
mod wasm_target;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use workspace::Workspace;

/// Builds, runs and tests Gristmill.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  a build, a check or a test failed
  2  wrong usage, or the machine lacks something (the message names it)";

#[derive(Subcommand)]
enum Command {
    /// Only prepare this machine: install the Rust target `wasm32-wasip2`.
    ///
    /// By rustup where it reaches its server, else from Debian's packages
    /// `rust-src` and `wasi-libc` through the machine's own apt mirror.
    Setup {
        /// Where the target may come from.
        #[arg(long, value_enum, default_value = "auto")]
        target_from: wasm_target::Source,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            printer::error(&error);
            let checked = error.downcast_ref::<process::Failure>().is_some();
            ExitCode::from(if checked { 1 } else { 2 })
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    process::end_groups_on_interrupt()?;
    let workspace = Workspace::discover()?;
    match arguments.command {
        Command::Setup { target_from } => wasm_target::ensure(&workspace, target_from),
    }
}
