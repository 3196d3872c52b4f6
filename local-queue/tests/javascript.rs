//! Runs `javascript/sqs.test.mjs`, the unmodified AWS SDK for JavaScript, against a real server.
//! Node and the packages come from `cargo xtask test`.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    dead_code,
    reason = "a test stops at the first failure; `support` is shared by several test binaries"
)]

mod support;

use std::path::Path;

use support::Endpoint;
use tokio::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn the_sdk_for_javascript_finds_what_it_expects() {
    let Some(node) = support::tool("GRISTMILL_TEST_NODE") else {
        return;
    };
    let Some(modules) = support::tool("GRISTMILL_TEST_SQS_MODULES") else {
        return;
    };
    let endpoint = Endpoint::start().await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/javascript/sqs.test.mjs");
    let mut command = Command::new(node);
    command.args(["--test", "--test-reporter=spec"]).arg(script);
    command.env("GRISTMILL_TEST_SQS_MODULES", modules);
    command.env("GRISTMILL_TEST_ENDPOINT", endpoint.url());
    support::must_succeed(&mut command).await;
}
