//! The queue trigger. `consumer` receives, `unit` sees messages through that share
//! a sandbox or a group, `handler` knows who handles them (`request` and `forward`
//! do it by HTTP), `slots` says how many at once (`adapt`, where
//! that is not fixed), `dedup` knows what was done
//! already, `lease` holds a message, `settle` deletes or hides it, `source`
//! talks to the queue: the embedded one in this process, or one that speaks SQS.

mod adapt;
mod alone;
mod backoff;
mod consumer;
mod dedup;
mod embedded;
mod forward;
mod handler;
mod lease;
mod message;
mod request;
mod settle;
mod slots;
mod source;
mod sqs;
mod unit;

pub use alone::serve_alone;
pub use consumer::Consumer;
pub use embedded::{EmbeddedError, EmbeddedQueue};
pub use source::{ConnectError, QueueSource};
