//! SIGTERM under load, for each way to have messages handled: nothing is received any
//! more, what is under way finishes and is deleted, and nothing comes a second time.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use std::time::{Duration, Instant};

use support::servers::QueueServer;
use support::ways::{CREDENTIALS, Queues, lines, ways};
use support::{App, get, wait_for, wasm, with_probe};

const MESSAGES: usize = 120;

/// Stops `app` when `begun` says that work has begun, and starts it without its
/// consumer. Returns how many were begun when it was stopped.
fn stop(app: &mut App, begun: impl Fn(&App) -> usize) -> usize {
    let begun = wait_for("work", || Some(begun(app)).filter(|begun| *begun >= 10));
    let stopped = Instant::now();
    app.signal("-TERM");
    let (status, log) = app.wait();
    assert!(status.success(), "{status}\n{log}");
    assert!(log.contains("all work is finished"), "{log}");
    // The grace period is 25 s.
    assert!(stopped.elapsed() < Duration::from_secs(10));
    app.set_args(&["--trigger", "http"]);
    app.restart();
    begun
}

/// What was done is gone, and the rest was never received.
fn nothing_was_received_twice(server: &QueueServer, done: usize) {
    assert!((10..MESSAGES).contains(&done), "{done}");
    let queues = Queues::Server(server);
    assert_eq!(queues.depth("jobs"), ((MESSAGES - done) as u64, 0));
    let rest = queues.drain("jobs");
    assert_eq!(rest.len(), MESSAGES - done);
    for message in rest {
        // This time alone.
        assert_eq!(message["Attributes"]["ApproximateReceiveCount"], "1");
    }
    assert_eq!(queues.depth("jobs-dlq"), (0, 0));
}

/// A group for each, so that none writes over what another one wrote.
fn send(server: &QueueServer, verb: &str) -> Vec<String> {
    let bodies: Vec<String> = (0..MESSAGES).map(|n| format!("{verb} g{n} {n}")).collect();
    Queues::Server(server).send_all("jobs", &bodies)
}

fn count(app: &App, prefix: &str) -> usize {
    let keys = (0..MESSAGES).map(|n| format!("{prefix}/g{n}"));
    keys.map(|key| lines(app, &key).len()).sum()
}

#[test]
fn a_stop_under_load_finishes_messages() {
    let server = QueueServer::start("jobs");
    send(&server, "sleep-500");
    let manifest = ways(&server.queue_url(), "max_concurrency = 16");
    let mut app = App::start_with(&manifest, &[], &CREDENTIALS);
    let begun = stop(&mut app, |app| count(app, "begun"));
    let done = count(&app, "done");
    assert_eq!(count(&app, "begun"), done);
    // Those in flight, and what a last receive brought.
    assert!(done <= begun + 2 * 16, "{begun} {done}");
    nothing_was_received_twice(&server, done);
}

#[test]
fn a_stop_under_load_finishes_batches() {
    let server = QueueServer::start("jobs");
    let ids = send(&server, "sleep 50");
    let (batch, url) = (wasm("guest_batch"), server.queue_url());
    let manifest = with_probe(
        "batch",
        &format!(
            r#"
            [[trigger.sqs]]
            component = "batch"
            queue_url = "{url}"
            [application.trigger.sqs.batch]
            max_concurrency = 1
            batch_size = 10
            batch_window_ms = 2000
            [component.batch]
            source = {batch}
            key_value_stores = ["results"]
            "#
        ),
    );
    let mut app = App::start_with(&manifest, &[], &CREDENTIALS);
    let begun = |app: &App| -> usize {
        let sizes = lines(app, "calls");
        sizes.iter().map(|line| line.split(',').count()).sum()
    };
    let before = stop(&mut app, begun);
    let done = ids.iter().filter(|id| !lines(&app, id).is_empty()).count();
    assert_eq!(begun(&app), done);
    assert!(done <= before + 2 * 10, "{before} {done}");
    nothing_was_received_twice(&server, done);
}

#[test]
fn a_stop_under_load_finishes_what_was_forwarded() {
    let server = QueueServer::start("jobs");
    send(&server, "sleep-500");
    let ways_wasm = wasm("guest_ways");
    let receiver = App::start(&with_probe(
        "receiver",
        &format!(
            r#"
            [[trigger.http]]
            route = "/ways"
            component = "ways"
            [component.ways]
            source = {ways_wasm}
            key_value_stores = ["results"]
            "#
        ),
    ));
    let options = format!(
        "max_concurrency = 16\nforward_to = \"{}\"",
        receiver.url("/ways")
    );
    let manifest = ways(&server.queue_url(), &options);
    let mut app = App::start_with(&manifest, &[], &CREDENTIALS);
    let begun = stop(&mut app, |_| count(&receiver, "begun"));
    let done = count(&receiver, "done");
    assert_eq!(count(&receiver, "begun"), done);
    assert!(done <= begun + 2 * 16, "{begun} {done}");
    nothing_was_received_twice(&server, done);
    assert_eq!(get(&receiver.admin("/readyz")).0, 200);
}
