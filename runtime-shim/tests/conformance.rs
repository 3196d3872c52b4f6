//! The world of Spin 3.6 as its conformance suite expects it, area by area: a guest of
//! the tests tries it inside the real host, beside real servers, permitted and not.
//! docs/spin-compatibility.md has the list of areas.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;

use serde_json::Value;
use support::servers::{Mosquitto, Postgres, Redis, program};
use support::web::{Answer, Client};
use support::{App, PATIENCE, get, gristmill, output, wait_for, wasm};
use tokio::net::TcpSocket;

/// Where the programs of the servers are.
const REDIS: &str = "GRISTMILL_TEST_REDIS_SERVER";
const POSTGRES: &str = "GRISTMILL_TEST_POSTGRES_BIN";
const MOSQUITTO: &str = "GRISTMILL_TEST_MOSQUITTO";

/// The application with everything that it may reach. The tests that run at the same
/// time share one; the last of them ends it.
struct World {
    app: App,
    _redis: Option<Redis>,
    _postgres: Option<Postgres>,
    _mosquitto: Option<Mosquitto>,
    _closed: TcpSocket,
}

/// The one that runs, or a new one.
fn world() -> Arc<World> {
    static SHARED: Mutex<Weak<World>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    shared.upgrade().unwrap_or_else(|| {
        let world = Arc::new(World::start());
        *shared = Arc::downgrade(&world);
        world
    })
}

/// The test that needs the server says so where it is missing.
fn installed<S>(variable: &str, start: impl FnOnce() -> Option<S>) -> Option<S> {
    std::env::var_os(variable).and_then(|_| start())
}

impl World {
    fn start() -> Self {
        let redis = installed(REDIS, || Redis::start("pa55word"));
        let postgres = installed(POSTGRES, || Postgres::start("pa55word"));
        let mosquitto = installed(MOSQUITTO, || Mosquitto::start_for("user", "password"));
        let nowhere = || "127.0.0.1:9".to_owned();
        // A port that is taken, and on which nobody listens.
        let closed = TcpSocket::new_v4().unwrap();
        closed.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let addresses = Addresses {
            redis: redis.as_ref().map_or_else(nowhere, Redis::url),
            postgres: postgres.as_ref().map_or_else(nowhere, Postgres::url),
            mqtt: mosquitto.as_ref().map_or_else(nowhere, Mosquitto::url),
            http: http_server(),
            tls: no_tls(),
            tcp: tcp_echo(),
            udp: udp_echo(),
            closed: closed.local_addr().unwrap(),
        };
        let app = App::start_with(
            &manifest(&addresses),
            &[],
            &[("SPIN_VARIABLE_SECRET", "s3cret")],
        );
        Self {
            app,
            _redis: redis,
            _postgres: postgres,
            _mosquitto: mosquitto,
            _closed: closed,
        }
    }

    /// What `area` must do for the component of this name.
    #[track_caller]
    fn conforms(&self, who: &str, area: &str) {
        let verdict = get(&self.app.url(&format!("/{who}/{area}")));
        assert_eq!(verdict, (200, "ok".to_owned()), "{area} for `{who}`");
    }

    #[track_caller]
    fn conforms_granted_and_not(&self, area: &str) {
        self.conforms("granted", area);
        self.conforms("bare", area);
    }

    /// Sends these very bytes, but for `HOST`.
    #[track_caller]
    fn exchange(&self, request: &str) -> Answer {
        let client = Client::new(&self.app);
        let request = request.replace("HOST", client.authority());
        let method = request.split(' ').next().unwrap();
        client.exchange(method, request.as_bytes(), b"")
    }
}

/// Where everything is.
struct Addresses {
    redis: String,
    postgres: String,
    mqtt: String,
    http: SocketAddr,
    tls: SocketAddr,
    tcp: SocketAddr,
    udp: SocketAddr,
    closed: SocketAddr,
}

