//! The consumer at endpoints that have nothing in common: the embedded queue, ministack and
//! `LocalStack`. One scenario, which must end alike at each.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use serde_json::{Value, json};
use support::servers::{LocalStack, Ministack};
use support::{App, get, sqs_call, wait_for, wasm, with_probe};

/// Stands for the embedded queue in manifests.
const EMBEDDED: &str = "http://127.0.0.1:9324";
const CREDENTIALS: [(&str, &str); 2] = [
    ("AWS_ACCESS_KEY_ID", "test"),
    ("AWS_SECRET_ACCESS_KEY", "test"),
];

/// Two consumers with the same code, on `jobs` and on `ordered.fifo`.
fn manifest(origin: &str) -> String {
    let worker = wasm("guest_worker");
    let consumer = |id: &str, queue: &str| {
        format!(
            r#"
            [[trigger.sqs]]
            component = "{id}"
            queue_url = "{origin}/000000000000/{queue}"
            [application.trigger.sqs.{id}]
            backoff_base_secs = 1
            backoff_cap_secs = 1
            [component.{id}]
            source = {worker}
            key_value_stores = ["results"]
            "#
        )
    };
    let both = consumer("worker", "jobs") + &consumer("orderly", "ordered.fifo");
    with_probe("endpoints", &both)
}

struct Run {
    app: App,
    /// Whether a hidden message keeps back those behind it in its group, whatever becomes of their
    /// visibility. `LocalStack` 4.12 gives these out when their visibility is changed
    /// (`local-queue/tests/boto3/agreement.py`).
    blocks_groups: bool,
    /// `None` is the embedded queue, which ends with the application.
    origin: Option<String>,
}

impl Run {
    fn at(origin: Option<String>) -> Self {
        if let Some(origin) = &origin {
            create_queues(origin);
        }
        let manifest = manifest(origin.as_deref().unwrap_or(EMBEDDED));
        let app = App::start_with(&manifest, &[], &CREDENTIALS);
        Self {
            app,
            blocks_groups: true,
            origin,
        }
    }

    fn call(&self, queue: &str, action: &str, mut body: Value) -> Value {
        let origin = self.origin.as_deref();
        let origin = origin.unwrap_or_else(|| self.app.queue_origin());
        body["QueueUrl"] = format!("{origin}/000000000000/{queue}").into();
        sqs_call(origin, action, &body)
    }

    fn send(&self, body: &str) {
        self.call("jobs", "SendMessage", json!({ "MessageBody": body }));
    }

    fn send_in_group(&self, group: &str, body: &str) {
        let id = body.replace(' ', "-");
        let message = json!({
            "MessageBody": body, "MessageGroupId": group, "MessageDeduplicationId": id,
        });
        self.call("ordered.fifo", "SendMessage", message);
    }

    /// Visible and in flight.
    fn depth(&self, queue: &str) -> [u64; 2] {
        let all = json!({ "AttributeNames": ["All"] });
        let got = self.call(queue, "GetQueueAttributes", all);
        ["", "NotVisible"].map(|suffix| {
            let number = &got["Attributes"][format!("ApproximateNumberOfMessages{suffix}")];
            number.as_str().unwrap().parse().unwrap()
        })
    }

    fn wait_for_depth(&self, queue: &str, depth: [u64; 2]) {
        wait_for(&format!("{depth:?} in {queue}"), || {
            (self.depth(queue) == depth).then_some(())
        });
    }

    /// When a message was handled, each time; milliseconds.
    fn attempts(&self, body: &str) -> Vec<u64> {
        let key = body.replace(' ', "-");
        let (status, times) = get(&self.app.url(&format!("/probe/kv/attempts/{key}")));
        if status != 200 {
            return Vec::new();
        }
        times.lines().map(|time| time.parse().unwrap()).collect()
    }

    fn dead_letter(&self, queue: &str) -> Value {
        let all = json!({ "MessageAttributeNames": ["All"], "WaitTimeSeconds": 1 });
        wait_for("the dead letter", || {
            let got = self.call(queue, "ReceiveMessage", all.clone());
            got["Messages"].get(0).cloned()
        })
    }
}

