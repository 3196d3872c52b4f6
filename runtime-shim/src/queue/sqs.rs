//! A queue behind the SQS API, by the official client: AWS itself, or any
//! endpoint that speaks it.

mod produce;

use std::time::{Duration, Instant};

use aws_sdk_sqs::Client;
use aws_sdk_sqs::primitives::Blob;
use aws_sdk_sqs::types::{
    BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry,
    ChangeMessageVisibilityBatchResultEntry, DeleteMessageBatchRequestEntry,
    DeleteMessageBatchResultEntry, Message, MessageAttributeValue, MessageSystemAttributeName,
    MessageSystemAttributeNameForSends, MessageSystemAttributeValue, QueueAttributeName,
};

pub(super) use self::produce::{CallError, Sending};
use super::message::{AttributeValue, CustomAttribute, Receipt, Received};
use super::source::{
    ConnectError, EntryOutcome, QueueFacts, REASON_ATTRIBUTE, Redrive, SourceError, is_fifo,
};
use crate::app::QueueUrl;
use crate::aws::{self, AwsSettings, Calling, Identity, explain};

/// One try of a receive: above the longest long poll.
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(25);
/// One try of anything else: a lease must survive a call that hangs.
const CALL_TIMEOUT: Duration = Duration::from_secs(4);
/// A queue may hide nothing; a consumer needs a lease to work under.
const LEAST_VISIBILITY: Duration = Duration::from_secs(1);

/// One queue.
pub struct SqsSource {
    /// For calls that answer at once.
    client: Client,
    /// For long polls.
    poller: Client,
    url: String,
    facts: QueueFacts,
    dead_letter_url: Option<String>,
}

impl SqsSource {
    /// Asks the queue for its attributes. `anonymous` endpoints take any
    /// credentials, so the credential chain is not asked for them.
    pub(super) async fn connect(
        url: &QueueUrl,
        settings: &AwsSettings,
        anonymous: bool,
    ) -> Result<Self, ConnectError> {
        let fail = |reason: String| ConnectError {
            url: url.to_string(),
            reason,
        };
        let (client, poller) = clients(url, settings, anonymous).await;
        let answer = client
            .get_queue_attributes()
            .queue_url(url.as_str())
            .attribute_names(QueueAttributeName::VisibilityTimeout)
            .attribute_names(QueueAttributeName::RedrivePolicy)
            .send()
            .await
            .map_err(|error| fail(explain(&error)))?;
        let attribute = |name| answer.attributes().and_then(|map| map.get(&name));
        let visibility = attribute(QueueAttributeName::VisibilityTimeout)
            .and_then(|secs| secs.parse().ok())
            .map_or(LEAST_VISIBILITY, Duration::from_secs)
            .max(LEAST_VISIBILITY);
        let redrive =
            attribute(QueueAttributeName::RedrivePolicy).and_then(|policy| Redrive::parse(policy));
        let dead_letter_url = match &redrive {
            None => None,
            Some(Redrive { target, .. }) => {
                let answer = client.get_queue_url().queue_name(target).send().await;
                let answer = answer.map_err(|error| {
                    fail(format!(
                        "its dead-letter queue `{target}`: {}",
                        explain(&error)
                    ))
                })?;
                answer.queue_url().map(str::to_owned)
            }
        };
        let facts = QueueFacts {
            name: url.name().to_owned(),
            visibility,
            redrive,
        };
        Ok(Self {
            client,
            poller,
            url: url.as_str().to_owned(),
            facts,
            dead_letter_url,
        })
    }

    pub(super) fn facts(&self) -> &QueueFacts {
        &self.facts
    }

