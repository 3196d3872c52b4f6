//! A real server on a free port over a temporary directory, for tests on the wire.

use std::net::SocketAddr;
use std::path::Path;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::{BehaviorVersion, Credentials, Region};
use local_queue::{LocalQueue, Options, Server};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

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

pub fn open(dir: &Path) -> LocalQueue {
    LocalQueue::open(dir, Options::default()).unwrap()
}
