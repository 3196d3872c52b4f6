//! Settling against an endpoint that fails now and then: single entries are done again,
//! receipts that expired are reported, and nothing is lost.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use support::servers::QueueServer;
use support::ways::{CREDENTIALS, Queues, lines, settled, ways};
use support::{App, agent, wait_for};

/// Which entry of a call fails with this code, and whether that is the caller's fault.
type Fault = (&'static str, &'static str, bool);

/// A way to a queue server on which single entries of batch calls fail: the n-th call
/// of an action takes the n-th of its faults.
struct Faulty {
    origin: String,
    /// The entries of each call, by action.
    calls: Arc<Mutex<BTreeMap<String, Vec<usize>>>>,
}

impl Faulty {
    fn new(server: &QueueServer, faults: &'static [Fault]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let calls = Arc::default();
        let (seen, endpoint) = (Arc::clone(&calls), server.endpoint());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (seen, endpoint) = (Arc::clone(&seen), endpoint.clone());
                std::thread::spawn(move || {
                    while let Some((action, body)) = read_request(&stream) {
                        let fault = take(&seen, faults, &action, &body);
                        let (status, text) = forward(&endpoint, &action, body, fault);
                        let head = format!(
                            "HTTP/1.1 {status} Status\r\ncontent-type: application/x-amz-json-1.0\r\n\
                             content-length: {}\r\n\r\n",
                            text.len()
                        );
                        if (&stream).write_all((head + &text).as_bytes()).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { origin, calls }
    }

    fn entries(&self, action: &str) -> Vec<usize> {
        let calls = self.calls.lock().unwrap();
        calls.get(action).cloned().unwrap_or_default()
    }
}

/// Notes the call, and finds its fault.
fn take(
    seen: &Mutex<BTreeMap<String, Vec<usize>>>,
    faults: &'static [Fault],
    action: &str,
    body: &Value,
) -> Option<&'static Fault> {
    let entries = body["Entries"].as_array()?.len();
    let mut seen = seen.lock().unwrap();
    let calls = seen.entry(action.to_owned()).or_default();
    calls.push(entries);
    let of_action = |fault: &&Fault| fault.0 == action;
    faults.iter().filter(of_action).nth(calls.len() - 1)
}

/// Hands the call on, without the entry that fails: the last.
fn forward(endpoint: &str, action: &str, mut body: Value, fault: Option<&Fault>) -> (u16, String) {
    let failed = fault.map(|(_, code, sender)| {
        let entry = body["Entries"].as_array_mut().unwrap().pop().unwrap();
        json!({"Id": entry["Id"], "Code": code, "SenderFault": sender})
    });
    if body["Entries"].as_array().is_some_and(Vec::is_empty) {
        return (
            200,
            json!({"Successful": [], "Failed": [failed]}).to_string(),
        );
    }
    let response = agent()
        .post(endpoint)
        .header("content-type", "application/x-amz-json-1.0")
        .header("x-amz-target", format!("AmazonSQS.{action}"))
        .send(body.to_string())
        .unwrap();
    let status = response.status().as_u16();
    let text = response.into_body().read_to_string().unwrap();
    let Some(failed) = failed else {
        return (status, text);
    };
    let mut answer: Value = serde_json::from_str(&text).unwrap();
    match answer["Failed"].as_array_mut() {
        Some(all) => all.push(failed),
        None => answer["Failed"] = json!([failed]),
    }
    (status, answer.to_string())
}

fn read_request(stream: &TcpStream) -> Option<(String, Value)> {
    let mut reader = BufReader::new(stream);
    let (mut action, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end().split_once(": ") {
            None if line.trim().is_empty() => break,
            Some((name, value)) if name.eq_ignore_ascii_case("x-amz-target") => {
                value.rsplit('.').next()?.clone_into(&mut action);
            }
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.parse().ok()?;
            }
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((action, serde_json::from_slice(&body).ok()?))
}

fn start(server: &QueueServer, faulty: &Faulty, options: &str) -> App {
    let url = server
        .queue_url()
        .replace(&server.endpoint(), &faulty.origin);
    App::start_with(&ways(&url, options), &[], &CREDENTIALS)
}

fn bodies(verb: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{verb} g{n} {n}")).collect()
}

#[test]
fn entries_that_fail_are_done_again_by_themselves() {
    const DELETE: &str = "DeleteMessageBatch";
    let server = QueueServer::start("jobs");
    let faulty = Faulty::new(
        &server,
        &[
            (DELETE, "InternalError", false),
            // The caller's fault as AWS sees it, and yet worth another try.
            (DELETE, "RequestThrottled", true),
            (DELETE, "InternalError", false),
        ],
    );
    let app = start(&server, &faulty, "");
    let queues = Queues::Server(&server);
    let ids = queues.send_all("jobs", &bodies("sleep-300", 10));
    queues.wait_until_empty("jobs");
    wait_for("the account", || {
        (settled(&app, "deleted") == 10).then_some(())
    });
    for id in ids {
        assert_eq!(lines(&app, &id).len(), 1, "{id}");
    }
    assert_eq!(
        app.metric("gristmill_batch_entry_retries_total", "") as usize,
        3
    );
    assert_eq!((settled(&app, "expired"), settled(&app, "failed")), (0, 0));
    // Each message once, and three of them once more.
    assert_eq!(faulty.entries(DELETE).iter().sum::<usize>(), 13);
}

#[test]
fn a_retry_whose_entry_fails_is_done_again() {
    const CHANGE: &str = "ChangeMessageVisibilityBatch";
    let server = QueueServer::start("jobs");
    let faulty = Faulty::new(&server, &[(CHANGE, "InternalError", false)]);
    let app = start(
        &server,
        &faulty,
        "backoff_base_secs = 1\nbackoff_cap_secs = 1",
    );
    let queues = Queues::Server(&server);
    queues.send_all("jobs", &bodies("error-once", 1));
    // Long before the lease of 30 s is over.
    queues.wait_until_empty("jobs");
    assert_eq!((settled(&app, "retried"), settled(&app, "deleted")), (1, 1));
    assert_eq!(faulty.entries(CHANGE), [1, 1]);
}

#[test]
fn a_receipt_that_expired_is_reported_and_its_message_comes_again() {
    let server = QueueServer::start("jobs");
    let queues = Queues::Server(&server);
    let short = json!({"Attributes": {"VisibilityTimeout": "2"}});
    queues.call("jobs", "SetQueueAttributes", short);
    let faulty = Faulty::new(
        &server,
        &[("DeleteMessageBatch", "ReceiptHandleIsInvalid", true)],
    );
    let app = start(&server, &faulty, "");
    let ids = queues.send_all("jobs", &bodies("ok", 1));
    queues.wait_until_empty("jobs");
    wait_for("the account", || {
        (settled(&app, "deleted") == 1).then_some(())
    });
    assert_eq!(settled(&app, "expired"), 1);
    assert!(
        app.log()
            .contains("the receipt expired before it was settled")
    );
    assert_eq!(lines(&app, &ids[0]).len(), 2);
}

/// One that was moved back with the reason of its first death has the second one when
/// it dies again.
#[test]
fn the_reason_of_a_dead_letter_is_the_last_one() {
    let server = QueueServer::start("jobs");
    let faulty = Faulty::new(&server, &[]);
    let app = start(&server, &faulty, "");
    let queues = Queues::Server(&server);
    let text = |value: &str| json!({"DataType": "String", "StringValue": value});
    let mut attributes: BTreeMap<String, Value> =
        (0..9).map(|n| (format!("a{n}"), text("x"))).collect();
    attributes.insert("gristmill.reason".to_owned(), text("the first"));
    let message = json!({"MessageBody": "reject g 0", "MessageAttributes": attributes});
    queues.call("jobs", "SendMessage", message);
    wait_for("the dead letter", || {
        (queues.depth("jobs-dlq").0 == 1).then_some(())
    });
    queues.wait_until_empty("jobs");
    assert_eq!(settled(&app, "dead_lettered"), 1);
    let dead = queues.drain("jobs-dlq");
    let attributes = &dead[0]["MessageAttributes"];
    assert_eq!(attributes.as_object().unwrap().len(), 10);
    let reason = attributes["gristmill.reason"]["StringValue"]
        .as_str()
        .unwrap();
    assert!(reason.contains("asked to"), "{reason}");
}
