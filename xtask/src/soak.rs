//! `soak`: builds what it needs, then runs the shim's soak at its full size. What it
//! does and what must come of it is known there.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;

use crate::workspace::Workspace;
use crate::{build, printer, process, suites};

const LIMIT: Duration = Duration::from_hours(2);

/// Prints the account; an error if it does not balance.
pub(crate) fn run(workspace: &Workspace, messages: u64, seed: Option<u64>) -> Result<()> {
    build::soak_guest(workspace)?;
    let seed = seed.unwrap_or_else(from_the_clock);
    printer::heading(format_args!("soak of {messages} messages, seed {seed}"));
    let mut cargo = suites::host_test(workspace);
    cargo.args(["--test", "soak", "--", "--nocapture"]);
    cargo.env("GRISTMILL_SOAK_MESSAGES", messages.to_string());
    cargo.env("GRISTMILL_SOAK_SEED", seed.to_string());
    process::stream(&mut cargo, LIMIT)
}

/// Each run is another; its seed is printed.
fn from_the_clock() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(1, |since| since.as_secs())
}
