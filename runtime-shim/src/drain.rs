//! Stopping: a signal starts it, a deadline ends it, a second signal cuts it short.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// How long work under way may go on after the signal. Kubernetes gives a pod
/// 30 s by default: this leaves time for what follows the drain.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(25);

/// Tells everything in the process when to stop.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    intake: CancellationToken,
}

impl Drain {
    /// Cancelled when nothing new may be taken in.
    pub fn intake(&self) -> &CancellationToken {
        &self.intake
    }

    /// Stops the intake.
    pub fn begin(&self) {
        self.intake.cancel();
    }
}

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
