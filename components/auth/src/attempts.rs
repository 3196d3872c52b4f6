//! Failed logins and registrations are counted, and too many lock. An attempt is
//! counted before the password is hashed, so that parallel guesses do not slip by;
//! a success takes its own count back.
//!
//! Three counts decide about a login. All are taken by one statement that skips
//! those that are locked, so that the database settles who came first.

use std::fmt::Write;
use std::time::Duration;

use database::Value;
use reply::Reply;

use crate::accounts::{SWEEP_ROWS, Statement};
use crate::credentials::AttemptedName;

/// When a count locks.
struct Rule {
    /// A count is forgotten so long after its first failure.
    window: Duration,
    /// So many failures, and the next ones, lock.
    free: i64,
    /// The first lock; each further one is twice as long.
    lock: Duration,
    longest_lock: Duration,
}

/// One name from one network.
const PAIR: Rule = Rule {
    window: Duration::from_hours(24),
    free: 5,
    lock: Duration::from_secs(15),
    longest_lock: Duration::from_mins(15),
};

/// One network, whatever the name.
const NETWORK: Rule = Rule {
    window: Duration::from_mins(15),
    free: 50,
    lock: Duration::from_mins(1),
    longest_lock: Duration::from_mins(1),
};

/// One name from all networks that it did not log in from lately: a lock must
/// not keep its owner out.
const NAME: Rule = Rule {
    window: Duration::from_mins(15),
    free: 30,
    lock: Duration::from_secs(30),
    longest_lock: Duration::from_secs(30),
};

const REGISTRATIONS_WINDOW: Duration = Duration::from_hours(1);

/// The failures of a row with one more.
const FAILURES: &str = "(CASE WHEN attempts.ends_at <= ?1 THEN 1 ELSE attempts.failures + 1 END)";

/// The counts that decide about one attempt to log in.
pub(crate) struct Attempt {
    /// Always in this order, so that two attempts seldom wait for each other's
    /// rows. Where they do (PostgreSQL), the database ends one, which is tried again.
    counts: Vec<(String, &'static Rule)>,
}

impl Attempt {
    /// At this name from this network; `is_known` when the name logged in from
    /// there lately.
    pub(crate) fn new(name: &AttemptedName, network: &str, is_known: bool) -> Self {
        let digest = name.digest();
        let pair = (format!("pair {digest} {network}"), &PAIR);
        if is_known {
            return Self { counts: vec![pair] };
        }
        let network = (format!("network {network}"), &NETWORK);
        let name = (format!("name {digest}"), &NAME);
        Self {
            counts: vec![network, name, pair],
        }
    }

    /// How many rows [`Self::take`] gives when nothing is locked.
    pub(crate) fn counts(&self) -> usize {
        self.counts.len()
    }

    /// Gives the time until which the attempt is locked, 0 when it never was.
    pub(crate) fn locked_until(&self) -> Statement {
        Statement::new(
            format!(
                "SELECT CAST(COALESCE(MAX(locked_until), 0) AS BIGINT) FROM attempts
                 WHERE key IN ({})",
                places(1, self.counts.len())
            ),
            self.counts.iter().map(|(key, _)| key.as_str().into()),
        )
    }

    /// Counts a failure wherever there is no lock, and gives the key of each.
    pub(crate) fn take(&self, now: i64) -> Statement {
        let mut rows = String::new();
        let mut values: Vec<Value> = vec![now.into()];
        for (key, rule) in &self.counts {
            let places = places(values.len() + 1, 5);
            let separator = if rows.is_empty() { "" } else { ", " };
            let _ = write!(rows, "{separator}(1, 0, {places})");
            values.extend([
                key.as_str().into(),
                (now + millis(rule.window)).into(),
                rule.free.into(),
                millis(rule.lock).into(),
                millis(rule.longest_lock).into(),
            ]);
        }
        let sql = format!(
            "INSERT INTO attempts
                 (failures, locked_until, key, ends_at, free, lock_ms, longest_lock_ms)
             VALUES {rows}
             ON CONFLICT (key) DO UPDATE SET
                 failures = {FAILURES},
                 locked_until = CASE
                     WHEN {FAILURES} < excluded.free THEN 0
                     WHEN {FAILURES} - excluded.free > 20
                         THEN CAST(?1 AS BIGINT) + excluded.longest_lock_ms
                     WHEN (excluded.lock_ms << CAST({FAILURES} - excluded.free AS INTEGER))
                             > excluded.longest_lock_ms
                         THEN CAST(?1 AS BIGINT) + excluded.longest_lock_ms
                     ELSE CAST(?1 AS BIGINT)
                         + (excluded.lock_ms << CAST({FAILURES} - excluded.free AS INTEGER))
                 END,
                 ends_at = CASE WHEN attempts.ends_at <= ?1 THEN excluded.ends_at
                     ELSE attempts.ends_at END,
                 free = excluded.free,
                 lock_ms = excluded.lock_ms,
                 longest_lock_ms = excluded.longest_lock_ms
             WHERE attempts.locked_until <= ?1
             RETURNING key"
        );
        Statement::new(sql, values)
    }

