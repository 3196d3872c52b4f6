//! The tables of the `accounts` database, and the statements on accounts and
//! sessions. Attempts have a module of their own.

use std::borrow::Cow;

use database::{Error, Row, Value};

/// The label that the manifest grants.
pub(crate) const LABEL: &str = "accounts";

/// Times are milliseconds since 1970.
pub(crate) const SCHEMA: &[&str] = &[
    // When the entries of the session store expire; the key is the entry's.
    "CREATE TABLE IF NOT EXISTS sessions (
        key TEXT PRIMARY KEY,
        username TEXT NOT NULL,
        created_at BIGINT NOT NULL,
        expires_at BIGINT NOT NULL
    )",
    "CREATE INDEX IF NOT EXISTS sessions_by_expiry ON sessions (expires_at, key)",
    "CREATE INDEX IF NOT EXISTS sessions_by_name ON sessions (username, created_at)",
    // What is counted, and by which rule: `crate::attempts`.
    "CREATE TABLE IF NOT EXISTS attempts (
        key TEXT PRIMARY KEY,
        failures BIGINT NOT NULL,
        locked_until BIGINT NOT NULL,
        ends_at BIGINT NOT NULL,
        free BIGINT NOT NULL,
        lock_ms BIGINT NOT NULL,
        longest_lock_ms BIGINT NOT NULL
    )",
    "CREATE INDEX IF NOT EXISTS attempts_by_end ON attempts (ends_at)",
    // Where an account logged in from.
    "CREATE TABLE IF NOT EXISTS known_networks (
        username TEXT NOT NULL,
        network TEXT NOT NULL,
        expires_at BIGINT NOT NULL,
        PRIMARY KEY (username, network)
    )",
    "CREATE INDEX IF NOT EXISTS known_networks_by_expiry ON known_networks (expires_at)",
    "CREATE TABLE IF NOT EXISTS accounts (
        username TEXT PRIMARY KEY,
        password TEXT NOT NULL,
        created_at BIGINT NOT NULL
    )",
];

/// Sessions that a name has at once: a further login ends the oldest.
pub(crate) const MAX_SESSIONS: usize = 50;

/// Rows that one statement of the sweep takes.
pub(crate) const SWEEP_ROWS: usize = 500;

/// Days for which the network of a successful login is known.
const KNOWN_DAYS: i64 = 30;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// A statement with its values. Without a `Debug`: values may be names.
pub(crate) struct Statement {
    pub(crate) sql: Cow<'static, str>,
    pub(crate) values: Vec<Value>,
}

impl Statement {
    pub(crate) fn new(
        sql: impl Into<Cow<'static, str>>,
        values: impl IntoIterator<Item = Value>,
    ) -> Self {
        Self {
            sql: sql.into(),
            values: values.into_iter().collect(),
        }
    }
}

/// An account's record. Without a `Debug`: the password is a hash, and still nobody's
/// to read.
pub(crate) struct Account {
    /// A PHC string.
    pub(crate) password: String,
    /// Milliseconds since 1970.
    pub(crate) created_at: i64,
}

impl TryFrom<&Row> for Account {
    type Error = Error;

    fn try_from(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            password: row.text(0)?.to_owned(),
            created_at: row.integer(1)?,
        })
    }
}

/// Gives a row only when the name was free: the constraint decides, not a look
/// before.
pub(crate) fn register(username: &str, password_hash: &str, now: i64) -> Statement {
    Statement::new(
        "INSERT INTO accounts (username, password, created_at) VALUES (?1, ?2, ?3)
         ON CONFLICT (username) DO NOTHING RETURNING created_at",
        [username.into(), password_hash.into(), now.into()],
    )
}

/// Gives the [`Account`].
pub(crate) fn account(username: &str) -> Statement {
    Statement::new(
        "SELECT password, created_at FROM accounts WHERE username = ?1",
        [username.into()],
    )
}

/// Replaces a stored password, unless another one was stored meanwhile.
pub(crate) fn replace_password(username: &str, old_hash: &str, new_hash: &str) -> Statement {
    Statement::new(
        "UPDATE accounts SET password = ?3 WHERE username = ?1 AND password = ?2",
        [username.into(), old_hash.into(), new_hash.into()],
    )
}

/// Gives a row when the name logged in from this network lately.
pub(crate) fn is_known(username: &str, network: &str, now: i64) -> Statement {
    Statement::new(
        "SELECT expires_at FROM known_networks
         WHERE username = ?1 AND network = ?2 AND expires_at > ?3",
        [username.into(), network.into(), now.into()],
    )
}

/// Notes that the name logged in from this network.
pub(crate) fn know(username: &str, network: &str, now: i64) -> Statement {
    Statement::new(
        "INSERT INTO known_networks (username, network, expires_at) VALUES (?1, ?2, ?3)
         ON CONFLICT (username, network) DO UPDATE SET expires_at = excluded.expires_at",
        [
            username.into(),
            network.into(),
            (now + KNOWN_DAYS * DAY_MS).into(),
        ],
    )
}

/// Notes whose an entry of the session store is, and when it will expire: before
/// it is written.
pub(crate) fn note_session(key: &str, username: &str, now: i64, expires_at: i64) -> Statement {
    Statement::new(
        "INSERT INTO sessions (key, username, created_at, expires_at) VALUES (?1, ?2, ?3, ?4)",
        [key.into(), username.into(), now.into(), expires_at.into()],
    )
}

