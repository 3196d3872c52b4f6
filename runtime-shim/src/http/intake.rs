//! How the body of a request comes in. A sandbox waits for what its client sends,
//! and there are only so many: a small body is read before one is taken, and a
//! larger one must keep a pace. Who sends a byte a second holds up nobody.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio::sync::Semaphore;
use tokio::time::{Instant, Sleep};
use tokio_util::task::TaskTracker;
use wasmtime_wasi_http::{Error as HttpError, WasiBody};

use super::lingering::LingeringBody;

/// Bytes up to which a body whose length is announced is read first.
const SMALL_BYTES: u64 = 256 * 1024;
/// KiB of such bodies that are held at once; further ones are streamed.
static SMALL_KIB: Semaphore = Semaphore::const_new(128 * 1024);
/// What a body may be late by, and how long a small one may take.
const GRACE: Duration = Duration::from_secs(10);
/// Bytes a second, below which a larger body is given up.
const PACE: u64 = 16 * 1024;

/// Why a request does not reach its component.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The body did not come in time.
    TooSlow,
    /// The client broke off.
    Broken,
}

/// The body as the component reads it.
pub(super) async fn take_in(body: Incoming, tasks: &TaskTracker) -> Result<WasiBody, Refused> {
    let announced = body.size_hint().exact();
    if let Some(bytes) = announced.filter(|bytes| (1..=SMALL_BYTES).contains(bytes))
        && let Ok(held) = SMALL_KIB.try_acquire_many(bytes.div_ceil(1024) as u32)
    {
        let whole = tokio::time::timeout(GRACE, body.collect()).await;
        let whole = whole.map_err(|_| Refused::TooSlow)?;
        let whole = whole.map_err(|_| Refused::Broken)?.to_bytes();
        let body = Full::new(whole).map_err(move |never| {
            let _ = &held;
            match never {}
        });
        return Ok(body.boxed_unsync());
    }
    let body = LingeringBody::new(body, tasks.clone());
    Ok(Paced::new(body.map_err(HttpError::from)).boxed_unsync())
}

/// A body that ends in an error when it comes slower than [`PACE`].
struct Paced<B> {
    body: B,
    received: u64,
    /// How long its reader has waited for it in all.
    waited: Duration,
    waiting_since: Option<Instant>,
    timer: Pin<Box<Sleep>>,
}

impl<B> Paced<B> {
    fn new(body: B) -> Self {
        Self {
            body,
            received: 0,
            waited: Duration::ZERO,
            waiting_since: None,
            timer: Box::pin(tokio::time::sleep(GRACE)),
        }
    }
}

/// How much longer a body is waited for, of which `received` bytes came while
/// its reader waited so long.
fn patience(received: u64, waited: Duration) -> Duration {
    let allowed = GRACE + Duration::from_millis(received.saturating_mul(1000) / PACE);
    allowed.saturating_sub(waited)
}

impl<B> Body for Paced<B>
where
    B: Body<Data = Bytes, Error = HttpError> + Unpin,
{
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            if let Some(since) = self.waiting_since.take() {
                self.waited += since.elapsed();
            }
            if let Some(Ok(data)) = frame
                .as_ref()
                .map(|frame| frame.as_ref().map(Frame::data_ref))
            {
                self.received += data.map_or(0, |data| data.len() as u64);
            }
            return Poll::Ready(frame);
        }
        if self.waiting_since.is_none() {
            let now = Instant::now();
            self.waiting_since = Some(now);
            let left = patience(self.received, self.waited);
            self.timer.as_mut().reset(now + left);
        }
        self.timer
            .as_mut()
            .poll(cx)
            .map(|()| Some(Err(HttpError::ConnectionReadTimeout)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_must_keep_a_pace() {
        for (received, waited, left) in [
            (0, 0, 10),
            (10, 9, 1),
            (0, 11, 0),
            // A byte a second is never too long a pause, and too slow all the same.
            (20, 20, 0),
            (60 * PACE, 60, 10),
            // What came early may be waited for later.
            (30 * PACE, 35, 5),
            (30 * PACE, 45, 0),
        ] {
            let found = patience(received, Duration::from_secs(waited));
            assert_eq!(found.as_secs(), left, "{received} bytes in {waited} s");
        }
    }
}
