//! Scripts of statements for several connections.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use anyhow::Context;
use serde_json::{Value, json};

/// Runs `script`, a line `NUMBER: STATEMENT` after the other. A connection is
/// opened for its first statement; the statement `close` drops it. The answer is
/// a list with what came of each.
pub(crate) fn run<C, E: std::fmt::Debug>(
    script: &str,
    open: impl Fn() -> Result<C, E>,
    execute: impl Fn(&C, &str) -> Result<Value, E>,
) -> anyhow::Result<String> {
    let mut connections = BTreeMap::new();
    let mut answers = Vec::new();
    for line in script.lines().filter(|line| !line.trim().is_empty()) {
        let (number, statement) = line.trim().split_once(": ").context("NUMBER: STATEMENT")?;
        if statement == "close" {
            connections.remove(number);
            continue;
        }
        let connection = match connections.entry(number) {
            Entry::Occupied(open) => Ok(open.into_mut()),
            Entry::Vacant(vacant) => open().map(|connection| vacant.insert(connection)),
        };
        let answer = connection.and_then(|connection| execute(connection, statement));
        answers.push(answer.unwrap_or_else(|error| json!({"error": format!("{error:?}")})));
    }
    Ok(Value::from(answers).to_string())
}

macro_rules! ensure {
    ($actual:expr, $expected:pat $(if $guard:expr)?) => {
        match $actual {
            $expected $(if $guard)? => {}
            other => return Err(format!("{}: {other:?}", stringify!($actual))),
        }
    };
}
pub(crate) use ensure;
