//! The SQS endpoint of a live run: `gristmill queue` on a free port, or somebody else's.

use std::path::Path;

use super::process::{Plan, Process, ProcessError};

pub(super) struct Endpoint {
    /// `http://HOST:PORT`.
    pub(super) url: String,
    own: Option<Own>,
}

struct Own {
    plan: Plan,
    process: Option<Process>,
}

impl Endpoint {
    pub(super) fn foreign(url: &str) -> Self {
        Self {
            url: url.trim_end_matches('/').to_owned(),
            own: None,
        }
    }

    /// Starts the queue; messages are in `folder`.
    pub(super) async fn start(program: &Path, folder: &Path) -> Result<Self, ProcessError> {
        let mut plan = Plan {
            program: program.to_owned(),
            folder: folder.to_owned(),
            arguments: ["queue", "--listen", "127.0.0.1:0", "--data-dir", "queue"]
                .map(str::to_owned)
                .into(),
            log: folder.join("queue.log"),
        };
        let mut process = Process::start(&plan)?;
        let url = process.line("Queue ").await?;
        // A restart is at the same address.
        let address = url.trim_start_matches("http://").to_owned();
        if let Some(listen) = plan.arguments.get_mut(2) {
            *listen = address;
        }
        Ok(Self {
            url,
            own: Some(Own {
                plan,
                process: Some(process),
            }),
        })
    }

    pub(super) fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// SIGKILL: from now on nobody answers. What was acknowledged is on disk.
    pub(super) async fn break_down(&mut self) -> Result<(), ProcessError> {
        let running = self.own.as_mut().and_then(|own| own.process.take());
        if let Some(mut process) = running {
            process.kill()?;
            process.ended().await?;
        }
        Ok(())
    }

    /// Ends an outage.
    pub(super) async fn repair(&mut self) -> Result<(), ProcessError> {
        if let Some(own) = &mut self.own
            && own.process.is_none()
        {
            let mut process = Process::start(&own.plan)?;
            process.line("Queue ").await?;
            own.process = Some(process);
        }
        Ok(())
    }

    /// SIGTERM, and its end.
    pub(super) async fn stop(&mut self) -> Result<(), ProcessError> {
        let running = self.own.as_mut().and_then(|own| own.process.take());
        if let Some(mut process) = running {
            process.terminate()?;
            process.ended().await?;
        }
        Ok(())
    }
}
