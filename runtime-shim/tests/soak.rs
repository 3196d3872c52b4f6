//! A standard and a FIFO queue are drained while components fail, the endpoint has
//! outages, messages come twice, and the shim is killed. In the end, the account of
//! every message must balance; it is printed. `cargo xtask soak` runs it whole.
//!
//! `GRISTMILL_SOAK_MESSAGES` and `GRISTMILL_SOAK_SEED` say how much, and what happens.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "tests")]

mod support;

#[path = "soak/account.rs"]
mod account;
#[path = "soak/chaos.rs"]
mod chaos;
#[path = "soak/plan.rs"]
mod plan;
#[path = "soak/proxy.rs"]
mod proxy;

use std::io::Write;
use std::time::{Duration, Instant};

use account::{Account, Left, Results};
use chaos::Event;
use fastrand::Rng;
use plan::Planned;
use proxy::{Fault, Proxy};
use serde_json::{Value, json};
use support::queues::{call, depth, drain};
use support::servers::QueueServer;
use support::{App, sqs_call, wait_for, wasm};

/// Messages of the short form; a tenth as many go through the FIFO queue.
const SHORT: u64 = 6_000;
const QUEUES: [&str; 2] = ["soak", "soak.fifo"];
const DEAD: [&str; 2] = ["soak-dlq", "soak-dlq.fifo"];
const VISIBILITY_SECS: u64 = 5;
/// A message that is to succeed fails at most twice, and a few receives more are lost
/// to faults, or to a failure before it in its group: it comes nowhere near this.
const MAX_RECEIVES: u64 = 20;
const MAX_CONCURRENCY: [u64; 2] = [64, 16];
/// In how many parts the FIFO queue's messages are sent.
const BURSTS: u64 = 20;
/// With nothing happening at all.
const STALLED: Duration = Duration::from_mins(2);

fn manifest(endpoint: &str) -> String {
    let guest = wasm("guest_soak");
    let consumer = |name: &str, queue: usize| {
        let (url, concurrency) = (QUEUES[queue], MAX_CONCURRENCY[queue]);
        format!(
            r#"
            [[trigger.sqs]]
            component = "{name}"
            queue_url = "{endpoint}/000000000000/{url}"
            system_attributes = ["ApproximateReceiveCount"]
            [application.trigger.sqs.{name}]
            max_concurrency = {concurrency}
            timeout_secs = 2
            backoff_base_secs = 1
            backoff_cap_secs = 1
            dedup_store = "seen"
            [component.{name}]
            source = {guest}
            key_value_stores = ["results", "seen"]
            "#
        )
    };
    format!(
        "spin_manifest_version = 2\n[application]\nname = \"soak\"\n{}{}",
        consumer("parallel", 0),
        consumer("ordered", 1)
    )
}

fn create_queues(server: &QueueServer) {
    for queue in 0..QUEUES.len() {
        for (name, dead) in [(DEAD[queue], None), (QUEUES[queue], Some(DEAD[queue]))] {
            let mut attributes = json!({"VisibilityTimeout": VISIBILITY_SECS.to_string()});
            if name.ends_with(".fifo") {
                attributes["FifoQueue"] = "true".into();
            }
            if let Some(dead) = dead {
                let arn = format!("arn:aws:sqs:us-east-1:000000000000:{dead}");
                let policy = json!({"deadLetterTargetArn": arn, "maxReceiveCount": MAX_RECEIVES});
                attributes["RedrivePolicy"] = policy.to_string().into();
            }
            let create = json!({"QueueName": name, "Attributes": attributes});
            sqs_call(&server.endpoint(), "CreateQueue", &create);
        }
    }
}

/// Sends them in their order; their ids.
fn send(server: &QueueServer, queue: &str, planned: &[Planned]) -> Vec<String> {
    let mut ids = Vec::with_capacity(planned.len());
    for batch in planned.chunks(10) {
        let entry = |(index, planned): (usize, &Planned)| {
            let mut entry = json!({"Id": index.to_string(), "MessageBody": planned.body});
            if let Some(group) = &planned.group {
                entry["MessageGroupId"] = group.as_str().into();
                entry["MessageDeduplicationId"] = format!("{group}-{}", planned.number).into();
            }
            entry
        };
        let entries: Vec<Value> = batch.iter().enumerate().map(entry).collect();
        let answer = call(
            server,
            queue,
            "SendMessageBatch",
            json!({"Entries": entries}),
        );
        let sent = answer["Successful"].as_array().unwrap();
        assert_eq!(sent.len(), batch.len(), "{answer}");
        ids.extend(
            sent.iter()
                .map(|sent| sent["MessageId"].as_str().unwrap().to_owned()),
        );
    }
    ids
}

