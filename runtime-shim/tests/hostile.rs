//! Components that misbehave: their own message suffers, nobody else's.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;
use support::{App, PATIENCE, get, wait_for, with_probe, worker};

/// `timeout_secs` and the rest of the worker's options are given.
fn manifest(options: &str) -> String {
    let trigger = r#"
        system_attributes = ["ApproximateReceiveCount"]
        message_attributes = ["trace.*", "blob"]
    "#;
    with_probe("hostile", &worker(trigger, options))
}

fn stored(app: &App, key: &str) -> Option<String> {
    let (status, body) = get(&app.url(&format!("/probe/kv/{key}")));
    (status == 200).then_some(body)
}

/// When each attempt at the message with this body began, in milliseconds.
fn attempts(app: &App, body: &str) -> Vec<u64> {
    let noted = stored(app, &format!("attempts/{body}")).unwrap_or_default();
    noted.lines().map(|line| line.parse().unwrap()).collect()
}

/// Traps, endless recursion, memory bombs, and more endless loops than there are
/// worker threads: each is tried five times with growing pauses and ends in the
/// dead-letter queue, while other messages are handled as if nothing happened.
#[test]
fn hostile_messages_hurt_nobody_else() {
    let app = App::start(&manifest(
        "timeout_secs = 2\nbackoff_base_secs = 1\nbackoff_cap_secs = 4\nmax_concurrency = 40",
    ));
    let threads = std::thread::available_parallelism().unwrap().get();
    let mut hostile: Vec<String> = ["trap", "recurse", "allocate", "error"]
        .map(String::from)
        .into();
    hostile.extend((0..threads + 6).map(|n| format!("loop-{n}")));
    for body in &hostile {
        // Distinct bodies, so that attempts are told apart; `loop-3` is `loop 3`.
        app.send("jobs", &body.replacen('-', " ", 1));
    }
    wait_for("the loops to run", || {
        (app.metric("gristmill_invocations_running", "worker") >= threads as f64).then_some(())
    });

    // Others flow meanwhile, and promptly.
    for n in 0..100 {
        let sent = Instant::now();
        let id = app.send("jobs", &format!("ok {n}"));
        wait_for("an honest message", || stored(&app, &id));
        assert!(
            sent.elapsed() < Duration::from_secs(5),
            "{n}: {:?}",
            sent.elapsed()
        );
    }

    wait_for("the hostile messages to be dead letters", || {
        (app.depth("jobs-dlq").0 == hostile.len() as u64).then_some(())
    });
    wait_for("the queue to be empty", || {
        (app.depth("jobs") == (0, 0, 0)).then_some(())
    });
    let mut gaps: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
    for body in &hostile {
        let times = attempts(&app, body);
        assert_eq!(times.len(), 5, "attempts at `{body}`: {times:?}");
        for (n, pair) in times.windows(2).enumerate() {
            gaps.entry(n).or_default().push(pair[1] - pair[0]);
        }
    }
    for (n, gaps) in &gaps {
        let ceiling = 1000 * (1_u64 << n).min(4);
        for gap in gaps {
            // At least the shortest delay, at most the ceiling plus the time the
            // attempt itself may take, with some slack for a busy machine.
            assert!(
                (1000..=ceiling + 2000 + 5000).contains(gap),
                "gap {n}: {gap} ms"
            );
        }
    }
    let mean = |n: usize| gaps[&n].iter().sum::<u64>() / gaps[&n].len() as u64;
    assert!(mean(3) > mean(0), "the pauses grow: {gaps:?}");

    let outcomes = |outcome: &str| {
        let labels = format!("component=\"worker\",outcome=\"{outcome}\"");
        app.metric("gristmill_invocations_total", &labels) as usize
    };
    assert_eq!(outcomes("trap"), 3 * 5);
    assert_eq!(outcomes("error"), 5);
    assert_eq!(outcomes("timeout"), (threads + 6) * 5);
    assert_eq!(outcomes("completed"), 100);
    assert_eq!(get(&app.admin("/readyz")).0, 200);
}

