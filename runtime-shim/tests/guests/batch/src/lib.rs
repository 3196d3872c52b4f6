//! Does what the bodies of a batch say. Label `results` gets the bodies of each
//! call under `calls`, a line for each, and those that were acked under their ids.
#![cfg(target_family = "wasm")]
#![allow(
    unsafe_code,
    clippy::same_length_and_capacity,
    reason = "generated bindings"
)]

use std::time::Duration;

use bindings::gristmill::queue::types::{Attribute, AttributeValue, Message, Outcome};
use spin_sdk::key_value::Store;

#[allow(missing_docs, clippy::all, clippy::pedantic, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({ path: "../../../../wit/gristmill-queue.wit", world: "batch-consumer" });
}

struct Batch;

impl bindings::Guest for Batch {
    fn handle_batch(messages: Vec<Message>) -> Vec<Outcome> {
        let results = Store::open("results").expect("results are granted");
        note(&results, &messages);
        let mut outcomes: Vec<Outcome> = messages.iter().map(|m| handle(&results, m)).collect();
        for message in messages.iter().filter(|m| m.receive_count == 1) {
            match message.body.as_str() {
                "missing" => drop(outcomes.pop()),
                "surplus" => outcomes.push(Outcome::Ack),
                _ => {}
            }
        }
        outcomes
    }
}

fn handle(results: &Store, message: &Message) -> Outcome {
    let body = message.body.as_str();
    match body.split(' ').next().unwrap_or_default() {
        "panic" => panic!("asked to panic"),
        "sleep" => {
            let millis = body.split(' ').nth(1).and_then(|word| word.parse().ok());
            std::thread::sleep(Duration::from_millis(millis.unwrap_or(0)));
        }
        "bury" => return Outcome::DeadLetter("asked to".to_owned()),
        "again" if message.receive_count == 1 => return Outcome::Retry(Some(1)),
        "later" if message.receive_count == 1 => return Outcome::Retry(None),
        _ => {}
    }
    let seen = match body {
        "describe" => describe(message),
        body => body.to_owned(),
    };
    match results.set(&message.id, seen.as_bytes()) {
        Ok(()) => Outcome::Ack,
        Err(_) => Outcome::Retry(None),
    }
}

/// Adds a line for this call.
fn note(results: &Store, messages: &[Message]) {
    let bodies: Vec<&str> = messages.iter().map(|m| m.body.as_str()).collect();
    let mut calls = results.get("calls").ok().flatten().unwrap_or_default();
    calls.extend_from_slice(bodies.join(",").as_bytes());
    calls.push(b'\n');
    results.set("calls", &calls).expect("results take it");
}

fn describe(message: &Message) -> String {
    let attributes: Vec<String> = message.attributes.iter().map(attribute).collect();
    format!(
        "receive {} sent {} first {} group {} {}",
        message.receive_count,
        message.sent_at.is_some(),
        message.first_received_at.is_some(),
        message.group_id.as_deref().unwrap_or("-"),
        attributes.join(" ")
    )
}

fn attribute(attribute: &Attribute) -> String {
    let kind = attribute.data_type.as_deref().unwrap_or("-");
    match &attribute.value {
        AttributeValue::Text(text) => format!("{}:{kind}={text}", attribute.name),
        AttributeValue::Binary(bytes) => format!("{}:{kind}={bytes:?}", attribute.name),
    }
}

bindings::export!(Batch with_types_in bindings);
