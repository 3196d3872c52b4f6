//! `gristmill send`, over the wire: what it reads arrives, once, with its attributes,
//! and the account says what did not.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::queues::{Ended, bodies, depth, drain, producer, run, signal, start};
use support::servers::QueueServer;
use support::{output, wait_for};

#[test]
fn one_text_is_sent_many_times_with_its_attributes() {
    let server = QueueServer::start("jobs");
    let args =
        "send jobs --body hello --count 25 --attribute kind=invoice --attribute size:Number=7";
    let args: Vec<&str> = args.split(' ').collect();
    let stdout = run(&server, &args).done();
    assert!(stdout.starts_with("Sent 25 messages in "), "{stdout}");
    assert!(stdout.ends_with(", 0 failed, 0 retries\n"), "{stdout}");
    let messages = drain(&server, "jobs");
    assert_eq!(bodies(&messages), ["hello"; 25]);
    for message in &messages {
        let attributes = &message["MessageAttributes"];
        assert_eq!(attributes["kind"]["StringValue"], "invoice");
        assert_eq!(attributes["kind"]["DataType"], "String");
        assert_eq!(attributes["size"]["StringValue"], "7");
        assert_eq!(attributes["size"]["DataType"], "Number");
    }
}

#[test]
fn each_line_of_a_file_or_of_stdin_is_a_message() {
    let server = QueueServer::start("jobs");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("lines");
    let lines: Vec<String> = (0..1234).map(|n| format!("{{\"n\": {n:04}}}")).collect();
    std::fs::write(&file, lines.join("\n\n")).unwrap();
    let file = file.to_str().unwrap();
    run(&server, &["send", "jobs", "--file", file]).done();
    assert_eq!(bodies(&drain(&server, "jobs")), lines);

    for args in [&["send", "jobs"][..], &["send", "jobs", "--file", "-"]] {
        let mut child = start(&server, args);
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(b"a\r\nb\n\nc").unwrap();
        drop(stdin);
        let stdout = Ended::from(child.wait_with_output().unwrap()).done();
        assert!(stdout.starts_with("Sent 3 messages"), "{stdout}");
        assert_eq!(bodies(&drain(&server, "jobs")), ["a", "b", "c"]);
    }
}

/// A URL names its own endpoint; a large message fills a batch by itself.
#[test]
fn a_queue_is_named_by_its_url_too_and_batches_hold_a_mebibyte() {
    let server = QueueServer::start("jobs");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("lines");
    let lines: Vec<String> = (0..5).map(|n| n.to_string().repeat(600_000)).collect();
    std::fs::write(&file, lines.join("\n")).unwrap();
    let url = server.queue_url();
    let args = ["send", &url, "--file", "lines"];
    Ended::from(output(&mut producer(dir.path(), &args))).done();
    assert_eq!(bodies(&drain(&server, "jobs")), lines);

    std::fs::write(&file, format!("a\n{}\nb\n", "x".repeat(1_048_577))).unwrap();
    let ended = Ended::from(output(&mut producer(dir.path(), &args)));
    let (stdout, stderr) = ended.failed();
    assert!(stdout.starts_with("Sent 1 messages"), "{stdout}");
    assert!(
        stderr.contains("cannot read messages from `lines`: line 2: longer than the 1048576 bytes"),
        "{stderr}"
    );
    assert_eq!(bodies(&drain(&server, "jobs")), ["a"]);
}

