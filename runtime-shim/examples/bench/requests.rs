//! Requests per second of `counter`, each an increment that is on disk when it
//! is answered; natively a hyper server on the same store. Both are processes of
//! their own, with this one as the load.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::report::Figure;
use crate::{progress, ratio, release_dir, wasm};

const CONNECTIONS: usize = 32;

pub(crate) async fn measure(scale: u32) -> anyhow::Result<Vec<Figure>> {
    let seconds = Duration::from_millis(500) * scale;
    progress("requests: counter under gristmill ...");
    let dir = tempfile::tempdir()?;
    let manifest = format!(
        "spin_manifest_version = 2\n[application]\nname = \"bench\"\n\
         [[trigger.http]]\nroute = \"/counter/...\"\ncomponent = \"counter\"\n\
         [component.counter]\nsource = '{}'\nkey_value_stores = [\"counters\"]\n",
        wasm("counter")?.display()
    );
    std::fs::write(dir.path().join("spin.toml"), manifest)?;
    let mut gristmill = Command::new(release_dir()?.join("gristmill"));
    gristmill.args([
        "up",
        "--quiet",
        "--listen",
        "127.0.0.1:0",
        "--admin-listen",
        "127.0.0.1:0",
    ]);
    gristmill.current_dir(dir.path());
    let own = Server::start(gristmill)?;
    let sandboxed = load(&own.address, seconds).await?;
    drop(own);

    progress("requests: the same natively ...");
    let dir = tempfile::tempdir()?;
    let mut native = Command::new(std::env::current_exe()?);
    native.arg("--native-counter").arg(dir.path());
    let other = Server::start(native)?;
    let natively = load(&other.address, seconds).await?;
    drop(other);
    Ok(vec![
        ratio(
            "counter, 32 connections",
            "requests/s",
            sandboxed.rate,
            natively.rate,
        ),
        ratio(
            "counter, 32 connections: median",
            "ms",
            sandboxed.p50,
            natively.p50,
        ),
        ratio(
            "counter, 32 connections: 99th percentile",
            "ms",
            sandboxed.p99,
            natively.p99,
        ),
    ])
}

/// A process that serves, and says where.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: String,
}

impl Server {
    pub(crate) fn start(mut command: Command) -> anyhow::Result<Self> {
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().context("no stdout")?;
        let mut lines = BufReader::new(stdout).lines();
        let line = lines.next().context("the server ended at once")??;
        let address = line
            .strip_prefix("Serving http://")
            .context("no address")?
            .to_owned();
        // Read on, so that the server never waits for its reader.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Self { child, address })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, which the load has noticed then.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Load {
    rate: f64,
    p50: f64,
    p99: f64,
}

async fn load(address: &str, time: Duration) -> anyhow::Result<Load> {
    run(address, time / 5).await?;
    run(address, time).await
}

async fn run(address: &str, time: Duration) -> anyhow::Result<Load> {
    let over = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicU64::new(0));
    let mut connections = JoinSet::new();
    let started = Instant::now();
    for n in 0..CONNECTIONS {
        let (over, answered, address) =
            (Arc::clone(&over), Arc::clone(&answered), address.to_owned());
        connections.spawn(async move {
            let stream = TcpStream::connect(&address).await?;
            stream.set_nodelay(true)?;
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            let driver = tokio::spawn(connection);
            let mut times = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let asked = Instant::now();
                let request = Request::get(format!("/counter/bench-{n}"))
                    .header("host", &address)
                    .body(Empty::<Bytes>::new())?;
                let response = sender.send_request(request).await?;
                ensure!(response.status().is_success(), "{}", response.status());
                response.into_body().collect().await?;
                times.push(asked.elapsed());
                answered.fetch_add(1, Ordering::Relaxed);
            }
            drop(sender);
            driver.await??;
            anyhow::Ok(times)
        });
    }
    tokio::time::sleep(time).await;
    over.store(true, Ordering::Relaxed);
    let elapsed = started.elapsed();
    let total = answered.load(Ordering::Relaxed);
    let mut times: Vec<Duration> = Vec::new();
    while let Some(connection) = connections.join_next().await {
        times.extend(connection??);
    }
    times.sort_unstable();
    let at = |share: f64| times[(times.len() as f64 * share) as usize].as_secs_f64() * 1e3;
    Ok(Load {
        rate: total as f64 / elapsed.as_secs_f64(),
        p50: at(0.5),
        p99: at(0.99),
    })
}
