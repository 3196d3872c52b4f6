//! One `gristmill` process: the queue, or a consumer that is a pod. Ends with its owner.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// A process that does not come up within this time never will.
const PATIENCE: Duration = Duration::from_mins(1);

/// Why there is no process.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It could not be started, or its log not be opened.
    #[error(
        "cannot start `{program}`: {error}; build it with `cargo xtask build`, or name it with --gristmill"
    )]
    Start {
        /// The program.
        program: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
    /// It ended, or said nothing, before it was ready.
    #[error(
        "`gristmill {command}` did not become ready ({said}); its log, {log}, ends with: {end}"
    )]
    NotReady {
        /// Which command.
        command: String,
        /// What happened instead.
        said: String,
        /// The log.
        log: PathBuf,
        /// The end of the log.
        end: String,
    },
    /// A signal could not be sent, or its end not be awaited.
    #[error("process {pid}: {said}")]
    Lost {
        /// Which one.
        pid: u32,
        /// What happened.
        said: String,
    },
}

/// What to start.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) program: PathBuf,
    pub(super) folder: PathBuf,
    pub(super) arguments: Vec<String>,
    /// Standard error: appended to, so that a restart keeps what was there.
    pub(super) log: PathBuf,
}

pub(super) struct Process {
    child: Child,
    pid: u32,
    lines: Lines<BufReader<ChildStdout>>,
    command: String,
    log: PathBuf,
}

impl Process {
    /// Starts it, without anything of this machine's AWS configuration.
    pub(super) fn start(plan: &Plan) -> Result<Self, ProcessError> {
        let failed = |error| ProcessError::Start {
            program: plan.program.clone(),
            error,
        };
        let log = File::options()
            .create(true)
            .append(true)
            .open(&plan.log)
            .map_err(failed)?;
        let mut command = Command::new(&plan.program);
        for (name, _) in std::env::vars_os() {
            let foreign = |name: &str| {
                ["AWS_", "GRISTMILL_", "SPIN_"]
                    .iter()
                    .any(|p| name.starts_with(p))
            };
            if name.to_str().is_some_and(foreign) {
                command.env_remove(name);
            }
        }
        let mut child = command
            .args(&plan.arguments)
            .current_dir(&plan.folder)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_ACCESS_KEY_ID", "lab")
            .env("AWS_SECRET_ACCESS_KEY", "lab")
            .env("AWS_REGION", "us-east-1")
            .env("GRISTMILL_LOG_FORMAT", "json")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let missing = || failed(std::io::Error::other("no standard output"));
        let stdout = child.stdout.take().ok_or_else(missing)?;
        Ok(Self {
            pid: child.id().unwrap_or_default(),
            child,
            lines: BufReader::new(stdout).lines(),
            command: plan.arguments.first().cloned().unwrap_or_default(),
            log: plan.log.clone(),
        })
    }

    /// Waits for a line that begins so, and returns its rest.
    pub(super) async fn line(&mut self, beginning: &str) -> Result<String, ProcessError> {
        let lines = &mut self.lines;
        let wait = async {
            loop {
                match lines.next_line().await {
                    Ok(Some(line)) => {
                        if let Some(rest) = line.strip_prefix(beginning) {
                            return Ok(rest.trim().to_owned());
                        }
                    }
                    Ok(None) => return Err("it ended".to_owned()),
                    Err(error) => return Err(error.to_string()),
                }
            }
        };
        let late = |_| {
            Err(format!(
                "no line `{beginning}` within {} s",
                PATIENCE.as_secs()
            ))
        };
        let found = tokio::time::timeout(PATIENCE, wait).await;
        found
            .unwrap_or_else(late)
            .map_err(|said| ProcessError::NotReady {
                command: self.command.clone(),
                said,
                log: self.log.clone(),
                end: end_of(&self.log),
            })
    }

    pub(super) fn terminate(&self) -> Result<(), ProcessError> {
        self.signal(Signal::SIGTERM)
    }

    pub(super) fn kill(&self) -> Result<(), ProcessError> {
        self.signal(Signal::SIGKILL)
    }

    fn signal(&self, signal: Signal) -> Result<(), ProcessError> {
        kill(Pid::from_raw(self.pid as i32), signal).map_err(|error| self.lost(error.to_string()))
    }

    pub(super) async fn ended(&mut self) -> Result<ExitStatus, ProcessError> {
        let ended = self.child.wait().await;
        ended.map_err(|error| self.lost(error.to_string()))
    }

    fn lost(&self, said: String) -> ProcessError {
        let pid = self.pid;
        ProcessError::Lost { pid, said }
    }
}

fn end_of(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().rev().take(3).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
}