#[test]
fn a_rate_is_kept() {
    let server = QueueServer::start("jobs");
    let began = Instant::now();
    run(
        &server,
        &[
            "send", "jobs", "--body", "x", "--count", "11", "--rate", "20",
        ],
    )
    .done();
    assert!(
        began.elapsed() >= Duration::from_millis(500),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(depth(&server, "jobs"), (11, 0));
}

/// Order within a group, and once however often it is sent.
#[test]
fn to_a_fifo_queue_lines_go_in_order_and_once() {
    let server = QueueServer::start("orders.fifo");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("lines");
    let lines: Vec<String> = (0..95).map(|n| format!("line {n}")).collect();
    std::fs::write(&file, lines.join("\n")).unwrap();
    let file = file.to_str().unwrap();
    let args = [
        "send",
        "orders.fifo",
        "--file",
        file,
        "--group",
        "all",
        "--dedup-id",
        "d-{n}",
    ];
    for _ in 0..2 {
        let stdout = run(&server, &args).done();
        assert!(stdout.starts_with("Sent 95 messages"), "{stdout}");
    }
    // A group for each: none waits for another.
    let args = "send orders.fifo --body x --count 12 --group g{n} --dedup-id x-{n}";
    run(&server, &args.split(' ').collect::<Vec<_>>()).done();

    let messages = drain(&server, "orders.fifo");
    let group = |message: &Value| {
        message["Attributes"]["MessageGroupId"]
            .as_str()
            .map(str::to_owned)
    };
    let body = |message: &Value| message["Body"].as_str().unwrap().to_owned();
    let (all, own): (Vec<&Value>, Vec<&Value>) = messages
        .iter()
        .partition(|message| group(message).as_deref() == Some("all"));
    assert_eq!(all.into_iter().map(body).collect::<Vec<_>>(), lines);
    let groups: BTreeSet<_> = own.iter().map(|message| group(message)).collect();
    assert_eq!((own.len(), groups.len()), (12, 12));
}

#[test]
fn mistakes_are_named_and_have_their_exit_codes() {
    let server = QueueServer::start("jobs");
    let (_, stderr) = run(&server, &["send", "nosuch", "--body", "x"]).failed();
    let expected = format!("cannot use queue `nosuch` at {}: ", server.endpoint());
    assert!(stderr.contains(&expected), "{stderr}");
    let (_, stderr) = run(&server, &["send", "jobs", "--file", "/nosuch/file"]).failed();
    assert!(
        stderr.contains("cannot read messages from `/nosuch/file`"),
        "{stderr}"
    );
    let (_, stderr) = run(&server, &["send", "ftp://host/jobs", "--body", "x"]).failed();
    assert!(stderr.contains("the scheme is `ftp`"), "{stderr}");
    let url = format!("{}/000000000000/orders.fifo", server.endpoint());
    let (_, stderr) = run(&server, &["send", &url, "--body", "x"]).failed();
    assert!(
        stderr.contains("is FIFO: name the message group with `--group`"),
        "{stderr}"
    );
    let (stdout, stderr) = run(&server, &["send", "jobs", "--body", ""]).failed();
    assert!(stdout.starts_with("Sent 0 messages"), "{stdout}");
    assert!(
        stderr.contains("1 messages failed; the first: message 1: the body is empty"),
        "{stderr}"
    );
    for usage in [
        &["send", "jobs", "--body", "x", "--file", "y"][..],
        &["send", "jobs", "--count", "3"],
        &["send", "jobs", "--body", "x", "--attribute", "novalue"],
        &["send", "jobs", "--body", "x", "--delay", "901"],
        &["send", "jobs", "--body", "x", "--rate", "0"],
    ] {
        assert_eq!(run(&server, usage).code, Some(2), "{usage:?}");
    }
    assert_eq!(depth(&server, "jobs"), (0, 0));
}

/// A lone line does not wait for company; what was read before the signal is sent.
#[test]
fn a_signal_finishes_what_was_read() {
    let server = QueueServer::start("jobs");
    let mut child = start(&server, &["send", "jobs"]);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"a\nb\nc\n").unwrap();
    stdin.flush().unwrap();
    wait_for("the messages", || {
        (depth(&server, "jobs") == (3, 0)).then_some(())
    });
    signal(&child, "-INT");
    let (stdout, stderr) = Ended::from(child.wait_with_output().unwrap()).failed();
    drop(stdin);
    assert!(stdout.starts_with("Sent 3 messages"), "{stdout}");
    assert!(
        stderr.contains("stopped by SIGINT before all was done"),
        "{stderr}"
    );
}

