//! Connections to the Redis servers that components name. Each is lent to one
//! user at a time, and is only lent again when nothing of that user is left on
//! it. Knows no command.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::{Manager, Metrics, Object, Pool, PoolError, RecycleError, RecycleResult};
use redis::{Cmd, RedisError, Value};
use tokio_util::task::AbortOnDropHandle;

use crate::backends::{Backend, Backends, CallError, TooManyBackends};
use crate::redis_server::{OwnConnection, RedisAddressError, RedisServer, means_down};

/// Connections to one address.
const MAX_CONNECTIONS: usize = 64;
/// Addresses, which guests may make up as far as they are allowed to.
const MAX_ADDRESSES: usize = 128;
/// How long to wait for one of the connections to an address.
const WAIT: Duration = Duration::from_secs(5);
/// Beside the wait; connecting has a limit of its own below it.
const CONNECT: Duration = Duration::from_secs(3);
/// How long the answer to a command may take.
const ANSWER: Duration = Duration::from_secs(10);
/// How long a connection that nobody uses is kept.
const IDLE: Duration = Duration::from_mins(1);
const SWEEP: Duration = Duration::from_secs(15);

type ByAddress = Mutex<HashMap<String, Arc<RedisPool>>>;

/// The connections to every address.
pub struct RedisPools {
    pools: Arc<ByAddress>,
    backends: Backends,
    /// Begins with the first address.
    sweeper: OnceLock<AbortOnDropHandle<()>>,
}

/// Why there are no connections to an address.
#[derive(Debug, thiserror::Error)]
pub enum PoolsError {
    /// It is not one.
    #[error(transparent)]
    Address(#[from] RedisAddressError),
    /// There are as many as may be.
    #[error("more than {MAX_ADDRESSES} different Redis addresses are in use")]
    TooManyAddresses,
    /// There are as many servers as may be.
    #[error(transparent)]
    TooManyBackends(#[from] TooManyBackends),
}

/// Why no connection was lent.
#[derive(Debug, thiserror::Error)]
pub enum LendError {
    /// All of them are in use.
    #[error("all {MAX_CONNECTIONS} connections are in use")]
    Busy,
    /// A new one could not be made.
    #[error(transparent)]
    Connect(RedisError),
}

impl RedisPools {
    /// None yet; the servers are watched as part of `backends`.
    pub fn new(backends: Backends) -> Self {
        Self {
            pools: Arc::default(),
            backends,
            sweeper: OnceLock::new(),
        }
    }

    /// The connections to `address`, a URL that may hold a password.
    pub fn to(&self, address: &str) -> Result<Arc<RedisPool>, PoolsError> {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = pools.get(address) {
            return Ok(Arc::clone(pool));
        }
        if pools.len() >= MAX_ADDRESSES && !self.backends.make_room(&mut pools, RedisPool::backend)
        {
            return Err(PoolsError::TooManyAddresses);
        }
        let server = RedisServer::parse(address)?;
        let pool = Arc::new(RedisPool::new(server, &self.backends)?);
        pools.insert(address.to_owned(), Arc::clone(&pool));
        self.sweeper.get_or_init(|| {
            let pools = Arc::downgrade(&self.pools);
            AbortOnDropHandle::new(tokio::spawn(sweep(pools)))
        });
        Ok(pool)
    }
}

/// Closes what has been idle for too long.
async fn sweep(pools: Weak<ByAddress>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let Some(pools) = pools.upgrade() else {
            return;
        };
        let pools = pools.lock().unwrap_or_else(PoisonError::into_inner);
        for pool in pools.values() {
            let young = |_: &OwnConnection, metrics: Metrics| metrics.last_used() < IDLE;
            drop(pool.connections.retain(young));
        }
    }
}

/// The connections to one address.
pub struct RedisPool {
    connections: Pool<Connector>,
    backend: Arc<Backend>,
}

impl RedisPool {
    fn new(server: RedisServer, backends: &Backends) -> Result<Self, TooManyBackends> {
        let probed = server.clone();
        let backend = backends.watch(server.name().to_owned(), move || {
            let server = probed.clone();
            async move {
                let answer = server.probe(false).await;
                answer.map(drop).map_err(|error| error.to_string())
            }
        })?;
        let connections = Pool::builder(Connector(server))
            .max_size(MAX_CONNECTIONS)
            .wait_timeout(Some(WAIT))
            .runtime(Runtime::Tokio1)
            .build()
            .unwrap_or_else(|error| unreachable!("a runtime is given: {error}"));
        Ok(Self {
            connections,
            backend,
        })
    }

    /// The server.
    pub fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }

    /// A connection, lent until the lease is dropped.
    pub async fn lend(&self) -> Result<Lease, CallError<LendError>> {
        let lend = async {
            self.connections.get().await.map_err(|error| match error {
                PoolError::Backend(error) => LendError::Connect(error),
                _ => LendError::Busy,
            })
        };
        let is_down =
            |error: &LendError| matches!(error, LendError::Connect(error) if means_down(error));
        let connection = self.backend.call(WAIT + CONNECT, is_down, lend).await?;
        Ok(Lease {
            connection: Some(connection),
            backend: Arc::clone(&self.backend),
            state: State::Clean,
        })
    }
}

struct Connector(RedisServer);

impl Manager for Connector {
    type Type = OwnConnection;
    type Error = RedisError;

    async fn create(&self) -> Result<OwnConnection, RedisError> {
        self.0.connect().await
    }

    async fn recycle(
        &self,
        connection: &mut OwnConnection,
        _: &Metrics,
    ) -> RecycleResult<RedisError> {
        if connection.has_ended() {
            return Err(RecycleError::message("it has ended"));
        }
        Ok(())
    }
}

/// A connection in the hands of one user.
pub struct Lease {
    /// Taken when it is dropped.
    connection: Option<Object<Connector>>,
    backend: Arc<Backend>,
    state: State,
}

/// What was done on a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing is left of it: others may have the connection.
    Clean,
    /// Something was set on it that others would notice.
    Marked,
    /// An answer is outstanding, or the connection broke.
    Broken,
}

impl Lease {
    /// Sends `command` once and waits for its answer. `marks`: the command may
    /// set something on the connection.
    pub async fn run(
        &mut self,
        command: &Cmd,
        marks: bool,
    ) -> Result<Value, CallError<RedisError>> {
        let Some(connection) = &mut self.connection else {
            unreachable!("a lease has its connection until it is dropped");
        };
        let before = std::mem::replace(&mut self.state, State::Broken);
        // Who drops this future in the middle leaves an answer outstanding.
        let answer = self
            .backend
            .call(ANSWER, means_down, connection.run(command))
            .await;
        let after = if marks { State::Marked } else { before };
        self.state = match &answer {
            Ok(_) => after,
            Err(CallError::Failed(error)) if !error.is_unrecoverable_error() => after,
            // Nothing was sent.
            Err(CallError::Down(_)) => before,
            Err(_) => State::Broken,
        };
        answer
    }

    /// Whether the connection can carry a further command.
    pub fn is_usable(&self) -> bool {
        let alive = |connection: &Object<Connector>| !connection.has_ended();
        self.state != State::Broken && self.connection.as_ref().is_some_and(alive)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take()
            && self.state != State::Clean
        {
            drop(Object::take(connection));
        }
    }
}
