//! `gristmill check`: what it says about imports and grants, for people and for
//! programs. What it refuses is in `startup`.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::Path;
use std::process::Output;

use serde_json::Value;
use support::{gristmill, output, own_manifest, wasm, with_probe};

/// Runs `gristmill check` on a folder with these files.
fn check(files: &[(&str, &str)], args: &[&str]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        std::fs::write(dir.path().join(name), content).unwrap();
    }
    output(gristmill(dir.path()).arg("check").args(args))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_owned()).unwrap()
}

/// Columns without their padding.
fn squeezed(bytes: &[u8]) -> Vec<String> {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    text(bytes).lines().map(words).collect()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        panic!("{error}:\n{stdout}\n{stderr}")
    })
}

fn row<'a>(report: &'a Value, component: &str, capability: &str) -> &'a Value {
    let components = report["components"].as_array().unwrap();
    let component = components.iter().find(|c| c["id"] == component).unwrap();
    let rows = component["capabilities"].as_array().unwrap();
    rows.iter()
        .find(|row| row["capability"] == capability)
        .unwrap_or_else(|| panic!("no {capability} in {component:#}"))
}

#[test]
fn this_application_lacks_nothing() {
    let manifest = own_manifest();
    let checked = check(&[("spin.toml", &manifest)], &["--json"]);
    assert_eq!(text(&checked.stderr), "");
    assert!(checked.status.success());
    let report = json(&checked);
    let keys: BTreeSet<_> = report.as_object().unwrap().keys().collect();
    let keys: Vec<_> = keys.into_iter().collect();
    assert_eq!(
        keys,
        [
            "application",
            "backends",
            "components",
            "queues",
            "routes",
            "schedules",
            "sound",
            "subscriptions",
            "warnings"
        ]
    );
    assert_eq!(report["application"], "gristmill");
    assert_eq!(report["sound"], true);
    assert_eq!(report["warnings"], serde_json::json!([]));
    assert_eq!(report["backends"], serde_json::json!([]));

    let counters = row(&report, "counter", "key-value");
    assert_eq!(counters["status"], "granted");
    assert_eq!(counters["granted"], serde_json::json!(["counters"]));
    assert_eq!(
        counters["interfaces"],
        serde_json::json!([
            "wasi:keyvalue/atomics@0.2.0-draft2",
            "wasi:keyvalue/store@0.2.0-draft2"
        ])
    );
    assert_eq!(row(&report, "counter", "basics")["status"], "always");
    let requests = row(&report, "process-message", "http-requests");
    assert_eq!(
        requests["granted"],
        serde_json::json!(["http://127.0.0.1:9324"])
    );
    // The same wasm has it as `process-message`: the worker need not.
    let worker = row(&report, "process-message-worker", "http-requests");
    assert_eq!(worker["status"], "not-granted");

    let queues = report["queues"].as_array().unwrap();
    let messages = "http://127.0.0.1:9324/000000000000/messages";
    assert!(queues.iter().any(|queue| queue["queue_url"] == messages
        && queue["component"] == "process-message-worker"
        && queue["handler"] == "handle-queue-message"));
    let routes = report["routes"].as_array().unwrap();
    assert!(routes.iter().any(|route| route["route"] == "/counter/..."));
    assert!(!report["schedules"].as_array().unwrap().is_empty());
}

/// Who handles messages is not seen in the manifest, and neither are defaults.
#[test]
fn each_queue_says_who_handles_it_and_how() {
    let consumer = |component: &str, guest: &str, options: &str| {
        let source = wasm(guest);
        format!(
            "[[trigger.sqs]]\ncomponent = \"{component}\"\n\
             queue_url = \"http://127.0.0.1:9324/000000000000/{component}\"\n\
             [application.trigger.sqs.{component}]\n{options}\n\
             [component.{component}]\nsource = {source}\nkey_value_stores = [\"results\"]\n"
        )
    };
    let consumers = [
        consumer("a", "guest_batch", "batch_size = 50\nbatch_window_ms = 20"),
        consumer(
            "b",
            "guest_batch",
            "sandbox = \"message\"\ntimeout_secs = 7",
        ),
        consumer(
            "c",
            "guest_ways",
            "min_concurrency = 3\nsandbox = \"batch\"",
        ),
        consumer(
            "d",
            "guest_ways",
            "http_path = \"/x\"\ndedup_store = \"results\"",
        ),
        consumer(
            "e",
            "guest_ways",
            "forward_to = \"http://h/p\"\nbackoff_cap_secs = 5",
        ),
        consumer(
            "f",
            "guest_probe",
            "filter = { body = [\"x\"] }\nfilter_mismatch = \"keep\"",
        ),
        consumer("g", "guest_command", "max_concurrency = 9"),
    ]
    .concat();
    let checked = check(&[("spin.toml", &with_probe("mill", &consumers))], &[]);
    let stdout = text(&checked.stdout);
    for (component, by) in [
        (
            "a",
            "handle-batch: 64 at once, batches of up to 50 within 20 ms, back-off 2 to 900 s",
        ),
        (
            "b",
            "handle-batch: 64 at once, 7 s each, back-off 2 to 900 s",
        ),
        (
            "c",
            "handle-queue-message: 3 to 64 at once, batches of up to 10 within 0 ms, back-off 2 to 900 s",
        ),
        (
            "d",
            "wasi:http/incoming-handler: 64 at once, back-off 2 to 900 s, de-duplicated in results",
        ),
        ("e", "http://h/p: 64 at once, back-off 2 to 5 s"),
        (
            "f",
            "wasi:http/incoming-handler: 64 at once, back-off 2 to 900 s, filtered, others: keep",
        ),
        ("g", "wasi:cli/run: 9 at once, back-off 2 to 900 s"),
    ] {
        let url = format!("http://127.0.0.1:9324/000000000000/{component}");
        let expected = format!("queue {url} -> {component}\n  by {by}\n");
        assert!(stdout.contains(&expected), "`{expected}` not in\n{stdout}");
    }
}

