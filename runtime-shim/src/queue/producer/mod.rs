//! The producers of the command line: `send` fills a queue, `redrive` moves dead
//! letters back. Both speak SQS to whoever serves the queue, the embedded one in
//! another process too; neither knows of components.

mod account;
mod deliver;
mod find;
mod input;
mod outgoing;
mod pace;
mod redrive;
mod send;

pub(super) use outgoing::Outgoing;
pub use outgoing::{GivenAttribute, MAX_DELAY_SECS};
pub use redrive::redrive;
pub use send::send;

use std::future::Future;

use tokio_util::sync::CancellationToken;

use crate::app::FilterError;
use crate::drain::StopSignals;

/// Messages of one batch call. SQS API Reference, `SendMessageBatch`.
const BATCH: usize = 10;

/// Why a producer did not do all that it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ProducerError {
    /// A text that names no queue.
    #[error("`{text}` is no queue's URL: {reason}")]
    QueueUrl {
        /// The text.
        text: String,
        /// What is wrong.
        reason: String,
    },
    /// A queue that is not there, or does not answer.
    #[error("cannot use queue `{queue}` at {endpoint}: {reason}")]
    Queue {
        /// Its name.
        queue: String,
        /// Where it was looked for.
        endpoint: String,
        /// What is wrong.
        reason: String,
    },
    /// A FIFO queue needs to know the group.
    #[error("queue `{0}` is FIFO: name the message group with `--group`")]
    NoGroup(String),
    /// SQS has no delay for single messages there.
    #[error("queue `{0}` is FIFO, where single messages have no delay: leave `--delay` out")]
    FifoDelay(String),
    /// The messages cannot be read.
    #[error("cannot read messages from `{input}`: {reason}")]
    Input {
        /// The file.
        input: String,
        /// What is wrong.
        reason: String,
    },
    /// Which dead letters to move.
    #[error("`--filter`: {0}")]
    Filter(#[from] FilterError),
    /// Nobody knows where the dead letters came from.
    #[error("cannot find whose dead-letter queue `{queue}` is: {reason}: name a queue with `--to`")]
    NoSource {
        /// The dead-letter queue.
        queue: String,
        /// Why not.
        reason: String,
    },
    /// Moving to where a message is would never end.
    #[error("queue `{0}` is the dead-letter queue itself: name another with `--to`")]
    SameQueue(String),
    /// A signal came first.
    #[error("stopped by {signal} before all was done: what was begun was finished")]
    Stopped {
        /// Which one.
        signal: &'static str,
    },
    /// A second signal.
    #[error("cut off by {signal}: what was under way may be done or not")]
    CutOff {
        /// Which one.
        signal: &'static str,
    },
    /// The queue did not take everything.
    #[error("{failed} messages failed; the first: {reason}")]
    Failed {
        /// How many.
        failed: u64,
        /// What became of the first.
        reason: String,
    },
    /// The queue takes nothing, or does not answer.
    #[error("gave up on queue `{queue}`: {reason}")]
    GaveUp {
        /// The queue.
        queue: String,
        /// What it said.
        reason: String,
    },
}

/// Runs `work` to its end. A first signal asks it to stop, a second one cuts it off.
/// Tells which signal came.
async fn until_stopped<T>(
    signals: &mut StopSignals,
    stop: &CancellationToken,
    work: impl Future<Output = T>,
) -> Result<(T, Option<&'static str>), ProducerError> {
    tokio::pin!(work);
    let first = tokio::select! {
        biased;
        done = &mut work => return Ok((done, None)),
        signal = signals.next_stop() => signal,
    };
    tracing::info!("{first}: finishing what was begun");
    stop.cancel();
    tokio::select! {
        biased;
        done = &mut work => Ok((done, Some(first))),
        signal = signals.next_stop() => Err(ProducerError::CutOff { signal }),
    }
}
