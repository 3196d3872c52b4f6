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
    App::start_with(&manifest(), &["--request-timeout", "3"], &[])
}

/// Runs a script as `component` and returns what came of each statement.
fn run(app: &App, component: &str, label: &str, script: &str) -> Vec<Value> {
    let url = app.url(&format!("/{component}/run/sqlite/{label}"));
    let (status, answer) = post(&url, script.as_bytes());
    assert_eq!(status, 200, "{answer}");
    serde_json::from_str(&answer).unwrap()
}

#[test]
fn both_versions_pass_every_type_and_call() {
    let mut app = start();
    let (status, verdict) = post(&app.url("/one/suite/sqlite/default"), b"");
    assert_eq!((status, verdict.as_str()), (200, "passed"));
    // The file is where Spin has it.
    app.kill();
    let file = app.dir().join(".spin/sqlite_db.db");
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

#[test]
fn sql_reaches_no_file_but_its_own() {
    let app = start();
    run(
        &app,
        "one",
        "default",
        "1: CREATE TABLE t (x)\n1: INSERT INTO t VALUES (1)",
    );
    let outside = app.dir().join("outside.db");
    std::fs::write(&outside, "").unwrap();
    let outside = outside.display();
    let attacks = [
        format!("ATTACH '{outside}' AS other"),
        format!("ATTACH 'file:{outside}?mode=rw' AS other"),
        format!("ATTACH ('' || '{outside}') AS other"),
        format!("ATTACH (SELECT '{outside}') AS other"),
        "ATTACH 'sqlite_db-shared.db' AS other".to_owned(),
        format!("VACUUM INTO '{outside}.copy'"),
        format!("VACUUM INTO ('{outside}' || '.copy')"),
        "SELECT load_extension('/lib/x86_64-linux-gnu/libc.so.6')".to_owned(),
        "CREATE TABLE l AS SELECT LOAD_EXTENSION('x')".to_owned(),
        "SELECT fts3_tokenizer('simple')".to_owned(),
        "SELECT readfile('/etc/passwd')".to_owned(),
        "CREATE VIRTUAL TABLE c USING csv(filename='/etc/passwd')".to_owned(),
        "SELECT * FROM pragma_database_list".to_owned(),
        "PRAGMA database_list".to_owned(),
        "PRAGMA writable_schema = ON".to_owned(),
        "PRAGMA Writable_Schema(1)".to_owned(),
        "PRAGMA main.writable_schema = RESET".to_owned(),
        "UPDATE sqlite_master SET sql = 'x'".to_owned(),
        "PRAGMA schema_version = 7".to_owned(),
        "PRAGMA temp_store_directory = '/etc'".to_owned(),
        "PRAGMA data_store_directory = '/etc'".to_owned(),
        "PRAGMA temp_store = MEMORY".to_owned(),
        "PRAGMA lock_proxy_file = '/tmp/x'".to_owned(),
        "PRAGMA journal_mode = OFF".to_owned(),
        "PRAGMA journal_mode = DELETE".to_owned(),
        "PRAGMA locking_mode = EXCLUSIVE".to_owned(),
        "PRAGMA synchronous = OFF".to_owned(),
        "PRAGMA mmap_size = 1000000000".to_owned(),
        "PRAGMA cache_size = 1000000".to_owned(),
        "PRAGMA cache_spill = OFF".to_owned(),
        "PRAGMA busy_timeout = 1000000".to_owned(),
        "PRAGMA hard_heap_limit = 1".to_owned(),
        "PRAGMA soft_heap_limit = 1".to_owned(),
        "PRAGMA threads = 8".to_owned(),
        "PRAGMA trusted_schema = ON".to_owned(),
        "PRAGMA wal_autocheckpoint = 0".to_owned(),
        "PRAGMA wal_checkpoint(TRUNCATE)".to_owned(),
        "PRAGMA no_such_pragma".to_owned(),
        "SELECT randomblob(1000000000)".to_owned(),
        format!("SELECT 'a' LIKE '{}'", "%a".repeat(1000)),
    ];
    let script: Vec<_> = attacks
        .iter()
        .map(|attack| format!("1: {attack}"))
        .collect();
    let answers = run(&app, "one", "default", &script.join("\n"));
    for (attack, answer) in attacks.iter().zip(&answers) {
        assert!(answer["error"].is_string(), "{attack}: {answer}");
    }
    // Spin's own test looks for the word.
    for index in [0, 5] {
        assert!(
            answers[index]["error"]
                .as_str()
                .unwrap()
                .contains("authoriz")
        );
    }
    assert!(!app.dir().join("outside.db.copy").exists());
    let peaceful = [
        "PRAGMA table_info(t)",
        "SELECT name FROM pragma_table_info('t')",
        "PRAGMA foreign_keys = ON",
        "PRAGMA user_version = 3",
        "PRAGMA journal_mode = WAL",
        "PRAGMA journal_mode",
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
    let script: Vec<_> = peaceful.iter().map(|line| format!("1: {line}")).collect();
    let answers = run(&app, "one", "default", &script.join("\n"));
    for (line, answer) in peaceful.iter().zip(&answers) {
        assert!(answer["error"].is_null(), "{line}: {answer}");
    }
    assert_eq!(answers[5]["rows"], json!([["wal"]]));
}

#[test]
fn an_endless_query_ends_with_its_request() {
    let app = start();
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
    let threads = std::fs::read_to_string(format!("/proc/{}/stat", app.pid())).unwrap();
    let busy = |stat: &str| -> u64 { stat.split(' ').nth(13).unwrap().parse().unwrap() };
    let before = busy(&threads);
    std::thread::sleep(Duration::from_secs(1));
    let later = std::fs::read_to_string(format!("/proc/{}/stat", app.pid())).unwrap();
    assert!(busy(&later) - before < 50, "no thread may go on counting");
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
