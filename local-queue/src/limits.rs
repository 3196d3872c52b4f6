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
/// Messages in flight for each standard queue; beyond it a short poll answers `OverLimit`.
pub const MAX_IN_FLIGHT: usize = 120_000;
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
/// Rows that one sweep looks at in each queue.
pub(crate) const SWEEP_SCAN_ROWS: usize = 20_000;
/// Rows that one sweep deletes in each queue.
pub(crate) const SWEEP_DELETE_ROWS: usize = 2_000;
