//! The process of a server: its port, its folder, its life and death. Does not
//! know which server it is.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use super::super::wait_for;

/// How often a server may find its port taken.
const ATTEMPTS: usize = 5;
/// How long a server has to leave by itself when its test is over.
const GRACE: Duration = Duration::from_secs(5);
/// Below the ports that the system gives to clients. One of those could take the port of a
/// server that is down, or even connect to itself on it.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// What makes one server different from another.
pub trait Kind: Send + Sync {
    const NAME: &'static str;
    /// Asks it to leave, and to save what it has.
    const STOP: Signal = Signal::SIGTERM;
    /// Ends it when the test is over.
    const END: Signal = Signal::SIGKILL;

    /// Starts it on `port`, with all that it writes under `dir`. Made by [`launch`].
    fn command(&self, dir: &Path, port: u16) -> Command;

    /// Whether it answers in its own protocol.
    fn answers(&self, dir: &Path, port: u16) -> bool;
}

/// A server and all that it needs to be started again.
pub struct Server<K: Kind> {
    pub(super) kind: K,
    pub(super) dir: tempfile::TempDir,
    port: Port,
    child: Mutex<Option<Child>>,
}

impl<K: Kind> Server<K> {
    /// Starts it on a free port and waits until it answers.
    pub(super) fn launch(kind: K, dir: tempfile::TempDir) -> Self {
        let mut server = Self {
            kind,
            port: Port::reserve(dir.path()),
            dir,
            child: Mutex::default(),
        };
        for _ in 1..ATTEMPTS {
            if server.try_start().is_ok() {
                return server;
            }
            server.port = Port::reserve(server.dir.path());
        }
        server.restart();
        server
    }

    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port.number
    }

    /// The process id; there is none while it is down.
    pub fn pid(&self) -> Option<u32> {
        self.child().as_ref().map(Child::id)
    }

    /// What it printed so far.
    pub fn log(&self) -> String {
        fs::read(self.dir.path().join("server.log"))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// SIGKILL to all its processes; returns when they are gone.
    pub fn kill(&self) {
        if let Some(child) = self.child().take() {
            end_family(child);
        }
    }

    /// Asks it to leave and waits until it did.
    pub fn stop(&self) {
        if let Some(mut child) = self.child().take() {
            kill(pid_of(&child), K::STOP).unwrap();
            wait_for(&format!("{} to stop", K::NAME), || {
                child.try_wait().unwrap()
            });
            end_family(child);
        }
    }

    /// Starts it (again) on the same port and data, and waits until it answers.
    pub fn restart(&self) {
        self.kill();
        if let Err(status) = self.try_start() {
            panic!("{} does not start: {status}", K::NAME);
        }
    }

    /// SIGSTOP to all its processes: connections stay, nothing answers.
    pub fn freeze(&self) {
        if let Some(child) = self.child().as_ref() {
            stop_family(pid_of(child));
        }
    }

    /// SIGCONT: it goes on as if nothing had been.
    pub fn thaw(&self) {
        if let Some(child) = self.child().as_ref() {
            continue_family(pid_of(child));
        }
    }

    fn try_start(&self) -> Result<(), ExitStatus> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.path().join("server.log"))
            .unwrap();
        let mut command = self.kind.command(self.dir.path(), self.port());
        command
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .process_group(0);
        let mut running = self.child();
        let child = running.insert(spawn(command));
        let exited = wait_for(&format!("{} to answer", K::NAME), || {
            match child.try_wait().unwrap() {
                Some(status) => Some(Some(status)),
                None => self
                    .kind
                    .answers(self.dir.path(), self.port())
                    .then_some(None),
            }
        });
        match exited {
            None => Ok(()),
            Some(status) => {
                running.take();
                Err(status)
            }
        }
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Kind> Drop for Server<K> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of {}\n{}", K::NAME, self.log());
        }
        let Some(mut child) = self.child().take() else {
            return;
        };
        if K::END != Signal::SIGKILL {
            continue_family(pid_of(&child));
            let _ = kill(pid_of(&child), K::END);
            let deadline = Instant::now() + GRACE;
            while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        end_family(child);
    }
}

