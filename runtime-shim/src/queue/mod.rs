//! The queue trigger. `consumer` receives and decides, `lease` holds a message,
//! `settle` deletes or hides it, `source` talks to the queue: the embedded one
//! in this process, or one that speaks SQS.

mod backoff;
mod consumer;
mod embedded;
mod lease;
mod message;
mod settle;
mod source;
mod sqs;

pub use consumer::{Consumer, QueueHealth};
pub use embedded::{EmbeddedError, EmbeddedQueue};
pub use source::{ConnectError, QueueSource};
pub use sqs::AwsSettings;

/// `gristmill queue`: the embedded queue alone.
pub async fn serve_alone(_args: crate::cli::QueueArgs) -> anyhow::Result<()> {
    unimplemented!()
}
