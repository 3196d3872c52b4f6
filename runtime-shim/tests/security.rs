//! Attacks on the real application, each with the refusal that it must meet. A table row is an
//! attempt; a test is a family of them.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use support::pictures::{self, Colour};
use support::web::{Answer, Client, Form, PASSWORD, member, token_of};
use support::{App, agent, get, own_manifest, wait_for};

const WRONG: &str = "not what was chosen";
/// Failures of one name from one address before it is locked.
const FREE_GUESSES: usize = 5;
/// Where a sibling of a limit is checked before it is counted, one more may pass; no second one.
const SLACK: usize = 1;

fn start(variables: &[(&str, &str)]) -> App {
    App::start_with(&own_manifest(), &[], variables)
}

fn sha256(text: &str) -> String {
    Sha256::digest(text)
        .iter()
        .fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").unwrap();
            hex
        })
}

#[track_caller]
fn id_of(upload: &Answer) -> String {
    assert_eq!(upload.status, 201, "{}", upload.text());
    upload.json()["id"].as_str().unwrap().to_owned()
}

/// Logs in somewhere else and returns the token.
#[track_caller]
fn new_token(app: &App, username: &str) -> String {
    token_of(&Client::new(app).login(username, PASSWORD))
}

/// Until no image of this client is pending any more; their states.
fn settled(client: &Client) -> BTreeSet<String> {
    wait_for("every thumbnail's end", || {
        let page = client.get("/images?limit=100").expect(200).json();
        let images = page["images"].as_array().unwrap().iter();
        let states = images.map(|image| image["thumbnail"].as_str().unwrap().to_owned());
        let states: BTreeSet<_> = states.collect();
        (!states.contains("pending")).then_some(states)
    })
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

// --- Requests from other sites.

#[test]
fn another_site_cannot_act_for_a_visitor() {
    let app = App::start_own();
    member(&app, "victim");
    let token = new_token(&app, "victim");
    let host = Client::new(&app).authority().to_owned();
    let (ours, port) = (format!("http://{host}"), host.rsplit(':').next().unwrap());
    let origin = |value: &str| vec![("origin".to_owned(), value.to_owned())];
    let site = |value: &str| vec![("sec-fetch-site".to_owned(), value.to_owned())];
    let both = |o: &str, s: &str| [origin(o), site(s)].concat();
    // What the browser says, and whether it may go on.
    let cases = [
        (vec![], false),
        (origin(&ours), true),
        (site("same-origin"), true),
        (both(&ours, "same-origin"), true),
        (site("same-site"), false),
        (site("cross-site"), false),
        (site("none"), false),
        (site(""), false),
        (site("same-origin, cross-site"), false),
        (origin("null"), false),
        (origin(""), false),
        (origin("http://evil.example"), false),
        (origin("http://127.0.0.1"), false),
        (origin(&format!("{ours}0")), false),
        (origin(&format!("{ours}.evil.example")), false),
        (origin(&format!("{ours}@evil.example")), false),
        (origin(&format!("http://evil.example@{host}")), false),
        (origin(&format!("http://evil.example/{host}")), false),
        (origin(&format!("http://evil.example#{host}")), false),
        (origin(&format!("http://evil.example:{port}")), false),
        (origin(&format!("{ours} http://evil.example")), false),
        (origin(&host), false),
        (both(&ours, "cross-site"), false),
        (both(&ours, "none"), false),
        (both("http://evil.example", "same-origin"), false),
        (
            [origin(&ours), origin("http://evil.example")].concat(),
            false,
        ),
        (
            [origin("http://evil.example"), origin(&ours)].concat(),
            false,
        ),
        ([site("same-origin"), site("cross-site")].concat(), false),
        (vec![("referer".to_owned(), format!("{ours}/"))], false),
        (
            vec![("x-requested-with".to_owned(), "XMLHttpRequest".to_owned())],
            false,
        ),
    ];
    let image = format!("/images/{}", "0".repeat(32));
    // What a request gets that was let through, without its effect.
    for (method, path, body, through) in [
        ("POST", "/images/upload", "no image", 415),
        ("DELETE", image.as_str(), "", 404),
    ] {
        for (headers, allowed) in &cases {
            let client = Client::new(&app);
            client.set_cookie(Some(&token));
            let headers: Vec<_> = headers
                .iter()
                .map(|(n, v)| (n.as_str(), v.as_str()))
                .collect();
            let answer = client.send(method, path, &headers, body.as_bytes());
            let expected = if *allowed { through } else { 403 };
            assert_eq!(answer.status, expected, "{method} {path} {headers:?}");
            answer.problem(expected);
        }
    }
    // A log-out would be the proof of its own success.
    for (headers, allowed) in &cases {
        let client = Client::new(&app);
        client.set_cookie(Some(&"A".repeat(43)));
        let headers: Vec<_> = headers
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_str()))
            .collect();
        let answer = client.send("POST", "/auth/logout", &headers, b"");
        assert_eq!(
            answer.status,
            if *allowed { 204 } else { 403 },
            "{headers:?}"
        );
    }
    let client = Client::new(&app);
    client.set_cookie(Some(&token));
    client
        .send("POST", "/auth/logout", &[("origin", "null")], b"")
        .problem(403);
    client.get("/auth/profile").expect(200);
}

/// A visitor who is logged in to an attacker's account uploads to the attacker.
#[test]
fn another_site_cannot_log_a_visitor_in() {
    let app = App::start_own();
    member(&app, "attacker");
    let ours = format!("http://{}", Client::new(&app).authority());
    let login = json!({"username": "attacker", "password": PASSWORD}).to_string();
    let register = json!({"username": "forced", "password": PASSWORD}).to_string();
    for (path, body) in [("/auth/login", &login), ("/auth/register", &register)] {
        for headers in [
            vec![("origin", "http://evil.example")],
            vec![("origin", "null")],
            vec![("sec-fetch-site", "cross-site")],
            vec![("origin", ours.as_str()), ("sec-fetch-site", "cross-site")],
            vec![
                ("origin", "http://evil.example"),
                ("sec-fetch-site", "same-origin"),
            ],
        ] {
            let all = [headers.as_slice(), &[("content-type", "application/json")]].concat();
            let answer = Client::new(&app).send("POST", path, &all, body.as_bytes());
            answer.problem(403);
            assert!(answer.session().is_none(), "{path} {headers:?}");
        }
        // With a cookie, silence is not enough either.
        let client = Client::new(&app);
        client.set_cookie(Some(&"A".repeat(43)));
        let json = [("content-type", "application/json")];
        client
            .send("POST", path, &json, body.as_bytes())
            .problem(403);
        // What a form can send without asking first is no JSON.
        for kind in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "text/plain; application/json",
            "application/jsonp",
        ] {
            let kind = [("content-type", kind)];
            Client::new(&app)
                .send("POST", path, &kind, body.as_bytes())
                .problem(415);
        }
    }
    Client::new(&app).register("forced").expect(201);
    let honest = Client::new(&app)
        .with("origin", &ours)
        .with("sec-fetch-site", "same-origin");
    honest.login("attacker", PASSWORD).expect(200);
}

/// A bearer is never sent by a browser on its own; so it needs no origin. But only a real one
/// lifts the duty, and then it alone counts.
#[test]
fn a_bearer_stands_for_itself_only() {
    let app = App::start_own();
    member(&app, "victim");
    let token = new_token(&app, "victim");
    let image = format!("/images/{}", "0".repeat(32));
    let evil = [
        ("origin", "http://evil.example"),
        ("sec-fetch-site", "cross-site"),
    ];
    let bearer = Client::new(&app).with_bearer(&token);
    bearer.send("DELETE", &image, &evil, b"").problem(404);
    bearer.set_cookie(Some(&"A".repeat(43)));
    bearer.send("DELETE", &image, &evil, b"").problem(404);

    for authorization in [
        "Basic dmljdGltOng=",
        "Bearer",
        "Bearer ",
        "Bearer x",
        "Digest username=\"victim\"",
        "",
    ] {
        let client = Client::new(&app).with("authorization", authorization);
        client.set_cookie(Some(&token));
        for (method, path) in [("DELETE", image.as_str()), ("POST", "/images/upload")] {
            let answer = client.send(method, path, &evil, b"");
            assert!(
                matches!(answer.status, 401 | 403),
                "{authorization:?}: {method} {path}: {}",
                answer.status
            );
        }
        // The session that the cookie names goes on.
        client.send("POST", "/auth/logout", &evil, b"");
        let owner = Client::new(&app).with_bearer(&token);
        owner.get("/auth/profile").expect(200);
    }
    // Both present: the bearer counts.
    let client = Client::new(&app).with_bearer(&"A".repeat(43));
    client.set_cookie(Some(&token));
    client.get("/auth/profile").problem(401);
}

