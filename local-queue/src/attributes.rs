//! Queue attributes: their names, ranges and defaults, and the redrive policy.
//! Owns the way between SQS's string map and typed settings; refuses to know where they are kept.
//! Source: SQS API Reference, `CreateQueue` and `SetQueueAttributes`.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::errors::QueueError;
use crate::limits;
use crate::model::{ACCOUNT_ID, Depth, QueueName};

/// A queue's settings, every one with a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueSettings {
    /// `DelaySeconds`, 0 to 900.
    pub delay_secs: u32,
    /// `MaximumMessageSize` in bytes, 1,024 to 1,048,576.
    pub maximum_message_bytes: u32,
    /// `MessageRetentionPeriod` in seconds, 60 to 1,209,600.
    pub retention_secs: u32,
    /// `ReceiveMessageWaitTimeSeconds`, 0 to 20.
    pub receive_wait_secs: u32,
    /// `VisibilityTimeout` in seconds, 0 to 43,200.
    pub visibility_secs: u32,
    /// `RedrivePolicy`; without one, messages are received without end.
    pub redrive: Option<RedrivePolicy>,
    /// Attributes that are kept and returned but change nothing here (`Policy`, `Kms…`).
    #[serde(default)]
    pub inert: BTreeMap<String, String>,
}

impl Default for QueueSettings {
    /// The defaults of `CreateQueue`.
    fn default() -> Self {
        Self {
            delay_secs: 0,
            maximum_message_bytes: limits::MAX_MESSAGE_BYTES,
            retention_secs: 345_600,
            receive_wait_secs: 0,
            visibility_secs: 30,
            redrive: None,
            inert: BTreeMap::new(),
        }
    }
}

/// When a message goes to the dead-letter queue instead of to a receiver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedrivePolicy {
    /// The dead-letter queue's ARN; its last part is the queue's name.
    pub target_arn: String,
    /// A message received so often is dead-lettered at the next attempt; 1 to 1,000.
    pub max_receive_count: u32,
}

impl RedrivePolicy {
    /// The target's name out of its ARN `arn:aws:sqs:REGION:000000000000:NAME`.
    pub fn target(&self) -> Result<QueueName, QueueError> {
        let parts: Vec<&str> = self.target_arn.split(':').collect();
        match parts[..] {
            ["arn", _, "sqs", _, ACCOUNT_ID, name] => QueueName::parse(name),
            _ => Err(redrive_error(
                "deadLetterTargetArn must be arn:aws:sqs:REGION:000000000000:NAME",
            )),
        }
    }

    fn parse(json: &str) -> Result<Self, QueueError> {
        let wire: WireRedrive = serde_json::from_str(json)
            .map_err(|error| redrive_error(&format!("not a redrive policy: {error}")))?;
        let count = match wire.max_receive_count {
            Count::Number(number) => Some(number),
            Count::Text(text) => text.parse().ok(),
        };
        let max_receive_count = count
            .and_then(|count| u32::try_from(count).ok())
            .filter(|count| limits::MAX_RECEIVE_COUNT.contains(count))
            .ok_or_else(|| redrive_error("maxReceiveCount must be an integer from 1 to 1000"))?;
        let policy = Self {
            target_arn: wire.dead_letter_target_arn,
            max_receive_count,
        };
        policy.target()?;
        Ok(policy)
    }

    fn to_json(&self) -> String {
        serde_json::json!({
            "deadLetterTargetArn": self.target_arn,
            "maxReceiveCount": self.max_receive_count,
        })
        .to_string()
    }
}

