//! The queue trigger. `consumer` receives and decides, `lease` holds a message,
//! `settle` deletes or hides it, `source` talks to the queue: the embedded one
//! in this process, or one that speaks SQS. `filter` says which messages a component
//! wants; `producer` fills queues from the command line.

mod alone;
mod backoff;
mod consumer;
mod embedded;
mod filter;
mod lease;
mod message;
mod producer;
mod settle;
mod source;
mod sqs;

pub use alone::serve_alone;
pub use consumer::Consumer;
pub use embedded::{EmbeddedError, EmbeddedQueue};
pub use producer::{GivenAttribute, MAX_DELAY_SECS, ProducerError, redrive, send};
pub use source::{ConnectError, QueueSource};
