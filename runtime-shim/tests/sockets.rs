//! `wasi:sockets` through the real host: what the manifest grants, and no more.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use support::net::{self, run};
use support::{App, wait_for};

/// What one step gives in a sandbox of its own.
fn step(app: &App, step: &str) -> String {
    run(app, &[step]).concat()
}

/// Answers each connection with what it sends.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut buffer = [0; 64];
                while let Ok(length @ 1..) = stream.read(&mut buffer) {
                    let _ = stream.write_all(&buffer[..length]);
                }
            });
        }
    });
    address
}

#[test]
fn what_the_list_allows_is_reached() {
    let address = echo();
    let (port, next) = (address.port(), address.port() + 1);
    for entry in [
        format!("tcp://127.0.0.1:{port}"),
        format!("tcp://127.0.0.1:{port}..{next}"),
        format!("tcp://127.0.0.0/8:{port}"),
        "tcp://127.0.0.1:*".to_owned(),
        format!("tcp://*:{port}"),
        "*://*:*".to_owned(),
    ] {
        let app = net::start(&format!("'{entry}'"));
        let gave = step(&app, &format!("socket tcp {address}"));
        assert_eq!(gave, r#"Ok("hello")"#, "{entry}");
    }
}

#[test]
fn what_it_does_not_allow_is_not_even_tried() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let (port, next) = (address.port(), address.port() + 1);
    for entries in [
        String::new(),
        format!("'tcp://127.0.0.1:{next}'"),
        format!("'tcp://127.0.0.2:{port}', 'tcp://10.0.0.0/8:*'"),
        // The end of a range is not part of it.
        format!("'tcp://127.0.0.1:1..{port}'"),
        format!("'udp://127.0.0.1:{port}', 'http://127.0.0.1:{port}', 'redis://127.0.0.1:*'"),
        // Names that nobody looked up allow no address.
        format!("'tcp://localhost:{port}'"),
    ] {
        let app = net::start(&entries);
        let gave = step(&app, &format!("socket tcp {address}"));
        assert!(gave.starts_with("Err("), "{entries}: {gave}");
        assert!(
            listener.accept().is_err(),
            "{entries}: a connection was tried"
        );
    }
    let app = net::start(&format!("'tcp://127.0.0.1:{next}'"));
    step(&app, &format!("socket tcp {address}"));
    let line = format!("outbound request to `tcp://{address}` refused");
    wait_for("the refusal in the log", || {
        app.log().contains(&line).then_some(())
    });
}

#[test]
fn a_name_on_the_list_leads_to_its_addresses() {
    let address = echo();
    let port = address.port();
    let other = echo();
    let app = net::start(&format!("'tcp://localhost:{port}'"));
    assert_eq!(
        step(&app, &format!("socket tcp localhost:{port}")),
        r#"Ok("hello")"#
    );
    let found = step(&app, "socket lookup localhost");
    assert!(found.contains("127.0.0.1"), "{found}");
    // The name's ports alone, in that sandbox alone, and no other name.
    let gave = step(&app, &format!("socket tcp localhost:{}", other.port()));
    assert!(gave.starts_with("Err("), "{gave}");
    let connect = format!("socket tcp {address}");
    let elsewhere = format!("socket tcp {other}");
    let gave = run(&app, &["socket lookup localhost", &connect, &elsewhere]);
    assert_eq!(gave[1], r#"Ok("hello")"#);
    assert!(gave[2].starts_with("Err("), "{}", gave[2]);
    assert!(step(&app, &format!("socket tcp {address}")).starts_with("Err("));
    for name in ["example.test", "net.spin.internal"] {
        let gave = step(&app, &format!("socket lookup {name}"));
        assert!(gave.starts_with("Err("), "{name}: {gave}");
    }
    // An address is no name: to have it read teaches nothing.
    let gave = run(&app, &["socket lookup 127.0.0.1", &connect]);
    assert!(gave[1].starts_with("Err("), "{gave:?}");
}

#[test]
fn components_do_not_look_up_names_in_the_application() {
    let app = net::start("'*://*:*'");
    let gave = step(&app, "socket lookup net.spin.internal");
    assert!(gave.starts_with("Err("), "{gave}");
    let line = "outbound request to `tcp://net.spin.internal` refused";
    wait_for("the refusal in the log", || {
        app.log().contains(line).then_some(())
    });
}

#[test]
fn nobody_listens() {
    let app = net::start("'*://*:*'");
    for address in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0"] {
        let gave = step(&app, &format!("socket listen {address}"));
        assert!(gave.starts_with("Err("), "{address}: {gave}");
    }
    wait_for("the refusal in the log", || {
        app.log()
            .contains("listening on `127.0.0.1:0` refused")
            .then_some(())
    });
}

#[test]
fn datagrams_go_where_udp_is_allowed() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let address = socket.local_addr().unwrap();
    let send = format!("socket udp 0.0.0.0:0 {address}");
    let mut buffer = [0; 16];

    for entries in [
        "'tcp://*:*'".to_owned(),
        format!("'udp://127.0.0.1:1', 'tcp://{address}'"),
    ] {
        let gave = step(&net::start(&entries), &send);
        assert!(gave.starts_with("Err("), "{entries}: {gave}");
        assert!(
            socket.recv(&mut buffer).is_err(),
            "{entries}: a datagram came"
        );
    }

    assert_eq!(
        step(&net::start(&format!("'udp://{address}'")), &send),
        "Ok(5)"
    );
    assert_eq!(socket.recv(&mut buffer).unwrap(), 5);
}

#[test]
fn one_sandbox_has_a_bounded_number_of_sockets() {
    let address = echo();
    let app = net::start(&format!("'tcp://{address}'"));
    assert_eq!(step(&app, &format!("socket hold 32 {address}")), "32 held");
    let gave = step(&app, &format!("socket hold 40 {address}"));
    assert!(gave.starts_with("32 held, then"), "{gave}");
    // Closed ones do not count.
    let hold = format!("socket hold 32 {address}");
    assert_eq!(run(&app, &[&hold, &hold]), ["32 held", "32 held"]);
}
