//! Succeeds or fails by the plan in its message's body and by the receive count, so
//! that who sent it knows what each delivery must lead to. Label `results` gets a key
//! of its own for each call (`call/<id>/<receive count>/<random>`), before anything
//! else; the effect under `effect/<id>`; and, of a group, a line in `order/<group>`.
//!
//! The body is `<group> <number> <kind> <argument>`; the group `-` is none.
#![cfg(target_family = "wasm")]
#![allow(
    unsafe_code,
    clippy::same_length_and_capacity,
    reason = "generated bindings"
)]

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use bindings::fermyon::spin_sqs::sqs_types::{
    Error, Message, MessageAction, MessageAttributeValue,
};
use spin_sdk::key_value::Store;

#[allow(missing_docs, clippy::all, clippy::pedantic, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({ path: "../../../../wit/spin-sqs.wit", world: "spin-sqs" });
}

/// Longer than any deadline of the soak.
const TOO_LONG: Duration = Duration::from_mins(1);

struct Soak;

impl bindings::Guest for Soak {
    fn handle_queue_message(message: Message) -> Result<MessageAction, Error> {
        let id = message.id.clone().unwrap_or_default();
        let body = message.body.clone().unwrap_or_default();
        let mut words = body.split(' ');
        let mut word = || words.next().unwrap_or_default();
        let (group, number, kind, argument) = (word(), word(), word(), word());
        let argument: u64 = argument.parse().unwrap_or(0);
        let count = receive_count(&message);

        let results = Store::open("results").map_err(other)?;
        let random = RandomState::new().build_hasher().finish();
        let call = format!("call/{id}/{count}/{random:016x}");
        results.set(&call, body.as_bytes()).map_err(other)?;

        // The argument says how many deliveries fail.
        let fails = count <= argument;
        match kind {
            "slow" => std::thread::sleep(Duration::from_millis(argument)),
            "trap" if fails => panic!("asked to panic"),
            "error" if fails => return Err(Error::Other("asked to fail".to_owned())),
            "leave" if fails => return Ok(MessageAction::Leave),
            "late" if fails => std::thread::sleep(TOO_LONG),
            "poison" if count % 2 == 0 => panic!("asked to panic, always"),
            "poison" => return Err(Error::Other("asked to fail, always".to_owned())),
            "reject" => return Err(Error::Other("reject: asked to".to_owned())),
            _ => {}
        }
        if group != "-" {
            note_order(&results, group, number)?;
        }
        results
            .set(&format!("effect/{id}"), body.as_bytes())
            .map_err(other)?;
        Ok(MessageAction::Delete)
    }
}

/// Adds a line to what was handled of a group. Two at once would lose one: within a
/// group there never are two.
fn note_order(results: &Store, group: &str, number: &str) -> Result<(), Error> {
    let key = format!("order/{group}");
    let mut order = results.get(&key).map_err(other)?.unwrap_or_default();
    order.extend_from_slice(number.as_bytes());
    order.push(b'\n');
    results.set(&key, &order).map_err(other)
}

fn receive_count(message: &Message) -> u64 {
    let mut attributes = message.message_attributes.iter();
    let found = attributes.find(|attribute| attribute.name == "ApproximateReceiveCount");
    match found.map(|attribute| &attribute.value) {
        Some(MessageAttributeValue::Str(count)) => count.parse().unwrap_or(0),
        _ => 0,
    }
}

fn other(error: spin_sdk::key_value::Error) -> Error {
    Error::Other(format!("{error:?}"))
}

bindings::export!(Soak with_types_in bindings);
