//! Builds what the other commands need: components, test guests, the native
//! host. There is one build profile; cargo's own freshness decides what is left
//! to do. Does not know what the results are for.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::wasm_target::{self, Source};
use crate::workspace::{CORE_MODULE_TARGET, WASM_TARGET, Workspace};
use crate::{printer, process, scale_test};

/// A first build on two slow cores takes about twenty.
const LIMIT: Duration = Duration::from_mins(45);

/// Components and host, all that `up` starts.
pub(crate) fn everything(workspace: &Workspace) -> Result<()> {
    components(workspace)?;
    host(workspace)
}

/// The components, where `spin.toml` expects them.
pub(crate) fn components(workspace: &Workspace) -> Result<()> {
    let components = workspace.components();
    wasm(workspace, "components", &components)?;
    mirror(workspace, &workspace.wasm_files(&components))
}

/// The guests that the shim's tests run.
pub(crate) fn guests(workspace: &Workspace) -> Result<()> {
    wasm(workspace, "test guests", &workspace.guests())
}

/// The guest of the soak.
pub(crate) fn soak_guest(workspace: &Workspace) -> Result<()> {
    wasm(workspace, "the soak's guest", &["guest-soak"])
}

/// What consumes in live runs of the scale lab.
pub(crate) fn scale_lab_handler(workspace: &Workspace) -> Result<()> {
    wasm(workspace, "the scale lab's handler", &[scale_test::HANDLER])
}

/// The guest that is a program, for WASI 0.1: its file.
pub(crate) fn command_module(workspace: &Workspace) -> Result<PathBuf> {
    wasm_target::ensure(workspace, CORE_MODULE_TARGET, Source::Auto)?;
    printer::heading(format_args!(
        "building a test guest for `{CORE_MODULE_TARGET}`"
    ));
    let mut cargo = workspace.cargo();
    cargo.args(["build-component", "--target", CORE_MODULE_TARGET]);
    cargo.args(["--package", "guest-command"]);
    // Standard output is for `cargo xtask servers`, which a shell evaluates.
    cargo.stdout(io::stderr());
    process::stream(&mut cargo, LIMIT)?;
    Ok(workspace.command_module())
}

/// The native host.
pub(crate) fn host(workspace: &Workspace) -> Result<()> {
    printer::heading("building `gristmill`");
    process::stream(
        workspace
            .cargo()
            .args(["build", "--release", "--package", "gristmill"]),
        LIMIT,
    )
}

fn wasm(workspace: &Workspace, what: &str, packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    wasm_target::ensure(workspace, WASM_TARGET, Source::Auto)?;
    printer::heading(format_args!("building {what} for `{WASM_TARGET}`"));
    let mut cargo = workspace.cargo();
    cargo.arg("build-component");
    for package in packages {
        cargo.args(["--package", package]);
    }
    process::stream(&mut cargo, LIMIT)
}

/// `spin.toml` names files under the root's own `target/`; where cargo was told
/// to build elsewhere they are copied there.
fn mirror(workspace: &Workspace, files: &[String]) -> Result<()> {
    let expected = workspace
        .root
        .join("target")
        .join(WASM_TARGET)
        .join("release");
    let built = workspace.wasm_dir();
    if built == expected {
        return Ok(());
    }
    fs::create_dir_all(&expected)?;
    for file in files {
        // Copied aside and renamed: a running host may be reading the old one.
        let partial = expected.join(format!("{file}.partial"));
        fs::copy(built.join(file), &partial)
            .and_then(|_| fs::rename(&partial, expected.join(file)))
            .with_context(|| format!("cannot copy {file} to {}", expected.display()))?;
    }
    Ok(())
}
