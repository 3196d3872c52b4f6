//! `fermyon:spin/mqtt` through the real host, against a real broker.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use std::time::{Duration, Instant};

use rumqttc::{Client, Connection, Event, MqttOptions, Packet, QoS};
use support::net::{self, run};
use support::servers::Mosquitto;
use support::{App, PATIENCE, agent, wait_for};

fn start(broker: &Mosquitto) -> App {
    net::start(&format!("'{}'", broker.url()))
}

/// Somebody who listens on `test/#`.
struct Subscriber {
    _client: Client,
    connection: Connection,
}

impl Subscriber {
    fn start(broker: &Mosquitto, login: Option<(&str, &str)>) -> Self {
        let mut options = MqttOptions::new("subscriber", "127.0.0.1", broker.port());
        options.set_max_packet_size(1 << 20, 10 << 10);
        if let Some((user, password)) = login {
            options.set_credentials(user, password);
        }
        let (client, connection) = Client::new(options, 10);
        client.subscribe("test/#", QoS::ExactlyOnce).unwrap();
        let mut subscriber = Self {
            _client: client,
            connection,
        };
        subscriber.find(|packet| matches!(packet, Packet::SubAck(_)).then_some(()));
        subscriber
    }

    fn find<T>(&mut self, mut find: impl FnMut(Packet) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Ok(Ok(Event::Incoming(packet))) = self.connection.recv_timeout(PATIENCE)
                && let Some(found) = find(packet)
            {
                return found;
            }
        }
        panic!("the subscriber waited in vain");
    }

    fn next(&mut self) -> (String, QoS, Vec<u8>) {
        self.find(|packet| match packet {
            Packet::Publish(message) => {
                Some((message.topic, message.qos, message.payload.to_vec()))
            }
            _ => None,
        })
    }
}

#[test]
fn messages_arrive_at_each_quality_of_service() {
    let Some(broker) = Mosquitto::start() else {
        return;
    };
    let app = start(&broker);
    let mut subscriber = Subscriber::start(&broker, None);
    let open = format!("mqtt open {}?client_id=mill", broker.url());
    let levels = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
    for (number, qos) in levels.into_iter().enumerate() {
        let publish = format!("mqtt publish {number} test/one Eureka!");
        // Twice over one connection; the end of it loses nothing.
        assert_eq!(
            run(&app, &[&open, &publish, &publish]),
            ["open", "Ok(())", "Ok(())"]
        );
        for _ in 0..2 {
            let got = subscriber.next();
            assert_eq!(got, ("test/one".to_owned(), qos, b"Eureka!".to_vec()));
        }
    }
    // A large one, and many at once with the same client id in their address.
    assert_eq!(
        run(&app, &[&open, "mqtt publish-bytes 1 test/big 300000"])[1],
        "Ok(())"
    );
    assert_eq!(subscriber.next().2.len(), 300_000);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let gave = run(&app, &[&open, "mqtt publish 1 test/many x"]);
                assert_eq!(gave[1], "Ok(())");
            });
        }
    });
    for _ in 0..16 {
        assert_eq!(subscriber.next().0, "test/many");
    }
    // They took leave.
    wait_for("the connections to end", || {
        let log = broker.log();
        let left = log.matches(" disconnected.").count();
        (log.matches("connected from").count() >= 20 && left >= 20).then_some(())
    });
    assert!(
        !broker.log().contains("already connected"),
        "{}",
        broker.log()
    );
}

