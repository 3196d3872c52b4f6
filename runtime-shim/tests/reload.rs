//! SIGHUP reads the application anew: what runs is replaced as a whole or not at
//! all, and nothing is lost, done twice, or cut off.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use std::sync::atomic::{AtomicBool, Ordering};

use support::{App, get, wait_for, wasm, with_probe, worker};

fn write(app: &App, manifest: &str) {
    std::fs::write(app.dir().join("spin.toml"), manifest).unwrap();
}

fn reloads(app: &App, outcome: &str) -> u64 {
    app.metric("gristmill_reloads_total", &format!("outcome=\"{outcome}\"")) as u64
}

/// Asks for a reload and waits for its outcome.
fn reload(app: &App, outcome: &str) {
    let before = reloads(app, outcome);
    app.signal("-HUP");
    wait_for("the reload", || {
        (reloads(app, outcome) > before).then_some(())
    });
}

fn manifest(route: &str, options: &str) -> String {
    let probe = wasm("guest_probe");
    let rest = format!(
        r#"{}
        [[trigger.http]]
        route = "{route}"
        component = "other"
        [component.other]
        source = {probe}
        "#,
        worker("", options)
    );
    with_probe("reload", &rest)
}

/// Messages and requests go on coming while the application is replaced again and
/// again.
#[test]
fn a_reload_under_load_loses_nothing_and_does_nothing_twice() {
    const MESSAGES: usize = 600;
    let app = App::start(&manifest("/sleep/...", "max_concurrency = 16"));
    let sent = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            for n in 0..MESSAGES {
                app.send("jobs", &format!("job {n}"));
            }
            sent.store(true, Ordering::Release);
        });
        let asking = scope.spawn(|| {
            let mut answered = 0;
            while !sent.load(Ordering::Acquire) {
                let (status, body) = get(&app.url("/probe/sleep/20"));
                assert_eq!((status, body.as_str()), (200, "awake"));
                answered += 1;
            }
            answered
        });
        for turn in 0.. {
            let (route, there, gone) = if turn % 2 == 0 {
                ("/headers/...", "/headers/", "/sleep/")
            } else {
                ("/sleep/...", "/sleep/", "/headers/")
            };
            let options = format!("max_concurrency = {}", 8 + turn % 16);
            write(&app, &manifest(route, &options));
            reload(&app, "done");
            assert_ne!(get(&app.url(there)).0, 404, "{there}");
            assert_eq!(get(&app.url(gone)).0, 404, "{gone}");
            if turn >= 4 && sent.load(Ordering::Acquire) {
                break;
            }
        }
        sending.join().unwrap();
        assert!(asking.join().unwrap() > 0);
    });
    wait_for("every message", || {
        (app.depth("jobs") == (0, 0, 0)).then_some(())
    });
    for n in 0..MESSAGES {
        let (_, attempts) = get(&app.url(&format!("/probe/kv/attempts/job-{n}")));
        assert_eq!(attempts.lines().count(), 1, "job {n}");
    }
    assert_eq!(app.depth("jobs-dlq"), (0, 0, 0));
    assert_eq!(app.metric("gristmill_last_reload_successful", "") as u64, 1);
}

/// What is under way ends as it began, beside what took its place.
#[test]
fn what_is_under_way_is_finished() {
    let app = App::start(&manifest("/sleep/...", ""));
    app.send("jobs", "sleep 3000");
    wait_for("the message in flight", || {
        (app.metric("gristmill_invocations_running", "worker") >= 1.0).then_some(())
    });
    let url = app.url("/sleep/3000");
    let request = std::thread::spawn(move || get(&url));
    wait_for("the request to run", || {
        (app.metric("gristmill_invocations_running", "other") >= 1.0).then_some(())
    });
    write(&app, &manifest("/headers/...", ""));
    reload(&app, "done");
    // The new one answers at once, and takes messages.
    assert_ne!(get(&app.url("/headers/")).0, 404);
    app.send("jobs", "quick 1");
    wait_for("the quick message", || {
        let (_, attempts) = get(&app.url("/probe/kv/attempts/quick-1"));
        (!attempts.is_empty()).then_some(())
    });
    // Its delete comes after its effect; the slow one is still handled.
    wait_for("the slow message alone", || {
        (app.depth("jobs").1 == 1).then_some(())
    });
    assert_eq!(request.join().unwrap(), (200, "awake".to_owned()));
    wait_for("the slow message", || {
        (app.depth("jobs") == (0, 0, 0)).then_some(())
    });
    let (_, attempts) = get(&app.url("/probe/kv/attempts/sleep-3000"));
    assert_eq!(attempts.lines().count(), 1);
    wait_for("the end of what was under way", || {
        app.log()
            .contains("what was under way before the reload is finished")
            .then_some(())
    });
}