#[test]
fn the_public_origin_is_the_only_one_when_it_is_set() {
    let app = start(&[("SPIN_VARIABLE_PUBLIC_ORIGIN", "https://mill.example")]);
    let client = member(&app, "miller");
    let token = new_token(&app, "miller");
    let host = client.authority().to_owned();
    let image = format!("/images/{}", "0".repeat(32));
    for (origin, status) in [
        ("https://mill.example", 404),
        ("http://mill.example", 403),
        ("https://mill.example:8443", 403),
        ("https://mill.example.evil.example", 403),
        ("https://mill.example/", 403),
        // A host that an attacker's name resolves to.
        (format!("http://{host}").as_str(), 403),
        (format!("https://{host}").as_str(), 403),
    ] {
        let client = Client::new(&app);
        client.set_cookie(Some(&token));
        let answer = client.send("DELETE", &image, &[("origin", origin)], b"");
        assert_eq!(answer.status, status, "{origin}");
    }
}

// --- Sessions.

#[test]
fn a_session_is_never_the_clients_choice_and_changes_at_login() {
    let app = App::start_own();
    Client::new(&app).register("victim").expect(201);
    let planted = "B".repeat(43);
    let client = Client::new(&app).with_cookie(&planted);
    let first = token_of(&client.login("victim", PASSWORD));
    assert_ne!(first, planted);
    let attacker = Client::new(&app).with_bearer(&planted);
    attacker.get("/auth/profile").problem(401);

    // A failure ends nothing; a success ends the session that the cookie held.
    client.login("victim", WRONG).problem(401);
    assert_eq!(client.cookie(), Some(first.clone()));
    client.get("/auth/profile").expect(200);
    let second = token_of(&client.login("victim", PASSWORD));
    assert_ne!(first, second);
    Client::new(&app)
        .with_bearer(&first)
        .get("/auth/profile")
        .problem(401);
    client.get("/auth/profile").expect(200);

    let tokens: BTreeSet<_> = (0..6).map(|_| new_token(&app, "victim")).collect();
    assert_eq!(tokens.len(), 6);
}

#[test]
fn a_token_that_was_not_given_opens_nothing() {
    let app = App::start_own();
    let client = member(&app, "victim");
    let token = new_token(&app, "victim");
    let last = token.chars().next_back().unwrap();
    // Of the last character, two bits have no meaning: the neighbour decodes to the same bytes.
    let twin = |offset: u8| format!("{}{}", &token[..42], (last as u8 + offset) as char);
    let swapped: String = token
        .chars()
        .map(|c| {
            if c.is_lowercase() {
                c.to_ascii_uppercase()
            } else {
                c.to_ascii_lowercase()
            }
        })
        .collect();
    let forged = [
        String::new(),
        token[..42].to_owned(),
        token[1..].to_owned(),
        format!("{token}A"),
        format!("{token}="),
        format!("{token}%00"),
        format!("{token}%20"),
        format!("{token} x"),
        format!("{token},{token}"),
        twin(1),
        twin(2),
        twin(3),
        swapped,
        // What a thief of the store would have.
        sha256(&token),
        "A".repeat(43),
        "A".repeat(8000),
        "../sessions".to_owned(),
        "' OR '1'='1".to_owned(),
        "null".to_owned(),
        "undefined".to_owned(),
        "eyJhbGciOiJub25lIn0.eyJ1c2VybmFtZSI6InZpY3RpbSJ9.".to_owned(),
        "ü".repeat(20),
    ];
    for token in &forged {
        for path in ["/auth/profile", "/images"] {
            let bearer = Client::new(&app).with_bearer(token).get(path);
            assert_eq!(bearer.status, 401, "{path} bearer {token:?}");
            let anyone = Client::new(&app);
            anyone.set_cookie(Some(token));
            let cookie = anyone.get(path);
            assert_eq!(cookie.status, 401, "{path} cookie {token:?}");
            assert!(!cookie.text().contains("1'='1"), "{}", cookie.text());
        }
    }
    // Bytes that no header may hold are refused, by whoever sees them first.
    for byte in [0_u8, b'\x01', b'\x7f', b'\xff'] {
        let anyone = Client::new(&app);
        let head = format!(
            "GET /auth/profile HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n",
            anyone.authority()
        );
        for name in ["authorization: Bearer ", "cookie: gm_session="] {
            let mut request = format!("{head}{name}{token}").into_bytes();
            request.push(byte);
            request.extend(b"\r\n\r\n");
            let answer = anyone.exchange("GET", &request, b"");
            assert!(
                matches!(answer.status, 400 | 401),
                "{byte:#x}: {}",
                answer.status
            );
        }
    }
    // Elsewhere than where it belongs, a right token is nothing.
    let anyone = Client::new(&app);
    for path in ["token", "access_token", "gm_session"] {
        anyone
            .get(&format!("/auth/profile?{path}={token}"))
            .problem(401);
    }
    for (name, value) in [
        ("authorization", token.clone()),
        ("authorization", format!("Basic {token}")),
        ("authorization", format!("Token {token}")),
        ("x-auth-token", token.clone()),
        ("cookie", format!("GM_SESSION={token}")),
        ("cookie", format!("gm_session_={token}")),
        ("cookie", format!("x=gm_session={token}")),
    ] {
        let answer = anyone.send("GET", "/auth/profile", &[(name, &value)], b"");
        assert_eq!(answer.status, 401, "{name}");
    }
    // A second cookie, planted by a neighbouring site, may spoil the session but not confuse it.
    for cookies in [
        format!("gm_session={token}; gm_session=x"),
        format!("gm_session=x; gm_session={token}"),
    ] {
        let answer = anyone.send("GET", "/auth/profile", &[("cookie", &cookies)], b"");
        assert!(matches!(answer.status, 200 | 401), "{}", answer.status);
    }
    client.get("/auth/profile").expect(200);
}

/// Every file below a folder with its bytes.
fn files(dir: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if let Ok(bytes) = std::fs::read(&path) {
            found.push((path.display().to_string(), bytes));
        }
    }
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

#[test]
fn neither_password_nor_token_is_stored_or_logged() {
    let mut app = App::start_with(&own_manifest(), &[], &[("GRISTMILL_LOG", "debug")]);
    member(&app, "miller");
    Client::new(&app).register("second").expect(201);
    Client::new(&app).login("miller", WRONG).problem(401);
    let token = new_token(&app, "miller");
    let user = Client::new(&app).with_cookie(&token);
    id_of(&user.upload(pictures::GIF));
    user.get("/auth/profile").expect(200);
    let metrics = get(&app.admin("/metrics")).1;
    let log = app.log();
    app.signal("-TERM");
    let (_, rest) = app.wait();

    let mut stored = vec![
        ("the metrics".to_owned(), metrics.into_bytes()),
        ("the log".to_owned(), log.into_bytes()),
        ("the log's end".to_owned(), rest.into_bytes()),
    ];
    let state = app.dir().join(".spin");
    files(&state, &mut stored);
    for (name, bytes) in &stored {
        for secret in [PASSWORD, WRONG, token.as_str()] {
            assert!(!holds(bytes, secret), "{secret:?} is in {name}");
        }
    }
    let sessions = stored.iter().filter(|(name, _)| name.contains("sessions"));
    assert!(
        sessions
            .clone()
            .any(|(_, bytes)| holds(bytes, &sha256(&token))),
        "the session is stored by its digest"
    );

    // Two accounts with one password: two salts; and a cost that OWASP would accept.
    let mut hashes = BTreeSet::new();
    for (_, bytes) in stored.iter().filter(|(name, _)| name.contains("accounts")) {
        let text = String::from_utf8_lossy(bytes);
        for part in text.split("$argon2id$").skip(1) {
            let end = |c: char| !(c.is_ascii_alphanumeric() || "$+/=,".contains(c));
            hashes.insert(part.split(end).next().unwrap().to_owned());
        }
    }
    assert!(hashes.len() >= 2, "{hashes:?}");
    for hash in &hashes {
        let number = |name: &str| -> u32 {
            let found = hash
                .split(['$', ','])
                .find_map(|part| part.strip_prefix(name));
            found.unwrap_or_else(|| panic!("{hash}")).parse().unwrap()
        };
        let (memory, passes) = (number("m="), number("t="));
        assert!(memory >= 7168 && memory * passes >= 7168 * 5, "{hash}");
    }
}

