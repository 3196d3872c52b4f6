//! An embedded, durable message queue with the semantics of Amazon SQS, standard and FIFO, kept in
//! one `SQLite` database. Two faces: [`LocalQueue`], typed and in-process, and [`Server`], the AWS
//! JSON 1.0 and query protocols for unmodified SQS clients. Knows nothing of Gristmill and of AWS
//! SDKs.
//!
//! An acknowledged send is on disk. A message is hidden from others for its visibility timeout,
//! and delivered again until it is deleted, dead-lettered or past its retention period.

mod attributes;
mod digest;
mod errors;
mod groups;
mod handle;
pub mod limits;
mod model;
mod operation;
mod policy;
mod schedule;
mod schema;
mod server;
mod store;
mod validate;
mod writer;

pub use attributes::{
    AttributeChanges, DeduplicationScope, FifoSettings, QueueDescription, QueueSettings,
    RedriveAllowPolicy, RedrivePermission, RedrivePolicy, ThroughputLimit,
};
pub use digest::Md5Digest;
pub use errors::{OpenError, QueueError, StorageError};
pub use handle::{LocalQueue, Options};
pub use model::{
    ACCOUNT_ID, AttributeValue, BatchEntry, BatchOutcome, Deletion, Depth, Message,
    MessageAttribute, MessageId, MoveRequest, MoveStatus, MoveTask, OutgoingMessage, QueueName,
    QueuePage, ReceiptHandle, ReceiveOptions, SentMessage, SequenceNumber, VisibilityChange,
};
pub use policy::Permission;
pub use server::Server;
