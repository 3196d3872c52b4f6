//! Amazon's DynamoDB Local on a SQLite file of its own: what was acknowledged survives a kill. It
//! takes a second or more to start, and listens on every address of the machine, which it has no
//! option against.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::process::{Kind, Server, launch};
use super::program;
use crate::support::agent;

/// A running DynamoDB Local.
pub type DynamoLocal = Server<DynamoLocalServer>;

pub struct DynamoLocalServer {
    java: PathBuf,
    jar: PathBuf,
}

impl DynamoLocal {
    /// Starts one of its own.
    pub fn start() -> Option<Self> {
        let kind = DynamoLocalServer {
            java: program("GRISTMILL_TEST_JAVA")?,
            jar: program("GRISTMILL_TEST_DYNAMODB")?,
        };
        Some(Self::launch(kind, tempfile::tempdir().unwrap()))
    }

    /// The one that other tests of this process use at the same time, for tests that neither
    /// stop it nor share names of tables. It ends with the last of them.
    pub fn shared() -> Option<Arc<Self>> {
        static SHARED: Mutex<Weak<DynamoLocal>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = shared.upgrade() {
            return Some(running);
        }
        let started = Arc::new(Self::start()?);
        *shared = Arc::downgrade(&started);
        Some(started)
    }

    /// For `endpoint_url` and the like; any region and letters-and-digits key will do.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port())
    }
}

impl Kind for DynamoLocalServer {
    const NAME: &'static str = "dynamodb";

    fn command(&self, dir: &Path, port: u16) -> Command {
        let mut command = launch(&self.java);
        // Short-lived: what a server's JVM does to become fast would only cost time here.
        command.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx512m"]);
        command.arg(format!("-Djava.library.path={}", self.jar.display()));
        command.arg(format!("-Djava.io.tmpdir={}", dir.display()));
        command.arg("-jar").arg(self.jar.join("DynamoDBLocal.jar"));
        command.arg("-dbPath").arg(dir);
        command.args(["-sharedDb", "-disableTelemetry", "-port"]);
        command.arg(port.to_string());
        command
    }

    fn answers(&self, _dir: &Path, port: u16) -> bool {
        let url = format!("http://127.0.0.1:{port}");
        agent().get(url).call().is_ok()
    }
}
