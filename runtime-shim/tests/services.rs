//! Accounts, pictures, recommendations and the portal, through the real application: what they
//! promise, on the embedded stores and on real servers, with one process and with two.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

#[path = "services/accounts.rs"]
mod accounts;
#[path = "services/backends.rs"]
mod backends;
#[path = "services/images.rs"]
mod images;
#[path = "services/load.rs"]
mod load;
#[path = "services/portal.rs"]
mod portal;

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use support::web::{Answer, Client, id_of, sha256};
use support::{App, own_manifest, pictures, wait_for};

const COMPONENTS: [&str; 6] = [
    "process-message",
    "counter",
    "auth",
    "images",
    "recommend",
    "portal",
];

/// The application with schedules that are due each second, not each minute.
fn start_ticking(variables: &[(&str, &str)]) -> App {
    let mut manifest = own_manifest();
    for expression in ["\"0 * * * * *\"", "\"30 * * * * *\""] {
        assert!(manifest.contains(expression), "no schedule {expression}");
        manifest = manifest.replace(expression, "\"* * * * * *\"");
    }
    App::start_with(&manifest, &[], variables)
}

/// A moment, written as all the services write it.
#[track_caller]
fn moment(value: &Value) -> SystemTime {
    let text = value.as_str().unwrap();
    assert!(text.len() == 24 && text.ends_with('Z'), "{text}");
    chrono::DateTime::parse_from_rfc3339(text).unwrap().into()
}

#[track_caller]
fn about(actual: SystemTime, expected: SystemTime) {
    let apart = actual
        .duration_since(expected)
        .unwrap_or_else(|earlier| earlier.duration());
    assert!(apart < Duration::from_mins(1), "{apart:?} apart");
}

/// The file of a store that is embedded.
fn open(app: &App, file: &str) -> rusqlite::Connection {
    let connection = rusqlite::Connection::open(app.dir().join(".spin").join(file)).unwrap();
    connection.busy_timeout(Duration::from_secs(5)).unwrap();
    connection
}

fn stored_keys(app: &App, label: &str) -> BTreeSet<String> {
    let store = open(app, &format!("sqlite_key_value-{label}.db"));
    // Nothing was ever stored where there is no table.
    let Ok(mut query) = store.prepare("SELECT key FROM spin_key_value") else {
        return BTreeSet::new();
    };
    let keys = query.query_map([], |row| row.get(0)).unwrap();
    keys.map(Result::unwrap).collect()
}

/// Uploads a picture unlike any other.
#[track_caller]
fn upload_one(client: &Client, seed: u64) -> String {
    id_of(&client.upload(&pictures::png(20, 10, seed)))
}

fn thumbnail(client: &Client, id: &str) -> Answer {
    wait_for("the thumbnail", || {
        let answer = client.get(&format!("/images/{id}/thumbnail"));
        if answer.status == 404 {
            assert_eq!(answer.header("retry-after"), Some("1"), "while pending");
        }
        (answer.status != 404).then_some(answer)
    })
    .expect(200)
}

/// What the owner's list says of an image.
fn listed(client: &Client, id: &str) -> Option<Value> {
    let page = client.get("/images?limit=100").expect(200).json();
    let mut images = page["images"].as_array().unwrap().iter();
    images.find(|image| image["id"] == id).cloned()
}

fn ids(page: &Value) -> Vec<String> {
    let images = page["images"].as_array().unwrap().iter();
    images
        .map(|image| image["id"].as_str().unwrap().to_owned())
        .collect()
}

/// Whoever has the address gets these bytes, once.
fn serves(app: &App, url: &str, kind: &str, bytes: &[u8]) {
    let anyone = Client::new(app);
    let answer = anyone.get(url).expect(200);
    assert_eq!(answer.body, bytes, "{url}");
    assert_eq!(answer.header("content-type"), Some(kind));
    assert_eq!(answer.header("cache-control"), Some("private, no-cache"));
    let tag = answer.header("etag").unwrap();
    if !url.ends_with("/thumbnail") {
        assert_eq!(tag, format!("\"{}\"", sha256(bytes)));
    }
    for (asked, status) in [
        (tag, 304),
        (format!("\"other\", {tag}").as_str(), 304),
        (format!("W/{tag}").as_str(), 304),
        ("*", 304),
        ("\"other\"", 200),
    ] {
        let again = anyone.send("GET", url, &[("if-none-match", asked)], b"");
        assert_eq!(again.status, status, "{asked}");
        assert_eq!(again.header("etag"), Some(tag));
        assert_eq!(again.body.is_empty(), status == 304);
    }
    let head = anyone.send("HEAD", url, &[], b"").expect(200);
    assert!(head.body.is_empty());
    assert_eq!(head.header("etag"), Some(tag));
    assert_eq!(head.header("content-type"), Some(kind));
}

/// A second process that answers requests on the same state.
fn beside(app: &App) -> App {
    let state = app.dir().join(".spin");
    let origin = app.queue_origin();
    let url = |queue: &str| format!("{origin}/000000000000/{queue}");
    App::start_with(
        &own_manifest(),
        &[
            "--no-local-queue",
            "--trigger",
            "http",
            "--state-dir",
            state.to_str().unwrap(),
        ],
        &[
            ("SPIN_VARIABLE_SQS_ORIGIN", origin),
            ("SPIN_VARIABLE_MESSAGES_QUEUE_URL", &url("messages")),
            ("SPIN_VARIABLE_IMAGES_QUEUE_URL", &url("images")),
        ],
    )
}