/// A queue that fails single entries once, refuses those that say so, and answers
/// the first call with an error.
#[derive(Default)]
struct Moody {
    seen: BTreeSet<String>,
    accepted: Vec<String>,
    calls: u32,
}

impl Moody {
    fn answer(&mut self, request: &Value) -> (u16, Value) {
        self.calls += 1;
        if self.calls <= 2 {
            return (
                503,
                json!({"__type": "ServiceUnavailable", "message": "not yet"}),
            );
        }
        let mut successful = Vec::new();
        let mut failed = Vec::new();
        for entry in request["Entries"].as_array().unwrap() {
            let body = entry["MessageBody"].as_str().unwrap();
            let refused = body.starts_with("bad");
            if refused || (body.ends_with('7') && self.seen.insert(body.to_owned())) {
                let code = if refused {
                    "InvalidMessageContents"
                } else {
                    "InternalError"
                };
                failed.push(json!({"Id": entry["Id"], "SenderFault": refused, "Code": code}));
            } else {
                self.accepted.push(body.to_owned());
                successful
                    .push(json!({"Id": entry["Id"], "MessageId": "1", "MD5OfMessageBody": "2"}));
            }
        }
        (200, json!({"Successful": successful, "Failed": failed}))
    }

    /// Serves until the process ends; returns where.
    fn serve(moody: Arc<Mutex<Self>>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let moody = Arc::clone(&moody);
                std::thread::spawn(move || serve_one(connection.unwrap(), &moody));
            }
        });
        format!("http://{address}/000000000000/moody")
    }
}

fn serve_one(connection: TcpStream, moody: &Mutex<Moody>) {
    let mut reader = BufReader::new(connection);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap() == 0 {
            return;
        }
        let line = line.trim().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let request = serde_json::from_slice(&body).unwrap();
    let (status, answer) = moody.lock().unwrap().answer(&request);
    let answer = answer.to_string();
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/x-amz-json-1.0\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n",
        answer.len()
    );
    let mut connection = reader.into_inner();
    connection.write_all((head + &answer).as_bytes()).unwrap();
}

#[test]
fn single_failed_entries_are_sent_again_and_refused_ones_are_not() {
    let moody = Arc::new(Mutex::new(Moody::default()));
    let url = Moody::serve(Arc::clone(&moody));
    let dir = tempfile::tempdir().unwrap();
    let mut lines: Vec<String> = (100..140).map(|n| n.to_string()).collect();
    std::fs::write(dir.path().join("lines"), lines.join("\n") + "\nbad\n").unwrap();
    let args = ["send", &url, "--file", "lines"];
    let ended = Ended::from(output(&mut producer(dir.path(), &args)));
    let (stdout, stderr) = ended.failed();
    assert!(stdout.starts_with("Sent 40 messages"), "{stdout}");
    assert!(stdout.contains(", 1 failed, "), "{stdout}");
    assert!(!stdout.contains(" 0 retries"), "{stdout}");
    assert!(
        stderr.contains("1 messages failed; the first: InvalidMessageContents"),
        "{stderr}"
    );
    let mut accepted = moody.lock().unwrap().accepted.clone();
    accepted.sort();
    lines.sort();
    assert_eq!(accepted, lines);
}

/// The embedded origin needs no credentials; nobody is there.
#[test]
fn a_queue_that_nobody_serves_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let url = format!("http://127.0.0.1:{port}/000000000000/jobs");
    let args = ["send", &url, "--body", "x", "--count", "100"];
    let (stdout, stderr) = Ended::from(output(&mut producer(Path::new("."), &args))).failed();
    assert!(stdout.starts_with("Sent 0 messages"), "{stdout}");
    assert!(stderr.contains("gave up on queue"), "{stderr}");
}
