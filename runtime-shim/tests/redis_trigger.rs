//! The Redis trigger through the real host, against a real server. The component
//! is a stock one: nothing but `spin-sdk`.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use std::time::{Duration, Instant};

use support::servers::Redis;
use support::{App, get, gristmill, output, wait_for, wasm, with_probe};

const PASSWORD: &str = "hunter2-redis";

/// `first` hears the channels `news` and `orders`, `second` hears `news`; the
/// address and one channel are templates.
fn manifest(options: &str) -> String {
    let subscriber = wasm("guest_subscriber");
    let rest = format!(
        r#"
        [variables]
        redis = {{ required = true, secret = true }}
        topic = {{ default = "news" }}
        [application.trigger.redis]
        address = "{{{{ redis }}}}"
        [[trigger.redis]]
        component = "first"
        channel = "{{{{ topic }}}}"
        [[trigger.redis]]
        component = "first"
        channel = "orders"
        [[trigger.redis]]
        component = "second"
        channel = "news"
        [component.first]
        source = {subscriber}
        key_value_stores = ["results"]
        environment = {{ NAME = "first" }}
        {options}
        [component.second]
        source = {subscriber}
        key_value_stores = ["results"]
        environment = {{ NAME = "second" }}
        "#
    );
    with_probe("redis", &rest)
}

fn start_with(redis: &Redis, options: &str) -> App {
    let url = redis.url();
    App::start_with(&manifest(options), &[], &[("SPIN_VARIABLE_REDIS", &url)])
}

fn start() -> Option<(Redis, App)> {
    let redis = Redis::start(PASSWORD)?;
    let app = start_with(&redis, "");
    Some((redis, app))
}

/// Publishes, and tells how many connections got it.
fn publish(redis: &Redis, channel: &str, message: &str) -> String {
    redis.run(&["PUBLISH", channel, message]).trim().to_owned()
}

