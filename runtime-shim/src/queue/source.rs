//! One queue, whoever serves it: receive, delete, change visibility, and send
//! to its dead-letter queue.

use std::time::Duration;

use super::embedded::{EmbeddedQueue, EmbeddedSource};
use super::message::{CustomAttribute, Receipt, Received};
use super::sqs::SqsSource;
use crate::app::QueueUrl;
use crate::aws::AwsSettings;
use crate::embedded_origin::EMBEDDED_ORIGIN;

/// A call to the queue that failed as a whole.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct SourceError(pub(super) String);

/// How one entry of a batch call went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EntryOutcome {
    /// Done.
    Done,
    /// The receipt is no longer known: trying again is pointless.
    Expired,
    /// Not done; trying again may help.
    Failed,
}

/// Why a message could not be sent to its dead-letter queue.
#[derive(Debug, thiserror::Error)]
pub(super) enum DeadLetterError {
    /// The queue has no redrive policy.
    #[error("the queue has no dead-letter queue")]
    NoQueue,
    /// Ten attributes, or 1 MiB, are taken up already.
    #[error("the reason does not fit beside the message's own attributes")]
    DoesNotFit,
    /// The lease ran out before the dead-letter queue answered.
    #[error("the dead-letter queue did not answer in time")]
    TooLate,
    /// The call failed.
    #[error(transparent)]
    Send(#[from] SourceError),
}

/// Why a queue cannot be consumed.
#[derive(Debug, thiserror::Error)]
#[error("cannot consume queue `{url}`: {reason}")]
pub struct ConnectError {
    /// The queue.
    pub url: String,
    /// What went wrong.
    pub reason: String,
}

/// The attribute that carries the reason of an explicit dead letter.
pub(super) const REASON_ATTRIBUTE: &str = "gristmill.reason";

impl Received {
    /// Its custom attributes, without the reason of an earlier dead letter: whoever
    /// moved it back may have left that, and the new one takes its place.
    pub(super) fn own_attributes(&self) -> impl Iterator<Item = &CustomAttribute> {
        self.custom
            .iter()
            .filter(|attribute| attribute.name != REASON_ATTRIBUTE)
    }
}

/// Attributes of one message. SQS: message metadata.
pub(super) const MAX_ATTRIBUTES: usize = 10;
/// Bytes of a message, attributes included. SQS: quotas.
pub(super) const MAX_MESSAGE_BYTES: usize = 1024 * 1024;

/// Whether `note` can be attached to `message`.
pub(super) fn note_fits(message: &Received, note: &str) -> bool {
    let note = REASON_ATTRIBUTE.len() + "String".len() + note.len();
    message.own_attributes().count() < MAX_ATTRIBUTES && message.size() + note <= MAX_MESSAGE_BYTES
}

/// What the queue itself says of its messages.
#[derive(Clone, Debug)]
pub(super) struct QueueFacts {
    pub(super) name: String,
    /// How long a received message stays hidden.
    pub(super) visibility: Duration,
    /// Where messages go that are received too often.
    pub(super) redrive: Option<Redrive>,
}

/// The queue's redrive policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Redrive {
    /// Name of the dead-letter queue.
    pub(super) target: String,
    /// A message received so often goes there when it would be received again.
    pub(super) max_receives: u32,
}

impl Redrive {
    /// From the attribute `RedrivePolicy`. SQS API Reference, `SetQueueAttributes`.
    pub(super) fn parse(policy: &str) -> Option<Self> {
        let policy: serde_json::Value = serde_json::from_str(policy).ok()?;
        let max = policy.get("maxReceiveCount")?;
        // SQS returns it as it was set: a number, or a number in quotes.
        let max = max.as_u64().or_else(|| max.as_str()?.parse().ok())?;
        Some(Self {
            target: queue_of_arn(policy.get("deadLetterTargetArn")?.as_str()?)?,
            max_receives: u32::try_from(max).ok()?,
        })
    }
}

/// A queue to consume.
pub enum QueueSource {
    /// Served in this process.
    Embedded(EmbeddedSource),
    /// Served by somebody who speaks SQS.
    Sqs(SqsSource),
}