    pub(super) async fn receive(
        &self,
        max: u16,
        wait: Duration,
        visibility: Duration,
    ) -> Result<Vec<Received>, SourceError> {
        // Where an answer is lost, the client's second try gets the same messages:
        // else their groups would be blocked until the leases end.
        let attempt = is_fifo(&self.facts.name).then(|| format!("{:032x}", fastrand::u128(..)));
        let answer = self
            .poller
            .receive_message()
            .set_receive_request_attempt_id(attempt)
            .queue_url(&self.url)
            .max_number_of_messages(max.into())
            .wait_time_seconds(wait.as_secs() as i32)
            .visibility_timeout(visibility.as_secs() as i32)
            .message_system_attribute_names(MessageSystemAttributeName::All)
            .message_attribute_names("All")
            .send()
            .await
            .map_err(|error| SourceError(explain(&error)))?;
        let at = Instant::now();
        Ok(answer
            .messages
            .unwrap_or_default()
            .into_iter()
            .filter_map(|message| received(message, at))
            .collect())
    }

    pub(super) async fn delete(
        &self,
        receipts: Vec<&Receipt>,
    ) -> Result<Vec<EntryOutcome>, SourceError> {
        let count = receipts.len();
        let entries = receipts.iter().enumerate().filter_map(|(index, receipt)| {
            DeleteMessageBatchRequestEntry::builder()
                .id(index.to_string())
                .receipt_handle(&receipt.0)
                .build()
                .ok()
        });
        let answer = self
            .client
            .delete_message_batch()
            .queue_url(&self.url)
            .set_entries(Some(entries.collect()))
            .send()
            .await
            .map_err(|error| SourceError(explain(&error)))?;
        Ok(outcomes(
            count,
            answer
                .successful()
                .iter()
                .map(DeleteMessageBatchResultEntry::id),
            answer.failed(),
        ))
    }

    pub(super) async fn change_visibility(
        &self,
        changes: Vec<(&Receipt, Duration)>,
    ) -> Result<Vec<EntryOutcome>, SourceError> {
        let count = changes.len();
        let entries = changes
            .iter()
            .enumerate()
            .filter_map(|(index, (receipt, delay))| {
                ChangeMessageVisibilityBatchRequestEntry::builder()
                    .id(index.to_string())
                    .receipt_handle(&receipt.0)
                    .visibility_timeout(delay.as_secs() as i32)
                    .build()
                    .ok()
            });
        let answer = self
            .client
            .change_message_visibility_batch()
            .queue_url(&self.url)
            .set_entries(Some(entries.collect()))
            .send()
            .await
            .map_err(|error| SourceError(explain(&error)))?;
        Ok(outcomes(
            count,
            answer
                .successful()
                .iter()
                .map(ChangeMessageVisibilityBatchResultEntry::id),
            answer.failed(),
        ))
    }

    pub(super) async fn send_copy(
        &self,
        target: &str,
        message: &Received,
        note: &str,
    ) -> Result<(), SourceError> {
        let Some(url) = &self.dead_letter_url else {
            return Err(SourceError(format!(
                "dead-letter queue `{target}` has no URL"
            )));
        };
        let text = |value: &str, data_type: &str| {
            MessageAttributeValue::builder()
                .data_type(data_type)
                .string_value(value)
                .build()
        };
        let malformed = |error: aws_sdk_sqs::error::BuildError| SourceError(error.to_string());
        let mut call = self
            .client
            .send_message()
            .queue_url(url)
            .message_body(&message.body)
            .message_attributes(REASON_ATTRIBUTE, text(note, "String").map_err(malformed)?);
        if is_fifo(target) {
            // The same message, rejected again, is one dead letter.
            call = call
                .message_group_id(message.group().unwrap_or(&message.id))
                .message_deduplication_id(&message.id);
        }
        for attribute in message.own_attributes() {
            let value = match &attribute.value {
                AttributeValue::Text(value) => text(value, &attribute.data_type),
                AttributeValue::Binary(bytes) => MessageAttributeValue::builder()
                    .data_type(&attribute.data_type)
                    .binary_value(Blob::new(bytes.clone()))
                    .build(),
            };
            call = call.message_attributes(&attribute.name, value.map_err(malformed)?);
        }
        if let Some(header) = message.system("AWSTraceHeader") {
            let value = MessageSystemAttributeValue::builder()
                .data_type("String")
                .string_value(header)
                .build()
                .map_err(malformed)?;
            let name = MessageSystemAttributeNameForSends::AwsTraceHeader;
            call = call.message_system_attributes(name, value);
        }
        call.send()
            .await
            .map_err(|error| SourceError(explain(&error)))?;
        Ok(())
    }
}

