//! `up`: builds, then becomes `gristmill up`.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};

use crate::build;
use crate::workspace::Workspace;

/// Returns only when it fails: the host takes this process's place, and with it
/// the terminal and every signal.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    build::everything(workspace)?;
    let gristmill = workspace.gristmill();
    let error = Command::new(&gristmill)
        .current_dir(&workspace.root)
        .args(["up", "--from", "spin.toml"])
        .args(arguments)
        .exec();
    Err(error).with_context(|| format!("cannot start {}", gristmill.display()))
}
