//! Handles a message of a live run: its body is the service time in milliseconds, which is
//! waited, and perhaps ` poison` after it, which fails. Prints `begin ID` before and `end ID`
//! or `fail ID` after: the host logs each line before anything that comes later happens, so
//! that what was begun is known of a killed process, too.
#![cfg(target_family = "wasm")]
#![allow(
    unsafe_code,
    clippy::same_length_and_capacity,
    clippy::print_stdout,
    reason = "generated bindings; the printed lines are the account"
)]

use std::time::Duration;

use bindings::fermyon::spin_sqs::sqs_types::{Error, Message, MessageAction};

#[allow(missing_docs, clippy::all, clippy::pedantic, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({ path: "../../../wit/spin-sqs.wit", world: "spin-sqs" });
}

struct Handler;

impl bindings::Guest for Handler {
    fn handle_queue_message(message: Message) -> Result<MessageAction, Error> {
        let id = message.id.unwrap_or_default();
        println!("begin {id}");
        let body = message.body.unwrap_or_default();
        let (wait, rest) = body.split_once(' ').unwrap_or((&body, ""));
        let Ok(millis) = wait.parse() else {
            return Err(Error::Other(format!("reject: no service time: {body}")));
        };
        std::thread::sleep(Duration::from_millis(millis));
        if rest == "poison" {
            println!("fail {id}");
            return Err(Error::Other("poison".to_owned()));
        }
        println!("end {id}");
        Ok(MessageAction::Delete)
    }
}

bindings::export!(Handler with_types_in bindings);