async fn clients(url: &QueueUrl, settings: &AwsSettings, anonymous: bool) -> (Client, Client) {
    let identity = if anonymous {
        Identity::Anonymous
    } else {
        Identity::Chain
    };
    let origin = url.origin();
    let calling = Calling {
        region: url.aws_region(),
        // Requests go where the queue's URL points, and nowhere else.
        endpoint: Some(&origin),
        attempt_timeout: CALL_TIMEOUT,
        // The consumer has retries of its own, with pauses that suit them.
        max_attempts: 2,
    };
    let shared = aws::sdk_config(settings, identity, calling).await;
    let polling = aws_sdk_sqs::config::Builder::from(&shared)
        .timeout_config(aws::timeouts(RECEIVE_TIMEOUT))
        .build();
    (Client::new(&shared), Client::from_conf(polling))
}

/// None where the queue left out what every message has.
fn received(message: Message, at: Instant) -> Option<Received> {
    let system: Vec<(String, String)> = message
        .attributes
        .unwrap_or_default()
        .into_iter()
        .map(|(name, value)| (name.as_str().to_owned(), value))
        .collect();
    let receive_count = system
        .iter()
        .find(|(name, _)| name == MessageSystemAttributeName::ApproximateReceiveCount.as_str())
        .and_then(|(_, count)| count.parse().ok())
        .unwrap_or(1);
    let custom = message
        .message_attributes
        .unwrap_or_default()
        .into_iter()
        .map(|(name, value)| CustomAttribute {
            name,
            data_type: value.data_type,
            value: match (value.string_value, value.binary_value) {
                (None, Some(bytes)) => AttributeValue::Binary(bytes.into_inner()),
                (text, _) => AttributeValue::Text(text.unwrap_or_default()),
            },
        });
    Some(Received {
        id: message.message_id?,
        receipt: Receipt(message.receipt_handle?),
        body: message.body.unwrap_or_default(),
        system,
        custom: custom.collect(),
        receive_count,
        at,
    })
}

/// Puts the answer's entries in the order of the request. An entry that the
/// answer forgot counts as failed.
fn outcomes<'a>(
    count: usize,
    done: impl Iterator<Item = &'a str>,
    failed: &[BatchResultErrorEntry],
) -> Vec<EntryOutcome> {
    let mut outcomes = vec![EntryOutcome::Failed; count];
    let mut set = |id: &str, outcome| {
        if let Some(slot) = id
            .parse::<usize>()
            .ok()
            .and_then(|index| outcomes.get_mut(index))
        {
            *slot = outcome;
        }
    };
    for id in done {
        set(id, EntryOutcome::Done);
    }
    // A FIFO queue says of a handle that expired that it is an invalid parameter.
    let expired = |entry: &&BatchResultErrorEntry| {
        [
            "ReceiptHandleIsInvalid",
            "MessageNotInflight",
            "InvalidParameterValue",
        ]
        .iter()
        .any(|code| entry.code().ends_with(code))
    };
    for entry in failed.iter().filter(expired) {
        set(entry.id(), EntryOutcome::Expired);
    }
    outcomes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_entry_gets_its_own_outcome() {
        let failed = |id: &str, code: &str, sender_fault| {
            BatchResultErrorEntry::builder()
                .id(id)
                .code(code)
                .sender_fault(sender_fault)
                .build()
                .expect("complete")
        };
        let outcomes = outcomes(
            5,
            ["2"].into_iter(),
            &[
                failed("0", "ReceiptHandleIsInvalid", true),
                failed("1", "AccessDenied", true),
                failed("4", "RequestThrottled", true),
            ],
        );
        assert_eq!(
            outcomes,
            [
                EntryOutcome::Expired,
                EntryOutcome::Failed,
                EntryOutcome::Done,
                EntryOutcome::Failed,
                EntryOutcome::Failed
            ]
        );
    }
}
