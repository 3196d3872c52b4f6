//! Gristmill's own queue server, in a process of its own: an endpoint that keeps
//! every message it acknowledged, however it ends.

use std::path::Path;
use std::process::Command;

use super::super::agent;
use super::process::{Kind, Server, launch};

/// A running `gristmill queue`.
pub type QueueServer = Server<GristmillQueue>;

pub struct GristmillQueue {
    queue: String,
}

impl QueueServer {
    /// Starts one with this queue.
    pub fn start(queue: &str) -> Self {
        let kind = GristmillQueue {
            queue: queue.to_owned(),
        };
        Self::launch(kind, tempfile::tempdir().unwrap())
    }

    /// For `endpoint_url` and the like; any credentials will do.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port())
    }

    /// The URL of its queue.
    pub fn queue_url(&self) -> String {
        format!("{}/000000000000/{}", self.endpoint(), self.kind.queue)
    }
}

impl Kind for GristmillQueue {
    const NAME: &'static str = "gristmill queue";

    fn command(&self, dir: &Path, port: u16) -> Command {
        let mut command = launch(Path::new(env!("CARGO_BIN_EXE_gristmill")));
        command
            .args(["queue", "--create", &self.queue, "--listen"])
            .arg(format!("127.0.0.1:{port}"))
            .arg("--data-dir")
            .arg(dir.join("queue"));
        command
    }

    fn answers(&self, _dir: &Path, port: u16) -> bool {
        let url = format!("http://127.0.0.1:{port}/");
        agent().get(url).call().is_ok()
    }
}
