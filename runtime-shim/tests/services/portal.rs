//! What everybody sees: recommendations, the page, the description, queues, health.

use std::collections::BTreeSet;
use std::time::SystemTime;

use serde_json::{Value, json};

use crate::support::web::{Client, member};
use crate::support::{App, own_manifest, pictures, post, wait_for};
use crate::{COMPONENTS, about, moment, start_ticking, upload_one};

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
