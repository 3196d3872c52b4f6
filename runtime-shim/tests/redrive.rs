//! `gristmill redrive`, over the wire: what is chosen moves, what is not stays and is
//! visible, and a run that was stopped is finished by the next.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use serde_json::json;
use support::queues::{Ended, bodies, call, depth, drain, run, signal, start};
use support::servers::QueueServer;
use support::wait_for;

const FROM: &str = "jobs-dlq";

/// Puts a dead letter into `jobs-dlq`, as a consumer does.
fn bury(server: &QueueServer, body: &str, component: &str, error: &str) {
    let reason = json!({"component": component, "outcome": "rejected", "error": error});
    let message = json!({
        "MessageBody": body,
        "MessageAttributes": {
            "kind": {"DataType": "String", "StringValue": "invoice"},
            "gristmill.reason": {"DataType": "String", "StringValue": reason.to_string()},
        },
    });
    call(server, FROM, "SendMessage", message);
}

fn bury_many(server: &QueueServer, count: usize) {
    for n in 0..count {
        bury(server, &format!("{n:03}"), "worker", "broken");
    }
}

#[test]
fn dead_letters_go_back_to_where_they_came_from_without_their_reason() {
    let server = QueueServer::start("jobs");
    bury_many(&server, 25);
    let stdout = run(&server, &["redrive", FROM]).done();
    assert!(
        stdout.starts_with("Moved 25 messages to jobs\nDone in "),
        "{stdout}"
    );
    assert!(
        stdout.ends_with(
            ": 0 left, 0 without a known source, 0 failed, 0 sent but not deleted, 0 retries\n"
        ),
        "{stdout}"
    );
    assert_eq!(depth(&server, FROM), (0, 0));
    let messages = drain(&server, "jobs");
    assert_eq!(messages.len(), 25);
    for message in &messages {
        let attributes = message["MessageAttributes"].as_object().unwrap();
        assert_eq!(attributes.len(), 1, "{attributes:?}");
        assert_eq!(attributes["kind"]["StringValue"], "invoice");
    }
    // Nothing is left to do.
    let stdout = run(&server, &["redrive", FROM]).done();
    assert!(stdout.starts_with("Moved 0 messages to jobs\n"), "{stdout}");
}

#[test]
fn only_what_is_chosen_moves_and_the_rest_is_visible_at_once() {
    let server = QueueServer::start("jobs");
    for n in 0..12 {
        bury(
            &server,
            &format!("{{\"n\": {n}}}"),
            "worker",
            "no such order",
        );
        bury(
            &server,
            &format!("{{\"n\": {n}}}"),
            "images",
            "too large: 7",
        );
    }
    let moved = |args: &[&str]| {
        let stdout = run(&server, &[&["redrive", FROM], args].concat()).done();
        stdout.lines().next().unwrap().to_owned()
    };
    let chosen = ["--component", "images", "--error", "too large"];
    assert_eq!(
        moved(&[&chosen[..], &["--dry-run"]].concat()),
        "Would move 12 messages to jobs"
    );
    assert_eq!(depth(&server, FROM), (24, 0));
    assert_eq!(depth(&server, "jobs"), (0, 0));
    let filter = r#"{"body": {"n": [{"numeric": [">=", 10]}]}}"#;
    let both = [&chosen[..], &["--filter", filter]].concat();
    assert_eq!(moved(&both), "Moved 2 messages to jobs");
    assert_eq!(depth(&server, FROM), (22, 0));
    assert_eq!(
        moved(&["--error", "nothing like this"]),
        "Moved 0 messages to jobs"
    );
    assert_eq!(depth(&server, FROM), (22, 0));
    assert_eq!(
        moved(&["--component", "worker", "--max", "5"]),
        "Moved 5 messages to jobs"
    );
    assert_eq!(depth(&server, FROM), (17, 0));
    assert_eq!(moved(&[]), "Moved 17 messages to jobs");
    assert_eq!(drain(&server, "jobs").len(), 24);
}

