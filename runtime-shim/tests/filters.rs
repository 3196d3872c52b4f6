//! Filters of queue consumers, over the wire: what matches is handled, and of the
//! rest becomes what the options say.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use serde_json::{Value, json};
use support::{App, get, gristmill, output, wait_for, with_probe, worker};

/// Texts that begin so, or invoices above ten.
const FILTER: &str = r#"
    [[application.trigger.sqs.worker.filter]]
    body = [{ prefix = "handle " }]
    [[application.trigger.sqs.worker.filter]]
    body = { order = { size = [{ numeric = [">", 10] }] } }
    attributes = { kind = ["invoice"] }
"#;

fn start(mismatch: &str) -> App {
    App::start(&with_probe(
        "filters",
        &worker("", &format!("{mismatch}\n{FILTER}")),
    ))
}

fn send_all(app: &App) {
    let send = |body: &str, kind: &str| {
        let attribute = json!({"kind": {"DataType": "String", "StringValue": kind}});
        let message =
            json!({"QueueName": "jobs", "MessageBody": body, "MessageAttributes": attribute});
        app.sqs("SendMessage", message);
    };
    send("handle me", "invoice");
    send("{\"order\":{\"size\":11}}", "invoice");
    send("{\"order\":{\"size\":12}}", "offer");
    send("{\"order\":{\"size\":9}}", "invoice");
    send("leave", "invoice");
    wait_for("the messages to be settled", || {
        (app.metric("gristmill_messages_settled_total", "worker") >= 5.0).then_some(())
    });
    assert_eq!(
        app.metric("gristmill_messages_filtered_total", "worker") as u64,
        3
    );
    assert_eq!(
        app.metric("gristmill_invocations_total", "worker") as u64,
        2
    );
    let (_, attempts) = get(&app.url("/probe/kv/attempts/handle-me"));
    assert_eq!(attempts.lines().count(), 1, "{attempts}");
}

fn settled(app: &App, settlement: &str) -> u64 {
    app.metric("gristmill_messages_settled_total", settlement) as u64
}

#[test]
fn what_no_filter_matches_is_deleted() {
    for mismatch in ["", "filter_mismatch = \"ack\""] {
        let app = start(mismatch);
        send_all(&app);
        assert_eq!(app.depth("jobs"), (0, 0, 0));
        assert_eq!(app.depth("jobs-dlq"), (0, 0, 0));
        assert_eq!(settled(&app, "\"deleted\""), 5);
    }
}

#[test]
fn what_no_filter_matches_is_kept() {
    let app = start("filter_mismatch = \"keep\"");
    send_all(&app);
    assert_eq!(app.depth("jobs"), (0, 3, 0));
    assert_eq!(settled(&app, "\"left\""), 3);
}

#[test]
fn what_no_filter_matches_is_a_dead_letter() {
    let app = start("filter_mismatch = \"dead-letter\"");
    send_all(&app);
    assert_eq!(app.depth("jobs"), (0, 0, 0));
    assert_eq!(settled(&app, "\"dead_lettered\""), 3);
    let receive = json!({
        "QueueName": "jobs-dlq",
        "MaxNumberOfMessages": 10,
        "MessageAttributeNames": ["All"],
    });
    let answer = app.sqs("ReceiveMessage", receive);
    for letter in answer["Messages"].as_array().unwrap() {
        let reason = letter["MessageAttributes"]["gristmill.reason"]["StringValue"].as_str();
        let reason: Value = serde_json::from_str(reason.unwrap()).unwrap();
        assert_eq!(reason["component"], "worker");
        assert_eq!(reason["error"], "no filter matches");
    }
}

#[test]
fn a_filter_that_says_nothing_is_refused_at_start() {
    for (options, expected) in [
        (
            "filter = { body = { a = [{ prefx = \"x\" }] } }",
            "`[application.trigger.sqs.worker]`: filter: `body.a.prefx`: there is no test `prefx`",
        ),
        (
            "filter_mismatch = \"keep\"",
            "`[application.trigger.sqs.worker]`: filter_mismatch without `filter` means nothing",
        ),
        (
            "filter = { body = [\"x\"] }\nfilter_mismatch = \"drop\"",
            "unknown variant `drop`, expected one of `ack`, `keep`, `dead-letter`",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let manifest = with_probe("filters", &worker("", options));
        std::fs::write(dir.path().join("spin.toml"), manifest).unwrap();
        let output = output(gristmill(dir.path()).arg("check"));
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(expected), "{stderr}");
    }
}
