//! What the triggers lean on, and what stops after them: work that drains still
//! sends to the embedded queue, and is still watched on the admin port.

use std::sync::Arc;

use local_queue::Server;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::CLOSING;
use crate::admin::Admin;
use crate::http::server;
use crate::queue::EmbeddedQueue;

/// The admin port and the embedded queue.
pub(super) struct Support {
    stop: CancellationToken,
    admin: Arc<Admin>,
    tasks: JoinSet<()>,
    embedded: Option<EmbeddedQueue>,
}

impl Support {
    /// Serves both, where they are.
    pub(super) fn start(
        admin: Arc<Admin>,
        listener: Option<TcpListener>,
        queue: Option<(EmbeddedQueue, Server)>,
    ) -> Self {
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        if let Some(listener) = listener {
            let answering = Arc::clone(&admin);
            let handler = move |request, _peer| Arc::clone(&answering).answer(request);
            tasks.spawn(server::serve(listener, stop.clone(), handler));
        }
        let mut support = Self {
            stop,
            admin,
            tasks,
            embedded: None,
        };
        if let Some((embedded, server)) = queue {
            support.adopt(embedded, server);
        }
        support
    }

    /// Serves an embedded queue that was not there before.
    pub(super) fn adopt(&mut self, embedded: EmbeddedQueue, server: Server) {
        let stopped = self.stop.clone().cancelled_owned();
        self.tasks.spawn(server.serve(stopped));
        self.embedded = Some(embedded);
    }

    /// The embedded queue, if it is served.
    pub(super) fn embedded(&self) -> Option<&EmbeddedQueue> {
        self.embedded.as_ref()
    }

    /// Ends it all.
    pub(super) async fn stop(mut self) {
        self.stop.cancel();
        let ended = async {
            while self.tasks.join_next().await.is_some() {}
            self.admin.readiness.footing.get().close().await;
        };
        if tokio::time::timeout(CLOSING, ended).await.is_err() {
            tracing::warn!("connections were cut off");
        }
        if let Some(embedded) = self.embedded {
            embedded.close().await;
        }
    }
}
