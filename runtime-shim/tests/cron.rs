//! Schedules, through the real host: ticks come when they are due, one at a
//! time, whatever the last one did.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use std::time::{SystemTime, UNIX_EPOCH};

use support::{App, get, gristmill, output, wait_for, wasm, with_probe};

fn manifest(expression: &str) -> String {
    let tick = wasm("guest_tick");
    let rest = format!(
        r#"
        [variables]
        behaviour = {{ default = "note" }}
        [[trigger.cron]]
        component = "tick"
        cron_expression = "{expression}"
        [application.trigger.cron.tick]
        timeout_secs = 3
        [component.tick]
        source = {tick}
        key_value_stores = ["results"]
        variables = {{ behaviour = "{{{{ behaviour }}}}" }}
        "#
    );
    with_probe("cron", &rest)
}

fn start(behaviour: &str) -> App {
    let env = [("SPIN_VARIABLE_BEHAVIOUR", behaviour)];
    App::start_with(&manifest("* * * * * *"), &[], &env)
}

/// The times that the component was called with.
fn ticks(app: &App) -> Vec<u64> {
    let (_, noted) = get(&app.url("/probe/kv/ticks"));
    noted.lines().map(|line| line.parse().unwrap()).collect()
}

fn ticks_at_least(app: &App, count: usize) -> Vec<u64> {
    wait_for("ticks", || {
        Some(ticks(app)).filter(|ticks| ticks.len() >= count)
    })
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

#[test]
fn ticks_come_when_they_are_due() {
    let began = now();
    let app = start("note");
    let ticks = ticks_at_least(&app, 3);
    assert!(
        ticks[0] > began && ticks[2] <= now(),
        "{ticks:?} since {began}"
    );
    assert!(ticks.windows(2).all(|pair| pair[0] < pair[1]), "{ticks:?}");
    assert!(
        app.metric(
            "gristmill_invocations_total",
            "\"tick\",outcome=\"completed\""
        ) >= 2.0
    );
}

#[test]
fn a_tick_that_comes_while_a_call_runs_is_missed() {
    let app = start("slow");
    let ticks = ticks_at_least(&app, 3);
    assert!(
        ticks.windows(2).all(|pair| pair[1] - pair[0] >= 2),
        "{ticks:?}"
    );
    assert!(app.metric("gristmill_cron_ticks_missed_total", "tick") >= 3.0);
    assert!(app.metric("gristmill_invocations_running", "tick") <= 1.0);
}

#[test]
fn whatever_a_call_does_the_next_one_comes() {
    for (behaviour, logged) in [
        ("fail", "scheduled call failed: error: asked to fail"),
        (
            "trap",
            "scheduled call failed: trap: the component panicked",
        ),
        ("loop", "scheduled call failed: no answer within 3"),
    ] {
        let app = start(behaviour);
        ticks_at_least(&app, 2);
        wait_for("the reason in the log", || {
            app.log().contains(logged).then_some(())
        });
    }
}

#[test]
fn a_stop_signal_finishes_the_call_under_way() {
    let mut app = start("slow");
    wait_for("a call", || {
        (app.metric("gristmill_invocations_running", "tick") > 0.0).then_some(())
    });
    app.signal("-TERM");
    let (status, log) = app.wait();
    assert!(status.success(), "{status}\n{log}");
    app.restart();
    assert_eq!(get(&app.url("/probe/kv/finished")).0, 200);
}

#[test]
fn cron_runs_alone_and_is_listed() {
    let app = App::start_with(&manifest("* * * * * *"), &["--trigger", "cron"], &[]);
    wait_for("a tick", || {
        (app.metric("gristmill_invocations_total", "\"tick\"") > 0.0).then_some(())
    });
    let checked = output(gristmill(app.dir()).arg("check"));
    let listed = String::from_utf8(checked.stdout).unwrap();
    assert!(listed.contains("handle-cron-event"), "{listed}");
    assert!(listed.contains("schedule * * * * * * -> tick"), "{listed}");
}

#[test]
fn a_schedule_that_cannot_work_is_refused_at_start() {
    for (manifest, expected) in [
        (
            manifest("0 0 0 30 2 *"),
            "component `tick`: cron_expression `0 0 0 30 2 *` is not a schedule",
        ),
        (
            manifest("* * * * * *").replace("guest_tick", "guest_probe"),
            "called by a `[[trigger.cron]]` but does not export `handle-cron-event`",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("spin.toml"), manifest).unwrap();
        let refused = output(gristmill(dir.path()).args(["up", "--listen", "127.0.0.1:0"]));
        assert_eq!(refused.status.code(), Some(1));
        let error = String::from_utf8(refused.stderr).unwrap();
        assert!(error.contains(expected), "{error}");
    }
}