/// A number that no other server of this user's tests has, in this or another process.
pub struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// For a server within this process.
    pub fn reserve_for_user() -> Self {
        Self::reserve(tempfile::tempdir().unwrap().path())
    }

    /// Which one it is.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Of the user who owns `dir`.
    fn reserve(dir: &Path) -> Self {
        let user = fs::metadata(dir).unwrap().uid();
        let locks = std::env::temp_dir().join(format!("gristmill-test-ports-{user}"));
        fs::create_dir_all(&locks).unwrap();
        wait_for("a free port", || {
            let random = RandomState::new().build_hasher().finish();
            let number = PORTS.start + (random % u64::from(PORTS.end - PORTS.start)) as u16;
            let lock = File::create(locks.join(number.to_string())).unwrap();
            lock.try_lock().ok()?;
            TcpListener::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
            Some(Self {
                number,
                _lock: lock,
            })
        })
    }
}

/// A command that dies with this test process, even when that is killed; as far as the machine
/// has a `setpriv` that can do that.
pub(super) fn launch(program: &Path) -> Command {
    launch_with(&[], program)
}

/// The same with more options of `setpriv`.
pub(super) fn launch_with(options: &[&str], program: &Path) -> Command {
    static DIES_WITH_PARENT: OnceLock<bool> = OnceLock::new();
    let dies_with_parent = *DIES_WITH_PARENT.get_or_init(|| {
        let probe = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "true"])
            .stderr(Stdio::null())
            .status();
        probe.is_ok_and(|status| status.success())
    });
    if !dies_with_parent && options.is_empty() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    if dies_with_parent {
        command.args(["--pdeathsig", "KILL"]);
    }
    command.args(options).arg("--").arg(program);
    command
}

/// Starts a process from a thread that lives as long as the tests do: what dies with its parent
/// dies with the thread that started it, and each test is a thread.
fn spawn(command: Command) -> Child {
    type Order = (Command, mpsc::Sender<io::Result<Child>>);
    static KEEPER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let keeper = KEEPER.get_or_init(|| {
        let (orders, received) = mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in received {
                let _ = answer.send(command.spawn());
            }
        });
        orders
    });
    let program = format!("{command:?}");
    let (answer, child) = mpsc::channel();
    keeper.send((command, answer)).unwrap();
    child
        .recv()
        .unwrap()
        .unwrap_or_else(|error| panic!("cannot start {program}: {error}"))
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(child.id() as i32)
}

/// Stops the parent first: it cannot have further children then.
fn stop_family(parent: Pid) {
    let _ = killpg(parent, Signal::SIGSTOP);
    for pid in descendants(parent) {
        let _ = kill(pid, Signal::SIGSTOP);
    }
}

fn continue_family(parent: Pid) {
    for pid in descendants(parent) {
        let _ = kill(pid, Signal::SIGCONT);
    }
    let _ = killpg(parent, Signal::SIGCONT);
}

fn end_family(mut child: Child) {
    let parent = pid_of(&child);
    stop_family(parent);
    let children = descendants(parent);
    let _ = killpg(parent, Signal::SIGKILL);
    for pid in &children {
        let _ = kill(*pid, Signal::SIGKILL);
    }
    let _ = child.wait();
    let deadline = Instant::now() + GRACE;
    while children.iter().any(|pid| is_alive(*pid)) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// All processes below this one. The group is not enough: PostgreSQL gives each of its
/// processes a group of its own. Where there is no `/proc`, the group has to do.
fn descendants(parent: Pid) -> Vec<Pid> {
    let mut children = BTreeMap::<i32, Vec<i32>>::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if let Some((_, parent)) = state_and_parent(Pid::from_raw(pid)) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = vec![parent.as_raw()];
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        found.extend(children.remove(pid).unwrap_or_default());
        next += 1;
    }
    found.into_iter().skip(1).map(Pid::from_raw).collect()
}

/// A zombie that nobody has waited for yet is gone.
fn is_alive(pid: Pid) -> bool {
    state_and_parent(pid).is_some_and(|(state, _)| state != "Z")
}

/// From `pid (any name) S ppid …`.
fn state_and_parent(pid: Pid) -> Option<(String, i32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}
