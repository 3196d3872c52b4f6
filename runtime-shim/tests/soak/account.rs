//! What came of every message, by what the component, the queue and the log say; and
//! whether that is what must have come of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::{self, Write};
use std::path::Path;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::QUEUES;
use crate::chaos::{Life, read, store};
use crate::plan::{Kind, Planned};

/// How the log begins to tell that a message is handled again.
const AGAIN: &str = "handled again";

/// Everything that one queue and the component on it left behind.
pub struct Left<'a> {
    pub planned: &'a [Planned],
    /// The id of each planned message, in their order.
    pub ids: &'a [String],
    /// Bodies and receive counts of dead letters.
    pub dead: Vec<(String, bool)>,
    pub lives: &'a [Life],
    /// Which of the two queues.
    pub queue: usize,
    /// Messages that may be in flight at once.
    pub most_in_flight: u64,
}

/// A line of the account.
struct Row {
    what: String,
    found: u64,
    expected: Expected,
}

enum Expected {
    Exactly(u64),
    AtMost(u64),
    AtLeast(u64),
    Anything,
    /// The line is a heading.
    Nothing,
}

impl Row {
    fn holds(&self) -> bool {
        match self.expected {
            Expected::Exactly(number) => self.found == number,
            Expected::AtMost(number) => self.found <= number,
            Expected::AtLeast(number) => self.found >= number,
            Expected::Anything | Expected::Nothing => true,
        }
    }
}

/// Lines, and whether each holds.
#[derive(Default)]
pub struct Account {
    rows: Vec<Row>,
    notes: Vec<String>,
}

impl Account {
    pub fn balances(&self) -> bool {
        self.rows.iter().all(Row::holds)
    }

    pub fn exactly(&mut self, what: impl Into<String>, found: u64, number: u64) {
        self.add(what, found, Expected::Exactly(number));
    }

    pub fn at_most(&mut self, what: impl Into<String>, found: u64, number: u64) {
        self.add(what, found, Expected::AtMost(number));
    }

    pub fn at_least(&mut self, what: impl Into<String>, found: u64, number: u64) {
        self.add(what, found, Expected::AtLeast(number));
    }

    pub fn fact(&mut self, what: impl Into<String>, found: u64) {
        self.add(what, found, Expected::Anything);
    }

    pub fn heading(&mut self, what: &str) {
        self.add(what, 0, Expected::Nothing);
    }

    fn add(&mut self, what: impl Into<String>, found: u64, expected: Expected) {
        let what = what.into();
        self.rows.push(Row {
            what,
            found,
            expected,
        });
    }

    /// The first few of what must not be.
    fn note(&mut self, what: &str, examples: &[String]) {
        for example in examples.iter().take(5) {
            self.notes.push(format!("{what}: {example}"));
        }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in &self.rows {
            if matches!(row.expected, Expected::Nothing) {
                let line = format!("\n{:<58} {:>9} {:>11}", row.what, "found", "expected");
                writeln!(f, "{line}")?;
                continue;
            }
            let expected = match row.expected {
                Expected::Exactly(number) => number.to_string(),
                Expected::AtMost(number) => format!("≤ {number}"),
                Expected::AtLeast(number) => format!("≥ {number}"),
                Expected::Anything | Expected::Nothing => String::new(),
            };
            let verdict = match row.expected {
                Expected::Anything => "",
                _ if row.holds() => "ok",
                _ => "WRONG",
            };
            let line = format!(
                "{:<58} {:>9} {expected:>11}  {verdict}",
                row.what, row.found
            );
            writeln!(f, "{}", line.trim_end())?;
        }
        for note in &self.notes {
            writeln!(f, "  {note}")?;
        }
        Ok(())
    }
}

/// What the component left in its store.
#[derive(Default)]
pub struct Results {
    /// By message id: the receive counts of its calls.
    calls: HashMap<String, Vec<u64>>,
    effects: HashMap<String, String>,
    orders: BTreeMap<String, Vec<u64>>,
}

