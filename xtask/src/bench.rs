//! `bench`: builds all that is measured, then runs the host's own harness.

use std::time::Duration;

use anyhow::Result;

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
    printer::heading("benchmarks");
    let mut cargo = workspace.cargo();
    cargo.args([
        "run",
        "--release",
        "--package",
        "gristmill",
        "--example",
        "bench",
        "--",
    ]);
    cargo.args(arguments);
    process::stream(&mut cargo, LIMIT)
}
