//! The `gristmill` command, and under other names the plugins of Spin's triggers.
//! Exit codes: 0 done, 1 failed, 2 wrong usage.

use std::future::Future;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use gristmill::cli::{Cli, Command};
use gristmill::drain::StopSignals;
use gristmill::logging::Wanted;
use gristmill::plugin::{Plugin, Request};
use gristmill::settings::Environment;
use gristmill::{build, check, logging, printer, queue, scaffold, up, watch};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let program = std::env::args_os().next().unwrap_or_default();
    let environment = Environment::capture();
    let outcome = match Plugin::of_program(&program) {
        Some(plugin) => as_plugin(plugin, &environment),
        None => as_command(&environment),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            printer::error(&error);
            ExitCode::FAILURE
        }
    }
}

fn as_command(environment: &Environment) -> anyhow::Result<()> {
    let cli = Cli::parse();
    let wanted = Wanted {
        quiet: match &cli.command {
            Command::Up(args) => args.quiet,
            Command::Watch(args) => args.up.quiet,
            _ => false,
        },
        ..Wanted::default()
    };
    logging::start(environment, wanted)?;
    match cli.command {
        Command::Up(args) => block_on(async {
            let signals = StopSignals::listen().context("cannot listen for signals")?;
            up::run((*args).into(), signals, environment).await
        }),
        Command::Watch(args) => block_on(async {
            let signals = StopSignals::listen().context("cannot listen for signals")?;
            watch::run(*args, signals, environment).await
        }),
        Command::Build(args) => block_on(async { Ok(build::run(args).await?) }),
        Command::Check(args) => block_on(check::run(args, environment)),
        Command::New(args) => scaffold::run(&args).map_err(Into::into),
        Command::Queue(args) => block_on(queue::serve_alone(args)),
        Command::Send(args) => block_on(async {
            let signals = StopSignals::listen().context("cannot listen for signals")?;
            Ok(queue::send(*args, signals, environment).await?)
        }),
        Command::Redrive(args) => block_on(async {
            let signals = StopSignals::listen().context("cannot listen for signals")?;
            Ok(queue::redrive(*args, signals, environment).await?)
        }),
    }
}

fn as_plugin(plugin: Plugin, environment: &Environment) -> anyhow::Result<()> {
    match plugin.parse(std::env::args_os())? {
        Request::Help(text) => {
            printer::line(text.trim_end());
            Ok(())
        }
        // Spin parses all of stderr: nothing is logged before or after.
        Request::LaunchMetadata(json) => {
            printer::metadata(&json);
            Ok(())
        }
        Request::Run(launch) => {
            logging::start(environment, launch.wanted_logs(environment))?;
            block_on(launch.run(environment))
        }
    }
}

fn block_on(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        // Guests that compute yield once a tick; this often the workers also
        // look at sockets and timers, however many guests compute.
        .event_interval(16)
        .build()?;
    let outcome = runtime.block_on(work);
    // Work that was cut off is not waited for.
    runtime.shutdown_background();
    outcome
}
