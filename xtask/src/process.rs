//! Running other programs: each in a process group of its own and under a time
//! limit, so that nothing it started outlives it or the user's patience. Owns
//! the groups that an interrupt has to end. Does not know what is run.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// How long a group has after SIGTERM before SIGKILL ends it.
const GRACE: Duration = Duration::from_secs(5);

/// What a program did that was run to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{program} failed ({status})")]
    Status { program: String, status: ExitStatus },
    #[error("{program} was stopped: it ran longer than {} minutes", limit.as_secs().div_ceil(60))]
    TimedOut { program: String, limit: Duration },
}

/// The whole output of a program that was run quietly.
#[derive(Debug)]
pub(crate) struct Captured {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) outcome: Result<(), Failure>,
}

impl Captured {
    /// The output, or an error that ends in what the program said last.
    pub(crate) fn success(self) -> Result<String> {
        match self.outcome {
            Ok(()) => Ok(self.stdout),
            // No `Failure` any more: what is run quietly is a means, not a verdict.
            Err(failure) => {
                let said = tail(if self.stderr.trim().is_empty() {
                    &self.stdout
                } else {
                    &self.stderr
                });
                Err(anyhow!("{said}: {failure}"))
            }
        }
    }
}

/// Runs a program whose output goes straight to the terminal.
pub(crate) fn stream(command: &mut Command, limit: Duration) -> Result<()> {
    let program = display(command);
    let child = Group::spawn(command.stdin(Stdio::null()), &program)?;
    Ok(child.wait(limit)?)
}

/// Runs a program and keeps its output.
pub(crate) fn capture(command: &mut Command, limit: Duration) -> Result<Captured> {
    let program = display(command);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut group = Group::spawn(command, &program)?;
    let stdout = drain(group.child.stdout.take());
    let stderr = drain(group.child.stderr.take());
    let outcome = group.wait(limit);
    Ok(Captured {
        stdout: text(stdout),
        stderr: text(stderr),
        outcome,
    })
}

/// Whether a program of this name can be started at all.
pub(crate) fn is_installed(program: &str) -> bool {
    let probe = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    probe.is_ok()
}

/// PATH with further folders in front.
pub(crate) fn path_with<'a>(folders: impl IntoIterator<Item = &'a Path>) -> Result<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = folders.into_iter().map(Path::to_owned);
    env::join_paths(folders.chain(env::split_paths(&path))).context("cannot extend PATH")
}

/// From here on an interrupt (Ctrl-C, SIGTERM) ends every running group first.
pub(crate) fn end_groups_on_interrupt() -> Result<()> {
    ctrlc::set_handler(|| {
        for group in live_groups().iter() {
            let _ = killpg(Pid::from_raw(*group), Signal::SIGTERM);
        }
        std::process::exit(130);
    })
    .context("cannot handle interrupts")
}

/// A child and all that it starts.
struct Group {
    child: Child,
    program: String,
}

impl Group {
    fn spawn(command: &mut Command, program: &str) -> Result<Self> {
        // Under the lock, so that an interrupt finds every group that exists.
        let mut live = live_groups();
        let child = command
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        live.insert(group_of(&child).as_raw());
        Ok(Self {
            child,
            program: program.to_owned(),
        })
    }

    fn wait(self, limit: Duration) -> Result<(), Failure> {
        let Self { mut child, program } = self;
        let group = group_of(&child);
        let (report, ended) = mpsc::channel();
        let waiter = thread::spawn(move || {
            let _ = report.send(child.wait());
        });
        let in_time = ended.recv_timeout(limit);
        if in_time.is_err() {
            let _ = killpg(group, Signal::SIGTERM);
            if let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(GRACE) {
                let _ = killpg(group, Signal::SIGKILL);
            }
        }
        // Whatever the program left running ends with it.
        let _ = killpg(group, Signal::SIGKILL);
        let _ = waiter.join();
        live_groups().remove(&group.as_raw());
        match in_time {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(Failure::Status { program, status }),
            Ok(Err(_)) | Err(_) => Err(Failure::TimedOut { program, limit }),
        }
    }
}

fn group_of(child: &Child) -> Pid {
    Pid::from_raw(child.id() as i32)
}

fn live_groups() -> std::sync::MutexGuard<'static, BTreeSet<i32>> {
    static LIVE: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

type Drained = thread::JoinHandle<io::Result<Vec<u8>>>;

fn drain(pipe: Option<impl Read + Send + 'static>) -> Drained {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            pipe.read_to_end(&mut bytes)?;
        }
        Ok(bytes)
    })
}

fn text(drained: Drained) -> String {
    let bytes = drained.join().ok().and_then(Result::ok).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The last lines that a program printed, joined for an error message.
fn tail(output: &str) -> String {
    let lines: Vec<_> = output
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    lines[lines.len().saturating_sub(4)..].join("; ")
}

/// `` `cargo build --release` ``, cut where it would fill the screen.
fn display(command: &Command) -> String {
    let program = command.get_program().to_string_lossy();
    let name = program.rsplit('/').next().unwrap_or(&program).to_owned();
    let mut line = name;
    for argument in command.get_args() {
        if line.len() > 80 {
            line.push_str(" …");
            break;
        }
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    format!("`{line}`")
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    const MINUTE: Duration = Duration::from_mins(1);

    #[test]
    fn output_is_captured_and_a_failure_says_what_the_program_said() {
        let fine = capture(&mut shell("echo out; echo err >&2"), MINUTE).unwrap();
        assert_eq!(
            (fine.stdout.as_str(), fine.stderr.as_str()),
            ("out\n", "err\n")
        );
        assert_eq!(fine.success().unwrap(), "out\n");

        let failed = capture(&mut shell("echo 'no such suite' >&2; exit 100"), MINUTE).unwrap();
        let message = format!("{:#}", failed.success().unwrap_err());
        assert!(message.contains("no such suite"), "{message}");
        assert!(message.contains("100"), "{message}");
    }

    #[test]
    fn a_program_over_its_limit_is_stopped_with_its_children() {
        // The grandchild holds stdout open: `capture` returns before its ten
        // minutes only because it was ended too.
        let started = Instant::now();
        let limit = Duration::from_millis(300);
        let stopped = capture(&mut shell("sleep 600 & wait"), limit).unwrap();
        assert!(matches!(stopped.outcome, Err(Failure::TimedOut { .. })));
        assert!(started.elapsed() < Duration::from_mins(5));
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = stream(&mut Command::new("no-such-program-here"), MINUTE).unwrap_err();
        assert!(format!("{error:#}").contains("no-such-program-here"));
        assert!(!is_installed("no-such-program-here"));
    }
}
