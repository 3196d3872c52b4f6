//! Requests that another site has a visitor's browser send.

use serde_json::json;

use crate::new_token;
use crate::support::App;
use crate::support::web::{Client, PASSWORD, SetSession, member, start};

type Headers = Vec<(String, String)>;

/// What a browser may say of where a request comes from, and whether the request may go on.
fn claims(host: &str) -> Vec<(Headers, bool)> {
    let (ours, port) = (format!("http://{host}"), host.rsplit(':').next().unwrap());
    let origin = |value: &str| vec![("origin".to_owned(), value.to_owned())];
    let site = |value: &str| vec![("sec-fetch-site".to_owned(), value.to_owned())];
    let both = |o: &str, s: &str| [origin(o), site(s)].concat();
    vec![
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
        (origin(host), false),
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
    ]
}

#[test]
fn another_site_cannot_act_for_a_visitor() {
    let app = App::start_own();
    member(&app, "victim");
    let token = new_token(&app, "victim");
    let nobodys = "A".repeat(43);
    let claims = claims(Client::new(&app).authority());
    let image = format!("/images/{}", "0".repeat(32));
    // With what a request gets that was let through, without its effect. A log-out of the
    // victim would be the proof of its own success.
    for (method, path, cookie, body, through) in [
        ("POST", "/images/upload", token.as_str(), "no image", 415),
        ("DELETE", image.as_str(), token.as_str(), "", 404),
        ("POST", "/auth/logout", nobodys.as_str(), "", 204),
    ] {
        for (headers, allowed) in &claims {
            let client = Client::new(&app);
            client.set_cookie(Some(cookie));
            let headers: Vec<_> = headers
                .iter()
                .map(|(n, v)| (n.as_str(), v.as_str()))
                .collect();
            let answer = client.send(method, path, &headers, body.as_bytes());
            let expected = if *allowed { through } else { 403 };
            assert_eq!(answer.status, expected, "{method} {path} {headers:?}");
            if expected >= 400 {
                answer.problem(expected);
            }
        }
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
            assert_eq!(
                answer.session(),
                SetSession::Untouched,
                "{path} {headers:?}"
            );
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
