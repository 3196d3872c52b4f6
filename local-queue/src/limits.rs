//! The numbers that Amazon SQS documents, and the bounds of this process.
//! Owns constants only; refuses to know who checks them.
//! Source: SQS Developer Guide, "Amazon SQS message quotas" and "queue quotas",
//! and the API reference of the operation named beside each constant.

/// Bytes of body plus message attributes, for one message and for the sum of a batch
/// (SQS Developer Guide, message quotas: 1 MiB).
pub const MAX_MESSAGE_BYTES: u32 = 1_048_576;
/// The smallest value of the queue attribute `MaximumMessageSize`, in bytes.
pub const MIN_MAXIMUM_MESSAGE_BYTES: u32 = 1_024;
/// Message attributes for each message.
pub const MAX_MESSAGE_ATTRIBUTES: usize = 10;
/// Characters of a message attribute's name, and of its type.
pub const MAX_ATTRIBUTE_NAME_LEN: usize = 256;
/// Entries of a batch, and messages of one receive.
pub const MAX_BATCH_ENTRIES: usize = 10;
/// Characters of a queue name and of a batch entry's id.
pub const MAX_NAME_LEN: usize = 80;
/// Longest visibility timeout: 12 hours, in seconds.
pub const MAX_VISIBILITY_SECS: u32 = 43_200;
/// Longest delivery delay: 15 minutes, in seconds.
pub const MAX_DELAY_SECS: u32 = 900;
/// Longest long poll, in seconds.
pub const MAX_WAIT_SECS: u32 = 20;
/// Shortest and longest `MessageRetentionPeriod`, in seconds.
pub const RETENTION_SECS: std::ops::RangeInclusive<u32> = 60..=1_209_600;
/// Values of `maxReceiveCount` in a redrive policy.
pub const MAX_RECEIVE_COUNT: std::ops::RangeInclusive<u32> = 1..=1_000;
/// Messages in flight for each queue, standard or FIFO. Beyond it a short poll of a standard
/// queue answers `OverLimit`, one of a FIFO queue nothing (SQS Developer Guide, "Amazon SQS
/// FIFO queue quotas").
pub const MAX_IN_FLIGHT: usize = 120_000;
/// How long a FIFO queue remembers a deduplication id and a receive's attempt id, in
/// milliseconds: 5 minutes.
pub const DEDUPLICATION_MS: u64 = 300_000;
/// Characters of a message's group, deduplication and receive attempt ids.
pub const MAX_FIFO_ID_LEN: usize = 128;
/// Tags of a queue (SQS Developer Guide, "queue quotas").
pub const MAX_TAGS: usize = 50;
/// Characters of a tag's key.
pub const MAX_TAG_KEY_LEN: usize = 128;
/// Characters of a tag's value.
pub const MAX_TAG_VALUE_LEN: usize = 256;
/// Message move tasks that run at once (SQS API Reference, `StartMessageMoveTask`).
pub const MAX_MOVE_TASKS: usize = 100;
/// Values of `MaxNumberOfMessagesPerSecond` of a message move task.
pub const MOVE_RATE: std::ops::RangeInclusive<u32> = 1..=500;
/// Tasks kept and listed for each source queue (SQS API Reference, `ListMessageMoveTasks`).
pub const MAX_LISTED_MOVE_TASKS: usize = 10;
/// Queues that a `RedriveAllowPolicy` can name.
pub const MAX_REDRIVE_SOURCES: usize = 10;
/// Queues in one page of `ListQueues`.
pub const MAX_LIST_RESULTS: usize = 1_000;

/// Receipt handles remembered for each queue after their visibility ran out: such a
/// handle still deletes its message unless somebody received it again.
pub(crate) const MAX_LAPSED_LEASES: usize = 120_000;
/// Operations waiting for the writer; a full channel is the back-pressure on callers.
pub(crate) const WRITER_CHANNEL: usize = 512;
/// Operations committed in one transaction.
pub(crate) const GROUP_OPERATIONS: usize = 256;
/// Messages that one receive may expire or dead-letter before it gives up its turn.
pub(crate) const DISPOSALS_PER_RECEIVE: usize = 1_000;
/// Sequence numbers of a FIFO queue that are set aside on disk at once, so that they grow also
/// over a restart of an empty queue.
pub(crate) const SEQUENCE_BLOCK: i64 = 1_000;
/// Groups whose first message is still delayed that one receive looks at.
pub(crate) const DELAYED_GROUPS_PER_RECEIVE: usize = 1_000;
/// Receive attempts remembered for each FIFO queue.
pub(crate) const MAX_RECEIVE_ATTEMPTS: usize = 10_000;
/// Messages that a message move task moves in one transaction.
pub(crate) const MOVES_PER_STEP: usize = 100;
/// Rows that one sweep looks at in each queue.
pub(crate) const SWEEP_SCAN_ROWS: usize = 20_000;
/// Rows that one sweep deletes in each queue.
pub(crate) const SWEEP_DELETE_ROWS: usize = 2_000;
