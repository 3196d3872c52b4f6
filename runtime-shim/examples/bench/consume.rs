//! Messages per second out of an SQS endpoint that costs next to nothing: `gristmill
//! up`, a native consumer on the AWS SDK, and a Python worker on boto3. All are
//! processes of their own, and so is the endpoint, whose clock is used.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::endpoint::{Load, queue_url};
use crate::report::{Figure, Peer};
use crate::requests::Server;
use crate::{progress, release_dir, wasm};

const LIMIT: Duration = Duration::from_mins(2);
/// What each call takes where the endpoint is slow.
const SLOW: Duration = Duration::from_millis(20);
/// What is required of the consumer: times boto3 from memory, and messages per second
/// where each call takes 20 ms.
const TIMES_BOTO3: f64 = 20.0;
const FROM_SLOW: f64 = 5_000.0;
/// All sides take turns, and the best of each counts: what else runs on the machine
/// slows those down most that use all of it.
const ROUNDS: usize = 5;
const FAST_NAME: &str = "consumed: SQS protocol, from memory";
const SLOW_NAME: &str = "consumed: the same, each call 20 ms";
/// Messages at once: all that a consumer may have.
const MOST: usize = 400;

/// `python` has boto3; without it, that side is left out.
pub(crate) fn measure(scale: usize, python: Option<&Path>) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (name, latency, messages) in [
        (
            "consumed: SQS protocol, from memory",
            Duration::ZERO,
            20_000,
        ),
        ("consumed: the same, each call 20 ms", SLOW, 5_000),
    ] {
        let load = Load {
            messages: messages * scale,
            latency,
        };
        let fewer = Load {
            messages: if latency.is_zero() { 400 } else { 20 } * scale,
            latency,
        };
        let (mut own, mut native, mut loops) = (0.0_f64, 0.0_f64, 0.0_f64);
        for round in 1..=ROUNDS {
            progress(&format!("{name}: round {round} of {ROUNDS} ..."));
            own = own.max(drained(load, gristmill)?);
            native = native.max(drained(load, natively)?);
            if let Some(python) = python {
                let boto3 = |origin: &str, _: &Path| Ok(boto3(python, origin, fewer.messages));
                loops = loops.max(drained(fewer, boto3)?);
            }
        }
        let mut figure = |other, peer| {
            figures.push(Figure {
                name: name.to_owned(),
                unit: "messages/s",
                gristmill: own,
                other,
                peer,
            });
        };
        figure(native, Peer::Native);
        if python.is_some() {
            figure(loops, Peer::Boto3);
        }
    }
    Ok(figures)
}

/// Whether what is required was reached.
pub(crate) fn require(figures: &[Figure]) -> anyhow::Result<()> {
    let find = |name, peer| {
        let found = figures.iter().find(|f| f.name == name && f.peer == peer);
        found.with_context(|| format!("not measured: {name}"))
    };
    let beside = find(FAST_NAME, Peer::Boto3)?;
    let times = beside.gristmill / beside.other;
    ensure!(
        times >= TIMES_BOTO3,
        "{times:.1} times boto3, required are {TIMES_BOTO3}"
    );
    let slow = find(SLOW_NAME, Peer::Native)?.gristmill;
    ensure!(
        slow >= FROM_SLOW,
        "{slow:.0} messages/s with 20 ms a call, required are {FROM_SLOW}"
    );
    Ok(())
}

/// The rate of the consumer that `consumer` makes for an endpoint and a folder, by the
/// endpoint's clock.
fn drained(
    load: Load,
    consumer: impl FnOnce(&str, &Path) -> anyhow::Result<Command>,
) -> anyhow::Result<f64> {
    let mut command = Command::new(std::env::current_exe()?);
    let millis = load.latency.as_millis();
    command.arg(format!("--memory-endpoint={},{millis}", load.messages));
    let endpoint = Server::start(command)?;
    let origin = format!("http://{}", endpoint.address);
    let dir = tempfile::tempdir()?;
    let mut command = consumer(&origin, dir.path())?;
    command.stdout(Stdio::null()).current_dir(dir.path());
    let mut consumer = Running(command.spawn()?);
    let begun = Instant::now();
    loop {
        let took = ureq::get(format!("{origin}/took")).call()?;
        let took: u64 = took.into_body().read_to_string()?.parse()?;
        if took > 0 {
            return Ok(load.messages as f64 / Duration::from_micros(took).as_secs_f64());
        }
        ensure!(begun.elapsed() < LIMIT, "not drained after {LIMIT:?}");
        if let Some(status) = consumer.0.try_wait()? {
            ensure!(status.success(), "the consumer ended: {status}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Ends with the measurement.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn gristmill(origin: &str, dir: &Path) -> anyhow::Result<Command> {
    let manifest = format!(
        "spin_manifest_version = 2\n[application]\nname = \"bench\"\n\
         [application.trigger.sqs.worker]\nmax_concurrency = {MOST}\n\
         [[trigger.sqs]]\ncomponent = \"worker\"\nqueue_url = \"{}\"\n\
         [component.worker]\nsource = '{}'\n",
        queue_url(origin),
        wasm("guest_parse")?.display()
    );
    std::fs::write(dir.join("spin.toml"), manifest)?;
    let mut command = Command::new(release_dir()?.join("gristmill"));
    command.args(["up", "--quiet", "--no-local-queue"]);
    command.args(["--admin-listen", "127.0.0.1:0"]);
    command.env("AWS_ACCESS_KEY_ID", "local");
    command.env("AWS_SECRET_ACCESS_KEY", "local");
    command.env("AWS_REGION", "us-east-1");
    command.env("AWS_EC2_METADATA_DISABLED", "true");
    Ok(command)
}

fn natively(origin: &str, _: &Path) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(format!("--native-consumer={origin}"));
    Ok(command)
}

fn boto3(python: &Path, origin: &str, messages: usize) -> Command {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/bench/boto3_loop.py");
    let mut command = Command::new(python);
    command.arg(script).args([origin, &queue_url(origin)]);
    command.arg(messages.to_string());
    command
}
