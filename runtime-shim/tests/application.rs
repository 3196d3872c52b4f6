//! The application of the repository, end to end: curl to queue to component to
//! store, and what must survive.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::servers::{DynamoLocal, Ministack, Redis};
use support::tables::{self, create_table};
use support::{App, agent, get, own_manifest, post, sqs_call, wait_for};

#[test]
fn a_posted_message_is_stored_within_a_second() {
    let app = App::start_own();
    let posted = r#"{"hello": "world", "n": 1.50, "big": 12345678901234567890}"#;
    let (status, body) = post(&app.url("/process_message"), posted.as_bytes());
    assert_eq!(status, 202, "{body}");
    let accepted: Value = serde_json::from_str(&body).unwrap();
    let id = accepted["message_id"].as_str().unwrap();
    let status_url = accepted["status_url"].as_str().unwrap();

    let since = Instant::now();
    let document = wait_for("the stored document", || {
        let (status, body) = get(&app.url(status_url));
        (status == 200).then_some(body)
    });
    assert!(
        since.elapsed() < Duration::from_secs(1),
        "{:?}",
        since.elapsed()
    );
    // The JSON value is the one that was posted, to the letter.
    assert!(document.contains(posted), "{document}");
    let document: Value = serde_json::from_str(&document).unwrap();
    assert_eq!(document["message_id"], id);
    let digest = "sha256";
    assert_eq!(document[digest].as_str().unwrap().len(), 64);
    for time in ["received_at", "processed_at"] {
        assert!(
            document[time].as_str().unwrap().ends_with('Z'),
            "{document}"
        );
    }
    wait_for("the queue to be empty", || {
        (app.depth("messages") == (0, 0, 0)).then_some(())
    });
}

/// Messages in DynamoDB, counters in Redis, queues on an independent SQS
/// endpoint: the same manifest, and not a line of code, by configuration alone.
#[test]
fn the_application_runs_on_real_backends_by_configuration_alone() {
    let (Some(dynamodb), Some(redis), Some(sqs)) = (
        DynamoLocal::shared(),
        Redis::start("pass"),
        Ministack::start(),
    ) else {
        return;
    };
    let (dynamodb, sqs) = (dynamodb.endpoint(), sqs.endpoint());
    create_table(&dynamodb, "messages");
    let queue = |name: &str, attributes: Value| {
        let body = json!({"QueueName": name, "Attributes": attributes});
        let answer = sqs_call(&sqs, "CreateQueue", &body);
        answer["QueueUrl"].as_str().unwrap().to_owned()
    };
    let dead = queue("messages-dlq", json!({}));
    let policy = r#"{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:000000000000:messages-dlq","maxReceiveCount":"5"}"#;
    let url = queue("messages", json!({"RedrivePolicy": policy}));
    let images_url = queue("images", json!({}));
    let config = format!(
        "[key_value_store.messages]\ntype = \"aws_dynamo\"\nregion = \"eu-central-1\"\n\
         table = \"messages\"\n\
         [key_value_store.counters]\ntype = \"redis\"\nurl = \"{redis}\"\n\
         [key_value_store.sessions]\ntype = \"redis\"\nurl = \"{redis}\"\n\
         [key_value_store.images]\ntype = \"redis\"\nurl = \"{redis}\"\n\
         [sqlite_database.accounts]\npath = \"accounts.db\"\ntype = \"spin\"\n\
         [sqlite_database.catalog]\npath = \"catalog.db\"\ntype = \"spin\"\n",
        redis = redis.url()
    );
    let app = App::start_in(
        &[("runtime-config.toml", &config)],
        &own_manifest(),
        &["--runtime-config-file", "runtime-config.toml"],
        &[
            ("AWS_ENDPOINT_URL_DYNAMODB", &dynamodb),
            ("AWS_ACCESS_KEY_ID", "local"),
            ("AWS_SECRET_ACCESS_KEY", "local"),
            ("SPIN_VARIABLE_SQS_ORIGIN", &sqs),
            ("SPIN_VARIABLE_MESSAGES_QUEUE_URL", &url),
            ("SPIN_VARIABLE_IMAGES_QUEUE_URL", &images_url),
        ],
    );
    let (status, body) = post(&app.url("/process_message"), br#"{"real": true}"#);
    assert_eq!(status, 202, "{body}");
    let accepted: Value = serde_json::from_str(&body).unwrap();
    let status_url = accepted["status_url"].as_str().unwrap();
    let document = wait_for("the stored document", || {
        let (status, body) = get(&app.url(status_url));
        (status == 200).then_some(body)
    });
    assert!(document.contains(r#"{"real": true}"#), "{document}");
    // It is in the table, and nowhere on this disk.
    let key = json!({"PK": {"S": accepted["message_id"]}});
    let item = tables::call(
        &dynamodb,
        "GetItem",
        &json!({"TableName": "messages", "Key": key}),
    );
    assert!(item["Item"]["VAL"]["B"].is_string(), "{item}");
    assert!(!app.dir().join(".spin/queue").exists());

    for count in 1..=3 {
        let (_, body) = get(&app.url("/counter/real"));
        assert_eq!(
            serde_json::from_str::<Value>(&body).unwrap()["count"],
            count
        );
    }
    assert_eq!(redis.run(&["GET", "real"]), "$1\r\n3\r\n");
    for ready in ["process-message", "counter", "auth", "images", "portal"] {
        let (status, body) = get(&app.url(&format!("/readyz/{ready}")));
        assert_eq!(status, 200, "{body}");
    }

    // What can never be processed goes to the endpoint's own dead-letter queue.
    sqs_call(
        &sqs,
        "SendMessage",
        &json!({"QueueUrl": url, "MessageBody": "not JSON"}),
    );
    let ask = json!({
        "QueueUrl": dead,
        "WaitTimeSeconds": 1,
        "MessageAttributeNames": ["All"],
    });
    let letter = wait_for("the dead letter", || {
        let answer = sqs_call(&sqs, "ReceiveMessage", &ask);
        Some(answer["Messages"].as_array()?.first()?.clone())
    });
    assert_eq!(letter["Body"], "not JSON");
    let reason = letter["MessageAttributes"]["gristmill.reason"]["StringValue"].as_str();
    assert!(
        reason.unwrap().contains("process-message-worker"),
        "{letter}"
    );
}

#[test]
fn concurrent_counts_are_distinct_and_survive_a_restart() {
    let mut app = App::start_own();
    let counts = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..100 {
            scope.spawn(|| {
                let (status, body) = get(&app.url("/counter/x"));
                assert_eq!(status, 200, "{body}");
                let answer: Value = serde_json::from_str(&body).unwrap();
                assert_eq!(answer["id"], "x");
                counts
                    .lock()
                    .unwrap()
                    .push(answer["count"].as_u64().unwrap());
            });
        }
    });
    let mut counts = counts.into_inner().unwrap();
    counts.sort_unstable();
    assert_eq!(counts, (1..=100).collect::<Vec<u64>>());

    app.restart();
    let (_, body) = get(&app.url("/counter/x/value"));
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["count"], 100);
}

