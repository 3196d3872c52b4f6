//! Nothing but `spin-sdk`, as any component of Spin's Redis trigger: does what the
//! message says, then adds it, as a line, to `messages-NAME` in the store `results`.
#![cfg(target_family = "wasm")]
#![allow(
    unsafe_code,
    clippy::same_length_and_capacity,
    reason = "generated bindings"
)]

use std::hint::black_box;
use std::time::Duration;

use anyhow::{Context, bail};
use spin_sdk::key_value::Store;
use spin_sdk::redis_component;

#[redis_component]
fn on_message(message: Vec<u8>) -> anyhow::Result<()> {
    let text = String::from_utf8_lossy(&message).into_owned();
    let (command, argument) = text.split_once(' ').unwrap_or((&text, ""));
    match command {
        "error" => bail!("asked to fail"),
        "trap" => panic!("asked to panic"),
        "loop" => loop {
            black_box(());
        },
        "sleep" => std::thread::sleep(Duration::from_millis(argument.parse()?)),
        _ => {}
    }
    let name = std::env::var("NAME").context("NAME is not set")?;
    let line = match std::str::from_utf8(&message) {
        Ok(text) => format!("{name} {text}\n"),
        Err(_) => format!("{name} {message:?}\n"),
    };
    let results = Store::open("results")?;
    let key = format!("messages-{name}");
    let mut lines = results.get(&key)?.unwrap_or_default();
    lines.extend_from_slice(line.as_bytes());
    results.set(&key, &lines)?;
    Ok(())
}
