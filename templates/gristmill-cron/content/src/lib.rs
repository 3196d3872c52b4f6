//! The export that the cron trigger calls when it is time. It connects the logic
//! to the host, and decides nothing.
#![cfg_attr(
    not(target_family = "wasm"),
    allow(dead_code, reason = "natively, the logic is only tested")
)]

mod report;

#[cfg(target_family = "wasm")]
mod component {
    use bindings::{Error, Metadata};

    mod bindings {
        wit_bindgen::generate!({ path: "wit", world: "spin-cron" });
    }

    struct Plugin;

    impl bindings::Guest for Plugin {
        fn handle_cron_event(metadata: Metadata) -> Result<(), Error> {
            // What goes to stderr is in the host's log.
            eprintln!("{}", crate::report::report(metadata.timestamp));
            Ok(())
        }
    }

    bindings::export!(Plugin with_types_in bindings);
}
