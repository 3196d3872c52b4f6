//! Message move tasks as an unmodified AWS SDK for Rust sees them: what they move, their rate,
//! how they end, and that they go on after a restart and after a `kill -9`, which is done to this
//! test binary run again.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    dead_code,
    reason = "a test stops at the first failure; `support` is shared by several test binaries"
)]

mod support;

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::ProvideErrorMetadata as _;
use aws_sdk_sqs::types::{
    ListMessageMoveTasksResultEntry as Task, Message, MessageSystemAttributeName as SystemName,
    QueueAttributeName as Attribute,
};
use local_queue::{
    BatchEntry, MoveRequest, MoveStatus, OutgoingMessage, QueueName, ReceiveOptions,
};
use support::Endpoint;

const DEAD: &str = "arn:aws:sqs:us-east-1:000000000000:dead";
const OTHER: &str = "arn:aws:sqs:us-east-1:000000000000:other";
const POLICY: &str =
    r#"{"deadLetterTargetArn":"arn:aws:sqs:r:000000000000:dead","maxReceiveCount":1}"#;

struct Queues {
    source: String,
    dead: String,
}

/// `source` with the dead-letter queue `dead`, and `other`.
async fn queues(client: &Client) -> Queues {
    let create = async |name: &str, attributes: &[(Attribute, &str)]| {
        let mut request = client.create_queue().queue_name(name);
        for (attribute, value) in attributes {
            request = request.attributes(attribute.clone(), *value);
        }
        request.send().await.unwrap().queue_url.unwrap()
    };
    let dead = create("dead", &[]).await;
    create("other", &[]).await;
    let attributes = [
        (Attribute::RedrivePolicy, POLICY),
        (Attribute::VisibilityTimeout, "0"),
    ];
    let source = create("source", &attributes).await;
    Queues { source, dead }
}

/// Puts messages straight into the dead-letter queue.
async fn fill(endpoint: &Endpoint, count: usize) {
    let name = QueueName::parse("dead").unwrap();
    for first in (0..count).step_by(10) {
        let numbers = first..count.min(first + 10);
        let entry = |n: usize| BatchEntry::new(n.to_string(), OutgoingMessage::new(n.to_string()));
        let entries = numbers.map(entry).collect();
        endpoint.queue.send_batch(&name, entries).await.unwrap();
    }
}

async fn receive(client: &Client, url: &str, wait: i32) -> Vec<Message> {
    let request = client.receive_message().queue_url(url);
    let request = request.message_system_attribute_names(SystemName::All);
    let request = request.max_number_of_messages(10).wait_time_seconds(wait);
    request.send().await.unwrap().messages.unwrap_or_default()
}

async fn latest(client: &Client) -> Task {
    let request = client.list_message_move_tasks().source_arn(DEAD);
    request.send().await.unwrap().results.unwrap().remove(0)
}

/// Asks until the latest task has ended; each answer lets the writer go on.
async fn ended(client: &Client) -> Task {
    let start = Instant::now();
    loop {
        let task = latest(client).await;
        if task.status() != Some("RUNNING") {
            return task;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "{task:?}");
        tokio::task::yield_now().await;
    }
}

macro_rules! refused {
    ($call:expr) => {{
        let error = $call
            .send()
            .await
            .err()
            .expect("the call should be refused");
        let error = error.into_service_error();
        (
            error.code().unwrap_or_default().to_owned(),
            error.message().unwrap_or_default().to_owned(),
        )
    }};
}

