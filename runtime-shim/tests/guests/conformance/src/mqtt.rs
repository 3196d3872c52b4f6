//! `fermyon:spin/mqtt` 2.0.0.

use spin_sdk::mqtt::{Connection, Error, Qos};

use crate::must::{Outcome, done, must};
use crate::setting;

pub(crate) fn granted() -> Outcome {
    let address = setting("MQTT_ADDRESS")?;
    let open = Connection::open(
        &format!("{address}?client_id=spintest"),
        "user",
        "password",
        30,
    );
    let connection = done("open", open)?;
    for qos in [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce] {
        must!(
            connection.publish("telemetry-topic", b"Eureka!", qos),
            Ok(())
        );
    }
    must!(
        connection.publish("telemetry-topic", b"", Qos::AtLeastOnce),
        Ok(())
    );
    not_permitted(&address.replace("127.0.0.1", "127.0.0.2"))?;
    not_permitted("mqtt://127.0.0.1:1?client_id=spintest")
}

pub(crate) fn refused() -> Outcome {
    not_permitted(&setting("MQTT_ADDRESS")?)
}

fn not_permitted(address: &str) -> Outcome {
    let expected = format!("address {address} is not permitted");
    must!(
        Connection::open(address, "user", "password", 30),
        Err(Error::ConnectionFailed(text)) if text == expected
    );
    Ok(())
}
