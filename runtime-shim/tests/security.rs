//! Attacks on the real application, each with the refusal that it must meet. A table row is an
//! attempt; a test is a family of them.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

#[path = "security/guessing.rs"]
mod guessing;
#[path = "security/input.rs"]
mod input;
#[path = "security/served.rs"]
mod served;
#[path = "security/sessions.rs"]
mod sessions;
#[path = "security/sites.rs"]
mod sites;
#[path = "security/uploads.rs"]
mod uploads;

use support::web::{Client, PASSWORD, id_of, token_of};
use support::{App, pictures, wait_for};

const WRONG: &str = "not what was chosen";

/// Logs in somewhere else and returns the token.
#[track_caller]
fn new_token(app: &App, username: &str) -> String {
    token_of(&Client::new(app).login(username, PASSWORD))
}

/// The service works for others, whatever was tried.
#[track_caller]
fn still_works(app: &App, client: &Client) {
    let id = id_of(&client.upload(&pictures::png(8, 8, 77)));
    wait_for("an honest thumbnail", || {
        let answer = client.get(&format!("/images/{id}/thumbnail"));
        (answer.status == 200).then_some(())
    });
    wait_for("the queue to be empty", || {
        (app.depth("images") == (0, 0, 0)).then_some(())
    });
    assert_eq!(app.depth("images-dlq"), (0, 0, 0));
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}