#[tokio::test]
async fn dead_letters_go_back_to_where_they_came_from_as_new_messages() {
    let endpoint = Endpoint::start().await;
    let client = endpoint.client();
    let queues = queues(&client).await;
    let send = client.send_message().queue_url(&queues.source);
    let sent = send.message_body("poison").send().await.unwrap();
    assert_eq!(receive(&client, &queues.source, 0).await.len(), 1);
    assert!(receive(&client, &queues.source, 0).await.is_empty());

    let started = client
        .start_message_move_task()
        .source_arn(DEAD)
        .send()
        .await
        .unwrap();
    assert!(started.task_handle().is_some());
    let task = ended(&client).await;
    assert_eq!(task.status(), Some("COMPLETED"));
    assert_eq!(task.approximate_number_of_messages_moved(), 1);
    assert_eq!(task.approximate_number_of_messages_to_move(), Some(1));
    assert_eq!((task.task_handle(), task.destination_arn()), (None, None));
    assert!(task.started_timestamp() > 1_700_000_000_000);
    let message = receive(&client, &queues.source, 20).await.remove(0);
    assert_eq!(message.body(), Some("poison"));
    assert_ne!(message.message_id(), sent.message_id());
    let attributes = message.attributes().unwrap();
    assert_eq!(attributes[&SystemName::ApproximateReceiveCount], "1");
    assert!(!attributes.contains_key(&SystemName::DeadLetterQueueSourceArn));
}

#[tokio::test]
async fn a_task_says_why_it_cannot_begin_or_go_on() {
    let endpoint = Endpoint::start().await;
    let client = endpoint.client();
    let queues = queues(&client).await;
    let start = |source: &str| client.start_message_move_task().source_arn(source);
    let missing = "ResourceNotFoundException";
    let none = "arn:aws:sqs:us-east-1:000000000000:none";
    assert_eq!(refused!(start(none)).0, missing);
    assert_eq!(refused!(start(DEAD).destination_arn(none)).0, missing);
    let (code, message) = refused!(start(OTHER));
    assert_eq!(code, "InvalidParameterValue");
    assert!(
        message.contains("must be configured as a Dead Letter Queue"),
        "{message}"
    );
    for rate in [0, 501, -1] {
        let rate = start(DEAD).max_number_of_messages_per_second(rate);
        assert_eq!(refused!(rate).0, "InvalidParameterValue");
    }
    let same = start(DEAD).destination_arn(DEAD);
    assert_eq!(refused!(same).0, "InvalidParameterValue");
    let cancel = client.cancel_message_move_task().task_handle("nonsense");
    assert_eq!(refused!(cancel).0, "InvalidParameterValue");

    // A message that was sent to the dead-letter queue came from nowhere.
    fill(&endpoint, 1).await;
    start(DEAD).send().await.unwrap();
    let task = ended(&client).await;
    assert_eq!(task.status(), Some("FAILED"));
    assert_eq!(
        task.failure_reason(),
        Some("CouldNotDetermineMessageSource")
    );
    assert_eq!(
        receive(&client, &queues.dead, 0).await.len(),
        1,
        "it is still there"
    );
}

#[tokio::test]
async fn a_task_keeps_its_rate_and_is_cancelled_once() {
    let endpoint = Endpoint::start().await;
    let client = endpoint.client();
    queues(&client).await;
    fill(&endpoint, 100).await;
    let start = || {
        let request = client.start_message_move_task().source_arn(DEAD);
        request
            .destination_arn(OTHER)
            .max_number_of_messages_per_second(10)
    };
    let began = Instant::now();
    let handle = start().send().await.unwrap().task_handle.unwrap();
    let (code, message) = refused!(start());
    assert_eq!(code, "InvalidParameterValue");
    assert!(message.contains("already a task running"), "{message}");
    let other = endpoint.client();
    let url = format!("{}/000000000000/other", endpoint.url());
    let mut seen = 0;
    while seen < 10 {
        seen += receive(&other, &url, 20).await.len();
    }
    assert!(
        began.elapsed() >= Duration::from_millis(800),
        "{:?}",
        began.elapsed()
    );
    let running = latest(&client).await;
    assert_eq!(running.task_handle(), Some(handle.as_str()));
    assert_eq!(running.max_number_of_messages_per_second(), Some(10));
    let cancel = || client.cancel_message_move_task().task_handle(&handle);
    let moved = cancel()
        .send()
        .await
        .unwrap()
        .approximate_number_of_messages_moved();
    assert!((10..100).contains(&moved), "{moved}");
    assert_eq!(refused!(cancel()).0, "InvalidParameterValue");
    assert_eq!(latest(&client).await.status(), Some("CANCELLED"));
}

