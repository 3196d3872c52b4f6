//! Batches, sandboxes for batches, and the other ways to have messages handled:
//! each settles every message by itself, and loses none.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::json;
use support::ways::settled;
use support::{App, get, wait_for, wasm, with_probe, worker};

/// The consumer of batches on the embedded queue `jobs`.
fn batch(options: &str) -> String {
    let batch = wasm("guest_batch");
    with_probe(
        "batch",
        &format!(
            r#"
            [[trigger.sqs]]
            component = "batch"
            queue_url = "http://127.0.0.1:9324/000000000000/jobs"
            system_attributes = ["SenderId"]
            message_attributes = ["All"]
            [application.trigger.sqs.batch]
            backoff_cap_secs = 2
            {options}
            [component.batch]
            source = {batch}
            key_value_stores = ["results"]
            "#
        ),
    )
}

/// Sends them with one call, so that they are there together.
fn send_all(app: &App, bodies: &[&str]) -> Vec<String> {
    let entries: Vec<_> = bodies
        .iter()
        .enumerate()
        .map(|(id, body)| json!({"Id": id.to_string(), "MessageBody": body}))
        .collect();
    let answer = app.sqs(
        "SendMessageBatch",
        json!({"QueueName": "jobs", "Entries": entries}),
    );
    let sent = answer["Successful"].as_array().unwrap();
    sent.iter()
        .map(|entry| entry["MessageId"].as_str().unwrap().to_owned())
        .collect()
}

fn wait_until_empty(app: &App, queue: &str) {
    wait_for("an empty queue", || {
        (app.depth(queue) == (0, 0, 0)).then_some(())
    });
}

fn result(app: &App, key: &str) -> (u16, String) {
    get(&app.url(&format!("/probe/kv/{key}")))
}

