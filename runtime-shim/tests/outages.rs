//! Servers that are killed and restarted, or frozen, under load: nothing is
//! lost, nothing is counted twice, receive counts are not burnt, and the host
//! recovers by itself. Each test prints its figures.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use support::servers::{DynamoLocal, Kind, QueueServer, Redis, Server};
use support::tables::create_table;
use support::{App, agent, get, wait_for, with_probe, worker};

/// A frozen server is noticed when a call and a probe have gone unanswered.
const NOTICED_FROZEN: Duration = Duration::from_secs(9);
/// A dead one refuses connections.
const NOTICED_DEAD: Duration = Duration::from_secs(2);
/// From the server's return to `/readyz`.
const RECOVERED: Duration = Duration::from_secs(6);
/// Messages sent while the server is away.
const MEANWHILE: usize = 300;

fn manifest() -> String {
    with_probe("outages", &worker("", "max_concurrency = 16"))
}

fn start(store: &str, env: &[(&str, &str)]) -> App {
    let config = format!("[key_value_store.results]\n{store}\n");
    App::start_in(
        &[("runtime-config.toml", &config)],
        &manifest(),
        &["--runtime-config-file", "runtime-config.toml"],
        env,
    )
}

fn on_redis() -> Option<(Redis, App)> {
    let redis = Redis::start("pass")?;
    let app = start(&format!("type = \"redis\"\nurl = \"{}\"", redis.url()), &[]);
    Some((redis, app))
}

fn on_dynamodb() -> Option<(DynamoLocal, App)> {
    let dynamodb = DynamoLocal::start()?;
    let endpoint = dynamodb.endpoint();
    create_table(&endpoint, "results");
    let store = "type = \"aws_dynamo\"\nregion = \"eu-central-1\"\ntable = \"results\"\n\
                 access_key = \"local\"\nsecret_key = \"local\"";
    let app = start(store, &[("AWS_ENDPOINT_URL_DYNAMODB", &endpoint)]);
    Some((dynamodb, app))
}

/// How a server goes away.
#[derive(Clone, Copy, Debug)]
enum Outage {
    Killed,
    Frozen,
}

impl Outage {
    fn begin<K: Kind>(self, server: &Server<K>) {
        match self {
            Self::Killed => server.kill(),
            Self::Frozen => server.freeze(),
        }
    }

    fn end<K: Kind>(self, server: &Server<K>) {
        match self {
            Self::Killed => server.restart(),
            Self::Frozen => server.thaw(),
        }
    }

    fn noticed_within(self) -> Duration {
        match self {
            Self::Killed => NOTICED_DEAD,
            Self::Frozen => NOTICED_FROZEN,
        }
    }
}

/// Takes the server away and brings it back. In between, until `meanwhile` is
/// over, `/readyz` names it. Returns how long it took to be noticed, and to
/// recover.
fn through<K: Kind>(
    outage: Outage,
    server: &Server<K>,
    app: &App,
    name: &str,
    meanwhile: impl FnOnce(),
) -> (Duration, Duration) {
    outage.begin(server);
    let gone = Instant::now();
    wait_for("the outage to be noticed", || {
        let (status, obstacles) = get(&app.admin("/readyz"));
        (status == 503 && obstacles.contains(name)).then_some(())
    });
    let noticed = gone.elapsed();
    meanwhile();
    outage.end(server);
    let back = Instant::now();
    wait_for("the recovery", || {
        (get(&app.admin("/readyz")).0 == 200).then_some(())
    });
    let recovered = back.elapsed();
    assert!(noticed < outage.noticed_within(), "{outage:?}: {noticed:?}");
    assert!(recovered < RECOVERED, "{outage:?}: {recovered:?}");
    (noticed, recovered)
}

/// A line of the test's output, also when it passes.
fn report(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "    {line}");
}

