//! The databases that guests have addresses of, each with its connections: how
//! many there may be, when one is reused, and when one is closed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use deadpool_postgres::{
    Manager, ManagerConfig, Object, Pool, PoolError, QueueMode, RecyclingMethod, Runtime,
    TimeoutType, Timeouts,
};
use futures::future::BoxFuture;
use tokio_postgres::Config;
use tokio_postgres::error::SqlState;
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::address::{Address, CONNECT_TIMEOUT};
use super::connector::Connector;
use super::error::{PostgresError, is_absence, with_causes, without_names};
use crate::backends::{Backend, Backends, CallError};
use crate::tls;

/// Connections to one address.
const MAX_CONNECTIONS: usize = 16;
/// Addresses that have connections.
const MAX_ADDRESSES: usize = 64;
/// How long to wait for a connection that another sandbox has.
const WAIT_TIMEOUT: Duration = Duration::from_secs(5);
/// Waiting and connecting have limits of their own, and tell more than this one.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that nobody used for so long is closed.
const IDLE_CONNECTION: Duration = Duration::from_mins(1);
/// An address that nobody used for so long is forgotten.
const IDLE_ADDRESS: Duration = Duration::from_mins(10);
const SWEEP_INTERVAL: Duration = Duration::from_secs(15);
/// How long it may take to make a connection as new, or to have a statement stopped.
const CLEANING_TIMEOUT: Duration = Duration::from_secs(2);

/// One database under one address: credentials included, so that nobody gets a
/// connection that another one's password made.
pub(super) struct Server {
    name: String,
    pool: Pool,
    backend: Arc<Backend>,
    /// Whether somebody is there, whatever becomes of this user and database.
    presence: OnceLock<Arc<Backend>>,
    connector: Connector,
    config: Config,
}

impl Server {
    fn new(
        address: &Address,
        connector: Connector,
        backends: &Backends,
    ) -> Result<Self, PostgresError> {
        let name = address.name();
        let unusable = |reason: String| PostgresError::Connect {
            server: name.clone(),
            reason,
        };
        // Connections are cleaned when they come back, not when they are wanted.
        let settings = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let manager = Manager::from_connect(address.config.clone(), connector.clone(), settings);
        let pool = Pool::builder(manager)
            .max_size(MAX_CONNECTIONS)
            .runtime(Runtime::Tokio1)
            .queue_mode(QueueMode::Lifo)
            .timeouts(Timeouts {
                wait: Some(WAIT_TIMEOUT),
                create: Some(CONNECT_TIMEOUT),
                recycle: Some(CLEANING_TIMEOUT),
            })
            .build()
            .map_err(|error| unusable(error.to_string()))?;
        let backend = backends
            .watch(name.clone(), probe(&connector, &address.config, |_| true))
            .map_err(|error| unusable(error.to_string()))?;
        Ok(Self {
            name,
            pool,
            backend,
            presence: OnceLock::new(),
            connector,
            config: address.config.clone(),
        })
    }