#[test]
fn each_message_of_a_batch_is_settled_by_its_own_outcome() {
    let app = App::start(&batch("batch_window_ms = 500"));
    let ids = send_all(&app, &["ok 1", "again", "bury", "later", "ok 2"]);
    wait_until_empty(&app, "jobs");
    for id in [&ids[0], &ids[1], &ids[3], &ids[4]] {
        assert_eq!(result(&app, id).0, 200, "{id}");
    }
    assert_eq!(settled(&app, "deleted"), 4);
    assert_eq!(settled(&app, "retried"), 2);
    assert_eq!(settled(&app, "dead_lettered"), 1);
    let dead = app.sqs(
        "ReceiveMessage",
        json!({"QueueName": "jobs-dlq", "MessageAttributeNames": ["All"]}),
    );
    let dead = &dead["Messages"][0];
    assert_eq!(dead["Body"], "bury");
    let reason = dead["MessageAttributes"]["gristmill.reason"]["StringValue"].as_str();
    assert!(
        reason.unwrap().contains(r#""error":"asked to""#),
        "{reason:?}"
    );
}

#[test]
fn an_outcome_too_few_or_too_many_loses_nothing() {
    for wrong in ["missing", "surplus"] {
        let app = App::start(&batch("batch_window_ms = 500"));
        let ids = send_all(&app, &["ok 1", wrong, "ok 2"]);
        wait_until_empty(&app, "jobs");
        for id in &ids {
            assert_eq!(result(&app, id).0, 200, "{wrong}");
        }
        let log = app.log();
        assert!(log.contains("return one for each, in their order"), "{log}");
        assert_eq!(settled(&app, "deleted"), 3, "{wrong}");
        assert!(settled(&app, "retried") >= 1, "{wrong}");
    }
}

#[test]
fn a_trap_costs_only_its_own_message() {
    let app = App::start(&batch("batch_window_ms = 500"));
    let ids = send_all(&app, &["ok 1", "panic", "ok 2"]);
    wait_for("the others", || {
        (settled(&app, "deleted") >= 2).then_some(())
    });
    assert_eq!(result(&app, &ids[0]).0, 200);
    assert_eq!(result(&app, &ids[2]).0, 200);
    wait_for("the dead letter", || {
        (app.depth("jobs-dlq").0 == 1).then_some(())
    });
    // Neither of the others was received a second time.
    assert_eq!(settled(&app, "deleted"), 2);
}

/// One that is stuck fails those beside it; it must not make dead letters of them.
#[test]
fn a_stuck_message_buries_nobody_beside_it() {
    let app = App::start(&batch(
        "batch_window_ms = 2000\ntimeout_secs = 1\nbackoff_base_secs = 1",
    ));
    let ids = send_all(&app, &["ok 1", "ok 2", "stuck", "ok 3", "ok 4"]);
    wait_for("the dead letter", || {
        (app.depth("jobs-dlq").0 >= 1).then_some(())
    });
    wait_until_empty(&app, "jobs");
    assert_eq!(app.depth("jobs-dlq").0, 1);
    for id in [&ids[0], &ids[1], &ids[3], &ids[4]] {
        assert_eq!(result(&app, id).0, 200);
    }
}

#[test]
fn batches_grow_beyond_one_receive() {
    let mut app = App::start(&batch("batch_size = 50\nmax_concurrency = 1"));
    app.kill();
    app.set_args(&["--trigger", "http"]);
    app.restart();
    // Nobody consumes while they are sent.
    let bodies: Vec<String> = (0..10).map(|n| format!("ok {n}")).collect();
    let bodies: Vec<&str> = bodies.iter().map(String::as_str).collect();
    for _ in 0..12 {
        send_all(&app, &bodies);
    }
    app.set_args(&[]);
    app.restart();
    wait_until_empty(&app, "jobs");
    let (_, calls) = result(&app, "calls");
    let sizes: Vec<usize> = calls.lines().map(|line| line.split(',').count()).collect();
    assert_eq!(sizes.iter().sum::<usize>(), 120, "{sizes:?}");
    assert_eq!(sizes.iter().max(), Some(&50), "{sizes:?}");
}

#[test]
fn the_component_sees_all_of_a_message() {
    let app = App::start(&batch(""));
    let attributes = json!({
        "n": {"DataType": "Number", "StringValue": "7"},
        "raw": {"DataType": "Binary.x", "BinaryValue": "AAH/"},
    });
    let sent = app.sqs(
        "SendMessage",
        json!({"QueueName": "jobs", "MessageBody": "describe", "MessageAttributes": attributes}),
    );
    let id = sent["MessageId"].as_str().unwrap();
    let seen = wait_for("the message", || {
        let (status, seen) = result(&app, id);
        (status == 200).then_some(seen)
    });
    assert_eq!(
        seen,
        "receive 1 sent true first true group - SenderId:-=000000000000 n:Number=7 \
         raw:Binary.x=[0, 1, 255]"
    );
}

/// `handle-queue-message` in one sandbox for a whole batch: one that traps costs
/// the rest no more than a fresh sandbox.
#[test]
fn a_sandbox_for_a_batch_settles_each_message() {
    let options = "sandbox = \"batch\"\nbatch_window_ms = 500\nbackoff_cap_secs = 2";
    let app = App::start(&with_probe("session", &worker("", options)));
    let ids = send_all(&app, &["ok 1", "trap", "ok 2", "reject", "ok 3"]);
    wait_for("the others", || {
        (settled(&app, "deleted") >= 3).then_some(())
    });
    for id in [&ids[0], &ids[2], &ids[4]] {
        assert_eq!(result(&app, id).0, 200);
    }
    wait_for("both dead letters", || {
        (app.depth("jobs-dlq").0 == 2).then_some(())
    });
}

/// What was done is not done again; what failed is, and so is what a killed
/// process had begun, which is counted.
#[test]
fn what_was_done_is_not_done_again() {
    let options = "dedup_store = \"results\"\ndedup_attribute = \"order\"\nbackoff_base_secs = 1\nbackoff_cap_secs = 1";
    let mut app = App::start(&with_probe(
        "dedup",
        &worker("message_attributes = [\"All\"]", options),
    ));
    let send = |app: &App, body: &str, order: &str| {
        let attributes = json!({"order": {"DataType": "String", "StringValue": order}});
        app.sqs(
            "SendMessage",
            json!({"QueueName": "jobs", "MessageBody": body, "MessageAttributes": attributes}),
        );
    };
    send(&app, "sleep 1", "a");
    wait_until_empty(&app, "jobs");
    send(&app, "sleep 1", "a");
    wait_until_empty(&app, "jobs");
    assert_eq!(settled(&app, "duplicate"), 1);
    let attempts = |app: &App, body: &str| match result(app, &format!("attempts/{body}")) {
        (200, attempts) => attempts.lines().count(),
        _ => 0,
    };
    assert_eq!(attempts(&app, "sleep-1"), 1);

    // Two that are the same, at the same time: the later one waits for the first.
    send(&app, "sleep 1200", "at once");
    send(&app, "sleep 1200", "at once");
    wait_until_empty(&app, "jobs");
    assert_eq!(settled(&app, "duplicate"), 2);
    assert_eq!(attempts(&app, "sleep-1200"), 1);

    // An error is no completion, and no unknown end.
    send(&app, "error", "b");
    wait_for("a second attempt", || {
        (attempts(&app, "error") >= 2).then_some(())
    });
    assert_eq!(
        app.metric("gristmill_reinvocations_total", "worker") as u64,
        0
    );

    app.sqs(
        "SetQueueAttributes",
        json!({"QueueName": "jobs", "Attributes": {"VisibilityTimeout": "2"}}),
    );
    app.restart();
    send(&app, "sleep 1500", "c");
    wait_for("the call", || {
        (attempts(&app, "sleep-1500") == 1).then_some(())
    });
    app.kill();
    app.restart();
    wait_for("the second call", || {
        (app.metric("gristmill_reinvocations_total", "worker") >= 1.0).then_some(())
    });
}

/// A component that exports no handler of messages gets requests: its status decides.
#[test]
fn the_http_export_handles_messages() {
    let probe = wasm("guest_probe");
    let consumer = |queue: &str, path: &str| {
        format!(
            r#"
            [[trigger.sqs]]
            component = "{queue}"
            queue_url = "http://127.0.0.1:9324/000000000000/{queue}"
            [application.trigger.sqs.{queue}]
            http_path = "{path}"
            backoff_base_secs = 1
            backoff_cap_secs = 1
            [component.{queue}]
            source = {probe}
            key_value_stores = ["results"]
            "#
        )
    };
    let paths = [
        ("fine", "/sleep/1"),
        ("rejected", "/no-such-verb"),
        ("failing", "/sleep/x"),
    ];
    let consumers = paths.map(|(queue, path)| consumer(queue, path)).concat();
    let app = App::start(&with_probe("http", &consumers));
    let settled = |queue: &str, settlement: &str| {
        let labels = format!("component=\"{queue}\",settlement=\"{settlement}\"");
        app.metric("gristmill_messages_settled_total", &labels) as u64
    };
    for (queue, _) in paths {
        app.send(queue, "{}");
    }
    for (queue, _) in paths {
        wait_until_empty(&app, queue);
    }
    let account = paths.map(|(queue, _)| {
        ["deleted", "dead_lettered", "retried"].map(|settlement| settled(queue, settlement))
    });
    // 500 is retried until redrive takes the message.
    assert_eq!(account, [[1, 0, 0], [0, 1, 0], [0, 0, 5]]);
    let letter = |queue: &str| {
        let dead = json!({"QueueName": format!("{queue}-dlq"), "MessageAttributeNames": ["All"]});
        let reason = &app.sqs("ReceiveMessage", dead)["Messages"][0]["MessageAttributes"];
        reason["gristmill.reason"]["StringValue"]
            .as_str()
            .map(str::to_owned)
    };
    let reason = letter("rejected").unwrap();
    assert!(
        reason.contains("status 404 Not Found: the probe knows no such thing"),
        "{reason}"
    );
    assert_eq!(letter("failing"), None);
    assert_eq!(app.depth("failing-dlq").1, 1);
}

/// One request that the server got: its head in lower case, and its body.
type Request = (String, String);

/// A server that answers with `statuses`, one after the other, and the last of
/// them from then on.
fn server(statuses: &'static [&'static str]) -> (String, mpsc::Receiver<Request>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/jobs", listener.local_addr().unwrap());
    let (seen, requests) = mpsc::channel();
    std::thread::spawn(move || {
        let mut statuses = statuses
            .iter()
            .chain(std::iter::repeat(statuses.last().unwrap()));
        for stream in listener.incoming().map_while(Result::ok) {
            while let Some(request) = read_request(&stream) {
                let status = statuses.next().unwrap();
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 3\r\n\r\nwhy");
                (&stream).write_all(answer.as_bytes()).unwrap();
                if seen.send(request).is_err() {
                    return;
                }
            }
        }
    });
    (url, requests)
}