/// Gives the keys of the oldest sessions, where a name has more than it may.
pub(crate) fn surplus_sessions(username: &str) -> Statement {
    Statement::new(
        format!(
            "SELECT key FROM sessions WHERE username = ?1
             ORDER BY created_at DESC, key LIMIT {SWEEP_ROWS} OFFSET {MAX_SESSIONS}"
        ),
        [username.into()],
    )
}

/// Forgets an entry of the session store: after it is deleted.
pub(crate) fn forget_session(key: &str) -> Statement {
    Statement::new("DELETE FROM sessions WHERE key = ?1", [key.into()])
}

/// Gives keys with the times they expired, the oldest first.
pub(crate) fn expired_sessions(now: i64) -> Statement {
    Statement::new(
        format!(
            "SELECT key, expires_at FROM sessions WHERE expires_at <= ?1
             ORDER BY expires_at, key LIMIT {SWEEP_ROWS}"
        ),
        [now.into()],
    )
}

/// Forgets all expired sessions up to the last of [`expired_sessions`]. Nothing can
/// have come between: new sessions expire later than now.
pub(crate) fn forget_sessions_to(last_key: &str, last_expires_at: i64) -> Statement {
    Statement::new(
        "DELETE FROM sessions WHERE expires_at < ?2 OR (expires_at = ?2 AND key <= ?1)",
        [last_key.into(), last_expires_at.into()],
    )
}

/// Forgets networks that are no longer known; a row for each.
pub(crate) fn sweep_known(now: i64) -> Statement {
    Statement::new(
        format!(
            "DELETE FROM known_networks WHERE expires_at <= ?1 AND (username, network) IN (
                 SELECT username, network FROM known_networks WHERE expires_at <= ?1
                 LIMIT {SWEEP_ROWS}
             ) RETURNING expires_at"
        ),
        [now.into()],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::Sqlite;

    #[test]
    fn the_schema_bears_being_run_twice() {
        let database = Sqlite::new();
        for sql in SCHEMA {
            database.run(Statement::new(*sql, []));
        }
    }

    #[test]
    fn a_name_is_registered_once() {
        let database = Sqlite::new();
        assert_eq!(database.run(register("bob", "first", 1)).len(), 1);
        assert_eq!(database.run(register("bob", "second", 2)).len(), 0);
        let rows = database.run(account("bob"));
        let bob = Account::try_from(&rows[0]).unwrap();
        assert_eq!((&*bob.password, bob.created_at), ("first", 1));
        assert!(database.run(account("rob")).is_empty());
    }

    #[test]
    fn a_password_is_replaced_only_if_it_is_still_the_one() {
        let database = Sqlite::new();
        database.run(register("bob", "old", 1));
        database.run(replace_password("bob", "older", "new"));
        assert_eq!(database.run(account("bob"))[0].text(0), Ok("old"));
        database.run(replace_password("bob", "old", "new"));
        assert_eq!(database.run(account("bob"))[0].text(0), Ok("new"));
    }

    #[test]
    fn a_network_is_known_for_a_time_after_the_last_login() {
        let database = Sqlite::new();
        let known = |network, now| database.run(is_known("bob", network, now)).len() == 1;
        database.run(know("bob", "1.2.3.4", 0));
        assert!(known("1.2.3.4", 30 * DAY_MS - 1));
        assert!(!known("1.2.3.5", 1));
        assert!(!known("1.2.3.4", 30 * DAY_MS));
        database.run(know("bob", "1.2.3.4", DAY_MS));
        assert!(known("1.2.3.4", 30 * DAY_MS));
        assert!(database.run(sweep_known(31 * DAY_MS - 1)).is_empty());
        assert_eq!(database.run(sweep_known(31 * DAY_MS)).len(), 1);
    }

    #[test]
    fn the_oldest_sessions_of_a_name_are_surplus() {
        let database = Sqlite::new();
        for number in 0..MAX_SESSIONS as i64 {
            // The later ones are shorter: what counts is when they began.
            database.run(note_session(
                &format!("{number}"),
                "ann",
                number,
                1000 - number,
            ));
        }
        database.run(note_session("other", "bob", 0, 1000));
        assert!(database.run(surplus_sessions("ann")).is_empty());
        database.run(note_session("new", "ann", 100, 101));
        let surplus = database.run(surplus_sessions("ann"));
        let keys: Vec<_> = surplus.iter().map(|row| row.text(0).unwrap()).collect();
        assert_eq!(keys, ["0"]);
    }

    #[test]
    fn expired_sessions_are_taken_in_parts() {
        let database = Sqlite::new();
        for number in 0..SWEEP_ROWS + 10 {
            database.run(note_session(&format!("key-{number:04}"), "ann", 0, 100));
        }
        database.run(note_session("key-later", "ann", 0, 200));
        database.run(note_session("a-later-key", "ann", 0, 200));
        assert!(database.run(expired_sessions(99)).is_empty());
        let part = database.run(expired_sessions(100));
        assert_eq!(part.len(), SWEEP_ROWS);
        let last = &part[SWEEP_ROWS - 1];
        let (key, expires_at) = (last.text(0).unwrap(), last.integer(1).unwrap());
        database.run(forget_sessions_to(key, expires_at));
        assert_eq!(database.run(expired_sessions(100)).len(), 10);
        assert_eq!(database.run(expired_sessions(200)).len(), 12);
        database.run(forget_session("key-later"));
        assert_eq!(database.run(expired_sessions(200)).len(), 11);
    }
}
