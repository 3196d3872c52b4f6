//! Signals: what stops the process and cuts stopping short, how long that may
//! take, and what asks for a reload.

use std::io::IsTerminal;
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

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// To stop. The signal's name.
    Stop(&'static str),
    /// To read the application anew.
    Reload,
}

/// The signals that stop the process, and the one that reloads the application.
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    /// Spin's child has its application from Spin: there is nothing to read anew.
    hangup: Option<Signal>,
    /// A terminal that closes sends the same signal, and means something else.
    terminal: bool,
    echo: Duration,
    last: Option<Instant>,
    /// Whose end is a signal, too, if it is the first.
    parent: Option<u32>,
}

impl StopSignals {
    /// From now on, SIGTERM, SIGINT and SIGHUP are waited for instead of ending the process.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: Some(signal(SignalKind::hangup())?),
            terminal: std::io::stdin().is_terminal(),
            echo: Duration::ZERO,
            last: None,
            parent: None,
        })
    }

    /// The same for a process that Spin started: repetitions of a signal are no
    /// further one, and when Spin ends without a word, that is one.
    pub fn listen_below_spin() -> std::io::Result<Self> {
        Ok(Self {
            hangup: None,
            echo: ECHO,
            parent: Some(parent_id()),
            ..Self::listen()?
        })
    }

    /// What the next signal asks for.
    pub async fn next(&mut self) -> Asked {
        loop {
            let name = tokio::select! {
                _ = self.terminate.recv() => "SIGTERM",
                _ = self.interrupt.recv() => "SIGINT",
                () = received(self.hangup.as_mut()) => {
                    if self.terminal && !std::io::stdin().is_terminal() {
                        "SIGHUP, for its terminal is gone"
                    } else {
                        return Asked::Reload;
                    }
                }
                () = gone(self.parent) => "the end of Spin",
            };
            // Spin may end while this process drains: it told what it had to tell.
            self.parent = None;
            let repeated = self.last.is_some_and(|last| last.elapsed() < self.echo);
            if !repeated {
                self.last = Some(Instant::now());
                return Asked::Stop(name);
            }
        }
    }

    /// The name of the next signal that stops; those that reload come too late.
    pub async fn next_stop(&mut self) -> &'static str {
        loop {
            if let Asked::Stop(name) = self.next().await {
                return name;
            }
        }
    }
}

async fn received(signal: Option<&mut Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
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
