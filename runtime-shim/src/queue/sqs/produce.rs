//! What producers ask of a queue: its URL by its name, to send in batches, and
//! whose dead-letter queue it is.

use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::http::HttpResponse;
use aws_sdk_sqs::error::{BuildError, ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::primitives::Blob;
use aws_sdk_sqs::types::{
    MessageAttributeValue, MessageSystemAttributeNameForSends, MessageSystemAttributeValue,
    QueueAttributeName, SendMessageBatchRequestEntry,
};

use super::{LEAST_VISIBILITY, SqsSource, clients};
use crate::app::QueueUrl;
use crate::aws::{AwsSettings, explain};
use crate::embedded_origin::EMBEDDED_ORIGIN;
use crate::queue::message::AttributeValue;
use crate::queue::producer::Outgoing;
use crate::queue::source::{QueueFacts, Redrive};

/// A call that failed as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::queue) enum CallError {
    /// The queue does not want it: trying again is pointless.
    #[error("{0}")]
    Refused(String),
    /// Trying again may help. It may have been done all the same.
    #[error("{0}")]
    Failed(String),
}

/// How sending one message of a batch went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::queue) enum Sending {
    /// The queue has it.
    Sent,
    /// It is the message that is wrong: trying again is pointless.
    Refused(String),
    /// Trying again may help.
    Failed(String),
}

impl SqsSource {
    /// The queue at `url`, which is asked nothing: a producer may be allowed to
    /// send and no more.
    pub(in crate::queue) async fn unasked(url: &QueueUrl, settings: &AwsSettings) -> Self {
        let anonymous = settings.anonymous || url.origin() == EMBEDDED_ORIGIN;
        let (client, poller) = clients(url, settings, anonymous).await;
        Self {
            client,
            poller,
            url: url.as_str().to_owned(),
            facts: unknown(url.name()),
            dead_letter_url: None,
        }
    }

    /// The queue of this name at the same endpoint. SQS API Reference, `GetQueueUrl`.
    pub(in crate::queue) async fn named(&self, name: &str) -> Result<Self, CallError> {
        let answer = self.client.get_queue_url().queue_name(name).send().await;
        let answer = answer.map_err(|error| call_error(&error))?;
        Ok(self.sibling(answer.queue_url().unwrap_or_default()))
    }

    /// Another queue at the same endpoint. Some servers put a host into their URLs
    /// that they are not reached by: only the path counts.
    fn sibling(&self, url: &str) -> Self {
        let url = match (url::Url::parse(&self.url), url::Url::parse(url)) {
            (Ok(mut here), Ok(there)) => {
                here.set_path(there.path());
                here.to_string()
            }
            _ => url.to_owned(),
        };
        Self {
            client: self.client.clone(),
            poller: self.poller.clone(),
            facts: unknown(url.rsplit('/').next().unwrap_or_default()),
            url,
            dead_letter_url: None,
        }
    }

    /// Its URL.
    pub(in crate::queue) fn url(&self) -> &str {
        &self.url
    }