#[test]
fn the_cookie_has_its_flags() {
    let https = [("x-forwarded-proto", "https")];
    let forged = [("spin-full-url", "https://mill.example/auth/login")];
    for (variables, headers, secure) in [
        (vec![], vec![], false),
        (vec![], https.to_vec(), false),
        (vec![], forged.to_vec(), false),
        (
            vec![("SPIN_VARIABLE_PUBLIC_ORIGIN", "https://mill.example")],
            vec![],
            true,
        ),
        (
            vec![("SPIN_VARIABLE_TRUSTED_PROXIES", "10.0.0.0/8")],
            https.to_vec(),
            false,
        ),
        (
            vec![("SPIN_VARIABLE_TRUSTED_PROXIES", "10.0.0.0/8,127.0.0.0/8")],
            https.to_vec(),
            true,
        ),
    ] {
        let app = start(&variables);
        let mut client = Client::new(&app);
        client.register("miller").expect(201);
        for (name, value) in &headers {
            client = client.with(name, value);
        }
        let login = client.login("miller", PASSWORD).expect(200);
        let scheme = if secure { "https" } else { "http" };
        let origin = if variables.iter().any(|(name, _)| name.contains("ORIGIN")) {
            "https://mill.example".to_owned()
        } else {
            format!("{scheme}://{}", client.authority())
        };
        let same = [
            ("origin", origin.as_str()),
            ("sec-fetch-site", "same-origin"),
        ];
        let logout = client.send("POST", "/auth/logout", &same, b"");
        for (answer, age) in [
            (&login, "max-age=86400"),
            (&logout.expect(204), "max-age=0"),
        ] {
            assert_eq!(answer.all("set-cookie").count(), 1);
            let cookie = answer.header("set-cookie").unwrap().to_ascii_lowercase();
            let flags: BTreeSet<&str> = cookie.split(';').skip(1).map(str::trim).collect();
            for flag in ["httponly", "samesite=lax", "path=/", age] {
                assert!(flags.contains(flag), "{flag}: {cookie}");
            }
            assert!(!cookie.contains("domain="), "{cookie}");
            assert_eq!(
                flags.contains("secure"),
                secure,
                "{variables:?} {headers:?}"
            );
        }
    }
}

// --- Guessing.

#[test]
fn a_login_does_not_tell_who_has_an_account() {
    let app = App::start_own();
    Client::new(&app).register("exists").expect(201);
    let answers = ["exists", "nobody"].map(|name| {
        let answer = Client::new(&app).login(name, WRONG);
        answer.problem(401);
        let mut headers = answer.headers.clone();
        headers.retain(|(name, _)| name != "date");
        (answer.status, headers, answer.text())
    });
    assert_eq!(answers[0], answers[1]);

    // Neither by time. In turns, so that whatever else runs slows both alike; each from an
    // address of its own, so that none is locked.
    let mut times = [Vec::new(), Vec::new()];
    for n in 1..=9 {
        for (name, times) in ["exists", "nobody"].into_iter().zip(&mut times) {
            let client = Client::new(&app).at(&format!("127.0.1.{n}"));
            let began = Instant::now();
            client.login(name, WRONG).problem(401);
            times.push(began.elapsed());
        }
    }
    let [known, unknown] = times.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64()
    });
    // Without a hash for unknown names, the factor is 50 or more.
    assert!(
        (0.4..2.5).contains(&(known / unknown)),
        "{known} s against {unknown} s"
    );

    // A lock does not tell either.
    let until_locked = |name: &str| {
        let client = Client::new(&app).at("127.0.2.1");
        let mut statuses = Vec::new();
        for _ in 0..FREE_GUESSES + 2 {
            statuses.push(client.login(name, WRONG).status);
        }
        statuses
    };
    assert_eq!(until_locked("exists"), until_locked("nobody"));
}

/// Guesses until the lock; how many were heard.
fn guess_until_locked(client: &Client, name: &str) -> usize {
    for heard in 0..=FREE_GUESSES + SLACK {
        let answer = client.login(name, WRONG);
        if answer.status == 429 {
            return heard;
        }
        answer.problem(401);
    }
    panic!("{name} is never locked");
}

#[test]
fn a_lock_holds_against_every_disguise_and_ends() {
    let app = App::start_own();
    let client = Client::new(&app).at("127.0.3.1");
    for name in ["miller", "other"] {
        Client::new(&app).register(name).expect(201);
    }
    assert!(guess_until_locked(&client, "miller") >= FREE_GUESSES);
    let locked = client.login("miller", PASSWORD);
    locked.problem(429);
    let seconds: u64 = locked.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    assert!(locked.session().is_none());

    for (name, value) in [
        ("x-forwarded-for", "9.9.9.9"),
        ("x-forwarded-for", "127.0.3.2, 9.9.9.9"),
        ("forwarded", "for=9.9.9.9"),
        ("x-real-ip", "9.9.9.9"),
        ("x-client-ip", "9.9.9.9"),
        ("true-client-ip", "9.9.9.9"),
        ("cf-connecting-ip", "9.9.9.9"),
        ("spin-client-addr", "9.9.9.9:1234"),
        ("user-agent", "another"),
        ("cookie", "gm_session="),
    ] {
        let origin = format!("http://{}", client.authority());
        let disguised = Client::new(&app).at("127.0.3.1").with("origin", &origin);
        let disguised = disguised.with(name, value).login("miller", PASSWORD);
        assert_eq!(disguised.status, 429, "{name}: {value}");
    }
    for name in [
        "MILLER",
        "Miller",
        " miller",
        "miller ",
        "miller\0",
        "m\u{0131}ller",
        "\u{ff4d}iller",
    ] {
        let answer = client.login(name, PASSWORD);
        assert!(
            matches!(answer.status, 400 | 401 | 422 | 429),
            "{name:?}: {}",
            answer.status
        );
        assert!(answer.session().is_none(), "{name:?}");
    }
    let json = [("content-type", "application/json")];
    let escaped = format!("{{\"username\":\"\\u006diller\",\"password\":\"{PASSWORD}\"}}");
    client
        .send("POST", "/auth/login", &json, escaped.as_bytes())
        .problem(429);

    // The others of that address, and the owner elsewhere, are not concerned.
    client.login("other", PASSWORD).expect(200);
    Client::new(&app)
        .at("127.0.3.9")
        .login("miller", PASSWORD)
        .expect(200);

    // Asking during a lock does not make it longer.
    let since = Instant::now();
    wait_for("the lock's end", || {
        let answer = client.login("miller", PASSWORD);
        (answer.status == 200).then_some(())
    });
    let limit = Duration::from_secs(seconds + 10);
    assert!(since.elapsed() < limit, "{:?}", since.elapsed());
    // A success clears the count.
    assert!(guess_until_locked(&client, "miller") >= FREE_GUESSES);
}

#[test]
fn guesses_at_once_are_counted_one_by_one() {
    let app = App::start_own();
    Client::new(&app).register("miller").expect(201);
    let statuses = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..40 {
            scope.spawn(|| {
                let answer = Client::new(&app).at("127.0.4.1").login("miller", WRONG);
                statuses.lock().unwrap().push(answer.status);
            });
        }
    });
    let statuses = statuses.into_inner().unwrap();
    let heard = statuses.iter().filter(|status| **status == 401).count();
    assert!(
        (1..=FREE_GUESSES + SLACK).contains(&heard),
        "{heard}: {statuses:?}"
    );
    assert!(
        statuses.iter().all(|status| matches!(status, 401 | 429)),
        "{statuses:?}"
    );
}

/// By name over all addresses: a distributed guesser is stopped, and the owner is not.
#[test]
fn guessing_from_everywhere_stops_and_does_not_lock_the_owner_out() {
    let app = App::start_own();
    let home = Client::new(&app).at("127.0.5.1");
    home.register("miller").expect(201);
    home.login("miller", PASSWORD).expect(200);
    let mut heard = 0;
    'guesses: for address in 2..60 {
        let client = Client::new(&app).at(&format!("127.0.5.{address}"));
        for _ in 0..4 {
            match client.login("miller", WRONG).status {
                401 => heard += 1,
                429 => break 'guesses,
                other => panic!("{other}"),
            }
        }
    }
    assert!((20..=30 + SLACK).contains(&heard), "{heard} guesses");
    let stranger = Client::new(&app).at("127.0.5.99");
    stranger.login("miller", PASSWORD).problem(429);
    home.login("miller", PASSWORD).expect(200);
}

/// By address over all names, whether they exist or not.
#[test]
fn one_address_cannot_try_one_password_on_everybody() {
    let app = App::start_own();
    Client::new(&app).register("miller").expect(201);
    let client = Client::new(&app).at("127.0.6.1");
    let mut heard = 0;
    for n in 0..80 {
        match client.login(&format!("name{n}"), WRONG).status {
            401 => heard += 1,
            429 => break,
            other => panic!("{other}"),
        }
    }
    assert!((40..=50 + SLACK).contains(&heard), "{heard} guesses");
    client.login("miller", PASSWORD).problem(429);
    Client::new(&app)
        .at("127.0.6.2")
        .login("miller", PASSWORD)
        .expect(200);
}

