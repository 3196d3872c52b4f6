//! Components' own SQL on embedded SQLite, through the real host.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{App, agent, gristmill, output, post, wasm};

fn manifest() -> String {
    let guest = wasm("guest_sql");
    format!(
        r#"
        spin_manifest_version = 2
        [application]
        name = "sql"
        [[trigger.http]]
        route = "/one/..."
        component = "one"
        [[trigger.http]]
        route = "/two/..."
        component = "two"
        [component.one]
        source = {guest}
        sqlite_databases = ["default", "shared"]
        [component.two]
        source = {guest}
        sqlite_databases = ["shared"]
        "#
    )
}

fn start() -> App {
    App::start(&manifest())
}

/// Runs a script as `component` and returns what came of each statement.
fn run(app: &App, component: &str, label: &str, script: &str) -> Vec<Value> {
    let url = app.url(&format!("/{component}/run/sqlite/{label}"));
    let (status, answer) = post(&url, script.as_bytes());
    assert_eq!(status, 200, "{answer}");
    serde_json::from_str(&answer).unwrap()
}

/// Runs statements on one handle.
fn run_each<S: std::fmt::Display>(app: &App, statements: &[S]) -> Vec<Value> {
    let script: Vec<_> = statements.iter().map(|s| format!("1: {s}")).collect();
    run(app, "one", "default", &script.join("\n"))
}

/// Seconds of processor time that the application has used.
fn busy_seconds(app: &App) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", app.pid())).unwrap();
    let ticks: f64 = stat.split(' ').nth(13).unwrap().parse().unwrap();
    ticks / 100.0
}

#[test]
fn both_versions_pass_every_type_and_call() {
    let mut app = start();
    let (status, verdict) = post(&app.url("/one/suite/sqlite/default"), b"");
    assert_eq!((status, verdict.as_str()), (200, "passed"));
    // The file is where Spin has it; its log outlives each connection.
    let file = app.dir().join(".spin/sqlite_db.db");
    assert!(app.dir().join(".spin/sqlite_db.db-wal").exists());
    app.kill();
    let database = rusqlite::Connection::open(file).unwrap();
    let rows: i64 = database
        .query_row("SELECT count(*) FROM types", [], |row| row.get(0))
        .unwrap();
    assert_eq!(rows, 2);
}

#[test]
fn a_transaction_belongs_to_one_handle() {
    let app = start();
    let answers = run(
        &app,
        "one",
        "default",
        "1: CREATE TABLE t (x)
         1: BEGIN IMMEDIATE
         1: INSERT INTO t VALUES (1)
         1: SELECT * FROM t
         2: SELECT * FROM t
         1: COMMIT
         2: SELECT * FROM t
         2: BEGIN
         2: INSERT INTO t VALUES (2)
         2: SELECT * FROM t
         2: close
         3: SELECT * FROM t
         3: INSERT INTO t VALUES (3)",
    );
    let rows = |index: usize| answers[index]["rows"].clone();
    assert_eq!(rows(3), json!([[1]]), "its own, before the commit");
    assert_eq!(rows(4), json!([]), "nobody else's, before the commit");
    assert_eq!(rows(6), json!([[1]]), "everybody's, after the commit");
    assert_eq!(rows(9), json!([[1], [2]]));
    assert_eq!(rows(10), json!([[1]]), "undone with its handle");
    assert_eq!(answers[11]["changes"], 1, "and its lock is gone");
    // A request that ends in the middle of a transaction undoes it, too.
    run(
        &app,
        "one",
        "default",
        "1: BEGIN IMMEDIATE\n1: DELETE FROM t",
    );
    let after = run(&app, "one", "default", "1: SELECT count(*) FROM t");
    assert_eq!(after[0]["rows"], json!([[2]]));
}

#[test]
fn components_share_a_label_and_nothing_else() {
    let app = start();
    run(
        &app,
        "one",
        "shared",
        "1: CREATE TABLE t (x)
         1: INSERT INTO t VALUES ('from one')
         1: CREATE TEMP TABLE secret (x)
         1: PRAGMA foreign_keys = OFF
         1: PRAGMA query_only = ON",
    );
    let answers = run(
        &app,
        "two",
        "shared",
        "1: SELECT * FROM t
         1: SELECT * FROM temp.secret
         1: PRAGMA foreign_keys
         1: INSERT INTO t VALUES ('from two')
         1: SELECT total_changes()",
    );
    assert_eq!(answers[0]["rows"], json!([["from one"]]));
    assert!(
        answers[1]["error"]
            .as_str()
            .unwrap()
            .contains("no such table")
    );
    assert_eq!(answers[2]["rows"], json!([[1]]));
    assert_eq!(
        answers[4]["rows"],
        json!([[1]]),
        "as a connection that is new"
    );
    let refused = run(&app, "two", "default", "1: SELECT 1");
    assert_eq!(refused[0]["error"], "Error::AccessDenied");
    assert!(app.dir().join(".spin/sqlite_db-shared.db").exists());
}

