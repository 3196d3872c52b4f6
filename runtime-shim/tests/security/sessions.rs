//! Sessions, cookies, and what is kept secret from whom.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::support::web::{Client, PASSWORD, id_of, member, sha256, start, token_of};
use crate::support::{App, agent, get, own_manifest, pictures};
use crate::{WRONG, holds, new_token};

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

/// Each login costs a row and an entry: one name cannot fill the disk with them.
#[test]
fn the_oldest_of_too_many_sessions_ends() {
    const MAX_SESSIONS: usize = 50;
    let app = App::start_own();
    Client::new(&app).register("miller").expect(201);
    let tokens: Vec<_> = (0..=MAX_SESSIONS)
        .map(|_| new_token(&app, "miller"))
        .collect();
    let ask = |token: &str| Client::new(&app).with_bearer(token).get("/auth/profile");
    ask(&tokens[0]).problem(401);
    for token in [&tokens[1], &tokens[MAX_SESSIONS]] {
        ask(token).expect(200);
    }
}

/// What somebody might try who has not got this token.
fn forged(token: &str) -> Vec<String> {
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
    vec![
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
        sha256(token.as_bytes()),
        "A".repeat(43),
        "A".repeat(8000),
        "../sessions".to_owned(),
        "' OR '1'='1".to_owned(),
        "null".to_owned(),
        "undefined".to_owned(),
        "eyJhbGciOiJub25lIn0.eyJ1c2VybmFtZSI6InZpY3RpbSJ9.".to_owned(),
        "ü".repeat(20),
    ]
}

#[test]
fn a_token_that_was_not_given_opens_nothing() {
    let app = App::start_own();
    let client = member(&app, "victim");
    let token = new_token(&app, "victim");
    for token in &forged(&token) {
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
    client.get("/auth/profile").expect(200);
}

#[test]
fn a_right_token_opens_nothing_where_it_does_not_belong() {
    let app = App::start_own();
    let client = member(&app, "victim");
    let token = new_token(&app, "victim");
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
    // A second cookie, planted by a neighbouring site, may spoil the session but not confuse it:
    // the first one counts.
    for (cookies, status) in [
        (format!("gm_session={token}; gm_session=x"), 200),
        (format!("gm_session=x; gm_session={token}"), 401),
    ] {
        let answer = anyone.send("GET", "/auth/profile", &[("cookie", &cookies)], b"");
        assert_eq!(answer.status, status, "{cookies}");
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
            .any(|(_, bytes)| holds(bytes, &sha256(token.as_bytes()))),
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
        let mut client = Client::new(&app).with_jar();
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
    let foreign = other.get(&format!("/images?after={id}"));
    let unknown = other.get(&format!("/images?after={}", "0".repeat(32)));
    assert_eq!(foreign.problem(400), unknown.problem(400), "as if unknown");
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
    assert_eq!(response.status(), 200);
    let page = response.into_body().read_to_string().unwrap();
    assert!(page.contains("/portal/app.js"), "{page}");
}
