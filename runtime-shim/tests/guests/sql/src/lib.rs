//! Runs the SQL that a request holds, and answers with what came of it.
//! `POST /run/sqlite/LABEL` and `POST /run/postgres` take a script: a statement
//! on each line, with the number of the connection it is for: `1: SELECT 1`.
//! `/suite/…` tries every call and every type of an interface.
#![cfg(target_family = "wasm")]
#![allow(
    unsafe_code,
    clippy::needless_pass_by_value,
    clippy::same_length_and_capacity,
    reason = "generated bindings"
)]

mod postgres;
mod script;
mod sqlite;

use spin_sdk::http::{IntoResponse, Request, Response};
use spin_sdk::http_component;

#[http_component]
fn handle(request: Request) -> anyhow::Result<impl IntoResponse> {
    let body = std::str::from_utf8(request.body())?;
    let path = request.path().trim_start_matches('/');
    let mut parts = path.splitn(4, '/').skip(1);
    let what = (parts.next(), parts.next(), parts.next());
    let answer = match what {
        (Some("run"), Some("sqlite"), Some(label)) => sqlite::run(label, body)?,
        (Some("run"), Some("postgres"), _) => postgres::run(body)?,
        (Some("suite"), Some("sqlite"), Some(label)) => verdict(sqlite::suite(label)),
        (Some("suite"), Some("postgres4"), _) => verdict(postgres::suite4(body)),
        (Some("suite"), Some("postgres-errors"), _) => verdict(postgres::errors(body)),
        (Some("suite"), Some("postgres3"), _) => verdict(postgres::suite3(body)),
        (Some("suite"), Some("postgres2"), _) => verdict(postgres::suite2(body)),
        _ => return Ok(Response::new(404, "no such thing")),
    };
    Ok(Response::new(200, answer))
}

/// `passed`, or where it went wrong.
fn verdict(outcome: Result<(), String>) -> String {
    match outcome {
        Ok(()) => "passed".to_owned(),
        Err(failure) => failure,
    }
}
