//! `LocalStack`, an emulator of AWS: a second opinion on SQS. It keeps everything in memory.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::process::{Kind, Server, launch};
use super::program;
use crate::support::agent;

/// A running `LocalStack`.
pub type LocalStack = Server<LocalStackServer>;

pub struct LocalStackServer {
    python: PathBuf,
}

impl LocalStack {
    /// Starts one, which takes some seconds.
    pub fn start() -> Option<Self> {
        let kind = LocalStackServer {
            python: program("GRISTMILL_TEST_LOCALSTACK")?,
        };
        Some(Self::launch(kind, tempfile::tempdir().unwrap()))
    }

    /// For `endpoint_url` and the like; any credentials will do.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port())
    }
}

impl Kind for LocalStackServer {
    const NAME: &'static str = "LocalStack";

    fn command(&self, dir: &Path, port: u16) -> Command {
        let mut command = launch(&self.python);
        command
            .args(["-m", "localstack.runtime.main"])
            .current_dir(dir)
            .env("GATEWAY_LISTEN", format!("127.0.0.1:{port}"))
            .env("LOCALSTACK_VOLUME_DIR", dir.join("volume"))
            .env("SERVICES", "sqs")
            // It starts without network: nothing is reported or fetched.
            .env("DISABLE_EVENTS", "1")
            .env("SKIP_SSL_CERT_DOWNLOAD", "1")
            .env("DNS_ADDRESS", "0")
            .env("HOME", dir)
            .env("DOCKER_HOST", "unix:///nonexistent");
        command
    }

    fn answers(&self, _dir: &Path, port: u16) -> bool {
        let url = format!("http://127.0.0.1:{port}/_localstack/health");
        let answer = agent().get(url).call();
        answer.is_ok_and(|response| response.status().is_success())
    }
}
