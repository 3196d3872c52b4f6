//! `test`: prepares what the suites need, runs them all, and says how long each
//! took. Owns the environment of the tests; does not know what they test.

use std::env;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::servers::{self, Server, Servers};
use crate::venv::{self, Venv};
use crate::wasm_target::{self, Source};
use crate::workspace::{WASM_TARGET, Workspace};
use crate::{bench, build, k8s, lint, portal, printer, process, scale_test};

/// What `--only` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Suite {
    /// Formatting, clippy, spelling, dependencies.
    Lint,
    /// Components and xtask, natively.
    Unit,
    /// The embedded queue, with official clients.
    LocalQueue,
    /// The native host, end to end.
    Shim,
    /// How fast messages are consumed, beside boto3: what is required of it.
    Rate,
    /// The application, by its API description.
    Api,
    /// The application, by its page in a browser.
    Browser,
    /// The chart, the images and the infrastructure, without a cluster.
    K8s,
    /// The scale lab: its tests, and its arithmetic.
    Scale,
}

impl Suite {
    const ALL: [Self; 9] = [
        Self::Lint,
        Self::Unit,
        Self::LocalQueue,
        Self::Shim,
        Self::Rate,
        Self::Api,
        Self::Browser,
        Self::K8s,
        Self::Scale,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Lint => "lint",
            Self::Unit => "unit",
            Self::LocalQueue => "local-queue",
            Self::Shim => "shim",
            Self::Rate => "rate",
            Self::Api => "api",
            Self::Browser => "browser",
            Self::K8s => "k8s",
            Self::Scale => "scale",
        }
    }

    /// What its tests pass by when it is missing.
    fn optional(self) -> &'static [Server] {
        match self {
            Self::LocalQueue => &[
                Server::Ministack,
                Server::LocalStack,
                Server::AwsCli,
                Server::SqsClient,
                Server::Node,
            ],
            Self::Shim => &[
                Server::Redis,
                Server::Postgres,
                Server::Mosquitto,
                Server::DynamoDb,
                Server::Ministack,
                Server::LocalStack,
                Server::Registry,
                Server::ExampleJs,
                Server::ExamplePy,
                Server::CommandModule,
                Server::ExampleCommand,
                Server::WasmEdge,
            ],
            Self::K8s => k8s::MAY_USE,
            _ => &[],
        }
    }

    /// What it does not run without.
    fn indispensable(self) -> &'static [Server] {
        match self {
            Self::Api => portal::API_NEEDS,
            Self::Browser => portal::BROWSER_NEEDS,
            Self::K8s => k8s::NEEDS,
            Self::Scale => scale_test::NEEDS,
            _ => &[],
        }
    }
}

/// One program of a suite, and how long it may take.
pub(crate) struct Task {
    name: &'static str,
    command: Command,
    limit: Duration,
}

impl Task {
    pub(crate) fn new(name: &'static str, command: Command, limit_minutes: u64) -> Self {
        Self {
            name,
            command,
            limit: Duration::from_mins(limit_minutes),
        }
    }
}

