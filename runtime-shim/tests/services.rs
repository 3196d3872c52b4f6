//! Accounts, pictures, recommendations and the portal, through the real application: what they
//! promise, on the embedded stores and on real servers, with one process and with two.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use support::pictures::{self, Colour, size};
use support::servers::{Ministack, Postgres};
use support::web::{Answer, Client, Form, PASSWORD, member, token_of};
use support::{App, agent, get, own_manifest, post, wait_for};

/// No server listens there.
const NOWHERE: &str = "127.0.0.1:1";
const COMPONENTS: [&str; 6] = [
    "process-message",
    "counter",
    "auth",
    "images",
    "recommend",
    "portal",
];

/// The application under these variables.
fn start(variables: &[(&str, &str)]) -> App {
    App::start_with(&own_manifest(), &[], variables)
}

/// The application with schedules that are due each second, not each minute.
fn start_ticking(variables: &[(&str, &str)]) -> App {
    let mut manifest = own_manifest();
    for expression in ["\"0 * * * * *\"", "\"30 * * * * *\""] {
        assert!(manifest.contains(expression), "no schedule {expression}");
        manifest = manifest.replace(expression, "\"* * * * * *\"");
    }
    App::start_with(&manifest, &[], variables)
}

/// A moment, written as all the services write it.
#[track_caller]
fn moment(value: &Value) -> SystemTime {
    let text = value.as_str().unwrap();
    assert!(text.len() == 24 && text.ends_with('Z'), "{text}");
    chrono::DateTime::parse_from_rfc3339(text).unwrap().into()
}