fn manifest(at: &Addresses) -> String {
    let wasm = wasm("guest_conformance");
    let Addresses {
        redis,
        postgres,
        mqtt,
        http,
        tls,
        tcp,
        udp,
        closed,
    } = at;
    let environment = format!(
        "{{ COLOUR = 'green', REDIS_ADDRESS = '{redis}', POSTGRES_ADDRESS = '{postgres}', \
         MQTT_ADDRESS = '{mqtt}', HTTP_ADDRESS = '{http}', TLS_ADDRESS = '{tls}', \
         TCP_ADDRESS = '{tcp}', UDP_ADDRESS = '{udp}', CLOSED_ADDRESS = '{closed}' }}"
    );
    let port = |url: &str| {
        url.rsplit(':')
            .next()
            .unwrap()
            .split('/')
            .next()
            .unwrap()
            .to_owned()
    };
    let (redis, postgres, mqtt) = (port(redis), port(postgres), port(mqtt));
    let tcp_port = tcp.port();
    let component = |id: &str, route: &str, rest: &str| {
        format!(
            "[[trigger.http]]\nroute = {route}\ncomponent = '{id}'\n\
             [component.{id}]\nsource = {wasm}\nenvironment = {environment}\n{rest}\n"
        )
    };
    let granted = format!(
        r#"
        key_value_stores = ["default", "wasi", "after"]
        sqlite_databases = ["default"]
        allowed_outbound_hosts = [
            "redis://127.0.0.1:{redis}", "postgres://127.0.0.1:{postgres}",
            "mqtt://127.0.0.1:{mqtt}", "mysql://127.0.0.1:3306",
            "http://{http}", "http://{closed}", "https://{tls}", "http://nowhere.invalid",
            "http://self", "http://called.spin.internal",
            "tcp://{tcp}", "udp://127.0.0.1:*",
        ]
        [component.granted.variables]
        variable = "value"
        templated = "to {{{{ host }}}}, {{{{host}}}} }}}}"
        hidden = "{{{{ secret }}}}"
        empty = ""
        "#
    );
    let templated = format!(
        r#"
        allowed_outbound_hosts = ["redis://{{{{ host }}}}:{redis}", "*://{{{{ prefix }}}}/24:{tcp_port}"]
        "#
    );
    [
        r#"
        spin_manifest_version = 2
        [application]
        name = "conformance"
        [variables]
        host = { default = "127.0.0.1" }
        prefix = { default = "127.0.0.0" }
        secret = { required = true, secret = true }
        "#,
        &component("granted", "'/granted/...'", &granted),
        &component("bare", "'/bare/...'", ""),
        &component("templated", "'/templated/...'", &templated),
        &component("shape", "'/base/:path_segment/:path_end/...'", ""),
        &component("requests", "'/granted/request/...'", ""),
        &component("called", "{ private = true }", ""),
    ]
    .concat()
}

#[test]
fn the_whole_world_links_and_check_says_what_is_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let wasm = wasm("guest_conformance");
    let manifest = format!(
        "spin_manifest_version = 2\n[application]\nname = 'world'\n\
         [[trigger.http]]\nroute = '/...'\ncomponent = 'world'\n\
         [component.world]\nsource = {wasm}\nallowed_outbound_hosts = ['mysql://db.test']\n"
    );
    std::fs::write(dir.path().join("spin.toml"), manifest).unwrap();
    let checked = output(gristmill(dir.path()).args(["check", "--json"]));
    assert!(checked.status.success(), "{checked:?}");
    let report: Value = serde_json::from_slice(&checked.stdout).unwrap();
    let rows = report["components"][0]["capabilities"].as_array().unwrap();
    let imported: BTreeSet<&str> = rows
        .iter()
        .flat_map(|row| row["interfaces"].as_array().unwrap())
        .map(|name| name.as_str().unwrap())
        .filter(|name| !name.starts_with("wasi:") || name.contains("draft"))
        .collect();
    // Each interface of Spin's own that the world of 3.6 has.
    let world = [
        "fermyon:spin/key-value@2.0.0",
        "fermyon:spin/llm@2.0.0",
        "fermyon:spin/mqtt@2.0.0",
        "fermyon:spin/mysql@2.0.0",
        "fermyon:spin/postgres@2.0.0",
        "fermyon:spin/rdbms-types@2.0.0",
        "fermyon:spin/redis@2.0.0",
        "fermyon:spin/sqlite@2.0.0",
        "fermyon:spin/variables@2.0.0",
        "spin:postgres/postgres@3.0.0",
        "spin:postgres/postgres@4.0.0",
        "spin:sqlite/sqlite@3.0.0",
        "wasi:config/store@0.2.0-draft-2024-09-27",
        "wasi:keyvalue/atomics@0.2.0-draft2",
        "wasi:keyvalue/batch@0.2.0-draft2",
        "wasi:keyvalue/store@0.2.0-draft2",
    ];
    assert_eq!(imported, BTreeSet::from(world));
    for capability in ["mysql", "language-models"] {
        let row = rows
            .iter()
            .find(|row| row["capability"] == capability)
            .unwrap();
        assert_eq!(row["status"], "not-offered");
    }
    let warnings = report["warnings"].to_string();
    assert!(
        warnings.contains("imports MySQL") && warnings.contains("does not offer"),
        "{warnings}"
    );
}

#[test]
fn key_value() {
    world().conforms_granted_and_not("key-value");
}

#[test]
fn wasi_keyvalue() {
    world().conforms_granted_and_not("wasi-keyvalue");
}

#[test]
fn variables() {
    world().conforms_granted_and_not("variables");
}

