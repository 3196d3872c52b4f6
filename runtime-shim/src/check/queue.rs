//! What `check` says of a queue trigger: who handles its messages, and with which
//! options, defaults included.

use serde::Serialize;

use crate::app::{Mismatch, QueueTrigger, SandboxPer};
use crate::invoker::{BATCH_EXPORT, COMMAND_EXPORT, HTTP_EXPORT, QUEUE_EXPORT, QueueExport};

#[derive(Debug, Serialize)]
pub(super) struct QueueReport {
    pub(super) queue_url: String,
    pub(super) component: String,
    /// The export, or the URL that messages are forwarded to.
    handler: String,
    /// Messages of one call or of one sandbox, where there may be several.
    batch_size: Option<usize>,
    batch_window_ms: Option<u128>,
    min_concurrency: u32,
    max_concurrency: u32,
    /// None where it comes from the queue's visibility timeout.
    timeout_secs: Option<u64>,
    backoff_base_secs: u64,
    backoff_cap_secs: u64,
    /// None without a filter.
    filter_mismatch: Option<&'static str>,
    dedup_store: Option<String>,
}

impl QueueReport {
    /// Of a trigger whose component exports `export` for it.
    pub(super) fn new(queue: &QueueTrigger, export: Option<QueueExport>) -> Self {
        let handler = match (&queue.forward_to, export) {
            (Some(url), _) => url.to_string(),
            (None, Some(QueueExport::Batch)) => BATCH_EXPORT.to_owned(),
            (None, Some(QueueExport::Program)) => COMMAND_EXPORT.to_owned(),
            (None, Some(QueueExport::Http)) => HTTP_EXPORT.to_owned(),
            (None, Some(QueueExport::Message) | None) => QUEUE_EXPORT.to_owned(),
        };
        let batches = queue.forward_to.is_none()
            && match queue.sandbox {
                Some(per) => per == SandboxPer::Batch,
                None => export == Some(QueueExport::Batch),
            };
        Self {
            queue_url: queue.queue_url.to_string(),
            component: queue.component.to_string(),
            handler,
            batch_size: batches.then_some(queue.batch_size),
            batch_window_ms: batches.then_some(queue.batch_window.as_millis()),
            min_concurrency: queue.min_concurrency,
            max_concurrency: queue.max_concurrency,
            timeout_secs: queue.timeout.map(|timeout| timeout.as_secs()),
            backoff_base_secs: queue.backoff.base.as_secs(),
            backoff_cap_secs: queue.backoff.cap.as_secs(),
            filter_mismatch: queue.filter.as_ref().map(|(_, mismatch)| match mismatch {
                Mismatch::Ack => "ack",
                Mismatch::Keep => "keep",
                Mismatch::DeadLetter => "dead-letter",
            }),
            dedup_store: queue.dedup.as_ref().map(|dedup| dedup.store.to_string()),
        }
    }

    /// Two lines for people.
    pub(super) fn lines(&self) -> [String; 2] {
        let (min, max) = (self.min_concurrency, self.max_concurrency);
        let mut options = vec![if min < max {
            format!("{min} to {max} at once")
        } else {
            format!("{max} at once")
        }];
        if let (Some(size), Some(window)) = (self.batch_size, self.batch_window_ms) {
            options.push(format!("batches of up to {size} within {window} ms"));
        }
        if let Some(secs) = self.timeout_secs {
            options.push(format!("{secs} s each"));
        }
        options.push(format!(
            "back-off {} to {} s",
            self.backoff_base_secs, self.backoff_cap_secs
        ));
        if let Some(mismatch) = self.filter_mismatch {
            options.push(format!("filtered, others: {mismatch}"));
        }
        if let Some(store) = &self.dedup_store {
            options.push(format!("de-duplicated in {store}"));
        }
        [
            format!("queue {} -> {}", self.queue_url, self.component),
            format!("  by {}: {}", self.handler, options.join(", ")),
        ]
    }
}
