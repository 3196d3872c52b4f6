//! One conformance suite for key-value stores, the same for every backend, on
//! real servers: what differs between them is the runtime configuration alone.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use std::collections::BTreeSet;
use std::thread;

use serde_json::json;
use support::servers::{DynamoLocal, Ministack, Redis};
use support::{App, get, tables, wasm};

/// How many count, and swap, at the same time.
const CONTENDERS: usize = 64;
/// A value that every backend but DynamoDB takes.
const TWO_MIB: usize = 2 << 20;

fn manifest() -> String {
    let probe = wasm("guest_probe");
    format!(
        r#"
        spin_manifest_version = 2
        [application]
        name = "probe"
        [variables]
        redis_password = {{ default = "", secret = true }}
        [[trigger.http]]
        route = "/probe/..."
        component = "probe"
        [component.probe]
        source = {probe}
        key_value_stores = ["results"]
        "#
    )
}

fn start(runtime_config: &str, env: &[(&str, &str)]) -> App {
    let args = ["--runtime-config-file", "runtime-config.toml"];
    App::start_in(
        &[("runtime-config.toml", runtime_config)],
        &manifest(),
        &args,
        env,
    )
}

/// What every backend must do alike.
fn conforms(app: &App) {
    let suite = get(&app.url("/probe/keyvalue/results"));
    assert_eq!(suite, (200, "passed".to_owned()));

    let answers = at_once(app, "/probe/count/results/contended");
    let counts: BTreeSet<usize> = answers.iter().map(|count| count.parse().unwrap()).collect();
    assert_eq!(
        counts,
        (1..=CONTENDERS).collect(),
        "each count exactly once"
    );
    let (_, next) = get(&app.url("/probe/count/results/contended"));
    assert_eq!(next, (CONTENDERS + 1).to_string());

    at_once(app, "/probe/append/results/race");
    let (_, stored) = get(&app.url("/probe/kv/race"));
    assert_eq!(
        stored,
        "x".repeat(CONTENDERS),
        "no swap was lost, none was done twice"
    );
}

/// The answers to so many requests under way at once.
fn at_once(app: &App, path: &str) -> Vec<String> {
    thread::scope(|scope| {
        let requests: Vec<_> = (0..CONTENDERS)
            .map(|_| scope.spawn(|| get(&app.url(path))))
            .collect();
        requests
            .into_iter()
            .map(|request| {
                let (status, body) = request.join().unwrap();
                assert_eq!(status, 200, "{path}: {body}");
                body
            })
            .collect()
    })
}

fn large(app: &App, bytes: usize) -> (u16, String) {
    get(&app.url(&format!("/probe/large/results/{bytes}")))
}

/// Up to the operator's limit, and not beyond.
fn is_limited_by_the_operator(app: &App) {
    assert_eq!(large(app, TWO_MIB), (200, "true".to_owned()));
    let (status, refusal) = large(app, TWO_MIB + 1);
    assert_eq!(status, 503);
    assert!(
        refusal.contains("the value has 2097153 bytes, this store takes 2097152"),
        "{refusal}"
    );
}

#[test]
fn sqlite() {
    let config = "[key_value_store.results]\ntype = \"spin\"\npath = \"results.db\"\n";
    let app = App::start_in(
        &[("runtime-config.toml", config)],
        &manifest(),
        &[
            "--runtime-config-file",
            "runtime-config.toml",
            "--max-value-bytes",
            "2097152",
        ],
        &[],
    );
    conforms(&app);
    is_limited_by_the_operator(&app);
}

#[test]
fn redis() {
    let password = "s3cret/with @ and :";
    let Some(redis) = Redis::start(password) else {
        return;
    };
    let config = format!(
        "[key_value_store.results]\ntype = \"redis\"\n\
         url = \"redis://:{{{{ redis_password }}}}@127.0.0.1:{}\"\n",
        redis.port()
    );
    let app = App::start_in(
        &[("runtime-config.toml", &config)],
        &manifest(),
        &[
            "--runtime-config-file",
            "runtime-config.toml",
            "--max-value-bytes",
            "2097152",
        ],
        &[("SPIN_VARIABLE_REDIS_PASSWORD", password)],
    );
    conforms(&app);
    is_limited_by_the_operator(&app);
    // As Spin lays it out: the key as it is, a counter as decimal text.
    assert_eq!(redis.run(&["GET", "contended"]), "$2\r\n65\r\n");
    assert!(!app.log().contains("s3cret"), "{}", app.log());
}

#[test]
fn redis_by_tls() {
    let Some(redis) = Redis::start_tls("pass") else {
        return;
    };
    let config = format!(
        "[key_value_store.results]\ntype = \"redis\"\nurl = \"{}\"\n",
        redis.url()
    );
    let trusting = start(
        &config,
        &[("SSL_CERT_FILE", redis.ca_file().to_str().unwrap())],
    );
    assert_eq!(
        get(&trusting.url("/probe/count/results/n")),
        (200, "1".to_owned())
    );
    // An authority that nobody vouches for: nothing is sent to it.
    let distrusting = start(&config, &[]);
    let (status, error) = get(&distrusting.url("/probe/count/results/n"));
    assert_eq!(status, 503, "{error}");
    assert!(error.to_lowercase().contains("certificate"), "{error}");
    assert_eq!(get(&distrusting.admin("/readyz")).0, 503);
}

#[test]
fn dynamodb() {
    if let Some(dynamodb) = DynamoLocal::shared() {
        on_dynamodb(dynamodb.endpoint(), "conformance");
    }
}

/// The same table in an independent implementation of the service.
#[test]
fn ministack() {
    if let Some(ministack) = Ministack::start() {
        on_dynamodb(ministack.endpoint(), "conformance");
    }
}

fn on_dynamodb(endpoint: impl AsRef<str>, table: &str) {
    let endpoint = endpoint.as_ref();
    tables::create_table(endpoint, table);
    let config = format!(
        "[key_value_store.results]\ntype = \"aws_dynamo\"\nregion = \"eu-central-1\"\n\
         table = \"{table}\"\naccess_key = \"local\"\nsecret_key = \"local\"\nconsistent_read = true\n"
    );
    let app = start(&config, &[("AWS_ENDPOINT_URL_DYNAMODB", endpoint)]);
    conforms(&app);
    let (status, refusal) = large(&app, 400 * 1024);
    assert_eq!(status, 503);
    assert!(
        refusal.contains("the value has 409600 bytes, this store takes 4095"),
        "{refusal}"
    );
    assert_eq!(large(&app, 399 * 1024), (200, "true".to_owned()));
    let item = tables::call(
        endpoint,
        "GetItem",
        &json!({"TableName": table, "Key": {"PK": {"S": "contended"}}}),
    );
    // Spin's layout: decimal text, here in base64.
    assert_eq!(item["Item"]["VAL"]["B"], "NjU=", "{item}");
}