#[test]
fn sqlite() {
    world().conforms_granted_and_not("sqlite");
}

#[test]
fn postgres() {
    if program(POSTGRES).is_some() {
        let world = world();
        world.conforms_granted_and_not("postgres");
    }
}

#[test]
fn redis() {
    if program(REDIS).is_some() {
        let world = world();
        world.conforms_granted_and_not("redis");
        world.conforms("templated", "redis");
    }
}

#[test]
fn mqtt() {
    if program(MOSQUITTO).is_some() {
        let world = world();
        world.conforms_granted_and_not("mqtt");
    }
}

#[test]
fn outbound_http() {
    world().conforms_granted_and_not("outbound-http");
}

#[test]
fn tcp_sockets() {
    let world = world();
    world.conforms_granted_and_not("tcp-sockets");
    world.conforms("templated", "tcp-sockets");
}

#[test]
fn udp_sockets() {
    world().conforms_granted_and_not("udp-sockets");
}

#[test]
fn what_is_not_offered_is_an_error_of_its_interface() {
    world().conforms_granted_and_not("not-offered");
}

#[test]
fn environment() {
    world().conforms_granted_and_not("environment");
}

#[test]
fn request_shape() {
    let world = world();
    let conforms = |request: &str| {
        let answer = world.exchange(request);
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (200, "ok"),
            "{request}"
        );
    };
    // That of Spin's own suite, on a connection that is kept and on one that is not.
    let spins = "GET /base/path/end/rest?key=value HTTP/1.1\r\nUser-Agent: my-agent\r\n\
                 Accept: */*\r\nHost: example.com\r\n";
    conforms(&format!("{spins}\r\n"));
    conforms(&format!("{spins}Connection: close\r\n\r\n"));
    conforms(
        "GET /granted/request/encoded/%2e%2E/%C3%A9+;a=b//%20?q=%26&&x=%3D+1? HTTP/1.1\r\n\
         Host: HOST\r\n\r\n",
    );
    conforms(
        "GET /granted/request/headers HTTP/1.1\r\nhost: HOST\r\nX-Twice: one\r\nX-Empty:\r\n\
         x-TWICE: two\r\nX-Case: MiXed\r\nCookie: a=1; b=2\r\nSpin-Path-Match-Role: admin\r\n\
         Spin-Client-Addr: 6.6.6.6:6\r\nspin_forged: seen\r\nConnection: close\r\n\r\n",
    );
    for method in [
        "GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PURGE", "x-Own",
    ] {
        conforms(&format!(
            "{method} /granted/request/method HTTP/1.1\r\nHost: HOST\r\nX-Method: {method}\r\n\r\n"
        ));
    }
    let head = "HEAD /granted/request/method HTTP/1.1\r\nHost: HOST\r\nX-Method: HEAD\r\n\r\n";
    let answer = world.exchange(head);
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    // Without a body, with one of no bytes, with one whose length is known, in chunks.
    conforms("GET /granted/request/no-body HTTP/1.1\r\nHost: HOST\r\n\r\n");
    conforms("POST /granted/request/no-body HTTP/1.1\r\nHost: HOST\r\ncontent-length: 0\r\n\r\n");
    let body = "Host: HOST\r\ncontent-length: 8\r\n\r\nthe body";
    conforms(&format!("POST /granted/request/body HTTP/1.1\r\n{body}"));
    conforms(&format!("PURGE /granted/request/body HTTP/1.1\r\n{body}"));
    conforms(
        "POST /granted/request/trailers HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\
         Trailer: X-Sum\r\n\r\n3\r\nin \r\n6\r\nchunks\r\n0\r\nX-Sum: 9\r\n\r\n",
    );
}

#[test]
fn response_shape() {
    let world = world();
    let ask = |case: &str| {
        let path = format!("GET /granted/response/{case} HTTP/1.1\r\n");
        world.exchange(&format!("{path}Host: HOST\r\nConnection: close\r\n\r\n"))
    };
    let none = ask("no-body");
    assert_eq!(
        (none.status, none.header("content-length")),
        (200, Some("0"))
    );
    assert!(none.header("date").is_some(), "{none:?}");
    assert_eq!(ask("empty-body").expect(200).body, b"");
    for status in [201, 204, 301, 304, 404, 418, 500, 503, 599] {
        assert_eq!(ask(&format!("status/{status}")).status, status);
    }
    let headers = ask("headers");
    let cookies: Vec<_> = headers.all("set-cookie").collect();
    assert_eq!(cookies, ["a=1; Path=/", "b=2; HttpOnly"]);
    assert_eq!(headers.header("x-case"), Some("MiXed"));
    assert_eq!(headers.header("x-empty"), Some(""));
    let length = ask("length");
    assert_eq!(length.header("content-length"), Some("5"));
    assert_eq!(length.header("transfer-encoding"), None);
    assert_eq!(length.body, b"12345");
    let chunks = ask("chunks");
    assert_eq!(chunks.header("transfer-encoding"), Some("chunked"));
    assert_eq!(chunks.text(), "one two three");
    assert_eq!(ask("forbidden").status, 200);
    for failure in ["silent", "trap", "error"] {
        assert_eq!(ask(failure).status, 500, "{failure}");
    }
    // A component may go on after its response.
    ask("after").expect(200);
    wait_for("what came after the response", || {
        (ask("was-after").status == 200).then_some(())
    });
}

