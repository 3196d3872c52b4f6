//! How long one message takes that comes alone: from the moment its sender begins to
//! send it until it is settled, with the embedded parts.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use std::time::{Duration, Instant};

use support::App;

const MESSAGES: usize = 41;
const BAR: Duration = Duration::from_millis(20);

#[test]
fn a_lone_message_is_stored_and_settled_within_20_ms() {
    let app = App::start_own();
    // The first call of a component is slower; users measure the others.
    one(&app);
    let mut took: Vec<Duration> = (0..MESSAGES).map(|_| one(&app)).collect();
    took.sort_unstable();
    let (best, median) = (took[0], took[MESSAGES / 2]);
    println!("send to settled: best {best:?}, median {median:?}");
    assert!(median <= BAR, "the median is {median:?}, all: {took:?}");
}

/// Sends one message and asks for the queue's depth until it is gone.
fn one(app: &App) -> Duration {
    let begun = Instant::now();
    app.send("messages", r#"{"order": 4711}"#);
    while app.depth("messages") != (0, 0, 0) {
        assert!(begun.elapsed() < Duration::from_secs(30), "never settled");
    }
    begun.elapsed()
}