/// As the embedded queue makes them for triggers.
fn create_queues(origin: &str) {
    for (queue, dead) in [("jobs", "jobs-dlq"), ("ordered.fifo", "ordered-dlq.fifo")] {
        let mut attributes = json!({});
        if queue != "jobs" {
            attributes["FifoQueue"] = "true".into();
        }
        let create = |name: &str, attributes: &Value| {
            let queue = json!({ "QueueName": name, "Attributes": attributes });
            sqs_call(origin, "CreateQueue", &queue);
        };
        create(dead, &attributes);
        let arn = format!("arn:aws:sqs:us-east-1:000000000000:{dead}");
        let policy = json!({ "deadLetterTargetArn": arn, "maxReceiveCount": 5 });
        attributes["RedrivePolicy"] = policy.to_string().into();
        create(queue, &attributes);
    }
}

fn scenario(mut run: Run) {
    // Handled, or dead-lettered at once and with the reason.
    for n in 0..20 {
        run.send(&format!("note {n}"));
    }
    run.send("reject 1");
    run.send("error 1");
    let rejected = run.dead_letter("jobs-dlq");
    assert_eq!(rejected["Body"], "reject 1");
    let reason = &rejected["MessageAttributes"]["gristmill.reason"]["StringValue"];
    let reason: Value = serde_json::from_str(reason.as_str().unwrap()).unwrap();
    assert_eq!(reason["error"], "asked to");
    assert_eq!(reason["receive_count"], 1);
    // Retried as often as the queue's redrive policy says.
    let failed = run.dead_letter("jobs-dlq");
    assert_eq!(failed["Body"], "error 1");
    assert_eq!(run.attempts("error 1").len(), 5);
    let exhausted = run
        .app
        .metric("gristmill_messages_exhausted_total", "worker");
    assert_eq!(exhausted as u64, 1);
    run.wait_for_depth("jobs", [0, 0]);
    for n in 0..20 {
        assert_eq!(run.attempts(&format!("note {n}")).len(), 1, "message {n}");
    }

    // A failed message blocks its group, and no other.
    run.send_in_group("a", "error a");
    // Those behind it are received along with it, which their redrive policy counts, too: they
    // begin later.
    wait_for("the first failure", || {
        (run.attempts("error a").len() == 1).then_some(())
    });
    for n in 0..5 {
        run.send_in_group("a", &format!("note a{n}"));
        run.send_in_group("b", &format!("note b{n}"));
    }
    assert_eq!(run.dead_letter("ordered-dlq.fifo")["Body"], "error a");
    run.wait_for_depth("ordered.fifo", [0, 0]);
    let failures = run.attempts("error a");
    assert_eq!(failures.len(), 5);
    let handled = |group: &str| {
        let messages = (0..5).map(|n| run.attempts(&format!("note {group}{n}")));
        let times: Vec<_> = messages.collect();
        assert!(
            times.iter().all(|times| times.len() == 1),
            "{group}: {times:?}"
        );
        times.concat()
    };
    let (blocked, free) = (handled("a"), handled("b"));
    assert!(free.is_sorted(), "{free:?}");
    if run.blocks_groups {
        assert!(blocked.is_sorted(), "{blocked:?}");
        assert!(failures[4] <= blocked[0], "{failures:?} {blocked:?}");
    }
    assert!(free[4] < failures[4], "{free:?} {failures:?}");

    // A stop finishes and settles what is under way.
    run.send("sleep 1500");
    run.wait_for_depth("jobs", [0, 1]);
    run.app.signal("-TERM");
    let (status, log) = run.app.wait();
    assert!(status.success(), "{log}");
    // The embedded queue is only there while it is served.
    run.app.set_args(&["--trigger", "http"]);
    run.app.restart();
    assert_eq!(run.depth("jobs"), [0, 0]);
}

#[test]
fn embedded() {
    scenario(Run::at(None));
}

#[test]
fn ministack() {
    if let Some(ministack) = Ministack::start() {
        scenario(Run::at(Some(ministack.endpoint())));
    }
}

#[test]
fn localstack() {
    if let Some(localstack) = LocalStack::start() {
        scenario(Run {
            blocks_groups: false,
            ..Run::at(Some(localstack.endpoint()))
        });
    }
}