/// What must be refused. `OUTSIDE` is a file beside the database.
const ATTACKS: &[&str] = &[
    "ATTACH 'OUTSIDE' AS other",
    "VACUUM INTO 'OUTSIDE.copy'",
    "ATTACH 'file:OUTSIDE?mode=rw' AS other",
    "ATTACH ('' || 'OUTSIDE') AS other",
    "ATTACH (SELECT 'OUTSIDE') AS other",
    "ATTACH 'sqlite_db-shared.db' AS other",
    "VACUUM INTO ('OUTSIDE' || '.copy')",
    "SELECT load_extension('/lib/x86_64-linux-gnu/libc.so.6')",
    "CREATE TABLE l AS SELECT LOAD_EXTENSION('x')",
    "SELECT fts3_tokenizer('simple')",
    "SELECT readfile('/etc/passwd')",
    "CREATE VIRTUAL TABLE c USING csv(filename='/etc/passwd')",
    "SELECT * FROM pragma_database_list",
    "PRAGMA database_list",
    "PRAGMA writable_schema = ON",
    "PRAGMA Writable_Schema(1)",
    "PRAGMA main.writable_schema = RESET",
    "UPDATE sqlite_master SET sql = 'x'",
    "PRAGMA schema_version = 7",
    "PRAGMA temp_store_directory = '/etc'",
    "PRAGMA data_store_directory = '/etc'",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA lock_proxy_file = '/tmp/x'",
    "PRAGMA journal_mode = OFF",
    "PRAGMA journal_mode = DELETE",
    "PRAGMA locking_mode = EXCLUSIVE",
    "PRAGMA synchronous = OFF",
    "PRAGMA mmap_size = 1000000000",
    "PRAGMA cache_size = 1000000",
    "PRAGMA cache_spill = OFF",
    "PRAGMA busy_timeout = 1000000",
    "PRAGMA hard_heap_limit = 1",
    "PRAGMA soft_heap_limit = 1",
    "PRAGMA threads = 8",
    "PRAGMA trusted_schema = ON",
    "PRAGMA wal_autocheckpoint = 0",
    "PRAGMA wal_checkpoint(TRUNCATE)",
    "PRAGMA no_such_pragma",
    "SELECT randomblob(1000000000)",
];

#[test]
fn sql_reaches_no_file_but_its_own() {
    let app = start();
    let outside = app.dir().join("outside.db");
    std::fs::write(&outside, "").unwrap();
    let attacks = ATTACKS.iter();
    let attacks = attacks.map(|attack| attack.replace("OUTSIDE", outside.to_str().unwrap()));
    let long_pattern = format!("SELECT 'a' LIKE '{}'", "%a".repeat(1000));
    let attacks: Vec<_> = attacks.chain([long_pattern]).collect();
    let answers = run_each(&app, &attacks);
    for (attack, answer) in attacks.iter().zip(&answers) {
        assert!(answer["error"].is_string(), "{attack}: {answer}");
    }
    // Spin's own test looks for the word.
    for answer in &answers[..2] {
        assert!(answer["error"].as_str().unwrap().contains("authoriz"));
    }
    assert!(!app.dir().join("outside.db.copy").exists());
}

#[test]
fn sql_that_harms_nobody_is_allowed() {
    let app = start();
    let peaceful = [
        "PRAGMA journal_mode",
        "CREATE TABLE t (x)",
        "PRAGMA table_info(t)",
        "SELECT name FROM pragma_table_info('t')",
        "PRAGMA foreign_keys = ON",
        "PRAGMA user_version = 3",
        "PRAGMA journal_mode = WAL",
        "PRAGMA integrity_check",
        "ATTACH '' AS tempfile",
        "ATTACH ':memory:' AS inmemory",
        "CREATE TABLE inmemory.m (x)",
        "DETACH inmemory",
        "VACUUM",
        "CREATE VIRTUAL TABLE f USING fts5(x)",
        "INSERT INTO f VALUES ('a word')",
        "SELECT x FROM f WHERE f MATCH 'word'",
        "SAVEPOINT s",
        "RELEASE s",
        "EXPLAIN QUERY PLAN SELECT * FROM t",
    ];
    let answers = run_each(&app, &peaceful);
    for (line, answer) in peaceful.iter().zip(&answers) {
        assert!(answer["error"].is_null(), "{line}: {answer}");
    }
    assert_eq!(answers[0]["rows"], json!([["wal"]]));
}

