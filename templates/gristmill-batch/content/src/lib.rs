//! The export that the queue trigger calls for each batch. It connects the logic
//! to the host, and decides nothing.
#![cfg_attr(
    not(target_family = "wasm"),
    allow(dead_code, reason = "natively, the logic is only tested")
)]

mod handler;

#[cfg(target_family = "wasm")]
mod component {
    use bindings::gristmill::queue::types::{Message, Outcome};

    use crate::handler::{Verdict, handle};

    mod bindings {
        wit_bindgen::generate!({ path: "wit", world: "batch-consumer" });
    }

    struct Plugin;

    impl bindings::Guest for Plugin {
        fn handle_batch(messages: Vec<Message>) -> Vec<Outcome> {
            let bodies: Vec<&str> = messages.iter().map(|m| m.body.as_str()).collect();
            let outcome = |verdict| match verdict {
                Verdict::Done(text) => {
                    // What goes to stderr is in the host's log.
                    eprintln!("{text}");
                    Outcome::Ack
                }
                Verdict::Never(reason) => Outcome::DeadLetter(reason),
            };
            handle(&bodies).into_iter().map(outcome).collect()
        }
    }

    bindings::export!(Plugin with_types_in bindings);
}
