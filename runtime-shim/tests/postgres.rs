//! Components on PostgreSQL, through the real host and on a real server.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::servers::Postgres;
use support::{App, post, wait_for, wasm};

const PASSWORD: &str = "s3cret-pa55word";
/// Connections to one address: the host's own bound.
const POOL: i64 = 16;

fn start(allowed: &str, env: &[(&str, &str)]) -> App {
    let guest = wasm("guest_sql");
    let manifest = format!(
        r#"
        spin_manifest_version = 2
        [application]
        name = "sql"
        [[trigger.http]]
        route = "/sql/..."
        component = "sql"
        [component.sql]
        source = {guest}
        allowed_outbound_hosts = ["{allowed}"]
        "#
    );
    App::start_with(&manifest, &["--request-timeout", "8"], env)
}

/// An application that may reach `database`, and no other.
fn start_for(database: &Postgres) -> App {
    start(&format!("postgres://127.0.0.1:{}", database.port()), &[])
}

/// Runs a script on `address` and returns what came of each statement.
fn run(app: &App, address: &str, script: &str) -> Vec<Value> {
    let body = format!("{address}\n{script}");
    let (status, answer) = post(&app.url("/sql/run/postgres"), body.as_bytes());
    assert_eq!(status, 200, "{answer}");
    serde_json::from_str(&answer).unwrap()
}

fn error_of(answer: &Value) -> &str {
    let error = answer["error"].as_str();
    error.unwrap_or_else(|| panic!("no error: {answer}"))
}

#[test]
fn every_version_passes_every_type_and_error() {
    let Some(database) = Postgres::start(PASSWORD) else {
        return;
    };
    let app = start_for(&database);
    for suite in ["postgres4", "postgres-errors", "postgres3", "postgres2"] {
        let url = app.url(&format!("/sql/suite/{suite}"));
        let verdict = post(&url, database.url().as_bytes());
        assert_eq!(verdict, (200, "passed".to_owned()), "{suite}");
    }
    // The other way to write an address.
    let pairs = format!(
        "host=127.0.0.1 port={} user=gristmill password={PASSWORD} dbname=gristmill",
        database.port()
    );
    assert_eq!(run(&app, &pairs, "1: SELECT 1")[0], json!([[1]]));
    assert!(!app.log().contains(PASSWORD));
}

#[test]
fn a_transaction_belongs_to_one_handle() {
    let Some(database) = Postgres::start(PASSWORD) else {
        return;
    };
    let app = start_for(&database);
    let answers = run(
        &app,
        &database.url(),
        "1: !CREATE TABLE t (x int)
         1: !BEGIN
         1: !INSERT INTO t VALUES (1)
         1: SELECT * FROM t
         2: SELECT * FROM t
         1: !COMMIT
         2: SELECT * FROM t
         2: !BEGIN
         2: !LOCK TABLE t
         2: !DELETE FROM t
         2: close
         3: SELECT * FROM t",
    );
    assert_eq!(answers[3], json!([[1]]), "its own, before the commit");
    assert_eq!(answers[4], json!([]), "nobody else's, before the commit");
    assert_eq!(answers[6], json!([[1]]), "everybody's, after the commit");
    assert_eq!(answers[10], json!([[1]]), "undone with its handle");
}

