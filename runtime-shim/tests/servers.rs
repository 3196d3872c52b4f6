//! The servers that other tests rely on: each starts, answers, is killed and comes back with
//! its data, can be frozen, and is gone with its test.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};

use support::servers::{DynamoLocal, Kind, Ministack, Mosquitto, Postgres, Redis, Server};
use support::{PATIENCE, agent, wait_for};

/// Long enough to tell a frozen server from a busy one.
const NO_ANSWER: Duration = Duration::from_millis(700);

/// Frozen, the server leaves a request waiting; thawed, it answers it.
fn freezes<K: Kind>(server: &Server<K>, request: impl FnOnce() + Send) {
    server.freeze();
    std::thread::scope(|scope| {
        let (answer, answered) = mpsc::channel();
        scope.spawn(move || {
            request();
            let _ = answer.send(());
        });
        assert!(
            answered.recv_timeout(NO_ANSWER).is_err(),
            "{} answers although it is frozen",
            K::NAME
        );
        server.thaw();
        answered.recv_timeout(PATIENCE).unwrap();
    });
}

/// Nothing is left of a server that was dropped.
fn ends<K: Kind>(server: Server<K>) {
    let (port, pid) = (server.port(), server.pid().unwrap());
    drop(server);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn redis_keeps_what_it_acknowledged() {
    let Some(redis) = Redis::start("s3cret") else {
        return;
    };
    assert_eq!(redis.run(&["SET", "key", "value"]), "+OK\r\n");
    redis.kill();
    assert!(redis.pid().is_none());
    redis.restart();
    assert_eq!(redis.run(&["GET", "key"]), "$5\r\nvalue\r\n");
    freezes(&redis, || assert_eq!(redis.run(&["PING"]), "+PONG\r\n"));

    let mut stream = TcpStream::connect(("127.0.0.1", redis.port())).unwrap();
    stream.write_all(b"GET key\r\n").unwrap();
    assert!(read_some(&mut stream).starts_with("-NOAUTH"));
    ends(redis);
}

#[test]
fn redis_speaks_tls() {
    let Some(redis) = Redis::start_tls("s3cret") else {
        return;
    };
    let stream = TcpStream::connect(("127.0.0.1", redis.port())).unwrap();
    let mut stream = tls(stream, &redis.ca_file());
    stream.write_all(b"AUTH s3cret\r\n").unwrap();
    assert_eq!(read_some(&mut stream), "+OK\r\n");
    ends(redis);
}

#[test]
fn postgres_keeps_what_it_committed() {
    let Some(postgres) = Postgres::start("s3cret") else {
        return;
    };
    postgres.run("CREATE TABLE kept (value text); INSERT INTO kept VALUES ('there')");
    postgres.kill();
    postgres.restart();
    assert_eq!(postgres.run("SELECT value FROM kept"), "there");
    assert_eq!(postgres.run("SHOW fsync"), "on");
    freezes(&postgres, || assert_eq!(postgres.run("SELECT 1"), "1"));
    // An open connection is frozen as well: its process is another one.
    std::thread::scope(|scope| {
        let sleeper = scope.spawn(|| postgres.run("SELECT pg_sleep(1), 'awake'"));
        wait_for("the sleeper", || {
            let query = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%awake%' \
                         AND pid <> pg_backend_pid() AND state = 'active'";
            (postgres.run(query) == "1").then_some(())
        });
        postgres.freeze();
        std::thread::sleep(Duration::from_secs(1) + NO_ANSWER);
        assert!(!sleeper.is_finished());
        postgres.thaw();
        assert_eq!(sleeper.join().unwrap(), "|awake");
    });
    ends(postgres);
}

#[test]
fn postgres_speaks_tls_only() {
    let Some(postgres) = Postgres::start_tls("s3cret") else {
        return;
    };
    let query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    assert_eq!(postgres.run(query), "t");

    let mut stream = TcpStream::connect(("127.0.0.1", postgres.port())).unwrap();
    stream.write_all(b"\0\0\0\x08\x04\xd2\x16\x2f").unwrap();
    let mut answer = [0];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"S");
    let mut stream = tls(stream, &postgres.ca_file());
    let startup = b"\0\0\0\x18\0\x03\0\0user\0gristmill\0\0";
    stream.write_all(startup).unwrap();
    assert!(read_some(&mut stream).contains("SCRAM-SHA-256"));
    ends(postgres);
}

#[test]
fn mosquitto_keeps_what_it_retains() {
    let Some(mosquitto) = Mosquitto::start_for("miller", "s3cret") else {
        return;
    };
    let anonymous = b"\x10\x0c\0\x04MQTT\x04\x02\0\0\0\0";
    let mut stream = TcpStream::connect(("127.0.0.1", mosquitto.port())).unwrap();
    stream.write_all(anonymous).unwrap();
    let mut refused = [0; 4];
    stream.read_exact(&mut refused).unwrap();
    assert_eq!(refused, [0x20, 2, 0, 5]);

    // PUBLISH `there` to `t`, retained, at least once; PUBACK.
    let mut stream = mosquitto.connect();
    stream.write_all(b"\x33\x0a\0\x01t\0\x07there").unwrap();
    let mut acknowledged = [0; 4];
    stream.read_exact(&mut acknowledged).unwrap();
    assert_eq!(acknowledged, [0x40, 2, 0, 7]);
    wait_for("the change to be saved", || {
        mosquitto
            .log()
            .contains("Saving in-memory database")
            .then_some(())
    });
    freezes(&mosquitto, || drop(mosquitto.connect()));
    mosquitto.kill();
    mosquitto.restart();
    // SUBSCRIBE to `t`; SUBACK, then the message.
    let mut stream = mosquitto.connect();
    stream.write_all(b"\x82\x06\0\x09\0\x01t\0").unwrap();
    let mut answer = [0; 5 + 10];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"\x90\x03\0\x09\0\x31\x08\0\x01tthere");
    drop(stream);
    ends(mosquitto);

    let anyone = Mosquitto::start().unwrap();
    drop(anyone.connect());
    ends(anyone);
}

