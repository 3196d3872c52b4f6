//! `cargo xtask`: the commands of this repository. This file owns the command
//! line and the exit code; each command has a file of its own.

mod apt;
mod bench;
mod build;
mod examples;
mod k8s;
mod lint;
mod npm;
mod plugin;
mod portal;
mod printer;
mod process;
mod scale_test;
mod servers;
mod soak;
mod staging;
mod suites;
mod up;
mod venv;
mod wasm_target;
mod workspace;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use workspace::{CORE_MODULE_TARGET, WASM_TARGET, Workspace};

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
    /// Build everything and start it on embedded defaults.
    ///
    /// Needs no account and no other server. What follows goes to
    /// `gristmill up --from spin.toml` as it is, for example
    /// `cargo xtask up -- --listen 127.0.0.1:8080`.
    Up {
        /// Options of `gristmill up`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Install what the tests need and run them all.
    ///
    /// Every suite runs although one fails; a table of their minutes ends it.
    /// The real servers that tests talk to (Redis, PostgreSQL, Mosquitto, DynamoDB
    /// Local, ministack, `LocalStack`, Docker's registry) and the clients that they talk through
    /// (the AWS command line and SDKs, Chromium by Playwright, Schemathesis) come from this machine or go to `target/servers`, and so do
    /// the tools that build the plugins of `examples/`.
    Test {
        /// Run only this suite; may be repeated.
        #[arg(long, value_enum, value_name = "SUITE")]
        only: Vec<suites::Suite>,
        /// Fail when a server or client cannot be had, instead of skipping its tests; a
        /// non-empty variable CI means the same.
        #[arg(long)]
        require_servers: bool,
    },
    /// Build the components and the native host.
    ///
    /// They end up where `spin.toml` expects them and in target/release/gristmill.
    Build {
        /// Accepted for habit: there is one build profile, and it is this one.
        #[arg(long)]
        release: bool,
    },
    /// Only prepare the servers and clients of the tests.
    ///
    /// Prints their environment variables for a shell, so that single tests can
    /// run by hand: `eval "$(cargo xtask servers)"`.
    Servers,
    /// Check formatting, clippy, spelling and dependencies.
    Lint,
    /// Take the screenshots of the page into docs/images.
    Screenshots,
    /// Run the benchmarks and print their table.
    Bench {
        /// Options of the harness, as in `-- --write docs/benchmarks.md`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Drain two queues while everything fails that can, and account for every message.
    ///
    /// Components trap and err, the endpoint has outages, messages come twice, and the
    /// shim is killed three times. Prints the account; exit code 1 if it does not
    /// balance. `cargo xtask test` has a short form.
    Soak {
        /// Messages for the standard queue; a tenth as many go through the FIFO queue.
        #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1_000..))]
        messages: u64,
        /// What happens, and when; without it, each run is another.
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Load tests of scaling, live and simulated: a step, a spike, 2 to N to 2 replicas.
    ///
    /// Acts as KEDA, the HorizontalPodAutoscaler and the kubelet on what the chart renders, with
    /// real consumers, and accounts for every message; then simulates the same. Exit code 1
    /// if one is lost, a second call is unexplained, or the two backlogs are more than 15 % of
    /// the peak apart. Timelines and plots go to target/scale-test. About five minutes after the builds.
    ScaleTest {
        /// One short scenario.
        #[arg(long)]
        quick: bool,
    },
    /// Build the host, and install it as Spin's plugins trigger-sqs and trigger-cron.
    ///
    /// `spin up` then runs queues and schedules by Gristmill. The packages, as
    /// `spin plugins install --file` takes them, are left in target/plugins.
    Plugin {
        /// Spin's plugins directory.
        ///
        /// Without it: `$SPIN_DATA_DIR/plugins`, else where Spin of this user has it.
        #[arg(long, value_name = "DIR")]
        into: Option<PathBuf>,
    },
    /// Only prepare this machine: install the Rust target `wasm32-wasip2`, and
    /// `wasm32-wasip1`, for which programs may be built as well.
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
            ExitCode::from(if is_verdict(&error) { 1 } else { 2 })
        }
    }
}

/// Whether something was built or checked and found wanting, as opposed to not
/// having been possible at all.
fn is_verdict(error: &anyhow::Error) -> bool {
    error.is::<process::Failure>() || error.is::<suites::Failed>()
}

fn run(arguments: Arguments) -> Result<()> {
    process::end_groups_on_interrupt()?;
    let workspace = Workspace::discover()?;
    match arguments.command {
        Command::Up { arguments } => up::run(&workspace, &arguments),
        Command::Test {
            only,
            require_servers,
        } => {
            let in_ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
            suites::run(&workspace, &only, require_servers || in_ci)
        }
        Command::Build { release: _ } => build::everything(&workspace),
        Command::Servers => servers::run(&workspace),
        Command::Lint => lint::run(&workspace),
        Command::Screenshots => portal::screenshots(&workspace),
        Command::Bench { arguments } => bench::run(&workspace, &arguments),
        Command::Soak { messages, seed } => soak::run(&workspace, messages, seed),
        Command::ScaleTest { quick } => scale_test::run(&workspace, quick),
        Command::Plugin { into } => plugin::run(&workspace, into),
        Command::Setup { target_from } => setup(&workspace, target_from),
    }
}

/// Components are built for the one target, programs for the other as well.
fn setup(workspace: &Workspace, from: wasm_target::Source) -> Result<()> {
    for target in [WASM_TARGET, CORE_MODULE_TARGET] {
        wasm_target::ensure(workspace, target, from)?;
    }
    Ok(())
}
