//! What can go wrong: one enum for opening, one for using the queue.
//! Owns the reasons in words; refuses to know their HTTP status (see `server::errors`).

use std::path::PathBuf;
use std::sync::Arc;

/// Why a queue directory could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory or its lock file cannot be created or read.
    #[error("cannot use the queue directory `{}`: {source}", dir.display())]
    Directory {
        /// The directory that was asked for.
        dir: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Another process (or another handle in this one) has the directory open.
    #[error("the queue directory `{}` is in use by another process", dir.display())]
    InUse {
        /// The directory that was asked for.
        dir: PathBuf,
    },
    /// The database was written by a later version of this crate.
    #[error(
        "the queue database in `{}` has schema version {found}, newer than {known}, the newest \
         this version knows",
        dir.display()
    )]
    NewerSchema {
        /// The directory that was asked for.
        dir: PathBuf,
        /// The version in the file.
        found: i64,
        /// The newest version understood here.
        known: i64,
    },
    /// The database cannot be read or prepared.
    #[error("cannot open the queue database in `{}`: {source}", dir.display())]
    Database {
        /// The directory that was asked for.
        dir: PathBuf,
        /// What `SQLite` said.
        source: StorageError,
    },
    /// The writer thread cannot be started.
    #[error("cannot start the queue's writer thread: {0}")]
    Thread(std::io::Error),
}

/// A failure of the database below the queue (disk full, I/O error, corruption).
/// The operation that got it left no trace; the next one may succeed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("queue storage failed: {0}")]
pub struct StorageError(Arc<rusqlite::Error>);

impl From<rusqlite::Error> for StorageError {
    fn from(error: rusqlite::Error) -> Self {
        Self(Arc::new(error))
    }
}