#[test]
fn only_a_trusted_proxy_names_the_client() {
    let app = start(&[("SPIN_VARIABLE_TRUSTED_PROXIES", "127.0.0.0/8, 10.0.0.0/8")]);
    Client::new(&app).register("miller").expect(201);
    let from = |chain: &str| Client::new(&app).with("x-forwarded-for", chain);
    assert!(guess_until_locked(&from("203.0.113.7"), "miller") >= FREE_GUESSES);
    // What a client puts before the proxy's own entry is the client's invention.
    for chain in [
        "203.0.113.7",
        "1.2.3.4, 203.0.113.7",
        "10.0.0.9, 203.0.113.7",
        "203.0.113.7, 10.0.0.9",
        "1.2.3.4,203.0.113.7 , 127.0.0.1",
    ] {
        from(chain).login("miller", PASSWORD).problem(429);
    }
    from("203.0.113.7, 203.0.113.8")
        .login("miller", PASSWORD)
        .expect(200);
    // Nonsense is no new address each time.
    for round in 0..2 {
        for chain in [
            "garbage",
            "",
            ",,,",
            "unknown",
            "999.1.1.1",
            "[::1",
            "203.0.113.7:80:90",
        ] {
            let answer = from(chain).login("nobody", WRONG);
            assert!(
                matches!(answer.status, 401 | 429),
                "{round} {chain:?}: {}",
                answer.status
            );
        }
    }
    let nonsense = (0..2 * FREE_GUESSES).map(|n| format!("nonsense-{n}"));
    let refused = nonsense.filter(|chain| from(chain).login("nobody", WRONG).status == 429);
    assert!(refused.count() >= FREE_GUESSES);
}

#[test]
fn an_address_registers_only_so_many_accounts() {
    let app = start(&[("SPIN_VARIABLE_REGISTRATIONS_PER_HOUR", "3")]);
    let client = Client::new(&app).at("127.0.7.1");
    for n in 0..3 {
        client.register(&format!("flood{n}")).expect(201);
    }
    let refused = client.register("flood3");
    refused.problem(429);
    let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=3600).contains(&seconds), "{seconds}");
    for (name, value) in [
        ("x-forwarded-for", "9.9.9.9"),
        ("spin-client-addr", "9.9.9.9:1"),
        ("x-real-ip", "9.9.9.9"),
    ] {
        let disguised = Client::new(&app).at("127.0.7.1").with(name, value);
        disguised.register("flood4").problem(429);
    }
    // At once, from an address that has made none yet.
    let statuses = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for n in 0..12 {
            let (app, statuses) = (&app, &statuses);
            scope.spawn(move || {
                let client = Client::new(app).at("127.0.7.2");
                let status = client.register(&format!("burst{n}")).status;
                statuses.lock().unwrap().push(status);
            });
        }
    });
    let statuses = statuses.into_inner().unwrap();
    let made = statuses.iter().filter(|status| **status == 201).count();
    assert!((1..=3).contains(&made), "{statuses:?}");
    assert!(
        statuses.iter().all(|status| matches!(status, 201 | 429)),
        "{statuses:?}"
    );
}

// --- Input.

#[test]
fn json_that_is_odd_is_refused_and_hurts_nobody() {
    let app = App::start_own();
    let client = member(&app, "miller");
    let name =
        |value: &str| format!("{{\"username\":{value},\"password\":\"{PASSWORD}\"}}").into_bytes();
    let deep = |open: &str, close: &str, n: usize| [open.repeat(n), close.repeat(n)].concat();
    let bodies: Vec<Vec<u8>> = vec![
        deep("[", "]", 8000).into_bytes(),
        deep("{\"a\":", "}", 2000).into_bytes(),
        "[".repeat(16_000).into_bytes(),
        name(&deep("[", "]", 4000)),
        br#"{"username":"miller","username":"admin","password":"seven stones grind slowly"}"#
            .to_vec(),
        br#"{"username":"miller","password":"a","password":"seven stones grind slowly"}"#.to_vec(),
        br#"{"username":"miller","password":"seven stones grind slowly"} x"#.to_vec(),
        br#"{"username":"miller","password":"seven stones grind slowly"}{}"#.to_vec(),
        br#"{"username":"miller","password":"seven stones grind slowly","__proto__":{}}"#.to_vec(),
        br#"{"username":["miller"],"password":"seven stones grind slowly"}"#.to_vec(),
        br#"{"username":{"$ne":null},"password":{"$ne":null}}"#.to_vec(),
        name("1e999"),
        name("NaN"),
        name("true"),
        name("\"\\ud800\""),
        name("\"\\x41\""),
        [b"\xef\xbb\xbf".as_slice(), name("\"miller\"").as_slice()].concat(),
        b"{\"username\":\"\xff\xfe\",\"password\":\"seven stones grind slowly\"}".to_vec(),
        b"\0".to_vec(),
        b"null".to_vec(),
    ];
    let json = [("content-type", "application/json")];
    for path in ["/auth/login", "/auth/register"] {
        for body in &bodies {
            let answer = client.send("POST", path, &json, body);
            let shown = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
            assert_eq!(answer.status, 400, "{path} {shown}: {}", answer.text());
            assert!(
                answer.body.len() < 2000,
                "{path} {shown}: the answer echoes"
            );
            answer.problem(400);
        }
    }
    // JSON as such, but no name and no password that could be.
    for value in [
        "\"a\\u0000b\"",
        "\"\\r\\nset-cookie: x\"",
        "\"..\"",
        "\"<b>\"",
    ] {
        client
            .send("POST", "/auth/register", &json, &name(value))
            .problem(422);
    }
    // Any JSON is a message, but none is deep enough to end the component.
    for n in [100, 1000, 100_000] {
        let body = deep("[", "]", n);
        let answer = client.send("POST", "/process_message", &json, body.as_bytes());
        assert!(matches!(answer.status, 202 | 400), "{n}: {}", answer.status);
    }
    let trapped = app.metric("gristmill_invocations_total", "outcome=\"trap\"");
    assert!(trapped < 0.5, "{trapped}");
    still_works(&app, &client);
}

#[test]
fn sql_in_any_input_is_only_text() {
    let app = App::start_own();
    let client = member(&app, "miller");
    let kept = id_of(&client.upload(pictures::GIF));
    let attempts = [
        "'",
        "\"",
        "' OR '1'='1",
        "' OR 1=1 --",
        "miller'--",
        "miller' /*",
        "'; DROP TABLE images; --",
        "x' UNION SELECT * FROM sqlite_master --",
        "1); DELETE FROM images; --",
        "1 OR 1=1",
        "0x31",
        "$1",
        "?1",
        ":username",
        "%",
        "_iller",
        "\\",
        "\0",
    ];
    let escape = |text: &str| {
        text.bytes().fold(String::new(), |mut escaped, byte| {
            write!(escaped, "%{byte:02X}").unwrap();
            escaped
        })
    };
    for (n, text) in attempts.iter().enumerate() {
        let stranger = Client::new(&app).at(&format!("127.0.8.{}", n + 1));
        for answer in [
            stranger.login(text, PASSWORD),
            stranger.login("miller", text),
            stranger.register(text),
        ] {
            assert!(
                matches!(answer.status, 400 | 401 | 422),
                "{text:?}: {}",
                answer.status
            );
            assert!(answer.session().is_none(), "{text:?}");
        }
        let text = escape(text);
        for path in [
            format!("/images?limit={text}"),
            format!("/images?after={text}"),
            format!("/images?limit=1&after={kept}{text}"),
            format!("/recommendations?limit={text}"),
            format!("/images/{text}"),
            format!("/images/{text}/thumbnail"),
            format!("/process_message/{text}"),
        ] {
            let answer = client.get(&path);
            assert!(
                matches!(answer.status, 400 | 404),
                "{path}: {}",
                answer.status
            );
            answer.problem(answer.status);
        }
        let deleted = client.delete(&format!("/images/{text}"));
        assert!(
            matches!(deleted.status, 400 | 404),
            "{text}: {}",
            deleted.status
        );
    }
    let page = client.get("/images").expect(200).json();
    assert_eq!(page["images"][0]["id"], kept);
    Client::new(&app).login("miller", PASSWORD).expect(200);
}

