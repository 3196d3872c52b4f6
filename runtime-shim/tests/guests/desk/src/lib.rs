//! Hands everything on to what it imports, for requests and for messages.
#![cfg(target_family = "wasm")]
#![allow(
    unsafe_code,
    clippy::same_length_and_capacity,
    reason = "generated bindings"
)]

use bindings::acme::visits::{greeting, register};
use bindings::fermyon::spin_sqs::sqs_types::{Error, Message, MessageAction};
use spin_sdk::http::{IntoResponse, Request, Response};
use spin_sdk::http_component;
use spin_sdk::key_value::Store;

#[allow(missing_docs, clippy::all, clippy::pedantic, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({
        path: ["../visits/wit", "../../../../wit/spin-sqs.wit"],
        inline: "
            package gristmill:desk;
            world desk {
                import acme:visits/register@1.0.0;
                import acme:visits/greeting@1.0.0;
                import shout: func(text: string) -> string;
                include fermyon:spin-sqs/spin-sqs@2.0.0;
            }
        ",
        world: "gristmill:desk/desk",
        generate_all,
    });
}

/// `/desk/<verb>/<argument>`, and the body where an argument has slashes.
#[http_component]
fn handle(request: Request) -> impl IntoResponse {
    let mut words = request.path().trim_matches('/').split('/').skip(1);
    let verb = words.next().unwrap_or_default();
    let argument = words.next().unwrap_or_default();
    let text = String::from_utf8_lossy(request.body());
    let answer = match verb {
        "visit" => format!("{:?}", register::note(argument)),
        "greet" => greeting::greet(argument),
        "shout" => bindings::shout(argument),
        "attempt" => register::attempt(argument, &text),
        "own" => match Store::open(argument) {
            Ok(_) => "open".to_owned(),
            Err(error) => format!("{error:?}"),
        },
        other => format!("no such verb: {other}"),
    };
    Response::builder().status(200).body(answer).build()
}

struct Desk;

impl bindings::Guest for Desk {
    fn handle_queue_message(message: Message) -> Result<MessageAction, Error> {
        let who = message.body.unwrap_or_default();
        match register::note(&who) {
            Ok(_) => Ok(MessageAction::Delete),
            Err(error) => Err(Error::Other(error)),
        }
    }
}

bindings::export!(Desk with_types_in bindings);
