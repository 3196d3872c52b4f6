//! Reads on after a component has answered without reading its request.
//!
//! A component may refuse a body by its length alone. If the server then closed
//! the connection, a client that is still sending would see a broken pipe and
//! never the answer. So what is left is read and thrown away, up to a bound.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio_util::task::TaskTracker;

/// Bytes that are read for nobody.
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// How long that may take.
const MAX_TIME: Duration = Duration::from_secs(5);

/// A request body that outlives its reader.
pub(super) struct LingeringBody {
    body: Option<Incoming>,
    tasks: TaskTracker,
}

impl LingeringBody {
    /// Reads in `tasks` what is left of `body` when it is dropped.
    pub(super) fn new(body: Incoming, tasks: TaskTracker) -> Self {
        Self {
            body: Some(body),
            tasks,
        }
    }
}

impl Body for LingeringBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(SizeHint::default, Body::size_hint)
    }
}

impl Drop for LingeringBody {
    fn drop(&mut self) {
        let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) else {
            return;
        };
        if tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        self.tasks.spawn(async move {
            if tokio::time::timeout(MAX_TIME, discard(body)).await.is_err() {
                tracing::debug!("a request's unread body was cut off");
            }
        });
    }
}

async fn discard(mut body: Incoming) {
    let mut left = MAX_BYTES;
    while let Some(Ok(frame)) = body.frame().await {
        let read = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(read) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}
