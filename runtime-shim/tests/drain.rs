//! Stopping loses nothing, and nothing leaves for where it was not sent.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use std::net::TcpListener;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use support::{App, get, gristmill, wait_for, with_probe, worker};

fn manifest() -> String {
    with_probe("drain", &worker("", "max_concurrency = 16"))
}

struct KillOnDrop(Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Under load, SIGTERM and SIGINT alike: no new receive, what is under way
/// finishes and is acknowledged, requests are answered whole, exit code 0.
#[test]
fn a_stop_signal_finishes_what_was_begun() {
    for signal in ["-TERM", "-INT"] {
        let mut app = App::start(&manifest());
        let jobs: Vec<String> = (0..40).map(|n| format!("sleep {}", 3000 + n)).collect();
        for job in &jobs {
            app.send("jobs", job);
        }
        wait_for("messages in flight", || {
            (app.metric("gristmill_invocations_running", "worker") >= 16.0).then_some(())
        });
        let url = app.url("/probe/sleep/2000");
        let request = std::thread::spawn(move || get(&url));
        wait_for("the request to run", || {
            (app.metric("gristmill_invocations_running", "probe") >= 1.0).then_some(())
        });
        let stopped = Instant::now();
        app.signal(signal);
        assert_eq!(
            request.join().unwrap(),
            (200, "awake".to_owned()),
            "{signal}"
        );
        let (status, log) = app.wait();
        assert!(status.success(), "{signal}: {status}\n{log}");
        assert!(
            stopped.elapsed() < Duration::from_secs(10),
            "{:?}",
            stopped.elapsed()
        );
        assert!(log.contains("all work is finished"), "{log}");

        // Every message was begun once, and none waits for a lease of the
        // stopped process to end: those last 30 s.
        app.restart();
        let restarted = Instant::now();
        wait_for("the rest", || {
            (app.depth("jobs") == (0, 0, 0)).then_some(())
        });
        assert!(
            restarted.elapsed() < Duration::from_secs(20),
            "{:?}",
            restarted.elapsed()
        );
        assert!(app.metric("gristmill_messages_settled_total", "deleted") < 40.0);
        for job in &jobs {
            let key = job.replace(' ', "-");
            let (_, attempts) = get(&app.url(&format!("/probe/kv/attempts/{key}")));
            assert_eq!(attempts.lines().count(), 1, "{signal}: {job}");
        }
    }
}

/// Work that does not end in time is cut off loudly, and comes back.
#[test]
fn the_grace_period_is_the_end() {
    let mut app = App::start_with(&manifest(), &["--grace-period", "2"], &[]);
    app.send("jobs", "sleep 20000");
    wait_for("the message in flight", || {
        (app.metric("gristmill_invocations_running", "worker") >= 1.0).then_some(())
    });
    let stopped = Instant::now();
    app.signal("-TERM");
    let (status, log) = app.wait();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(
        stopped.elapsed() < Duration::from_secs(4),
        "{:?}",
        stopped.elapsed()
    );
    app.restart();
    assert_eq!(app.depth("jobs"), (0, 1, 0));
}

/// With no credentials anywhere, an embedded queue is consumed without asking
/// the credential chain: its last resort, the metadata endpoint, hears nothing.
/// That holds when another process serves the queue, too.
#[test]
fn nobody_is_asked_for_credentials_on_behalf_of_an_embedded_queue() {
    let metadata = TcpListener::bind("127.0.0.1:0").unwrap();
    metadata.set_nonblocking(true).unwrap();
    let endpoint = format!("http://{}", metadata.local_addr().unwrap());
    let home = tempfile::tempdir().unwrap();
    let env = [
        ("AWS_EC2_METADATA_DISABLED", "false"),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", endpoint.as_str()),
        ("HOME", home.path().to_str().unwrap()),
    ];
    let app = App::start_with(&manifest(), &[], &env);
    let id = app.send("jobs", "ok");
    wait_for("the message", || {
        (get(&app.url(&format!("/probe/kv/{id}"))).0 == 200).then_some(())
    });
    assert!(
        metadata.accept().is_err(),
        "the metadata endpoint was asked"
    );

    // The same through the wire: a queue of its own, and a consumer beside it.
    let mut queue = KillOnDrop(
        gristmill(home.path())
            .args(["queue", "--listen", "127.0.0.1:9324", "--create", "jobs"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let stdout = queue.0.stdout.take().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(stdout));
    assert_eq!(
        lines.next().unwrap().unwrap(),
        "Queue http://127.0.0.1:9324"
    );
    assert_eq!(lines.next().unwrap().unwrap(), "Ready");
    let beside = App::start_with(&manifest(), &["--no-local-queue"], &env);
    wait_for("the queue's answer", || {
        (get(&beside.admin("/readyz")).0 == 200).then_some(())
    });
    let body = r#"{"QueueUrl":"http://127.0.0.1:9324/000000000000/jobs","MessageBody":"ok"}"#;
    let sent = support::agent()
        .post("http://127.0.0.1:9324")
        .header("content-type", "application/x-amz-json-1.0")
        .header("x-amz-target", "AmazonSQS.SendMessage")
        .send(body)
        .unwrap();
    let sent: serde_json::Value =
        serde_json::from_str(&sent.into_body().read_to_string().unwrap()).unwrap();
    let id = sent["MessageId"].as_str().unwrap();
    wait_for("the message", || {
        (get(&beside.url(&format!("/probe/kv/{id}"))).0 == 200).then_some(())
    });
    assert!(
        metadata.accept().is_err(),
        "the metadata endpoint was asked"
    );
}
