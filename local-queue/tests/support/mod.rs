//! A real server on a free port over a temporary directory, for tests on the wire.

pub mod peers;
pub mod raw;
pub mod refusals;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::{BehaviorVersion, Credentials, Region};
use local_queue::{LocalQueue, Options, Server};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Longer than any client of these tests takes.
const CLIENT_LIMIT: Duration = Duration::from_mins(5);

/// A running server; the test that drops it leaves the rest to its runtime's end.
pub struct Endpoint {
    pub dir: TempDir,
    pub queue: LocalQueue,
    pub addr: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<()>,
}

impl Endpoint {
    pub async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap()).await
    }

    /// Serves the queues that are in `dir` already.
    pub async fn start_in(dir: TempDir) -> Self {
        let queue = open(dir.path());
        let server = Server::bind(([127, 0, 0, 1], 0).into(), queue.clone())
            .await
            .unwrap();
        let addr = server.local_addr();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(server.serve(async {
            stopped.await.ok();
        }));
        Self {
            dir,
            queue,
            addr,
            stop: Some(stop),
            serving,
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub fn client(&self) -> Client {
        let config = aws_sdk_sqs::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-central-1"))
            .credentials_provider(Credentials::new("any", "any", None, None, "test"))
            .endpoint_url(self.url())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .build();
        Client::from_conf(config)
    }

    /// Asks the server to end.
    pub fn begin_stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    /// Waits until it has.
    pub async fn stopped(self) -> TempDir {
        self.serving.await.unwrap();
        self.queue.close().await;
        self.dir
    }
}

/// What `cargo xtask test` installed for the tests and named in a variable. Without it a test passes
/// by, unless `GRISTMILL_TEST_REQUIRE_SERVERS` is set.
pub fn tool(variable: &str) -> Option<PathBuf> {
    let found = std::env::var_os(variable).map(PathBuf::from);
    assert!(
        found.is_some() || std::env::var_os("GRISTMILL_TEST_REQUIRE_SERVERS").is_none(),
        "{variable} is not set, although GRISTMILL_TEST_REQUIRE_SERVERS is: \
         run it through cargo xtask test"
    );
    if found.is_none() {
        // Not by `eprintln!`, which a test that passes swallows.
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED a test: {variable} is not set (run `eval \"$(cargo xtask servers)\"` first)"
        );
    }
    found
}

/// Runs a client to its end and shows what it said when it failed.
pub async fn must_succeed(command: &mut Command) {
    let output = command
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(CLIENT_LIMIT, output)
        .await
        .expect("the client should end in time")
        .unwrap();
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

pub fn open(dir: &Path) -> LocalQueue {
    LocalQueue::open(dir, Options::default()).unwrap()
}
