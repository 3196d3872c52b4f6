//! Text, paths, lengths and headers that are not what they should be.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use crate::still_works;
use crate::support::web::{Client, PASSWORD, SetSession, id_of, member, start};
use crate::support::{App, pictures, wait_for};

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
        for (answer, status) in [
            (stranger.login(text, PASSWORD), 401),
            (stranger.login("miller", text), 401),
            (stranger.register(text), 422),
        ] {
            assert_eq!(answer.status, status, "{text:?}: {}", answer.text());
            assert_eq!(answer.session(), SetSession::Untouched, "{text:?}");
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

/// Bytes of a body that the host reads before it asks the component.
const READ_FIRST: usize = 256 * 1024;

#[test]
fn a_body_too_large_is_refused_before_it_is_read() {
    let app = start(&[("SPIN_VARIABLE_IMAGES_MAX_BYTES", "100000")]);
    let client = member(&app, "painter");
    let anyone = Client::new(&app);
    let none: &[(&str, &str)] = &[];
    let json: &[(&str, &str)] = &[("content-type", "application/json")];
    // Announced, and never sent; what is small the host reads first.
    for (client, path, headers, length, status) in [
        (&client, "/images/upload", none, 100_001, 413),
        (&client, "/images/upload", none, usize::MAX >> 1, 413),
        (&anyone, "/images/upload", none, 100_000, 401),
        (&anyone, "/auth/login", json, 16 * 1024 + 1, 413),
        (&anyone, "/auth/register", json, usize::MAX >> 1, 413),
    ] {
        let began = Instant::now();
        let head = client.head("POST", path, headers, Some(length));
        let body = vec![b' '; if length > READ_FIRST { 0 } else { length }];
        let answer = client.exchange("POST", head.as_bytes(), &body);
        assert_eq!(answer.status, status, "{path} {length}: {}", answer.text());
        assert!(
            began.elapsed() < Duration::from_secs(4),
            "{path}: {:?}",
            began.elapsed()
        );
    }
    // Not announced.
    let chunk = [
        b"10000\r\n".as_slice(),
        vec![b' '; 0x1_0000].as_slice(),
        b"\r\n",
    ]
    .concat();
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
}

/// Lies about a body's length smuggle a second request past a proxy.
#[test]
fn a_length_that_lies_is_refused() {
    let app = App::start_own();
    let anyone = Client::new(&app);
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
}

/// Less than announced, and then silence.
#[test]
fn nobody_waits_for_a_body_that_does_not_come() {
    let app = App::start_own();
    let client = member(&app, "painter");
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
