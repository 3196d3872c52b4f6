//! `fermyon:spin/redis` through the real host, against a real server.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use std::time::{Duration, Instant};

use support::net;
use support::servers::Redis;
use support::{App, agent, wait_for};

const PASSWORD: &str = "hunter2-redis";

/// A server with an application that may reach it.
fn start() -> Option<(Redis, App)> {
    let redis = Redis::start(PASSWORD)?;
    let app = net::start(&format!("'redis://127.0.0.1:{}'", redis.port()));
    Some((redis, app))
}

/// Has a sandbox carry out `steps` on a connection to `url`; what each gave.
fn run(app: &App, url: &str, steps: &[&str]) -> Vec<String> {
    let open = format!("redis open {url}");
    net::run(app, &[&[open.as_str()], steps].concat())
}

fn check(app: &App, url: &str, steps: &[(&str, &str)]) {
    let (steps, expected): (Vec<&str>, Vec<&str>) = steps.iter().copied().unzip();
    let gave = run(app, url, &steps);
    assert_eq!(gave[0], "open", "{gave:?}");
    for ((step, expected), gave) in steps.iter().zip(expected).zip(&gave[1..]) {
        assert_eq!(gave, expected, "{step}");
    }
}

/// Clients that the server sees, this question's own left out.
fn connections(redis: &Redis) -> usize {
    let clients = redis.run(&["CLIENT", "LIST", "TYPE", "normal"]);
    let by_tcp = |line: &&str| line.contains("laddr=127.0.0.1:");
    clients.lines().filter(by_tcp).count()
}

