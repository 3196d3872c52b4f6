//! Runs `boto3/test_boto3.py`, unmodified boto3, against a real server. The interpreter comes
//! from `cargo xtask test`, which makes the environment of `boto3/requirements.txt`.
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
async fn boto3_finds_what_it_expects() {
    let python = std::env::var("GRISTMILL_TEST_PYTHON")
        .expect("GRISTMILL_TEST_PYTHON is not set: run it through cargo xtask test");
    let endpoint = Endpoint::start().await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/boto3/test_boto3.py");
    support::must_succeed(Command::new(python).arg(script).arg(endpoint.url())).await;
}