#[tokio::test]
async fn a_task_goes_on_after_a_restart_and_leaves_what_came_later() {
    let mut endpoint = Endpoint::start().await;
    let client = endpoint.client();
    queues(&client).await;
    fill(&endpoint, 20).await;
    let request = client.start_message_move_task().source_arn(DEAD);
    let request = request
        .destination_arn(OTHER)
        .max_number_of_messages_per_second(20);
    request.send().await.unwrap();
    endpoint
        .queue
        .send(
            &QueueName::parse("dead").unwrap(),
            OutgoingMessage::new("later"),
        )
        .await
        .unwrap();
    endpoint.begin_stop();
    let dir = endpoint.stopped().await;

    let endpoint = Endpoint::start_in(dir).await;
    let client = endpoint.client();
    let task = ended(&client).await;
    assert_eq!(task.status(), Some("COMPLETED"));
    assert_eq!(task.approximate_number_of_messages_moved(), 20);
    let depth = async |name: &str| {
        let name = QueueName::parse(name).unwrap();
        endpoint.queue.depth(&name).await.unwrap().visible
    };
    assert_eq!((depth("dead").await, depth("other").await), (1, 20));
}

const CHILD_DIR: &str = "LOCAL_QUEUE_TEST_MOVE_DIR";
const DEAD_LETTERS: usize = 30_000;

/// Not a test of its own: moves dead letters until it is killed, and says how many they are.
#[tokio::test(flavor = "multi_thread")]
async fn child_that_is_killed_while_it_moves() {
    let Ok(dir) = std::env::var(CHILD_DIR) else {
        return;
    };
    let queue = support::open(Path::new(&dir));
    if queue
        .list_move_tasks(DEAD.to_owned(), 1)
        .await
        .unwrap()
        .is_empty()
    {
        let request = MoveRequest {
            source_arn: DEAD.to_owned(),
            destination_arn: Some(OTHER.to_owned()),
            per_second: None,
        };
        queue.start_move_task(request).await.unwrap();
    }
    loop {
        let task = queue
            .list_move_tasks(DEAD.to_owned(), 1)
            .await
            .unwrap()
            .remove(0);
        let line = format!("\nmoved {}.\n", task.moved);
        std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
        if task.status != MoveStatus::Running {
            std::future::pending::<()>().await;
        }
    }
}

/// A step is one transaction: no message is in both queues, or in none.
#[tokio::test(flavor = "multi_thread")]
async fn kill_9_in_the_middle_loses_nothing_and_moves_nothing_twice() {
    let endpoint = Endpoint::start().await;
    queues(&endpoint.client()).await;
    fill(&endpoint, DEAD_LETTERS).await;
    let mut endpoint = endpoint;
    endpoint.begin_stop();
    let dir = endpoint.stopped().await;
    let mut last = 0;
    for round in 1..=6 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "child_that_is_killed_while_it_moves",
                "--nocapture",
            ])
            .env(CHILD_DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            let moved = line
                .strip_prefix("moved ")
                .and_then(|n| n.strip_suffix('.'));
            last = moved.map_or(last, |moved| moved.parse().unwrap());
            if last >= round * 3_000 {
                // The rest of what it said is read until its end.
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
    }
    assert!(
        (18_000..DEAD_LETTERS).contains(&last),
        "killed too late, at {last}"
    );

    let endpoint = Endpoint::start_in(dir).await;
    let task = ended(&endpoint.client()).await;
    assert_eq!(task.status(), Some("COMPLETED"));
    assert_eq!(
        task.approximate_number_of_messages_moved(),
        DEAD_LETTERS as i64
    );
    let mut seen = BTreeSet::new();
    for name in ["dead", "other"] {
        let name = QueueName::parse(name).unwrap();
        let options = ReceiveOptions {
            max: 10,
            ..ReceiveOptions::default()
        };
        loop {
            let messages = endpoint.queue.receive(&name, options).await.unwrap();
            if messages.is_empty() {
                break;
            }
            assert_eq!(name.as_str(), "other", "it should have been moved");
            for message in messages {
                assert!(seen.insert(message.body), "a message came twice");
            }
        }
    }
    assert_eq!(seen.len(), DEAD_LETTERS);
}