#[test]
fn an_image_id_is_thirty_two_hex_digits_and_nothing_else() {
    let app = App::start_own();
    let client = member(&app, "painter");
    // An id with a letter in it, for the sake of upper case.
    let id = wait_for("an id with a letter", || {
        let id = id_of(&client.upload(pictures::GIF));
        id.contains(|c: char| c.is_ascii_lowercase()).then_some(id)
    });
    wait_for("the thumbnail", || {
        let answer = client.get(&format!("/images/{id}/thumbnail"));
        (answer.status == 200).then_some(())
    });
    let half = &id[..16];
    for path in [
        format!("/images/{id}.thumbnail"),
        format!("/images/{id}%2ethumbnail"),
        format!("/images/{id}%2fthumbnail"),
        format!("/images/{}", id.to_ascii_uppercase()),
        format!("/images/{id}%00"),
        format!("/images/{id}%00.gif"),
        format!("/images/{id}%20"),
        format!("/images/{id}%0d%0ax:y"),
        format!("/images/{id}.gif"),
        format!("/images/{id};x=y"),
        format!("/images/{id}/"),
        format!("/images/{id}/../{id}"),
        format!("/images/./{id}"),
        format!("/images//{id}"),
        format!("//images/{id}"),
        format!("/images/{id}/thumbnail/"),
        format!("/images/{id}/thumbnail/x"),
        format!("/images/{half}*"),
        format!("/images/{half}"),
        format!("/images/{half}%"),
        format!("/images/0x{id}"),
        format!("/images/{id}{id}"),
        "/images/..".to_owned(),
        "/images/../auth/profile".to_owned(),
        "/images/%2e%2e%2fauth%2fprofile".to_owned(),
        "/images/..%5c..%5cetc%5cpasswd".to_owned(),
        "/images/%2e%2e%2f%2e%2e%2fetc%2fpasswd".to_owned(),
        "/images/....//....//etc/passwd".to_owned(),
        "/images/%252e%252e%252f".to_owned(),
        "/images/%c0%ae%c0%ae%c0%af".to_owned(),
        "/images/%zz".to_owned(),
        format!("/images/{}", "a".repeat(33)),
        format!("/images/{}", "a".repeat(10_000)),
        format!("/images/{}", "\u{ff11}".repeat(32)),
    ] {
        for method in ["GET", "DELETE", "HEAD"] {
            let answer = client.send(method, &path, &[], b"");
            assert!(
                matches!(answer.status, 400 | 404 | 405 | 414),
                "{method} {path}: {}",
                answer.status
            );
        }
    }
    client.get(&format!("/images/{id}?x=%2e%2e")).expect(200);
    // Whoever may choose a host header reaches no other component by it.
    let chained = [("host", "auth.spin.internal")];
    client
        .send("GET", &format!("/images/{id}"), &chained, b"")
        .expect(200);
}

#[test]
fn what_is_no_picture_is_not_taken() {
    let app = App::start_own();
    let client = member(&app, "painter");
    let html: &[u8] = b"<!doctype html><script>alert(document.domain)</script>";
    let svg: &[u8] = b"<svg xmlns=\"http://www.w3.org/2000/svg\" onload=\"alert(1)\"/>";
    let late = [html, pictures::JPEG].concat();
    let marked = [b"\xef\xbb\xbf".as_slice(), svg].concat();
    let spaced = [b" ".as_slice(), pictures::GIF].concat();
    let webm = b"RIFF\x10\0\0\0WAVEfmt ".as_slice();
    let brand = b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf".as_slice();
    for bytes in [
        html,
        svg,
        b"<?xml version=\"1.0\"?><svg xmlns=\"http://www.w3.org/2000/svg\"/>",
        marked.as_slice(),
        b"%PDF-1.7\n1 0 obj\n",
        b"PK\x03\x04",
        b"MZ\x90\0",
        b"\x7fELF",
        b"\0asm\x01\0\0\0",
        b"BM\x3a\0\0\0\0\0\0\0",
        b"II*\0\x08\0\0\0",
        b"\0\0\x01\0\x01\0\x10\x10",
        webm,
        brand,
        b"\xff\x0a",
        b"text",
        b"\0",
        b"GIF88a\x01\0\x01\0",
        b"gif89a\x01\0\x01\0",
        late.as_slice(),
        spaced.as_slice(),
    ] {
        // Whatever it is called.
        for kind in [
            "image/png",
            "image/svg+xml",
            "text/html",
            "application/octet-stream",
        ] {
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(20)]).into_owned();
            let raw = client.send("POST", "/images/upload", &[("content-type", kind)], bytes);
            assert_eq!(raw.status, 415, "{kind} {shown:?}: {}", raw.text());
            raw.problem(415);
            let form = Form::new().file("picture.png", kind, bytes);
            assert_eq!(client.upload_form(&form).status, 415, "{kind} {shown:?}");
        }
    }
    assert!(matches!(client.upload(b"").status, 400 | 415 | 422));

    // A picture with a page behind it is a picture, and served as nothing else.
    let polyglot = [pictures::GIF, html].concat();
    for (name, kind) in [
        ("a.html", "text/html"),
        ("a.svg", "image/svg+xml"),
        ("a.js", "text/javascript"),
    ] {
        let form = Form::new().file(name, kind, &polyglot);
        let uploads = [
            client.upload_form(&form),
            client.send(
                "POST",
                "/images/upload",
                &[("content-type", kind)],
                &polyglot,
            ),
        ];
        for upload in uploads {
            if matches!(upload.status, 415 | 422) {
                continue;
            }
            let served = client
                .get(&format!("/images/{}", id_of(&upload)))
                .expect(200);
            assert_eq!(served.header("content-type"), Some("image/gif"));
            assert_eq!(served.header("x-content-type-options"), Some("nosniff"));
        }
    }
}

/// These bytes with `with` at `at`.
fn patched(bytes: &[u8], at: usize, with: &[u8]) -> Vec<u8> {
    let mut patched = bytes.to_vec();
    patched[at..at + with.len()].copy_from_slice(with);
    patched
}

/// Where `pattern` begins.
#[track_caller]
fn find(bytes: &[u8], pattern: &[u8]) -> usize {
    let mut windows = bytes.windows(pattern.len());
    windows.position(|window| window == pattern).unwrap()
}

#[test]
fn a_header_that_promises_too_much_is_refused() {
    let app = App::start_own();
    let client = member(&app, "painter");
    let frame = find(pictures::JPEG, b"\xff\xc0");
    let lossy = find(pictures::LOSSY_WEBP, b"\x9d\x01\x2a");
    let lossless = find(pictures::LOSSLESS_WEBP, b"\x2f");
    let png = |width, height| pictures::lying(width, height, Colour::Rgb, 1000);
    for (what, bytes) in [
        ("PNG of 10 gigapixels", png(100_000, 100_000)),
        ("PNG whose pixels overflow 32 bits", png(65_536, 65_536)),
        ("PNG whose pixels overflow 64 bits", png(u32::MAX, u32::MAX)),
        ("PNG of the largest sides", png(0x7fff_ffff, 0x7fff_ffff)),
        ("PNG of one long line", png(24_000_001, 1)),
        ("PNG without width", png(0, 10)),
        ("PNG without height", png(10, 0)),
        ("GIF", patched(pictures::GIF, 6, b"\xff\xff\xff\xff")),
        ("GIF without width", patched(pictures::GIF, 6, b"\0\0")),
        (
            "JPEG",
            patched(pictures::JPEG, frame + 5, b"\xff\xff\xff\xff"),
        ),
        (
            "JPEG without height",
            patched(pictures::JPEG, frame + 5, b"\0\0"),
        ),
        (
            "lossy WebP",
            patched(pictures::LOSSY_WEBP, lossy + 3, b"\xff\x3f\xff\x3f"),
        ),
        (
            "lossless WebP",
            patched(pictures::LOSSLESS_WEBP, lossless + 1, b"\xff\xff\xff\x0f"),
        ),
    ] {
        let began = Instant::now();
        let answer = client.upload(&bytes);
        assert_eq!(answer.status, 422, "{what}: {}", answer.text());
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "{what}: {:?}",
            began.elapsed()
        );
    }
    let page = client.get("/images").expect(200).json();
    assert_eq!(page["images"], json!([]));
}

/// What looks right and is not, comes to a quick end in the worker, and to one only.
#[test]
fn a_picture_that_explodes_hurts_nobody() {
    let app = App::start_own();
    let client = member(&app, "painter");
    let tiff = find(pictures::ROTATED_JPEG, b"MM\0*");
    let exif = |at: usize, with: &[u8]| patched(pictures::ROTATED_JPEG, tiff + at, with);
    let header = pictures::header(10, 10, Colour::Rgb);
    let bomb = pictures::zeros(600_000_000);
    let profile = [b"x\0\0".as_slice(), bomb.as_slice()].concat();
    let text = [b"Comment\0\0".as_slice(), bomb.as_slice()].concat();
    let data = pictures::stored(&[0; 310]);
    for (what, bytes) in [
        (
            "more data than pixels",
            pictures::lying(10, 10, Colour::Rgb, 600_000_000),
        ),
        (
            "less data than pixels",
            pictures::lying(4000, 4000, Colour::Rgb, 10),
        ),
        (
            "a colour profile that explodes",
            pictures::from_chunks(&[
                (b"IHDR", &header),
                (b"iCCP", &profile),
                (b"IDAT", &data),
                (b"IEND", b""),
            ]),
        ),
        (
            "a comment that explodes",
            pictures::from_chunks(&[
                (b"IHDR", &header),
                (b"zTXt", &text),
                (b"IDAT", &data),
                (b"IEND", b""),
            ]),
        ),
        (
            "a hundred thousand frames",
            pictures::gif_of(100, 100, 100_000),
        ),
        ("an orientation of 99", exif(18, &[0, 99])),
        ("a directory beyond the end", exif(4, &[0xff; 4])),
        ("a directory of itself", exif(22, &[0, 0, 0, 8])),
        ("a directory of 65,535 entries", exif(8, &[0xff; 2])),
        ("an entry of four billion values", exif(14, &[0xff; 4])),
    ] {
        let began = Instant::now();
        let answer = client.upload(&bytes);
        assert!(
            matches!(answer.status, 201 | 413 | 422),
            "{what}: {} {}",
            answer.status,
            answer.text()
        );
        settled(&client);
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "{what}: {:?}",
            began.elapsed()
        );
    }
    still_works(&app, &client);
}

