//! ministack, an emulator of AWS: SQS, DynamoDB and S3. It writes queues and tables to its
//! folder only when it is asked to stop; objects of S3 at once. So `stop` keeps all, and `kill`
//! keeps S3 only.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::process::{Kind, Server, launch};
use super::program;
use crate::support::agent;

/// A running ministack.
pub type Ministack = Server<MinistackServer>;

pub struct MinistackServer {
    program: PathBuf,
}

impl Ministack {
    /// The one key that it knows.
    pub const KEY_ID: &str = "the-key-id";
    pub const SECRET_KEY: &str = "the-secret-key-of-s3";

    /// Starts one.
    pub fn start() -> Option<Self> {
        let kind = MinistackServer {
            program: program("GRISTMILL_TEST_MINISTACK")?,
        };
        Some(Self::launch(kind, tempfile::tempdir().unwrap()))
    }

    /// For `endpoint_url` and the like; any credentials will do, but presigned URLs of S3
    /// are verified: they need [`Self::KEY_ID`] and [`Self::SECRET_KEY`].
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port())
    }
}

impl Kind for MinistackServer {
    const NAME: &'static str = "ministack";

    fn command(&self, dir: &Path, port: u16) -> Command {
        let mut command = launch(&self.program);
        command
            .env("BIND_HOST", "127.0.0.1")
            .env("MINISTACK_HOST", "127.0.0.1")
            .env("GATEWAY_PORT", port.to_string())
            .env("SERVICES", "sqs,dynamodb,s3")
            .env("PERSIST_STATE", "1")
            .env("STATE_DIR", dir.join("state"))
            .env("S3_PERSIST", "1")
            .env("S3_DATA_DIR", dir.join("s3"))
            .env("TMPDIR", dir)
            .env("AWS_ACCESS_KEY_ID", Ministack::KEY_ID)
            .env("AWS_SECRET_ACCESS_KEY", Ministack::SECRET_KEY)
            // It would listen on well-known ports and remove containers of its other runs.
            .env("IOT_MTLS_ENABLED", "0")
            .env("SFTP_ENABLED", "0")
            .env("DOCKER_HOST", "unix:///nonexistent");
        command
    }

    fn answers(&self, _dir: &Path, port: u16) -> bool {
        let url = format!("http://127.0.0.1:{port}/_ministack/health");
        agent()
            .get(url)
            .call()
            .is_ok_and(|response| response.status().is_success())
    }
}