fn redrive_error(reason: &str) -> QueueError {
    QueueError::attribute("RedrivePolicy", reason)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireRedrive {
    dead_letter_target_arn: String,
    max_receive_count: Count,
}

/// Infrastructure tools write the count both ways.
#[derive(Deserialize)]
#[serde(untagged)]
enum Count {
    Number(u64),
    Text(String),
}

/// Some settings to give to a queue; `None` leaves a setting as it is.
#[derive(Clone, Debug, Default)]
pub struct AttributeChanges {
    /// See [`QueueSettings::delay_secs`].
    pub delay_secs: Option<u32>,
    /// See [`QueueSettings::maximum_message_bytes`].
    pub maximum_message_bytes: Option<u32>,
    /// See [`QueueSettings::retention_secs`].
    pub retention_secs: Option<u32>,
    /// See [`QueueSettings::receive_wait_secs`].
    pub receive_wait_secs: Option<u32>,
    /// See [`QueueSettings::visibility_secs`].
    pub visibility_secs: Option<u32>,
    /// See [`QueueSettings::redrive`]; `Some(None)` removes the policy.
    pub redrive: Option<Option<RedrivePolicy>>,
    /// See [`QueueSettings::inert`]; an empty value removes the attribute.
    pub inert: BTreeMap<String, String>,
}

const DELAY: &str = "DelaySeconds";
const MAXIMUM_SIZE: &str = "MaximumMessageSize";
const RETENTION: &str = "MessageRetentionPeriod";
const RECEIVE_WAIT: &str = "ReceiveMessageWaitTimeSeconds";
const VISIBILITY: &str = "VisibilityTimeout";
const REDRIVE: &str = "RedrivePolicy";
const INERT: [&str; 5] = [
    "Policy",
    "KmsMasterKeyId",
    "KmsDataKeyReusePeriodSeconds",
    "SqsManagedSseEnabled",
    "RedriveAllowPolicy",
];
const FIFO: [&str; 4] = [
    "FifoQueue",
    "ContentBasedDeduplication",
    "DeduplicationScope",
    "FifoThroughputLimit",
];
const COMPUTED: [&str; 6] = [
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
    "CreatedTimestamp",
    "LastModifiedTimestamp",
    "QueueArn",
];

const DELAY_RANGE: RangeInclusive<u32> = 0..=limits::MAX_DELAY_SECS;
const SIZE_RANGE: RangeInclusive<u32> =
    limits::MIN_MAXIMUM_MESSAGE_BYTES..=limits::MAX_MESSAGE_BYTES;
const WAIT_RANGE: RangeInclusive<u32> = 0..=limits::MAX_WAIT_SECS;
const VISIBILITY_RANGE: RangeInclusive<u32> = 0..=limits::MAX_VISIBILITY_SECS;

impl AttributeChanges {
    /// Reads SQS's string map; refuses unknown names and values out of range.
    pub fn parse(attributes: &BTreeMap<String, String>) -> Result<Self, QueueError> {
        let mut changes = Self::default();
        for (name, value) in attributes {
            match name.as_str() {
                DELAY => changes.delay_secs = Some(number(DELAY, value)?),
                MAXIMUM_SIZE => changes.maximum_message_bytes = Some(number(MAXIMUM_SIZE, value)?),
                RETENTION => changes.retention_secs = Some(number(RETENTION, value)?),
                RECEIVE_WAIT => changes.receive_wait_secs = Some(number(RECEIVE_WAIT, value)?),
                VISIBILITY => changes.visibility_secs = Some(number(VISIBILITY, value)?),
                REDRIVE if value.is_empty() => changes.redrive = Some(None),
                REDRIVE => changes.redrive = Some(Some(RedrivePolicy::parse(value)?)),
                inert if INERT.contains(&inert) => {
                    changes.inert.insert(name.clone(), value.clone());
                }
                fifo if FIFO.contains(&fifo) => {
                    return Err(QueueError::parameter(
                        "Attributes",
                        format!("{fifo}: FIFO queues are not supported yet"),
                    ));
                }
                _ => return Err(QueueError::InvalidAttributeName(name.clone())),
            }
        }
        changes.check()?;
        Ok(changes)
    }

    /// Checks every value that is set against its range.
    pub(crate) fn check(&self) -> Result<(), QueueError> {
        in_range(DELAY, self.delay_secs, &DELAY_RANGE)?;
        in_range(MAXIMUM_SIZE, self.maximum_message_bytes, &SIZE_RANGE)?;
        in_range(RETENTION, self.retention_secs, &limits::RETENTION_SECS)?;
        in_range(RECEIVE_WAIT, self.receive_wait_secs, &WAIT_RANGE)?;
        in_range(VISIBILITY, self.visibility_secs, &VISIBILITY_RANGE)?;
        if let Some(Some(redrive)) = &self.redrive {
            in_range(
                REDRIVE,
                Some(redrive.max_receive_count),
                &limits::MAX_RECEIVE_COUNT,
            )?;
            redrive.target()?;
        }
        Ok(())
    }

    /// `settings` with these changes.
    pub(crate) fn applied_to(&self, settings: &QueueSettings) -> QueueSettings {
        let mut next = settings.clone();
        next.delay_secs = self.delay_secs.unwrap_or(next.delay_secs);
        next.maximum_message_bytes = self
            .maximum_message_bytes
            .unwrap_or(next.maximum_message_bytes);
        next.retention_secs = self.retention_secs.unwrap_or(next.retention_secs);
        next.receive_wait_secs = self.receive_wait_secs.unwrap_or(next.receive_wait_secs);
        next.visibility_secs = self.visibility_secs.unwrap_or(next.visibility_secs);
        if let Some(redrive) = &self.redrive {
            next.redrive.clone_from(redrive);
        }
        for (name, value) in &self.inert {
            if value.is_empty() {
                next.inert.remove(name);
            } else {
                next.inert.insert(name.clone(), value.clone());
            }
        }
        next
    }

    /// The first attribute set here whose value in `settings` is another one.
    pub(crate) fn conflict_with(&self, settings: &QueueSettings) -> Option<&'static str> {
        let wanted = self.applied_to(settings);
        [
            (DELAY, wanted.delay_secs == settings.delay_secs),
            (
                MAXIMUM_SIZE,
                wanted.maximum_message_bytes == settings.maximum_message_bytes,
            ),
            (RETENTION, wanted.retention_secs == settings.retention_secs),
            (
                RECEIVE_WAIT,
                wanted.receive_wait_secs == settings.receive_wait_secs,
            ),
            (
                VISIBILITY,
                wanted.visibility_secs == settings.visibility_secs,
            ),
            (REDRIVE, wanted.redrive == settings.redrive),
            ("Policy", wanted.inert == settings.inert),
        ]
        .into_iter()
        .find_map(|(name, same)| (!same).then_some(name))
    }
}