#[test]
fn a_picture_that_was_cut_off_is_refused_or_fails() {
    let app = App::start_own();
    let client = member(&app, "painter");
    let png = pictures::png(20, 10, 3);
    for whole in [
        png.as_slice(),
        pictures::JPEG,
        pictures::GIF,
        pictures::LOSSLESS_WEBP,
        pictures::LOSSY_WEBP,
    ] {
        for length in [4, 8, 12, 13, 20, 26, 33, whole.len() / 2, whole.len() - 1] {
            let status = client.upload(&whole[..length]).status;
            assert!(matches!(status, 201 | 415 | 422), "{length}: {status}");
        }
        // And with a bit that fell over on the way, here and there.
        for at in (0..whole.len()).step_by(whole.len() / 8) {
            let status = client
                .upload(&patched(whole, at, &[whole[at] ^ 0x55]))
                .status;
            assert!(matches!(status, 201 | 415 | 422), "{at}: {status}");
        }
    }
    settled(&client);
    still_works(&app, &client);
}

#[test]
fn a_form_that_is_odd_is_refused() {
    let app = App::start_own();
    let client = member(&app, "painter");
    let png = pictures::png(8, 8, 1);
    let one = || Form::new().file("a.png", "image/png", &png);
    let bytes = one().bytes();
    let boundary = Form::new().boundary;
    let mut open = one();
    open.closed = false;
    let mut many = Form::new();
    for n in 0..20_000 {
        many = many.field(&n.to_string(), "");
    }
    let wide = format!(
        "X: {}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n",
        "x".repeat(1 << 20)
    );
    let tall = format!(
        "{}Content-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n",
        "X: y\r\n".repeat(50_000)
    );
    let bare = format!("--{boundary}\r\n").into_bytes();
    let headless = [
        bare.as_slice(),
        png.as_slice(),
        b"\r\n--",
        boundary.as_bytes(),
        b"--\r\n",
    ]
    .concat();
    let kind = format!("multipart/form-data; boundary={boundary}");
    for (what, kind, body) in [
        (
            "no boundary",
            "multipart/form-data".to_owned(),
            bytes.clone(),
        ),
        (
            "an empty boundary",
            "multipart/form-data; boundary=".to_owned(),
            bytes.clone(),
        ),
        (
            "an empty quoted boundary",
            "multipart/form-data; boundary=\"\"".to_owned(),
            bytes.clone(),
        ),
        (
            "another boundary",
            "multipart/form-data; boundary=other".to_owned(),
            bytes.clone(),
        ),
        (
            "an endless boundary",
            format!("multipart/form-data; boundary={}", "x".repeat(10_000)),
            bytes,
        ),
        (
            "two files",
            kind.clone(),
            one().file("b.png", "image/png", &png).bytes(),
        ),
        (
            "no file",
            kind.clone(),
            Form::new().field("file", "text").bytes(),
        ),
        ("no part", kind.clone(), Form::new().bytes()),
        ("no end", kind.clone(), open.bytes()),
        ("nothing", kind.clone(), Vec::new()),
        ("only a beginning", kind.clone(), bare),
        ("no headers", kind.clone(), headless),
        (
            "endless headers",
            kind.clone(),
            Form::new().part(&wide, &png).bytes(),
        ),
        (
            "countless headers",
            kind.clone(),
            Form::new().part(&tall, &png).bytes(),
        ),
        ("countless parts", kind, many.bytes()),
    ] {
        let began = Instant::now();
        let answer = client.send("POST", "/images/upload", &[("content-type", &kind)], &body);
        assert!(
            matches!(answer.status, 400 | 413 | 415 | 422),
            "{what}: {} {}",
            answer.status,
            answer.text()
        );
        answer.problem(answer.status);
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "{what}: {:?}",
            began.elapsed()
        );
    }
    let page = client.get("/images").expect(200).json();
    assert_eq!(page["images"], json!([]));
    client.upload_form(&one()).expect(201);
}

// --- What is served.

const IMAGE_HEADERS: [(&str, &str); 3] = [
    ("x-content-type-options", "nosniff"),
    ("content-security-policy", "default-src 'none'; sandbox"),
    ("cross-origin-resource-policy", "same-origin"),
];

#[test]
fn a_file_name_reaches_no_header() {
    let app = App::start_own();
    let client = member(&app, "painter");
    for filename in [
        "a.png",
        "a.html",
        "<script>alert(1)</script>.png",
        "../../../etc/passwd",
        "..\\..\\boot.ini",
        "a\\\"; filename=\\\"evil.html",
        "a%0d%0aset-cookie: gm_session=x",
        "a\0.png",
        "a\u{202e}gnp.exe",
        "",
    ] {
        let upload = client.upload_form(&Form::new().file(filename, "image/png", pictures::GIF));
        if upload.status != 201 && !filename.starts_with("a.") {
            assert!((400..500).contains(&upload.status), "{filename:?}");
            continue;
        }
        let id = id_of(&upload);
        let served = client.get(&format!("/images/{id}")).expect(200);
        let expected = format!("inline; filename=\"{id}.gif\"");
        assert_eq!(
            served.header("content-disposition"),
            Some(expected.as_str())
        );
        assert!(served.header("set-cookie").is_none());
        let document = upload.text();
        assert!(
            !document.contains("script") && !document.contains("evil"),
            "{document}"
        );
    }
    // A line break in the part's header is a header of the part, and no more than that.
    let head = "Content-Disposition: form-data; name=\"file\"; filename=\"a\r\nset-cookie: gm_session=x\"\r\n";
    let upload = client.upload_form(&Form::new().part(head, pictures::GIF));
    assert!(upload.status < 500, "{}", upload.status);
    assert!(upload.header("set-cookie").is_none());
}

#[test]
fn what_users_uploaded_is_served_in_a_sandbox() {
    let app = App::start_own();
    let client = member(&app, "painter");
    let origin = [("origin", "http://evil.example")];
    for (bytes, extensions) in [
        (pictures::JPEG, ["jpg", "jpeg"]),
        (pictures::GIF, ["gif", "gif"]),
        (pictures::LOSSY_WEBP, ["webp", "webp"]),
    ] {
        let id = id_of(&client.upload(bytes));
        let url = format!("/images/{id}");
        let small = wait_for("the thumbnail", || {
            let answer = client.get(&format!("{url}/thumbnail"));
            (answer.status == 200).then_some(answer)
        });
        let tag = small.header("etag").unwrap().to_owned();
        let again = [("if-none-match", tag.as_str())];
        for answer in [
            &Client::new(&app)
                .send("GET", &url, &origin, b"")
                .expect(200),
            &Client::new(&app)
                .send("HEAD", &url, &origin, b"")
                .expect(200),
            &small,
        ] {
            for (name, value) in IMAGE_HEADERS {
                assert_eq!(answer.header(name), Some(value), "{name}");
            }
            assert_eq!(answer.header("cache-control"), Some("private, no-cache"));
            assert!(answer.header("access-control-allow-origin").is_none());
            assert!(answer.header("set-cookie").is_none());
        }
        client
            .send("GET", &format!("{url}/thumbnail"), &again, b"")
            .expect(304);
        let disposition = client.get(&url);
        let disposition = disposition.header("content-disposition").unwrap();
        let expected = extensions.map(|e| format!("inline; filename=\"{id}.{e}\""));
        assert!(expected.iter().any(|e| e == disposition), "{disposition}");
        // Where the picture was taken is not told to everybody who sees the small one.
        assert!(!holds(&small.body, "Exif\0"));
    }
}

