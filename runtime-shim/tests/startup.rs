//! Nothing starts that would fail later: each mistake is named, with the place
//! and the value, before anything is served.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use std::net::TcpListener;
use std::path::Path;

use support::{App, gristmill, output, wasm};

const HEAD: &str = "spin_manifest_version = 2\n[application]\nname = \"t\"\n";

/// `source` is a TOML string.
fn http(source: &str, rest: &str) -> String {
    format!(
        "{HEAD}[[trigger.http]]\nroute = \"/\"\ncomponent = \"a\"\n\
         [component.a]\nsource = {source}\n{rest}"
    )
}

/// Runs `command` on a folder with these files; returns exit code and stderr.
fn refused(files: &[(&str, &[u8])], command: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        std::fs::write(dir.path().join(name), content).unwrap();
    }
    let output = output(gristmill(dir.path()).args(command));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(
        !stdout.contains("Ready") && !stdout.contains("Serving"),
        "{stdout}"
    );
    assert!(stderr.starts_with("error: "), "{stderr}");
    stderr
}

const UP: &[&str] = &[
    "up",
    "--listen",
    "127.0.0.1:0",
    "--queue-listen",
    "127.0.0.1:0",
    "--admin-listen",
    "127.0.0.1:0",
];

#[test]
fn mistakes_are_named_before_anything_is_served() {
    let probe = &wasm("guest_probe");
    let worker = &wasm("guest_worker");
    for (manifest, expected) in [
        (
            "not toml at all".to_owned(),
            "manifest `spin.toml` is malformed: TOML parse error at line 1",
        ),
        (
            http("'missing.wasm'", ""),
            "component `a`: cannot read `./missing.wasm`",
        ),
        (
            http("'text.wasm'", ""),
            "component `a`: `./text.wasm` is not a valid WebAssembly component",
        ),
        (
            http("'core.wasm'", ""),
            "`./core.wasm` is a core WebAssembly module that cannot become a component (it exports no `_start`",
        ),
        (
            http(worker, ""),
            "component `a` is called by a `[[trigger.http]]` but does not export `wasi:http/incoming-handler`: it exports `handle-queue-message`",
        ),
        (
            http(probe, "key_value_store = [\"x\"]\n"),
            "unknown field `key_value_store`",
        ),
        (
            http(probe, "allowed_outbound_hosts = [\"example.com\"]\n"),
            "component `a`: `example.com` is not an allowed host",
        ),
        (
            http(
                probe,
                "allowed_outbound_hosts = [\"http://b.spin.internal\"]\n",
            ),
            "defines no component `b`",
        ),
        (
            http(
                probe,
                &format!(
                    "allowed_outbound_hosts = [\"http://w.spin.internal\"]\n\
                     [component.w]\nsource = {worker}\nkey_value_stores = [\"results\"]\n"
                ),
            ),
            "component `w` is called by service chaining but does not export",
        ),
        (
            http(probe, "[variables]\nx = { required = true }\n"),
            "variable `x` is required and has no value",
        ),
        (
            http(probe, "[component.a.variables]\ny = \"{{ nope }}\"\n"),
            "uses `{{ nope }}`, which `[variables]` does not declare",
        ),
        (
            http(
                probe,
                "[[trigger.http]]\nroute = \"/\"\ncomponent = \"a\"\n",
            ),
            "route `/` leads to component `a` and to component `a`",
        ),
        (
            http(probe, "[[trigger.ftp]]\ncomponent = \"a\"\n"),
            "`[[trigger.ftp]]` is not supported",
        ),
        (
            http(probe, "[[trigger.cron]]\ncomponent = \"a\"\n"),
            "`[[trigger.cron]]` number 1 is malformed: missing field `cron_expression`",
        ),
    ] {
        let files: &[(&str, &[u8])] = &[
            ("spin.toml", manifest.as_bytes()),
            ("text.wasm", b"this is text"),
            ("core.wasm", b"\0asm\x01\0\0\0"),
        ];
        for command in [&["check"][..], UP] {
            let stderr = refused(files, command);
            assert!(
                stderr.contains(expected),
                "{command:?}: `{expected}` not in\n{stderr}"
            );
        }
    }
}

#[test]
fn an_undefined_store_label_is_an_error_with_a_runtime_configuration() {
    let probe = wasm("guest_probe");
    let manifest = http(&probe, "key_value_stores = [\"cache\"]\n");
    let config = "[key_value_store.other]\ntype = \"spin\"\npath = \"x.db\"\n";
    let files = [
        ("spin.toml", manifest.as_bytes()),
        ("rc.toml", config.as_bytes()),
    ];
    let stderr = refused(&files, &["check", "--runtime-config-file", "rc.toml"]);
    assert!(
        stderr.contains("component `a` is granted the key-value store `cache`, which the runtime configuration does not define"),
        "{stderr}"
    );
    let files = [("spin.toml", manifest.as_bytes())];
    let stderr = refused(&files, &["check", "--runtime-config-file", "none.toml"]);
    assert!(
        stderr.contains("cannot read runtime configuration `none.toml`"),
        "{stderr}"
    );
}