/// `kill -9` in the middle of 2,000 messages, twice; then every message whose
/// send was acknowledged is there, and the queue is empty.
#[test]
fn no_acknowledged_message_is_lost_by_kill_9() {
    const MESSAGES: usize = 2000;
    let mut app = App::start_own();
    let acknowledged = Arc::new(Mutex::new(BTreeSet::new()));
    let next = Arc::new(AtomicUsize::new(0));
    for kill_at in [MESSAGES / 3, 2 * MESSAGES / 3, MESSAGES] {
        let url = app.url("/process_message");
        std::thread::scope(|scope| {
            let mut senders = Vec::new();
            for _ in 0..16 {
                let (acknowledged, next, url) = (&acknowledged, &next, &url);
                senders.push(scope.spawn(move || {
                    let agent = agent();
                    while next.load(Ordering::SeqCst) < MESSAGES {
                        let n = next.fetch_add(1, Ordering::SeqCst);
                        let body = json!({ "n": n }).to_string();
                        // After the kill: refused or cut off, and not acknowledged.
                        let Ok(response) = agent.post(url).send(body) else {
                            return;
                        };
                        if response.status() != 202 {
                            return;
                        }
                        let Ok(body) = response.into_body().read_to_string() else {
                            return;
                        };
                        let answer: Value = serde_json::from_str(&body).unwrap();
                        let id = answer["message_id"].as_str().unwrap().to_owned();
                        acknowledged.lock().unwrap().insert((id, n));
                    }
                }));
            }
            wait_for("the kill's moment", || {
                (acknowledged.lock().unwrap().len() >= kill_at.saturating_sub(40)).then_some(())
            });
            app.kill();
            for sender in senders {
                sender.join().unwrap();
            }
        });
        app.restart();
    }
    let acknowledged = acknowledged.lock().unwrap();
    assert!(
        acknowledged.len() > MESSAGES * 9 / 10,
        "{} acknowledged",
        acknowledged.len()
    );
    // What was in flight at a kill comes back when its lease ends, after 30 s.
    for (id, n) in &*acknowledged {
        let document = wait_for("an acknowledged message to be stored", || {
            let (status, body) = get(&app.url(&format!("/process_message/{id}")));
            (status == 200).then_some(body)
        });
        let document: Value = serde_json::from_str(&document).unwrap();
        assert_eq!(document["body"]["n"], *n as u64);
    }
    wait_for("the queue to be empty", || {
        (app.depth("messages") == (0, 0, 0)).then_some(())
    });
    assert_eq!(app.depth("messages-dlq"), (0, 0, 0));
}