#[test]
fn the_page_runs_its_own_scripts_only() {
    let app = App::start_own();
    let client = Client::new(&app);
    let page = client.get("/").expect(200);
    let policy = page.header("content-security-policy").unwrap();
    let directives: BTreeSet<&str> = policy.split(';').map(str::trim).collect();
    for directive in [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ] {
        assert!(directives.contains(directive), "{directive}: {policy}");
    }
    for never in ["unsafe", "data:", "http:", "*"] {
        assert!(!policy.contains(never), "{policy}");
    }
    assert!(page.header("referrer-policy").is_some());
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));

    // What the policy would block anyway is not there in the first place.
    let html = page.text().to_ascii_lowercase();
    for tag in html
        .split('<')
        .skip(1)
        .filter_map(|part| part.split('>').next())
    {
        assert!(!tag.starts_with("style"), "<{tag}>");
        assert!(
            !tag.starts_with("script") || tag.contains("src="),
            "<{tag}>"
        );
        for attribute in [
            " style=",
            " onclick",
            " onload",
            " onsubmit",
            " onerror",
            "javascript:",
            "http-equiv",
        ] {
            assert!(!tag.contains(attribute), "<{tag}>");
        }
        let outside = ["src=\"http", "href=\"http", "src=\"//", "href=\"//"];
        let leaves = tag.starts_with("script") || tag.starts_with("link") || tag.starts_with("img");
        assert!(
            !leaves || !outside.iter().any(|o| tag.contains(o)),
            "<{tag}>"
        );
    }
    // User data may only become text.
    let script = client.get("/portal/app.js").expect(200).text();
    for sink in [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
    ] {
        assert!(!script.contains(sink), "{sink}");
    }
    assert!(
        !script.contains("localStorage"),
        "a token there is any script's"
    );

    let app = start(&[(
        "SPIN_VARIABLE_IMAGES_PUBLIC_ORIGIN",
        "https://pictures.example",
    )]);
    let page = Client::new(&app).get("/").expect(200);
    let policy = page.header("content-security-policy").unwrap();
    assert!(
        policy.contains("img-src 'self' blob: https://pictures.example"),
        "{policy}"
    );
}

#[test]
fn methods_mean_what_they_say() {
    let app = App::start_own();
    let client = member(&app, "painter");
    let id = id_of(&client.upload(pictures::GIF));
    let image = format!("/images/{id}");
    let small = format!("{image}/thumbnail");
    for (path, allowed) in [
        ("/auth/register", vec!["POST"]),
        ("/auth/login", vec!["POST"]),
        ("/auth/logout", vec!["POST"]),
        ("/auth/profile", vec!["GET", "HEAD"]),
        ("/images/upload", vec!["POST"]),
        ("/images", vec!["GET", "HEAD"]),
        (image.as_str(), vec!["GET", "HEAD", "DELETE"]),
        (small.as_str(), vec!["GET", "HEAD"]),
        ("/recommendations", vec!["GET", "HEAD"]),
        ("/", vec!["GET", "HEAD"]),
        ("/openapi.json", vec!["GET", "HEAD"]),
        ("/portal/stats", vec!["GET", "HEAD"]),
        ("/healthz/auth", vec!["GET", "HEAD"]),
    ] {
        let options = client.send("OPTIONS", path, &[("origin", "http://evil.example")], b"");
        assert_eq!(options.status, 204, "{path}");
        let listed = |answer: &Answer| -> BTreeSet<String> {
            let allow = answer.header("allow").unwrap_or_else(|| panic!("{path}"));
            allow
                .split(',')
                .map(|method| method.trim().to_owned())
                .collect()
        };
        for method in &allowed {
            assert!(listed(&options).contains(*method), "{path}: {method}");
        }
        assert!(options.header("access-control-allow-origin").is_none());
        for method in [
            "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND", "get", "GETX",
        ] {
            // `upload` could be an id to these, which nobody has.
            let as_id = path == "/images/upload" && matches!(method, "GET" | "HEAD" | "DELETE");
            if allowed.contains(&method) || as_id {
                continue;
            }
            let answer = client.send(method, path, &[("x-echo", "do-not-echo-this")], b"");
            assert_eq!(answer.status, 405, "{method} {path}");
            assert_eq!(listed(&answer), listed(&options), "{method} {path}");
            assert!(
                !answer.text().contains("do-not-echo-this"),
                "{method} {path}"
            );
        }
    }
    // No header, field or parameter makes a GET a DELETE.
    for (name, value) in [
        ("x-http-method-override", "DELETE"),
        ("x-http-method", "DELETE"),
        ("x-method-override", "DELETE"),
    ] {
        client
            .send("GET", &image, &[(name, value)], b"")
            .expect(200);
        client
            .send("POST", &image, &[(name, value)], b"")
            .problem(405);
    }
    client.get(&format!("{image}?_method=DELETE")).expect(200);
    client.get(&image).expect(200);
}

/// Words of our inside.
const INTERNALS: [&str; 17] = [
    ".rs:",
    "src/",
    "panicked",
    "backtrace",
    "wasm",
    "SELECT",
    "INSERT",
    "UPDATE ",
    "sqlite",
    "SQLITE",
    "no such table",
    "spin_key_value",
    "os error",
    "argon2",
    "Err(",
    "unwrap",
    "/tmp",
];

#[test]
fn no_problem_tells_of_the_inside() {
    let app = App::start_own();
    let client = member(&app, "painter");
    let here = app.dir().display().to_string();
    let look = |answer: &Answer, what: &str| {
        assert!(
            (400..600).contains(&answer.status),
            "{what}: {}",
            answer.status
        );
        let kind = answer.header("content-type");
        assert_eq!(kind, Some("application/problem+json"), "{what}");
        let text = answer.text();
        for internal in INTERNALS.into_iter().chain([here.as_str()]) {
            assert!(!text.contains(internal), "{what}: {internal:?} in {text}");
        }
        for (name, value) in &answer.headers {
            assert!(!value.contains(&here), "{what}: {name}: {value}");
            assert!(
                !matches!(name.as_str(), "server" | "x-powered-by"),
                "{what}: {name}: {value}"
            );
        }
    };
    let json = [("content-type", "application/json")];
    for (method, path, body) in [
        ("POST", "/auth/login", "{\"username\":1}"),
        ("POST", "/auth/login", "{"),
        (
            "POST",
            "/auth/register",
            "{\"username\":\"painter\",\"password\":\"x\"}",
        ),
        ("POST", "/images/upload", "x"),
        ("GET", "/images?limit=x", ""),
        ("GET", "/images/x", ""),
        ("GET", "/recommendations?limit=x", ""),
        ("GET", "/portal/x", ""),
        ("GET", "/nowhere", ""),
        ("POST", "/process_message", "{"),
        ("GET", "/counter/a%20b", ""),
    ] {
        look(&client.send(method, path, &json, body.as_bytes()), path);
    }
    // The worst of insides: tables that are gone.
    for label in ["accounts", "catalog"] {
        let file = app.dir().join(format!(".spin/sqlite_db-{label}.db"));
        let database = rusqlite::Connection::open(file).unwrap();
        database.busy_timeout(Duration::from_secs(5)).unwrap();
        let sql =
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'";
        let mut query = database.prepare(sql).unwrap();
        let tables: Vec<String> = query
            .query_map([], |row| row.get(0))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert!(!tables.is_empty());
        for table in tables {
            database
                .execute_batch(&format!(
                    "PRAGMA foreign_keys = off; DROP TABLE IF EXISTS \"{table}\""
                ))
                .unwrap();
        }
    }
    for (path, answer) in [
        ("login", Client::new(&app).login("painter", PASSWORD)),
        ("register", Client::new(&app).register("another")),
        ("list", client.get("/images")),
        ("upload", client.upload(pictures::GIF)),
        ("image", client.get(&format!("/images/{}", "0".repeat(32)))),
        ("recommendations", client.get("/recommendations")),
        ("readyz", client.get("/readyz/images")),
    ] {
        // Tables that are made again are an answer, too.
        if answer.status >= 400 && path != "readyz" {
            look(&answer, path);
        }
    }
}

#[test]
fn what_users_wrote_is_data_and_never_a_page() {
    let app = App::start_own();
    let client = member(&app, "painter");
    let script = "<script>alert(1)</script>";
    let json = [("content-type", "application/json")];
    let message = json!({"text": script}).to_string();
    let sent = client
        .send("POST", "/process_message", &json, message.as_bytes())
        .expect(202);
    let status = sent.json()["status_url"].as_str().unwrap().to_owned();
    let stored = wait_for("the stored message", || {
        let answer = client.get(&status);
        (answer.status == 200).then_some(answer)
    });
    client.register(script).problem(422);
    let path = "/%3Cscript%3Ealert(1)%3C/script%3E";
    let raw_path = "/<script>alert(1)</script>";
    for answer in [
        stored,
        client.register(script),
        client.login(script, PASSWORD),
        client.upload_form(&Form::new().file(script, script, pictures::GIF)),
        client.get("/images"),
        client.get("/auth/profile"),
        client.get("/recommendations"),
        client.get(path),
        client.get(raw_path),
        client.get(&format!("/images{path}")),
        client.get(&format!("/portal{path}")),
        client.get(&format!("/counter{path}")),
        client.get(&format!("/process_message{path}")),
        client.get(&format!("/auth{path}")),
    ] {
        if answer.body.is_empty() {
            continue;
        }
        let kind = answer.header("content-type").unwrap();
        assert!(
            matches!(kind, "application/json" | "application/problem+json"),
            "{kind}: {}",
            answer.text()
        );
    }
}