/// Why a queue operation was refused. Variants carry the names that SQS gives its errors
/// (SQS API Reference, "Common Errors" and the errors of each operation).
#[derive(Clone, Debug, thiserror::Error)]
pub enum QueueError {
    /// No queue has this name.
    #[error("The specified queue does not exist.")]
    QueueDoesNotExist,
    /// `CreateQueue` named an existing queue with other attributes.
    #[error(
        "A queue already exists with the same name and a different value for attribute {attribute}"
    )]
    QueueNameExists {
        /// The first attribute that differs.
        attribute: &'static str,
    },
    /// A required parameter is missing or empty.
    #[error("The request must contain the parameter {0}.")]
    MissingParameter(&'static str),
    /// A parameter's value is out of its range or not in its form.
    #[error("Value {value} for parameter {parameter} is invalid. Reason: {reason}")]
    InvalidParameterValue {
        /// The parameter's name on the wire.
        parameter: &'static str,
        /// What was sent.
        value: String,
        /// What it must be.
        reason: String,
    },
    /// A parameter is not as it must be, in words that SQS has for this alone.
    #[error("{0}")]
    InvalidParameter(String),
    /// A queue attribute that does not exist.
    #[error("Unknown Attribute {0}.")]
    InvalidAttributeName(String),
    /// An attribute of FIFO queues on a standard queue.
    #[error("You can specify the {0} only when FifoQueue is set to true.")]
    FifoAttribute(&'static str),
    /// A queue attribute's value is out of its range or not in its form.
    #[error("Invalid value for the parameter {attribute}. Reason: {reason}")]
    InvalidAttributeValue {
        /// The attribute's name on the wire.
        attribute: &'static str,
        /// What it must be.
        reason: String,
    },
    /// The body holds characters outside those that SQS allows.
    #[error(
        "Invalid characters found. Valid unicode characters are #x9 | #xA | #xD | #x20 to #xD7FF \
         | #xE000 to #xFFFD | #x10000 to #x10FFFF"
    )]
    InvalidMessageContents,
    /// The receipt handle was not made by this queue.
    #[error("The input receipt handle \"{0}\" is not a valid receipt handle.")]
    ReceiptHandleIsInvalid(String),
    /// The visibility timeouts of one receive would last more than 12 hours together.
    #[error(
        "Value {0} for parameter VisibilityTimeout is invalid. Reason: Total VisibilityTimeout for \
         the message is beyond the limit [43200 seconds]"
    )]
    TotalVisibilityTooLong(u32),
    /// The message is not in flight under this handle: deleted, visible again, or received again.
    #[error("The message referred to is not in flight under this receipt handle.")]
    MessageNotInflight,
    /// Too many messages of the queue are in flight.
    #[error("Too many messages are in flight: {limit} is the most for one queue.")]
    OverLimit {
        /// The limit that was reached.
        limit: usize,
    },
    /// A batch without entries.
    #[error("There should be at least one {0} in the request.")]
    EmptyBatchRequest(&'static str),
    /// An entry of a batch has no id.
    #[error("The request must contain the parameter {entry}.{number}.Id.")]
    MissingBatchEntryId {
        /// What SQS calls such an entry.
        entry: &'static str,
        /// Which one it is, from 1.
        number: usize,
    },
    /// A batch with too many entries.
    #[error("Maximum number of entries per request are 10. You have sent {0}.")]
    TooManyEntriesInBatchRequest(usize),
    /// Two entries of a batch share an id.
    #[error("Id {0} repeated.")]
    BatchEntryIdsNotDistinct(String),
    /// An entry's id is not 1 to 80 letters, digits, hyphens or underscores.
    #[error(
        "A batch entry id can only contain alphanumeric characters, hyphens and underscores. It \
         can be at most 80 letters long."
    )]
    InvalidBatchEntryId,
    /// The entries of a batch are too long together.
    #[error("Batch requests cannot be longer than {limit} bytes. You have sent {bytes} bytes.")]
    BatchRequestTooLong {
        /// The limit in bytes.
        limit: u32,
        /// The sum that was sent.
        bytes: usize,
    },
    /// A message of a FIFO queue has neither an id nor a digest to be told from duplicates by.
    #[error(
        "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId \
         provided explicitly"
    )]
    NoDeduplicationId,
    /// A parameter of one kind of queue on the other kind.
    #[error(
        "Value {value} for parameter {parameter} is invalid. Reason: The request include parameter \
         that is not valid for this queue type."
    )]
    NotOfThisQueueType {
        /// The parameter's name on the wire.
        parameter: &'static str,
        /// What was sent.
        value: String,
    },
    /// A handle of a message of a FIFO queue whose visibility timeout is over.
    #[error(
        "Value {0} for parameter ReceiptHandle is invalid. Reason: The receipt handle has expired."
    )]
    ReceiptHandleHasExpired(String),
    /// A message move task names a queue that is not there.
    #[error("The resource that you specified for the {0} parameter doesn't exist.")]
    ResourceNotFound(&'static str),
    /// No message move task has this handle.
    #[error("Task does not exist.")]
    TaskDoesNotExist,
    /// A message move task cannot be started or cancelled as things are.
    #[error("{0}")]
    MoveTaskRefused(&'static str),
    /// A queue's policy would have more of something than SQS allows.
    #[error("{found} {what} were found, maximum allowed is {limit}.")]
    PolicyTooLarge {
        /// What there is too much of.
        what: &'static str,
        /// How many there would be.
        found: usize,
        /// How many there may be.
        limit: usize,
    },
    /// The queue was closed, or its writer is gone.
    #[error("the queue is closed")]
    Closed,
    /// The database failed; nothing of the operation was kept.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl QueueError {
    pub(crate) fn parameter(
        parameter: &'static str,
        value: impl Into<String>,
        reason: impl Into<String>,
    ) -> Self {
        Self::InvalidParameterValue {
            parameter,
            value: value.into(),
            reason: reason.into(),
        }
    }

    pub(crate) fn attribute(attribute: &'static str, reason: impl Into<String>) -> Self {
        Self::InvalidAttributeValue {
            attribute,
            reason: reason.into(),
        }
    }
}