impl Results {
    pub fn read(dir: &Path) -> Self {
        let mut results = Self::default();
        read(
            &store(dir, "results"),
            "results",
            |key, value| -> Option<()> {
                let text = String::from_utf8_lossy(value).into_owned();
                match key.split('/').collect::<Vec<_>>()[..] {
                    ["call", id, count, _] => {
                        let calls = results.calls.entry(id.to_owned()).or_default();
                        calls.push(count.parse().unwrap());
                    }
                    ["effect", id] => drop(results.effects.insert(id.to_owned(), text)),
                    ["order", group] => {
                        let order = text.lines().map(|line| line.parse().unwrap()).collect();
                        results.orders.insert(group.to_owned(), order);
                    }
                    _ => panic!("a key that nobody writes: {key}"),
                }
                None
            },
        );
        results
    }
}

/// What the log says of messages, by their ids.
#[derive(Default)]
struct Log {
    /// Handled again, as it was begun before.
    again: u64,
    leases_lost: u64,
    /// Put off, as the de-duplication store was late: they may be noted as begun.
    store_late: u64,
    /// Failures of deliveries that were to complete.
    unplanned: BTreeMap<String, u64>,
}

fn read_log(lives: &[Life], kinds: &HashMap<&str, Kind>) -> Log {
    let mut log = Log::default();
    let lines = lives.iter().flat_map(|life| life.log.lines());
    for line in lines.filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let Some(kind) = line["message_id"].as_str().and_then(|id| kinds.get(id)) else {
            continue;
        };
        let message = line["message"].as_str().unwrap_or_default();
        if message.starts_with(AGAIN) {
            log.again += 1;
        } else if message.starts_with("the lease was lost") {
            log.leases_lost += 1;
        } else if message.starts_with("the de-duplication store does not answer") {
            log.store_late += 1;
        } else if message.starts_with("message failed")
            && kind.completes(line["receive_count"].as_u64().unwrap_or(0))
        {
            *log.unplanned.entry(message.to_owned()).or_default() += 1;
        }
    }
    log
}

/// Adds the account of one queue.
pub fn settle(account: &mut Account, results: &Results, left: &Left<'_>) {
    let Left { planned, ids, .. } = left;
    let lasting: Vec<_> = (0..planned.len())
        .filter(|i| !planned[*i].kind.dies())
        .collect();
    account.exactly("messages sent", ids.len() as u64, planned.len() as u64);

    let (there, missing): (Vec<&usize>, _) = lasting
        .iter()
        .partition(|i| results.effects.get(&ids[**i]) == Some(&planned[**i].body));
    account.exactly(
        "effects, one for each id",
        there.len() as u64,
        lasting.len() as u64,
    );
    let missing: Vec<_> = missing.iter().map(|i| planned[**i].body.clone()).collect();
    account.note("without its effect", &missing);
    let dying = planned
        .iter()
        .zip(*ids)
        .filter(|(planned, _)| planned.kind.dies());
    let odd = dying
        .filter(|(_, id)| results.effects.contains_key(*id))
        .count();
    account.exactly("effects of what must fail", odd as u64, 0);

    dead_letters(account, left);
    calls(account, results, left);
    if planned.iter().any(|planned| planned.group.is_some()) {
        order(account, results, planned);
    }
}

fn dead_letters(account: &mut Account, left: &Left<'_>) {
    let poison = |wanted: Kind| -> BTreeSet<&str> {
        let of_kind = left.planned.iter().filter(|planned| planned.kind == wanted);
        of_kind.map(|planned| planned.body.as_str()).collect()
    };
    for (what, kind, with_reason) in [
        (
            "dead letters by redrive: what always fails",
            Kind::Poison,
            false,
        ),
        (
            "dead letters with a reason: what was rejected",
            Kind::Reject,
            true,
        ),
    ] {
        let expected = poison(kind);
        let dead = left
            .dead
            .iter()
            .filter(|(_, reason)| *reason == with_reason);
        let dead: Vec<&str> = dead.map(|(body, _)| body.as_str()).collect();
        let distinct: BTreeSet<&str> = dead.iter().copied().collect();
        let right = distinct.intersection(&expected).count() as u64;
        account.exactly(what, right, expected.len() as u64);
        let wrong: Vec<_> = distinct
            .difference(&expected)
            .map(|b| (*b).to_owned())
            .collect();
        account.exactly("  others among them", wrong.len() as u64, 0);
        account.note("must not be dead", &wrong);
        let copies = (dead.len() - distinct.len()) as u64;
        if with_reason {
            account.fact(
                "  copies: the answer of their send or delete was lost",
                copies,
            );
        } else {
            account.exactly("  twice", copies, 0);
        }
    }
}

