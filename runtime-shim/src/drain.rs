//! Stopping: what starts it and cuts it short, and how long it may take.

use std::os::unix::process::parent_id;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

/// How long work under way may go on after the signal. Kubernetes gives a pod
/// 30 s by default: this leaves time for what follows the drain.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(25);

/// One Ctrl-C reaches a child of Spin as SIGINT from the terminal and as a SIGTERM
/// from each Spin process above it. What comes this soon after a signal repeats it.
const ECHO: Duration = Duration::from_secs(1);
/// How often a child looks for its parent.
const PARENT_CHECK: Duration = Duration::from_millis(500);

/// The signals that stop the process.
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    echo: Duration,
    last: Option<Instant>,
    /// Whose end is a signal, too, if it is the first.
    parent: Option<u32>,
}

impl StopSignals {
    /// From now on, SIGTERM and SIGINT are waited for instead of ending the process.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            echo: Duration::ZERO,
            last: None,
            parent: None,
        })
    }

    /// The same for a process that Spin started: repetitions of a signal are no
    /// further one, and when Spin ends without a word, that is one.
    pub fn listen_below_spin() -> std::io::Result<Self> {
        Ok(Self {
            echo: ECHO,
            parent: Some(parent_id()),
            ..Self::listen()?
        })
    }

    /// The name of the next signal.
    pub async fn next(&mut self) -> &'static str {
        loop {
            let name = tokio::select! {
                _ = self.terminate.recv() => "SIGTERM",
                _ = self.interrupt.recv() => "SIGINT",
                () = gone(self.parent) => "the end of Spin",
            };
            // Spin may end while this process drains: it told what it had to tell.
            self.parent = None;
            let repeated = self.last.is_some_and(|last| last.elapsed() < self.echo);
            if !repeated {
                self.last = Some(Instant::now());
                return name;
            }
        }
    }
}

/// Waits until another process is the parent of this one: Spin was killed.
async fn gone(parent: Option<u32>) {
    let Some(parent) = parent else {
        return std::future::pending().await;
    };
    while parent_id() == parent {
        tokio::time::sleep(PARENT_CHECK).await;
    }
}