#[test]
fn dynamodb_keeps_what_it_acknowledged() {
    let Some(dynamodb) = DynamoLocal::start() else {
        return;
    };
    keep_an_item(&dynamodb.endpoint());
    dynamodb.kill();
    dynamodb.restart();
    assert_eq!(find_the_item(&dynamodb.endpoint()), "there");
    freezes(&dynamodb, || {
        find_the_item(&dynamodb.endpoint());
    });
    ends(dynamodb);
}

#[test]
fn dynamodb_is_shared_by_those_who_do_not_stop_it() {
    let Some(dynamodb) = DynamoLocal::shared() else {
        return;
    };
    // Started by a thread that is over, it lives on.
    let other = std::thread::spawn(DynamoLocal::shared).join().unwrap();
    assert_eq!(dynamodb.pid(), other.unwrap().pid());
    assert!(agent().get(dynamodb.endpoint()).call().is_ok());
    ends(Arc::into_inner(dynamodb).unwrap());
}

#[test]
fn ministack_keeps_what_it_could_save() {
    let Some(ministack) = Ministack::start() else {
        return;
    };
    let endpoint = ministack.endpoint();
    let created = aws(
        &endpoint,
        "AmazonSQS.CreateQueue",
        &json!({"QueueName": "q"}),
    )
    .1;
    let queue = created["QueueUrl"].as_str().unwrap().to_owned();
    assert!(queue.starts_with(&endpoint), "{queue}");
    let message = json!({"QueueUrl": queue, "MessageBody": "there"});
    assert_eq!(aws(&endpoint, "AmazonSQS.SendMessage", &message).0, 200);
    keep_an_item(&endpoint);
    for (path, body) in [("bucket", ""), ("bucket/object", "there")] {
        let put = agent().put(format!("{endpoint}/{path}")).send(body);
        assert_eq!(put.unwrap().status(), 200);
    }
    let object = || {
        let got = agent().get(format!("{endpoint}/bucket/object")).call();
        got.unwrap().into_body().read_to_string().unwrap()
    };

    ministack.stop();
    ministack.restart();
    let receive = json!({"QueueUrl": queue});
    let (_, received) = aws(&endpoint, "AmazonSQS.ReceiveMessage", &receive);
    assert_eq!(received["Messages"][0]["Body"], "there", "{received}");
    assert_eq!(find_the_item(&endpoint), "there");
    assert_eq!(object(), "there");

    freezes(&ministack, || assert_eq!(object(), "there"));
    ministack.kill();
    ministack.restart();
    assert_eq!(object(), "there");
    ends(ministack);
}

#[test]
fn two_of_a_kind_do_not_meet() {
    let (Some(one), Some(other)) = (Redis::start("one"), Redis::start("other")) else {
        return;
    };
    assert_ne!(one.url(), other.url());
    one.run(&["SET", "key", "one"]);
    assert_eq!(other.run(&["GET", "key"]), "$-1\r\n");
}

fn keep_an_item(endpoint: &str) {
    let table = json!({
        "TableName": "kept",
        "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
        "BillingMode": "PAY_PER_REQUEST",
    });
    let item = json!({"id": {"S": "1"}, "value": {"S": "there"}});
    let put = json!({"TableName": "kept", "Item": item});
    for (action, body) in [("CreateTable", &table), ("PutItem", &put)] {
        let (status, answer) = aws(endpoint, &format!("DynamoDB_20120810.{action}"), body);
        assert_eq!(status, 200, "{action}: {answer}");
    }
}

fn find_the_item(endpoint: &str) -> String {
    let get = json!({"TableName": "kept", "Key": {"id": {"S": "1"}}});
    let (_, answer) = aws(endpoint, "DynamoDB_20120810.GetItem", &get);
    answer["Item"]["value"]["S"]
        .as_str()
        .unwrap_or_else(|| panic!("{answer}"))
        .to_owned()
}

/// A call in AWS' JSON protocol, with a signature that nobody checks.
fn aws(endpoint: &str, target: &str, body: &Value) -> (u16, Value) {
    let credential = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/any/aws4_request, \
                      SignedHeaders=host, Signature=0";
    let response = agent()
        .post(endpoint)
        .header("content-type", "application/x-amz-json-1.0")
        .header("x-amz-target", target)
        .header("authorization", credential)
        .send(body.to_string())
        .unwrap();
    let status = response.status().as_u16();
    let text = response.into_body().read_to_string().unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::Null))
}

/// A client that trusts this authority only.
fn tls(
    stream: TcpStream,
    ca_file: &Path,
) -> rustls::StreamOwned<rustls::ClientConnection, TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(ca_file).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    rustls::StreamOwned::new(client, stream)
}

fn read_some(stream: &mut impl Read) -> String {
    let mut bytes = [0; 1024];
    let length = stream.read(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes[..length]).into_owned()
}