    /// Sends up to ten messages of 1 MiB in all; an outcome for each, in order. SQS
    /// API Reference, `SendMessageBatch`.
    pub(in crate::queue) async fn send_batch(
        &self,
        messages: &[&Outgoing],
    ) -> Result<Vec<Sending>, CallError> {
        let entries = messages
            .iter()
            .enumerate()
            .map(|(index, message)| entry(index, message))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| CallError::Refused(error.to_string()))?;
        let answer = self
            .client
            .send_message_batch()
            .queue_url(&self.url)
            .set_entries(Some(entries))
            .send()
            .await
            .map_err(|error| call_error(&error))?;
        let forgotten = || Sending::Failed("the answer does not mention it".to_owned());
        let mut outcomes: Vec<Sending> = messages.iter().map(|_| forgotten()).collect();
        let mut set = |id: &str, outcome| {
            let index: Option<usize> = id.parse().ok();
            if let Some(slot) = index.and_then(|index| outcomes.get_mut(index)) {
                *slot = outcome;
            }
        };
        for entry in answer.successful() {
            set(entry.id(), Sending::Sent);
        }
        for entry in answer.failed() {
            let reason = match entry.message() {
                Some(message) => format!("{}: {message}", entry.code()),
                None => entry.code().to_owned(),
            };
            let outcome = if entry.sender_fault() && !throttled(entry.code()) {
                Sending::Refused(reason)
            } else {
                Sending::Failed(reason)
            };
            set(entry.id(), outcome);
        }
        Ok(outcomes)
    }

    /// The queues whose dead letters come here. SQS API Reference,
    /// `ListDeadLetterSourceQueues`.
    pub(in crate::queue) async fn dead_letter_sources(&self) -> Result<Vec<Self>, CallError> {
        let mut pages = self
            .client
            .list_dead_letter_source_queues()
            .queue_url(&self.url)
            .max_results(MAX_SOURCES as i32)
            .into_paginator()
            .send();
        let mut sources = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| call_error(&error))?;
            sources.extend(page.queue_urls().iter().map(|url| self.sibling(url)));
            if sources.len() >= MAX_SOURCES {
                break;
            }
        }
        Ok(sources)
    }

    /// The name of its dead-letter queue.
    pub(in crate::queue) async fn dead_letter_queue(&self) -> Result<Option<String>, CallError> {
        let policy = attribute(&self.client, &self.url, QueueAttributeName::RedrivePolicy).await?;
        let redrive = policy.and_then(|policy| Redrive::parse(&policy));
        Ok(redrive.map(|redrive| redrive.target))
    }

    /// About how many messages wait in it.
    pub(in crate::queue) async fn waiting(&self) -> Result<u64, CallError> {
        let name = QueueAttributeName::ApproximateNumberOfMessages;
        let count = attribute(&self.client, &self.url, name).await?;
        Ok(count.and_then(|count| count.parse().ok()).unwrap_or(0))
    }
}

/// Queues that share a dead-letter queue.
const MAX_SOURCES: usize = 1000;

/// Of a queue that was asked nothing.
fn unknown(name: &str) -> QueueFacts {
    QueueFacts {
        name: name.to_owned(),
        visibility: LEAST_VISIBILITY,
        redrive: None,
    }
}

async fn attribute(
    client: &Client,
    url: &str,
    name: QueueAttributeName,
) -> Result<Option<String>, CallError> {
    let call = client.get_queue_attributes().queue_url(url);
    let answer = call.attribute_names(name.clone()).send().await;
    let answer = answer.map_err(|error| call_error(&error))?;
    Ok(answer.attributes().and_then(|map| map.get(&name)).cloned())
}

fn entry(index: usize, message: &Outgoing) -> Result<SendMessageBatchRequestEntry, BuildError> {
    let mut entry = SendMessageBatchRequestEntry::builder()
        .id(index.to_string())
        .message_body(&*message.body)
        .set_delay_seconds(message.delay_secs.map(i32::from))
        .set_message_group_id(message.group.clone())
        .set_message_deduplication_id(message.dedup_id.clone());
    for attribute in message.attributes.iter() {
        let value = MessageAttributeValue::builder().data_type(&attribute.data_type);
        let value = match &attribute.value {
            AttributeValue::Text(text) => value.string_value(text),
            AttributeValue::Binary(bytes) => value.binary_value(Blob::new(bytes.clone())),
        };
        entry = entry.message_attributes(&attribute.name, value.build()?);
    }
    if let Some(header) = &message.trace_header {
        let value = MessageSystemAttributeValue::builder()
            .data_type("String")
            .string_value(header)
            .build()?;
        let name = MessageSystemAttributeNameForSends::AwsTraceHeader;
        entry = entry.message_system_attributes(name, value);
    }
    entry.build()
}

fn call_error<E>(error: &SdkError<E, HttpResponse>) -> CallError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let reason = explain(error);
    let refused = match error {
        SdkError::ConstructionFailure(_) => true,
        // Among the others: there are no credentials.
        SdkError::DispatchFailure(failure) => !failure.is_io() && !failure.is_timeout(),
        SdkError::ServiceError(answer) => {
            let status = answer.raw().status().as_u16();
            let code = answer.err().code().unwrap_or_default();
            (400..500).contains(&status) && !matches!(status, 408 | 429) && !throttled(code)
        }
        _ => false,
    };
    if refused {
        CallError::Refused(reason)
    } else {
        CallError::Failed(reason)
    }
}

/// Throttles are passing, though they are the caller's fault in SQS' terms.
fn throttled(code: &str) -> bool {
    code.contains("Throttl") || code.ends_with("TooManyRequests") || code.ends_with("SlowDown")
}
