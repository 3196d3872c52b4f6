//! A Redis server by its URL: how to connect to it, what it is called, and
//! which of its errors mean that it is down. Keys and commands are others'
//! business.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ErrorKind, RedisError, ServerErrorKind};

/// How long connecting may take, authentication included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// An address that cannot be used. Its text does not repeat the address, which
/// may hold a password.
#[derive(Debug, thiserror::Error)]
#[error("the address is not a Redis URL (`redis://[user:password@]host[:port][/database]`): {0}")]
pub struct RedisAddressError(String);

/// One server.
#[derive(Clone)]
pub struct RedisServer {
    client: Client,
    name: String,
    url: String,
}

impl PartialEq for RedisServer {
    fn eq(&self, other: &Self) -> bool {
        self.url == other.url
    }
}

impl RedisServer {
    /// The server at `url`: `redis://`, `rediss://` (TLS) or `redis+unix://`.
    pub fn parse(url: &str) -> Result<Self, RedisAddressError> {
        let fail = |error: RedisError| RedisAddressError(error.to_string());
        let client = Client::open(url).map_err(fail)?;
        let info = client.get_connection_info();
        let name = match info.redis_settings().db() {
            0 => format!("redis {}", info.addr()),
            db => format!("redis {}/{db}", info.addr()),
        };
        let url = url.to_owned();
        Ok(Self { client, name, url })
    }

    /// What it is called in messages: without user and password.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A new connection. Callers put a limit on each command.
    pub async fn connect(&self) -> Result<MultiplexedConnection, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(None);
        self.client
            .get_multiplexed_async_connection_with_config(&config)
            .await
    }

    /// Connects anew and asks for an answer.
    pub async fn probe(&self) -> Result<MultiplexedConnection, RedisError> {
        let mut connection = self.connect().await?;
        let () = redis::cmd("PING").query_async(&mut connection).await?;
        Ok(connection)
    }
}

/// Whether `error` says that the server cannot be used at present, rather than
/// that a command was wrong.
pub fn means_down(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::Io | ErrorKind::AuthenticationFailed => true,
        ErrorKind::Server(kind) => matches!(
            kind,
            ServerErrorKind::BusyLoading
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::TryAgain
                | ServerErrorKind::ReadOnly
        ),
        _ => error.is_unrecoverable_error() || matches!(error.code(), Some("NOAUTH" | "MISCONF")),
    }
}