#[test]
fn another_queue_is_named_and_mistakes_are_explained() {
    let server = QueueServer::start("jobs");
    bury_many(&server, 3);
    call(&server, "", "CreateQueue", json!({"QueueName": "spare"}));
    for to in [
        "spare".to_owned(),
        format!("{}/000000000000/spare", server.endpoint()),
    ] {
        let stdout = run(&server, &["redrive", FROM, "--to", &to, "--max", "1"]).done();
        assert!(
            stdout.starts_with("Moved 1 messages to spare\n"),
            "{stdout}"
        );
    }
    assert_eq!(depth(&server, "spare"), (2, 0));
    for (args, expected) in [
        (
            &["redrive", FROM, "--to", FROM][..],
            "is the dead-letter queue itself",
        ),
        (
            &["redrive", "spare"],
            "cannot find whose dead-letter queue `spare` is",
        ),
        (
            &["redrive", FROM, "--to", "nosuch"],
            "cannot use queue `nosuch`",
        ),
        (
            &["redrive", FROM, "--filter", "{}"],
            "`--filter`: a filter has no condition",
        ),
    ] {
        let (_, stderr) = run(&server, args).failed();
        assert!(stderr.contains(expected), "{args:?}: {stderr}");
    }
    let usage = ["redrive", FROM, "--filter", "{"];
    assert_eq!(run(&server, &usage).code, Some(2));
    assert_eq!(depth(&server, FROM), (1, 0));
}

/// What was begun is finished, nothing stays hidden, and the next run does the rest.
#[test]
fn a_run_that_was_stopped_is_finished_by_the_next() {
    let server = QueueServer::start("jobs");
    bury_many(&server, 60);
    let child = start(&server, &["redrive", FROM, "--rate", "10"]);
    wait_for("the first messages", || {
        (depth(&server, "jobs").0 > 0).then_some(())
    });
    signal(&child, "-INT");
    let (stdout, stderr) = Ended::from(child.wait_with_output().unwrap()).failed();
    assert!(
        stderr.contains("stopped by SIGINT before all was done"),
        "{stderr}"
    );
    let (moved, hidden) = depth(&server, "jobs");
    assert!(moved > 0 && moved < 60 && hidden == 0, "{moved} {hidden}");
    assert!(
        stdout.starts_with(&format!("Moved {moved} messages to jobs\n")),
        "{stdout}"
    );
    assert_eq!(depth(&server, FROM), (60 - moved, 0));
    run(&server, &["redrive", FROM]).done();
    let messages = drain(&server, "jobs");
    let expected: Vec<String> = (0..60).map(|n| format!("{n:03}")).collect();
    assert_eq!(bodies(&messages), expected);
    assert_eq!(depth(&server, FROM), (0, 0));
}

/// A killed run loses nothing: what was under way is in one queue, or in both.
#[test]
fn a_killed_run_loses_nothing() {
    let server = QueueServer::start("jobs");
    bury_many(&server, 60);
    let mut child = start(&server, &["redrive", FROM, "--rate", "20"]);
    wait_for("the first messages", || {
        (depth(&server, "jobs").0 > 0).then_some(())
    });
    child.kill().unwrap();
    child.wait().unwrap();
    run(&server, &["redrive", FROM]).done();
    let (visible, hidden) = depth(&server, FROM);
    assert_eq!(visible, 0);
    let messages = drain(&server, "jobs");
    let mut moved = bodies(&messages);
    moved.dedup();
    // A batch that was killed after its send is in both queues.
    assert!(moved.len() as u64 + hidden >= 60, "{hidden} {moved:?}");
    assert!(hidden <= 10, "{hidden}");
    assert!(moved.len() >= 50, "{moved:?}");
}

/// Dead letters of a FIFO queue go back with their groups, in their order; a run that is
/// repeated brings none of them twice.
#[test]
fn dead_letters_of_a_fifo_queue_keep_group_and_order() {
    const FROM: &str = "orders-dlq.fifo";
    let server = QueueServer::start("orders.fifo");
    for n in 0..40 {
        let message = json!({
            "MessageBody": format!("{n:02}"),
            "MessageGroupId": format!("g{}", n % 3),
            "MessageDeduplicationId": format!("d{n}"),
        });
        call(&server, FROM, "SendMessage", message);
    }
    let args = ["redrive", FROM, "--to", "orders.fifo"];
    let stdout = run(&server, &args).done();
    assert!(
        stdout.starts_with("Moved 40 messages to orders.fifo\n"),
        "{stdout}"
    );
    assert_eq!(depth(&server, FROM), (0, 0));
    let messages = drain(&server, "orders.fifo");
    assert_eq!(messages.len(), 40);
    for group in 0..3 {
        let name = format!("g{group}");
        let of_group = messages
            .iter()
            .filter(|m| m["Attributes"]["MessageGroupId"] == *name);
        let found: Vec<&str> = of_group.map(|m| m["Body"].as_str().unwrap()).collect();
        let sent: Vec<String> = (group..40).step_by(3).map(|n| format!("{n:02}")).collect();
        assert_eq!(found, sent, "{name}");
    }
    let stdout = run(&server, &args).done();
    assert!(
        stdout.starts_with("Moved 0 messages to orders.fifo\n"),
        "{stdout}"
    );
}
