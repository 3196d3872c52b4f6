//! The export that the queue trigger calls for each message. It connects the
//! logic to the host, and decides nothing.
#![cfg_attr(
    not(target_family = "wasm"),
    allow(dead_code, reason = "natively, the logic is only tested")
)]

mod handler;

#[cfg(target_family = "wasm")]
mod component {
    use bindings::fermyon::spin_sqs::sqs_types::{Error, Message, MessageAction};

    mod bindings {
        wit_bindgen::generate!({ path: "wit", world: "spin-sqs" });
    }

    struct Plugin;

    impl bindings::Guest for Plugin {
        fn handle_queue_message(message: Message) -> Result<MessageAction, Error> {
            let body = message.body.as_deref().unwrap_or_default();
            let done =
                crate::handler::handle(body).map_err(|reject| Error::Other(reject.to_string()))?;
            // What goes to stderr is in the host's log.
            eprintln!("{done}");
            Ok(MessageAction::Delete)
        }
    }

    bindings::export!(Plugin with_types_in bindings);
}
