//! Object storage: a component signs its own requests to an S3-compatible
//! endpoint, and reaches that endpoint and no other.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use support::servers::Ministack;
use support::{App, agent, get, wasm};

fn start(allowed: &str, endpoint: &str) -> App {
    let objects = wasm("guest_objects");
    let key_id = Ministack::KEY_ID;
    let manifest = format!(
        r#"
        spin_manifest_version = 2
        [application]
        name = "objects"
        [variables]
        endpoint = {{ required = true }}
        secret_key = {{ required = true, secret = true }}
        [[trigger.http]]
        route = "/..."
        component = "objects"
        [component.objects]
        source = {objects}
        allowed_outbound_hosts = ["{allowed}"]
        [component.objects.variables]
        endpoint = "{{{{ endpoint }}}}"
        access_key = "{key_id}"
        secret_key = "{{{{ secret_key }}}}"
        "#
    );
    let env = [
        ("SPIN_VARIABLE_ENDPOINT", endpoint),
        ("SPIN_VARIABLE_SECRET_KEY", Ministack::SECRET_KEY),
    ];
    App::start_with(&manifest, &[], &env)
}

#[test]
fn objects_are_stored_read_shared_and_deleted() {
    let Some(s3) = Ministack::start() else {
        return;
    };
    let app = start("{{ endpoint }}", &s3.endpoint());
    let url = |path: &str| app.url(path);
    assert_eq!(
        agent()
            .post(url("/objects/"))
            .send_empty()
            .unwrap()
            .status(),
        200
    );
    let picture: Vec<u8> = (0..1_500_000).map(|i| (i % 256) as u8).collect();
    let put = agent()
        .put(url("/objects/a%20b/c.png"))
        .send(&picture)
        .unwrap();
    let status = put.status();
    assert_eq!(status, 200, "{}", put.into_body().read_to_string().unwrap());
    let read = |url: &str| {
        let response = agent().get(url).call().unwrap();
        assert_eq!(response.status(), 200, "{url}");
        response.into_body().read_to_vec().unwrap()
    };
    assert!(
        read(&url("/objects/a%20b/c.png")) == picture,
        "other bytes came back"
    );
    let (status, link) = get(&url("/link/a%20b/c.png"));
    assert_eq!(status, 200);
    assert!(read(&link) == picture, "other bytes behind the link");
    // The bucket survives its server.
    s3.stop();
    assert_eq!(get(&url("/objects/a%20b/c.png")).0, 502);
    s3.restart();
    assert!(
        read(&url("/objects/a%20b/c.png")) == picture,
        "other bytes after a restart"
    );
    let deleted = agent().delete(url("/objects/a%20b/c.png")).call().unwrap();
    assert_eq!(deleted.status(), 204);
    assert_eq!(get(&url("/objects/a%20b/c.png")).0, 404);
}

#[test]
fn an_endpoint_that_is_not_granted_is_not_reached() {
    let app = start("http://127.0.0.1:9", "http://127.0.0.1:10");
    let (status, refused) = get(&app.url("/objects/x"));
    assert_eq!(status, 502);
    assert!(refused.contains("HttpRequestDenied"), "{refused}");
}
