//! Microseconds for one message in a fresh sandbox: instantiate, call, tear
//! down. The component parses a small JSON body; natively that is a function.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use gristmill::invoker::{Invoker, Message, MessageAction, Outcome};
use gristmill::names::ComponentId;

use crate::report::Figure;
use crate::{progress, ratio, wasm};

const BODY: &str = r#"{"order": 4711, "items": ["stone", "sieve"], "note": "by the millpond"}"#;

pub(crate) async fn measure(rounds: u32) -> anyhow::Result<Vec<Figure>> {
    progress("invocation: a fresh sandbox for each message ...");
    let dir = tempfile::tempdir()?;
    let manifest = format!(
        "spin_manifest_version = 2\n[application]\nname = \"bench\"\n\
         [[trigger.sqs]]\ncomponent = \"parse\"\n\
         queue_url = \"http://127.0.0.1:9324/000000000000/bench\"\n\
         [component.parse]\nsource = '{}'\n",
        wasm("guest_parse")?.display()
    );
    let invoker = Arc::new(load(dir.path(), &manifest).await?);
    let component = ComponentId::new("parse")?;
    let message = Message {
        id: Some("0".to_owned()),
        message_attributes: Vec::new(),
        body: Some(BODY.to_owned()),
    };
    let mut sandboxed = f64::INFINITY;
    // The best of three: the others had the machine's other work in them.
    for _ in 0..3 {
        let started = Instant::now();
        for _ in 0..rounds {
            let outcome = invoker
                .queue_message(&component, &message, Duration::from_secs(10))
                .await;
            ensure!(
                outcome == Outcome::Completed(MessageAction::Delete),
                "{outcome:?}"
            );
        }
        sandboxed = sandboxed.min(micros(started, rounds));
    }
    let mut native = f64::INFINITY;
    for _ in 0..3 {
        let started = Instant::now();
        for _ in 0..rounds {
            let body = black_box(BODY).to_owned();
            let value: serde_json::Value = serde_json::from_str(&body)?;
            ensure!(black_box(value).is_object());
        }
        native = native.min(micros(started, rounds));
    }
    Ok(vec![ratio(
        "one message in a fresh sandbox",
        "µs",
        sandboxed,
        native,
    )])
}

fn micros(started: Instant, rounds: u32) -> f64 {
    started.elapsed().as_secs_f64() * 1e6 / f64::from(rounds)
}

/// The application of `manifest`, with its state in `dir`.
async fn load(dir: &std::path::Path, manifest: &str) -> anyhow::Result<Invoker> {
    let (app, stores, options) = crate::drain::resolve(dir, manifest, None).await?;
    Invoker::load(app, &stores, options, &gristmill::metrics::Metrics::new())
        .context("the bench component does not load")
}
