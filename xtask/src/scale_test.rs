//! `scale-test`: the scale lab's load tests, live and simulated, on what the chart renders.
//! What a run must show is known to `scale-lab live`; this builds, starts and tabulates.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::servers::{self, Server, Servers};
use crate::suites::{Task, run_all, without_accounts};
use crate::workspace::Workspace;
use crate::{build, printer, staging};

/// The program and its package.
pub(crate) const LAB: &str = "scale-lab";
/// What consumes in live runs: a package of its own, for wasm.
pub(crate) const HANDLER: &str = "scale-lab-handler";
/// It renders the chart.
pub(crate) const NEEDS: &[Server] = &[Server::Kubectl];

/// Scenarios that run live, each with the minutes it may take.
const FULL: &[(&str, u64)] = &[("step", 6), ("two-n-two", 6), ("spike", 10)];
const QUICK: &[(&str, u64)] = &[("quick", 4)];
/// Load on a service that is scaled by CPU: nothing to run live.
const HTTP: &str = "http-step";

/// Builds everything, runs the scenarios and prints their table.
pub(crate) fn run(workspace: &Workspace, quick: bool) -> Result<()> {
    build::host(workspace)?;
    build::scale_lab_handler(workspace)?;
    let mut variables = Vec::new();
    let servers = Servers::open(workspace)?;
    for server in NEEDS {
        variables.extend(servers.ensure(*server)?);
    }
    drop(servers);
    let scenarios = if quick { QUICK } else { FULL };
    let mut tasks = vec![Task::new(
        "building the scale lab",
        build_lab(workspace),
        20,
    )];
    tasks.extend(scenario_tasks(workspace, &variables, scenarios)?);
    let verdict = run_all(&mut tasks);
    print(workspace, scenarios);
    printer::note(format_args!(
        "timelines and plots are in {}",
        folder(workspace).display()
    ));
    verdict
}

/// The lab's own tests and its arithmetic. Live runs are `scale-test`'s alone: on a machine
/// that stands still for seconds their account is not exact yet.
pub(crate) fn suite(workspace: &Workspace, variables: &[servers::Variable]) -> Vec<Task> {
    let mut tests = workspace.cargo();
    tests.args(["test", "--release", "--no-fail-fast", "--package", LAB]);
    tests.envs(variables.iter().cloned());
    without_accounts(&mut tests);
    vec![
        Task::new("scale lab", tests, 20),
        Task::new("building the scale lab", build_lab(workspace), 10),
        Task::new("arithmetic", lab(workspace, variables, &["verify"]), 2),
    ]
}

fn scenario_tasks(
    workspace: &Workspace,
    variables: &[servers::Variable],
    scenarios: &[(&'static str, u64)],
) -> Result<Vec<Task>> {
    // What an earlier run left would pass for this one's.
    staging::remove_dir_if_present(&folder(workspace))?;
    let mut tasks = Vec::new();
    for (name, minutes) in scenarios {
        let into = folder(workspace).join(name);
        fs::create_dir_all(&into).with_context(|| format!("cannot create {}", into.display()))?;
        let mut live = lab(workspace, variables, &["live"]);
        live.arg(scenario(workspace, name)).arg("--into").arg(into);
        live.arg("--gristmill").arg(workspace.gristmill());
        let handler = workspace.wasm_dir().join("scale_lab_handler.wasm");
        live.arg("--handler").arg(handler);
        tasks.push(Task::new(name, live, *minutes));
    }
    let mut simulated = lab(workspace, variables, &["simulate"]);
    simulated.arg(scenario(workspace, HTTP));
    simulated
        .arg("--csv")
        .arg(folder(workspace).join("http-step.csv"));
    tasks.push(Task::new(HTTP, simulated, 2));
    let mut plot = lab(workspace, variables, &["plot"]);
    plot.arg(folder(workspace).join("http-step.csv"));
    plot.args(["--title", "Requests to a service that is scaled by CPU"]);
    plot.arg("--output")
        .arg(folder(workspace).join("http-step.png"));
    tasks.push(Task::new("plot of http-step", plot, 1));
    Ok(tasks)
}

fn build_lab(workspace: &Workspace) -> Command {
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--release", "--package", LAB]);
    cargo
}

fn lab(workspace: &Workspace, variables: &[servers::Variable], arguments: &[&str]) -> Command {
    let mut command = Command::new(workspace.target_dir.join("release").join(LAB));
    command.current_dir(&workspace.root).args(arguments);
    command.envs(variables.iter().cloned());
    without_accounts(&mut command);
    command
}

fn scenario(workspace: &Workspace, name: &str) -> PathBuf {
    let folder = workspace.root.join("k8s/scale-lab/scenarios");
    folder.join(format!("{name}.toml"))
}

/// Where timelines and plots go: `target/scale-test`.
fn folder(workspace: &Workspace) -> PathBuf {
    workspace.target_dir.join("scale-test")
}

/// What `scale-lab live` writes as `report.json`.
#[derive(Deserialize)]
struct Report {
    account: Account,
    duplicates: u64,
    unexplained: u64,
    backlog_error: f64,
    busy: Option<f64>,
}

#[derive(Deserialize)]
struct Account {
    sent: u64,
    processed: u64,
    once: u64,
    dead: u64,
    lost: u64,
}

fn print(workspace: &Workspace, scenarios: &[(&str, u64)]) {
    printer::result(HEADER);
    for (name, _) in scenarios {
        let file = folder(workspace).join(name).join("report.json");
        let report = fs::read(&file).ok();
        let report = report.and_then(|text| serde_json::from_slice(&text).ok());
        printer::result(row(name, report.as_ref()));
    }
}

const HEADER: &str = "
scenario          sent  processed   one call      again unexplained   dead   lost  backlog error  busy";

fn row(name: &str, report: Option<&Report>) -> String {
    let Some(report) = report else {
        return format!("{name:<12}  did not get so far");
    };
    let account = &report.account;
    let busy = report
        .busy
        .map_or_else(String::new, |busy| format!("{:.0} %", busy * 100.0));
    format!(
        "{name:<12} {:>9} {:>10} {:>10} {:>10} {:>11} {:>6} {:>6} {:>12.1} % {busy:>5}",
        account.sent,
        account.processed,
        account.once,
        report.duplicates,
        report.unexplained,
        account.dead,
        account.lost,
        report.backlog_error * 100.0
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_their_names() {
        let report = Report {
            account: Account {
                sent: 100_000,
                processed: 99_998,
                once: 99_890,
                dead: 2,
                lost: 0,
            },
            duplicates: 108,
            unexplained: 0,
            backlog_error: 0.0194,
            busy: Some(0.41),
        };
        let row = row("spike", Some(&report));
        let header = HEADER.trim_start();
        for (name, value) in [
            ("sent", " 100000"),
            ("processed", " 99998"),
            ("one call", " 99890"),
            ("again", " 108"),
            ("unexplained", " 0"),
            ("dead", " 2"),
            ("lost", " 0"),
            ("backlog error", " 1.9 %"),
            ("busy", " 41 %"),
        ] {
            let end = header.find(name).unwrap() + name.len();
            assert!(row[..end].ends_with(value), "{name}:\n{header}\n{row}");
        }
        assert_eq!(row.len(), header.len());
    }
}