#[test]
fn an_endless_query_ends_with_its_request() {
    let app = App::start_with(&manifest(), &["--request-timeout", "3"], &[]);
    let endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) \
                   SELECT count(*) FROM n";
    let script = format!("1: CREATE TABLE t (x)\n1: BEGIN IMMEDIATE\n1: {endless}");
    let url = app.url("/one/run/sqlite/default");
    let started = Instant::now();
    // More than there are connections.
    let requests: Vec<_> = (0..80)
        .map(|_| {
            let (url, script) = (url.clone(), script.clone());
            std::thread::spawn(move || post(&url, script.as_bytes()).0)
        })
        .collect();
    for request in requests {
        assert_eq!(request.join().unwrap(), 504);
    }
    assert!(
        started.elapsed() < Duration::from_secs(8),
        "{:?}",
        started.elapsed()
    );
    let after = run(
        &app,
        "one",
        "default",
        "1: INSERT INTO t VALUES (1)\n1: SELECT count(*) FROM t",
    );
    assert_eq!(after[1]["rows"], json!([[1]]), "{after:?}");
    // No thread goes on counting.
    let before = busy_seconds(&app);
    std::thread::sleep(Duration::from_secs(1));
    assert!(busy_seconds(&app) - before < 0.5);
}

#[test]
fn results_and_memory_have_a_bound() {
    let app = start();
    let answers = run(
        &app,
        "one",
        "default",
        "1: WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 20) SELECT randomblob(10000000) FROM n
         1: ATTACH ':memory:' AS m
         1: CREATE TABLE m.t AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 100) SELECT randomblob(10000000) AS x FROM n
         1: DETACH m
         1: SELECT 1",
    );
    let error = answers[0]["error"].as_str().unwrap();
    assert!(
        error.contains("query result exceeds limit of 134217728 bytes"),
        "{error}"
    );
    assert!(
        answers[2]["error"]
            .as_str()
            .unwrap()
            .contains("interrupted"),
        "{}",
        answers[2]
    );
    assert_eq!(answers[4]["rows"], json!([[1]]));
    // Handles are bounded in each sandbox.
    let script: Vec<_> = (1..=17).map(|n| format!("{n}: SELECT {n}")).collect();
    let answers = run(&app, "one", "default", &script.join("\n"));
    assert_eq!(answers[15]["rows"], json!([[16]]));
    assert!(
        answers[16]["error"]
            .as_str()
            .unwrap()
            .contains("too many connections")
    );
}

#[test]
fn writers_wait_for_each_other() {
    let app = start();
    run(&app, "one", "default", "1: CREATE TABLE t (x)");
    let url = app.url("/one/run/sqlite/default");
    let writers: Vec<_> = (0..32)
        .map(|_| {
            let url = url.clone();
            std::thread::spawn(move || {
                for _ in 0..10 {
                    let script =
                        b"1: BEGIN IMMEDIATE\n1: INSERT INTO t SELECT count(*) FROM t\n1: COMMIT";
                    let response = agent().post(&url).send(&script[..]).unwrap();
                    let answer = response.into_body().read_to_string().unwrap();
                    assert!(!answer.contains("error"), "{answer}");
                }
            })
        })
        .collect();
    for writer in writers {
        writer.join().unwrap();
    }
    let counted = run(
        &app,
        "one",
        "default",
        "1: SELECT count(*), count(DISTINCT x), max(x) FROM t",
    );
    assert_eq!(counted[0]["rows"], json!([[320, 320, 319]]));
}

#[test]
fn the_runtime_configuration_places_databases() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("spin.toml"), manifest()).unwrap();
    let config = dir.path().join("runtime-config.toml");
    let check = |text: &str| {
        std::fs::write(&config, text).unwrap();
        let mut command = gristmill(dir.path());
        let checked =
            output(command.args(["check", "--runtime-config-file", "runtime-config.toml"]));
        (
            checked.status.success(),
            String::from_utf8(checked.stderr).unwrap(),
        )
    };
    let (passed, error) = check("");
    assert!(!passed);
    assert!(
        error.contains("component `one` is granted the SQLite database `shared`")
            && error.contains("add `[sqlite_database.shared]`"),
        "{error}"
    );
    let (passed, error) = check(
        "[sqlite_database.shared]\ntype = \"libsql\"\nurl = \"http://x\"\ntoken = \"hunter2\"\n",
    );
    assert!(
        !passed && error.contains("`libsql` is not supported") && !error.contains("hunter2"),
        "{error}"
    );
    let (passed, error) =
        check("[sqlite_database.shared]\ntype = \"spin\"\npath = \"data/s.db\"\n");
    assert!(passed, "{error}");
    assert!(dir.path().join("data/s.db").exists());
    assert!(dir.path().join(".spin/sqlite_db.db").exists());
}
