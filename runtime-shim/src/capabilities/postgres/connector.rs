//! Makes connections to one server, and owns the tasks that drive them.

use futures::future::BoxFuture;
use tokio::task::JoinHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::{CancelToken, Client, Config, Error};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

/// What every connection is made with.
#[derive(Clone)]
pub(super) struct Connector {
    pub(super) tls: MakeRustlsConnect,
    pub(super) tasks: TaskTracker,
}

impl Connector {
    /// A connection, and the task that drives it until it is aborted or the
    /// server closes. Notices and notifications are nobody's: a guest could
    /// write the host's log with them.
    async fn open(&self, config: &Config) -> Result<(Client, JoinHandle<()>), Error> {
        let (client, mut connection) = config.connect(self.tls.clone()).await?;
        let driver = self.tasks.spawn(async move {
            while let Some(Ok(_)) = futures::future::poll_fn(|cx| connection.poll_message(cx)).await
            {
            }
        });
        Ok((client, driver))
    }

    /// Connects anew and asks for an answer.
    pub(super) async fn probe(&self, config: &Config) -> Result<(), Error> {
        let (client, driver) = match self.open(config).await {
            // It is there, and busy.
            Err(error) if error.code() == Some(&SqlState::TOO_MANY_CONNECTIONS) => return Ok(()),
            opened => opened?,
        };
        // Ended also when the probe is given up.
        let _driver = AbortOnDropHandle::new(driver);
        client.simple_query("SELECT 1").await.map(|_| ())
    }

    /// Asks the server to stop what the connection behind `token` runs.
    pub(super) async fn cancel(&self, token: CancelToken) -> Result<(), Error> {
        token.cancel_query(self.tls.clone()).await
    }
}

impl deadpool_postgres::Connect for Connector {
    fn connect(&self, config: &Config) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), Error>> {
        let config = config.clone();
        Box::pin(async move { self.open(&config).await })
    }
}