#[test]
fn a_body_too_large_is_refused_before_it_is_read() {
    let app = start(&[("SPIN_VARIABLE_IMAGES_MAX_BYTES", "100000")]);
    let client = member(&app, "painter");
    let anyone = Client::new(&app);
    let none: &[(&str, &str)] = &[];
    let json: &[(&str, &str)] = &[("content-type", "application/json")];
    // Announced, and never sent.
    for (client, path, headers, length, status) in [
        (&client, "/images/upload", none, 100_001, 413),
        (&client, "/images/upload", none, usize::MAX >> 1, 413),
        (&anyone, "/images/upload", none, 100_000, 401),
        (&anyone, "/auth/login", json, 16 * 1024 + 1, 413),
        (&anyone, "/auth/register", json, usize::MAX >> 1, 413),
    ] {
        let began = Instant::now();
        let head = client.head("POST", path, headers, Some(length));
        let answer = client.exchange("POST", head.as_bytes(), b"");
        assert_eq!(answer.status, status, "{path} {length}: {}", answer.text());
        assert!(
            began.elapsed() < Duration::from_secs(4),
            "{path}: {:?}",
            began.elapsed()
        );
    }
    // Not announced.
    let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x1_0000], b"\r\n"].concat();
    let body = [chunk.repeat(16).as_slice(), b"0\r\n\r\n"].concat();
    for (client, path) in [
        (&client, "/images/upload"),
        (&anyone, "/auth/login"),
        (&anyone, "/auth/register"),
    ] {
        let headers = [
            ("content-type", "application/json"),
            ("transfer-encoding", "chunked"),
        ];
        let head = client.head("POST", path, &headers, None);
        let answer = client.exchange("POST", head.as_bytes(), &body);
        assert_eq!(answer.status, 413, "{path}: {}", answer.text());
    }
    // Lies that smuggle a second request past a proxy.
    for lie in [
        "content-length: 5\r\ncontent-length: 6\r\n",
        "content-length: 5, 6\r\n",
        "content-length: -5\r\n",
        "content-length: +5\r\n",
        "content-length: 5x\r\n",
        "content-length: 99999999999999999999999\r\n",
        "transfer-encoding: chunked, identity\r\n",
        "transfer-encoding: xchunked\r\n",
        "content-length : 5\r\n",
    ] {
        let head = format!(
            "POST /auth/login HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-type: application/json\r\n{lie}\r\n",
            anyone.authority()
        );
        let smuggled = format!(
            "null\nGET /auth/profile HTTP/1.1\r\nhost: {}\r\n\r\n",
            anyone.authority()
        );
        // To hang up without a word is an answer as well.
        if let Ok(answer) = anyone.try_exchange("POST", head.as_bytes(), smuggled.as_bytes()) {
            assert!(
                (400..500).contains(&answer.status),
                "{lie}: {}",
                answer.status
            );
        }
    }
    // Less than announced, and then silence: nobody else waits for it.
    let head = client.head("POST", "/images/upload", &[], Some(5000));
    let silent: Vec<_> = (0..20)
        .map(|_| {
            let mut stream = std::net::TcpStream::connect(client.authority()).unwrap();
            std::io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
            stream
        })
        .collect();
    let began = Instant::now();
    client.upload(pictures::GIF).expect(201);
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    drop(silent);
}

#[test]
fn the_hosts_headers_cannot_be_forged() {
    let app = App::start_own();
    let (client, other) = (member(&app, "painter"), member(&app, "sculptor"));
    let (mine, theirs) = (
        id_of(&client.upload(pictures::GIF)),
        id_of(&other.upload(pictures::JPEG)),
    );
    for name in [
        "spin-path-match-id",
        "spin-path-info",
        "spin-matched-route",
        "spin-full-url",
        "spin-raw-component-route",
    ] {
        for value in [
            theirs.clone(),
            format!("/images/{theirs}"),
            format!("http://x/images/{theirs}"),
        ] {
            let forged = [(name, value.as_str())];
            let answer = client
                .send("GET", &format!("/images/{mine}"), &forged, b"")
                .expect(200);
            assert_eq!(answer.body, pictures::GIF, "{name}: {value}");
        }
    }
    // And an absolute target is no other target.
    let target = format!("http://{}/auth/profile", client.authority());
    let absolute = Client::new(&app).send("GET", &target, &[], b"");
    assert_eq!(absolute.status, 401, "{}", absolute.text());
    let forged = [("spin-path-match-id", mine.as_str())];
    client
        .send("DELETE", &format!("/images/{theirs}"), &forged, b"")
        .problem(404);
    client.get(&format!("/images/{mine}")).expect(200);
}

#[test]
fn secrets_stay_inside() {
    const SECRETS: [&str; 5] = [
        "AwsSecretOfTheMill",
        "SessionTokenOfTheMill",
        "S3SecretOfTheMill",
        "DbPasswordOfTheMill",
        PASSWORD,
    ];
    let database = format!("postgres://gristmill:{}@127.0.0.1:1/gristmill", SECRETS[3]);
    for (origin, level) in [
        ("http://127.0.0.1:9324", "info"),
        ("http://127.0.0.1:1", "debug"),
    ] {
        let down = origin.ends_with(":1");
        let mut variables = vec![
            ("GRISTMILL_LOG", level),
            ("SPIN_VARIABLE_SQS_ORIGIN", origin),
            ("SPIN_VARIABLE_AWS_SECRET_ACCESS_KEY", SECRETS[0]),
            ("SPIN_VARIABLE_AWS_SESSION_TOKEN", SECRETS[1]),
            ("SPIN_VARIABLE_S3_SECRET_ACCESS_KEY", SECRETS[2]),
            ("SPIN_VARIABLE_S3_ORIGIN", "http://127.0.0.1:1"),
        ];
        if down {
            variables.push(("SPIN_VARIABLE_IMAGES_BUCKET", "pictures"));
            variables.push(("SPIN_VARIABLE_DATABASE_URL", &database));
            variables.push(("SPIN_VARIABLE_DATABASE_ORIGIN", "postgres://127.0.0.1:1"));
        }
        let app = start(&variables);
        let client = Client::new(&app);
        client.register("painter");
        let login = client.login("painter", PASSWORD);
        let mut answers = vec![client.login("painter\nERROR forged", PASSWORD)];
        if login.status == 200 {
            let token = token_of(&login);
            let user = Client::new(&app).with_bearer(&token);
            answers.extend([
                user.upload(pictures::GIF),
                user.get("/images"),
                user.get("/auth/profile"),
            ]);
        }
        for path in [
            "/",
            "/openapi.json",
            "/portal/stats",
            "/portal/app.js",
            "/recommendations",
            "/images/00000000000000000000000000000000",
            "/%0aERROR%20forged",
            "/readyz/process-message",
            "/readyz/auth",
            "/readyz/images",
            "/readyz/recommend",
            "/readyz/portal",
        ] {
            answers.push(client.get(path));
        }
        let json = [("content-type", "application/json")];
        answers.push(client.send("POST", "/process_message", &json, b"{}"));
        let admin = ["/metrics", "/readyz", "/livez"].map(|path| get(&app.admin(path)).1);
        let told = answers.iter().flat_map(|answer| {
            let headers = answer.headers.iter().map(|(_, value)| value.clone());
            headers.chain([answer.text()])
        });
        let everything: Vec<String> = told.chain(admin).chain([app.log()]).collect();
        for text in &everything {
            for secret in SECRETS {
                assert!(!text.contains(secret), "{secret} in {text}");
            }
        }
        assert!(
            !app.log()
                .lines()
                .any(|line| line.starts_with("ERROR forged"))
        );
    }
}

/// Who is not logged in gets nowhere, whatever the order of the checks.
#[test]
fn nothing_of_a_users_is_open_to_others() {
    let app = App::start_own();
    let (client, other) = (member(&app, "painter"), member(&app, "sculptor"));
    let id = id_of(&client.upload(pictures::GIF));
    let anyone = Client::new(&app);
    let image = format!("/images/{id}");
    anyone.upload(pictures::GIF).problem(401);
    anyone.get("/images").problem(401);
    anyone.delete(&image).problem(401);
    anyone.get("/auth/profile").problem(401);
    // By the id of another's image, a page of one's own list tells nothing of it.
    let page = other.get(&format!("/images?after={id}"));
    assert!(matches!(page.status, 200 | 400 | 404), "{}", page.status);
    let shown = page.json()["images"].as_array().map_or(0, Vec::len);
    assert_eq!(shown, 0, "{}", page.text());
    // Others' names appear nowhere.
    for path in [
        image.as_str(),
        "/recommendations",
        "/portal/stats",
        "/images",
    ] {
        let answer = other.get(path);
        assert!(!answer.text().contains("painter"), "{path}");
    }
    let document: Value = client.get("/images").json();
    assert!(!document.to_string().contains("painter"), "{document}");
    // Routes that only components call are not reachable from outside.
    let response = agent()
        .get(app.url("/"))
        .header("host", "auth.spin.internal")
        .call()
        .unwrap();
    assert!(response.status().as_u16() < 500);
}
