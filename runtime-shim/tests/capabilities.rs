//! What a component may do, through the real host: granted and not granted.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{App, agent, get, wait_for, wasm};

fn manifest(allowed_hosts: &str) -> String {
    let probe = wasm("guest_probe");
    format!(
        r#"
        spin_manifest_version = 2
        [application]
        name = "probe"
        [variables]
        who = {{ default = "world" }}
        token = {{ required = true, secret = true }}
        [[trigger.http]]
        route = "/probe/..."
        component = "probe"
        [[trigger.http]]
        route = "/users/:id/posts/:post"
        component = "users"
        [[trigger.http]]
        route = {{ private = true }}
        component = "inner"
        [component.probe]
        source = {probe}
        key_value_stores = ["results", "default"]
        allowed_outbound_hosts = [{allowed_hosts}]
        environment = {{ COLOUR = "green" }}
        [component.probe.variables]
        greeting = "hello {{{{ who }}}}"
        token = "{{{{ token }}}}"
        [component.users]
        source = {probe}
        [component.inner]
        source = {probe}
        allowed_outbound_hosts = ["http://inner.spin.internal"]
        "#
    )
}

fn start(allowed_hosts: &str) -> App {
    App::start_with(
        &manifest(allowed_hosts),
        &["--request-timeout", "4"],
        &[("SPIN_VARIABLE_TOKEN", "s3cret-value")],
    )
}

#[test]
fn requests_look_as_on_spin() {
    let app = start("");
    let response = agent()
        .get(app.url("/probe/headers?x=1"))
        .header("spin-client-addr", "6.6.6.6:6")
        .header("spin-path-match-role", "admin")
        .call()
        .unwrap();
    let headers = response.into_body().read_to_string().unwrap();
    let host = app.url("").replace("http://", "");
    for expected in [
        "spin-path-info: /headers",
        "spin-matched-route: /probe/...",
        "spin-raw-component-route: /probe/...",
        "spin-component-route: /probe",
        "spin-base-path: /",
        &format!("spin-full-url: http://{host}/probe/headers?x=1"),
    ] {
        assert!(
            headers.lines().any(|line| line == expected),
            "`{expected}` not in\n{headers}"
        );
    }
    assert!(
        headers.contains("spin-client-addr: 127.0.0.1:"),
        "{headers}"
    );
    assert!(
        !headers.contains("6.6.6.6") && !headers.contains("admin"),
        "{headers}"
    );
}

