//! The `gristmill` command. Exit codes: 0 done, 1 failed, 2 wrong usage.

use std::process::ExitCode;

use clap::Parser;
use gristmill::cli::{Cli, Command};
use gristmill::settings::Environment;
use gristmill::{check, logging, printer, queue, scaffold, up};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let environment = Environment::capture();
    let quiet = matches!(&cli.command, Command::Up(args) if args.quiet);
    let outcome = logging::start(&environment, quiet).and_then(|()| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            // Guests that compute yield once a tick; this often the workers also
            // look at sockets and timers, however many guests compute.
            .event_interval(16)
            .build()?;
        let outcome = match cli.command {
            Command::Up(args) => runtime.block_on(up::run(*args, &environment)),
            Command::Check(args) => runtime.block_on(check::run(args, &environment)),
            Command::New(args) => scaffold::run(&args).map_err(Into::into),
            Command::Queue(args) => runtime.block_on(queue::serve_alone(args)),
        };
        // Work that was cut off is not waited for.
        runtime.shutdown_background();
        outcome
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            printer::error(&error);
            ExitCode::FAILURE
        }
    }
}
