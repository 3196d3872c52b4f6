//! Exports `handle-queue-message` and, being a program, `wasi:cli/run`; prints
//! which of the two was called.
#![cfg_attr(
    target_family = "wasm",
    allow(
        unsafe_code,
        clippy::same_length_and_capacity,
        reason = "generated bindings"
    )
)]
#![allow(clippy::print_stdout, reason = "printing is what it is for")]

#[cfg(target_family = "wasm")]
mod handler {
    use bindings::fermyon::spin_sqs::sqs_types::{Error, Message, MessageAction};

    #[allow(missing_docs, clippy::all, clippy::pedantic, reason = "generated")]
    mod bindings {
        wit_bindgen::generate!({ path: "../../../../wit/spin-sqs.wit", world: "spin-sqs" });
    }

    struct Both;

    impl bindings::Guest for Both {
        fn handle_queue_message(message: Message) -> Result<MessageAction, Error> {
            println!("the handler got {}", message.body.unwrap_or_default());
            Ok(MessageAction::Delete)
        }
    }

    bindings::export!(Both with_types_in bindings);
}

fn main() {
    println!("the program was run");
}
