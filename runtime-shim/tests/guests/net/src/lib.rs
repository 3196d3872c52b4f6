//! Carries out the script that a request brings, a step in each line, and
//! answers with what each step gave. All steps run in one sandbox; what a step
//! opens is used by those that follow.
#![cfg(target_family = "wasm")]
#![allow(unsafe_code, reason = "generated bindings")]

mod mqtt;
mod redis;
mod sockets;

use std::time::Duration;

use spin_sdk::http::{IntoResponse, Request, Response};
use spin_sdk::http_component;

#[http_component]
fn handle(request: Request) -> impl IntoResponse {
    let script = String::from_utf8_lossy(request.body()).into_owned();
    let mut open = Open::default();
    let answers: Vec<String> = script.lines().map(|step| open.step(step)).collect();
    Response::builder()
        .status(200)
        .body(answers.join("\n"))
        .build()
}

/// What the script has open.
#[derive(Default)]
struct Open {
    redis: Vec<spin_sdk::redis::Connection>,
    mqtt: Vec<spin_sdk::mqtt::Connection>,
}

impl Open {
    fn step(&mut self, step: &str) -> String {
        let mut words = step.split(' ');
        let (verb, words) = (
            words.next().unwrap_or_default(),
            words.collect::<Vec<&str>>(),
        );
        match (verb, words.as_slice()) {
            ("sleep", [millis]) => {
                std::thread::sleep(Duration::from_millis(millis.parse().unwrap_or(0)));
                "awake".to_owned()
            }
            ("redis", words) => redis::step(&mut self.redis, words),
            ("mqtt", words) => mqtt::step(&mut self.mqtt, words),
            ("socket", words) => sockets::step(words),
            _ => format!("no such step: {step}"),
        }
    }
}