/// Pictures do not fit into DynamoDB's items: better known before the first upload.
#[test]
fn a_store_that_is_too_small_for_a_component_is_refused() {
    let probe = wasm("guest_probe");
    let rest = "key_value_stores = [\"images\"]\n\
                [component.a.tool.gristmill]\nmax_value_bytes = { images = 8_388_608 }\n";
    let manifest = http(&probe, rest);
    let config = "[key_value_store.images]\ntype = \"aws_dynamo\"\n\
                  region = \"eu-central-1\"\ntable = \"images\"\n";
    let files = [
        ("spin.toml", manifest.as_bytes()),
        ("rc.toml", config.as_bytes()),
    ];
    let stderr = refused(&files, &["check", "--runtime-config-file", "rc.toml"]);
    let expected = "component `a` keeps values of up to 8388608 bytes in the key-value store \
                    `images`, and DynamoDB takes 409";
    assert!(stderr.contains(expected), "{stderr}");
    let stderr = refused(&files[..1], &["check", "--max-value-bytes", "1000000"]);
    assert!(
        stderr.contains("gristmill takes 1000000: raise `--max-value-bytes`"),
        "{stderr}"
    );
    let elsewhere = manifest.replace("{ images =", "{ pictures =");
    let stderr = refused(&[("spin.toml", elsewhere.as_bytes())], &["check"]);
    assert!(
        stderr.contains("names the store `pictures`, which `key_value_stores` does not grant"),
        "{stderr}"
    );
}

/// A secret that makes a value malformed is not shown with it.
#[test]
fn secrets_stay_out_of_errors() {
    let probe = wasm("guest_probe");
    let rest = "allowed_outbound_hosts = [\"{{ host }}\"]\n\
                [variables]\nhost = { default = \"hunter2\", secret = true }\n";
    let manifest = http(&probe, rest);
    let stderr = refused(&[("spin.toml", manifest.as_bytes())], &["check"]);
    assert!(
        stderr.contains("component `a`: `{{ host }}` is malformed"),
        "{stderr}"
    );
    assert!(!stderr.contains("hunter2"), "{stderr}");
}

#[test]
fn wrong_usage_is_told_apart_from_failure() {
    for args in [
        &["up", "--listen", "nonsense"][..],
        &["up", "--variable", "novalue"],
        &["up", "--trigger", "smoke-signal"],
        &["grind"],
        &[],
    ] {
        let output = output(gristmill(Path::new(".")).args(args));
        assert_eq!(output.status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn taken_addresses_and_folders_are_named() {
    let probe = wasm("guest_probe");
    let manifest = http(&probe, "");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["--listen", "--admin-listen"] {
        let files = [("spin.toml", manifest.as_bytes())];
        let mut command = UP.to_vec();
        let at = command.iter().position(|arg| *arg == flag).unwrap();
        command[at + 1] = &address;
        let stderr = refused(&files, &command);
        assert!(
            stderr.contains(&format!("cannot listen on {address}")),
            "{stderr}"
        );
        assert!(stderr.contains(flag), "{stderr}");
    }

    let app = App::start_own();
    let output = output(gristmill(app.dir()).args(UP));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains("in use by another process"), "{stderr}");
}

#[test]
fn an_unreachable_external_queue_is_named() {
    let worker = wasm("guest_worker");
    let gone = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let manifest = format!(
        "{HEAD}[[trigger.sqs]]\ncomponent = \"a\"\nqueue_url = \"http://{gone}/000000000000/q\"\n\
         [component.a]\nsource = {worker}\nkey_value_stores = [\"results\"]\n"
    );
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("spin.toml"), manifest).unwrap();
    let output = output(
        gristmill(dir.path())
            .args(UP)
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test"),
    );
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains(&format!(
            "cannot consume queue `http://{gone}/000000000000/q`"
        )),
        "{stderr}"
    );
}

#[test]
fn check_lists_what_it_found() {
    let app = App::start_own();
    let output = output(gristmill(app.dir()).args(["check", "--state-dir", "elsewhere"]));
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for expected in [
        "component process-message-worker\n",
        "exports  queue messages    handle-queue-message\n",
        "route /counter/... -> counter\n",
        "queue http://127.0.0.1:9324/000000000000/messages -> process-message-worker\n",
        "\n  by handle-queue-message: 64 at once, back-off 2 to 900 s\n",
        "application `gristmill` is sound",
    ] {
        assert!(stdout.contains(expected), "`{expected}` not in\n{stdout}");
    }
}
