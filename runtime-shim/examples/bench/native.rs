//! The native side: what a Rust program without sandboxes would do, on the same
//! queue, store and HTTP libraries.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_sqs::types::DeleteMessageBatchRequestEntry;
use gristmill::stores::{Limits, SqliteDatabase, SqliteStore};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::drain::filled_server;
use crate::endpoint::queue_url;

/// What `process-message-worker` does with a message.
pub(crate) async fn process(
    store: &SqliteStore,
    id: &str,
    body: &str,
    sent_at_ms: u64,
) -> anyhow::Result<()> {
    let parsed: &RawValue = serde_json::from_str(body)?;
    let digest = Sha256::digest(body);
    let digest = digest.iter().fold(String::new(), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed()?.as_millis();
    let document = serde_json::json!({
        "message_id": id,
        "body": parsed,
        "received_at": sent_at_ms,
        "processed_at": now,
        "sha256": digest,
    });
    if !store.exists(id)? {
        store
            .set(id.to_owned(), document.to_string().into_bytes())
            .await?;
    }
    Ok(())
}

/// A client for the endpoint at `origin`.
pub(crate) fn sqs_client(origin: &str) -> Client {
    let config = aws_sdk_sqs::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("local", "local", None, None, "bench"))
        .endpoint_url(origin)
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build();
    Client::from_conf(config)
}

/// Messages per second by the official SDK with batched deletes, into SQLite.
pub(crate) async fn drain_by_sdk(messages: usize) -> anyhow::Result<f64> {
    let dir = tempfile::tempdir()?;
    let (queue, server, origin) = filled_server(&dir.path().join("queue"), messages).await?;
    let stop = CancellationToken::new();
    let serving = tokio::spawn(server.serve(stop.clone().cancelled_owned()));
    let database = SqliteDatabase::open(&dir.path().join("kv.db"))?;
    let store = SqliteStore::new(Arc::new(database), "messages", Limits::default());
    let client = sqs_client(&origin);
    let url = format!("{origin}/000000000000/bench");
    let done = Arc::new(AtomicUsize::new(0));
    let started = Instant::now();
    let mut lanes = JoinSet::new();
    for _ in 0..7 {
        let (client, url, store, done) = (
            client.clone(),
            url.clone(),
            store.clone(),
            Arc::clone(&done),
        );
        lanes.spawn(async move {
            while done.load(Ordering::Relaxed) < messages {
                let answer = client
                    .receive_message()
                    .queue_url(&url)
                    .max_number_of_messages(10)
                    .send()
                    .await?;
                let received = answer.messages.unwrap_or_default();
                let count = received.len();
                let mut handled = JoinSet::new();
                for message in received {
                    let store = store.clone();
                    handled.spawn(async move {
                        let id = message.message_id.unwrap_or_default();
                        process(&store, &id, message.body.as_deref().unwrap_or_default(), 0)
                            .await?;
                        anyhow::Ok(message.receipt_handle.unwrap_or_default())
                    });
                }
                let mut call = client.delete_message_batch().queue_url(&url);
                while let Some(receipt) = handled.join_next().await {
                    let entry = DeleteMessageBatchRequestEntry::builder()
                        .id(handled.len().to_string())
                        .receipt_handle(receipt??)
                        .build()?;
                    call = call.entries(entry);
                }
                if count > 0 {
                    call.send().await?;
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
    stop.cancel();
    serving.await?;
    queue.close().await;
    Ok(rate)
}

/// The counter as a plain hyper server on the same store.
pub(crate) async fn serve_counter(state: &Path) -> anyhow::Result<()> {
    let database = SqliteDatabase::open(&state.join("counters.db"))?;
    let store = SqliteStore::new(Arc::new(database), "counters", Limits::default());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("Serving http://{}", listener.local_addr()?);
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let store = store.clone();
        let service = service_fn(move |request| count(store.clone(), request));
        connections.spawn(
            hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service),
        );
    }
}

async fn count(
    store: SqliteStore,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let id = request
        .uri()
        .path()
        .trim_start_matches("/counter/")
        .to_owned();
    let body = match store.increment(id.clone(), 1).await {
        Ok(count) => serde_json::json!({ "id": id, "count": count }).to_string(),
        Err(error) => error.to_string(),
    };
    Ok(Response::new(Full::from(body)))
}

/// Consumes by the official SDK with batched deletes, as many calls at once as
/// Gristmill's consumer has, until killed.
pub(crate) async fn consume(origin: &str) -> anyhow::Result<()> {
    let client = sqs_client(origin);
    let url = queue_url(origin);
    let mut lanes = JoinSet::new();
    for _ in 0..16 {
        let (client, url) = (client.clone(), url.clone());
        lanes.spawn(async move {
            loop {
                let call = client.receive_message().queue_url(&url);
                let received = call.max_number_of_messages(10).send().await?;
                let mut call = client.delete_message_batch().queue_url(&url);
                let received = received.messages.unwrap_or_default();
                for (index, message) in received.iter().enumerate() {
                    let body = message.body.as_deref().unwrap_or_default();
                    let value: serde_json::Value = serde_json::from_str(body)?;
                    anyhow::ensure!(std::hint::black_box(value).is_object());
                    let receipt = message.receipt_handle.as_deref().unwrap_or_default();
                    let entry = DeleteMessageBatchRequestEntry::builder()
                        .id(index.to_string())
                        .receipt_handle(receipt)
                        .build()?;
                    call = call.entries(entry);
                }
                if !received.is_empty() {
                    call.send().await?;
                }
            }
        });
    }
    while let Some(lane) = lanes.join_next().await {
        let ended: anyhow::Result<()> = lane?;
        ended?;
    }
    Ok(())
}
