//! The body of a response whose component may fail while it is sent. To the HTTP
//! library, a sandbox that is gone has finished its body: a client would take the
//! half for the whole. Here it ends in an error, which breaks the connection off.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use wasmtime_wasi_http::{Error, WasiBody};

/// Held while a component runs: whether it failed.
pub(super) struct Fate {
    failed: Arc<AtomicBool>,
    returned: bool,
}

impl Fate {
    /// That of the component whose responses look at `failed`.
    pub(super) fn of(failed: Arc<AtomicBool>) -> Self {
        Self {
            failed,
            returned: false,
        }
    }

    /// It did what it was called for.
    pub(super) fn returned(mut self) {
        self.returned = true;
    }
}

impl Drop for Fate {
    fn drop(&mut self) {
        if !self.returned {
            self.failed.store(true, Ordering::Release);
        }
    }
}

/// A body that does not end well when its component has failed.
pub(super) struct Unbroken {
    pub(super) body: WasiBody,
    pub(super) failed: Arc<AtomicBool>,
}

impl Body for Unbroken {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if frame.is_none() && self.failed.load(Ordering::Acquire) {
            return Poll::Ready(Some(Err(Error::ConnectionTerminated)));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