#[test]
fn bad_requests_get_a_clear_answer() {
    let app = App::start_own();
    let problem = |(status, body): (u16, String)| {
        let problem: Value = serde_json::from_str(&body).unwrap_or_else(|_| panic!("{body}"));
        assert_eq!(problem["status"], status);
        (
            status,
            problem["detail"].as_str().unwrap_or_default().to_owned(),
        )
    };
    let url = app.url("/process_message");
    let (status, detail) = problem(post(&url, b"{\"a\": yes}"));
    assert_eq!(status, 400);
    assert!(detail.contains("line 1 column"), "{detail}");
    assert_eq!(problem(post(&url, b"")).0, 400);
    assert_eq!(problem(post(&url, b"\xff\xfe")).0, 400);

    let limit = 256 * 1024;
    let json_of = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2)).into_bytes();
    assert_eq!(post(&url, &json_of(limit)).0, 202);
    let (status, detail) = problem(post(&url, &json_of(limit + 1)));
    assert_eq!(status, 413);
    assert!(
        detail.contains("262144") || detail.contains("256 KiB"),
        "{detail}"
    );

    let (status, detail) = problem(get(&app.url("/nowhere")));
    assert_eq!(
        (status, detail.as_str()),
        (404, "no route leads to `/nowhere`")
    );
    assert_eq!(problem(get(&app.url("/process_message/no-such-id"))).0, 404);
    let response = agent().delete(&url).call().unwrap();
    assert_eq!(response.status(), 405);
    assert!(response.headers().contains_key("allow"));
    assert_eq!(problem(get(&app.url("/counter/a%20b"))).0, 400);
}

/// A message that is not JSON can't get better: it goes to the dead-letter
/// queue at once, with the reason.
#[test]
fn a_message_that_is_not_json_is_dead_lettered_with_its_reason() {
    let app = App::start_own();
    app.send("messages", "not json");
    let letter = wait_for("the dead letter", || {
        let answer = app.sqs(
            "ReceiveMessage",
            json!({"QueueName": "messages-dlq", "MessageAttributeNames": ["All"]}),
        );
        answer["Messages"].get(0).cloned()
    });
    assert_eq!(letter["Body"], "not json");
    let reason = &letter["MessageAttributes"]["gristmill.reason"]["StringValue"];
    let reason: Value = serde_json::from_str(reason.as_str().unwrap()).unwrap();
    assert_eq!(reason["component"], "process-message-worker");
    assert_eq!(reason["receive_count"], 1);
    assert!(
        reason["error"].as_str().unwrap().contains("JSON"),
        "{reason}"
    );
    wait_for("the queue to be empty", || {
        (app.depth("messages") == (0, 0, 0)).then_some(())
    });
}

#[test]
fn health_readiness_and_metrics_answer() {
    let app = App::start_own();
    for path in [
        "/healthz/process-message",
        "/readyz/process-message",
        "/healthz/counter",
        "/readyz/counter",
        "/.well-known/spin/health",
    ] {
        let (status, body) = get(&app.url(path));
        assert_eq!(status, 200, "{path}: {body}");
    }
    assert_eq!(get(&app.admin("/livez")), (200, "ok\n".to_owned()));
    assert_eq!(get(&app.admin("/readyz")), (200, "ready\n".to_owned()));
    assert_eq!(get(&app.admin("/")).0, 404);

    post(&app.url("/process_message"), b"{}");
    let worker = "component=\"process-message-worker\"";
    wait_for("the message to be counted", || {
        (app.metric("gristmill_messages_settled_total", worker) >= 1.0).then_some(())
    });
    assert!(app.metric("gristmill_messages_received_total", worker) >= 1.0);
    assert!(app.metric("gristmill_invocations_total", "process-message-worker") >= 1.0);
    assert!(app.metric("gristmill_invocation_duration_seconds_count", worker) >= 1.0);
}
