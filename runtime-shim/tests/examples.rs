//! The plugins of `examples/` in other languages than Rust, by their own manifests:
//! all do the same, so all pass the same test.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rusqlite::OptionalExtension;
use serde_json::{Value, json};
use support::{App, root, wait_for};

const JAVASCRIPT: Example = Example {
    folder: "javascript",
    variable: "GRISTMILL_TEST_EXAMPLE_JS",
};
const PYTHON: Example = Example {
    folder: "python",
    variable: "GRISTMILL_TEST_EXAMPLE_PY",
};

const ORDER: &str =
    r#"{"customer":"Ada Žižka","lines":[{"quantity":2,"cents":450},{"quantity":1,"cents":100}]}"#;

/// A busy machine compiles one plugin in a test's patience, not both at once.
static COMPILER: Mutex<()> = Mutex::new(());

/// What no attempt could make an order of, and what its reason says.
const HOPELESS: [(&str, &str); 8] = [
    ("two teas", "not JSON: "),
    ("null", "`customer`"),
    ("[]", "`customer`"),
    (
        r#"{"customer":"","lines":[{"quantity":1,"cents":1}]}"#,
        "`customer`",
    ),
    (r#"{"customer":"ada","lines":[]}"#, "`lines`"),
    (r#"{"customer":"ada","lines":[null]}"#, "`quantity`"),
    (
        r#"{"customer":"ada","lines":[{"quantity":0,"cents":1}]}"#,
        "`quantity`",
    ),
    (
        r#"{"customer":"ada","lines":[{"quantity":1,"cents":1.5}]}"#,
        "`cents`",
    ),
];

#[test]
fn the_plugin_in_javascript_takes_orders() {
    takes_orders(&JAVASCRIPT);
}

#[test]
fn the_plugin_in_python_takes_orders() {
    takes_orders(&PYTHON);
}

/// A plugin that `cargo xtask test` builds.
struct Example {
    folder: &'static str,
    /// Where its wasm file is.
    variable: &'static str,
}

impl Example {
    /// Its own manifest, on the wasm file that was built for the tests.
    fn manifest(&self) -> Option<String> {
        let wasm = self.wasm()?;
        let path = root().join("examples").join(self.folder).join("spin.toml");
        let manifest = std::fs::read_to_string(path).unwrap();
        let source = "source = \"orders.wasm\"";
        assert!(manifest.contains(source), "{manifest}");
        Some(manifest.replace(source, &format!("source = '{}'", wasm.display())))
    }

    fn wasm(&self) -> Option<PathBuf> {
        support::servers::program(self.variable)
    }
}

fn takes_orders(example: &Example) {
    let Some(manifest) = example.manifest() else {
        return;
    };
    let mut app = {
        let _alone = COMPILER.lock();
        App::start(&manifest)
    };
    app.sqs(
        "SetQueueAttributes",
        json!({"QueueName": "orders", "Attributes": {"VisibilityTimeout": "2"}}),
    );
    // The consumer reads the visibility timeout when it starts.
    app.restart();

    stores_a_receipt(&app);
    rejects_with_the_reason(&app);
    leaves_what_it_may_not_do_yet(&app);
    does_nothing_twice(&app);

    for outcome in ["trap", "timeout", "overloaded"] {
        let label = format!("outcome=\"{outcome}\"");
        let count = app.metric("gristmill_invocations_total", &label) as u64;
        assert_eq!(count, 0, "{outcome}");
    }
}

fn stores_a_receipt(app: &App) {
    let id = app.send("orders", ORDER);
    let receipt = wait_for("the receipt", || Store::open(app).get(&id));
    let receipt: Value = serde_json::from_str(&receipt).unwrap();
    let expected = json!({"customer": "Ada Žižka", "total_cents": 1000});
    assert_eq!(receipt, expected);
    wait_for("what it printed", || app.log().contains(&id).then_some(()));
    wait_for_empty_queue(app);
}

fn rejects_with_the_reason(app: &App) {
    for (body, _) in HOPELESS {
        app.send("orders", body);
    }
    let mut letters = BTreeMap::new();
    wait_for("the dead letters", || {
        let answer = app.sqs(
            "ReceiveMessage",
            json!({
                "QueueName": "orders-dlq",
                "MaxNumberOfMessages": 10,
                "MessageAttributeNames": ["All"],
            }),
        );
        for letter in answer["Messages"].as_array().into_iter().flatten() {
            let reason = letter["MessageAttributes"]["gristmill.reason"]["StringValue"].as_str();
            let reason: Value = serde_json::from_str(reason.unwrap()).unwrap();
            letters.insert(letter["Body"].as_str().unwrap().to_owned(), reason);
        }
        (letters.len() == HOPELESS.len()).then_some(())
    });
    for (body, said) in HOPELESS {
        let reason = &letters[body];
        assert!(reason["error"].as_str().unwrap().contains(said), "{reason}");
        assert_eq!(reason["outcome"], "rejected", "{body}");
        assert_eq!(reason["receive_count"], 1, "{body}");
    }
    wait_for_empty_queue(app);
}

fn leaves_what_it_may_not_do_yet(app: &App) {
    let store = Store::open(app);
    store.set("paused", "");
    let id = app.send("orders", ORDER);
    wait_for("the order to be left", || {
        (settled(app, "left") >= 1.0).then_some(())
    });
    assert_eq!(store.get(&id), None);
    store.delete("paused");
    wait_for("the receipt", || store.get(&id));
    wait_for_empty_queue(app);
}

/// As if the order had been handled, and then the host had died before the queue
/// heard of it.
fn does_nothing_twice(app: &App) {
    let store = Store::open(app);
    store.set("paused", "");
    let left = settled(app, "left");
    let id = app.send("orders", ORDER);
    wait_for("the order to be left", || {
        (settled(app, "left") > left).then_some(())
    });
    store.set(&id, "of the first delivery");
    store.delete("paused");
    wait_for_empty_queue(app);
    assert_eq!(store.get(&id).as_deref(), Some("of the first delivery"));
}

fn settled(app: &App, settlement: &str) -> f64 {
    let label = format!("settlement=\"{settlement}\"");
    app.metric("gristmill_messages_settled_total", &label)
}

fn wait_for_empty_queue(app: &App) {
    wait_for("the queue to be empty", || {
        (app.depth("orders") == (0, 0, 0)).then_some(())
    });
}

/// The file of the store `orders`, which another process may use at the same time.
struct Store(rusqlite::Connection);

impl Store {
    fn open(app: &App) -> Self {
        let file = app.dir().join(".spin/sqlite_key_value-orders.db");
        let connection = rusqlite::Connection::open(file).unwrap();
        connection.busy_timeout(Duration::from_secs(5)).unwrap();
        Self(connection)
    }

    fn get(&self, key: &str) -> Option<String> {
        let query = "SELECT CAST(value AS TEXT) FROM spin_key_value \
                     WHERE store = 'orders' AND key = ?1";
        self.0
            .query_row(query, [key], |row| row.get(0))
            .optional()
            .unwrap()
    }

    fn set(&self, key: &str, value: &str) {
        let insert = "INSERT INTO spin_key_value (store, key, value) \
                      VALUES ('orders', ?1, CAST(?2 AS BLOB))";
        self.0.execute(insert, [key, value]).unwrap();
    }

    fn delete(&self, key: &str) {
        let delete = "DELETE FROM spin_key_value WHERE store = 'orders' AND key = ?1";
        assert_eq!(self.0.execute(delete, [key]).unwrap(), 1);
    }
}

/// Prints the rows of the table in examples/README.md, where the command is. The
/// bounds are what an author may rely on, on a slow machine as well.
#[test]
fn a_language_costs_what_the_readme_says() {
    for example in [&JAVASCRIPT, &PYTHON] {
        print_figures(example);
    }
}

#[allow(clippy::print_stderr, reason = "it is what this is for")]
fn print_figures(example: &Example) {
    let Some(manifest) = example.manifest() else {
        return;
    };
    let one_at_a_time =
        format!("{manifest}\n[application.trigger.sqs.orders]\nmax_concurrency = 1\n");
    let started = Instant::now();
    let mut app = {
        let _alone = COMPILER.lock();
        App::start(&one_at_a_time)
    };
    let first_start = started.elapsed();
    let code = app.dir().join(".spin/gristmill-cache").read_dir().unwrap();
    let code: u64 = code
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum();
    drain(&app, 200);
    let spent = app.metric("gristmill_invocation_duration_seconds_sum", "orders");
    let calls = app.metric("gristmill_invocation_duration_seconds_count", "orders");
    let a_message = spent / calls;

    std::fs::write(app.dir().join("spin.toml"), &manifest).unwrap();
    let started = Instant::now();
    // Compiling takes more memory than running.
    app.restart();
    let later_start = started.elapsed();
    let busy = drain(&app, 1_000);
    let memory = peak_memory(&app);
    let wasm = example.wasm().unwrap().metadata().unwrap().len();
    eprintln!(
        "| {} | {:.1} MB | {:.1} MB | {:.1} s | {:.2} s | {:.1} ms | {:.0}/s | {} MB |",
        example.folder,
        megabytes(wasm),
        megabytes(code),
        first_start.as_secs_f64(),
        later_start.as_secs_f64(),
        a_message * 1e3,
        1_000.0 / busy.as_secs_f64(),
        memory,
    );
    assert!(a_message < 0.1, "{a_message} s for a message");
    assert!(memory < 1_000, "{memory} MB");
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// How long the plugin takes for so many orders.
fn drain(app: &App, orders: i64) -> Duration {
    let store = Store::open(app);
    let count = || -> i64 {
        let query = "SELECT count(*) FROM spin_key_value";
        store.0.query_row(query, [], |row| row.get(0)).unwrap()
    };
    let before = count();
    let entries: Vec<_> = (0..10)
        .map(|n| json!({"Id": n.to_string(), "MessageBody": ORDER}))
        .collect();
    let started = Instant::now();
    for _ in 0..orders / 10 {
        let batch = json!({"QueueName": "orders", "Entries": entries});
        app.sqs("SendMessageBatch", batch);
    }
    wait_for("every receipt", || {
        (count() == before + orders).then_some(())
    });
    started.elapsed()
}

/// The most that the process ever had, in megabytes.
fn peak_memory(app: &App) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", app.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.unwrap().trim().strip_suffix(" kB").unwrap();
    kib.parse::<u64>().unwrap() * 1024 / 1_000_000
}
