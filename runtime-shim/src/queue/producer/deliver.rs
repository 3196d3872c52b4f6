//! One batch to its queue: single failed entries are sent again, a bounded number
//! of times.

use std::time::Duration;

use super::Outgoing;
use crate::queue::sqs::{CallError, Sending, SqsSource};

/// Tries of one entry: over about twelve seconds.
pub(super) const TRIES: u32 = 8;
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(5);

/// How a batch went.
pub(super) struct Delivery {
    /// For each message, in order: nothing, or why it failed.
    pub(super) outcomes: Vec<Option<String>>,
    /// Entries that were sent again.
    pub(super) retries: u64,
    /// Why further batches would fail as well.
    pub(super) gave_up: Option<String>,
}

/// Sends up to ten messages of 1 MiB in all.
pub(super) async fn deliver(queue: &SqsSource, messages: &[Outgoing]) -> Delivery {
    let mut outcomes: Vec<Option<String>> = vec![None; messages.len()];
    let mut pending: Vec<usize> = (0..messages.len()).collect();
    let mut retries = 0;
    let mut gave_up = None;
    for attempt in 0..TRIES {
        if attempt > 0 {
            retries += pending.len() as u64;
            pause(attempt).await;
        }
        let batch: Vec<&Outgoing> = pending.iter().map(|&index| &messages[index]).collect();
        let result = queue.send_batch(&batch).await;
        gave_up = result.as_ref().err().map(ToString::to_string);
        let sendings = match result {
            Ok(sendings) => sendings,
            Err(CallError::Failed(reason)) => vec![Sending::Failed(reason); pending.len()],
            Err(CallError::Refused(reason)) => vec![Sending::Refused(reason); pending.len()],
        };
        let mut again = Vec::new();
        for (index, sending) in pending.into_iter().zip(sendings) {
            outcomes[index] = match sending {
                Sending::Sent => None,
                Sending::Refused(reason) => Some(reason),
                Sending::Failed(reason) => {
                    again.push(index);
                    Some(reason)
                }
            };
        }
        pending = again;
        if pending.is_empty() {
            break;
        }
    }
    Delivery {
        outcomes,
        retries,
        gave_up,
    }
}

/// Before the `attempt`-th repetition.
pub(super) async fn pause(attempt: u32) {
    let longest = FIRST_RETRY
        .saturating_mul(1 << attempt.saturating_sub(1).min(16))
        .min(LONGEST_RETRY);
    tokio::time::sleep(longest.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
}
