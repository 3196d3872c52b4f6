//! What survives: kill -9 in the middle of sends, closing, dropping, a full disk; and who may
//! open a directory. The killed process is this test binary run again.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a test stops at the first failure; the child reports by its output"
)]

use std::collections::{BTreeMap, HashSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use local_queue::{
    AttributeChanges, BatchEntry, Deletion, LocalQueue, OpenError, Options, OutgoingMessage,
    QueueError, QueueName, ReceiveOptions,
};

const CHILD_DIR: &str = "LOCAL_QUEUE_TEST_CHILD_DIR";
const FIFO_DIR: &str = "LOCAL_QUEUE_TEST_FIFO_DIR";
const FIFO_ROUND: &str = "LOCAL_QUEUE_TEST_FIFO_ROUND";

fn open(dir: &Path) -> LocalQueue {
    LocalQueue::open(dir, Options::default()).unwrap()
}

fn name() -> QueueName {
    QueueName::parse("q").unwrap()
}

async fn receive_all(queue: &LocalQueue) -> Vec<local_queue::Message> {
    let options = ReceiveOptions {
        max: 10,
        ..ReceiveOptions::default()
    };
    let mut all = Vec::new();
    loop {
        let messages = queue.receive(&name(), options).await.unwrap();
        if messages.is_empty() {
            return all;
        }
        all.extend(messages);
    }
}

/// Not a test of its own: sends until it is killed, and prints every acknowledged id.
#[tokio::test(flavor = "multi_thread")]
async fn child_that_is_killed() {
    let Ok(dir) = std::env::var(CHILD_DIR) else {
        return;
    };
    let queue = open(Path::new(&dir));
    queue
        .create_queue(&name(), AttributeChanges::default())
        .await
        .unwrap();
    let mut senders = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let queue = queue.clone();
        senders.spawn(async move {
            loop {
                let sent = queue
                    .send(&name(), OutgoingMessage::new("x"))
                    .await
                    .unwrap();
                // One write for each line, so that a kill cannot mix two.
                let line = format!("acknowledged {}\n", sent.id);
                std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
            }
        });
    }
    senders.join_next().await;
}

#[tokio::test]
async fn acknowledged_sends_survive_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = HashSet::new();
    for round in 1..=3 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_is_killed", "--nocapture"])
            .env(CHILD_DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut read = || {
            let line = lines.next()?.unwrap();
            // The test harness prints, without a newline, before the first line.
            Some(
                line.rsplit_once("acknowledged ")
                    .map(|(_, id)| id.to_owned()),
            )
        };
        let mut count = 0;
        while count < 1000 * round {
            let id = read().expect("the child should send until it is killed");
            count += id.iter().len();
            acknowledged.extend(id);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it acknowledged between our last look and its end.
        while let Some(id) = read() {
            acknowledged.extend(id.filter(|id| id.len() == 36));
        }
    }
    let queue = open(dir.path());
    let depth = queue.depth(&name()).await.unwrap();
    let stored: HashSet<String> = receive_all(&queue)
        .await
        .iter()
        .map(|message| message.id.to_string())
        .collect();
    assert_eq!(stored.len() as u64, depth.visible, "every id once");
    let lost: Vec<_> = acknowledged.difference(&stored).collect();
    assert!(
        acknowledged.len() >= 6000,
        "{} acknowledged",
        acknowledged.len()
    );
    assert!(
        lost.is_empty(),
        "{} of {} lost: {lost:?}",
        lost.len(),
        acknowledged.len()
    );
}