/// A handler that takes longer than the visibility timeout keeps its message by
/// heartbeats: nobody else gets it.
#[test]
fn a_long_handler_keeps_its_lease() {
    let mut app = App::start(&manifest("timeout_secs = 20"));
    app.sqs(
        "SetQueueAttributes",
        json!({"QueueName": "jobs", "Attributes": {"VisibilityTimeout": "4"}}),
    );
    // The consumer reads the visibility timeout when it starts.
    app.restart();
    let id = app.send("jobs", "sleep 10000");
    wait_for("the long message", || stored(&app, &id));
    wait_for("its settlement", || {
        (app.metric("gristmill_messages_settled_total", "deleted") >= 1.0).then_some(())
    });
    assert_eq!(attempts(&app, "sleep-10000").len(), 1);
    assert!(app.metric("gristmill_lease_heartbeats_total", "worker") >= 3.0);
    assert_eq!(app.depth("jobs"), (0, 0, 0));
}

#[test]
fn leave_leaves_and_reject_rejects() {
    let mut app = App::start(&manifest(""));
    app.sqs(
        "SetQueueAttributes",
        json!({"QueueName": "jobs", "Attributes": {"VisibilityTimeout": "2"}}),
    );
    app.restart();
    app.send("jobs", "leave");
    app.send("jobs", "reject");
    wait_for("the rejected message", || {
        (app.depth("jobs-dlq").0 == 1).then_some(())
    });
    assert_eq!(attempts(&app, "reject").len(), 1);
    // Left alone, it comes back when its visibility timeout runs out.
    let times = wait_for("the left message to come back", || {
        Some(attempts(&app, "leave")).filter(|times| times.len() >= 3)
    });
    for pair in times.windows(2) {
        assert!((1900..4500).contains(&(pair[1] - pair[0])), "{times:?}");
    }
}

#[test]
fn a_component_gets_the_attributes_that_its_trigger_asks_for() {
    let app = App::start(&manifest(""));
    app.sqs(
        "SendMessage",
        json!({
            "QueueName": "jobs",
            "MessageBody": "attributes",
            "MessageAttributes": {
                "trace.id": {"DataType": "Number.int", "StringValue": "7"},
                "blob": {"DataType": "Binary", "BinaryValue": "AAH/"},
                "secret": {"DataType": "String", "StringValue": "not asked for"},
            }
        }),
    );
    let seen = wait_for("the attributes", || stored(&app, "attributes"));
    let mut seen: Vec<&str> = seen.lines().collect();
    seen.sort_unstable();
    assert_eq!(
        seen,
        [
            "ApproximateReceiveCount - 1",
            "blob Binary [0, 1, 255]",
            "trace.id Number.int 7"
        ]
    );
}

#[test]
fn what_a_component_prints_is_logged_with_its_name() {
    let app = App::start(&manifest(""));
    app.send("jobs", "print grist for the mill");
    wait_for("the line in the log", || {
        app.log()
            .lines()
            .find(|line| line.contains("grist for the mill") && line.contains("worker"))
            .map(str::to_owned)
    });
}

/// More clients than there are sandboxes, each with a body that does not come: the
/// others are served at once, and the slow ones get their answer.
#[test]
fn slow_bodies_hold_no_sandbox() {
    let app = App::start(&manifest("timeout_secs = 2"));
    let address = app.url("").trim_start_matches("http://").to_owned();
    let mut slow: Vec<_> = (0..450)
        .map(|_| {
            let mut stream = TcpStream::connect(&address).unwrap();
            let head = "POST /probe/echo HTTP/1.1\r\nhost: x\r\ncontent-length: 16000\r\n\r\nx";
            stream.write_all(head.as_bytes()).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream
        })
        .collect();
    for _ in 0..20 {
        let asked = Instant::now();
        assert_eq!(get(&app.url("/probe/kv/x")).0, 404);
        let took = asked.elapsed();
        assert!(took < Duration::from_secs(2), "{took:?}");
    }
    let mut answer = [0; 12];
    slow[0].read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
}