    pub(super) fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }

    /// A connection that nobody else has, as new.
    pub(super) async fn connect(&self) -> Result<Object, PostgresError> {
        let server = self.name.clone();
        let opened = self.backend.call(OPEN_TIMEOUT, means_down, self.pool.get());
        let reason = match opened.await {
            Ok(client) => return Ok(client),
            Err(CallError::Down(unavailable)) => return Err(unavailable.into()),
            Err(CallError::Failed(PoolError::Timeout(TimeoutType::Wait))) => {
                let limit = MAX_CONNECTIONS;
                return Err(PostgresError::Exhausted { server, limit });
            }
            Err(CallError::Failed(PoolError::Timeout(_))) => {
                format!("no answer within {} s", CONNECT_TIMEOUT.as_secs())
            }
            Err(CallError::Failed(PoolError::Backend(error))) => {
                let reason = with_causes(&error);
                if !is_absence(&error) {
                    return Err(PostgresError::Connect { server, reason });
                }
                reason
            }
            Err(error) => error.to_string(),
        };
        Err(PostgresError::Unreachable { server, reason })
    }

    /// Takes a connection back that a guest has used. Whatever it left there
    /// (settings, temporary tables, locks, prepared statements) is discarded;
    /// in an open transaction that fails, and the connection is closed.
    pub(super) fn take_back(&self, client: Object) {
        self.connector.tasks.spawn(async move {
            client.statement_cache.clear();
            let cleaned = client.batch_execute("DISCARD ALL");
            if !matches!(
                tokio::time::timeout(CLEANING_TIMEOUT, cleaned).await,
                Ok(Ok(()))
            ) {
                close(client);
            }
        });
    }

    /// Closes a connection that runs a statement nobody waits for. A server
    /// goes on with it, unless told.
    pub(super) fn give_up(&self, client: Object) {
        let connector = self.connector.clone();
        self.connector.tasks.spawn(async move {
            let cancelled = connector.cancel(client.cancel_token());
            // Where that fails, closing has to do.
            let _ = tokio::time::timeout(CLEANING_TIMEOUT, cancelled).await;
            close(client);
        });
    }

    /// Whether somebody is held up until it answers, and would not ask meanwhile.
    fn is_waited_for(&self) -> bool {
        let presence = self.presence.get();
        self.backend.holds_up() || presence.is_some_and(|presence| presence.holds_up())
    }

    fn close_idle(&self) {
        let idle = self
            .pool
            .retain(|client, metrics| !client.is_closed() && metrics.last_used() < IDLE_CONNECTION);
        drop(idle.removed);
    }
}

/// Asks the server for an answer; of its errors, those count that `means_down`.
fn probe(
    connector: &Connector,
    config: &Config,
    means_down: fn(&tokio_postgres::Error) -> bool,
) -> impl Fn() -> BoxFuture<'static, Result<(), String>> + use<> {
    let (connector, config) = (connector.clone(), config.clone());
    move || {
        let (connector, config) = (connector.clone(), config.clone());
        Box::pin(async move {
            match connector.probe(&config).await {
                Err(error) if means_down(&error) => Err(without_names(&error)),
                _ => Ok(()),
            }
        })
    }
}

/// That all connections are taken, here or there, does not mean that the server
/// is down.
fn means_down(error: &PoolError) -> bool {
    match error {
        PoolError::Timeout(TimeoutType::Wait) => false,
        PoolError::Backend(error) => error.code() != Some(&SqlState::TOO_MANY_CONNECTIONS),
        _ => true,
    }
}

/// Closes a connection instead of giving it to the next one.
pub(super) fn close(client: Object) {
    drop(Object::take(client));
}

/// Every database that a guest has named and was allowed to.
pub(crate) struct PostgresServers {
    backends: Backends,
    by_address: Mutex<HashMap<String, Known>>,
    tls: OnceLock<MakeRustlsConnect>,
    tasks: TaskTracker,
    /// Started with the first address.
    sweeper: OnceLock<AbortOnDropHandle<()>>,
}

struct Known {
    server: Arc<Server>,
    last_used: Instant,
}

impl Known {
    /// Whether no guest has a connection of it.
    fn is_unused(&self) -> bool {
        Arc::strong_count(&self.server) == 1
    }
}

impl PostgresServers {
    /// None yet; each will be watched by `backends`.
    pub(crate) fn new(backends: Backends) -> Arc<Self> {
        Arc::new(Self {
            backends,
            by_address: Mutex::default(),
            tls: OnceLock::new(),
            tasks: TaskTracker::new(),
            sweeper: OnceLock::new(),
        })
    }

