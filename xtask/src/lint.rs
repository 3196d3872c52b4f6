//! `lint`: formatting, clippy for both targets, spelling, dependencies. Every
//! check runs, also after one failed.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::suites::{Task, run_all};
use crate::venv::{self, Venv};
use crate::wasm_target::{self, Source};
use crate::workspace::{WASM_TARGET, Workspace};
use crate::{printer, process, scale_test};

/// Prepares and runs all checks.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    wasm_target::ensure(workspace, WASM_TARGET, Source::Auto)?;
    let venv = Venv::ensure(workspace, &venv::TOOLS)?;
    run_all(&mut tasks(workspace, &venv))
}

/// The checks, in the order of their patience.
pub(crate) fn tasks(workspace: &Workspace, venv: &Venv) -> Vec<Task> {
    let mut fmt = workspace.cargo();
    fmt.args(["fmt", "--all", "--check"]);
    let mut typos = Command::new(venv.program("typos"));
    typos.current_dir(&workspace.root);
    let mut tasks = vec![
        Task::new("formatting", fmt, 2),
        Task::new("spelling", typos, 2),
    ];
    tasks.extend(dependencies(workspace));
    tasks.push(Task::new("clippy", clippy_of_host(workspace), 25));
    tasks.extend(clippy_of_wasm(workspace));
    tasks
}

fn clippy_of_host(workspace: &Workspace) -> Command {
    let mut clippy = workspace.cargo();
    clippy.args(["clippy", "--release", "--workspace", "--all-targets"]);
    // Guests are wasm only: some of them trap or recurse on purpose.
    for guest in workspace.guests() {
        clippy.args(["--exclude", guest]);
    }
    clippy.args(["--", "--deny", "warnings"]);
    clippy
}

fn clippy_of_wasm(workspace: &Workspace) -> Option<Task> {
    let own = [workspace.components(), workspace.component_libraries()];
    let packages = [own.concat(), vec![scale_test::HANDLER]].concat();
    if packages.is_empty() {
        return None;
    }
    let mut clippy = workspace.cargo();
    clippy.args(["clippy", "--release", "--target", WASM_TARGET]);
    for package in packages {
        clippy.args(["--package", package]);
    }
    clippy.args(["--", "--deny", "warnings"]);
    Some(Task::new("clippy of the components", clippy, 10))
}

/// cargo-deny, where it is installed; its database of advisories is on the
/// network, so that part is skipped where that is out of reach.
fn dependencies(workspace: &Workspace) -> Vec<Task> {
    if !process::is_installed("cargo-deny") {
        printer::note(
            "dependencies are not checked: `cargo-deny` is not installed \
             (`cargo install --locked cargo-deny`)",
        );
        return Vec::new();
    }
    let deny = |arguments: &[&str]| {
        let mut command = Command::new("cargo-deny");
        command
            .current_dir(&workspace.root)
            .arg("--workspace")
            .args(arguments);
        command
    };
    let mut tasks = vec![Task::new(
        "dependencies",
        deny(&["check", "bans", "licenses", "sources"]),
        5,
    )];
    let mut fetch = Command::new("cargo-deny");
    fetch.current_dir(&workspace.root).args(["fetch", "db"]);
    let fetched = process::capture(&mut fetch, Duration::from_mins(2));
    if fetched.is_ok_and(|fetched| fetched.outcome.is_ok()) {
        tasks.push(Task::new(
            "advisories",
            deny(&["--offline", "check", "advisories"]),
            5,
        ));
    } else {
        printer::note("advisories are not checked: their database is out of reach");
    }
    tasks
}
