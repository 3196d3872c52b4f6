//! Many callers at once on the typed API: nobody shares a message, nothing is lost or doubled,
//! cancelled receives give back what they were given.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a test stops at the first failure"
)]

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use local_queue::{
    AttributeChanges, BatchEntry, Deletion, LocalQueue, Message, Options, OutgoingMessage,
    QueueName, ReceiveOptions,
};
use tempfile::TempDir;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

fn name() -> QueueName {
    QueueName::parse("q").unwrap()
}

async fn queue() -> (TempDir, LocalQueue) {
    let dir = tempfile::tempdir().unwrap();
    let queue = LocalQueue::open(dir.path(), Options::default()).unwrap();
    queue
        .create_queue(&name(), AttributeChanges::default())
        .await
        .unwrap();
    (dir, queue)
}

fn long_poll(max: usize) -> ReceiveOptions {
    ReceiveOptions {
        max,
        wait: Some(Duration::from_secs(20)),
        visibility_secs: None,
    }
}

const SHORT_POLL: ReceiveOptions = ReceiveOptions {
    max: 1,
    wait: Some(Duration::ZERO),
    visibility_secs: None,
};

#[tokio::test(flavor = "multi_thread")]
async fn senders_and_receivers_agree_on_every_message() {
    const SENDERS: usize = 16;
    const EACH: usize = 200;
    let (_dir, queue) = queue().await;
    let mut receivers = JoinSet::new();
    for _ in 0..16 {
        let queue = queue.clone();
        receivers.spawn(async move {
            let mut seen = Vec::new();
            loop {
                let messages = queue.receive(&name(), long_poll(7)).await.unwrap();
                if messages.iter().any(|m| m.body == "stop") {
                    // One for each receiver: those of others go back.
                    let (mut stops, rest): (Vec<_>, Vec<_>) =
                        messages.into_iter().partition(|m| m.body == "stop");
                    seen.extend(rest.iter().map(|m| m.id));
                    let own = stops.remove(0);
                    queue.delete(&name(), own.receipt_handle).await.unwrap();
                    for other in stops {
                        queue
                            .change_visibility(&name(), other.receipt_handle, 0)
                            .await
                            .unwrap();
                    }
                    return seen;
                }
                seen.extend(messages.iter().map(|m| m.id));
            }
        });
    }
    let mut senders = JoinSet::new();
    for _ in 0..SENDERS {
        let queue = queue.clone();
        senders.spawn(async move {
            let mut ids = Vec::new();
            for n in 0..EACH {
                ids.push(
                    queue
                        .send(&name(), OutgoingMessage::new(n.to_string()))
                        .await
                        .unwrap()
                        .id,
                );
            }
            ids
        });
    }
    let sent: Vec<_> = senders.join_all().await.into_iter().flatten().collect();
    for _ in 0..receivers.len() {
        queue
            .send(&name(), OutgoingMessage::new("stop"))
            .await
            .unwrap();
    }
    let received: Vec<_> = receivers.join_all().await.into_iter().flatten().collect();
    let unique: HashSet<_> = received.iter().copied().collect();
    assert_eq!(received.len(), unique.len(), "nobody shares a message");
    assert_eq!(unique, sent.into_iter().collect());
    let depth = queue.depth(&name()).await.unwrap();
    assert_eq!(
        (depth.visible, depth.in_flight),
        (0, (SENDERS * EACH) as u64)
    );
}

#[tokio::test]
async fn a_receiver_dropped_while_it_waits_takes_nothing() {
    let (_dir, queue) = queue().await;
    {
        let name = name();
        let receive = queue.receive(&name, long_poll(1));
        tokio::pin!(receive);
        assert!(receive.as_mut().now_or_never().is_none());
        // The writer has seen the receive once it answers what came after it.
        queue.depth(&name).await.unwrap();
    }
    queue
        .send(&name(), OutgoingMessage::new("x"))
        .await
        .unwrap();
    let messages = queue.receive(&name(), SHORT_POLL).await.unwrap();
    assert_eq!(
        messages.iter().map(|m| m.receive_count).collect::<Vec<_>>(),
        [1]
    );
}