#[tokio::test]
async fn everything_is_as_before_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path());
    queue.ensure_queue_with_dlq(&name()).await.unwrap();
    for body in ["flying", "lapsed", "visible"] {
        queue
            .send(&name(), OutgoingMessage::new(body))
            .await
            .unwrap();
    }
    let delayed = OutgoingMessage {
        delay_secs: Some(600),
        ..OutgoingMessage::new("delayed")
    };
    queue.send(&name(), delayed).await.unwrap();
    let flying = queue
        .receive(&name(), ReceiveOptions::default())
        .await
        .unwrap()
        .remove(0);
    let at_once = ReceiveOptions {
        visibility_secs: Some(0),
        ..ReceiveOptions::default()
    };
    let lapsed = queue.receive(&name(), at_once).await.unwrap().remove(0);
    let before = queue.describe(&name()).await.unwrap();
    assert_eq!(
        (
            before.depth.visible,
            before.depth.in_flight,
            before.depth.delayed
        ),
        (2, 1, 1)
    );
    queue.close().await;
    assert!(matches!(
        queue.depth(&name()).await,
        Err(QueueError::Closed)
    ));
    queue.close().await;

    let queue = open(dir.path());
    let after = queue.describe(&name()).await.unwrap();
    assert_eq!(after.depth, before.depth);
    assert_eq!(after.settings, before.settings);
    // Receipt handles outlive the process, in flight and lapsed.
    queue
        .change_visibility(&name(), flying.receipt_handle.clone(), 60)
        .await
        .unwrap();
    for handle in [flying.receipt_handle, lapsed.receipt_handle] {
        assert_eq!(
            queue.delete(&name(), handle).await.unwrap(),
            Deletion::Deleted
        );
    }
    let left = receive_all(&queue).await;
    assert_eq!(
        left.iter().map(|m| m.body.as_str()).collect::<Vec<_>>(),
        ["visible"]
    );
}

#[tokio::test]
async fn a_directory_has_one_owner_until_it_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path());
    let second = LocalQueue::open(dir.path(), Options::default()).unwrap_err();
    assert!(matches!(second, OpenError::InUse { .. }), "{second}");
    assert!(
        second
            .to_string()
            .contains(&dir.path().display().to_string()),
        "{second}"
    );
    queue
        .create_queue(&name(), AttributeChanges::default())
        .await
        .unwrap();
    drop(queue);
    assert!(open(dir.path()).exists(&name()).await.unwrap());
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let conn = rusqlite::Connection::open(dir.path().join("queue.sqlite3")).unwrap();
    conn.pragma_update(None, "user_version", 99).unwrap();
    drop(conn);
    let error = LocalQueue::open(dir.path(), Options::default()).unwrap_err();
    assert!(
        matches!(error, OpenError::NewerSchema { found: 99, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("99"), "{error}");
}

#[tokio::test]
async fn a_full_database_fails_the_send_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        max_database_bytes: Some(1_500_000),
        ..Options::default()
    };
    let queue = LocalQueue::open(dir.path(), options).unwrap();
    queue
        .create_queue(&name(), AttributeChanges::default())
        .await
        .unwrap();
    let mut small = Vec::new();
    for n in 0..10 {
        small.push(
            queue
                .send(&name(), OutgoingMessage::new(n.to_string()))
                .await
                .unwrap()
                .id,
        );
    }
    let options = ReceiveOptions {
        max: 10,
        ..ReceiveOptions::default()
    };
    let received = queue.receive(&name(), options).await.unwrap();
    assert_eq!(received.iter().map(|m| m.id).collect::<Vec<_>>(), small);
    let name = name();
    let big = || queue.send(&name, OutgoingMessage::new("x".repeat(1_000_000)));
    let little = || queue.send(&name, OutgoingMessage::new("little"));
    let entries = received.into_iter().enumerate();
    let entries = entries.map(|(n, m)| BatchEntry::new(n.to_string(), m.receipt_handle));
    // All at once, so that they fall into the same groups.
    let (bigs, littles, deleted) = tokio::join!(
        futures::future::join_all((0..8).map(|_| big())),
        futures::future::join_all((0..8).map(|_| little())),
        queue.delete_batch(&name, entries.collect()),
    );
    let stored = bigs.iter().filter(|sent| sent.is_ok()).count();
    assert_eq!(stored, 1, "two do not fit: {bigs:?}");
    for refused in bigs.iter().filter_map(|sent| sent.as_ref().err()) {
        assert!(matches!(refused, QueueError::Storage(_)), "{refused}");
    }
    assert!(littles.iter().all(Result::is_ok), "{littles:?}");
    assert!(
        deleted
            .unwrap()
            .iter()
            .all(|d| matches!(d.result, Ok(Deletion::Deleted)))
    );
    let depth = queue.depth(&name).await.unwrap();
    assert_eq!((depth.visible, depth.in_flight), (9, 0));
    assert_eq!(receive_all(&queue).await.len(), 9);
}