fn number(attribute: &'static str, value: &str) -> Result<u32, QueueError> {
    value
        .parse()
        .map_err(|_| QueueError::attribute(attribute, format!("`{value}` is no integer")))
}

fn in_range(
    attribute: &'static str,
    value: Option<u32>,
    range: &RangeInclusive<u32>,
) -> Result<(), QueueError> {
    match value {
        Some(value) if !range.contains(&value) => Err(QueueError::attribute(
            attribute,
            format!(
                "`{value}` must be from {} to {}",
                range.start(),
                range.end()
            ),
        )),
        _ => Ok(()),
    }
}

/// Everything about one queue at one moment.
#[derive(Clone, Debug)]
pub struct QueueDescription {
    /// The name.
    pub name: QueueName,
    /// `arn:aws:sqs:REGION:000000000000:NAME`.
    pub arn: String,
    /// The settings.
    pub settings: QueueSettings,
    /// Milliseconds since the Unix epoch.
    pub created_at_ms: u64,
    /// Milliseconds since the Unix epoch.
    pub modified_at_ms: u64,
    /// Messages by state.
    pub depth: Depth,
}

impl QueueDescription {
    /// SQS's string map of the attributes asked for; `All` means every one that has a value
    /// (SQS API Reference, `GetQueueAttributes`).
    pub fn attributes(&self, names: &[String]) -> Result<BTreeMap<String, String>, QueueError> {
        let every = self.all();
        let mut chosen = BTreeMap::new();
        for name in names {
            match name.as_str() {
                "All" => return Ok(every),
                known if every.contains_key(known) => {
                    chosen.insert(name.clone(), every[known].clone());
                }
                unset if unset == REDRIVE || INERT.contains(&unset) || FIFO.contains(&unset) => {}
                _ => return Err(QueueError::InvalidAttributeName(name.clone())),
            }
        }
        Ok(chosen)
    }

