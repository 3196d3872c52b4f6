//! Runs `boto3/agreement.py`, one set of questions, against this server and against independent
//! ones, ministack and `LocalStack`: what is taken for SQS's behaviour here is so there, too, and
//! where it is not, the script says why.
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
use support::peers::{self, Peer};
use tokio::process::Command;

async fn agrees(url: &str, peer: &str) {
    let python = std::env::var("GRISTMILL_TEST_PYTHON")
        .expect("GRISTMILL_TEST_PYTHON is not set: run it through cargo xtask test");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/boto3/agreement.py");
    support::must_succeed(Command::new(python).arg(script).args([url, peer])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn this_server_deviates_nowhere() {
    let endpoint = Endpoint::start().await;
    agrees(&endpoint.url(), "ours").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ministack_deviates_where_it_is_known_to() {
    if let Some(ministack) = Peer::start(&peers::MINISTACK).await {
        agrees(&ministack.url(), "ministack").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn localstack_deviates_where_it_is_known_to() {
    if let Some(localstack) = Peer::start(&peers::LOCALSTACK).await {
        agrees(&localstack.url(), "localstack").await;
    }
}