impl QueueSource {
    /// Finds the queue at `url`: in `embedded`, if it is served there.
    pub async fn connect(
        url: &QueueUrl,
        embedded: Option<&EmbeddedQueue>,
        aws: &AwsSettings,
    ) -> Result<Self, ConnectError> {
        if let Some(embedded) = embedded.filter(|embedded| embedded.origin() == url.origin()) {
            return Ok(Self::Embedded(embedded.source(url).await?));
        }
        // Another process may serve the embedded queue.
        let anonymous = aws.anonymous || url.origin() == EMBEDDED_ORIGIN;
        Ok(Self::Sqs(SqsSource::connect(url, aws, anonymous).await?))
    }

    pub(super) fn facts(&self) -> &QueueFacts {
        match self {
            Self::Embedded(source) => source.facts(),
            Self::Sqs(source) => source.facts(),
        }
    }

    /// The queue's name.
    pub fn name(&self) -> &str {
        &self.facts().name
    }

    /// How long a received message stays hidden: its lease.
    pub fn visibility(&self) -> Duration {
        self.facts().visibility
    }

    /// Whether it keeps the order within groups. Other queues may have groups,
    /// too, which say nothing of order.
    pub(super) fn is_fifo(&self) -> bool {
        is_fifo(self.name())
    }

    /// How long a receive call goes on after the intake stopped. Cutting a call
    /// to a remote queue may leave messages hidden that nobody has.
    pub(super) fn receive_grace(&self) -> Duration {
        match self {
            Self::Embedded(_) => Duration::ZERO,
            Self::Sqs(_) => Duration::from_secs(1),
        }
    }

    /// Up to `max` messages, hidden for `visibility`; waits up to `wait` for the first.
    pub(super) async fn receive(
        &self,
        max: u16,
        wait: Duration,
        visibility: Duration,
    ) -> Result<Vec<Received>, SourceError> {
        match self {
            Self::Embedded(source) => source.receive(max, wait, visibility).await,
            Self::Sqs(source) => source.receive(max, wait, visibility).await,
        }
    }

    /// Removes up to ten messages; an outcome for each, in order.
    pub(super) async fn delete(
        &self,
        receipts: Vec<&Receipt>,
    ) -> Result<Vec<EntryOutcome>, SourceError> {
        match self {
            Self::Embedded(source) => source.delete(receipts).await,
            Self::Sqs(source) => source.delete(receipts).await,
        }
    }

    /// Hides up to ten messages for so long from now; an outcome for each, in order.
    pub(super) async fn change_visibility(
        &self,
        entries: Vec<(&Receipt, Duration)>,
    ) -> Result<Vec<EntryOutcome>, SourceError> {
        match self {
            Self::Embedded(source) => source.change_visibility(entries).await,
            Self::Sqs(source) => source.change_visibility(entries).await,
        }
    }

    /// Sends a copy of `message` to the dead-letter queue, with `note` as its reason.
    pub(super) async fn dead_letter(
        &self,
        message: &Received,
        note: &str,
    ) -> Result<(), DeadLetterError> {
        let Some(Redrive { target, .. }) = &self.facts().redrive else {
            return Err(DeadLetterError::NoQueue);
        };
        if !note_fits(message, note) {
            return Err(DeadLetterError::DoesNotFit);
        }
        match self {
            Self::Embedded(source) => source.send_copy(target, message, note).await?,
            Self::Sqs(source) => source.send_copy(target, message, note).await?,
        }
        Ok(())
    }
}

/// What the names of FIFO queues end with. SQS API Reference, `CreateQueue`.
pub(super) const FIFO_SUFFIX: &str = ".fifo";

/// Whether the queue of this name is FIFO.
pub(super) fn is_fifo(name: &str) -> bool {
    name.ends_with(FIFO_SUFFIX)
}

/// The name of the queue in an ARN, `arn:aws:sqs:region:account:name`.
pub(super) fn queue_of_arn(arn: &str) -> Option<String> {
    arn.rsplit(':')
        .next()
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redrive_policy_has_a_number_or_its_text() {
        let arn = "arn:aws:sqs:us-east-1:000000000000:jobs-dlq";
        for max in ["5", "\"5\""] {
            let policy = format!(r#"{{"deadLetterTargetArn":"{arn}","maxReceiveCount":{max}}}"#);
            let expected = Redrive {
                target: "jobs-dlq".to_owned(),
                max_receives: 5,
            };
            assert_eq!(Redrive::parse(&policy), Some(expected));
        }
        assert_eq!(Redrive::parse(r#"{"maxReceiveCount":5}"#), None);
        assert_eq!(Redrive::parse("no policy"), None);
    }
}
