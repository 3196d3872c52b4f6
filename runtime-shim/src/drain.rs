//! Stopping: the signals that start it and cut it short, and how long it may take.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

/// How long work under way may go on after the signal. Kubernetes gives a pod
/// 30 s by default: this leaves time for what follows the drain.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(25);

/// The signals that stop the process.
pub struct StopSignals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl StopSignals {
    /// From now on, SIGTERM and SIGINT are waited for instead of ending the process.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// The name of the next signal.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
