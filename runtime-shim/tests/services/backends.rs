//! The services on other stores, without them, after a restart, and in two processes.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::pictures::{self, size};
use crate::support::servers::{Ministack, Postgres};
use crate::support::web::{Client, PASSWORD, id_of, member, start, token_of};
use crate::support::{App, agent, get, wait_for};
use crate::{
    COMPONENTS, beside, ids, listed, open, serves, start_ticking, stored_keys, thumbnail,
    upload_one,
};

/// No server listens there.
const NOWHERE: &str = "127.0.0.1:1";

/// Method, path and body.
type Variable<'a> = (&'a str, &'a str);
type Calls<'a> = Vec<(&'a str, &'a str, &'a str)>;

/// Each dependency in turn is an address where nobody listens.
#[test]
fn a_dependency_that_is_down_is_a_503() {
    let secret = "Pa55-of-the-database";
    let database = format!("postgres://gristmill:{secret}@{NOWHERE}/gristmill");
    let (http, postgres) = (format!("http://{NOWHERE}"), format!("postgres://{NOWHERE}"));
    let token = "A".repeat(43);
    let some_id = format!("/images/{}", "0".repeat(32));
    let internals = [NOWHERE, secret, "refused", "os error", "ErrorCode"];
    let register = json!({"username": "miller", "password": PASSWORD}).to_string();
    let cases: [(&str, Vec<Variable<'_>>, Calls<'_>, Vec<&str>); 3] = [
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
            vec!["images"],
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
            answer.problem(503);
            assert_eq!(answer.header("retry-after"), Some("1"), "{what}: {path}");
            assert!(asked.elapsed() < Duration::from_secs(10), "{what}: {path}");
            let text = answer.text();
            for internal in internals {
                assert!(!text.contains(internal), "{what}: {path}: {text}");
            }
        }
        for component in not_ready {
            let answer = client.get(&format!("/readyz/{component}")).expect(503);
            let text = answer.text();
            assert_eq!(answer.json()["status"], "not ready");
            assert!(text.contains("\"failed\""), "{what}: {text}");
            for internal in internals {
                assert!(!text.contains(internal), "{what}: {component}: {text}");
            }
        }
        for component in COMPONENTS {
            client.get(&format!("/healthz/{component}")).expect(200);
        }
        assert!(!app.log().contains(secret));
    }
}

/// Without the queue an upload is taken and shown; only its thumbnail has to wait.
#[test]
fn an_upload_needs_no_queue() {
    let origin = format!("http://{NOWHERE}");
    let app = start(&[("SPIN_VARIABLE_SQS_ORIGIN", &origin)]);
    let client = member(&app, "painter");
    let id = id_of(&client.upload(pictures::GIF));
    let page = client.get("/images").expect(200).json();
    assert_eq!(ids(&page), [id.as_str()]);
    assert_eq!(page["images"][0]["thumbnail"], "pending");
    let url = format!("/images/{id}");
    serves(&app, &url, "image/gif", pictures::GIF);
    let pending = client.get(&format!("{url}/thumbnail"));
    pending.problem(404);
    assert_eq!(pending.header("retry-after"), Some("1"));
}

/// Logins of one name at once: where two in the database waited for each other, it would end
/// one of them.
fn logins_at_once(app: &App, username: &str) {
    for _ in 0..3 {
        let statuses = thread::scope(|scope| {
            let login = move || Client::new(app).login(username, PASSWORD).status;
            // With one more, there were as many attempts as may fail in a row.
            let logins = [(); 4].map(|()| scope.spawn(login));
            logins.map(|login| login.join().unwrap())
        });
        assert_eq!(statuses, [200; 4]);
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
    Client::new(&app).register("miller").expect(201);
    logins_at_once(&app, "miller");
    let (first, second) = (upload_one(&client, 1), upload_one(&client, 2));
    thumbnail(&client, &first);
    let page = client.get("/images?limit=1").expect(200).json();
    assert_eq!(ids(&page), [second.as_str()]);
    let next = client.get(&format!("/images?limit=1&after={second}"));
    assert_eq!(ids(&next.json()), [first.as_str()]);
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
            ("SPIN_VARIABLE_S3_REGION", "us-east-1"),
            ("SPIN_VARIABLE_S3_ACCESS_KEY_ID", Ministack::KEY_ID),
            ("SPIN_VARIABLE_S3_SECRET_ACCESS_KEY", Ministack::SECRET_KEY),
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
            assert!(!location.contains(Ministack::SECRET_KEY), "{location}");
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
        assert!(!app.log().contains(Ministack::SECRET_KEY));
    }
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
