//! Does what the message's body says. Label `results` gets, before anything
//! else, the time of each attempt under `attempts/<body>` (with
//! `-` for spaces), and, when the message
//! is handled, the body under the message's id.
#![cfg(target_family = "wasm")]
#![allow(
    unsafe_code,
    clippy::same_length_and_capacity,
    reason = "generated bindings"
)]

use std::hint::black_box;
use std::time::{Duration, SystemTime};

use bindings::fermyon::spin_sqs::sqs_types::{
    Error, Message, MessageAction, MessageAttributeValue,
};
use spin_sdk::key_value::Store;

#[allow(missing_docs, clippy::all, clippy::pedantic, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({ path: "../../../../wit/spin-sqs.wit", world: "spin-sqs" });
}

struct Worker;

impl bindings::Guest for Worker {
    fn handle_queue_message(message: Message) -> Result<MessageAction, Error> {
        let id = message.id.clone().unwrap_or_default();
        let body = message.body.clone().unwrap_or_default();
        // `ok 17`: only the first word is a command, the rest makes it distinct.
        let (command, argument) = body.split_once(' ').unwrap_or((&body, ""));
        let results = Store::open("results").map_err(other)?;
        if command != "ok" {
            note_attempt(&results, &body)?;
        }
        match command {
            "error" => return Err(Error::Other("asked to fail".to_owned())),
            "reject" => return Err(Error::Other("reject: asked to".to_owned())),
            "leave" => return Ok(MessageAction::Leave),
            "trap" => panic!("asked to panic"),
            "loop" => loop {
                black_box(());
            },
            "allocate" => allocate(),
            "recurse" => {
                black_box(recurse(0));
            }
            "sleep" => std::thread::sleep(Duration::from_millis(argument.parse().unwrap_or(0))),
            "print" => println!("{argument}"),
            "env" => answer(&results, std::env::var(argument))?,
            "read" => answer(&results, std::fs::read_to_string(argument))?,
            "write" => answer(
                &results,
                std::fs::write(argument, "written").map(|()| "done".to_owned()),
            )?,
            "attributes" => {
                let seen: Vec<String> = message.message_attributes.iter().map(describe).collect();
                results
                    .set("attributes", seen.join("\n").as_bytes())
                    .map_err(other)?;
            }
            _ => {}
        }
        results.set(&id, body.as_bytes()).map_err(other)?;
        Ok(MessageAction::Delete)
    }
}

/// What was seen, or the error.
fn answer<E: std::fmt::Display>(results: &Store, seen: Result<String, E>) -> Result<(), Error> {
    let seen = seen.unwrap_or_else(|error| format!("error: {error}"));
    results.set("answer", seen.as_bytes()).map_err(other)
}

fn note_attempt(results: &Store, body: &str) -> Result<(), Error> {
    let key = format!("attempts/{}", body.replace(' ', "-"));
    let mut attempts = results.get(&key).map_err(other)?.unwrap_or_default();
    let now = SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap_or_default()
        .as_millis();
    attempts.extend_from_slice(format!("{now}\n").as_bytes());
    results.set(&key, &attempts).map_err(other)
}

fn describe(attribute: &bindings::fermyon::spin_sqs::sqs_types::MessageAttribute) -> String {
    let kind = attribute.data_type.as_deref().unwrap_or("-");
    match &attribute.value {
        MessageAttributeValue::Str(text) => format!("{} {kind} {text}", attribute.name),
        MessageAttributeValue::Binary(bytes) => format!("{} {kind} {bytes:?}", attribute.name),
    }
}

fn allocate() {
    let mut hoard: Vec<Vec<u8>> = Vec::new();
    loop {
        hoard.push(black_box(vec![1; 1 << 20]));
    }
}

#[allow(unconditional_recursion, reason = "that is what it is for")]
fn recurse(depth: u64) -> u64 {
    black_box([depth; 64]);
    recurse(black_box(depth + 1)) + 1
}

fn other(error: spin_sdk::key_value::Error) -> Error {
    Error::Other(format!("{error:?}"))
}

bindings::export!(Worker with_types_in bindings);
