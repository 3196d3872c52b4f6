//! Notes each tick's time under `ticks` in the store `results`, and its environment
//! variable `GREETING` under `greeting`, then does what its variable `behaviour` says.
#![cfg(target_family = "wasm")]
#![allow(
    unsafe_code,
    clippy::same_length_and_capacity,
    reason = "generated bindings"
)]

use std::hint::black_box;
use std::time::Duration;

use bindings::{Error, Metadata};
use spin_sdk::key_value::Store;

#[allow(missing_docs, clippy::all, clippy::pedantic, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({ path: "../../../../wit/spin-cron.wit", world: "spin-cron" });
}

struct Tick;

impl bindings::Guest for Tick {
    fn handle_cron_event(metadata: Metadata) -> Result<(), Error> {
        let results = Store::open("results").map_err(other)?;
        let mut ticks = results.get("ticks").map_err(other)?.unwrap_or_default();
        ticks.extend_from_slice(format!("{}\n", metadata.timestamp).as_bytes());
        results.set("ticks", &ticks).map_err(other)?;
        if let Ok(greeting) = std::env::var("GREETING") {
            results
                .set("greeting", greeting.as_bytes())
                .map_err(other)?;
        }
        match spin_sdk::variables::get("behaviour").as_deref() {
            Ok("fail") => return Err(Error::Other("asked to fail".to_owned())),
            Ok("trap") => panic!("asked to panic"),
            Ok("loop") => loop {
                black_box(());
            },
            Ok("slow") => std::thread::sleep(Duration::from_millis(2500)),
            _ => {}
        }
        results.set("finished", &ticks).map_err(other)
    }
}

fn other(error: impl std::fmt::Debug) -> Error {
    Error::Other(format!("{error:?}"))
}

bindings::export!(Tick with_types_in bindings);