#[tokio::test]
async fn a_receiver_dropped_with_its_answer_gives_it_back() {
    let (_dir, queue) = queue().await;
    {
        let name = name();
        let receive = queue.receive(&name, long_poll(1));
        tokio::pin!(receive);
        assert!(receive.as_mut().now_or_never().is_none());
        queue.send(&name, OutgoingMessage::new("x")).await.unwrap();
        // Taken for the receiver, which is not polled any more.
        while queue.depth(&name).await.unwrap().in_flight == 0 {}
    }
    let messages = queue.receive(&name(), long_poll(1)).await.unwrap();
    assert_eq!(
        messages.iter().map(|m| m.receive_count).collect::<Vec<_>>(),
        [1]
    );
}

#[tokio::test]
async fn waiting_receivers_are_served_in_their_order() {
    let (_dir, queue) = queue().await;
    let mut receives = Vec::new();
    for _ in 0..3 {
        let queue = queue.clone();
        let mut receive = Box::pin(async move { queue.receive(&name(), long_poll(1)).await });
        assert!(receive.as_mut().now_or_never().is_none());
        receives.push(receive);
    }
    for body in ["1", "2", "3"] {
        queue
            .send(&name(), OutgoingMessage::new(body))
            .await
            .unwrap();
    }
    let mut bodies = Vec::new();
    for receive in receives {
        bodies.extend(
            receive
                .await
                .unwrap()
                .into_iter()
                .map(|message: Message| message.body),
        );
    }
    assert_eq!(bodies, ["1", "2", "3"]);
}

#[tokio::test]
async fn the_typed_api_tells_what_became_of_a_delete() {
    let (_dir, queue) = queue().await;
    queue
        .send(&name(), OutgoingMessage::new("x"))
        .await
        .unwrap();
    let at_once = ReceiveOptions {
        visibility_secs: Some(0),
        ..SHORT_POLL
    };
    let first = queue.receive(&name(), at_once).await.unwrap().remove(0);
    let second = queue.receive(&name(), SHORT_POLL).await.unwrap().remove(0);
    let entries = vec![
        BatchEntry::new("stale", first.receipt_handle),
        BatchEntry::new("deleted", second.receipt_handle.clone()),
        BatchEntry::new("gone", second.receipt_handle),
    ];
    let outcomes = queue.delete_batch(&name(), entries).await.unwrap();
    let outcomes: Vec<_> = outcomes
        .into_iter()
        .map(|o| (o.id, o.result.unwrap()))
        .collect();
    let expected = [
        ("stale".to_owned(), Deletion::Stale),
        ("deleted".to_owned(), Deletion::Deleted),
        ("gone".to_owned(), Deletion::Gone),
    ];
    assert_eq!(outcomes, expected);
}

#[tokio::test]
async fn ensuring_a_queue_leaves_an_existing_one_alone() {
    let (_dir, queue) = queue().await;
    queue.ensure_queue_with_dlq(&name()).await.unwrap();
    assert_eq!(
        queue.describe(&name()).await.unwrap().settings.redrive,
        None
    );
    let fresh = QueueName::parse("fresh").unwrap();
    queue.ensure_queue_with_dlq(&fresh).await.unwrap();
    queue.ensure_queue_with_dlq(&fresh).await.unwrap();
    let settings = queue.describe(&fresh).await.unwrap().settings;
    let redrive = settings.redrive.unwrap();
    assert_eq!(
        (settings.visibility_secs, redrive.max_receive_count),
        (30, 5)
    );
    assert_eq!(redrive.target().unwrap().as_str(), "fresh-dlq");
    let names = queue.list_queues("", None, None).await.unwrap().names;
    assert_eq!(
        names.iter().map(QueueName::as_str).collect::<Vec<_>>(),
        ["fresh", "fresh-dlq", "q"]
    );
}

