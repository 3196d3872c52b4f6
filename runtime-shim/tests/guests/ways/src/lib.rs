//! One consumer with two exports, `handle-queue-message` and HTTP, which do the same:
//! what the message says, `<verb> <group> <rest>`. Label `results` gets, by group,
//! a line for each attempt under `begun/<group>` and one for each effect under
//! `done/<group>`; and under the message's id a line for each effect.
#![cfg(target_family = "wasm")]
#![allow(
    unsafe_code,
    clippy::same_length_and_capacity,
    reason = "generated bindings"
)]

use std::time::Duration;

use bindings::fermyon::spin_sqs::sqs_types::{Error, Message, MessageAction};
use spin_sdk::http::{IntoResponse, Request, Response};
use spin_sdk::http_component;
use spin_sdk::key_value::Store;

#[allow(missing_docs, clippy::all, clippy::pedantic, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({ path: "../../../../wit/spin-sqs.wit", world: "spin-sqs" });
}

/// Why a message is not done.
enum Failure {
    /// It may be done later.
    Again(String),
    /// It never will.
    Never(String),
}

impl From<spin_sdk::key_value::Error> for Failure {
    fn from(error: spin_sdk::key_value::Error) -> Self {
        Self::Again(format!("{error:?}"))
    }
}

struct Ways;

impl bindings::Guest for Ways {
    fn handle_queue_message(message: Message) -> Result<MessageAction, Error> {
        let body = message.body.unwrap_or_default();
        match handle(&message.id.unwrap_or_default(), &body) {
            Ok(()) => Ok(MessageAction::Delete),
            Err(Failure::Again(reason)) => Err(Error::Other(reason)),
            Err(Failure::Never(reason)) => Err(Error::Other(format!("reject: {reason}"))),
        }
    }
}

bindings::export!(Ways with_types_in bindings);

#[http_component]
fn handle_http(request: Request) -> impl IntoResponse {
    let id = request.header("gristmill-message-id");
    let id = id.and_then(|id| id.as_str()).unwrap_or_default();
    let (status, text) = match handle(id, &String::from_utf8_lossy(request.body())) {
        Ok(()) => (200, String::new()),
        Err(Failure::Again(reason)) => (503, reason),
        Err(Failure::Never(reason)) => (422, reason),
    };
    Response::builder().status(status).body(text).build()
}

/// Verbs that end in `-once` misbehave at the first attempt alone.
fn handle(id: &str, body: &str) -> Result<(), Failure> {
    let mut words = body.splitn(3, ' ');
    let (verb, group) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or("-"),
    );
    let results = Store::open("results")?;
    let begun = append(&results, &format!("begun/{group}"), body)?;
    let first = begun.lines().filter(|line| *line == body).count() == 1;
    let verb = match verb.strip_suffix("-once") {
        Some(_) if !first => "ok",
        Some(verb) => verb,
        None => verb,
    };
    match verb {
        "error" => return Err(Failure::Again("asked to fail".to_owned())),
        "reject" => return Err(Failure::Never("asked to".to_owned())),
        "trap" => panic!("asked to panic"),
        "loop" => loop {
            std::hint::black_box(());
        },
        verb => {
            if let Some(millis) = verb.strip_prefix("sleep-") {
                std::thread::sleep(Duration::from_millis(millis.parse().unwrap_or(0)));
            }
        }
    }
    append(&results, id, body)?;
    append(&results, &format!("done/{group}"), body)?;
    Ok(())
}

/// Adds a line; all of them.
fn append(results: &Store, key: &str, line: &str) -> Result<String, Failure> {
    let mut lines = results.get(key)?.unwrap_or_default();
    lines.extend_from_slice(line.as_bytes());
    lines.push(b'\n');
    results.set(key, &lines)?;
    Ok(String::from_utf8_lossy(&lines).into_owned())
}