fn read_request(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let head = head.to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))?;
    let mut body = vec![0; length.parse().ok()?];
    reader.read_exact(&mut body).ok()?;
    Some((head, String::from_utf8(body).ok()?))
}

#[test]
fn forwarded_messages_are_settled_by_the_status() {
    let (url, requests) = server(&[
        "204 No Content",
        "503 Busy",
        "429 Slow\r\nretry-after: 3",
        "200 OK",
        "422 No",
    ]);
    let options = format!(
        "forward_to = \"{url}\"\nmax_concurrency = 1\nbackoff_base_secs = 1\nbackoff_cap_secs = 1"
    );
    let app = App::start(&with_probe("forward", &worker("", &options)));
    let next = || requests.recv_timeout(Duration::from_secs(30)).unwrap();

    let id = app.send("jobs", r#"{"n": 1}"#);
    let (head, body) = next();
    assert_eq!(body, r#"{"n": 1}"#);
    assert!(head.starts_with("post /jobs "), "{head}");
    for header in [
        format!("gristmill-message-id: {id}"),
        "gristmill-receive-count: 1".to_owned(),
        "content-type: application/json".to_owned(),
    ] {
        assert!(head.contains(&header), "`{header}` not in\n{head}");
    }

    app.send("jobs", "busy, then not");
    assert!(next().0.contains("gristmill-receive-count: 1"));
    assert!(next().0.contains("gristmill-receive-count: 2"));
    let told = Instant::now();
    assert!(next().0.contains("gristmill-receive-count: 3"));
    // Longer than any back-off here.
    assert!(told.elapsed() > Duration::from_secs(2), "{told:?}");
    app.send("jobs", "never");
    next();
    wait_for("the dead letter", || {
        (app.depth("jobs-dlq").0 == 1).then_some(())
    });
    wait_until_empty(&app, "jobs");
    assert_eq!(settled(&app, "deleted"), 2);
    assert_eq!(settled(&app, "retried"), 2);
}