#[test]
fn a_missing_grant_is_a_warning_and_not_an_error() {
    let worker = wasm("guest_worker");
    let rest = format!(
        "[[trigger.sqs]]\ncomponent = \"w\"\n\
         queue_url = \"http://127.0.0.1:9324/000000000000/jobs\"\n\
         [component.w]\nsource = {worker}\nsqlite_databases = [\"unused\"]\n"
    );
    let manifest = with_probe("mill", &rest);
    let files = [("spin.toml", manifest.as_str())];
    let checked = check(&files, &["--trigger", "sqs"]);
    assert_eq!(checked.status.code(), Some(0));
    let lines = squeezed(&checked.stdout);
    for expected in [
        "component w",
        "CAPABILITY INTERFACE GRANTED",
        "exports queue messages handle-queue-message",
        "MISSING key-value stores fermyon:spin/key-value@2.0.0 none: key_value_stores = [\"LABEL\"]",
        "unused SQLite databases (not imported) unused",
        "application `mill` is sound, with 1 warning; addresses and remote queues were not tried",
    ] {
        let found = lines.iter().any(|line| line == expected);
        assert!(found, "`{expected}` not in\n{}", lines.join("\n"));
    }
    assert_eq!(
        text(&checked.stderr),
        "warning: component `w` imports key-value stores (`fermyon:spin/key-value@2.0.0`), and \
         the manifest grants none: calls will be refused\n  \
         hint: in `[component.w]`: key_value_stores = [\"LABEL\"]\n"
    );
    let report = json(&check(&files, &["--trigger", "sqs", "--json"]));
    assert_eq!(report["sound"], true);
    assert_eq!(row(&report, "w", "key-value")["status"], "missing");
    assert_eq!(row(&report, "w", "sqlite")["status"], "unused");
    let warnings = report["warnings"].as_array().unwrap();
    assert!(
        matches!(&warnings[..], [one] if one.as_str().unwrap().starts_with("component `w` imports"))
    );
}

#[test]
fn a_host_with_a_secret_in_it_is_shown_as_the_manifest_says() {
    let rest = "allowed_outbound_hosts = [\"{{ host }}\"]\n\
                [variables]\nhost = { default = \"https://hunter2.test\", secret = true }\n";
    let manifest = with_probe("mill", rest);
    for args in [&[][..], &["--json"]] {
        let checked = check(&[("spin.toml", &manifest)], args);
        let printed = text(&checked.stdout) + &text(&checked.stderr);
        assert!(checked.status.success(), "{printed}");
        assert!(printed.contains("{{ host }}"), "{printed}");
        assert!(!printed.contains("hunter2"), "{printed}");
    }
}

#[test]
fn a_server_that_does_not_answer_is_reported_and_an_error() {
    let gone = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let manifest = with_probe("mill", "");
    let config = format!("[key_value_store.results]\ntype = \"redis\"\nurl = \"redis://{gone}\"\n");
    let files = [("spin.toml", manifest.as_str()), ("rc.toml", &config)];
    let checked = check(&files, &["--json", "--runtime-config-file", "rc.toml"]);
    assert_eq!(checked.status.code(), Some(1));
    let report = json(&checked);
    assert_eq!(report["sound"], false);
    let name = format!("redis {gone}");
    assert_eq!(report["backends"][0]["name"], name.as_str());
    assert!(report["backends"][0]["problem"].is_string(), "{report:#}");
    assert!(
        text(&checked.stderr).contains("error: redis "),
        "{}",
        text(&checked.stderr)
    );
}

#[test]
fn an_error_leaves_standard_output_to_nobody() {
    let checked = check(&[("spin.toml", "not toml at all")], &["--json"]);
    assert_eq!(checked.status.code(), Some(1));
    assert_eq!(text(&checked.stdout), "");
    let wrong = output(gristmill(Path::new(".")).args(["check", "--jsno"]));
    assert_eq!(wrong.status.code(), Some(2));
}
