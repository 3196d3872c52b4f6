//! `fermyon:spin/mqtt`: messages to the brokers that the manifest allows. Each
//! handle has a connection of its own, made when it is first used.

use rumqttc::QoS;
use url::Url;
use wasmtime::component::{HasData, Resource, ResourceTable};

use super::bindings::fermyon::spin::mqtt::{Error, Host, HostConnection, Qos};
use super::{Grants, refusal};
use crate::backends::CallError;
use crate::mqtt::{MAX_PAYLOAD, MqttSessions, PublishError, Publisher, SessionError};

/// Connections that one sandbox may hold open.
const MAX_OPEN_CONNECTIONS: usize = 8;

/// Marks the view for the linker.
pub(super) struct OutboundMqtt;

impl HasData for OutboundMqtt {
    type Data<'a> = MqttView<'a>;
}

/// What MQTT calls see of a sandbox.
pub(super) struct MqttView<'a> {
    pub(super) grants: &'a Grants,
    pub(super) sessions: &'a MqttSessions,
    pub(super) table: &'a mut ResourceTable,
    pub(super) open: &'a mut usize,
}

/// A guest's handle.
#[allow(unreachable_pub, reason = "the generated bindings export it again")]
pub struct Connection(Publisher);

impl From<SessionError> for Error {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Address => Self::InvalidAddress,
            SessionError::TooManySessions => Self::TooManyConnections,
            error => Self::Other(error.to_string()),
        }
    }
}

impl From<CallError<PublishError>> for Error {
    fn from(error: CallError<PublishError>) -> Self {
        match error {
            CallError::Failed(PublishError::Topic) => Self::Other(PublishError::Topic.to_string()),
            error => Self::ConnectionFailed(error.to_string()),
        }
    }
}

impl MqttView<'_> {
    fn connect(
        &self,
        address: &str,
        username: String,
        password: &str,
        keep_alive_secs: u64,
    ) -> Result<Connection, Error> {
        if address.len() > refusal::MAX_ADDRESS_BYTES {
            return Err(Error::InvalidAddress);
        }
        let url = Url::parse(address).map_err(|_| Error::InvalidAddress)?;
        let host = url.host_str().ok_or(Error::InvalidAddress)?;
        if !refusal::allows(&self.grants.component, url.scheme(), host, url.port()) {
            // Spin's words.
            return Err(Error::ConnectionFailed(format!(
                "address {address} is not permitted"
            )));
        }
        let publisher = self
            .sessions
            .open(&url, username, password, keep_alive_secs)?;
        Ok(Connection(publisher))
    }
}

impl Host for MqttView<'_> {}

impl HostConnection for MqttView<'_> {
    async fn open(
        &mut self,
        address: String,
        username: String,
        password: String,
        keep_alive_secs: u64,
    ) -> wasmtime::Result<Result<Resource<Connection>, Error>> {
        if *self.open >= MAX_OPEN_CONNECTIONS {
            return Ok(Err(Error::TooManyConnections));
        }
        Ok(
            match self.connect(&address, username, &password, keep_alive_secs) {
                Ok(connection) => {
                    *self.open += 1;
                    Ok(self.table.push(connection)?)
                }
                Err(error) => Err(error),
            },
        )
    }

    async fn publish(
        &mut self,
        connection: Resource<Connection>,
        topic: String,
        payload: Vec<u8>,
        qos: Qos,
    ) -> wasmtime::Result<Result<(), Error>> {
        if payload.len() > MAX_PAYLOAD {
            return Ok(Err(Error::Other(format!(
                "the message has {} bytes, allowed are {MAX_PAYLOAD}",
                payload.len()
            ))));
        }
        let qos = match qos {
            Qos::AtMostOnce => QoS::AtMostOnce,
            Qos::AtLeastOnce => QoS::AtLeastOnce,
            Qos::ExactlyOnce => QoS::ExactlyOnce,
        };
        let Connection(publisher) = self.table.get_mut(&connection)?;
        let published = publisher.publish(&topic, payload, qos).await;
        if published.is_ok() {
            self.grants.dependencies.add(publisher.backend());
        }
        Ok(published.map_err(Error::from))
    }

    async fn drop(&mut self, connection: Resource<Connection>) -> wasmtime::Result<()> {
        self.table.delete(connection)?;
        *self.open -= 1;
        Ok(())
    }
}