    fn all(&self) -> BTreeMap<String, String> {
        let settings = &self.settings;
        let [visible, in_flight, delayed, created, modified, arn] = COMPUTED;
        let pairs = [
            (visible, self.depth.visible.to_string()),
            (in_flight, self.depth.in_flight.to_string()),
            (delayed, self.depth.delayed.to_string()),
            (created, (self.created_at_ms / 1000).to_string()),
            (modified, (self.modified_at_ms / 1000).to_string()),
            (arn, self.arn.clone()),
            (DELAY, settings.delay_secs.to_string()),
            (MAXIMUM_SIZE, settings.maximum_message_bytes.to_string()),
            (RETENTION, settings.retention_secs.to_string()),
            (RECEIVE_WAIT, settings.receive_wait_secs.to_string()),
            (VISIBILITY, settings.visibility_secs.to_string()),
        ];
        let redrive = settings.redrive.iter().map(|r| (REDRIVE, r.to_json()));
        let mut all: BTreeMap<String, String> = pairs
            .into_iter()
            .chain(redrive)
            .map(|(name, v)| (name.to_owned(), v))
            .collect();
        all.extend(settings.inert.clone());
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str, value: &str) -> Result<AttributeChanges, QueueError> {
        AttributeChanges::parse(&BTreeMap::from([(name.to_owned(), value.to_owned())]))
    }

    #[test]
    fn ranges_are_inclusive_at_both_ends() {
        for (name, low, high) in [
            (DELAY, 0, 900),
            (MAXIMUM_SIZE, 1024, 1_048_576),
            (RETENTION, 60, 1_209_600),
            (RECEIVE_WAIT, 0, 20),
            (VISIBILITY, 0, 43_200),
        ] {
            assert!(parse(name, &low.to_string()).is_ok(), "{name} {low}");
            assert!(parse(name, &high.to_string()).is_ok(), "{name} {high}");
            assert!(
                parse(name, &(low - 1).to_string()).is_err(),
                "{name} below {low}"
            );
            assert!(
                parse(name, &(high + 1).to_string()).is_err(),
                "{name} above {high}"
            );
            assert!(parse(name, "many").is_err(), "{name} many");
        }
    }

    #[test]
    fn redrive_takes_a_number_or_its_text() {
        for count in ["3", "\"3\""] {
            let json = format!(
                r#"{{"deadLetterTargetArn":"arn:aws:sqs:eu-west-1:000000000000:d","maxReceiveCount":{count}}}"#
            );
            let changes = parse(REDRIVE, &json);
            let policy = changes.ok().and_then(|c| c.redrive).flatten();
            assert_eq!(policy.map(|p| p.max_receive_count), Some(3), "{count}");
        }
        for json in [
            "{}",
            "x",
            r#"{"deadLetterTargetArn":"d","maxReceiveCount":3}"#,
        ] {
            assert!(parse(REDRIVE, json).is_err(), "{json}");
        }
        for count in ["0", "1001", "\"x\""] {
            let json = format!(
                r#"{{"deadLetterTargetArn":"arn:aws:sqs:r:000000000000:d","maxReceiveCount":{count}}}"#
            );
            assert!(parse(REDRIVE, &json).is_err(), "{count}");
        }
    }
}
