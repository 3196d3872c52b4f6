//! `fermyon:spin/mqtt`, on the handle that was opened last.

use spin_sdk::mqtt::{Connection, Qos};

pub(crate) fn step(open: &mut Vec<Connection>, words: &[&str]) -> String {
    match words {
        ["open", address, rest @ ..] => {
            let user = rest.first().copied().unwrap_or_default();
            let password = rest.get(1).copied().unwrap_or_default();
            let keep_alive = rest.get(2).and_then(|secs| secs.parse().ok());
            match Connection::open(address, user, password, keep_alive.unwrap_or(30)) {
                Ok(connection) => {
                    open.push(connection);
                    "open".to_owned()
                }
                Err(error) => format!("Err({error:?})"),
            }
        }
        ["drop"] => {
            open.pop();
            "dropped".to_owned()
        }
        ["publish", qos, topic, payload] => publish(open, qos, topic, payload.as_bytes()),
        ["publish-bytes", qos, topic, count] => {
            let payload = vec![b'x'; count.parse().unwrap_or(0)];
            publish(open, qos, topic, &payload)
        }
        _ => format!("no such step: {words:?}"),
    }
}

fn publish(open: &[Connection], qos: &str, topic: &str, payload: &[u8]) -> String {
    let Some(connection) = open.last() else {
        return "nothing is open".to_owned();
    };
    let qos = match qos {
        "0" => Qos::AtMostOnce,
        "1" => Qos::AtLeastOnce,
        _ => Qos::ExactlyOnce,
    };
    format!("{:?}", connection.publish(topic, payload, qos))
}