#[test]
fn a_bad_application_is_refused_with_its_reason() {
    let mut app = App::start(&manifest("/sleep/...", ""));
    let good = manifest("/headers/...", "");
    for (bad, reason) in [
        ("nonsense".to_owned(), "malformed"),
        (
            good.replace("guest_probe", "guest_missing"),
            "guest_missing.wasm",
        ),
        (
            good.replace("[\"results\"]", "[\"results\"]\nsecrets = 1"),
            "unknown field `secrets`",
        ),
        (
            good.replace("[[trigger.sqs]]", "[[trigger.sqs]]\nmax_messages = 11"),
            "max_messages is 11",
        ),
    ] {
        write(&app, &bad);
        reload(&app, "refused");
        let log = app.log();
        let (_, said) = log.rsplit_once("cannot reload").unwrap();
        assert!(said.contains(reason), "`{reason}` not in:\n{said}");
        assert!(said.contains("goes on as it was"), "{said}");
        assert_eq!(app.metric("gristmill_last_reload_successful", "") as u64, 0);
        assert_ne!(get(&app.url("/sleep/0")).0, 404);
        assert_eq!(get(&app.admin("/readyz")).0, 200);
    }
    app.send("jobs", "still 1");
    wait_for("a message on the old application", || {
        (app.depth("jobs") == (0, 0, 0)).then_some(())
    });
    write(&app, &good);
    reload(&app, "done");
    assert_ne!(get(&app.url("/headers/")).0, 404);
    app.signal("-TERM");
    let (status, log) = app.wait();
    assert!(status.success(), "{status}\n{log}");
}

/// A queue that no trigger named before is served and consumed, a new grant holds,
/// and so does one that was taken away.
#[test]
fn triggers_and_grants_come_and_go() {
    let bare = with_probe("reload", "");
    let app = App::start(&bare);
    assert_eq!(get(&app.url("/probe/kv/attempts/first-1")).0, 404);
    write(&app, &with_probe("reload", &worker("", "")));
    reload(&app, "done");
    // The queue's address was printed by the reload; its figures tell that it is there.
    wait_for("the queue", || {
        get(&app.admin("/metrics"))
            .1
            .contains("queue_messages{queue=\"jobs\"")
            .then_some(())
    });
    write(&app, &bare.replace("key_value_stores = [\"results\"]", ""));
    reload(&app, "done");
    assert_eq!(get(&app.url("/probe/kv/attempts/first-1")).0, 500);
}

/// Every tick is one call, whoever has the schedule when it is due.
#[test]
fn ticks_are_neither_lost_nor_doubled() {
    let tick = wasm("guest_tick");
    let rest = format!(
        r#"
        [[trigger.cron]]
        component = "tick"
        cron_expression = "* * * * * *"
        [component.tick]
        source = {tick}
        key_value_stores = ["results"]
        "#
    );
    let app = App::start(&with_probe("reload", &rest));
    let ticks = || -> Vec<u64> {
        let (_, noted) = get(&app.url("/probe/kv/ticks"));
        noted.lines().map(|line| line.parse().unwrap()).collect()
    };
    wait_for("ticks through reloads", || {
        reload(&app, "done");
        (ticks().len() >= 5).then_some(())
    });
    let ticks = ticks();
    let expected: Vec<u64> = (ticks[0]..).take(ticks.len()).collect();
    assert_eq!(ticks, expected);
    assert!(reloads(&app, "done") >= 5);
}

/// A process that reloads still drains, and both generations get their time.
#[test]
fn a_stop_after_a_reload_finishes_both() {
    let mut app = App::start(&manifest("/sleep/...", ""));
    app.send("jobs", "sleep 3001");
    wait_for("the message in flight", || {
        (app.metric("gristmill_invocations_running", "worker") >= 1.0).then_some(())
    });
    reload(&app, "done");
    app.send("jobs", "sleep 3002");
    wait_for("both in flight", || {
        (app.metric("gristmill_invocations_running", "worker") >= 2.0).then_some(())
    });
    app.signal("-TERM");
    let (status, log) = app.wait();
    assert!(status.success(), "{status}\n{log}");
    assert!(log.contains("all work is finished"), "{log}");
    app.restart();
    assert_eq!(app.depth("jobs"), (0, 0, 0));
    for job in ["sleep-3001", "sleep-3002"] {
        let (_, attempts) = get(&app.url(&format!("/probe/kv/attempts/{job}")));
        assert_eq!(attempts.lines().count(), 1, "{job}");
    }
}

/// What does not end in the grace period is broken off, loudly, and lets the next
/// reload begin.
#[test]
fn what_outlasts_the_grace_period_is_cut_off() {
    let args = ["--grace-period", "1"];
    let app = App::start_with(&manifest("/sleep/...", ""), &args, &[]);
    let url = app.url("/sleep/40000");
    let request = std::thread::spawn(move || get(&url));
    wait_for("the request to run", || {
        (app.metric("gristmill_invocations_running", "other") >= 1.0).then_some(())
    });
    reload(&app, "done");
    let (status, body) = request.join().unwrap();
    assert_eq!(status, 500, "{body}");
    wait_for("the warning", || {
        app.log().contains("was cut off").then_some(())
    });
    reload(&app, "done");
    assert_eq!(get(&app.url("/sleep/0")).0, 200);
}

/// The state folder holds what was acknowledged: it cannot be swapped under it.
#[test]
fn another_state_folder_is_refused() {
    let config = "[[variables_provider]]\ntype = \"static\"\nvalues = {}\n[key_value_store.results]\ntype = \"spin\"\npath = \"results.db\"\n";
    let args = ["--runtime-config-file", "config.toml"];
    let files = [("config.toml", config)];
    let app = App::start_in(&files, &with_probe("reload", ""), &args, &[]);
    let moved = format!("state_dir = \"elsewhere\"\n{config}");
    std::fs::write(app.dir().join("config.toml"), moved).unwrap();
    reload(&app, "refused");
    assert!(app.log().contains("the state folder is"), "{}", app.log());
    assert_eq!(get(&app.url("/probe/sleep/0")).0, 200);
}