/// What a component has handled, message by message.
fn handled(app: &App, component: &str) -> Vec<String> {
    match get(&app.url(&format!("/probe/kv/messages-{component}"))) {
        (200, lines) => lines.lines().map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

fn wait_handled(app: &App, component: &str, expected: &[&str]) {
    let expected: Vec<String> = expected
        .iter()
        .map(|message| format!("{component} {message}"))
        .collect();
    wait_for(&format!("{expected:?}"), || {
        (handled(app, component) == expected).then_some(())
    });
}

fn readiness(app: &App) -> (u16, String) {
    get(&app.admin("/readyz"))
}

fn wait_ready(app: &App) {
    wait_for("the subscription", || {
        (readiness(app).0 == 200).then_some(())
    });
}

fn wait_logged(app: &App, text: &str) {
    wait_for(text, || app.log().contains(text).then_some(()));
}

#[test]
fn messages_reach_every_component_of_their_channel() {
    let Some((redis, app)) = start() else { return };
    // Subscribed as soon as the host says `Ready`, by one connection for all.
    assert_eq!(publish(&redis, "news", "hello"), ":1");
    assert_eq!(publish(&redis, "other", "nobody's"), ":0");
    wait_handled(&app, "second", &["hello"]);
    wait_handled(&app, "first", &["hello"]);
    assert_eq!(publish(&redis, "orders", "one"), ":1");
    wait_handled(&app, "first", &["hello", "one"]);
    assert_eq!(handled(&app, "second"), ["second hello"]);
    assert_eq!(readiness(&app), (200, "ready\n".to_owned()));
    let received = app.metric("gristmill_messages_received_total", "\"first\"");
    assert!((received - 2.0).abs() < 0.1, "{received}");
    let server = format!("redis 127.0.0.1:{}", redis.port());
    assert!(app.metric("gristmill_redis_subscribed", &server) > 0.5);
}

/// Those of one trigger are handled one after the other, as on Spin.
#[test]
fn messages_of_a_channel_keep_their_order() {
    let Some((redis, app)) = start() else { return };
    let messages: Vec<String> = (0..200).map(|n| format!("m{n}")).collect();
    for message in &messages {
        publish(&redis, "news", message);
    }
    let expected: Vec<&str> = messages.iter().map(String::as_str).collect();
    wait_handled(&app, "second", &expected);
    wait_handled(&app, "first", &expected);
}

#[test]
fn a_message_may_be_any_bytes() {
    let Some((redis, app)) = start() else { return };
    redis.run(&[
        "EVAL",
        "return redis.call('publish', 'news', '\\0\\255')",
        "0",
    ]);
    wait_handled(&app, "second", &["[0, 255]"]);
}

/// An error, a trap or an endless loop costs its own message, and no other.
#[test]
fn a_failure_costs_its_own_message() {
    let Some(redis) = Redis::start(PASSWORD) else {
        return;
    };
    let app = start_with(&redis, "tool.gristmill.redis = { timeout_secs = 1 }");
    for message in ["error", "trap", "loop", "fine"] {
        publish(&redis, "orders", message);
    }
    wait_handled(&app, "first", &["fine"]);
    for (outcome, logged) in [
        ("error", "message failed: error: what it printed tells why"),
        ("trap", "message failed: trap: the component panicked"),
        ("timeout", "message failed: no answer within 1"),
    ] {
        let labels = format!("\"first\",outcome=\"{outcome}\"");
        let ended = app.metric("gristmill_invocations_total", &labels);
        assert!((ended - 1.0).abs() < 0.1, "{outcome}: {ended}");
        wait_logged(&app, logged);
    }
    // The reason, from what the component prints.
    wait_logged(&app, "asked to fail");
}

#[test]
fn as_many_run_at_once_as_configured() {
    let Some(redis) = Redis::start(PASSWORD) else {
        return;
    };
    let app = start_with(&redis, "tool.gristmill.redis = { max_concurrency = 4 }");
    for n in 0..6 {
        publish(&redis, "orders", &format!("sleep {}", 1500 + n));
    }
    let mut most: f64 = 0.0;
    wait_for("six messages", || {
        let running = app.metric("gristmill_invocations_running", "\"first\"");
        most = most.max(running);
        (app.metric("gristmill_invocations_total", "\"first\"") > 5.5).then_some(())
    });
    assert!((most - 4.0).abs() < 0.1, "{most}");
}

#[test]
fn a_restart_of_the_server_is_survived() {
    let Some((redis, app)) = start() else { return };
    publish(&redis, "news", "before");
    wait_handled(&app, "second", &["before"]);
    redis.stop();
    let (status, obstacle) = wait_for("the loss to be noticed", || {
        Some(readiness(&app)).filter(|(status, _)| *status == 503)
    });
    assert_eq!(status, 503);
    assert!(obstacle.starts_with("redis 127.0.0.1:"), "{obstacle}");
    assert!(app.metric("gristmill_redis_subscribed", "redis") < 0.5);
    redis.restart();
    wait_ready(&app);
    assert_eq!(publish(&redis, "news", "after"), ":1");
    wait_handled(&app, "second", &["before", "after"]);
    assert!(!app.log().contains(PASSWORD), "{}", app.log());
}

/// A server that keeps its connections and says nothing is noticed, too.
#[test]
fn a_frozen_server_is_noticed() {
    let Some((redis, app)) = start() else { return };
    redis.freeze();
    let obstacle = wait_for("the silence to be noticed", || {
        let (status, obstacle) = readiness(&app);
        (status == 503).then_some(obstacle)
    });
    assert!(
        obstacle.contains("no answer within") || obstacle.contains("cannot subscribe"),
        "{obstacle}"
    );
    redis.thaw();
    wait_ready(&app);
    publish(&redis, "news", "thawed");
    wait_handled(&app, "second", &["thawed"]);
}

/// Redis waits for nobody: what comes faster than it is handled is lost, and that
/// is counted and said.
#[test]
fn what_a_slow_component_misses_is_counted() {
    let Some((redis, mut app)) = start() else {
        return;
    };
    publish(&redis, "orders", "sleep 4000");
    wait_for("the slow call", || {
        (app.metric("gristmill_invocations_running", "\"first\"") > 0.5).then_some(())
    });
    let flood = "for i = 1, 1100 do redis.call('publish', 'orders', 'm' .. i) end";
    redis.run(&["EVAL", flood, "0"]);
    let lost = wait_for("losses", || {
        let received = app.metric("gristmill_messages_received_total", "\"first\"");
        let lost = app.metric("gristmill_redis_messages_lost_total", "\"first\"");
        (received > 1100.5).then_some(lost)
    });
    assert!((lost - 76.0).abs() < 0.1, "{lost}");
    wait_logged(&app, "messages are lost: 1024 messages wait");
    // Who hears other channels only has lost nothing.
    assert!(app.metric("gristmill_redis_messages_lost_total", "\"second\"") < 0.5);
    app.signal("-TERM");
    let (status, log) = app.wait();
    assert!(status.success(), "{status}\n{log}");
    app.restart();
    // What was taken in before the signal was handled.
    let lines = handled(&app, "first");
    assert_eq!(lines.len(), 1025);
    assert_eq!(lines.last().unwrap(), "first m1024");
}

#[test]
fn a_message_beyond_the_bound_is_counted_and_no_more() {
    let Some((redis, app)) = start() else { return };
    let huge = "redis.call('publish', 'news', string.rep('x', 17 * 1024 * 1024))";
    redis.run(&["EVAL", huge, "0"]);
    publish(&redis, "news", "small");
    wait_handled(&app, "second", &["small"]);
    let lost = app.metric("gristmill_redis_messages_lost_total", "\"second\"");
    assert!((lost - 1.0).abs() < 0.1, "{lost}");
    wait_logged(&app, "messages are lost: a message has more than 16 MiB");
}

#[test]
fn a_stop_signal_finishes_what_was_taken_in() {
    for signal in ["-TERM", "-INT"] {
        let Some((redis, mut app)) = start() else {
            return;
        };
        publish(&redis, "orders", "sleep 2000");
        publish(&redis, "orders", "waiting");
        wait_for("the call", || {
            (app.metric("gristmill_invocations_running", "\"first\"") > 0.5).then_some(())
        });
        let stopped = Instant::now();
        app.signal(signal);
        let (status, log) = app.wait();
        assert!(status.success(), "{signal}: {status}\n{log}");
        assert!(stopped.elapsed() < Duration::from_secs(10), "{signal}");
        assert!(log.contains("all work is finished"), "{log}");
        app.restart();
        let expected = ["first sleep 2000", "first waiting"];
        assert_eq!(handled(&app, "first"), expected, "{signal}");
    }
}

/// The host starts and says what is wrong, without the password; once the server
/// takes it, messages come.
#[test]
fn a_wrong_password_is_told_without_it() {
    let Some(redis) = Redis::start(PASSWORD) else {
        return;
    };
    let wrong = redis.url().replace(PASSWORD, "wrong-secret");
    let app = App::start_with(&manifest(""), &[], &[("SPIN_VARIABLE_REDIS", &wrong)]);
    let (status, obstacles) = readiness(&app);
    assert_eq!(status, 503);
    let server = format!("redis 127.0.0.1:{}", redis.port());
    let expected = format!("{server}: cannot subscribe: ");
    assert!(obstacles.starts_with(&expected), "{obstacles}");
    assert!(obstacles.contains("uthentication"), "{obstacles}");
    assert!(app.log().contains(&server), "{}", app.log());

    redis.run(&["CONFIG", "SET", "requirepass", "wrong-secret"]);
    wait_ready(&app);
    for text in [app.log(), obstacles] {
        assert!(!text.contains("wrong-secret"), "{text}");
    }
    // One line for one reason, however often it was tried.
    let lines = app.log().matches("cannot subscribe").count();
    assert_eq!(lines, 1, "{}", app.log());
}

#[test]
fn tls_works_and_other_triggers_are_left_alone() {
    let Some(redis) = Redis::start_tls(PASSWORD) else {
        return;
    };
    let (url, ca) = (redis.url(), redis.ca_file());
    let env = [
        ("SPIN_VARIABLE_REDIS", url.as_str()),
        ("SSL_CERT_FILE", ca.to_str().unwrap()),
    ];
    let app = App::start_with(&manifest(""), &["--trigger", "redis"], &env);
    wait_ready(&app);
    assert_eq!(publish(&redis, "orders", "encrypted"), ":1");
    wait_for("the message", || {
        let labels = "\"first\",outcome=\"completed\"";
        (app.metric("gristmill_invocations_total", labels) > 0.5).then_some(())
    });
}

#[test]
fn check_lists_the_channels() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("spin.toml"), manifest("")).unwrap();
    let url = format!("redis://:{PASSWORD}@redis.test:6380/2");
    let mut check = gristmill(dir.path());
    check.arg("check").env("SPIN_VARIABLE_REDIS", &url);
    let told = output(&mut check);
    assert!(told.status.success(), "{told:?}");
    let text = String::from_utf8(told.stdout).unwrap();
    assert!(text.contains("fermyon:spin/inbound-redis"), "{text}");
    let line = "channel news of redis redis.test:6380/2 -> second";
    assert!(text.contains(line), "{text}");
    assert!(!text.contains(PASSWORD), "{text}");
    let told = output(check.arg("--json"));
    let report: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(report["subscriptions"][1]["channel"], "orders");
    assert_eq!(report["subscriptions"][1]["component"], "first");
}