/// What a component says after the head of its response, as it says it.
#[test]
fn responses_stream() {
    let world = world();
    let url = world.app.url("");
    let connect = || {
        let stream = TcpStream::connect(url.trim_start_matches("http://")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    let whole = |case: &str| {
        let mut stream = connect();
        let request = format!(
            "GET /granted/response/{case} HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        // A connection that is cut is as good an end as one that is closed.
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    };
    let trailers = whole("trailers");
    assert!(
        trailers.ends_with("9\r\nsummed up\r\n0\r\nx-sum: 9\r\n\r\n"),
        "{trailers}"
    );
    // Who breaks off must not look like one who has finished.
    let trap = whole("late-trap");
    assert!(!trap.contains("\r\n0\r\n"), "{trap}");

    // Each part comes back before the next one is sent.
    let mut stream = connect();
    let head = "POST /granted/duplex HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        line
    };
    for part in ["first", "second"] {
        write!(stream, "{:x}\r\n{part}\r\n", part.len()).unwrap();
        while line().trim_end() != part {}
    }
    stream.write_all(b"0\r\n\r\n").unwrap();
    while line() != "0\r\n" {}
}

#[test]
fn routes_of_the_host() {
    let world = world();
    let health = get(&world.app.url("/.well-known/spin/health"));
    assert_eq!(health, (200, "OK".to_owned()));
    assert_eq!(get(&world.app.url("/.well-known/spin/other")).0, 404);
    assert_eq!(get(&world.app.url("/nowhere")).0, 404);
    assert_eq!(get(&world.app.url("/called/by-a-component")).0, 404);
}

/// Accepts connections for as long as the tests run.
fn serve(serve: fn(TcpStream) -> std::io::Result<()>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // Whatever goes wrong here shows in the guest.
            thread::spawn(move || serve(stream));
        }
    });
    address
}

fn tcp_echo() -> SocketAddr {
    serve(|stream| std::io::copy(&mut stream.try_clone()?, &mut &stream).map(drop))
}

/// Answers the first message of TLS by something else.
fn no_tls() -> SocketAddr {
    serve(|mut stream| {
        stream.read_exact(&mut [0; 5])?;
        stream.write_all(b"this is no TLS\r\n")?;
        // To its end, so that the answer is not lost with the connection.
        std::io::copy(&mut stream, &mut std::io::sink()).map(drop)
    })
}

fn udp_echo() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut datagram = [0; 1024];
        while let Ok((length, from)) = socket.recv_from(&mut datagram) {
            let _ = socket.send_to(&datagram[..length], from);
        }
    });
    address
}

/// One request on each connection, read to its end.
fn http_server() -> SocketAddr {
    serve(|mut stream| {
        let raw = read_request(&mut BufReader::new(stream.try_clone()?))?;
        let path = raw.split(' ').nth(1).unwrap_or_default();
        let answer = match path {
            "/hang" => return stream.read(&mut [0; 1]).map(drop),
            "/teapot" => "HTTP/1.1 418 I'm a teapot\r\nX-Twice: one\r\nx-twice: two\r\n\
                          Connection: close\r\nContent-Length: 15\r\n\r\nshort and stout"
                .to_owned(),
            "/trailers" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\
                            Connection: close\r\n\r\n9\r\nsummed up\r\n0\r\nX-Sum: 9\r\n\r\n"
                .to_owned(),
            _ => {
                let length = raw.len();
                format!(
                    "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{raw}"
                )
            }
        };
        stream.write_all(answer.as_bytes())
    })
}

fn read_request(reader: &mut impl BufRead) -> std::io::Result<String> {
    let mut raw = String::new();
    while !raw.ends_with("\r\n\r\n") {
        if reader.read_line(&mut raw)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    let head = raw.to_ascii_lowercase();
    if head.contains("transfer-encoding: chunked") {
        while !raw.ends_with("0\r\n\r\n") {
            reader.read_line(&mut raw)?;
        }
    } else if let Some((_, length)) = head.split_once("content-length: ") {
        let length = length.lines().next().and_then(|text| text.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        reader.read_exact(&mut body)?;
        raw.push_str(&String::from_utf8_lossy(&body));
    }
    Ok(raw)
}
