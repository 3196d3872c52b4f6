//! Other endpoints of SQS, as processes on loopback: what this server is compared with.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// `LocalStack` loads for some seconds, on a busy machine for many.
const START_LIMIT: Duration = Duration::from_mins(2);
const FIRST_PORT: u16 = 20_000;
const PAUSE: Duration = Duration::from_millis(200);

/// How one of them is run.
pub struct Kind {
    /// Where its program is.
    variable: &'static str,
    arguments: &'static [&'static str],
    environment: fn(&mut Command, &Path, u16),
    /// Answers when it serves.
    health: &'static str,
}

pub const MINISTACK: Kind = Kind {
    variable: "GRISTMILL_TEST_MINISTACK",
    arguments: &[],
    environment: |command, dir, port| {
        command
            .env("BIND_HOST", "127.0.0.1")
            .env("MINISTACK_HOST", "127.0.0.1")
            .env("GATEWAY_PORT", port.to_string())
            .env("SERVICES", "sqs")
            .env("STATE_DIR", dir.join("state"))
            .env("TMPDIR", dir)
            // It would listen on well-known ports and remove containers of its other runs.
            .env("IOT_MTLS_ENABLED", "0")
            .env("SFTP_ENABLED", "0");
    },
    health: "/_ministack/health",
};

pub const LOCALSTACK: Kind = Kind {
    variable: "GRISTMILL_TEST_LOCALSTACK",
    arguments: &["-m", "localstack.runtime.main"],
    environment: |command, dir, port| {
        command
            .env("GATEWAY_LISTEN", format!("127.0.0.1:{port}"))
            .env("LOCALSTACK_VOLUME_DIR", dir.join("volume"))
            .env("SERVICES", "sqs")
            // It starts without network: nothing is reported or fetched.
            .env("DISABLE_EVENTS", "1")
            .env("SKIP_SSL_CERT_DOWNLOAD", "1")
            .env("DNS_ADDRESS", "0");
    },
    health: "/_localstack/health",
};

/// A port that was free a moment ago, below those that the system gives to clients: one of those
/// could take it, or the question whether the server is there could connect to itself.
fn free_port() -> u16 {
    let random = || RandomState::new().build_hasher().finish();
    let mut ports = std::iter::repeat_with(|| FIRST_PORT + (random() % 12_000) as u16);
    ports
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .unwrap()
}

/// A running server; it ends with this value.
pub struct Peer {
    port: u16,
    process: Child,
    dir: TempDir,
}

impl Peer {
    /// `None` where it is not installed and need not be.
    pub async fn start(kind: &Kind) -> Option<Self> {
        let program = super::tool(kind.variable)?;
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let mut command = Command::new(program);
        command.args(kind.arguments).current_dir(dir.path());
        (kind.environment)(&mut command, dir.path(), port);
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let process = command
            .env("HOME", dir.path())
            .env("DOCKER_HOST", "unix:///nonexistent")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut peer = Self { port, process, dir };
        peer.ready(kind).await;
        Some(peer)
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// There is no event to wait for: it is asked until it answers, or ended.
    async fn ready(&mut self, kind: &Kind) {
        let start = Instant::now();
        while !self.answers(kind.health).await {
            let log = || std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            let ended = self.process.try_wait().unwrap();
            assert!(ended.is_none(), "it ended: {ended:?}\n{}", log());
            assert!(
                start.elapsed() < START_LIMIT,
                "it does not serve\n{}",
                log()
            );
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn answers(&self, path: &str) -> bool {
        let ask = async {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
            let request =
                format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        };
        let asked = tokio::time::timeout(Duration::from_secs(5), ask).await;
        asked.is_ok_and(|answer| answer.is_ok_and(|answer| answer.contains(" 200 ")))
    }
}
