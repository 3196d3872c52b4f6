//! `bench`: builds all that is measured, then runs the host's own harness.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::suites::HOST;
use crate::venv::{self, Venv};
use crate::workspace::Workspace;
use crate::{build, printer, process};

const LIMIT: Duration = Duration::from_hours(1);

/// An example instead of a cargo bench: it shares the one profile, so nothing is
/// compiled twice.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    build::everything(workspace)?;
    build::guests(workspace)?;
    // The figures of WASI 0.1 are left out where its target cannot be had.
    if let Err(error) = build::command_module(workspace) {
        printer::error(&error);
    }
    let venv = Venv::ensure(workspace, &venv::TOOLS)?;
    process::stream(&mut build(workspace), LIMIT)?;
    printer::heading("benchmarks");
    let mut bench = command(workspace, &venv);
    bench.args(arguments);
    process::stream(&mut bench, LIMIT)
}

/// Builds the harness.
pub(crate) fn build(workspace: &Workspace) -> Command {
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--release", "--example", "bench"]);
    for package in HOST {
        cargo.args(["--package", package]);
    }
    cargo
}

/// Runs it, with a Python that has boto3.
pub(crate) fn command(workspace: &Workspace, venv: &Venv) -> Command {
    let mut bench = Command::new(workspace.target_dir.join("release/examples/bench"));
    bench.env("GRISTMILL_TEST_PYTHON", venv.python());
    bench
}