#[test]
fn every_function_works() {
    let Some((redis, app)) = start() else { return };
    check(
        &app,
        &redis.url(),
        &[
            ("redis get k", "Ok(None)"),
            ("redis set k Eureka!", "Ok(())"),
            ("redis get k", r#"Ok(Some("Eureka!"))"#),
            ("redis incr n", "Ok(1)"),
            ("redis incr n", "Ok(2)"),
            ("redis sadd s a b a", "Ok(2)"),
            ("redis smembers s", r#"Ok(["a", "b"])"#),
            ("redis srem s b c", "Ok(1)"),
            ("redis smembers none", "Ok([])"),
            ("redis del k n none", "Ok(2)"),
            ("redis publish news hello", "Ok(())"),
            // What the key holds is of another kind.
            ("redis set text abc", "Ok(())"),
            ("redis incr text", "Err(Error::TypeError)"),
            ("redis get s", "Err(Error::TypeError)"),
            ("redis sadd text x", "Err(Error::TypeError)"),
            ("redis smembers text", "Err(Error::TypeError)"),
            ("redis set n 9223372036854775807", "Ok(())"),
            ("redis get n", r#"Ok(Some("9223372036854775807"))"#),
            ("redis drop", "dropped"),
        ],
    );
    let overflow = &run(&app, &redis.url(), &["redis incr n"])[1];
    assert!(overflow.starts_with("Err(Error::Other(") && overflow.contains("overflow"));
}

#[test]
fn execute_gives_every_kind_of_result() {
    let Some((redis, app)) = start() else { return };
    check(
        &app,
        &redis.url(),
        &[
            ("redis execute set k :42", "[status OK]"),
            ("redis execute get k", "[binary 42]"),
            ("redis execute get none", "[nil]"),
            ("redis execute incrby k :-50", "[int -8]"),
            ("redis execute ping", "[status PONG]"),
            ("redis execute rpush l a b", "[int 2]"),
            ("redis execute lrange l :0 :-1", "[binary a, binary b]"),
            ("redis execute lrange none :0 :-1", "[]"),
            ("redis execute hset h f 1 g 2", "[int 2]"),
            (
                "redis execute hgetall h",
                "[binary f, binary 1, binary g, binary 2]",
            ),
            ("redis execute mget k none", "[binary -8, nil]"),
            // Nested arrays lose their nesting, as on Spin.
            ("redis execute xadd x 1-1 f v", "[binary 1-1]"),
            (
                "redis execute xrange x - +",
                "[binary 1-1, binary f, binary v]",
            ),
            ("redis execute lrange k :0 :-1", "Err(Error::TypeError)"),
        ],
    );
    let unknown = &run(&app, &redis.url(), &["redis execute nonsense"])[1];
    assert!(
        unknown.contains("Other(") && unknown.contains("unknown command"),
        "{unknown}"
    );
}

#[test]
fn answers_have_a_bound() {
    let Some((redis, app)) = start() else { return };
    let step = format!("redis execute SETRANGE big :{} x", 128 << 20);
    let gave = run(
        &app,
        &redis.url(),
        &[&step, "redis get big", "redis get none"],
    );
    assert_eq!(gave[1], format!("[int {}]", (128 << 20) + 1));
    assert!(
        gave[2].contains("query result exceeds limit"),
        "{}",
        gave[2]
    );
    assert_eq!(gave[3], "Ok(None)");
}

#[test]
fn many_sandboxes_share_a_bounded_number_of_connections() {
    let Some((redis, app)) = start() else { return };
    let url = redis.url();
    std::thread::scope(|scope| {
        // More than there may be connections, and each is held for a while.
        let requests: Vec<_> = (0..96)
            .map(|_| scope.spawn(|| run(&app, &url, &["redis incr n", "sleep 100"])))
            .collect();
        let mut most = 0;
        wait_for("all to end", || {
            most = most.max(connections(&redis));
            let ended = requests
                .iter()
                .all(std::thread::ScopedJoinHandle::is_finished);
            ended.then_some(())
        });
        assert!((2..=64).contains(&most), "{most} connections");
        for request in requests {
            let gave = request.join().unwrap();
            assert!(gave[1].starts_with("Ok("), "{gave:?}");
        }
    });
    // Clean connections are used again.
    let before = connections(&redis);
    for _ in 0..20 {
        check(&app, &url, &[("redis get n", r#"Ok(Some("96"))"#)]);
    }
    assert_eq!(connections(&redis), before);
}

#[test]
fn one_sandbox_may_hold_sixteen() {
    let Some((redis, app)) = start() else { return };
    let open = format!("redis open {}", redis.url());
    let gave = run(&app, &redis.url(), &[open.as_str(); 16]);
    assert!(gave[..16].iter().all(|gave| gave == "open"), "{gave:?}");
    assert_eq!(gave[16], "Err(Error::TooManyConnections)");
}

/// Whatever a guest leaves on a connection, the next one finds a fresh one.
#[test]
fn nothing_leaks_from_one_sandbox_to_the_next() {
    let Some((redis, app)) = start() else { return };
    let url = redis.url();
    for left_behind in [
        "redis execute SELECT 3",
        "redis execute MULTI",
        "redis execute WATCH k",
        "redis execute CLIENT SETNAME mine",
        "redis execute SUBSCRIBE news",
        "redis execute CLIENT REPLY OFF",
        "redis execute RESET",
    ] {
        check(&app, &url, &[("redis set k 0", "Ok(())")]);
        let gave = run(&app, &url, &[left_behind]);
        assert_eq!(gave[0], "open", "{left_behind}");
        for _ in 0..4 {
            check(
                &app,
                &url,
                &[
                    ("redis get k", r#"Ok(Some("0"))"#),
                    ("redis execute CLIENT GETNAME", "[nil]"),
                ],
            );
        }
    }
    // On one handle the state stays, as the guest expects.
    check(
        &app,
        &url,
        &[
            ("redis execute SELECT 3", "[status OK]"),
            ("redis get k", "Ok(None)"),
            ("redis execute MULTI", "[status OK]"),
            ("redis execute SET k x", "[status QUEUED]"),
            ("redis execute EXEC", "[status OK]"),
            ("redis get k", r#"Ok(Some("x"))"#),
        ],
    );
}

#[test]
fn addresses_that_are_not_allowed_are_not_tried() {
    let Some(redis) = Redis::start(PASSWORD) else {
        return;
    };
    let app = net::start("'redis://127.0.0.1:1', 'https://127.0.0.1:*'");
    for address in [
        redis.url(),
        redis.url().replace("redis:", "rediss:"),
        format!("redis+unix:///tmp/redis.sock?pass={PASSWORD}"),
        "http://127.0.0.1:1".to_owned(),
        "127.0.0.1:1".to_owned(),
        String::new(),
    ] {
        let gave = run(&app, &address, &[]);
        assert_eq!(gave, ["Err(Error::InvalidAddress)"], "{address}");
    }
    assert_eq!(connections(&redis), 0);
    let line = format!(
        "outbound request to `redis://127.0.0.1:{}` refused",
        redis.port()
    );
    let log = wait_for("the refusal in the log", || {
        Some(app.log()).filter(|log| log.contains(&line))
    });
    assert!(!log.contains(PASSWORD), "{log}");
}

#[test]
fn a_wrong_password_is_told_and_not_shown() {
    let Some((redis, app)) = start() else { return };
    let url = redis.url().replace(PASSWORD, "wrong-pass-word");
    let gave = run(&app, &url, &[]);
    assert!(
        gave[0].contains("Other(") && gave[0].contains("authentication failed"),
        "{gave:?}"
    );
    assert!(!gave[0].contains("wrong-pass-word"), "{gave:?}");
    let log = wait_for("the probe in the log", || {
        Some(app.log()).filter(|log| log.contains("backend is down"))
    });
    assert!(!log.contains("wrong-pass-word"), "{log}");
    // The right password is another address, and works.
    check(&app, &redis.url(), &[("redis get k", "Ok(None)")]);
}

#[test]
fn a_dead_server_fails_at_once_and_is_found_again() {
    let Some((redis, app)) = start() else { return };
    let url = redis.url();
    check(&app, &url, &[("redis set k v", "Ok(())")]);
    redis.kill();
    let started = Instant::now();
    let gave = run(&app, &url, &["redis get k"]);
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "{:?}",
        started.elapsed()
    );
    assert!(gave[0].starts_with("Err(Error::Other("), "{gave:?}");
    let status = || {
        agent()
            .get(app.admin("/readyz"))
            .call()
            .unwrap()
            .status()
            .as_u16()
    };
    wait_for("the host to be unready", || (status() == 503).then_some(()));
    redis.restart();
    wait_for("the server to be found again", || {
        (run(&app, &url, &["redis get k"]).get(1)? == r#"Ok(Some("v"))"#).then_some(())
    });
    wait_for("the host to be ready", || (status() == 200).then_some(()));
}

/// The pooled connection ended while nobody used it: it is replaced before
/// anything is sent.
#[test]
fn a_restart_between_requests_goes_unnoticed() {
    let Some((redis, app)) = start() else { return };
    for _ in 0..3 {
        check(&app, &redis.url(), &[("redis set k v", "Ok(())")]);
        redis.restart();
    }
    // Nor on a handle that has nothing set on its connection.
    std::thread::scope(|scope| {
        let held = scope.spawn(|| run(&app, &redis.url(), &["sleep 1500", "redis get k"]));
        wait_for("the handle", || (connections(&redis) > 0).then_some(()));
        redis.restart();
        assert_eq!(held.join().unwrap(), ["open", "awake", r#"Ok(Some("v"))"#]);
    });
}

#[test]
fn what_was_set_on_a_lost_connection_is_not_forgotten_silently() {
    let Some((redis, app)) = start() else { return };
    let url = redis.url();
    let steps = ["redis execute SELECT 3", "sleep 1500", "redis set k v"];
    std::thread::scope(|scope| {
        let held = scope.spawn(|| run(&app, &url, &steps));
        wait_for("the handle", || {
            redis
                .run(&["CLIENT", "LIST"])
                .contains(" db=3 ")
                .then_some(())
        });
        redis.restart();
        let gave = held.join().unwrap();
        assert!(gave[3].contains("the connection was lost"), "{gave:?}");
    });
}

#[test]
fn a_frozen_server_is_waited_for_within_bounds() {
    let Some((redis, app)) = start() else { return };
    let url = redis.url();
    check(&app, &url, &[("redis set k v", "Ok(())")]);
    redis.freeze();
    let started = Instant::now();
    let gave = run(&app, &url, &["redis get k", "redis get k"]);
    assert!(gave[1].contains("did not answer within 10 s"), "{gave:?}");
    assert!(gave[2].starts_with("Err("), "{gave:?}");
    assert!(
        started.elapsed() < Duration::from_secs(16),
        "{:?}",
        started.elapsed()
    );
    // By now it is known to be down.
    let started = Instant::now();
    let gave = run(&app, &url, &[]);
    assert!(gave[0].contains("does not answer"), "{gave:?}");
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "{:?}",
        started.elapsed()
    );
    redis.thaw();
    wait_for("the server to be found again", || {
        (run(&app, &url, &["redis get k"]).get(1)? == r#"Ok(Some("v"))"#).then_some(())
    });
}

/// A guest that is stopped in the middle of a command leaves an answer
/// outstanding, which nobody else may be given.
#[test]
fn an_answer_that_nobody_waits_for_reaches_nobody() {
    let Some(redis) = Redis::start(PASSWORD) else {
        return;
    };
    let allowed = format!("'redis://127.0.0.1:{}'", redis.port());
    let app = net::start_with(&allowed, &["--request-timeout", "1"], &[]);
    let url = redis.url();
    check(&app, &url, &[("redis set k v", "Ok(())")]);
    // A stateless command, so that nothing else keeps the connection from reuse.
    redis.run(&["CLIENT", "PAUSE", "1500"]);
    let gave = run(&app, &url, &["redis execute ECHO theirs"]);
    assert!(
        gave.concat().contains("did not answer within 1 s"),
        "{gave:?}"
    );
    wait_for("the pause to end", || {
        let gave = run(&app, &url, &["redis get k"]);
        assert!(!gave.concat().contains("theirs"), "{gave:?}");
        (gave.get(1)? == r#"Ok(Some("v"))"#).then_some(())
    });
}

#[test]
fn tls_is_checked_against_the_known_authorities() {
    let Some(redis) = Redis::start_tls(PASSWORD) else {
        return;
    };
    let allowed = format!("'rediss://127.0.0.1:{}'", redis.port());
    let ca_file = redis.ca_file();
    let ca_file = ca_file.to_str().unwrap();
    let trusting = net::start_with(&allowed, &[], &[("SSL_CERT_FILE", ca_file)]);
    check(&trusting, &redis.url(), &[("redis set k v", "Ok(())")]);
    let strict = net::start(&allowed);
    let gave = run(&strict, &redis.url(), &[]);
    assert!(gave[0].contains("UnknownIssuer"), "{gave:?}");
}
