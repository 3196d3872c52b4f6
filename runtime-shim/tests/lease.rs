//! The lease on a message: heartbeats hold it for as long as its call goes on, and not
//! longer; a call ends before its lease does.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use serde_json::json;
use support::ways::{Queues, embedded, lines, settled};
use support::{App, get, wait_for, wasm, with_probe, worker};

/// Starts it on a queue of this visibility timeout: a consumer reads that when it starts.
fn start(manifest: &str, visibility: u32) -> App {
    let mut app = App::start(manifest);
    let attributes = json!({"Attributes": {"VisibilityTimeout": visibility.to_string()}});
    Queues::Embedded(&app).call("jobs", "SetQueueAttributes", attributes);
    app.restart();
    app
}

fn heartbeats(app: &App) -> usize {
    app.metric("gristmill_lease_heartbeats_total", "") as usize
}

fn send(app: &App, bodies: &[&str]) -> Vec<String> {
    let bodies: Vec<String> = bodies.iter().map(|body| (*body).to_owned()).collect();
    Queues::Embedded(app).send_all("jobs", &bodies)
}

#[test]
fn heartbeats_hold_a_whole_batch() {
    let batch = wasm("guest_batch");
    let url = embedded("jobs");
    let app = start(
        &with_probe(
            "batch",
            &format!(
                r#"
                [[trigger.sqs]]
                component = "batch"
                queue_url = "{url}"
                [application.trigger.sqs.batch]
                batch_window_ms = 500
                timeout_secs = 20
                [component.batch]
                source = {batch}
                key_value_stores = ["results"]
                "#
            ),
        ),
        2,
    );
    let ids = send(&app, &["ok 1", "sleep 6000", "ok 2", "ok 3"]);
    Queues::Embedded(&app).wait_until_empty("jobs");
    for id in &ids {
        assert_eq!(lines(&app, id).len(), 1, "{id}");
    }
    // One call; nobody had any of it a second time.
    assert_eq!(lines(&app, "calls").len(), 1);
    assert_eq!(settled(&app, "deleted"), 4);
    // Each second, for each of the four.
    assert!(heartbeats(&app) >= 4 * 4, "{}", heartbeats(&app));
}

/// Had one gone on after its call, it would have been counted: what is hidden for a
/// back-off, or left, still has its receipt when half of the lease is over.
#[test]
fn heartbeats_end_with_the_call_whatever_way_it_ends() {
    let options = "timeout_secs = 1\nbackoff_base_secs = 4\nbackoff_cap_secs = 4";
    let app = start(&with_probe("ends", &worker("", options)), 4);
    send(&app, &["ok", "error", "trap", "loop", "reject", "leave"]);
    wait_for("the dead letters", || {
        (app.depth("jobs-dlq").0 == 5).then_some(())
    });
    assert_eq!(heartbeats(&app), 0);
    let ends = [
        "deleted",
        "dead_lettered",
        "left",
        "retried",
        "expired",
        "failed",
    ];
    let ends = ends.map(|settlement| settled(&app, settlement));
    assert_eq!(ends, [1, 1, 5, 15, 0, 0]);
    // All dead letters but the rejected one.
    let exhausted = app.metric("gristmill_messages_exhausted_total", "worker");
    assert_eq!(exhausted as u64, 4);
    let last = "had its last try: the queue moves it to `jobs-dlq`";
    assert_eq!(app.log().matches(last).count(), 4);
}

/// The default deadline is below the visibility timeout, and what it stops is settled.
#[test]
fn a_call_ends_before_its_lease() {
    let options = "backoff_base_secs = 1\nbackoff_cap_secs = 1";
    let app = start(&with_probe("deadline", &worker("", options)), 2);
    send(&app, &["loop 1", "loop 2"]);
    wait_for("the dead letters", || {
        (app.depth("jobs-dlq").0 == 2).then_some(())
    });
    assert_eq!(
        (settled(&app, "retried"), settled(&app, "expired")),
        (10, 0)
    );
    let log = app.log();
    let took = log.split("no answer within ").skip(1);
    let took = took.map(|rest| rest.split(' ').next().unwrap().parse::<f64>().unwrap());
    // Of 2 s, less a margin; a busy machine notices some of them late.
    let least = took.fold(f64::INFINITY, f64::min);
    assert!((1.8..2.0).contains(&least), "{least}");
    let timeouts = "component=\"worker\",outcome=\"timeout\"";
    assert_eq!(
        app.metric("gristmill_invocations_total", timeouts) as usize,
        10
    );
}

/// Messages that are gone from under their call: it is stopped, and what shared its
/// sandbox and waits does not begin.
#[test]
fn a_lost_lease_stops_the_call() {
    let options = "sandbox = \"batch\"\nbatch_window_ms = 500\ntimeout_secs = 30";
    let app = start(&with_probe("lost", &worker("", options)), 2);
    let ids = send(&app, &["sleep 25000", "ok 2"]);
    wait_for("the first", || {
        (lines(&app, "attempts/sleep-25000").len() == 1).then_some(())
    });
    Queues::Embedded(&app).call("jobs", "PurgeQueue", json!({}));
    wait_for("the end of both", || {
        (settled(&app, "expired") == 2).then_some(())
    });
    assert_eq!(
        app.metric("gristmill_invocations_running", "worker") as u64,
        0
    );
    assert_eq!(get(&app.url(&format!("/probe/kv/{}", ids[1]))).0, 404);
    assert!(app.log().contains("the lease was lost"), "{}", app.log());
}