/// Whoever gets a connection after another one sees nothing of that.
#[test]
fn a_connection_is_as_new_for_the_next_one() {
    let Some(database) = Postgres::start(PASSWORD) else {
        return;
    };
    let app = start_for(&database);
    let address = database.url();
    let dirty = run(
        &app,
        &address,
        "1: SELECT pg_backend_pid()
         1: !CREATE TEMP TABLE secret (x int)
         1: !SET statement_timeout = 77
         1: !PREPARE mine AS SELECT 1
         1: SELECT pg_advisory_lock(7)::text",
    );
    // Several at once, so that the one in question is among them.
    let look: Vec<_> = (1..=4)
        .map(|n| {
            format!(
                "{n}: SELECT pg_backend_pid(), current_setting('statement_timeout')
                 {n}: SELECT count(*) FROM pg_prepared_statements WHERE from_sql
                 {n}: SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'
                 {n}: SELECT to_regclass('secret') IS NULL"
            )
        })
        .collect();
    let seen = wait_for("the connection to come back", || {
        let answers = run(&app, &address, &look.join("\n"));
        let mut each = answers.chunks(4).map(<[Value]>::to_vec);
        each.find(|seen| seen[0][0][0] == dirty[0][0][0])
    });
    assert_eq!(seen[0][0][1], "0");
    assert_eq!(seen[1..], [json!([[0]]), json!([[0]]), json!([[true]])]);
    // One in a transaction does not come back at all.
    run(
        &app,
        &address,
        "1: !BEGIN\n1: !SET LOCAL statement_timeout = 77",
    );
    wait_for("the transaction to end", || {
        let open = database
            .run("SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'");
        (open == "0").then_some(())
    });
    // Types that are not built in are looked up again on the next connection.
    run(
        &app,
        &address,
        "1: !CREATE TYPE mood AS ENUM ('good', 'bad')",
    );
    for _ in 0..3 {
        let answers = run(
            &app,
            &address,
            "1: SELECT 'good'::mood\n1: SELECT 'bad'::mood",
        );
        assert!(answers[1].is_array(), "{answers:?}");
    }
}

#[test]
fn connections_have_a_bound() {
    let Some(database) = Postgres::start(PASSWORD) else {
        return;
    };
    let app = start_for(&database);
    let address = database.url();
    let most = thread::scope(|scope| {
        let requests: Vec<_> = (0..64)
            .map(|_| scope.spawn(|| run(&app, &address, "1: SELECT pg_sleep(0.3)::text, 1")))
            .collect();
        let count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'gristmill'";
        let mut most = 0;
        while !requests.iter().all(thread::ScopedJoinHandle::is_finished) {
            most = most.max(database.run(count).parse().unwrap());
        }
        for request in requests {
            let answers = request.join().unwrap();
            assert_eq!(answers[0][0][1], 1, "{answers:?}");
        }
        most
    });
    assert_eq!(most, POOL);
    // One sandbox has fewer.
    let script: Vec<_> = (1..=17).map(|n| format!("{n}: SELECT {n}")).collect();
    let answers = run(&app, &address, &script.join("\n"));
    assert_eq!(answers[15], json!([[16]]));
    assert!(error_of(&answers[16]).contains("too many connections"));
}

#[test]
fn addresses_are_reached_by_grant() {
    let Some(database) = Postgres::start(PASSWORD) else {
        return;
    };
    let app = start_for(&database);
    let port = database.port();
    for address in [
        format!("postgres://gristmill:{PASSWORD}@localhost:{port}/gristmill"),
        format!("postgres://gristmill:{PASSWORD}@127.0.0.1:1/gristmill"),
        format!("host=127.0.0.1,localhost port={port} user=gristmill password={PASSWORD}"),
    ] {
        let answers = run(&app, &address, "1: SELECT 1");
        let error = error_of(&answers[0]);
        assert!(
            error.contains("ConnectionFailed") && error.contains("is not permitted"),
            "{error}"
        );
        assert!(!error.contains(PASSWORD), "{error}");
    }
    let socket = run(&app, "host=/run/postgresql user=gristmill", "1: SELECT 1");
    assert!(error_of(&socket[0]).contains("Unix sockets are not supported"));
    let log = wait_for("the refusals in the log", || {
        let log = app.log();
        (log.matches("refused: add it to").count() >= 3).then_some(log)
    });
    assert!(
        log.contains(&format!(
            "outbound request to `postgres://localhost:{port}` refused"
        )),
        "{log}"
    );
    assert!(!log.contains(PASSWORD), "{log}");
}

#[test]
fn a_wrong_password_is_said_and_not_shown() {
    let Some(database) = Postgres::start(PASSWORD) else {
        return;
    };
    let app = start_for(&database);
    let wrong = database.url().replace(PASSWORD, "hunter2-wrong");
    let answers = run(&app, &wrong, "1: SELECT 1");
    let error = error_of(&answers[0]);
    assert!(
        error.contains("ConnectionFailed") && error.contains("password authentication failed"),
        "{error}"
    );
    assert!(!error.contains("hunter2"), "{error}");
    // Whoever has the right one is not held up.
    assert_eq!(run(&app, &database.url(), "1: SELECT 1")[0], json!([[1]]));
    let log = wait_for("the backend in the log", || {
        let log = app.log();
        log.contains("backend is down").then_some(log)
    });
    assert!(log.contains("28P01"), "{log}");
    assert!(
        !log.contains("hunter2") && !log.contains("for user"),
        "{log}"
    );
}