fn messages_survive<K: Kind>(outage: Outage, server: &Server<K>, app: &App, name: &str) {
    let sent = AtomicUsize::new(0);
    let enough = AtomicBool::new(false);
    let settled = |how: &str| app.metric("gristmill_messages_settled_total", how);
    let received = || app.metric("gristmill_messages_received_total", "worker");
    let (received_at_start, settled_at_start) = (received(), settled("deleted"));
    let (noticed, recovered, received_while_down, ids) = thread::scope(|scope| {
        let _end = End(&enough);
        let sender = scope.spawn(|| send_until(&enough, &sent, app));
        wait_for("a flow of messages", || {
            (settled("deleted") >= settled_at_start + 200.0).then_some(())
        });
        let mut received_while_down = 0.0;
        let (noticed, recovered) = through(outage, server, app, name, || {
            wait_for("receiving to pause", || {
                (app.metric("gristmill_receiving_paused", "worker") > 0.0).then_some(())
            });
            let (before, goal) = (received(), sent.load(Ordering::Relaxed) + MEANWHILE);
            // What fails, fails at once.
            let asked = Instant::now();
            let (status, error) = get(&app.url("/probe/count/results/n"));
            assert_eq!(status, 503);
            assert!(error.contains("does not answer"), "{error}");
            assert!(
                asked.elapsed() < Duration::from_millis(500),
                "{:?}",
                asked.elapsed()
            );
            wait_for("messages that queue up", || {
                (sent.load(Ordering::Relaxed) >= goal).then_some(())
            });
            received_while_down = received() - before;
        });
        enough.store(true, Ordering::Relaxed);
        (
            noticed,
            recovered,
            received_while_down,
            sender.join().unwrap(),
        )
    });
    wait_for("the queue to be empty", || {
        (app.depth("jobs") == (0, 0, 0)).then_some(())
    });

    assert_eq!(app.depth("jobs-dlq"), (0, 0, 0), "no receive count ran out");
    assert_eq!(lost(app, &ids), 0, "of {}", ids.len());
    // Receive calls under way when the pause began bring some; no new ones start.
    let at_once = 16.0;
    assert!(received_while_down <= at_once, "{received_while_down}");
    let again = received() - received_at_start - ids.len() as f64;
    // Those that were under way, and those that began before it was noticed.
    assert!(
        again <= 4.0 * at_once,
        "{again} messages were received again"
    );
    report(format_args!(
        "{name} {outage:?}: noticed after {noticed:.2?}, recovered after {recovered:.2?}; \
         {} messages, 0 lost, 0 dead-lettered, {again} received again, \
         {received_while_down} received during the outage",
        ids.len()
    ));
}

/// Ends the load also when the test fails, which else would wait for it.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Sends batches until it is enough; the ids of all that was acknowledged.
fn send_until(enough: &AtomicBool, sent: &AtomicUsize, app: &App) -> Vec<String> {
    let mut ids = Vec::new();
    while !enough.load(Ordering::Relaxed) {
        let entries: Vec<_> = (0..10)
            .map(|i| json!({"Id": i.to_string(), "MessageBody": format!("ok {}", ids.len() + i)}))
            .collect();
        let answer = app.sqs(
            "SendMessageBatch",
            json!({"QueueName": "jobs", "Entries": entries}),
        );
        for entry in answer["Successful"].as_array().unwrap() {
            ids.push(entry["MessageId"].as_str().unwrap().to_owned());
        }
        sent.store(ids.len(), Ordering::Relaxed);
        // A steady flow rather than a flood: the outage is to meet both.
        thread::sleep(Duration::from_millis(20));
    }
    ids
}

fn counts_survive<K: Kind>(outage: Outage, server: &Server<K>, app: &App, name: &str) {
    let enough = AtomicBool::new(false);
    let answered = AtomicUsize::new(0);
    let url = app.url(&format!("/probe/count/results/{outage:?}"));
    let (noticed, recovered, tries) = thread::scope(|scope| {
        let _end = End(&enough);
        let clients: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| count_until(&enough, &answered, &url)))
            .collect();
        let more = |than: usize| {
            wait_for("counts", || {
                (answered.load(Ordering::Relaxed) > than).then_some(())
            });
        };
        more(100);
        let (noticed, recovered) = through(outage, server, app, name, || {});
        more(answered.load(Ordering::Relaxed) + 100);
        enough.store(true, Ordering::Relaxed);
        let tries: Vec<_> = clients.into_iter().map(|c| c.join().unwrap()).collect();
        (noticed, recovered, tries)
    });
    let counts: Vec<u64> = tries
        .iter()
        .flat_map(|(counts, _)| counts.clone())
        .collect();
    let unknown: u64 = tries.iter().map(|(_, unknown)| unknown).sum();
    let distinct: BTreeSet<u64> = counts.iter().copied().collect();
    assert_eq!(distinct.len(), counts.len(), "no count was given out twice");
    let (_, last) = get(&url);
    let counted = last.parse::<u64>().unwrap() - 1;
    let acknowledged = counts.len() as u64;
    assert!(
        counted >= acknowledged,
        "{counted} of {acknowledged} are left"
    );
    assert!(
        counted <= acknowledged + unknown,
        "{counted} counted, {acknowledged} acknowledged, {unknown} failed"
    );
    report(format_args!(
        "{name} {outage:?}: noticed after {noticed:.2?}, recovered after {recovered:.2?}; \
         {acknowledged} increments acknowledged, {unknown} failed on their way, {counted} counted"
    ));
}

/// Counts until it is enough. Which counts were answered, and how many calls
/// failed after they may have reached the server.
fn count_until(enough: &AtomicBool, answered: &AtomicUsize, url: &str) -> (Vec<u64>, u64) {
    let (mut counts, mut unknown) = (Vec::new(), 0);
    let agent = agent();
    while !enough.load(Ordering::Relaxed) {
        let response = agent.get(url).call().unwrap();
        let status = response.status();
        let body = response.into_body().read_to_string().unwrap();
        if status == 200 {
            counts.push(body.parse().unwrap());
            answered.fetch_add(1, Ordering::Relaxed);
        } else if body.contains("does not answer") {
            // Known to be down: it was not even asked.
            thread::sleep(Duration::from_millis(20));
        } else {
            unknown += 1;
        }
    }
    (counts, unknown)
}

