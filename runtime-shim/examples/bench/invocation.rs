//! Microseconds for one message in a fresh sandbox: instantiate, call, tear
//! down. A component parses a small JSON body, which natively is a function; a
//! program reads it from stdin, which natively is a process.

use std::hint::black_box;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use gristmill::invoker::{Delivery, Invoker, Message, MessageAction, Outcome};
use gristmill::names::ComponentId;

use crate::report::Figure;
use crate::{progress, ratio, wasm};

const BODY: &str = r#"{"order": 4711, "items": ["stone", "sieve"], "note": "by the millpond"}"#;

pub(crate) async fn measure(rounds: u32) -> anyhow::Result<Vec<Figure>> {
    progress("invocation: a fresh sandbox for each message ...");
    let sandboxed = sandboxed(&wasm("guest_parse")?, rounds).await?;
    let native = best_of_three(rounds, || {
        let body = black_box(BODY).to_owned();
        let value: serde_json::Value = serde_json::from_str(&body)?;
        ensure!(black_box(value).is_object());
        Ok(())
    })?;
    let mut figures = vec![ratio(
        "one message in a fresh sandbox",
        "µs",
        sandboxed,
        native,
    )];
    figures.extend(programs(rounds).await?);
    Ok(figures)
}

/// The same program as a component and, where this machine has its target, as a
/// core module of WASI 0.1.
async fn programs(rounds: u32) -> anyhow::Result<Vec<Figure>> {
    progress("invocation: a program for each message ...");
    let native = best_of_three(rounds / 20, process)?;
    let component = wasm("guest_command")?;
    let target = component.ancestors().nth(3).context("no target folder")?;
    let module = target.join("wasm32-wasip1/release/guest_command.wasm");
    let mut figures = Vec::new();
    for (name, wasm) in [
        ("one message to a program (WASI 0.2)", component.as_path()),
        ("one message to a program (WASI 0.1)", module.as_path()),
    ] {
        if wasm.exists() {
            let sandboxed = sandboxed(wasm, rounds).await?;
            figures.push(ratio(name, "µs", sandboxed, native));
        } else {
            progress(&format!("left out, as {} is missing", wasm.display()));
        }
    }
    Ok(figures)
}

/// `cat` is a small program that reads its stdin to the end.
fn process() -> anyhow::Result<()> {
    let mut child = Command::new("cat")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    let mut stdin = child.stdin.take().context("no stdin")?;
    stdin.write_all(BODY.as_bytes())?;
    drop(stdin);
    ensure!(child.wait()?.success());
    Ok(())
}

async fn sandboxed(wasm: &Path, rounds: u32) -> anyhow::Result<f64> {
    let dir = tempfile::tempdir()?;
    let manifest = format!(
        "spin_manifest_version = 2\n[application]\nname = \"bench\"\n\
         [[trigger.sqs]]\ncomponent = \"parse\"\n\
         queue_url = \"http://127.0.0.1:9324/000000000000/bench\"\n\
         [component.parse]\nsource = '{}'\n",
        wasm.display()
    );
    let invoker = Arc::new(load(dir.path(), &manifest).await?);
    let component = ComponentId::new("parse")?;
    let message = Message {
        id: Some("0".to_owned()),
        message_attributes: Vec::new(),
        body: Some(BODY.to_owned()),
    };
    let delivery = Delivery {
        message: &message,
        queue: "bench",
        receive_count: 1,
    };
    let mut best = f64::INFINITY;
    // The best of three: the others had the machine's other work in them.
    for _ in 0..3 {
        let started = Instant::now();
        for _ in 0..rounds {
            let outcome = invoker
                .queue_message(&component, &delivery, Duration::from_secs(10))
                .await;
            ensure!(
                outcome == Outcome::Completed(MessageAction::Delete),
                "{outcome:?}"
            );
        }
        best = best.min(micros(started, rounds));
    }
    Ok(best)
}

fn best_of_three(rounds: u32, work: impl Fn() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..3 {
        let started = Instant::now();
        for _ in 0..rounds {
            work()?;
        }
        best = best.min(micros(started, rounds));
    }
    Ok(best)
}

fn micros(started: Instant, rounds: u32) -> f64 {
    started.elapsed().as_secs_f64() * 1e6 / f64::from(rounds)
}

/// The application of `manifest`, with its state in `dir`.
async fn load(dir: &Path, manifest: &str) -> anyhow::Result<Invoker> {
    let (app, stores, options) = crate::drain::resolve(dir, manifest, None).await?;
    Invoker::load(app, &stores, options, &gristmill::metrics::Metrics::new())
        .context("the bench component does not load")
}