#[test]
fn a_dead_server_fails_at_once_and_comes_back() {
    let Some(database) = Postgres::start(PASSWORD) else {
        return;
    };
    let app = start_for(&database);
    let address = database.url();
    assert_eq!(run(&app, &address, "1: SELECT 1")[0], json!([[1]]));
    database.kill();
    let started = Instant::now();
    for _ in 0..10 {
        let answers = run(&app, &address, "1: SELECT 1");
        assert!(
            error_of(&answers[0]).contains("ConnectionFailed"),
            "{answers:?}"
        );
    }
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "{:?}",
        started.elapsed()
    );
    database.restart();
    wait_for("the server to be used again", || {
        (run(&app, &address, "1: SELECT 1")[0] == json!([[1]])).then_some(())
    });
    // A connection that broke while nobody used it is not handed out.
    database.kill();
    database.restart();
    let answers = run(&app, &address, "1: SELECT 1");
    assert_eq!(answers[0], json!([[1]]), "{answers:?}");
}

#[test]
fn a_frozen_server_is_found_out() {
    let Some(database) = Postgres::start(PASSWORD) else {
        return;
    };
    let app = start_for(&database);
    let address = database.url();
    assert_eq!(run(&app, &address, "1: SELECT 1")[0], json!([[1]]));
    database.freeze();
    // The first one waits for its deadline, or for a connection in vain.
    let body = format!("{address}\n1: SELECT 1");
    post(&app.url("/sql/run/postgres"), body.as_bytes());
    let error = wait_for("the server to be taken for down", || {
        let started = Instant::now();
        let answers = run(&app, &address, "1: SELECT 1");
        let error = error_of(&answers[0]).to_owned();
        (started.elapsed() < Duration::from_millis(500)).then_some(error)
    });
    assert!(error.contains("does not answer"), "{error}");
    database.thaw();
    wait_for("the server to be used again", || {
        (run(&app, &address, "1: SELECT 1")[0] == json!([[1]])).then_some(())
    });
}

#[test]
fn a_statement_ends_with_its_request() {
    let Some(database) = Postgres::start(PASSWORD) else {
        return;
    };
    let app = start_for(&database);
    let body = format!("{}\n1: SELECT pg_sleep(600)::text", database.url());
    thread::scope(|scope| {
        let requests: Vec<_> = (0..POOL)
            .map(|_| scope.spawn(|| post(&app.url("/sql/run/postgres"), body.as_bytes()).0))
            .collect();
        for request in requests {
            assert_eq!(request.join().unwrap(), 504);
        }
    });
    wait_for("the server to stop sleeping", || {
        let sleeping =
            database.run("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'");
        (sleeping == "0").then_some(())
    });
    assert_eq!(run(&app, &database.url(), "1: SELECT 1")[0], json!([[1]]));
}

#[test]
fn certificates_are_verified() {
    let Some(database) = Postgres::start_tls(PASSWORD) else {
        return;
    };
    let address = database.url();
    let allowed = format!("postgres://*:{}", database.port());
    let stranger = start(&allowed, &[]);
    let answers = run(&stranger, &address, "1: SELECT 1");
    let error = error_of(&answers[0]);
    assert!(
        error.contains("TLS") && error.contains("certificate"),
        "{error}"
    );
    drop(stranger);
    let authority = database.ca_file();
    let app = start(&allowed, &[("SSL_CERT_FILE", authority.to_str().unwrap())]);
    let secured = "1: SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    assert_eq!(run(&app, &address, secured)[0], json!([[true]]));
    let preferred = address.replace("sslmode=require", "sslmode=prefer");
    assert_eq!(run(&app, &preferred, secured)[0], json!([[true]]));
    let disabled = address.replace("sslmode=require", "sslmode=disable");
    assert!(error_of(&run(&app, &disabled, secured)[0]).contains("ConnectionFailed"));
}
