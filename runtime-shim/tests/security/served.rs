//! What is sent to browsers, and with which headers.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use crate::holds;
use crate::support::web::{Answer, Client, Form, PASSWORD, id_of, member, start};
use crate::support::{App, pictures, wait_for};

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
        let upload = client.upload_form(&Form::empty().file(filename, "image/png", pictures::GIF));
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
    let upload = client.upload_form(&Form::empty().part(head, pictures::GIF));
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

    has_nothing_inline(&page.text().to_ascii_lowercase());
    scripts_write_text_only(&client);

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

/// What the policy would block anyway is not there in the first place.
#[track_caller]
fn has_nothing_inline(html: &str) {
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
}

/// User data may only become text, in any of the scripts.
#[track_caller]
fn scripts_write_text_only(client: &Client) {
    let (mut waiting, mut seen) = (vec!["app.js".to_owned()], BTreeSet::new());
    while let Some(name) = waiting.pop() {
        if !seen.insert(name.clone()) {
            continue;
        }
        let script = client.get(&format!("/portal/{name}")).expect(200).text();
        for sink in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            // A token there is any script's.
            "localStorage",
            "sessionStorage",
        ] {
            assert!(!script.contains(sink), "{name}: {sink}");
        }
        let imports = script
            .lines()
            .filter(|line| line.contains("import") || line.contains("from"));
        let quoted = imports.flat_map(|line| line.split(['"', '\'']));
        let modules = quoted.filter(|text| text.ends_with(".js"));
        waiting.extend(modules.filter_map(|text| Some(text.rsplit('/').next()?.to_owned())));
    }
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
            if allowed.contains(&method) {
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
const INTERNALS: [&str; 19] = [
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
    "no such column",
    "has no column",
    "spin_key_value",
    "os error",
    "argon2",
    "Err(",
    "unwrap",
    "/tmp",
];

#[track_caller]
fn tells_nothing(app: &App, answer: &Answer, what: &str) {
    let here = app.dir().display().to_string();
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
}

/// Tables of the same names with other columns: no statement on them succeeds, and none finds
/// its table missing, which the services would make again.
fn spoil_tables(app: &App, label: &str) {
    let file = app.dir().join(format!(".spin/sqlite_db-{label}.db"));
    let database = rusqlite::Connection::open(file).unwrap();
    database.busy_timeout(Duration::from_secs(5)).unwrap();
    let sql = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'";
    let mut query = database.prepare(sql).unwrap();
    let tables: Vec<String> = query
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert!(!tables.is_empty());
    for table in tables {
        let sql = format!(
            "BEGIN IMMEDIATE; DROP TABLE \"{table}\"; \
             CREATE TABLE \"{table}\" (other TEXT); COMMIT"
        );
        database.execute_batch(&sql).unwrap();
    }
}

#[test]
fn no_problem_tells_of_the_inside() {
    // No server listens there.
    let app = start(&[("SPIN_VARIABLE_SQS_ORIGIN", "http://127.0.0.1:1")]);
    let client = member(&app, "painter");
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
        let answer = client.send(method, path, &json, body.as_bytes());
        assert!(
            (400..500).contains(&answer.status),
            "{path}: {}",
            answer.status
        );
        answer.problem(answer.status);
        tells_nothing(&app, &answer, path);
    }
    let ready = client.get("/readyz/images").expect(503);
    tells_nothing(&app, &ready, "readyz");

    // The worst of insides: a database that is not what it was.
    client.get("/recommendations").expect(200);
    for label in ["accounts", "catalog"] {
        spoil_tables(&app, label);
    }
    for (path, answer) in [
        ("login", Client::new(&app).login("painter", PASSWORD)),
        ("register", Client::new(&app).register("another")),
        ("list", client.get("/images")),
        ("upload", client.upload(pictures::GIF)),
        ("image", client.get(&format!("/images/{}", "0".repeat(32)))),
        ("recommendations", client.get("/recommendations")),
    ] {
        answer.problem(503);
        tells_nothing(&app, &answer, path);
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
        client.upload_form(&Form::empty().file(script, script, pictures::GIF)),
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
