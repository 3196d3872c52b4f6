//! De-duplication on each kind of store: what was done is not done again, what has
//! expired is forgotten by the store itself, and a store that does not answer has
//! nobody handle anything.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::Connection;
use serde_json::json;
use support::servers::{DynamoLocal, Redis};
use support::tables::{self, create_table};
use support::ways::{Queues, embedded, lines, settled, ways};
use support::{App, get, wait_for};

const WINDOW: u64 = 500;

fn manifest() -> String {
    let options = format!(
        "dedup_store = \"results\"\ndedup_attribute = \"order\"\ndedup_window_secs = {WINDOW}\n\
         backoff_base_secs = 1\nbackoff_cap_secs = 1"
    );
    ways(&embedded("jobs"), &options)
}

fn on(store: &str, env: &[(&str, &str)]) -> App {
    let config = format!("[key_value_store.results]\n{store}\n");
    let args = ["--runtime-config-file", "runtime-config.toml"];
    App::start_in(&[("runtime-config.toml", &config)], &manifest(), &args, env)
}

fn on_redis(redis: &Redis) -> App {
    on(&format!("type = \"redis\"\nurl = \"{}\"", redis.url()), &[])
}

fn send(app: &App, body: &str, order: &str) -> String {
    let order = json!({"order": {"DataType": "String", "StringValue": order}});
    let message = json!({"MessageBody": body, "MessageAttributes": order});
    let sent = Queues::Embedded(app).call("jobs", "SendMessage", message);
    sent["MessageId"].as_str().unwrap().to_owned()
}

fn invocations(app: &App) -> usize {
    app.metric("gristmill_invocations_total", "\"ways\"") as usize
}

fn reinvocations(app: &App) -> usize {
    app.metric("gristmill_reinvocations_total", "\"ways\"") as usize
}

/// One after the other, at once, and over the end of a process.
fn nothing_is_done_twice(mut app: App) -> App {
    send(&app, "ok one 0", "a");
    Queues::Embedded(&app).wait_until_empty("jobs");
    send(&app, "ok one 1", "a");
    Queues::Embedded(&app).wait_until_empty("jobs");
    assert_eq!(
        (settled(&app, "deleted"), settled(&app, "duplicate")),
        (1, 1)
    );
    assert_eq!(invocations(&app), 1);
    assert_eq!(lines(&app, "done/one"), ["ok one 0"]);

    let short = json!({"Attributes": {"VisibilityTimeout": "2"}});
    Queues::Embedded(&app).call("jobs", "SetQueueAttributes", short);
    app.restart();
    // The same, twice at once: the second comes again when the first is done.
    send(&app, "sleep-700 two 0", "b");
    wait_for("the first", || {
        (lines(&app, "begun/two").len() == 1).then_some(())
    });
    send(&app, "sleep-700 two 1", "b");
    Queues::Embedded(&app).wait_until_empty("jobs");
    assert_eq!(lines(&app, "done/two"), ["sleep-700 two 0"]);
    assert_eq!(settled(&app, "duplicate"), 1);

    // Errors and traps are no unknown ends.
    send(&app, "error-once three 0", "c");
    send(&app, "trap-once 3 1", "d");
    Queues::Embedded(&app).wait_until_empty("jobs");
    for group in ["three", "3"] {
        assert_eq!(lines(&app, &format!("done/{group}")).len(), 1);
    }
    assert_eq!(reinvocations(&app), 0);

    send(&app, "sleep-1000 four 0", "e");
    wait_for("the call", || {
        (lines(&app, "begun/four").len() == 1).then_some(())
    });
    app.kill();
    app.restart();
    Queues::Embedded(&app).wait_until_empty("jobs");
    assert_eq!(reinvocations(&app), 1);
    assert_eq!(lines(&app, "begun/four").len(), 2);
    assert_eq!(lines(&app, "done/four").len(), 1);
    app
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// Whether that is about the end of the window of what was noted just now.
fn ends_with_the_window(at: u64) -> bool {
    (now() + WINDOW - 60..=now() + WINDOW).contains(&at)
}

#[test]
fn on_sqlite() {
    let app = nothing_is_done_twice(App::start(&manifest()));
    let file = app.dir().join(".spin/sqlite_key_value-results.db");
    let database = Connection::open(file).unwrap();
    let mut ends = database
        .prepare("SELECT at FROM gristmill_expiry WHERE key LIKE 'gristmill-dedup/%'")
        .unwrap();
    let ends = ends.query_map([], |row| row.get::<_, i64>(0)).unwrap();
    let ends: Vec<u64> = ends.map(|at| at.unwrap() as u64).collect();
    assert_eq!(ends.len(), 5, "{ends:?}");
    assert!(ends.into_iter().all(ends_with_the_window));
}

#[test]
fn on_redis_server() {
    let Some(redis) = Redis::start("pass") else {
        return;
    };
    nothing_is_done_twice(on_redis(&redis));
    let keys = redis.run(&["KEYS", "gristmill-dedup/*"]);
    let keys: Vec<&str> = keys
        .lines()
        .filter(|line| line.starts_with("gristmill-dedup/"))
        .collect();
    assert_eq!(keys.len(), 5, "{keys:?}");
    for key in keys {
        let left = redis.run(&["TTL", key]);
        let left: u64 = left.trim().trim_start_matches(':').parse().unwrap();
        assert!(ends_with_the_window(now() + left), "{left}");
    }
}

#[test]
fn on_dynamodb() {
    let Some(dynamodb) = DynamoLocal::start() else {
        return;
    };
    let endpoint = dynamodb.endpoint();
    create_table(&endpoint, "dedup");
    let store = "type = \"aws_dynamo\"\nregion = \"eu-central-1\"\ntable = \"dedup\"\n\
                 access_key = \"local\"\nsecret_key = \"local\"";
    nothing_is_done_twice(on(store, &[("AWS_ENDPOINT_URL_DYNAMODB", &endpoint)]));
    let items = tables::call(&endpoint, "Scan", &json!({"TableName": "dedup"}));
    let items = items["Items"].as_array().unwrap().iter();
    let ends: Vec<u64> = items
        .filter(|item| {
            item["PK"]["S"]
                .as_str()
                .unwrap()
                .starts_with("gristmill-dedup/")
        })
        .map(|item| item["EXP"]["N"].as_str().unwrap().parse().unwrap())
        .collect();
    assert_eq!(ends.len(), 5, "{ends:?}");
    assert!(ends.into_iter().all(ends_with_the_window));
}

/// A store that is there and takes nothing: messages are retried, not handled. One
/// that is not there: they are not even received.
#[test]
fn without_the_store_nothing_is_handled() {
    let Some(redis) = Redis::start("pass") else {
        return;
    };
    let app = on_redis(&redis);
    redis.run(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    send(&app, "ok g 0", "a");
    wait_for("a retry", || (settled(&app, "retried") >= 2).then_some(()));
    assert_eq!(invocations(&app), 0);
    assert!(
        app.log()
            .contains("the de-duplication store does not answer")
    );
    redis.run(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    Queues::Embedded(&app).wait_until_empty("jobs");
    assert_eq!(lines(&app, "done/g"), ["ok g 0"]);

    redis.kill();
    wait_for("the outage to be noticed", || {
        // A call that fails has the server watched.
        lines(&app, "done/g");
        (get(&app.admin("/readyz")).0 == 503).then_some(())
    });
    let before = invocations(&app);
    send(&app, "ok g 1", "b");
    redis.restart();
    Queues::Embedded(&app).wait_until_empty("jobs");
    assert_eq!(invocations(&app), before + 1);
    assert_eq!(reinvocations(&app), 0);
}