#[test]
fn private_routes_are_for_components_alone() {
    let app = start(r#""http://inner.spin.internal""#);
    assert_eq!(get(&app.url("/inner")).0, 404);
    let (status, headers) = get(&app.url("/probe/fetch?url=http://inner.spin.internal/headers"));
    assert_eq!(status, 200, "{headers}");
    assert!(headers.contains("spin-path-info: /headers"), "{headers}");
    assert!(
        headers.contains("spin-raw-component-route: /..."),
        "{headers}"
    );
    // Host names know no case, and what is no component never reaches a resolver.
    let upper = get(&app.url("/probe/fetch?url=http://INNER.Spin.Internal/env/COLOUR"));
    assert_eq!(upper, (200, "unset".to_owned()));
    // What is not allowed is refused inside the process too.
    let (_, refused) = get(&app.url("/probe/fetch?url=http://users.spin.internal/headers"));
    assert!(refused.contains("HttpRequestDenied"), "{refused}");
    // A component that calls itself for ever is stopped.
    let started = Instant::now();
    let (status, answer) = get(&app.url("/probe/fetch?url=http://inner.spin.internal/cycle/inner"));
    assert_eq!(status, 508, "{answer}");
    assert!(answer.contains("LoopDetected"), "{answer}");
    assert!(started.elapsed() < Duration::from_secs(4));
}

/// A component that is called by another one ends with it.
#[test]
fn a_chained_call_ends_with_its_caller() {
    let app = start(r#""http://*.spin.internal""#);
    let (_, none) = get(&app.url("/probe/fetch?url=http://nobody.spin.internal/"));
    assert!(none.contains("DestinationNotFound"), "{none}");
    let started = Instant::now();
    let (status, body) = get(&app.url("/probe/fetch?url=http://inner.spin.internal/loop"));
    assert_eq!(status, 504, "{body}");
    assert!(
        started.elapsed() < Duration::from_secs(8),
        "{:?}",
        started.elapsed()
    );
    wait_for("the callee to end", || {
        (app.metric("gristmill_invocations_running", "inner") == 0.0).then_some(())
    });
}

#[test]
fn outbound_requests_reach_allowed_hosts_and_no_others() {
    let other = start("");
    let other_origin = other.url("");
    let app = start(&format!("\"{other_origin}\""));
    let (status, body) =
        get(&app.url(&format!("/probe/fetch?url={other_origin}/probe/env/COLOUR")));
    assert_eq!((status, body.as_str()), (200, "green"));

    let forbidden = TcpListener::bind("127.0.0.1:0").unwrap();
    forbidden.set_nonblocking(true).unwrap();
    let address = forbidden.local_addr().unwrap();
    let (_, refused) = get(&app.url(&format!("/probe/fetch?url=http://{address}/")));
    assert!(refused.contains("HttpRequestDenied"), "{refused}");
    assert!(forbidden.accept().is_err(), "no connection may be tried");
    let line = format!("outbound request to `http://{address}` refused");
    wait_for("the refusal in the log", || {
        app.log().contains(&line).then_some(())
    });
    // A host that is allowed and not there is told apart.
    drop(other);
    let (_, gone) = get(&app.url(&format!("/probe/fetch?url={other_origin}/")));
    assert!(gone.contains("ConnectionRefused"), "{gone}");
}

#[test]
fn key_value_stores_open_by_grant() {
    let mut app = start("");
    assert_eq!(
        get(&app.url("/probe/open/default")),
        (200, "open".to_owned())
    );
    let (status, refused) = get(&app.url("/probe/open/other"));
    assert_eq!((status, refused.as_str()), (403, "Error::AccessDenied"));

    let put = |key: &str, value: &[u8]| {
        let url = app.url(&format!("/probe/kv/{key}"));
        assert_eq!(agent().put(&url).send(value).unwrap().status(), 204);
    };
    put("a", b"1");
    put("b%20%F0%9F%98%80", b"");
    put("a", b"2");
    assert_eq!(get(&app.url("/probe/kv/a")), (200, "2".to_owned()));
    assert_eq!(get(&app.url("/probe/kv/")).1, "a\nb%20%F0%9F%98%80");
    assert_eq!(
        agent()
            .delete(app.url("/probe/kv/a"))
            .call()
            .unwrap()
            .status(),
        204
    );
    assert_eq!(get(&app.url("/probe/kv/a")).0, 404);

    assert_eq!(
        get(&app.url("/probe/keyvalue/default")),
        (200, "passed".to_owned())
    );

    assert_eq!(get(&app.url("/probe/count/default/n")).1, "1");
    assert_eq!(get(&app.url("/probe/count/default/n")).1, "2");

    // The file is Spin's: its schema, and its counters.
    app.kill();
    let file = app.dir().join(".spin/sqlite_key_value.db");
    let database = rusqlite::Connection::open(file).unwrap();
    let counter: Vec<u8> = database
        .query_row(
            "SELECT value FROM spin_key_value WHERE store = 'default' AND key = 'n'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(counter, 2_i64.to_le_bytes());
}

#[test]
fn variables_and_environment_are_the_components_own() {
    let app = start("");
    assert_eq!(
        get(&app.url("/probe/variable/greeting")),
        (200, "hello world".to_owned())
    );
    assert_eq!(get(&app.url("/probe/variable/token")).1, "s3cret-value");
    let (status, error) = get(&app.url("/probe/variable/who"));
    assert_eq!(status, 404);
    assert!(
        error.contains("Undefined") && error.contains("`who`"),
        "{error}"
    );
    assert!(
        get(&app.url("/probe/variable/Bad-Name"))
            .1
            .contains("InvalidName")
    );
    assert!(
        get(&app.url("/probe/config/greeting"))
            .1
            .contains("hello world")
    );
    assert!(get(&app.url("/probe/config/who")).1.contains("None"));
    assert!(get(&app.url("/probe/config/")).1.contains("greeting"));
    assert_eq!(get(&app.url("/probe/env/COLOUR")).1, "green");
    // The host's environment stays with the host.
    assert_eq!(get(&app.url("/probe/env/PATH")).1, "unset");
    assert_eq!(get(&app.url("/probe/env/SPIN_VARIABLE_TOKEN")).1, "unset");
    assert!(!app.log().contains("s3cret-value"));
}

#[test]
fn files_and_sockets_are_out_of_reach() {
    let app = start("");
    let file = get(&app.url("/probe/file//etc/passwd")).1;
    assert!(file.contains("Err"), "{file}");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let socket = get(&app.url(&format!("/probe/socket/{}", listener.local_addr().unwrap()))).1;
    assert!(socket.contains("Err"), "{socket}");
    assert!(listener.accept().is_err(), "no connection may be tried");
}

#[test]
fn bodies_arrive_whole() {
    let app = start("");
    let response = agent().get(app.url("/probe/stream/64")).call().unwrap();
    let body = response
        .into_body()
        .with_config()
        .limit(64 << 20)
        .read_to_vec()
        .unwrap();
    assert_eq!(body.len(), 64 * 64 * 1024);
    let sent = vec![b'y'; 3 << 20];
    let response = agent().post(app.url("/probe/echo")).send(&sent).unwrap();
    let echoed = response
        .into_body()
        .with_config()
        .limit(64 << 20)
        .read_to_vec()
        .unwrap();
    assert!(echoed == sent, "{} bytes came back", echoed.len());
}

#[test]
fn failing_components_answer_as_problems() {
    let app = start("");
    for (path, status, detail) in [
        ("/probe/trap", 500, "component `probe` failed"),
        ("/probe/silent", 500, "component `probe` failed"),
        (
            "/probe/loop",
            504,
            "component `probe` did not answer within 4 s",
        ),
    ] {
        let (got, body) = get(&app.url(path));
        assert_eq!(got, status, "{path}: {body}");
        let problem: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(problem["detail"], detail, "{path}");
    }
    wait_for("the reason in the log", || {
        app.log().contains("panicked or aborted").then_some(())
    });
}
