//! Messages per second from the queue through `process-message-worker` into
//! SQLite. Natively: the same queue, the same store, the same work in a function.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use gristmill::app::App;
use gristmill::aws::AwsSettings;
use gristmill::cli::{Cli, Command};
use gristmill::invoker::{Invoker, InvokerOptions, Sandboxes};
use gristmill::metrics::Metrics;
use gristmill::project::Project;
use gristmill::queue::{Consumer, EmbeddedQueue, QueueSource};
use gristmill::settings::Environment;
use gristmill::stores::{Limits, SqliteDatabase, SqliteStore, Stores};
use local_queue::{
    BatchEntry, LocalQueue, Options, OutgoingMessage, QueueName, ReceiveOptions, Server,
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::report::Figure;
use crate::{native, progress, ratio, wasm};

const CONCURRENCY: usize = 64;

pub(crate) async fn measure(messages: usize) -> anyhow::Result<Vec<Figure>> {
    progress("drain: embedded queue, sandbox, SQLite ...");
    let embedded = sandboxed(messages, Route::InProcess).await?;
    progress("drain: the same natively ...");
    let native = natively(messages).await?;
    progress("drain: over the SQS protocol with the AWS SDK ...");
    let wire = sandboxed(messages, Route::Wire).await?;
    progress("drain: the same natively ...");
    let native_wire = native::drain_by_sdk(messages).await?;
    Ok(vec![
        ratio(
            "drained: embedded queue to SQLite",
            "messages/s",
            embedded,
            native,
        ),
        ratio(
            "drained: SQS protocol to SQLite",
            "messages/s",
            wire,
            native_wire,
        ),
    ])
}

#[derive(Clone, Copy)]
enum Route {
    InProcess,
    Wire,
}

/// The application of `manifest` with its state in `dir`, embedded queues at `origin`.
pub(crate) async fn resolve(
    dir: &Path,
    manifest: &str,
    origin: Option<&str>,
) -> anyhow::Result<(App, Stores, InvokerOptions)> {
    std::fs::write(dir.join("spin.toml"), manifest)?;
    let cli = Cli::try_parse_from(["gristmill", "check", "--from", &dir.to_string_lossy()])?;
    let Command::Check(args) = cli.command else {
        anyhow::bail!("not a check")
    };
    let source = args.project.source();
    let project = Project::load(source, args.project.options, &Environment::default()).await?;
    let app = project.app(origin)?;
    let stores = project.open_stores(&app).await?;
    let options = InvokerOptions {
        sandboxes: Sandboxes::new(project.max_memory, None)?,
        http_deadline: Duration::from_secs(10),
        backends: project.backends.clone(),
        databases: project.open_databases(&app)?,
        files: project.mount_files(&app)?,
    };
    Ok((app, stores, options))
}

async fn sandboxed(messages: usize, path: Route) -> anyhow::Result<f64> {
    let dir = tempfile::tempdir()?;
    let free: SocketAddr = ([127, 0, 0, 1], 0).into();
    let (embedded, server) =
        EmbeddedQueue::open(&dir.path().join("queue"), free, "--queue-listen").await?;
    let stop = CancellationToken::new();
    let serving = tokio::spawn(server.serve(stop.clone().cancelled_owned()));
    let manifest = format!(
        "spin_manifest_version = 2\n[application]\nname = \"bench\"\n\
         [application.trigger.sqs.worker]\nmax_concurrency = {CONCURRENCY}\n\
         [[trigger.sqs]]\ncomponent = \"worker\"\nsystem_attributes = [\"SentTimestamp\"]\n\
         queue_url = \"http://127.0.0.1:9324/000000000000/bench\"\n\
         [component.worker]\nsource = '{}'\nkey_value_stores = [\"messages\"]\n",
        wasm("process_message")?.display()
    );
    let (app, stores, options) = resolve(dir.path(), &manifest, Some(embedded.origin())).await?;
    embedded.ensure("bench").await?;
    fill_over_http(embedded.origin(), messages).await?;

    let trigger = app.queues[0].clone();
    let metrics = Metrics::new();
    let invoker = Arc::new(Invoker::load(app, &stores, options, &metrics)?);
    let aws = AwsSettings {
        anonymous: matches!(path, Route::Wire),
        ..AwsSettings::default()
    };
    let in_process = match path {
        Route::InProcess => Some(&embedded),
        Route::Wire => None,
    };
    let source = QueueSource::connect(&trigger.queue_url, in_process, &aws).await?;
    let consumer = Consumer::new(trigger, Arc::new(source), invoker, &metrics);
    let finish = CancellationToken::new();
    let started = Instant::now();
    let consuming = tokio::spawn(consumer.run(finish.clone()));
    wait_until_empty(&embedded).await?;
    let rate = messages as f64 / started.elapsed().as_secs_f64();
    finish.cancel();
    consuming.await?;
    stop.cancel();
    serving.await?;
    embedded.close().await;
    Ok(rate)
}

async fn wait_until_empty(embedded: &EmbeddedQueue) -> anyhow::Result<()> {
    loop {
        let depths = embedded.depths().await;
        let (_, depth) = depths
            .iter()
            .find(|(name, _)| name == "bench")
            .context("no queue")?;
        if depth.visible + depth.in_flight + depth.delayed == 0 {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Bodies as `process-message` would have sent them.
pub(crate) fn body(n: usize) -> String {
    format!(r#"{{"n": {n}, "order": "stone and sieve", "note": "by the millpond"}}"#)
}

async fn fill_over_http(origin: &str, messages: usize) -> anyhow::Result<()> {
    let client = native::sqs_client(origin);
    let url = format!("{origin}/000000000000/bench");
    let mut sends = JoinSet::new();
    for lane in 0..16 {
        let (client, url) = (client.clone(), url.clone());
        sends.spawn(async move {
            let own: Vec<usize> = (lane..messages).step_by(16).collect();
            for chunk in own.chunks(10) {
                let mut call = client.send_message_batch().queue_url(&url);
                for n in chunk {
                    let entry = aws_sdk_sqs::types::SendMessageBatchRequestEntry::builder()
                        .id(n.to_string())
                        .message_body(body(*n))
                        .build()?;
                    call = call.entries(entry);
                }
                call.send().await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(sent) = sends.join_next().await {
        sent??;
    }
    Ok(())
}

async fn natively(messages: usize) -> anyhow::Result<f64> {
    let dir = tempfile::tempdir()?;
    let (queue, server, _) = filled_server(&dir.path().join("queue"), messages).await?;
    drop(server);
    let name = QueueName::parse("bench")?;
    let database = SqliteDatabase::open(&dir.path().join("kv.db"))?;
    let store = SqliteStore::new(Arc::new(database), "messages", Limits::default());
    let done = Arc::new(AtomicUsize::new(0));
    let started = Instant::now();
    let mut lanes = JoinSet::new();
    // As many messages at once as the consumer handles.
    for _ in 0..CONCURRENCY.div_ceil(10) {
        let (queue, name, store, done) = (
            queue.clone(),
            name.clone(),
            store.clone(),
            Arc::clone(&done),
        );
        lanes.spawn(async move {
            while done.load(Ordering::Relaxed) < messages {
                let options = ReceiveOptions {
                    max: 10,
                    ..ReceiveOptions::default()
                };
                let received = queue.receive(&name, options).await?;
                let count = received.len();
                let mut handled = JoinSet::new();
                for message in received {
                    let store = store.clone();
                    handled.spawn(async move {
                        let id = message.id.to_string();
                        native::process(&store, &id, &message.body, message.sent_at_ms).await?;
                        anyhow::Ok(message.receipt_handle)
                    });
                }
                let mut entries = Vec::with_capacity(count);
                while let Some(receipt) = handled.join_next().await {
                    entries.push(BatchEntry::new(entries.len().to_string(), receipt??));
                }
                if !entries.is_empty() {
                    queue.delete_batch(&name, entries).await?;
                    done.fetch_add(count, Ordering::Relaxed);
                }
            }
            anyhow::Ok(())
        });
    }
    while let Some(lane) = lanes.join_next().await {
        lane??;
    }
    let rate = messages as f64 / started.elapsed().as_secs_f64();
    queue.close().await;
    Ok(rate)
}

/// A queue of its own behind the protocol, filled.
pub(crate) async fn filled_server(
    dir: &Path,
    messages: usize,
) -> anyhow::Result<(LocalQueue, Server, String)> {
    let queue = LocalQueue::open(dir, Options::default())?;
    let name = QueueName::parse("bench")?;
    queue.ensure_queue_with_dlq(&name).await?;
    for from in (0..messages).step_by(10) {
        let entries = (from..(from + 10).min(messages))
            .map(|n| BatchEntry::new(n.to_string(), OutgoingMessage::new(body(n))))
            .collect();
        queue.send_batch(&name, entries).await?;
    }
    let server = Server::bind(([127, 0, 0, 1], 0).into(), queue.clone()).await?;
    let origin = format!("http://{}", server.local_addr());
    Ok((queue, server, origin))
}