/// Messages in an endpoint of its own, which goes away while they flow.
fn the_queue_survives(outage: Outage) {
    let queue = QueueServer::start("jobs");
    let app = App::start_with(
        &manifest().replace("http://127.0.0.1:9324", &queue.endpoint()),
        &[],
        &[
            ("AWS_ACCESS_KEY_ID", "local"),
            ("AWS_SECRET_ACCESS_KEY", "local"),
        ],
    );
    let enough = AtomicBool::new(false);
    let sent = AtomicUsize::new(0);
    let began = Instant::now();
    let ids = thread::scope(|scope| {
        let _end = End(&enough);
        let sender = scope.spawn(|| send_while_it_answers(&enough, &sent, &queue));
        let more = || {
            let goal = sent.load(Ordering::Relaxed) + 100;
            wait_for("acknowledged sends", || {
                (sent.load(Ordering::Relaxed) >= goal).then_some(())
            });
        };
        more();
        outage.begin(&queue);
        match outage {
            Outage::Killed => wait_for("`/readyz` to name the queue", || {
                let obstacles = get(&app.admin("/readyz")).1;
                obstacles.contains("queue `jobs`").then_some(())
            }),
            // Longer than a call waits for its answer, shorter than a lease.
            Outage::Frozen => thread::sleep(Duration::from_secs(6)),
        }
        outage.end(&queue);
        more();
        enough.store(true, Ordering::Relaxed);
        sender.join().unwrap()
    });
    let deleted = || app.metric("gristmill_messages_settled_total", "deleted") as usize;
    wait_for("every message", || (deleted() >= ids.len()).then_some(()));
    assert_eq!(lost(&app, &ids), 0, "of {}", ids.len());
    assert_eq!(get(&app.admin("/readyz")).0, 200);
    let again = app.metric("gristmill_messages_received_total", "worker") as usize - ids.len();
    report(format_args!(
        "queue {outage:?}: {} messages acknowledged, 0 lost, {again} received again, {:.1?} in all",
        ids.len(),
        began.elapsed()
    ));
}

/// Sends one message after the other. Only those that were acknowledged count.
fn send_while_it_answers(
    enough: &AtomicBool,
    sent: &AtomicUsize,
    queue: &QueueServer,
) -> Vec<String> {
    let mut ids = Vec::new();
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(2)))
        .build()
        .into();
    let body = json!({"QueueUrl": queue.queue_url(), "MessageBody": "ok"}).to_string();
    while !enough.load(Ordering::Relaxed) {
        let call = agent
            .post(queue.endpoint())
            .header("content-type", "application/x-amz-json-1.0")
            .header("x-amz-target", "AmazonSQS.SendMessage");
        let answer = call
            .send(&body)
            .and_then(|response| response.into_body().read_to_string());
        if let Ok(answer) = answer {
            let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
            ids.push(answer["MessageId"].as_str().unwrap().to_owned());
            sent.store(ids.len(), Ordering::Relaxed);
        } else {
            // Whoever else runs on this machine needs it, too.
            thread::sleep(Duration::from_millis(20));
        }
    }
    ids
}

/// How many of these messages the worker did not store.
fn lost(app: &App, ids: &[String]) -> usize {
    ids.iter()
        .filter(|id| get(&app.url(&format!("/probe/kv/{id}"))).0 != 200)
        .count()
}

#[test]
fn a_queue_server_is_killed_and_restarted() {
    the_queue_survives(Outage::Killed);
}

#[test]
fn a_queue_server_freezes_and_thaws() {
    the_queue_survives(Outage::Frozen);
}

#[test]
fn redis_goes_away_and_comes_back() {
    let Some((redis, app)) = on_redis() else {
        return;
    };
    for outage in [Outage::Killed, Outage::Frozen] {
        messages_survive(outage, &redis, &app, "redis 127.0.0.1");
    }
}

#[test]
fn redis_goes_away_and_counts_stay_right() {
    let Some((redis, app)) = on_redis() else {
        return;
    };
    for outage in [Outage::Killed, Outage::Frozen] {
        counts_survive(outage, &redis, &app, "redis 127.0.0.1");
    }
}

#[test]
fn dynamodb_goes_away_and_comes_back() {
    let Some((dynamodb, app)) = on_dynamodb() else {
        return;
    };
    for outage in [Outage::Killed, Outage::Frozen] {
        messages_survive(outage, &dynamodb, &app, "dynamodb table results");
    }
}

#[test]
fn dynamodb_goes_away_and_counts_stay_right() {
    let Some((dynamodb, app)) = on_dynamodb() else {
        return;
    };
    for outage in [Outage::Killed, Outage::Frozen] {
        counts_survive(outage, &dynamodb, &app, "dynamodb table results");
    }
}