    /// Takes the count back after a success, and clears what this name failed from
    /// this network.
    pub(crate) fn succeeded(&self) -> Statement {
        let pair = format!("key = ?{}", self.counts.len());
        give_back_or_clear(self.counts.iter().map(|(key, _)| key.as_str()), &pair)
    }
}

/// Takes back what [`Attempt::take`] counted for these keys.
pub(crate) fn give_back<'a>(keys: impl ExactSizeIterator<Item = &'a str>) -> Statement {
    give_back_or_clear(keys, "FALSE")
}

/// A lock ends with the count that is taken back: until then no other attempt was
/// counted, so it was this one's, or is one too early now.
fn give_back_or_clear<'a>(
    keys: impl ExactSizeIterator<Item = &'a str>,
    is_cleared: &str,
) -> Statement {
    Statement::new(
        format!(
            "UPDATE attempts SET locked_until = 0,
                 failures = CASE WHEN {is_cleared} OR failures < 1 THEN 0 ELSE failures - 1 END
             WHERE key IN ({})",
            places(1, keys.len())
        ),
        keys.map(Value::from),
    )
}

/// Counts a registration from this network; gives no row when there were `limit`
/// in the current hour.
pub(crate) fn take_registration(network: &str, limit: i64, now: i64) -> Statement {
    Statement::new(
        format!(
            "INSERT INTO attempts
                 (key, failures, locked_until, ends_at, free, lock_ms, longest_lock_ms)
             VALUES (?2, 1, 0, ?3, ?4, 0, 0)
             ON CONFLICT (key) DO UPDATE SET
                 failures = {FAILURES},
                 ends_at = CASE WHEN attempts.ends_at <= ?1 THEN excluded.ends_at
                     ELSE attempts.ends_at END,
                 free = excluded.free
             WHERE attempts.ends_at <= ?1 OR attempts.failures < excluded.free
             RETURNING failures"
        ),
        [
            now.into(),
            registrations(network).as_str().into(),
            (now + millis(REGISTRATIONS_WINDOW)).into(),
            limit.into(),
        ],
    )
}

/// Gives the time at which this network may register again.
pub(crate) fn registrations_end(network: &str) -> Statement {
    Statement::new(
        "SELECT ends_at FROM attempts WHERE key = ?1",
        [registrations(network).as_str().into()],
    )
}

/// Forgets counts that neither lock nor count any more; a row for each.
pub(crate) fn sweep(now: i64) -> Statement {
    Statement::new(
        format!(
            "DELETE FROM attempts WHERE ends_at <= ?1 AND locked_until <= ?1 AND key IN (
                 SELECT key FROM attempts WHERE ends_at <= ?1 AND locked_until <= ?1
                 LIMIT {SWEEP_ROWS}
             ) RETURNING failures"
        ),
        [now.into()],
    )
}

/// The answer to an attempt that is not made: the same whatever locked it.
pub(crate) fn locked(until: i64, now: i64) -> Reply {
    too_many("too many failed attempts to log in", until, now)
}

/// The answer to a registration that is not made.
pub(crate) fn too_many_registrations(until: i64, now: i64) -> Reply {
    too_many("too many registrations from this address", until, now)
}