#[test]
fn what_is_not_allowed_is_not_tried() {
    let Some(broker) = Mosquitto::start() else {
        return;
    };
    let app = net::start("'mqtt://127.0.0.1:1', 'http://127.0.0.1:*'");
    let connected = || broker.log().matches("New connection").count();
    let before = connected();
    for address in [broker.url(), broker.url().replace("mqtt:", "mqtts:")] {
        let url = address.replace("://", "://user:hunter2@");
        let gave = run(&app, &[&format!("mqtt open {url} user hunter2")]);
        let refused = format!(r#"Err(Error::ConnectionFailed("address {url} is not permitted"))"#);
        assert_eq!(gave, [refused]);
    }
    for address in ["nonsense", "http://127.0.0.1:1"] {
        let gave = run(&app, &[&format!("mqtt open {address}")]);
        assert_eq!(gave, ["Err(Error::InvalidAddress)"], "{address}");
    }
    assert_eq!(connected(), before);
    let line = format!("outbound request to `{}` refused", broker.url());
    wait_for("the refusal in the log", || {
        app.log().contains(&line).then_some(())
    });
    assert!(!app.log().contains("hunter2"), "{}", app.log());
}

#[test]
fn topics_messages_and_handles_have_bounds() {
    let Some(broker) = Mosquitto::start() else {
        return;
    };
    let app = start(&broker);
    let open = format!("mqtt open {}", broker.url());
    let gave = run(
        &app,
        &[
            &open,
            "mqtt publish 0 a/+/b x",
            "mqtt publish 0  x",
            "mqtt publish-bytes 0 t 16777217",
            // None of it hurt the connection.
            "mqtt publish 1 t x",
        ],
    );
    assert!(
        gave[1].contains("wildcard") && gave[2].contains("empty"),
        "{gave:?}"
    );
    assert!(gave[3].contains("16777217 bytes"), "{gave:?}");
    assert_eq!(gave[4], "Ok(())");
    let gave = run(&app, &[open.as_str(); 9]);
    assert_eq!(gave[7..], ["open", "Err(Error::TooManyConnections)"]);
}

#[test]
fn a_login_is_needed_and_its_password_not_shown() {
    let Some(broker) = Mosquitto::start_for("mill", "hunter2-right") else {
        return;
    };
    let app = start(&broker);
    let mut subscriber = Subscriber::start(&broker, Some(("mill", "hunter2-right")));
    let publish = "mqtt publish 1 test/login x";
    let wrong = format!("mqtt open {} mill hunter2-wrong", broker.url());
    let gave = run(&app, &[&wrong, publish]);
    assert!(
        gave[1].starts_with("Err(Error::ConnectionFailed("),
        "{gave:?}"
    );
    let right = format!("mqtt open {} mill hunter2-right", broker.url());
    assert_eq!(run(&app, &[&right, publish]), ["open", "Ok(())"]);
    assert_eq!(subscriber.next().0, "test/login");
    let log = wait_for("the probe in the log", || {
        Some(app.log()).filter(|log| log.contains("backend is down"))
    });
    assert!(
        !log.contains("hunter2") && !gave[1].contains("hunter2"),
        "{log}"
    );
}

#[test]
fn a_broker_that_is_down_fails_at_once_and_is_found_again() {
    let Some(broker) = Mosquitto::start() else {
        return;
    };
    let app = start(&broker);
    let open = format!("mqtt open {}", broker.url());
    let publish = "mqtt publish 1 test/back x";
    assert_eq!(run(&app, &[&open, publish]), ["open", "Ok(())"]);
    broker.kill();
    let started = Instant::now();
    let gave = run(&app, &[&open, publish]);
    assert!(
        gave[1].starts_with("Err(Error::ConnectionFailed("),
        "{gave:?}"
    );
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "{:?}",
        started.elapsed()
    );
    let status = || {
        agent()
            .get(app.admin("/readyz"))
            .call()
            .unwrap()
            .status()
            .as_u16()
    };
    wait_for("the host to be unready", || (status() == 503).then_some(()));
    broker.restart();
    wait_for("the broker to be found again", || {
        (run(&app, &[&open, publish])[1] == "Ok(())").then_some(())
    });

    // Frozen, it is waited for within bounds.
    broker.freeze();
    let started = Instant::now();
    let gave = run(&app, &[&open, publish]);
    assert!(
        gave[1].starts_with("Err(Error::ConnectionFailed("),
        "{gave:?}"
    );
    assert!(
        started.elapsed() < Duration::from_secs(12),
        "{:?}",
        started.elapsed()
    );
    broker.thaw();
}

/// A connection outlives its keep-alive, because somebody sends signs of life;
/// and one that broke while nobody used it is made anew.
#[test]
fn a_handle_may_rest_between_messages() {
    let Some(broker) = Mosquitto::start() else {
        return;
    };
    let app = start(&broker);
    let open = format!("mqtt open {} - - 1", broker.url()).replace(" - - ", "   ");
    let publish = "mqtt publish 2 test/rest x";
    let gave = run(&app, &[&open, publish, "sleep 3000", publish]);
    assert_eq!(gave, ["open", "Ok(())", "awake", "Ok(())"]);
    assert!(
        !broker.log().contains("exceeded timeout"),
        "{}",
        broker.log()
    );
    std::thread::scope(|scope| {
        let held = scope.spawn(|| run(&app, &[&open, publish, "sleep 2000", publish]));
        let received = || broker.log().matches("Received PUBREL").count();
        let before = received();
        wait_for("the first message", || (received() > before).then_some(()));
        broker.restart();
        assert_eq!(held.join().unwrap()[3], "Ok(())");
    });
}
