//! Accounts and sessions.

use std::sync::Mutex;
use std::thread;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::support::web::{Client, PASSWORD, SetSession, sha256, token_of};
use crate::support::{App, pictures, wait_for};
use crate::{about, beside, moment, open, start_ticking, stored_keys};

#[test]
fn an_account_is_made_used_and_left() {
    let app = App::start_own();
    let client = Client::new(&app).with_jar();
    let registered = client.register("Miller-1").expect(201);
    assert_eq!(registered.json()["username"], "miller-1");
    assert_eq!(registered.header("location"), Some("/auth/profile"));
    assert_eq!(registered.header("cache-control"), Some("no-store"));
    assert_eq!(
        registered.session(),
        SetSession::Untouched,
        "not logged in yet"
    );

    let refused = client.get("/auth/profile");
    refused.problem(401);
    assert!(
        refused
            .header("www-authenticate")
            .unwrap()
            .starts_with("Bearer"),
        "{refused:?}"
    );

    let login = client.login("MILLER-1", PASSWORD);
    let token = token_of(&login);
    let letters = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    assert!(token.len() == 43 && token.bytes().all(letters), "{token}");
    assert_eq!(login.json()["username"], "miller-1");
    assert_eq!(login.header("cache-control"), Some("no-store"));
    let day = Duration::from_hours(24);
    about(moment(&login.json()["expires_at"]), SystemTime::now() + day);
    assert_eq!(client.cookie().as_deref(), Some(token.as_str()));

    // The cookie of the jar, and the bearer of a script.
    for reader in [&client, &Client::new(&app).with_bearer(&token)] {
        let profile = reader.get("/auth/profile").expect(200).json();
        assert_eq!(profile["username"], "miller-1");
        about(moment(&profile["created_at"]), SystemTime::now());
        assert_eq!(profile["expires_at"], login.json()["expires_at"]);
    }
    let bearer = Client::new(&app).with_bearer(&token);
    assert!(
        bearer
            .send("HEAD", "/auth/profile", &[], b"")
            .expect(200)
            .body
            .is_empty()
    );

    // The session's end is the session's end for whoever holds the token.
    let origin = format!("http://{}", client.authority());
    let left = client.send("POST", "/auth/logout", &[("origin", &origin)], b"");
    assert_eq!(left.expect(204).session(), SetSession::Ended);
    bearer.get("/auth/profile").problem(401);
    assert!(client.cookie().is_none());
    client.post("/auth/logout").expect(204);

    // By bearer as well; and other sessions of the account go on.
    let (one, other) = (
        token_of(&Client::new(&app).login("miller-1", PASSWORD)),
        token_of(&Client::new(&app).login("miller-1", PASSWORD)),
    );
    assert_ne!(one, other);
    let one = Client::new(&app).with_bearer(&one);
    one.post("/auth/logout").expect(204);
    one.get("/auth/profile").problem(401);
    let other = Client::new(&app).with_bearer(&other);
    other.get("/auth/profile").expect(200);
}

