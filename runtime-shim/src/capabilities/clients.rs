//! The clients that all components share, each with its bounds.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::outbound_http::HttpClient;
use super::postgres::PostgresServers;
use super::sockets;
use crate::backends::Backends;
use crate::mqtt::MqttSessions;
use crate::redis_pool::RedisPools;

/// What goes out of the process on behalf of components.
pub struct Clients {
    pub(super) http: HttpClient,
    pub(super) redis: RedisPools,
    pub(super) mqtt: MqttSessions,
    pub(super) postgres: Arc<PostgresServers>,
    /// One for each socket.
    pub(super) sockets: Arc<Semaphore>,
}

impl Clients {
    /// None is connected yet; the servers are watched as part of `backends`.
    pub fn new(backends: &Backends) -> Self {
        Self {
            http: HttpClient::new(),
            redis: RedisPools::new(backends.clone()),
            mqtt: MqttSessions::new(backends.clone()),
            postgres: PostgresServers::new(backends.clone()),
            sockets: sockets::permits(),
        }
    }
}
