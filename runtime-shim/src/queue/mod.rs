//! The queue trigger. `consumer` receives, `unit` sees messages through that share
//! a sandbox or a group, `handler` knows who handles them (`request` and `forward`
//! do it by HTTP), `slots` says how many at once (`adapt`, where
//! that is not fixed), `dedup` knows what was done
//! already, `lease` holds a message, `settle` deletes or hides it, `source`
//! talks to the queue: the embedded one in this process, or one that speaks SQS.
//! `filter` says which messages a component wants; `producer` fills queues from the
//! command line.

mod adapt;
mod admission;
mod alone;
mod backoff;
mod bystanders;
mod consumer;
mod dedup;
mod embedded;
mod filter;
mod forward;
mod handler;
mod lease;
mod message;
mod producer;
mod request;
mod settle;
mod slots;
mod source;
mod sqs;
mod unit;

pub use alone::serve_alone;
pub use consumer::Consumer;
pub use embedded::{EmbeddedError, EmbeddedQueue};
pub use producer::{GivenAttribute, MAX_DELAY_SECS, ProducerError, redrive, send};
pub use source::{ConnectError, QueueSource};
