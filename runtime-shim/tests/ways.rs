//! Whoever handles the messages, the account is the same: by `handle-queue-message`,
//! by the HTTP export of the same component, and by a server elsewhere that runs it.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use support::ways::{Queues, embedded, lines, settled, ways};
use support::{App, gristmill, output, wait_for, wasm};

/// What became of the messages.
#[derive(Debug, PartialEq, Eq)]
struct Account {
    deleted: usize,
    retried: usize,
    dead_lettered: usize,
    /// Effects of each message that was sent, in that order.
    effects: Vec<usize>,
    attempts: usize,
    /// Dead letters: the body, and whether the reason is the component's.
    dead: Vec<(String, bool)>,
}

const OPTIONS: &str = "backoff_base_secs = 1\nbackoff_cap_secs = 1";

fn messages() -> Vec<String> {
    let kinds = [
        ("ok", 20),
        ("error-once", 3),
        ("trap-once", 2),
        ("reject", 2),
        ("error", 1),
        ("trap", 1),
    ];
    let of_kind = |(kind, count)| (0..count).map(move |n| format!("{kind} g {n}"));
    kinds.into_iter().flat_map(of_kind).collect()
}

/// Sends them to the queue of `consumer`; their effects are in the store of `effects`.
/// Rejected by HTTP, they have a status.
fn account(consumer: &App, effects: &App, by_http: bool) -> Account {
    let queues = Queues::Embedded(consumer);
    let ids = queues.send_all("jobs", &messages());
    wait_for("the dead letters", || {
        (queues.depth("jobs-dlq").0 == 4).then_some(())
    });
    queues.wait_until_empty("jobs");
    let dead = queues.drain("jobs-dlq");
    let mut dead: Vec<(String, bool)> = dead
        .iter()
        .map(|letter| {
            let reason = &letter["MessageAttributes"]["gristmill.reason"]["StringValue"];
            let reason = reason.as_str().unwrap_or_default();
            let told = reason.contains("asked to") && reason.contains("\"outcome\":\"rejected\"");
            assert_eq!(
                told && reason.contains("status 422"),
                told && by_http,
                "{reason}"
            );
            (letter["Body"].as_str().unwrap().to_owned(), told)
        })
        .collect();
    dead.sort();
    Account {
        deleted: settled(consumer, "deleted"),
        retried: settled(consumer, "retried"),
        dead_lettered: settled(consumer, "dead_lettered"),
        effects: ids.iter().map(|id| lines(effects, id).len()).collect(),
        attempts: lines(effects, "begun/g").len(),
        dead,
    }
}

/// An attempt may find that another one wrote the log at the same moment.
fn one_at_a_time(options: &str) -> App {
    let options = format!("{OPTIONS}\nmax_concurrency = 1\n{options}");
    App::start(&ways(&embedded("jobs"), &options))
}

#[test]
fn the_account_is_the_same_whoever_handles_the_messages() {
    let expected = Account {
        deleted: 25,
        // Five once, and two that redrive takes at the sixth receive.
        retried: 5 + 2 * 5,
        dead_lettered: 2,
        effects: [vec![1; 25], vec![0; 4]].concat(),
        attempts: 25 + 5 + 2 + 2 * 5,
        dead: [
            ("error g 0", false),
            ("reject g 0", true),
            ("reject g 1", true),
            ("trap g 0", false),
        ]
        .map(|(body, told)| (body.to_owned(), told))
        .to_vec(),
    };
    std::thread::scope(|scope| {
        let exports = ["", "http_path = \"/\""].map(|options| {
            scope.spawn(move || {
                let app = one_at_a_time(options);
                account(&app, &app, !options.is_empty())
            })
        });
        let forwarded = scope.spawn(|| {
            let server = App::start(&served());
            let forward = format!("forward_to = \"{}\"", server.url("/ways"));
            account(&one_at_a_time(&forward), &server, true)
        });
        for (way, account) in exports.into_iter().chain([forwarded]).enumerate() {
            assert_eq!(account.join().unwrap(), expected, "way {way}");
        }
    });
}

/// The component behind a route, without any queue.
fn served() -> String {
    let ways = wasm("guest_ways");
    support::with_probe(
        "served",
        &format!(
            r#"
            [[trigger.http]]
            route = "/ways"
            component = "ways"
            [component.ways]
            source = {ways}
            key_value_stores = ["results"]
            "#
        ),
    )
}

#[test]
fn a_path_for_a_component_without_http_is_refused_at_start() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = support::with_probe("path", &support::worker("", "http_path = \"/x\""));
    std::fs::write(dir.path().join("spin.toml"), manifest).unwrap();
    let refused = output(gristmill(dir.path()).args(["up", "--listen", "127.0.0.1:0"]));
    let stderr = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("`http_path`"), "{stderr}");
    assert!(stderr.contains("`worker`"), "{stderr}");
}
