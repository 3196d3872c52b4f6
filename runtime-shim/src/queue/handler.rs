//! Who handles messages, and what they want done with each. The consumer knows
//! verdicts alone; which export or server they come from is known here.

use std::sync::Arc;
use std::time::Duration;

use super::forward::Forwarder;
use super::message::Received;
use super::request;
use crate::app::{QueueTrigger, SandboxPer};
use crate::invoker::{
    BatchOutcome, Delivery, Invoker, MessageAction, Outcome, QueueExport, REJECT, Session,
};

/// The longest that a component may have a message hidden. SQS allows 12 hours
/// from its receive; an hour of them is left for the handler.
const MAX_DELAY: Duration = Duration::from_hours(11);

/// Where requests go, unless the options say.
const DEFAULT_PATH: &str = "/";

/// What a handler wants done with a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Delete it.
    Ack,
    /// Leave its visibility timeout as it is.
    Leave,
    /// Hide it for so long, or for the back-off.
    Retry(Option<Duration>),
    /// Send it to the dead-letter queue, with this reason.
    DeadLetter(String),
}

/// Who handles the messages of one trigger.
pub(super) enum Handler {
    /// `handle-batch`, with as many messages as this.
    Batch(usize),
    /// `handle-queue-message`, for as many messages as this in one sandbox.
    Session(usize),
    /// `handle-queue-message` or a program, in a sandbox for each message.
    Message,
    /// The HTTP export, in a sandbox for each message.
    Http,
    /// A server, by a request for each message.
    Forward(Box<Forwarder>),
}

impl Handler {
    /// The handler that `trigger` asks for; its component exports `export`.
    /// Options that do not go together were refused before.
    pub(super) fn new(trigger: &QueueTrigger, export: Option<QueueExport>) -> Self {
        if let Some(url) = &trigger.forward_to {
            return Self::Forward(Box::new(Forwarder::new(url, trigger.max_concurrency)));
        }
        match (export, trigger.sandbox) {
            (Some(QueueExport::Batch), Some(SandboxPer::Message)) => Self::Batch(1),
            (Some(QueueExport::Batch), _) => Self::Batch(trigger.batch_size),
            (Some(QueueExport::Http), _) => Self::Http,
            (Some(QueueExport::Message), Some(SandboxPer::Batch)) => {
                Self::Session(trigger.batch_size)
            }
            _ => Self::Message,
        }
    }

    /// Messages that may share a sandbox.
    pub(super) fn batch_size(&self) -> usize {
        match self {
            Self::Batch(size) | Self::Session(size) => *size,
            Self::Message | Self::Http | Self::Forward(_) => 1,
        }
    }
}

/// What handling a message takes, beside the message.
pub(super) struct Desk<'a> {
    pub(super) invoker: &'a Arc<Invoker>,
    pub(super) trigger: &'a QueueTrigger,
    /// The queue's name.
    pub(super) queue: &'a str,
    pub(super) timeout: Duration,
}

impl Desk<'_> {
    /// Has `received` handled alone, in `session` if there is one.
    pub(super) async fn one(
        &self,
        handler: &Handler,
        received: &Received,
        session: Option<&mut Session<'_>>,
    ) -> Outcome<Verdict> {
        let component = &self.trigger.component;
        let message = received.for_component(self.trigger);
        let delivery = Delivery {
            message: &message,
            queue: self.queue,
            receive_count: received.receive_count,
        };
        match (handler, session) {
            (Handler::Forward(forwarder), _) => {
                let sent =
                    forwarder.send(request::headers(&delivery), &received.body, self.timeout);
                sent.await.and_then(|reply| request::verdict(&reply))
            }
            (Handler::Http, _) => {
                let path = self.trigger.http_path.as_deref().unwrap_or(DEFAULT_PATH);
                let Some(request) = request::in_process(component, path, &delivery) else {
                    return Outcome::GuestError("the message makes no request".to_owned());
                };
                let answered = self.invoker.http_message(component, request, self.timeout);
                answered.await.and_then(|reply| request::verdict(&reply))
            }
            (_, Some(session)) => of_action(session.message(&delivery, self.timeout).await),
            (_, None) => {
                let handled = self
                    .invoker
                    .queue_message(component, &delivery, self.timeout);
                of_action(handled.await)
            }
        }
    }

    /// Has `unit` handled by one call; a verdict for each.
    pub(super) async fn together(&self, unit: &[&Received]) -> Outcome<Vec<Verdict>> {
        let messages: Vec<_> = unit.iter().map(|r| r.for_batch(self.trigger)).collect();
        let component = &self.trigger.component;
        let outcome = self
            .invoker
            .queue_batch(component, &messages, self.timeout)
            .await;
        outcome.and_then(|outcomes| {
            Outcome::Completed(outcomes.into_iter().map(Verdict::from).collect())
        })
    }
}

impl From<BatchOutcome> for Verdict {
    fn from(outcome: BatchOutcome) -> Self {
        match outcome {
            BatchOutcome::Ack => Self::Ack,
            BatchOutcome::Retry(None) => Self::Retry(None),
            BatchOutcome::Retry(Some(secs)) => Self::retry_after(secs.into()),
            BatchOutcome::DeadLetter(reason) => Self::DeadLetter(reason),
        }
    }
}

impl Verdict {
    /// Again after so many seconds: as many as SQS allows.
    pub(super) fn retry_after(secs: u64) -> Self {
        Self::Retry(Some(Duration::from_secs(secs).min(MAX_DELAY)))
    }
}

/// An error of `handle-queue-message` that begins with `reject:` is a dead letter.
fn of_action(outcome: Outcome<MessageAction>) -> Outcome<Verdict> {
    match outcome {
        Outcome::GuestError(reason) => match reason.strip_prefix(REJECT) {
            Some(reason) => Outcome::Completed(Verdict::DeadLetter(reason.trim().to_owned())),
            None => Outcome::GuestError(reason),
        },
        other => other.and_then(|action| {
            Outcome::Completed(match action {
                MessageAction::Delete => Verdict::Ack,
                MessageAction::Leave => Verdict::Leave,
            })
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_begins_with_reject_is_a_dead_letter() {
        let error = |text: &str| of_action(Outcome::GuestError(text.to_owned()));
        assert_eq!(
            error("reject: no JSON"),
            Outcome::Completed(Verdict::DeadLetter("no JSON".to_owned()))
        );
        assert_eq!(
            error("no reject: here"),
            Outcome::GuestError("no reject: here".to_owned())
        );
        assert_eq!(
            of_action(Outcome::Completed(MessageAction::Leave)),
            Outcome::Completed(Verdict::Leave)
        );
    }

    #[test]
    fn no_delay_is_longer_than_sqs_allows() {
        let retry = |secs| Verdict::from(BatchOutcome::Retry(Some(secs)));
        assert_eq!(retry(0), Verdict::Retry(Some(Duration::ZERO)));
        assert_eq!(retry(u32::MAX), Verdict::Retry(Some(MAX_DELAY)));
    }
}