#[tokio::test]
async fn closing_ends_waiting_receives() {
    let (_dir, queue) = queue().await;
    let name = name();
    let receive = queue.receive(&name, long_poll(1));
    tokio::pin!(receive);
    assert!(receive.as_mut().now_or_never().is_none());
    queue.close().await;
    assert_eq!(receive.await.unwrap().len(), 0);
}

/// Handles the messages of one receive in order; one in five fails, and takes those of its group
/// behind it along. Returns what was done.
async fn handle_in_order(
    queue: &LocalQueue,
    fifo: &QueueName,
    messages: Vec<Message>,
) -> Vec<(String, usize)> {
    let mut done = Vec::new();
    let mut failed = HashSet::new();
    for message in messages {
        let group = message.group_id.clone().unwrap();
        let number: usize = message.body.split(' ').nth(1).unwrap().parse().unwrap();
        let fails = (number + message.receive_count as usize).is_multiple_of(5);
        if fails || failed.contains(&group) {
            failed.insert(group);
            queue
                .change_visibility(fifo, message.receipt_handle, 0)
                .await
                .unwrap();
        } else {
            done.push((group, number));
            queue.delete(fifo, message.receipt_handle).await.unwrap();
        }
    }
    done
}

#[tokio::test(flavor = "multi_thread")]
async fn each_group_keeps_its_order_among_many_receivers() {
    const GROUPS: usize = 8;
    const EACH: usize = 100;
    let (_dir, queue) = queue().await;
    let fifo = QueueName::parse("q.fifo").unwrap();
    let changes = AttributeChanges {
        fifo: Some(true),
        content_based_deduplication: Some(true),
        ..AttributeChanges::default()
    };
    queue.create_queue(&fifo, changes).await.unwrap();
    let mut tasks = JoinSet::new();
    for group in 0..GROUPS {
        let (queue, fifo) = (queue.clone(), fifo.clone());
        tasks.spawn(async move {
            for number in 0..EACH {
                let message = OutgoingMessage {
                    group_id: Some(group.to_string()),
                    ..OutgoingMessage::new(format!("{group} {number}"))
                };
                queue.send(&fifo, message).await.unwrap();
            }
        });
    }
    let log = Arc::new(Mutex::new(Vec::new()));
    for _ in 0..8 {
        let (queue, fifo, log) = (queue.clone(), fifo.clone(), log.clone());
        tasks.spawn(async move {
            // Closing ends the polls of the others.
            while let Ok(messages) = queue.receive(&fifo, long_poll(5)).await {
                if messages.is_empty() {
                    break;
                }
                // What a receiver did counts before the group goes to the next one: it is logged
                // under the lock, message by message, in the order of the deletes.
                for group in by_group(messages) {
                    let mut log = log.lock().await;
                    log.extend(handle_in_order(&queue, &fifo, group).await);
                    if log.len() >= GROUPS * EACH {
                        drop(log);
                        queue.close().await;
                        return;
                    }
                }
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    let log = log.lock().await;
    for group in 0..GROUPS {
        let name = group.to_string();
        let numbers: Vec<_> = log
            .iter()
            .filter(|(g, _)| *g == name)
            .map(|(_, n)| *n)
            .collect();
        assert_eq!(numbers, (0..EACH).collect::<Vec<_>>(), "group {group}");
    }
}

/// A receive's messages, parted by group, each part in order.
fn by_group(messages: Vec<Message>) -> Vec<Vec<Message>> {
    let mut parts: Vec<Vec<Message>> = Vec::new();
    for message in messages {
        match parts
            .iter_mut()
            .find(|part| part[0].group_id == message.group_id)
        {
            Some(part) => part.push(message),
            None => parts.push(vec![message]),
        }
    }
    parts
}