/// The same, a part each time that as large a part of all messages is done: so that
/// whatever happens happens to these, too.
fn send_in_bursts(
    server: &QueueServer,
    proxy: &Proxy,
    planned: &[Planned],
    deletable: u64,
) -> Vec<String> {
    let bursts = planned.chunks(planned.len().div_ceil(BURSTS as usize));
    let send = |(burst, planned): (usize, &[Planned])| {
        // Behind the events, which need what the other queue has.
        chaos::wait_until_deleted(proxy, deletable * burst as u64 * 8 / (BURSTS * 10));
        send(server, QUEUES[1], planned)
    };
    bursts.enumerate().flat_map(send).collect()
}

/// Until nothing is visible or in flight.
fn wait_until_drained(server: &QueueServer) {
    let mut seen = None;
    let mut since = Instant::now();
    loop {
        let depths = QUEUES.map(|queue| depth(server, queue));
        if depths == [(0, 0); 2] {
            return;
        }
        let now = (depths, DEAD.map(|queue| depth(server, queue)));
        if seen != Some(now) {
            (seen, since) = (Some(now), Instant::now());
        }
        assert!(since.elapsed() < STALLED, "it stands still: {now:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Bodies of the dead letters, and whether they have a reason.
fn dead_letters(server: &QueueServer, queue: &str) -> Vec<(String, bool)> {
    let letter = |message: &Value| {
        let reason = &message["MessageAttributes"]["gristmill.reason"];
        (
            message["Body"].as_str().unwrap().to_owned(),
            reason.is_object(),
        )
    };
    drain(server, queue).iter().map(letter).collect()
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is `{text}`, which is no number")),
    )
}

/// A line of the test's output, also when it passes.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

#[test]
fn nothing_is_lost_and_nothing_done_twice() {
    let messages = number("GRISTMILL_SOAK_MESSAGES").unwrap_or(SHORT);
    let seed = number("GRISTMILL_SOAK_SEED").unwrap_or(1);
    say(&format!("soak of {messages} messages, seed {seed}"));
    let begun = Instant::now();
    let planned = [
        plan::standard(seed, messages),
        plan::fifo(seed, (messages / 10).max(200)),
    ];
    let mut rng = Rng::with_seed(seed ^ 0xC4A0);
    // Faults of single calls are rarer where there are more calls.
    let (one_in, outages) = if messages > 50_000 { (100, 8) } else { (40, 1) };
    let events = chaos::schedule(&mut rng, outages);

    let server = QueueServer::start("unused");
    create_queues(&server);
    let proxy = Proxy::start(&server.endpoint(), seed, one_in);
    let env = [
        ("AWS_ACCESS_KEY_ID", "any"),
        ("AWS_SECRET_ACCESS_KEY", "any"),
        ("GRISTMILL_LOG_FORMAT", "json"),
        ("GRISTMILL_LOG", "info,guest=off"),
    ];
    let mut app = App::start_with(&manifest(&proxy.endpoint()), &[], &env);
    let deletable = planned.iter().flatten();
    let deletable = deletable.filter(|p| p.kind != plan::Kind::Poison).count() as u64;
    let (mut lives, ids) = std::thread::scope(|scope| {
        let (server, proxy, planned) = (&server, &proxy, &planned);
        let standard = scope.spawn(move || send(server, QUEUES[0], &planned[0]));
        let fifo = scope.spawn(move || send_in_bursts(server, proxy, &planned[1], deletable));
        let lives = chaos::run(&events, &mut rng, proxy, &mut app, deletable);
        (lives, [standard.join().unwrap(), fifo.join().unwrap()])
    });
    wait_until_drained(&server);
    wait_for("the last calls to end", || {
        (app.metric("gristmill_invocations_running", "") == 0.0).then_some(())
    });
    lives.push(chaos::end(&mut app));

    let took = begun.elapsed();
    let account = balance(&planned, &ids, &lives, &server, &app, &proxy, &events);
    say(&format!(
        "{account}\n{:.0} s, seed {seed}",
        took.as_secs_f64()
    ));
    assert!(account.balances(), "the account does not balance");
}

fn balance(
    planned: &[Vec<Planned>; 2],
    ids: &[Vec<String>; 2],
    lives: &[chaos::Life],
    server: &QueueServer,
    app: &App,
    proxy: &Proxy,
    events: &[Event],
) -> Account {
    let mut account = Account::default();
    let results = Results::read(app.dir());
    let unit = [1, 10];
    for queue in 0..QUEUES.len() {
        let left = Left {
            planned: &planned[queue],
            ids: &ids[queue],
            dead: dead_letters(server, DEAD[queue]),
            lives,
            queue,
            most_in_flight: MAX_CONCURRENCY[queue] * unit[queue],
        };
        account.heading(QUEUES[queue]);
        account::settle(&mut account, &results, &left);
    }
    account.heading("the consumer");
    let kills = events
        .iter()
        .filter(|e| !matches!(e, Event::Outage(_)))
        .count();
    account.exactly("kill -9", kills as u64, chaos::KILLS as u64);
    account::metrics(&mut account, lives);
    account.heading("faults");
    account.fact("outages of the endpoint", (events.len() - kills) as u64);
    for (fault, name) in Fault::ALL {
        account.at_least(name, proxy.count(fault), 1);
    }
    account
}