fn calls(account: &mut Account, results: &Results, left: &Left<'_>) {
    let ids = left.ids.iter().map(String::as_str);
    let kinds: HashMap<&str, Kind> = ids.zip(left.planned.iter().map(|p| p.kind)).collect();
    let (mut all, mut second) = (0, 0);
    for (id, kind) in &kinds {
        let calls = results.calls.get(*id).map_or(&[][..], Vec::as_slice);
        all += calls.len() as u64;
        let completing = calls.iter().filter(|count| kind.completes(**count)).count() as u64;
        second += completing.saturating_sub(1);
    }
    let log = read_log(left.lives, &kinds);
    let in_flight = in_flight(account, left);
    account.fact("calls", all);
    account.fact("lost: leases, with their calls stopped", log.leases_lost);
    if log.store_late > 0 {
        account.fact("lost: the de-duplication store was late", log.store_late);
    }
    for (reason, times) in &log.unplanned {
        account.fact(format!("not planned: {reason}"), *times);
    }
    let unplanned: u64 = log.unplanned.values().sum();
    account.at_most(
        "handled again, as counted (≤ in flight at kills + lost)",
        log.again,
        in_flight + log.leases_lost + log.store_late,
    );
    account.at_most(
        "calls beyond the first that had to do (≤ handled again)",
        second,
        log.again + unplanned,
    );
}

/// Messages that were begun and had no end when the shim was killed. One that an
/// earlier kill had left so counts again if it was begun again since.
fn in_flight(account: &mut Account, left: &Left<'_>) -> u64 {
    // The last life ended when all was done.
    let killed = &left.lives[..left.lives.len() - 1];
    let mut before = &BTreeSet::new();
    let mut all = 0;
    for (kill, life) in killed.iter().enumerate() {
        let here = &life.in_flight[left.queue];
        let again = begun_again(&life.log, QUEUES[left.queue]);
        let held = |key: &&String| !before.contains(*key) || again.contains(*key);
        let held = here.iter().filter(held).count() as u64;
        let what = format!("in flight at kill {}", kill + 1);
        account.at_most(what, held, left.most_in_flight);
        all += held;
        before = here;
    }
    all
}

/// The keys of the de-duplication store of what was handled again.
fn begun_again(log: &str, queue: &str) -> BTreeSet<String> {
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let again = lines.filter(|line| {
        let message = line["message"].as_str();
        message.is_some_and(|message| message.starts_with(AGAIN))
    });
    let key = |line: Value| {
        let id = line["message_id"].as_str().unwrap_or_default().to_owned();
        let digest = Sha256::new().chain_update(b"id ").chain_update(id);
        let digest = digest.finalize();
        let mut key = format!("gristmill-dedup/{queue}/");
        for byte in digest {
            let _ = write!(key, "{byte:02x}");
        }
        key
    };
    again.map(key).collect()
}

/// Each time a message is handled again is logged and counted, the latter for as
/// long as the process lives.
pub fn metrics(account: &mut Account, lives: &[Life]) {
    let Some(last) = lives.last() else { return };
    let logged = last.log.lines().filter(|line| line.contains(AGAIN));
    account.exactly(
        "gristmill_reinvocations_total in the last life (= as logged)",
        last.reinvocations,
        logged.count() as u64,
    );
}

/// Within a group effects are in the order of sending; one that was made again must
/// follow itself.
fn order(account: &mut Account, results: &Results, planned: &[Planned]) {
    let mut expected = BTreeMap::<&str, Vec<u64>>::new();
    for planned in planned.iter().filter(|planned| !planned.kind.dies()) {
        let group = planned.group.as_deref().unwrap_or_default();
        expected.entry(group).or_default().push(planned.number);
    }
    let mut wrong = Vec::new();
    for (group, expected) in &expected {
        let mut found = results.orders.get(*group).cloned().unwrap_or_default();
        found.dedup();
        if found != *expected {
            let at = found.iter().zip(expected).position(|(a, b)| a != b);
            let at = at.unwrap_or(found.len().min(expected.len()));
            let around = &found[at.saturating_sub(3)..found.len().min(at + 5)];
            wrong.push(format!("group {group}, from {at} on: …{around:?}…"));
        }
    }
    let right = (expected.len() - wrong.len()) as u64;
    account.exactly("groups in order", right, expected.len() as u64);
    account.note("out of order", &wrong);
}