    /// Whether anybody is at the address of `server`: to be waited for by a component that
    /// found nobody there at its first call. A refusal of the user, or of the database, is an
    /// answer. `None`: there are too many servers.
    pub(super) fn presence(&self, server: &Server) -> Option<Arc<Backend>> {
        if let Some(presence) = server.presence.get() {
            return Some(Arc::clone(presence));
        }
        let probe = probe(&server.connector, &server.config, is_absence);
        let fresh = self.backends.watch(server.name.clone(), probe).ok()?;
        let presence = server.presence.get_or_init(|| Arc::clone(&fresh));
        if !Arc::ptr_eq(presence, &fresh) {
            self.backends.forget(&fresh);
        }
        Some(Arc::clone(presence))
    }

    fn forget(&self, server: &Server) {
        self.backends.forget(server.backend());
        if let Some(presence) = server.presence.get() {
            self.backends.forget(presence);
        }
    }

    /// The server at `address`.
    pub(super) fn at(self: &Arc<Self>, address: &Address) -> Result<Arc<Server>, PostgresError> {
        self.sweeper.get_or_init(|| {
            let sweeping = self.tasks.spawn(sweep(Arc::downgrade(self)));
            AbortOnDropHandle::new(sweeping)
        });
        let mut known = self
            .by_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get_mut(&address.text) {
            found.last_used = Instant::now();
            return Ok(Arc::clone(&found.server));
        }
        if known.len() >= MAX_ADDRESSES {
            let oldest = known
                .iter()
                .filter(|(_, known)| known.is_unused())
                .min_by_key(|(_, known)| (known.server.is_waited_for(), known.last_used))
                .map(|(address, _)| address.clone());
            let oldest = oldest.ok_or(PostgresError::TooManyAddresses(MAX_ADDRESSES))?;
            if let Some(removed) = known.remove(&oldest) {
                self.forget(&removed.server);
            }
        }
        let connector = Connector {
            tls: self.tls.get_or_init(connect_with_tls).clone(),
            tasks: self.tasks.clone(),
        };
        let server = Arc::new(Server::new(address, connector, &self.backends)?);
        let entry = Known {
            server: Arc::clone(&server),
            last_used: Instant::now(),
        };
        known.insert(address.text.clone(), entry);
        Ok(server)
    }

    /// Closes connections and forgets addresses that are not used any more.
    fn sweep(&self) {
        let mut known = self
            .by_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, known| {
            known.server.close_idle();
            let keep = !known.is_unused()
                || known.last_used.elapsed() < IDLE_ADDRESS
                || known.server.is_waited_for();
            if !keep {
                self.forget(&known.server);
            }
            keep
        });
    }
}

/// Certificates are verified, whatever the address says.
fn connect_with_tls() -> MakeRustlsConnect {
    MakeRustlsConnect::new(tls::client_config())
}

async fn sweep(servers: Weak<PostgresServers>) {
    loop {
        tokio::time::sleep(SWEEP_INTERVAL).await;
        match servers.upgrade() {
            Some(servers) => servers.sweep(),
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A consumer that waits for a server does not ask meanwhile: were the address forgotten,
    /// the outage would be over for it.
    #[tokio::test]
    async fn a_server_that_is_waited_for_is_not_forgotten() {
        let backends = Backends::default();
        let servers = PostgresServers::new(backends.clone());
        // Nobody listens there.
        let address = Address::parse("postgres://u:p@127.0.0.1:1/d".to_owned()).unwrap();
        let server = servers.at(&address).unwrap();
        let failed = server.connect().await;
        assert!(matches!(failed, Err(PostgresError::Unreachable { .. })));
        let presence = servers.presence(&server).unwrap();
        presence.establish();
        presence.suspect();
        drop(server);
        tokio::time::timeout(Duration::from_secs(10), async {
            while !presence.holds_up() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
        let sweep_later = || {
            let long_ago = Instant::now().checked_sub(IDLE_ADDRESS * 2).unwrap();
            for known in servers.by_address.lock().unwrap().values_mut() {
                known.last_used = long_ago;
            }
            servers.sweep();
            servers.by_address.lock().unwrap().len()
        };
        assert_eq!(sweep_later(), 1);
        backends.close().await;
    }
}