fn too_many(what: &str, until: i64, now: i64) -> Reply {
    let seconds = until
        .saturating_sub(now)
        .max(1)
        .unsigned_abs()
        .div_ceil(1000);
    let detail = format!("{what}; try again in {seconds} s");
    Reply::problem(429, &detail).with("retry-after", seconds.to_string())
}

fn registrations(network: &str) -> String {
    format!("registrations {network}")
}

/// `?3, ?4` for two from 3 on.
fn places(first: usize, count: usize) -> String {
    let places: Vec<_> = (first..first + count).map(|it| format!("?{it}")).collect();
    places.join(", ")
}

fn millis(duration: Duration) -> i64 {
    duration.as_millis() as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::Sqlite;

    const HERE: &str = "1.2.3.4";
    const MINUTE: i64 = 60_000;

    fn attempt(name: &str, network: &str) -> Attempt {
        Attempt::new(&AttemptedName::of(name), network, false)
    }

    /// Whether the attempt was let through; it fails.
    fn fails(database: &Sqlite, attempt: &Attempt, now: i64) -> bool {
        let taken = database.run(attempt.take(now));
        if taken.len() == attempt.counts() {
            return true;
        }
        let keys: Vec<_> = taken.iter().map(|row| row.text(0).unwrap()).collect();
        database.run(give_back(keys.into_iter()));
        false
    }

    fn lock(database: &Sqlite, attempt: &Attempt) -> i64 {
        database.run(attempt.locked_until())[0].integer(0).unwrap()
    }

    #[test]
    fn five_failures_are_free_and_then_locks_double() {
        let database = Sqlite::new();
        let bob = attempt("bob", HERE);
        for _ in 0..4 {
            assert!(fails(&database, &bob, 0));
            assert_eq!(lock(&database, &bob), 0);
        }
        let mut now = 0;
        for seconds in [15, 30, 60, 120, 240, 480, 900, 900, 900] {
            assert!(fails(&database, &bob, now));
            assert_eq!(lock(&database, &bob), now + seconds * 1000);
            assert!(!fails(&database, &bob, now + seconds * 1000 - 1));
            now += seconds * 1000;
        }
    }

    #[test]
    fn what_is_tried_during_a_lock_is_not_counted() {
        let database = Sqlite::new();
        let bob = attempt("bob", HERE);
        for _ in 0..5 {
            assert!(fails(&database, &bob, 0));
        }
        for _ in 0..100 {
            assert!(!fails(&database, &bob, 1));
        }
        assert_eq!(lock(&database, &bob), 15_000);
        // Neither the network nor the name was counted: others go on.
        assert!(fails(&database, &attempt("rob", HERE), 1));
        assert!(fails(&database, &attempt("bob", "4.4.4.4"), 1));
    }

    fn failures(database: &Sqlite, kind: &str) -> i64 {
        let failures = format!("SELECT failures FROM attempts WHERE key LIKE '{kind} %'");
        let rows = database.run(Statement::new(failures, []));
        rows[0].integer(0).unwrap()
    }

    #[test]
    fn a_success_clears_the_pair_and_takes_its_own_count_back() {
        let database = Sqlite::new();
        let bob = attempt("bob", HERE);
        for round in 1..=7 {
            for _ in 0..4 {
                assert!(fails(&database, &bob, 0));
            }
            // The fifth sets the lock, and turns out to be the right password.
            assert!(fails(&database, &bob, 0));
            assert_eq!(lock(&database, &bob), 15_000);
            database.run(bob.succeeded());
            assert_eq!(lock(&database, &bob), 0);
            assert_eq!(failures(&database, "pair"), 0);
            assert_eq!(failures(&database, "name"), 4 * round);
            assert_eq!(failures(&database, "network"), 4 * round);
        }
    }

    #[test]
    fn a_success_of_one_s_own_gains_no_guesses_at_others() {
        let database = Sqlite::new();
        let own = attempt("eve", HERE);
        let mut guesses = 0;
        for number in 0..1000 {
            if fails(&database, &attempt(&format!("name{number}"), HERE), 0) {
                guesses += 1;
            }
            if fails(&database, &own, 0) {
                database.run(own.succeeded());
            }
        }
        assert_eq!(guesses, NETWORK.free);
    }

    #[test]
    fn a_network_that_fails_at_many_names_is_locked() {
        let database = Sqlite::new();
        for number in 0..50 {
            let other = attempt(&format!("name{number}"), HERE);
            assert!(fails(&database, &other, 0), "{number}");
        }
        let next = attempt("bob", HERE);
        assert!(!fails(&database, &next, MINUTE - 1));
        assert!(fails(&database, &next, MINUTE));
        assert!(!fails(&database, &next, MINUTE + 1));
        assert!(fails(&database, &attempt("bob", "4.4.4.4"), 1));
        // The window is over: fifty more.
        for number in 0..50 {
            let other = attempt(&format!("name{number}"), HERE);
            assert!(fails(&database, &other, 15 * MINUTE), "{number}");
        }
    }

    #[test]
    fn a_name_that_many_networks_guess_at_is_locked_except_where_it_is_known() {
        let database = Sqlite::new();
        for number in 0..30 {
            assert!(fails(
                &database,
                &attempt("bob", &format!("1.1.1.{number}")),
                0
            ));
        }
        let elsewhere = attempt("bob", "9.9.9.9");
        assert!(!fails(&database, &elsewhere, 29_999));
        assert!(fails(&database, &elsewhere, 30_000));
        assert!(!fails(&database, &elsewhere, 30_001));
        let home = Attempt::new(&AttemptedName::of("bob"), HERE, true);
        assert_eq!(home.counts(), 1);
        assert!(fails(&database, &home, 1));
        assert_eq!(lock(&database, &home), 0);
    }

    #[test]
    fn a_refused_attempt_leaves_the_other_counts_as_they_were() {
        let database = Sqlite::new();
        for number in 0..30 {
            assert!(fails(
                &database,
                &attempt("bob", &format!("1.1.1.{number}")),
                0
            ));
        }
        let all = || {
            let rows =
                "SELECT key, failures, locked_until FROM attempts WHERE failures > 0 ORDER BY key";
            database.run(Statement::new(rows, []))
        };
        let before = all();
        assert!(!fails(&database, &attempt("bob", "9.9.9.9"), 1));
        assert!(all() == before);
    }

    #[test]
    fn no_name_is_stored_in_clear() {
        let database = Sqlite::new();
        fails(&database, &attempt("hunter2-of-bob", HERE), 0);
        for row in database.run(Statement::new("SELECT key FROM attempts", [])) {
            assert!(!row.text(0).unwrap().contains("hunter2"));
        }
    }

    #[test]
    fn registrations_are_limited_by_the_hour() {
        let database = Sqlite::new();
        let may = |network, now| !database.run(take_registration(network, 3, now)).is_empty();
        for now in 0..3 {
            assert!(may(HERE, now));
        }
        assert!(!may(HERE, 3));
        assert!(may("4.4.4.4", 3));
        let end = database.run(registrations_end(HERE))[0].integer(0);
        assert_eq!(end, Ok(60 * MINUTE));
        assert!(!may(HERE, 60 * MINUTE - 1));
        assert!(may(HERE, 60 * MINUTE));
    }

    #[test]
    fn the_sweep_takes_what_is_over_in_parts() {
        let database = Sqlite::new();
        for number in 0..SWEEP_ROWS {
            database.run(take_registration(&format!("n{number}"), 3, 0));
        }
        database.run(take_registration(HERE, 3, 1));
        fails(&database, &attempt("bob", HERE), 0);
        assert!(database.run(sweep(15 * MINUTE - 1)).is_empty());
        assert_eq!(database.run(sweep(60 * MINUTE)).len(), SWEEP_ROWS);
        assert_eq!(database.run(sweep(60 * MINUTE)).len(), 2);
        assert_eq!(database.run(sweep(60 * MINUTE + 1)).len(), 1);
        assert_eq!(database.run(sweep(24 * 60 * MINUTE)).len(), 1);
    }

    #[test]
    fn seconds_to_wait_are_rounded_up() {
        for (until, seconds) in [
            (15_000, "15"),
            (15_001, "16"),
            (1, "1"),
            (0, "1"),
            (-5, "1"),
        ] {
            assert_eq!(locked(until, 0).header("retry-after"), Some(seconds));
        }
        assert_eq!(locked(1, 0).status, 429);
    }
}