/// At least one check or test failed; each was reported where it happened.
#[derive(Debug, thiserror::Error)]
#[error("failed: {}", .0.join(", "))]
pub(crate) struct Failed(Vec<&'static str>);

/// Runs every task, also after one failed.
pub(crate) fn run_all(tasks: &mut [Task]) -> Result<()> {
    let mut failed = Vec::new();
    for task in tasks {
        printer::heading(task.name);
        if let Err(error) = process::stream(&mut task.command, task.limit) {
            printer::error(&error);
            failed.push(task.name);
        }
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(Failed(failed).into())
    }
}

/// Runs the chosen suites, or all of them. A server that cannot be had is a
/// failure where it is required, and skipped with its tests where it is not.
pub(crate) fn run(workspace: &Workspace, only: &[Suite], require_servers: bool) -> Result<()> {
    let chosen: Vec<_> = Suite::ALL
        .into_iter()
        .filter(|suite| only.is_empty() || only.contains(suite))
        .collect();
    let mut report = Report::default();
    let started = Instant::now();
    let prepared = Prepared::make(workspace, &chosen, require_servers, &mut report);
    for suite in chosen {
        let lacks = prepared.lacks(suite);
        let may_be_skipped = lacks.is_some() && !require_servers;
        report.time_unless_skipped(suite.name(), may_be_skipped, || match lacks {
            Some(server) => Err(NotPrepared(server.name()).into()),
            None => prepared.run(workspace, suite),
        });
    }
    report.print(started.elapsed());
    report.verdict()
}

/// What was got ready; each part fails on its own, and with it only the suites
/// that need it.
struct Prepared {
    venv: Option<Venv>,
    wasm_target: bool,
    binaries: bool,
    servers: Vec<Server>,
    variables: Vec<servers::Variable>,
}

/// A suite could not start.
#[derive(Debug, thiserror::Error)]
#[error("not run, because its preparation failed: {0}")]
struct NotPrepared(&'static str);

impl Prepared {
    fn make(
        workspace: &Workspace,
        chosen: &[Suite],
        require_servers: bool,
        report: &mut Report,
    ) -> Self {
        let any = |suites: &[Suite]| chosen.iter().any(|suite| suites.contains(suite));
        let mut prepared = Self {
            venv: None,
            wasm_target: false,
            binaries: false,
            servers: Vec::new(),
            variables: Vec::new(),
        };
        if any(&[Suite::Lint, Suite::LocalQueue, Suite::Shim, Suite::Rate]) {
            report.time("python tools", || {
                prepared.venv = Some(Venv::ensure(workspace, &venv::TOOLS)?);
                Ok(())
            });
        }
        let run_the_application = [
            Suite::Shim,
            Suite::Rate,
            Suite::Api,
            Suite::Browser,
            Suite::K8s,
        ];
        if any(&[Suite::Lint]) || any(&run_the_application) {
            report.time("wasm target", || {
                wasm_target::ensure(workspace, WASM_TARGET, Source::Auto)?;
                prepared.wasm_target = true;
                Ok(())
            });
        }
        if any(&run_the_application) && prepared.wasm_target {
            report.time("build", || {
                build::everything(workspace)?;
                if any(&[Suite::Shim, Suite::Rate]) {
                    build::guests(workspace)?;
                }
                prepared.binaries = true;
                Ok(())
            });
        }
        if require_servers {
            prepared.variables.push((servers::REQUIRED, "1".into()));
        }
        let wanted = Server::ALL.into_iter().filter(|server| {
            chosen.iter().any(|suite| {
                suite.optional().contains(server) || suite.indispensable().contains(server)
            })
        });
        prepared.ensure_servers(workspace, wanted, require_servers, report);
        prepared
    }

    fn ensure_servers(
        &mut self,
        workspace: &Workspace,
        wanted: impl Iterator<Item = Server>,
        required: bool,
        report: &mut Report,
    ) {
        let mut servers = None;
        for server in wanted {
            let may_be_skipped = !required || server.is_never_required();
            report.time_unless_skipped(server.name(), may_be_skipped, || {
                let servers = match &mut servers {
                    Some(servers) => servers,
                    none => none.insert(Servers::open(workspace)?),
                };
                self.variables.extend(servers.ensure(server)?);
                self.servers.push(server);
                Ok(())
            });
        }
    }

    fn lacks(&self, suite: Suite) -> Option<Server> {
        let mut needed = suite.indispensable().iter().copied();
        needed.find(|server| !self.servers.contains(server))
    }

    fn run(&self, workspace: &Workspace, suite: Suite) -> Result<()> {
        let venv = || self.venv.as_ref().ok_or(NotPrepared("python tools"));
        let mut tasks = match suite {
            Suite::Lint => {
                let venv = venv()?;
                if !self.wasm_target {
                    return Err(NotPrepared("wasm target").into());
                }
                lint::tasks(workspace, venv)
            }
            Suite::Unit => {
                let components = [workspace.components(), workspace.component_libraries()].concat();
                let packages = [components, vec!["xtask"]].concat();
                vec![
                    tests("components and xtask", workspace, &packages, &[], None, 10),
                    tests(
                        "host libraries",
                        workspace,
                        HOST,
                        &["--lib".to_owned()],
                        None,
                        20,
                    ),
                ]
            }
            Suite::LocalQueue => {
                let targets = workspace.test_targets("local-queue")?;
                let venv = Some(venv()?);
                let mut queue = tests("local-queue", workspace, HOST, &targets, venv, 15);
                queue.command.envs(self.variables.iter().cloned());
                vec![queue]
            }
            Suite::Shim => {
                if !self.binaries {
                    return Err(NotPrepared("build").into());
                }
                let targets = workspace.test_targets("runtime-shim")?;
                let mut shim = tests("shim", workspace, HOST, &targets, Some(venv()?), 25);
                shim.command.envs(self.variables.iter().cloned());
                vec![shim]
            }
            Suite::Rate => {
                if !self.binaries {
                    return Err(NotPrepared("build").into());
                }
                let mut measure = bench::command(workspace, venv()?);
                measure.args(["--only", "consume", "--quick", "--require"]);
                without_accounts(&mut measure);
                vec![
                    Task::new("benchmark", bench::build(workspace), 15),
                    Task::new("rate", measure, 10),
                ]
            }
            Suite::Api | Suite::Browser => {
                if !self.binaries {
                    return Err(NotPrepared("build").into());
                }
                let file = format!("{}.test.mjs", suite.name());
                let mut node = portal::tests(workspace, &file, &self.variables)?;
                without_accounts(&mut node);
                vec![Task::new(suite.name(), node, 10)]
            }
            Suite::K8s => {
                if !self.binaries {
                    return Err(NotPrepared("build").into());
                }
                let mut python = k8s::tests(workspace, &self.variables)?;
                without_accounts(&mut python);
                vec![Task::new(suite.name(), python, 15)]
            }
            Suite::Scale => scale_test::suite(workspace, &self.variables),
        };
        run_all(&mut tasks)
    }
}

/// The packages of the host. They are always named together, because cargo picks
/// the features of shared dependencies by what is named: one by one, half of the
/// AWS SDK would be compiled twice.
pub(crate) const HOST: &[&str] = &["gristmill", "local-queue"];

/// `cargo test` in the environment that the tests may rely on.
fn tests(
    name: &'static str,
    workspace: &Workspace,
    packages: &[&str],
    targets: &[String],
    venv: Option<&Venv>,
    limit_minutes: u64,
) -> Task {
    let mut cargo = cargo_test(workspace, packages);
    cargo.args(targets);
    if let Some(venv) = venv {
        cargo.env("GRISTMILL_TEST_PYTHON", venv.python());
    }
    Task::new(name, cargo, limit_minutes)
}

fn cargo_test(workspace: &Workspace, packages: &[&str]) -> Command {
    let mut cargo = workspace.cargo();
    // What fails in one file says nothing about the others.
    cargo.args(["test", "--release", "--no-fail-fast"]);
    for package in packages {
        cargo.args(["--package", package]);
    }
    without_accounts(&mut cargo);
    cargo
}

/// `cargo test` of the host, for one test by its name.
pub(crate) fn host_test(workspace: &Workspace) -> Command {
    cargo_test(workspace, HOST)
}

/// Whatever account the machine is logged in to is none of the tests' business.
pub(crate) fn without_accounts(command: &mut Command) {
    let aws = env::vars_os().map(|(name, _)| name);
    for name in aws.filter(|name| name.to_str().is_some_and(|name| name.starts_with("AWS_"))) {
        command.env_remove(name);
    }
    command.env("AWS_EC2_METADATA_DISABLED", "true");
}

/// How a part ended.
enum Outcome {
    Passed,
    Failed,
    /// Could not be had on this machine, for this reason.
    Skipped(String),
}

/// What each part took and how it ended.
#[derive(Default)]
struct Report {
    rows: Vec<(&'static str, Duration, Outcome)>,
}

impl Report {
    fn time(&mut self, name: &'static str, work: impl FnOnce() -> Result<()>) {
        self.time_unless_skipped(name, false, work);
    }

    fn time_unless_skipped(
        &mut self,
        name: &'static str,
        may_be_skipped: bool,
        work: impl FnOnce() -> Result<()>,
    ) {
        let started = Instant::now();
        let outcome = match work() {
            Ok(()) => Outcome::Passed,
            Err(error) => {
                printer::error(&error);
                // What ran and failed was there, so it is not what is missing.
                if may_be_skipped && !error.is::<process::Failure>() {
                    Outcome::Skipped(first_line(&error))
                } else {
                    Outcome::Failed
                }
            }
        };
        self.rows.push((name, started.elapsed(), outcome));
    }

    fn print(&self, total: Duration) {
        printer::result("\nsuite           minutes  result");
        for (name, took, outcome) in &self.rows {
            let result = match outcome {
                Outcome::Passed => "ok",
                Outcome::Failed => "FAILED",
                Outcome::Skipped(reason) => &format!("SKIPPED: {reason}"),
            };
            printer::result(row(name, *took, result));
        }
        printer::result(row("total", total, ""));
    }

    fn verdict(&self) -> Result<()> {
        let failed: Vec<_> = self
            .rows
            .iter()
            .filter(|(.., outcome)| matches!(outcome, Outcome::Failed))
            .map(|(name, ..)| *name)
            .collect();
        if failed.is_empty() {
            Ok(())
        } else {
            Err(Failed(failed).into())
        }
    }
}

/// The reason without its hint: a row is one line.
fn first_line(error: &anyhow::Error) -> String {
    let message = format!("{error:#}");
    message.lines().next().unwrap_or_default().to_owned()
}

fn row(name: &str, took: Duration, result: &str) -> String {
    let row = format!("{name:<14} {:>8.1}  {result}", took.as_secs_f64() / 60.0);
    row.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Task {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Task::new("a task", command, 1)
    }

    #[test]
    fn every_task_runs_although_one_fails() {
        let directory = tempfile::tempdir().unwrap();
        let witness = directory.path().join("ran");
        let script = format!("touch '{}'", witness.display());
        let error = run_all(&mut [shell("exit 1"), shell(&script)]).unwrap_err();
        assert!(error.downcast_ref::<Failed>().is_some(), "{error:#}");
        assert!(witness.exists());
        run_all(&mut [shell("true")]).unwrap();
    }

    #[test]
    fn one_failed_row_fails_the_report() {
        let mut report = Report::default();
        report.time("good", || Ok(()));
        report.verdict().unwrap();
        report.time("bad", || Err(NotPrepared("build").into()));
        assert_eq!(report.verdict().unwrap_err().to_string(), "failed: bad");
    }

    #[test]
    fn what_is_skipped_does_not_fail_but_gives_its_reason() {
        let missing = || Err(anyhow::anyhow!("no `redis`: no mirror\nhint: a hint"));
        let mut report = Report::default();
        report.time_unless_skipped("redis", true, missing);
        report.verdict().unwrap();
        let (.., Outcome::Skipped(reason)) = &report.rows[0] else {
            panic!("it is skipped");
        };
        assert_eq!(reason, "no `redis`: no mirror");
        let broken = || process::stream(&mut shell("exit 1").command, Duration::from_mins(1));
        report.time_unless_skipped("example-js", true, broken);
        assert_eq!(
            report.verdict().unwrap_err().to_string(),
            "failed: example-js"
        );
        report.rows.pop();
        report.time_unless_skipped("redis", false, missing);
        assert_eq!(report.verdict().unwrap_err().to_string(), "failed: redis");
    }

    #[test]
    fn minutes_line_up() {
        assert_eq!(
            row("lint", Duration::from_secs(90), "ok"),
            "lint                1.5  ok"
        );
        assert_eq!(
            row("total", Duration::from_hours(1), ""),
            "total              60.0"
        );
    }
}