/// Not a test of its own: sends to a FIFO queue, each group from one sender, until it is killed.
#[tokio::test(flavor = "multi_thread")]
async fn fifo_child_that_is_killed() {
    let Ok(dir) = std::env::var(FIFO_DIR) else {
        return;
    };
    let round: usize = std::env::var(FIFO_ROUND).unwrap().parse().unwrap();
    let queue = open(Path::new(&dir));
    let fifo = QueueName::parse("q.fifo").unwrap();
    let changes = AttributeChanges {
        fifo: Some(true),
        ..AttributeChanges::default()
    };
    queue.create_queue(&fifo, changes).await.unwrap();
    let mut senders = tokio::task::JoinSet::new();
    for group in 0..8 {
        let (queue, fifo) = (queue.clone(), fifo.clone());
        senders.spawn(async move {
            for number in round * 1_000_000.. {
                let text = format!("{group} {number}");
                let message = OutgoingMessage {
                    group_id: Some(group.to_string()),
                    deduplication_id: Some(format!("{group}-{number}")),
                    ..OutgoingMessage::new(text.clone())
                };
                queue.send(&fifo, message).await.unwrap();
                let line = format!("acknowledged {text}.\n");
                std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
            }
        });
    }
    senders.join_next().await;
}

/// What a FIFO queue acknowledged is there, in order in each group, and known as sent.
#[tokio::test]
async fn a_fifo_queue_keeps_order_and_deduplication_over_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged: HashSet<String> = HashSet::new();
    for round in 1..=2 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "fifo_child_that_is_killed", "--nocapture"])
            .env(FIFO_DIR, dir.path())
            .env(FIFO_ROUND, round.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for line in lines {
            let line = line.unwrap();
            // A line that the kill cut off has no full stop.
            let text = line.rsplit_once("acknowledged ");
            let text = text.and_then(|(_, text)| text.strip_suffix('.'));
            acknowledged.extend(text.map(str::to_owned));
            if acknowledged.len() >= 400 * round {
                // The rest of what it said is read until its end.
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
    }
    let queue = open(dir.path());
    let fifo = QueueName::parse("q.fifo").unwrap();
    let again = acknowledged.iter().next().unwrap();
    let (group, number) = again.split_once(' ').unwrap();
    let before = queue.depth(&fifo).await.unwrap();
    let duplicate = OutgoingMessage {
        group_id: Some(group.to_owned()),
        deduplication_id: Some(format!("{group}-{number}")),
        ..OutgoingMessage::new("again")
    };
    queue.send(&fifo, duplicate).await.unwrap();
    assert_eq!(queue.depth(&fifo).await.unwrap(), before, "a duplicate");
    let mut stored: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let options = ReceiveOptions {
        max: 10,
        ..ReceiveOptions::default()
    };
    loop {
        let messages = queue.receive(&fifo, options).await.unwrap();
        if messages.is_empty() {
            break;
        }
        for message in messages {
            acknowledged.remove(&message.body);
            let (group, number) = message.body.split_once(' ').unwrap();
            let numbers = stored.entry(group.to_owned()).or_default();
            numbers.push(number.parse().unwrap());
            queue.delete(&fifo, message.receipt_handle).await.unwrap();
        }
    }
    assert!(acknowledged.is_empty(), "lost: {acknowledged:?}");
    for (group, numbers) in stored {
        assert!(
            numbers.is_sorted_by(|a, b| a < b),
            "group {group}: {numbers:?}"
        );
    }
}
