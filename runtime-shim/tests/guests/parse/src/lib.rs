//! Parses the body as JSON: the least that a useful plugin does.
#![cfg(target_family = "wasm")]
#![allow(
    unsafe_code,
    clippy::same_length_and_capacity,
    reason = "generated bindings"
)]

use bindings::fermyon::spin_sqs::sqs_types::{Error, Message, MessageAction};

#[allow(missing_docs, clippy::all, clippy::pedantic, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({ path: "../../../../wit/spin-sqs.wit", world: "spin-sqs" });
}

struct Parse;

impl bindings::Guest for Parse {
    fn handle_queue_message(message: Message) -> Result<MessageAction, Error> {
        let body = message.body.unwrap_or_default();
        match serde_json::from_str::<serde_json::Value>(&body) {
            Ok(value) if value.is_object() => Ok(MessageAction::Delete),
            Ok(_) => Ok(MessageAction::Leave),
            Err(error) => Err(Error::Other(error.to_string())),
        }
    }
}

bindings::export!(Parse with_types_in bindings);