#[test]
fn a_registration_that_cannot_be_says_why() {
    let app = App::start_own();
    let client = Client::new(&app);
    client.register("taken").expect(201);
    let register = |username: &str, password: &str| {
        let body = json!({"username": username, "password": password});
        client.post_json("/auth/register", &body)
    };
    let long = "x".repeat(33);
    // Neither a repetition nor a run.
    let too_long: String = (0..129_u32)
        .map(|n| char::from(b'a' + (n * 7 % 26) as u8))
        .collect();
    for (username, password, status) in [
        ("taken", PASSWORD, 409),
        ("TAKEN", PASSWORD, 409),
        ("ab", PASSWORD, 422),
        (long.as_str(), PASSWORD, 422),
        ("1abc", PASSWORD, 422),
        ("a b c", PASSWORD, 422),
        ("müller", PASSWORD, 422),
        ("", PASSWORD, 422),
        ("fresh", "short 9ch", 422),
        ("fresh", too_long.as_str(), 422),
        ("fresh", "password123", 422),
        ("fresh", "aaaaaaaaaaaa", 422),
        ("fresh", "abcdefghijkl", 422),
        ("freshly-here", "is freshly-here 7", 422),
    ] {
        let answer = register(username, password);
        let detail = answer.problem(status);
        assert!(!detail.is_empty(), "{username:?} {password:?}");
        assert!(!detail.contains(password), "{detail}");
    }
    // The bounds belong to what is allowed; letters are counted, not bytes.
    register(&"x".repeat(32), "ßüöä stein").expect(201);
    register("abc", &too_long[..128]).expect(201);

    let json = [("content-type", "application/json; charset=utf-8")];
    let send = |headers: &[(&str, &str)], body: &str| {
        client.send("POST", "/auth/register", headers, body.as_bytes())
    };
    send(&[], r#"{"username":"dora","password":"p"}"#).problem(415);
    send(&[("content-type", "text/plain")], "{}").problem(415);
    for body in [
        "",
        "{",
        "[]",
        "null",
        r#"{"username":"dora"}"#,
        r#"{"username":"dora","password":7}"#,
        r#"{"username":"dora","password":"seven stones grind slowly","admin":true}"#,
    ] {
        send(&json, body).problem(400);
    }
    let padding = " ".repeat(16 * 1024);
    send(&json, &format!("{{{padding}}}")).problem(413);
    send(
        &json,
        r#"{"username":"dora","password":"seven stones grind slowly"}"#,
    )
    .expect(201);
}

/// `session_hours` sets the lifetime; what is over counts no more, and the sweep removes it from
/// store and index.
#[test]
fn a_session_ends_by_itself_and_is_swept() {
    let app = start_ticking(&[("SPIN_VARIABLE_SESSION_HOURS", "1")]);
    let client = Client::new(&app).with_jar();
    client.register("brief").expect(201);
    let login = client.login("brief", PASSWORD);
    about(
        moment(&login.json()["expires_at"]),
        SystemTime::now() + Duration::from_hours(1),
    );
    let cookie = login.header("set-cookie").unwrap();
    assert!(
        cookie.contains("Max-Age=36") || cookie.contains("Max-Age=35"),
        "{cookie}"
    );
    let stays = token_of(&Client::new(&app).login("brief", PASSWORD));

    // An hour passes for the first session.
    let token = token_of(&login);
    let key = sha256(token.as_bytes());
    assert!(stored_keys(&app, "sessions").contains(&key));
    let over = "2020-01-01T00:00:00.000Z";
    let store = open(&app, "sqlite_key_value-sessions.db");
    let text = "SELECT value FROM spin_key_value WHERE key = ?1";
    let value: Vec<u8> = store.query_row(text, [&key], |row| row.get(0)).unwrap();
    let mut session: Value = serde_json::from_slice(&value).unwrap();
    assert_eq!(session["username"], "brief");
    session["expires_at"] = over.into();
    let changed = store.execute(
        "UPDATE spin_key_value SET value = ?2 WHERE key = ?1",
        (&key, session.to_string().into_bytes()),
    );
    assert_eq!(changed.unwrap(), 1);
    client.get("/auth/profile").problem(401);
    let bearer = Client::new(&app).with_bearer(&token);
    bearer.upload(pictures::GIF).problem(401);

    // And in the index, whose table is the service's own affair.
    let aged = age_in_index(&app, &key, over);
    assert_eq!(aged, 1, "rows of the index that hold the session's key");
    wait_for("the sweep", || {
        (!stored_keys(&app, "sessions").contains(&key)).then_some(())
    });
    wait_for("the index to be swept", || {
        (age_in_index(&app, &key, over) == 0).then_some(())
    });
    let stays = Client::new(&app).with_bearer(&stays);
    stays.get("/auth/profile").expect(200);
}

/// Sets every expiry in the rows that hold `key`; how many rows there are.
fn age_in_index(app: &App, key: &str, over: &str) -> usize {
    let database = open(app, "sqlite_db-accounts.db");
    let list = |sql: &str| -> Vec<String> {
        let mut query = database.prepare(sql).unwrap();
        let rows = query.query_map([], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    };
    let mut aged = 0;
    for table in list("SELECT name FROM sqlite_master WHERE type = 'table'") {
        let columns = list(&format!("SELECT name FROM pragma_table_info('{table}')"));
        for column in columns.iter().filter(|column| column.contains("expires")) {
            for owner in columns.iter().filter(|other| *other != column) {
                let sql = format!(
                    "UPDATE {table} SET {column} = \
                     CASE typeof({column}) WHEN 'integer' THEN 0 ELSE ?2 END \
                     WHERE {owner} = ?1 OR {owner} = CAST(?1 AS BLOB)"
                );
                aged += database.execute(&sql, (key, over)).unwrap();
            }
        }
    }
    aged
}

/// The first registrations, at once, in two processes, on an empty database: the tables are
/// made once, and a name is given once.
#[test]
fn a_name_is_given_once() {
    let app = App::start_own();
    let other = beside(&app);
    let statuses = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for app in [&app, &other].repeat(4) {
            let statuses = &statuses;
            scope.spawn(move || {
                let status = Client::new(app).register("wanted").status;
                statuses.lock().unwrap().push(status);
            });
        }
    });
    let mut statuses = statuses.into_inner().unwrap();
    statuses.sort_unstable();
    assert_eq!(statuses, [[201].as_slice(), &[409; 7]].concat());
}
