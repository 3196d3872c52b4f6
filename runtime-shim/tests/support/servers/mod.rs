//! Real servers for tests: each on a free port of the loopback device, with a folder
//! of its own, and gone with the test. Where the programs are comes from `cargo xtask test`;
//! by hand: `eval "$(cargo xtask servers)"`. Knows nothing of the host under test.
//!
//! `start` returns `None` where this machine has no such server, after saying so; it panics
//! instead when `GRISTMILL_TEST_REQUIRE_SERVERS` is set.

#![allow(unused_imports, reason = "each test file uses a part")]

mod dynamodb;
mod localstack;
mod ministack;
mod mosquitto;
mod postgres;
mod process;
mod queue;
mod redis;
mod registry;
mod tls;

pub use dynamodb::DynamoLocal;
pub use localstack::LocalStack;
pub use ministack::Ministack;
pub use mosquitto::Mosquitto;
pub use postgres::Postgres;
pub use process::{Kind, Port, Server};
pub use queue::QueueServer;
pub use redis::Redis;
pub use registry::Registry;

use std::io::Write;
use std::path::PathBuf;

/// Where a program is, or nothing on a machine without it.
pub fn program(variable: &str) -> Option<PathBuf> {
    let found = std::env::var_os(variable);
    assert!(
        found.is_some() || std::env::var_os("GRISTMILL_TEST_REQUIRE_SERVERS").is_none(),
        "{variable} is not set, although GRISTMILL_TEST_REQUIRE_SERVERS is: \
         run it through `cargo xtask test`, whose report says what is missing"
    );
    program_if_any(variable)
}

/// The same for one that many machines cannot have: it is never required.
pub fn program_if_any(variable: &str) -> Option<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        return Some(path.into());
    }
    let test = std::thread::current();
    // Not by `eprintln!`, which a test that passes swallows.
    let _ = writeln!(
        std::io::stderr(),
        "SKIPPED {}: {variable} is not set (run `eval \"$(cargo xtask servers)\"` first)",
        test.name().unwrap_or("a test"),
    );
    None
}
