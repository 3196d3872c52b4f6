//! The bad days: outages of the endpoint and `kill -9`s of the shim, in an order that
//! the seed decides, each when a certain part of the messages is done.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fastrand::Rng;
use rusqlite::{Connection, OpenFlags};

use crate::proxy::{Mode, Proxy};
use crate::support::App;

/// How many `kill -9`s.
pub const KILLS: usize = 3;
/// From one event to the next.
const STALLED: Duration = Duration::from_mins(5);

#[derive(Clone, Copy, Debug)]
pub enum Event {
    Outage(Mode),
    Kill,
    /// While the endpoint hangs.
    KillInOutage,
}

/// Each kind of outage so many times, and the kills spread between them.
pub fn schedule(rng: &mut Rng, outages: usize) -> Vec<Event> {
    let modes = [
        Mode::Refuse,
        Mode::InternalError,
        Mode::Unavailable,
        Mode::Throttle,
        Mode::Hang,
    ];
    let mut events: Vec<Event> = modes
        .into_iter()
        .flat_map(|mode| std::iter::repeat_n(Event::Outage(mode), outages))
        .collect();
    rng.shuffle(&mut events);
    for kill in 1..=KILLS {
        let at = kill * events.len() / (KILLS + 1);
        let event = if kill == 2 {
            Event::KillInOutage
        } else {
            Event::Kill
        };
        events.insert(at, event);
    }
    events
}

/// One life of the shim.
pub struct Life {
    pub log: String,
    /// What its metric said of messages handled again, at the last look.
    pub reinvocations: u64,
    /// Messages that were begun and had no end when it was killed: for each queue.
    pub in_flight: [BTreeSet<String>; 2],
}

/// Lets it all happen; the lives that ended so. `deletable` is how many messages
/// will be deleted in the end.
pub fn run(
    events: &[Event],
    rng: &mut Rng,
    proxy: &Proxy,
    app: &mut App,
    deletable: u64,
) -> Vec<Life> {
    let mut lives = Vec::new();
    for (index, event) in events.iter().enumerate() {
        let part = (index + 1) as f64 / (events.len() + 2) as f64;
        wait_until_deleted(proxy, (part * deletable as f64) as u64);
        match event {
            Event::Outage(mode) => {
                proxy.set(*mode);
                // A call that hangs is given up after 4 s, a lease after 5.
                let millis = match mode {
                    Mode::Hang => rng.u64(4_500..6_000),
                    _ => rng.u64(300..1_500),
                };
                std::thread::sleep(Duration::from_millis(millis));
                proxy.set(Mode::Pass);
            }
            Event::Kill => {
                lives.push(end(app));
                app.restart();
            }
            Event::KillInOutage => {
                proxy.set(Mode::Hang);
                std::thread::sleep(Duration::from_millis(rng.u64(100..1_000)));
                lives.push(end(app));
                proxy.set(Mode::Pass);
                app.restart();
            }
        }
    }
    lives
}

/// Bounded by what happens.
pub fn wait_until_deleted(proxy: &Proxy, goal: u64) {
    let mut seen = proxy.deleted();
    let mut since = Instant::now();
    while seen < goal {
        std::thread::sleep(Duration::from_millis(2));
        if proxy.deleted() > seen {
            (seen, since) = (proxy.deleted(), Instant::now());
        }
        assert!(
            since.elapsed() < STALLED,
            "{seen} messages done, and no more"
        );
    }
}

/// `kill -9`, and what is known of that life.
pub fn end(app: &mut App) -> Life {
    let reinvocations = app.metric("gristmill_reinvocations_total", "") as u64;
    let log = app.kill_and_read();
    let begun = read(&store(app.dir(), "seen"), "seen", |key, value| {
        let known = value.starts_with(b"begun").then(|| key.to_owned());
        known.filter(|key| key.starts_with("gristmill-dedup/"))
    });
    let (ordered, parallel) = begun.into_iter().partition(|key| key.contains(".fifo/"));
    Life {
        log,
        reinvocations,
        in_flight: [parallel, ordered],
    }
}

/// The file of an embedded store.
pub fn store(dir: &Path, label: &str) -> PathBuf {
    dir.join(format!(".spin/sqlite_key_value-{label}.db"))
}

/// Keys and values of a store whose host does not run.
pub fn read<T>(file: &Path, label: &str, mut each: impl FnMut(&str, &[u8]) -> Option<T>) -> Vec<T> {
    // Writable: the log that a killed process left is read into the file.
    let database = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
    let mut rows = database
        .prepare("SELECT key, value FROM spin_key_value WHERE store = ?1")
        .unwrap();
    let rows = rows.query_map([label], |row| {
        let (key, value): (String, Vec<u8>) = (row.get(0)?, row.get(1)?);
        Ok(each(&key, &value))
    });
    rows.unwrap().filter_map(Result::unwrap).collect()
}
