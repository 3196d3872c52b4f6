//! A Redis server by its URL: how to connect to it, what it is called, and
//! which of its errors mean that it is down. Keys and commands are others'
//! business.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::StreamExt as _;
use redis::aio::{AsyncStream, MultiplexedConnection, PubSub, PubSubSink, PubSubStream};
use redis::{
    AsyncConnectionConfig, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, Msg,
    RedisError, ServerErrorKind, Value,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use crate::tls;

/// How long connecting may take, authentication included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Bytes of one answer: somewhat more than any result may have.
const MAX_ANSWER_BYTES: usize = 160 * 1024 * 1024;

/// An address that cannot be used. Its text does not repeat the address, which
/// may hold a password.
#[derive(Debug, thiserror::Error)]
#[error("the address is not a Redis URL (`redis://[user:password@]host[:port][/database]`): {0}")]
pub struct RedisAddressError(String);

/// One server.
#[derive(Clone)]
pub struct RedisServer {
    info: ConnectionInfo,
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
        let info = url.into_connection_info().map_err(fail)?;
        let name = match info.redis_settings().db() {
            0 => format!("redis {}", info.addr()),
            db => format!("redis {}/{db}", info.addr()),
        };
        let url = url.to_owned();
        Ok(Self { info, name, url })
    }

    /// What it is called in messages: without user and password.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A new connection. Callers put a limit on each command.
    pub async fn connect(&self) -> Result<OwnConnection, RedisError> {
        let info = &self.info;
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let connect = async {
            let stream = Bounded {
                stream: open_stream(info.addr()).await?,
                read: Arc::default(),
            };
            let settings = info.redis_settings();
            MultiplexedConnection::new_with_config(settings, stream, config).await
        };
        let (commands, driver) = tokio::time::timeout(CONNECT_TIMEOUT, connect)
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let driver = AbortOnDropHandle::new(tokio::spawn(driver));
        Ok(OwnConnection { commands, driver })
    }

    /// A new connection that gets what is published on `channels` from now on.
    pub async fn subscribe(&self, channels: &[&str]) -> Result<Subscription, RedisError> {
        let info = &self.info;
        let subscribe = async {
            let unseen = Arc::new(AtomicUsize::new(0));
            let stream = Bounded {
                stream: open_stream(info.addr()).await?,
                read: Arc::clone(&unseen),
            };
            let mut connection = PubSub::new(info.redis_settings(), stream).await?;
            connection.subscribe(channels).await?;
            let (control, stream) = connection.split();
            Ok(Subscription {
                messages: Messages { stream, unseen },
                control,
            })
        };
        tokio::time::timeout(CONNECT_TIMEOUT, subscribe)
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    /// Connects anew and asks for an answer; with `must_write` not from a replica.
    /// A user who may not ask has been answered, too.
    pub async fn probe(&self, must_write: bool) -> Result<OwnConnection, RedisError> {
        let connection = self.connect().await?;
        let mut commands = connection.commands();
        let pong: Result<(), RedisError> = redis::cmd("PING").query_async(&mut commands).await;
        pong.or_else(unless_down)?;
        if must_write {
            let role = redis::cmd("ROLE").query_async(&mut commands).await;
            let role: Vec<Value> = role.or_else(unless_down)?;
            if role.first() == Some(&Value::BulkString(b"slave".to_vec())) {
                let what = "it is a replica, which takes no writes";
                return Err((ErrorKind::Server(ServerErrorKind::ReadOnly), what).into());
            }
        }
        Ok(connection)
    }
}

fn unless_down<T: Default>(error: RedisError) -> Result<T, RedisError> {
    if means_down(&error) {
        Err(error)
    } else {
        Ok(T::default())
    }
}

/// Whether a replica refused a write.
pub fn is_read_only(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
}

/// A connection that tells whether it has ended.
pub struct OwnConnection {
    commands: MultiplexedConnection,
    driver: AbortOnDropHandle<()>,
}

impl OwnConnection {
    /// Sends `command` and waits for its answer, without a limit.
    pub async fn run(&mut self, command: &Cmd) -> Result<Value, RedisError> {
        command.query_async(&mut self.commands).await
    }

    /// For many users at once: their commands are pipelined. They end with `self`.
    pub fn commands(&self) -> MultiplexedConnection {
        self.commands.clone()
    }

    /// Whether either side has closed it.
    pub fn has_ended(&self) -> bool {
        self.driver.is_finished()
    }
}

/// A connection that gets messages.
pub struct Subscription {
    /// What is published.
    pub messages: Messages,
    /// For asking whether the server is still there.
    pub control: PubSubSink,
}

/// What is published on the channels of a subscription.
pub struct Messages {
    stream: PubSubStream,
    /// Bytes read and not looked at: as many as one answer may have, at most.
    unseen: Arc<AtomicUsize>,
}

impl Messages {
    /// The next one; none when the connection has ended.
    pub async fn next(&mut self) -> Option<Msg> {
        let message = self.stream.next().await;
        self.unseen.store(0, Ordering::Relaxed);
        message
    }
}

type Stream = std::pin::Pin<Box<dyn AsyncStream + Send + Sync>>;

/// Fails when more is read at a time than any answer may have: the client would
/// keep all of it in memory first. What is written begins a new answer.
struct Bounded<S> {
    stream: S,
    read: Arc<AtomicUsize>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let more = buffer.filled().len() - before;
        if self.read.fetch_add(more, Ordering::Relaxed) + more > MAX_ANSWER_BYTES {
            let what = format!("an answer is larger than {MAX_ANSWER_BYTES} bytes");
            return Poll::Ready(Err(io::Error::other(what)));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.read.store(0, Ordering::Relaxed);
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Not left to the client: it would trust the system's authorities alone.
async fn open_stream(address: &ConnectionAddr) -> io::Result<Stream> {
    let (host, port) = match address {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
            (host.as_str(), *port)
        }
        ConnectionAddr::Unix(path) => return Ok(Box::pin(UnixStream::connect(path).await?)),
        _ => return Err(io::ErrorKind::Unsupported.into()),
    };
    let tcp = TcpStream::connect((host, port)).await?;
    tcp.set_nodelay(true)?;
    if matches!(address, ConnectionAddr::Tcp(..)) {
        return Ok(Box::pin(tcp));
    }
    let name = rustls::pki_types::ServerName::try_from(host.to_owned());
    let name = name.map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let tls = TlsConnector::from(Arc::new(tls::client_config()));
    Ok(Box::pin(tls.connect(name, tcp).await?))
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
