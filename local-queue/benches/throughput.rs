//! Measures the in-process queue and prints one line for each figure. Directory: the first
//! argument, else `GRISTMILL_BENCH_DIR`, else a temporary one.
//! `cargo bench -p local-queue`, or the built binary with a directory.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement prints its figures and stops at the first failure"
)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use local_queue::{
    AttributeChanges, BatchEntry, LocalQueue, Options, OutgoingMessage, QueueName, ReceiveOptions,
    Server,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const SENDERS: usize = 64;
const SENDS: usize = 64_000;
const HTTP_SENDERS: usize = 16;
const HTTP_SENDS: usize = 32_000;
const BACKLOG: usize = 1_000_000;
const BODY_BYTES: usize = 200;

fn main() {
    // `cargo bench` adds `--bench`.
    let argument = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with("--"));
    let root = argument
        .or_else(|| std::env::var("GRISTMILL_BENCH_DIR").ok())
        .map(PathBuf::from);
    let scratch = match root {
        Some(root) => tempfile::tempdir_in(root),
        None => tempfile::tempdir(),
    }
    .unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(measure(scratch.path()));
}

async fn measure(dir: &Path) {
    let name = QueueName::parse("bench").unwrap();
    let queue = LocalQueue::open(dir, Options::default()).unwrap();
    queue
        .create_queue(&name, AttributeChanges::default())
        .await
        .unwrap();
    let body = "x".repeat(BODY_BYTES);

    let start = Instant::now();
    spread(SENDERS, |_| {
        let (queue, name, body) = (queue.clone(), name.clone(), body.clone());
        async move {
            for _ in 0..SENDS / SENDERS {
                queue
                    .send(&name, OutgoingMessage::new(body.clone()))
                    .await
                    .unwrap();
            }
        }
    })
    .await;
    report("send, 64 senders, one message each", SENDS, start.elapsed());

    let start = Instant::now();
    consume(&queue, &name, SENDS, 4).await;
    report(
        "receive + delete in batches of 10, 4 consumers",
        SENDS,
        start.elapsed(),
    );

    let start = Instant::now();
    send_over_http(&queue, &body).await;
    report(
        "send over HTTP, 16 connections, one message each",
        HTTP_SENDS,
        start.elapsed(),
    );
    queue.purge_queue(&name).await.unwrap();

    let start = Instant::now();
    fill(&queue, &name, &body, BACKLOG).await;
    report(
        "send in batches of 10, 16 senders",
        BACKLOG,
        start.elapsed(),
    );

    let start = Instant::now();
    for _ in 0..1000 {
        queue.depth(&name).await.unwrap();
    }
    report("depth with 1,000,000 messages", 1000, start.elapsed());

    queue.close().await;
    drop(queue);
    let start = Instant::now();
    let queue = LocalQueue::open(dir, Options::default()).unwrap();
    println!(
        "open with 1,000,000 messages: {:.0} ms",
        start.elapsed().as_secs_f64() * 1e3
    );
    assert_eq!(queue.depth(&name).await.unwrap().visible, BACKLOG as u64);

    let start = Instant::now();
    consume(&queue, &name, 200_000, 4).await;
    report(
        "receive + delete from 1,000,000, 4 consumers",
        200_000,
        start.elapsed(),
    );
    queue.close().await;
}

async fn fill(queue: &LocalQueue, name: &QueueName, body: &str, count: usize) {
    const FILLERS: usize = 16;
    spread(FILLERS, |_| {
        let (queue, name, body) = (queue.clone(), name.clone(), body.to_owned());
        async move {
            for _ in 0..count / FILLERS / 10 {
                let entry =
                    |id: usize| BatchEntry::new(id.to_string(), OutgoingMessage::new(body.clone()));
                let outcomes = queue.send_batch(&name, (0..10).map(entry).collect()).await;
                assert!(
                    outcomes
                        .unwrap()
                        .iter()
                        .all(|outcome| outcome.result.is_ok())
                );
            }
        }
    })
    .await;
}

/// The least that a client can do, so that the figure is the server's.
async fn send_over_http(queue: &LocalQueue, body: &str) {
    let server = Server::bind(([127, 0, 0, 1], 0).into(), queue.clone())
        .await
        .unwrap();
    let addr = server.local_addr();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(server.serve(async {
        stopped.await.ok();
    }));
    let json =
        format!(r#"{{"QueueUrl":"http://{addr}/000000000000/bench","MessageBody":"{body}"}}"#);
    let request = format!(
        "POST / HTTP/1.1\r\nhost: {addr}\r\nx-amz-target: AmazonSQS.SendMessage\r\n\
         content-type: application/x-amz-json-1.0\r\ncontent-length: {}\r\n\r\n{json}",
        json.len()
    );
    spread(HTTP_SENDERS, |_| {
        let request = request.clone();
        async move {
            let mut stream = TcpStream::connect(addr).await.unwrap();
            let mut answer = vec![0; 4096];
            for _ in 0..HTTP_SENDS / HTTP_SENDERS {
                stream.write_all(request.as_bytes()).await.unwrap();
                // Answers are small and written whole: they end with the JSON's brace.
                let mut length = 0;
                while !answer[..length].ends_with(b"}") {
                    let read = stream.read(&mut answer[length..]).await.unwrap();
                    assert!(read > 0, "the server hung up");
                    length += read;
                }
                assert!(answer.starts_with(b"HTTP/1.1 200"));
            }
        }
    })
    .await;
    stop.send(()).unwrap();
    serving.await.unwrap();
}

async fn consume(queue: &LocalQueue, name: &QueueName, count: usize, consumers: usize) {
    spread(consumers, |_| {
        let (queue, name) = (queue.clone(), name.clone());
        async move {
            let options = ReceiveOptions {
                max: 10,
                ..ReceiveOptions::default()
            };
            let mut left = count / consumers;
            while left > 0 {
                let messages = queue.receive(&name, options).await.unwrap();
                left = left.saturating_sub(messages.len());
                let entries = messages
                    .into_iter()
                    .enumerate()
                    .map(|(id, message)| BatchEntry::new(id.to_string(), message.receipt_handle));
                queue.delete_batch(&name, entries.collect()).await.unwrap();
            }
        }
    })
    .await;
}

async fn spread<F: Future<Output = ()> + Send + 'static>(count: usize, task: impl Fn(usize) -> F) {
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..count {
        tasks.spawn(task(index));
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

fn report(what: &str, count: usize, took: Duration) {
    let rate = count as f64 / took.as_secs_f64();
    println!(
        "{what}: {rate:.0}/s ({count} in {:.2} s)",
        took.as_secs_f64()
    );
}