#[track_caller]
fn about(actual: SystemTime, expected: SystemTime) {
    let apart = actual
        .duration_since(expected)
        .unwrap_or_else(|earlier| earlier.duration());
    assert!(apart < Duration::from_mins(1), "{apart:?} apart");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The file of a store that is embedded.
fn open(app: &App, file: &str) -> rusqlite::Connection {
    let connection = rusqlite::Connection::open(app.dir().join(".spin").join(file)).unwrap();
    connection.busy_timeout(Duration::from_secs(5)).unwrap();
    connection
}

fn stored_keys(app: &App, label: &str) -> BTreeSet<String> {
    let store = open(app, &format!("sqlite_key_value-{label}.db"));
    // Nothing was ever stored where there is no table.
    let Ok(mut query) = store.prepare("SELECT key FROM spin_key_value") else {
        return BTreeSet::new();
    };
    let keys = query.query_map([], |row| row.get(0)).unwrap();
    keys.map(Result::unwrap).collect()
}

/// The id of an upload that was taken.
#[track_caller]
fn id_of(upload: &Answer) -> String {
    assert_eq!(upload.status, 201, "{}", upload.text());
    upload.json()["id"].as_str().unwrap().to_owned()
}

/// Uploads a picture unlike any other.
#[track_caller]
fn upload_one(client: &Client, seed: u64) -> String {
    id_of(&client.upload(&pictures::png(20, 10, seed)))
}

fn thumbnail(client: &Client, id: &str) -> Answer {
    wait_for("the thumbnail", || {
        let answer = client.get(&format!("/images/{id}/thumbnail"));
        if answer.status == 404 {
            assert_eq!(answer.header("retry-after"), Some("1"), "while pending");
        }
        (answer.status != 404).then_some(answer)
    })
    .expect(200)
}

/// What the owner's list says of an image.
fn listed(client: &Client, id: &str) -> Option<Value> {
    let page = client.get("/images?limit=100").expect(200).json();
    let mut images = page["images"].as_array().unwrap().iter();
    images.find(|image| image["id"] == id).cloned()
}

fn ids(page: &Value) -> Vec<String> {
    let images = page["images"].as_array().unwrap().iter();
    images
        .map(|image| image["id"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn an_account_is_made_used_and_left() {
    let app = App::start_own();
    let client = Client::new(&app);
    let registered = client.register("Miller-1").expect(201);
    assert_eq!(registered.json()["username"], "miller-1");
    assert_eq!(registered.header("location"), Some("/auth/profile"));
    assert_eq!(registered.header("cache-control"), Some("no-store"));
    assert!(registered.session().is_none(), "not logged in yet");

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
    assert_eq!(left.expect(204).session(), Some(None));
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
    let client = Client::new(&app);
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

#[test]
fn every_kind_of_picture_is_stored_served_and_shrunk() {
    let app = App::start_own();
    let client = member(&app, "painter");
    let png = pictures::png(800, 600, 1);
    for (bytes, kind, (width, height)) in [
        (png.as_slice(), "png", (800, 600)),
        (pictures::JPEG, "jpeg", (64, 48)),
        (pictures::GIF, "gif", (64, 48)),
        (pictures::ANIMATED_GIF, "gif", (40, 30)),
        (pictures::LOSSLESS_WEBP, "webp", (64, 48)),
        (pictures::LOSSY_WEBP, "webp", (64, 48)),
    ] {
        let uploaded = client.upload(bytes).expect(201);
        let id = id_of(&uploaded);
        let document = uploaded.json();
        let url = format!("/images/{id}");
        assert!(
            id.len() == 32 && id.bytes().all(|b| b"0123456789abcdef".contains(&b)),
            "{id}"
        );
        assert_eq!(uploaded.header("location"), Some(url.as_str()));
        assert_eq!(document["type"], format!("image/{kind}"));
        assert_eq!(document["size"], bytes.len());
        assert_eq!(document["width"], width);
        assert_eq!(document["height"], height);
        assert_eq!(document["url"], url);
        assert_eq!(document["thumbnail_url"], format!("{url}/thumbnail"));
        about(moment(&document["created_at"]), SystemTime::now());

        serves(&app, &url, &format!("image/{kind}"), bytes);

        let small = thumbnail(&client, &id);
        let kind = small.header("content-type").unwrap();
        assert!(matches!(kind, "image/jpeg" | "image/png"), "{kind}");
        let (small_width, small_height) = size(&small.body);
        assert!(small_width <= 320 && small_width * 3 == small_height * 4);
        assert!(small_width <= width, "not blown up");
        if width > 320 {
            assert_eq!(small_width, 320);
        }
        serves(&app, &format!("{url}/thumbnail"), kind, &small.body);
        assert_eq!(listed(&client, &id).unwrap()["thumbnail"], "ready");
    }
    wait_for("the queue to be empty", || {
        (app.depth("images") == (0, 0, 0)).then_some(())
    });
    assert_eq!(app.depth("images-dlq"), (0, 0, 0));
}

/// Whoever has the address gets these bytes, once.
fn serves(app: &App, url: &str, kind: &str, bytes: &[u8]) {
    let anyone = Client::new(app);
    let answer = anyone.get(url).expect(200);
    assert_eq!(answer.body, bytes, "{url}");
    assert_eq!(answer.header("content-type"), Some(kind));
    assert_eq!(answer.header("cache-control"), Some("private, no-cache"));
    let tag = answer.header("etag").unwrap();
    if !url.ends_with("/thumbnail") {
        assert_eq!(tag, format!("\"{}\"", sha256(bytes)));
    }
    for (asked, status) in [
        (tag, 304),
        (format!("\"other\", {tag}").as_str(), 304),
        (format!("W/{tag}").as_str(), 304),
        ("*", 304),
        ("\"other\"", 200),
    ] {
        let again = anyone.send("GET", url, &[("if-none-match", asked)], b"");
        assert_eq!(again.status, status, "{asked}");
        assert_eq!(again.header("etag"), Some(tag));
        assert_eq!(again.body.is_empty(), status == 304);
    }
    let head = anyone.send("HEAD", url, &[], b"").expect(200);
    assert!(head.body.is_empty());
    assert_eq!(head.header("etag"), Some(tag));
    assert_eq!(head.header("content-type"), Some(kind));
}

#[test]
fn a_thumbnail_stands_upright() {
    let app = App::start_own();
    let client = member(&app, "painter");
    let id = id_of(&client.upload(pictures::ROTATED_JPEG));
    let (width, height) = size(&thumbnail(&client, &id).body);
    assert!(width < height, "{width} x {height}");
}

/// What a sandbox cannot decode must not come back again and again: it ends as `failed`, or it
/// was refused, and no message becomes a dead letter.
#[test]
fn the_largest_pictures_end_in_a_thumbnail_or_a_clear_no() {
    let app = App::start_own();
    let client = member(&app, "painter");
    for (colour, must_work) in [
        (Colour::Bit, true),
        (Colour::Rgb, true),
        // 192 MB of samples.
        (Colour::Deep, false),
    ] {
        let picture = pictures::black(6000, 4000, colour);
        let upload = client.upload(&picture);
        if upload.status == 422 && !must_work {
            continue;
        }
        let id = id_of(&upload);
        let state = wait_for("the thumbnail's end", || {
            let state = listed(&client, &id)?["thumbnail"].clone();
            (state != "pending").then_some(state)
        });
        assert!(state == "ready" || !must_work, "{colour:?}: {state}");
        if state == "ready" {
            let (width, height) = size(&thumbnail(&client, &id).body);
            assert!(
                width == 320 && (213..=214).contains(&height),
                "{width} x {height}"
            );
        }
    }
    client
        .upload(&pictures::black(6001, 4000, Colour::Bit))
        .problem(422);
    wait_for("the queue to be empty", || {
        (app.depth("images") == (0, 0, 0)).then_some(())
    });
    assert_eq!(app.depth("images-dlq"), (0, 0, 0));
}

#[test]
fn a_form_brings_one_picture() {
    let app = App::start_own();
    let client = member(&app, "painter");
    let png = pictures::png(20, 10, 1);
    let forms = [
        Form::new().file("a.png", "image/png", &png),
        // Fields before and after are no files; name and type of the file are only claims.
        Form::new()
            .field("title", "the mill")
            .file("a.txt", "text/plain", &png)
            .field("note", "--"),
        Form::new().file("a.gif", "image/gif", pictures::GIF),
    ];
    for form in forms {
        let uploaded = client.upload_form(&form);
        let url = format!("/images/{}", id_of(&uploaded));
        let bytes = client.get(&url).expect(200).body;
        let sent = &form
            .parts
            .iter()
            .find(|(head, _)| head.contains("filename"));
        assert_eq!(bytes, sent.unwrap().1);
    }
    // The beginning of the boundary occurs in the content.
    let tricky = [
        b"\r\n------gristmill7MA4YWxkTrZu0g\r\n".as_slice(),
        b"--\r\n",
    ]
    .concat();
    let chunks: [(&[u8; 4], &[u8]); 4] = [
        (b"IHDR", &pictures::header(1, 1, Colour::Bit)),
        (b"teXt", &tricky),
        (b"IDAT", &pictures::stored(&[0, 0])),
        (b"IEND", b""),
    ];
    let picture = pictures::from_chunks(&chunks);
    let form = Form::new().file("a.png", "image/png", &picture);
    let id = id_of(&client.upload_form(&form));
    assert_eq!(client.get(&format!("/images/{id}")).body, picture);
}

#[test]
fn the_list_is_the_owners_newest_first_in_pages() {
    let app = App::start_own();
    let (client, other) = (member(&app, "painter"), member(&app, "sculptor"));
    let mut uploaded: Vec<_> = (0..5).map(|n| upload_one(&client, n)).collect();
    let foreign = upload_one(&other, 9);
    uploaded.reverse();

    let all = client.get("/images").expect(200);
    assert_eq!(all.header("cache-control"), Some("no-store"));
    assert_eq!(ids(&all.json()), uploaded);
    assert!(all.json()["next"].is_null());
    assert_eq!(ids(&other.get("/images").expect(200).json()), [foreign]);

    let (mut seen, mut after, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = client.get(&format!("/images?limit=2{after}")).expect(200);
        seen.extend(ids(&page.json()));
        pages += 1;
        match page.json()["next"].as_str() {
            Some(next) => {
                assert_eq!(Some(next), seen.last().map(String::as_str));
                after = format!("&after={next}");
            }
            None => break,
        }
    }
    assert_eq!((seen, pages), (uploaded, 3));

    for query in [
        "limit=0",
        "limit=101",
        "limit=-1",
        "limit=x",
        "limit=",
        "limit=1e1",
        "after=x",
        "after=",
    ] {
        client.get(&format!("/images?{query}")).problem(400);
    }
    Client::new(&app).get("/images").problem(401);
}

#[test]
fn only_the_owner_deletes_and_nothing_stays() {
    let app = App::start_own();
    let (client, other) = (member(&app, "painter"), member(&app, "sculptor"));
    let id = upload_one(&client, 1);
    let kept = upload_one(&client, 2);
    thumbnail(&client, &id);
    let stored = stored_keys(&app, "images");
    assert!(stored.contains(&id) && stored.contains(&format!("{id}.thumbnail")));
    let url = format!("/images/{id}");

    Client::new(&app).delete(&url).problem(401);
    let foreign = other.delete(&url);
    let unknown = other.delete(&format!("/images/{}", "0".repeat(32)));
    assert_eq!(foreign.problem(404), unknown.problem(404), "as if unknown");
    client.get(&url).expect(200);

    client.delete(&url).expect(204);
    client.delete(&url).problem(404);
    client.get(&url).problem(404);
    client.get(&format!("{url}/thumbnail")).problem(404);
    assert!(listed(&client, &id).is_none());
    let stored = stored_keys(&app, "images");
    assert!(!stored.iter().any(|key| key.starts_with(&id)), "{stored:?}");
    assert!(listed(&client, &kept).is_some());
}

#[test]
fn limits_are_variables() {
    let app = start(&[
        ("SPIN_VARIABLE_IMAGES_MAX_BYTES", "2000"),
        ("SPIN_VARIABLE_IMAGES_MAX_PIXELS", "200"),
        ("SPIN_VARIABLE_IMAGES_MAX_PER_USER", "2"),
    ]);
    let client = member(&app, "painter");
    let picture = pictures::png(20, 10, 1);
    let padded = |bytes: usize| {
        let mut padded = picture.clone();
        padded.resize(bytes, 0);
        padded
    };
    client.upload(&padded(2001)).problem(413);
    client
        .upload_form(&Form::new().file("a.png", "image/png", &padded(2001)))
        .problem(413);
    client
        .upload(&pictures::black(201, 1, Colour::Bit))
        .problem(422);
    id_of(&client.upload(&picture));
    let last = id_of(&client.upload_form(&Form::new().file("a.png", "image/png", &picture)));
    let detail = client.upload(&picture).problem(409);
    assert!(detail.contains('2'), "{detail}");
    // Others have their own share, and what is deleted makes room.
    upload_one(&member(&app, "sculptor"), 1);
    client.delete(&format!("/images/{last}")).expect(204);
    id_of(&client.upload(&picture));
}

/// At the limit, uploads at the same time are not counted past each other.
#[test]
fn uploads_at_once_do_not_pass_the_limit() {
    let app = start(&[("SPIN_VARIABLE_IMAGES_MAX_PER_USER", "3")]);
    let client = member(&app, "painter");
    let statuses = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for n in 0..12 {
            let (client, statuses) = (&client, &statuses);
            scope.spawn(move || {
                let status = client.upload(&pictures::png(20, 10, n)).status;
                statuses.lock().unwrap().push(status);
            });
        }
    });
    let mut statuses = statuses.into_inner().unwrap();
    statuses.sort_unstable();
    assert_eq!(statuses[..3], [201; 3], "{statuses:?}");
    assert!(
        statuses[3..].iter().all(|status| *status == 409),
        "{statuses:?}"
    );
    assert_eq!(ids(&client.get("/images").json()).len(), 3);
}

#[test]
fn the_worker_settles_what_cannot_become_a_thumbnail() {
    let app = App::start_own();
    let client = member(&app, "painter");
    // A right header, and then nothing that could be decoded.
    let damaged = pictures::from_chunks(&[
        (b"IHDR", &pictures::header(30, 20, Colour::Rgb)),
        (b"IDAT", b"no zlib stream"),
        (b"IEND", b""),
    ]);
    let upload = client.upload(&damaged);
    if upload.status != 422 {
        let id = id_of(&upload);
        wait_for("the failure to show", || {
            (listed(&client, &id)?["thumbnail"] == "failed").then_some(())
        });
        let failed = client.get(&format!("/images/{id}/thumbnail"));
        failed.problem(404);
        assert!(
            failed.header("retry-after").is_none(),
            "nothing to wait for"
        );
        assert_eq!(
            client.get(&format!("/images/{id}")).expect(200).body,
            damaged
        );
    }

    // A picture that is gone again, and one that never was.
    app.send("images", &json!({"image": "0".repeat(32)}).to_string());
    wait_for("the queue to be empty", || {
        (app.depth("images") == (0, 0, 0)).then_some(())
    });
    assert_eq!(app.depth("images-dlq"), (0, 0, 0));

    let wrong = ["no JSON", "{}", "[]", r#"{"image":7}"#];
    // An event, though of no image that could be: gone, or refused; the service's choice.
    app.send("images", r#"{"image":"../../etc/passwd"}"#);
    for body in wrong {
        app.send("images", body);
    }
    wait_for("the dead letters", || {
        let (dead, left) = (app.depth("images-dlq").0, app.depth("images"));
        (dead >= wrong.len() as u64 && left == (0, 0, 0)).then_some(())
    });
    let ask = json!({"QueueName": "images-dlq", "MessageAttributeNames": ["All"]});
    let answer = app.sqs("ReceiveMessage", ask);
    let letter = &answer["Messages"][0];
    let reason = &letter["MessageAttributes"]["gristmill.reason"]["StringValue"];
    assert!(
        reason.as_str().unwrap().contains("images-worker"),
        "{letter}"
    );
}

#[test]
fn what_is_seen_is_recommended() {
    let app = start_ticking(&[]);
    let client = member(&app, "painter");
    let anyone = Client::new(&app);
    let ask = |query: &str| anyone.get(&format!("/recommendations{query}"));
    let recommended = || -> Vec<(String, u64)> {
        let answer = ask("").expect(200).json();
        let list = answer["recommendations"].as_array().unwrap().iter();
        let entry = |image: &Value| {
            let id = image["id"].as_str().unwrap().to_owned();
            (id, image["views"].as_u64().unwrap())
        };
        list.map(entry).collect()
    };
    assert!(recommended().is_empty());

    let (seen, liked, unseen) = (
        upload_one(&client, 1),
        upload_one(&client, 2),
        upload_one(&client, 3),
    );
    for (id, views) in [(&seen, 2), (&liked, 5)] {
        for _ in 0..views {
            anyone.get(&format!("/images/{id}")).expect(200);
        }
    }
    wait_for("the tick that has seen it all", || {
        (recommended() == [(liked.clone(), 5), (seen.clone(), 2)]).then_some(())
    });
    let answer = ask("?limit=1").expect(200);
    assert_eq!(answer.header("cache-control"), Some("public, max-age=5"));
    let document = answer.json();
    about(moment(&document["computed_at"]), SystemTime::now());
    let best = &document["recommendations"];
    assert_eq!(best.as_array().unwrap().len(), 1);
    let best = &best[0];
    assert_eq!(best["id"], liked);
    assert_eq!(best["type"], "image/png");
    assert_eq!((&best["width"], &best["height"]), (&json!(20), &json!(10)));
    assert_eq!(best["url"], format!("/images/{liked}"));
    assert_eq!(best["thumbnail_url"], format!("/images/{liked}/thumbnail"));
    // All views are of the last day, which counts eightfold.
    let score = best["score"].as_f64().unwrap();
    assert!((score - 40.0).abs() < 0.01, "{score}");
    assert!(recommended().iter().all(|(id, _)| *id != unseen));
    // It is public; it does not tell who painted.
    assert!(!document.to_string().contains("painter"), "{document}");

    // Gone at once, not at the next tick.
    client.delete(&format!("/images/{liked}")).expect(204);
    assert_eq!(recommended(), [(seen, 2)]);

    for query in ["limit=0", "limit=51", "limit=-1", "limit=ten", "limit="] {
        ask(&format!("?{query}")).problem(400);
    }
    ask("?limit=50").expect(200);
}

#[test]
fn the_portal_serves_its_page() {
    let app = App::start_own();
    let client = Client::new(&app);
    let page = client.get("/").expect(200);
    let kind = page.header("content-type").unwrap();
    assert!(kind.starts_with("text/html"), "{kind}");
    let text = page.text();
    let assets: BTreeSet<&str> = text
        .split(['"', '\''])
        .filter(|value| value.starts_with("/portal/"))
        .collect();
    for needed in ["/portal/app.js", "/portal/style.css"] {
        assert!(assets.contains(needed), "{assets:?}");
    }
    for path in assets.into_iter().chain(["/"]) {
        let plain = client.get(path).expect(200);
        assert!(plain.header("content-encoding").is_none(), "{path}");
        assert!(plain.header("cache-control").is_some(), "{path}");
        assert_eq!(
            plain.header("x-content-type-options"),
            Some("nosniff"),
            "{path}"
        );
        let tag = plain.header("etag").unwrap().to_owned();
        let again = client.send("GET", path, &[("if-none-match", &tag)], b"");
        assert!(again.expect(304).body.is_empty());
        let head = client.send("HEAD", path, &[], b"").expect(200);
        assert!(head.body.is_empty());

        let accept = [("accept-encoding", "br;q=1.0, gzip;q=0.5")];
        let packed = client.send("GET", path, &accept, b"").expect(200);
        if packed.header("content-encoding") == Some("gzip") {
            let vary = packed.header("vary").unwrap().to_ascii_lowercase();
            assert!(vary.contains("accept-encoding"), "{vary}");
            assert!(plain.header("vary").is_some(), "{path}: caches must know");
            assert!(packed.body.starts_with(b"\x1f\x8b"));
            assert!(packed.body.len() < plain.body.len());
            // The end of a gzip stream tells what it is a stream of.
            let end = &packed.body[packed.body.len() - 8..];
            let number = |at: usize| u32::from_le_bytes(end[at..at + 4].try_into().unwrap());
            assert_eq!(number(0), pictures::crc32(&plain.body), "{path}");
            assert_eq!(number(4), plain.body.len() as u32, "{path}");
        } else {
            let kind = plain.header("content-type").unwrap();
            let packs = !kind.starts_with("image/") && plain.body.len() >= 1024;
            assert!(!packs, "{path} is worth packing");
        }
        for refused in ["gzip;q=0", "identity"] {
            let plain = client.send("GET", path, &[("accept-encoding", refused)], b"");
            assert!(plain.header("content-encoding").is_none(), "{refused}");
        }
    }
    client.get("/portal/no-such-file").problem(404);
    client.get("/portal/../spin.toml").problem(404);
}

#[test]
fn the_api_is_described() {
    let app = App::start_own();
    let client = Client::new(&app);
    let answer = client.get("/openapi.json").expect(200);
    let kind = answer.header("content-type").unwrap();
    assert!(kind.contains("json"), "{kind}");
    let document = answer.json();
    let version = document["openapi"].as_str().unwrap();
    assert!(version.starts_with("3.1"), "{version}");
    // `/images/{id}` and `/images/{image}` are the same path.
    let shape = |path: &str| {
        let segments = path.split('/');
        let shapes = segments.map(|part| if part.starts_with('{') { "{}" } else { part });
        shapes.collect::<Vec<_>>().join("/")
    };
    let paths = document["paths"].as_object().unwrap();
    let described: BTreeSet<(String, String)> = paths
        .iter()
        .flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().keys();
            methods.map(move |method| (method.clone(), shape(path)))
        })
        .collect();
    for (method, path) in [
        ("post", "/process_message"),
        ("get", "/process_message/{}"),
        ("get", "/counter/{}"),
        ("get", "/counter/{}/value"),
        ("post", "/auth/register"),
        ("post", "/auth/login"),
        ("post", "/auth/logout"),
        ("get", "/auth/profile"),
        ("post", "/images/upload"),
        ("get", "/images"),
        ("get", "/images/{}"),
        ("delete", "/images/{}"),
        ("get", "/images/{}/thumbnail"),
        ("get", "/recommendations"),
        ("get", "/portal/stats"),
    ] {
        let expected = (method.to_owned(), path.to_owned());
        assert!(described.contains(&expected), "{method} {path}");
    }
    for probe in ["healthz", "readyz"] {
        let one_for_all = format!("/{probe}/{{}}");
        for component in COMPONENTS {
            let each = format!("/{probe}/{component}");
            let found = |path: &String| described.contains(&("get".to_owned(), path.clone()));
            assert!(found(&one_for_all) || found(&each), "{each}");
        }
    }
    // Nothing is described that is not there.
    for (path, item) in paths {
        if item.get("get").is_some() && !path.contains('{') {
            assert_ne!(client.get(path).status, 404, "{path}");
        }
    }
    // Every reference leads somewhere.
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1) {
        let pointer = reference.split('"').next().unwrap();
        assert!(document.pointer(pointer).is_some(), "{pointer}");
    }
}

#[test]
fn the_portal_sees_the_queues() {
    // Nobody takes messages off the queues.
    let app = App::start_with(&own_manifest(), &["--trigger", "http"], &[]);
    let depths = || {
        let stats = Client::new(&app).get("/portal/stats").expect(200);
        assert_eq!(stats.header("cache-control"), Some("no-store"));
        stats.json()["queues"].clone()
    };
    let queue = |name: &str, visible: u32, in_flight: u32| json!({"name": name, "visible": visible, "in_flight": in_flight});
    assert_eq!(
        depths(),
        json!([queue("messages", 0, 0), queue("images", 0, 0)])
    );
    for _ in 0..3 {
        assert_eq!(post(&app.url("/process_message"), b"{}").0, 202);
    }
    upload_one(&member(&app, "painter"), 1);
    app.sqs("ReceiveMessage", json!({"QueueName": "messages"}));
    assert_eq!(
        depths(),
        json!([queue("messages", 2, 1), queue("images", 1, 0)])
    );
}

#[test]
fn every_service_is_alive_and_ready() {
    let app = App::start_own();
    let client = Client::new(&app);
    for component in COMPONENTS {
        let alive = client.get(&format!("/healthz/{component}")).expect(200);
        assert_eq!(alive.json()["status"], "alive");
        let ready = client.get(&format!("/readyz/{component}")).expect(200);
        assert_eq!(ready.json()["status"], "ready");
        let checks = ready.json()["checks"].clone();
        for check in checks.as_array().into_iter().flatten() {
            assert_eq!(check["status"], "ok", "{component}: {check}");
        }
        for path in [
            format!("/healthz/{component}"),
            format!("/readyz/{component}"),
        ] {
            let refused = client.send("PUT", &path, &[], b"");
            refused.problem(405);
            assert!(refused.header("allow").unwrap().contains("GET"));
        }
    }
}

/// Method, path and body.
type Calls<'a> = Vec<(&'a str, &'a str, &'a str)>;

/// Each dependency in turn is an address where nobody listens.
#[test]
fn a_dependency_that_is_down_is_a_503() {
    let secret = "Pa55-of-the-database";
    let database = format!("postgres://gristmill:{secret}@{NOWHERE}/gristmill");
    let (http, postgres) = (format!("http://{NOWHERE}"), format!("postgres://{NOWHERE}"));
    let token = "A".repeat(43);
    let some_id = format!("/images/{}", "0".repeat(32));
    let register = json!({"username": "miller", "password": PASSWORD}).to_string();
    let cases: [(&str, Vec<(&str, &str)>, Calls<'_>, Vec<&str>); 3] = [
        (
            "queue",
            vec![("SPIN_VARIABLE_SQS_ORIGIN", http.as_str())],
            vec![
                ("POST", "/process_message", "{}"),
                ("GET", "/portal/stats", ""),
            ],
            vec!["process-message", "images", "portal"],
        ),
        (
            "auth",
            vec![("SPIN_VARIABLE_AUTH_ORIGIN", http.as_str())],
            vec![
                ("POST", "/images/upload", "GIF89a"),
                ("GET", "/images", ""),
                ("DELETE", some_id.as_str(), ""),
            ],
            vec![],
        ),
        (
            "database",
            vec![
                ("SPIN_VARIABLE_DATABASE_URL", database.as_str()),
                ("SPIN_VARIABLE_DATABASE_ORIGIN", postgres.as_str()),
            ],
            vec![
                ("POST", "/auth/register", register.as_str()),
                ("POST", "/auth/login", register.as_str()),
                ("GET", some_id.as_str(), ""),
                ("GET", "/recommendations", ""),
            ],
            vec!["auth", "images", "recommend"],
        ),
    ];
    for (what, variables, calls, not_ready) in cases {
        let app = start(&variables);
        let client = Client::new(&app).with_bearer(&token);
        for (method, path, body) in calls {
            let json = [("content-type", "application/json")];
            let asked = Instant::now();
            let answer = client.send(method, path, &json, body.as_bytes());
            let detail = answer.problem(503);
            assert_eq!(answer.header("retry-after"), Some("1"), "{what}: {path}");
            assert!(asked.elapsed() < Duration::from_secs(10), "{what}: {path}");
            for internal in [NOWHERE, secret, "refused", "os error"] {
                assert!(!detail.contains(internal), "{what}: {path}: {detail}");
            }
        }
        for component in not_ready {
            let answer = client.get(&format!("/readyz/{component}")).expect(503);
            let text = answer.text();
            assert_eq!(answer.json()["status"], "not ready");
            assert!(text.contains("\"failed\""), "{what}: {text}");
            assert!(!text.contains(secret), "{text}");
        }
        for component in COMPONENTS {
            client.get(&format!("/healthz/{component}")).expect(200);
        }
        assert!(!app.log().contains(secret));
    }
}

/// Without the queue an upload is either refused and leaves nothing, or taken and shown.
#[test]
fn an_upload_without_the_queue_is_whole_or_not_there() {
    let origin = format!("http://{NOWHERE}");
    let app = start(&[("SPIN_VARIABLE_SQS_ORIGIN", &origin)]);
    let client = member(&app, "painter");
    let upload = client.upload(pictures::GIF);
    let shown = ids(&client.get("/images").expect(200).json());
    match upload.status {
        201 => assert_eq!(shown, [id_of(&upload)]),
        _ => {
            upload.problem(503);
            assert_eq!(upload.header("retry-after"), Some("1"));
            assert!(shown.is_empty(), "{shown:?}");
            assert!(stored_keys(&app, "images").is_empty());
        }
    }
}

#[test]
fn accounts_and_catalog_live_in_postgres_by_configuration_alone() {
    let Some(postgres) = Postgres::start("s3cret-of-postgres") else {
        return;
    };
    let origin = format!("postgres://127.0.0.1:{}", postgres.port());
    let mut app = start_ticking(&[
        ("SPIN_VARIABLE_DATABASE_URL", &postgres.url()),
        ("SPIN_VARIABLE_DATABASE_ORIGIN", &origin),
    ]);
    let client = member(&app, "painter");
    Client::new(&app).register("painter").problem(409);
    Client::new(&app)
        .login("painter", "not the password")
        .problem(401);
    let (first, second) = (upload_one(&client, 1), upload_one(&client, 2));
    thumbnail(&client, &first);
    let page = client.get("/images?limit=1").expect(200).json();
    assert_eq!(ids(&page), [second.clone()]);
    let next = client.get(&format!("/images?limit=1&after={second}"));
    assert_eq!(ids(&next.json()), [first.clone()]);
    for _ in 0..3 {
        client.get(&format!("/images/{first}")).expect(200);
    }
    wait_for("the recommendation", || {
        let answer = Client::new(&app).get("/recommendations").expect(200).json();
        (answer["recommendations"][0]["views"] == 3).then_some(())
    });
    client.delete(&format!("/images/{second}")).expect(204);
    for component in COMPONENTS {
        let ready = client.get(&format!("/readyz/{component}"));
        assert_eq!(ready.status, 200, "{}", ready.text());
    }

    // It is in that database, and nothing is in a file.
    let tables = "SELECT count(*) FROM information_schema.tables \
                  WHERE table_schema NOT IN ('pg_catalog', 'information_schema')";
    assert!(postgres.run(tables).parse::<u32>().unwrap() >= 4);
    for file in ["sqlite_db-accounts.db", "sqlite_db-catalog.db"] {
        let path = app.dir().join(".spin").join(file);
        if path.exists() {
            let tables = "SELECT count(*) FROM sqlite_master WHERE type = 'table'";
            let count: u32 = open(&app, file)
                .query_row(tables, [], |row| row.get(0))
                .unwrap();
            assert_eq!(count, 0, "{file}");
        }
    }

    // An outage is a 503, and over by itself.
    postgres.kill();
    Client::new(&app).login("painter", PASSWORD).problem(503);
    client.get("/images").problem(503);
    postgres.restart();
    wait_for("the database to be used again", || {
        (client.get("/images").status == 200).then_some(())
    });
    app.restart();
    let again = token_of(&Client::new(&app).login("painter", PASSWORD));
    let again = Client::new(&app).with_bearer(&again);
    assert_eq!(ids(&again.get("/images").expect(200).json()), [first]);
    assert!(!app.log().contains("s3cret-of-postgres"));
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

#[test]
fn pictures_live_in_a_bucket_by_configuration_alone() {
    let Some(ministack) = Ministack::start() else {
        return;
    };
    let endpoint = ministack.endpoint();
    let made = agent().put(format!("{endpoint}/pictures")).send("");
    assert_eq!(made.unwrap().status(), 200);
    let object = |key: &str| get(&format!("{endpoint}/pictures/{key}")).0;
    for redirect in ["false", "true"] {
        let app = start(&[
            ("SPIN_VARIABLE_IMAGES_BUCKET", "pictures"),
            ("SPIN_VARIABLE_S3_ORIGIN", &endpoint),
            ("SPIN_VARIABLE_S3_REGION", "eu-central-1"),
            ("SPIN_VARIABLE_S3_ACCESS_KEY_ID", "the-key-id"),
            ("SPIN_VARIABLE_S3_SECRET_ACCESS_KEY", "the-secret-key-of-s3"),
            ("SPIN_VARIABLE_IMAGES_REDIRECT", redirect),
        ]);
        let client = member(&app, "painter");
        let picture = pictures::png(400, 300, 5);
        let id = id_of(&client.upload(&picture));
        let url = format!("/images/{id}");
        assert_eq!(object(&id), 200);
        assert!(stored_keys(&app, "images").is_empty());

        let answer = client.get(&url);
        if redirect == "true" {
            let location = answer.expect(302).header("location").unwrap().to_owned();
            let expected = format!("{endpoint}/pictures/{id}?");
            assert!(location.starts_with(&expected), "{location}");
            assert!(location.contains("X-Amz-Expires=300"), "{location}");
            assert!(location.contains("X-Amz-Signature="), "{location}");
            assert!(!location.contains("the-secret-key-of-s3"), "{location}");
            let followed = agent().get(app.url(&url)).call().unwrap();
            assert_eq!(followed.status(), 200);
            assert_eq!(followed.into_body().read_to_vec().unwrap(), picture);
        } else {
            serves(&app, &url, "image/png", &picture);
        }
        wait_for("the thumbnail", || {
            (listed(&client, &id)?["thumbnail"] == "ready").then_some(())
        });
        let key = format!("{id}.thumbnail");
        assert_eq!(object(&key), 200);
        let small = agent().get(app.url(&format!("{url}/thumbnail"))).call();
        let small = small.unwrap().into_body().read_to_vec().unwrap();
        assert_eq!(size(&small), (320, 240));

        client.delete(&url).expect(204);
        client.get(&url).problem(404);
        assert_eq!((object(&id), object(&key)), (404, 404));
        assert_eq!(client.get("/readyz/images").status, 200);

        if redirect == "true" {
            ministack.kill();
            let refused = client.upload(&picture);
            refused.problem(503);
            assert_eq!(refused.header("retry-after"), Some("1"));
            assert_eq!(client.get("/readyz/images").status, 503);
            assert!(ids(&client.get("/images").expect(200).json()).is_empty());
        }
        assert!(!app.log().contains("the-secret-key-of-s3"));
    }
}

/// A second process that answers requests on the same state.
fn beside(app: &App) -> App {
    let state = app.dir().join(".spin");
    let origin = app.queue_origin();
    let url = |queue: &str| format!("{origin}/000000000000/{queue}");
    App::start_with(
        &own_manifest(),
        &[
            "--no-local-queue",
            "--trigger",
            "http",
            "--state-dir",
            state.to_str().unwrap(),
        ],
        &[
            ("SPIN_VARIABLE_SQS_ORIGIN", origin),
            ("SPIN_VARIABLE_MESSAGES_QUEUE_URL", &url("messages")),
            ("SPIN_VARIABLE_IMAGES_QUEUE_URL", &url("images")),
        ],
    )
}

#[test]
fn two_processes_share_accounts_sessions_and_pictures() {
    let app = App::start_own();
    let other = beside(&app);
    let client = member(&app, "painter");
    let token = token_of(&Client::new(&other).login("painter", PASSWORD));
    let there = Client::new(&other).with_bearer(&token);
    let here = Client::new(&app).with_bearer(&token);
    for client in [&there, &here] {
        client.get("/auth/profile").expect(200);
    }
    // Uploaded there, its thumbnail made here, seen on both sides.
    let id = upload_one(&there, 1);
    thumbnail(&here, &id);
    thumbnail(&there, &id);
    assert!(listed(&client, &id).is_some());
    // Logged out here is logged out there.
    here.post("/auth/logout").expect(204);
    there.get("/auth/profile").problem(401);
    client.delete(&format!("/images/{id}")).expect(204);
    there.get(&format!("/images/{id}")).problem(404);
}

#[test]
fn a_restart_keeps_accounts_sessions_and_pictures() {
    let mut app = App::start_own();
    let client = member(&app, "painter");
    let profile = client.get("/auth/profile").expect(200).json();
    let token = token_of(&Client::new(&app).login("painter", PASSWORD));
    let picture = pictures::png(400, 300, 7);
    let id = id_of(&client.upload(&picture));
    let small = thumbnail(&client, &id).body;
    // Its thumbnail may be made before the kill or after it, but it is made.
    let last = upload_one(&client, 8);

    app.restart();
    let client = Client::new(&app).with_bearer(&token);
    let again = client.get("/auth/profile").expect(200).json();
    assert_eq!(again["created_at"], profile["created_at"]);
    assert_eq!(client.get(&format!("/images/{id}")).body, picture);
    assert_eq!(thumbnail(&client, &id).body, small);
    thumbnail(&client, &last);
    assert_eq!(ids(&client.get("/images").json()), [last, id]);
    token_of(&Client::new(&app).login("painter", PASSWORD));
}

/// Ends the load also when the test fails, which else would wait for it.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The share `q` of these took no longer.
fn quantile(times: &mut [Duration], q: f64) -> Duration {
    times.sort_unstable();
    times[((times.len() - 1) as f64 * q) as usize]
}

fn timed(call: impl FnOnce()) -> Duration {
    let began = Instant::now();
    call();
    began.elapsed()
}

/// Hashing a password takes about 100 ms of a core. Eight who log in without pause keep both
/// cores busy, and each login then takes several times as long as alone. Another request gets its
/// turn between them: it must not wait for whole logins, one after the other. The bound is
/// relative to the logins, so that other tests on the same cores slow both sides.
#[test]
fn logins_do_not_stall_other_requests() {
    const PATHS: [&str; 2] = ["/counter/x/value", "/healthz/counter"];
    let app = App::start_own();
    let client = Client::new(&app);
    client.register("miller").expect(201);
    let login = || timed(|| drop(Client::new(&app).login("miller", PASSWORD).expect(200)));
    let alone = quantile(&mut (0..5).map(|_| login()).collect::<Vec<_>>(), 0.5);
    let measure = |path: &str| {
        let began = Instant::now();
        let mut times = Vec::new();
        while times.len() < 50 || (began.elapsed() < Duration::from_secs(3) && times.len() < 1000) {
            times.push(timed(|| drop(client.get(path).expect(200))));
        }
        (quantile(&mut times, 0.5), quantile(&mut times, 0.99))
    };
    let before = PATHS.map(measure);

    let enough = AtomicBool::new(false);
    let logins = Mutex::new(Vec::new());
    let during = thread::scope(|scope| {
        let _end = End(&enough);
        for _ in 0..8 {
            scope.spawn(|| {
                while !enough.load(Ordering::Relaxed) {
                    let took = login();
                    logins.lock().unwrap().push(took);
                }
            });
        }
        wait_for("the load", || {
            (logins.lock().unwrap().len() >= 8).then_some(())
        });
        PATHS.map(measure)
    });
    let mut logins = logins.into_inner().unwrap();
    let typical = quantile(&mut logins, 0.5);
    let _ = writeln!(
        std::io::stderr(),
        "    logins: {alone:.1?} alone, {typical:.1?} with 8 at once ({} in all)",
        logins.len()
    );
    // A machine with many cores has logins that do not slow each other.
    let bound = typical.max(Duration::from_millis(200));
    for ((path, before), during) in PATHS.into_iter().zip(before).zip(during) {
        let _ = writeln!(
            std::io::stderr(),
            "    {path}: p50 {:.1?}, p99 {:.1?}; during logins p50 {:.1?}, p99 {:.1?}",
            before.0,
            before.1,
            during.0,
            during.1
        );
        assert!(
            during.0 < bound / 2,
            "{path}: p50 {:?}, bound {bound:?}",
            during.0
        );
        assert!(
            during.1 < bound * 2,
            "{path}: p99 {:?}, bound {bound:?}",
            during.1
        );
    }
}