#[test]
fn what_cannot_work_is_refused_at_start() {
    let whole = manifest("");
    let concurrency = |most: u32| {
        manifest(&format!(
            "tool.gristmill.redis = {{ max_concurrency = {most} }}"
        ))
    };
    for (manifest, expected) in [
        (
            whole.replace("address = \"{{ redis }}\"", ""),
            "component `first`: its `[[trigger.redis]]` has no `address`",
        ),
        (
            whole.replace("address = \"{{ redis }}\"", "address = \"http://h\""),
            "component `first`: `address` of its `[[trigger.redis]]`: the address is not a Redis URL",
        ),
        (
            whole.replace("channel = \"orders\"", "channel = \"\""),
            "component `first`: `channel` of its `[[trigger.redis]]` is empty",
        ),
        (
            whole.replace(
                "channel = \"orders\"",
                "channel = \"orders\"\npattern = true",
            ),
            "`[[trigger.redis]]` number 2 is malformed: unknown field `pattern`",
        ),
        (
            whole.replace(
                "[application.trigger.redis]",
                "[application.trigger.redis]\nport = 1",
            ),
            "`[application.trigger.redis]` is malformed: unknown field `port`",
        ),
        (
            whole.replace("channel = \"orders\"", ""),
            "`[[trigger.redis]]` number 2 is malformed: missing field `channel`",
        ),
        (
            whole.replace("guest_subscriber", "guest_tick"),
            "called by a `[[trigger.redis]]` but does not export `fermyon:spin/inbound-redis`",
        ),
        (
            concurrency(0),
            "`[component.first.tool.gristmill.redis]`: max_concurrency is 0, allowed are 1 to 400",
        ),
        // Two triggers of 250.
        (concurrency(250), "may make 501 calls at once"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("spin.toml"), manifest).unwrap();
        // `check` first: it ends also where `up` would go on.
        for command in ["check", "up"] {
            let mut refused = gristmill(dir.path());
            refused.arg(command);
            let url = "redis://:hunter2@127.0.0.1:1";
            let refused = output(refused.env("SPIN_VARIABLE_REDIS", url));
            let error = String::from_utf8(refused.stderr).unwrap();
            assert_eq!(refused.status.code(), Some(1), "{error}");
            assert!(error.contains(expected), "`{expected}` not in {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
