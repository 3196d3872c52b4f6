//! Queue attributes: their names, ranges and defaults, and the redrive policy.
//! Owns the way between SQS's string map and typed settings; refuses to know where they are kept.
//! Source: SQS API Reference, `CreateQueue` and `SetQueueAttributes`.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::errors::QueueError;
use crate::limits;
use crate::model::{Depth, INVALID_FIFO_NAME, INVALID_NAME, QueueName};
use crate::policy;

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
    /// `RedriveAllowPolicy`; without one, every queue may name this one as its dead-letter queue.
    #[serde(default)]
    pub redrive_allow: Option<RedriveAllowPolicy>,
    /// What only FIFO queues have.
    #[serde(default)]
    pub fifo: Option<FifoSettings>,
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
            redrive_allow: None,
            fifo: None,
            inert: BTreeMap::new(),
        }
    }
}

impl QueueSettings {
    /// The defaults of `CreateQueue` for a queue of this name.
    pub(crate) fn default_of(name: &QueueName) -> Self {
        Self {
            fifo: name.is_fifo().then(FifoSettings::default),
            ..Self::default()
        }
    }
}

/// The settings that only FIFO queues have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FifoSettings {
    /// `ContentBasedDeduplication`: a message without deduplication id has its body's SHA-256.
    pub content_based_deduplication: bool,
    /// `DeduplicationScope`.
    pub deduplication_scope: DeduplicationScope,
    /// `FifoThroughputLimit`; has no effect here, where throughput has no quota.
    pub throughput_limit: ThroughputLimit,
}

/// Within what a deduplication id is unique.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DeduplicationScope {
    /// The queue.
    #[default]
    Queue,
    /// The message's group.
    MessageGroup,
}

/// What SQS's throughput quota counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ThroughputLimit {
    /// The queue.
    #[default]
    PerQueue,
    /// Each message group; only with [`DeduplicationScope::MessageGroup`].
    PerMessageGroupId,
}

impl DeduplicationScope {
    fn parse(value: &str) -> Result<Self, QueueError> {
        match value {
            "queue" => Ok(Self::Queue),
            "messageGroup" => Ok(Self::MessageGroup),
            _ => Err(QueueError::attribute(
                SCOPE,
                format!("`{value}` must be queue or messageGroup"),
            )),
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::MessageGroup => "messageGroup",
        }
    }
}

impl ThroughputLimit {
    fn parse(value: &str) -> Result<Self, QueueError> {
        match value {
            "perQueue" => Ok(Self::PerQueue),
            "perMessageGroupId" => Ok(Self::PerMessageGroupId),
            _ => Err(QueueError::attribute(
                THROUGHPUT,
                format!("`{value}` must be perQueue or perMessageGroupId"),
            )),
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::PerQueue => "perQueue",
            Self::PerMessageGroupId => "perMessageGroupId",
        }
    }
}

/// Which queues may name this one as their dead-letter queue
/// (SQS API Reference, `SetQueueAttributes`, `RedriveAllowPolicy`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RedriveAllowPolicy {
    /// All, none, or those in `source_queue_arns`.
    pub redrive_permission: RedrivePermission,
    /// The ARNs of the queues that may; with [`RedrivePermission::ByQueue`] 1 to 10.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub source_queue_arns: Vec<String>,
}

/// See [`RedriveAllowPolicy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RedrivePermission {
    /// Every queue.
    AllowAll,
    /// No queue.
    DenyAll,
    /// The queues that are named.
    ByQueue,
}

impl RedriveAllowPolicy {
    fn parse(json: &str) -> Result<Self, QueueError> {
        let policy: Self = serde_json::from_str(json).map_err(|error| {
            QueueError::attribute(
                REDRIVE_ALLOW,
                format!("not a redrive allow policy: {error}"),
            )
        })?;
        policy.check().map(|()| policy)
    }

    fn check(&self) -> Result<(), QueueError> {
        let count = self.source_queue_arns.len();
        let fits = match self.redrive_permission {
            RedrivePermission::ByQueue => (1..=limits::MAX_REDRIVE_SOURCES).contains(&count),
            RedrivePermission::AllowAll | RedrivePermission::DenyAll => count == 0,
        };
        if fits {
            return Ok(());
        }
        Err(QueueError::attribute(
            REDRIVE_ALLOW,
            format!("{count} sourceQueueArns: byQueue takes 1 to 10, allowAll and denyAll none"),
        ))
    }

    /// Whether the queue of this name may be a source.
    pub(crate) fn allows(&self, source: &QueueName) -> bool {
        match self.redrive_permission {
            RedrivePermission::AllowAll => true,
            RedrivePermission::DenyAll => false,
            RedrivePermission::ByQueue => self
                .source_queue_arns
                .iter()
                .any(|arn| QueueName::from_arn(arn).as_ref() == Some(source)),
        }
    }

    fn to_json(&self) -> String {
        let permission = match self.redrive_permission {
            RedrivePermission::AllowAll => "allowAll",
            RedrivePermission::DenyAll => "denyAll",
            RedrivePermission::ByQueue => "byQueue",
        };
        let mut json = serde_json::json!({ "redrivePermission": permission });
        if !self.source_queue_arns.is_empty() {
            json["sourceQueueArns"] = self.source_queue_arns.clone().into();
        }
        json.to_string()
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
        QueueName::from_arn(&self.target_arn).ok_or_else(|| {
            self.refusal(
                "Dead-letter target ARN should be fully qualified ARN: \
                 arn:aws:sqs:REGION:000000000000:NAME.",
            )
        })
    }

    /// Why this policy cannot be a queue's.
    pub(crate) fn refusal(&self, reason: &str) -> QueueError {
        QueueError::parameter(REDRIVE, self.to_json(), reason)
    }

    fn parse(json: &str) -> Result<Self, QueueError> {
        let refuse = |reason: String| QueueError::parameter(REDRIVE, json, reason);
        let map: BTreeMap<String, serde_json::Value> =
            serde_json::from_str(json).map_err(|_| {
                QueueError::attribute(REDRIVE, "Redrive policy is not a valid JSON map.")
            })?;
        let member = |name: &str| {
            map.get(name).ok_or_else(|| {
                refuse(format!(
                    "Redrive policy does not contain mandatory attribute: {name}."
                ))
            })
        };
        let (count, target) = (member(COUNT_KEY)?, member(TARGET_KEY)?);
        if map.len() > 2 {
            return Err(refuse(format!(
                "Only following attributes are supported: [{TARGET_KEY}, {COUNT_KEY}]."
            )));
        }
        // Infrastructure tools write the count both ways.
        let number = match count {
            serde_json::Value::String(text) => text.parse().ok(),
            other => other.as_u64(),
        };
        let max_receive_count = number
            .and_then(|count| u32::try_from(count).ok())
            .filter(|count| limits::MAX_RECEIVE_COUNT.contains(count))
            .ok_or_else(|| {
                refuse(format!(
                    "Invalid value for maxReceiveCount: {count}, valid values are from 1 to 1000 \
                     both inclusive."
                ))
            })?;
        let policy = Self {
            target_arn: target.as_str().unwrap_or_default().to_owned(),
            max_receive_count,
        };
        policy.target()?;
        Ok(policy)
    }

    fn to_json(&self) -> String {
        serde_json::json!({
            TARGET_KEY: self.target_arn,
            COUNT_KEY: self.max_receive_count,
        })
        .to_string()
    }
}

const TARGET_KEY: &str = "deadLetterTargetArn";
const COUNT_KEY: &str = "maxReceiveCount";

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
    /// See [`QueueSettings::redrive_allow`]; `Some(None)` removes the policy.
    pub redrive_allow: Option<Option<RedriveAllowPolicy>>,
    /// `FifoQueue`: `Some(true)` is required to create a queue whose name ends with `.fifo`.
    pub fifo: Option<bool>,
    /// See [`FifoSettings::content_based_deduplication`].
    pub content_based_deduplication: Option<bool>,
    /// See [`FifoSettings::deduplication_scope`].
    pub deduplication_scope: Option<DeduplicationScope>,
    /// See [`FifoSettings::throughput_limit`].
    pub throughput_limit: Option<ThroughputLimit>,
    /// See [`QueueSettings::inert`]; an empty value removes the attribute.
    pub inert: BTreeMap<String, String>,
}

const DELAY: &str = "DelaySeconds";
const MAXIMUM_SIZE: &str = "MaximumMessageSize";
const RETENTION: &str = "MessageRetentionPeriod";
const RECEIVE_WAIT: &str = "ReceiveMessageWaitTimeSeconds";
const VISIBILITY: &str = "VisibilityTimeout";
const REDRIVE: &str = "RedrivePolicy";
const REDRIVE_ALLOW: &str = "RedriveAllowPolicy";
const FIFO_QUEUE: &str = "FifoQueue";
const CONTENT_BASED: &str = "ContentBasedDeduplication";
const SCOPE: &str = "DeduplicationScope";
const THROUGHPUT: &str = "FifoThroughputLimit";
const KMS_REUSE: &str = "KmsDataKeyReusePeriodSeconds";
const MANAGED_SSE: &str = "SqsManagedSseEnabled";
/// The access policy: kept and returned, and changed by `AddPermission`.
pub(crate) const POLICY: &str = "Policy";
const INERT: [&str; 4] = [POLICY, "KmsMasterKeyId", KMS_REUSE, MANAGED_SSE];
/// Attributes that a queue may be without.
const OPTIONAL: [&str; 6] = [
    REDRIVE,
    REDRIVE_ALLOW,
    FIFO_QUEUE,
    CONTENT_BASED,
    SCOPE,
    THROUGHPUT,
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
const KMS_REUSE_RANGE: RangeInclusive<u32> = 60..=86_400;

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
                REDRIVE_ALLOW if value.is_empty() => changes.redrive_allow = Some(None),
                REDRIVE_ALLOW => {
                    changes.redrive_allow = Some(Some(RedriveAllowPolicy::parse(value)?));
                }
                FIFO_QUEUE => changes.fifo = Some(boolean(FIFO_QUEUE, value)?),
                CONTENT_BASED => {
                    changes.content_based_deduplication = Some(boolean(CONTENT_BASED, value)?);
                }
                SCOPE => changes.deduplication_scope = Some(DeduplicationScope::parse(value)?),
                THROUGHPUT => changes.throughput_limit = Some(ThroughputLimit::parse(value)?),
                inert if INERT.contains(&inert) => {
                    check_inert(inert, value)?;
                    changes.inert.insert(name.clone(), value.clone());
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
        match &self.redrive_allow {
            Some(Some(policy)) => policy.check(),
            _ => Ok(()),
        }
    }

    /// Checks what a new queue's name and `FifoQueue` say of each other.
    pub(crate) fn check_new(&self, name: &QueueName) -> Result<(), QueueError> {
        match (name.is_fifo(), self.fifo) {
            (true, Some(true)) | (false, None) => self.check_kind(name),
            (true, _) => Err(QueueError::InvalidParameter(INVALID_NAME.to_owned())),
            (false, Some(true)) => Err(QueueError::InvalidParameter(INVALID_FIFO_NAME.to_owned())),
            // SQS knows the attribute with the value true only.
            (false, Some(false)) => Err(QueueError::InvalidAttributeName(FIFO_QUEUE.to_owned())),
        }
    }

    /// Refuses a FIFO queue's attributes on a standard queue, and a change of the kind.
    pub(crate) fn check_kind(&self, name: &QueueName) -> Result<(), QueueError> {
        if name.is_fifo() {
            return if self.fifo == Some(false) {
                Err(QueueError::attribute(
                    FIFO_QUEUE,
                    "Modifying queue type is not supported.",
                ))
            } else {
                Ok(())
            };
        }
        if self.fifo.is_some() {
            return Err(QueueError::InvalidAttributeName(FIFO_QUEUE.to_owned()));
        }
        if self.content_based_deduplication.is_some() {
            return Err(QueueError::InvalidAttributeName(CONTENT_BASED.to_owned()));
        }
        let scope = self.deduplication_scope.map(|_| SCOPE);
        match scope.or(self.throughput_limit.map(|_| THROUGHPUT)) {
            Some(attribute) => Err(QueueError::FifoAttribute(attribute)),
            None => Ok(()),
        }
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
        if let Some(allow) = &self.redrive_allow {
            next.redrive_allow.clone_from(allow);
            // Where schema version 1 kept it, without effect.
            next.inert.remove(REDRIVE_ALLOW);
        }
        if let Some(fifo) = &mut next.fifo {
            fifo.content_based_deduplication = self
                .content_based_deduplication
                .unwrap_or(fifo.content_based_deduplication);
            fifo.deduplication_scope = self.deduplication_scope.unwrap_or(fifo.deduplication_scope);
            fifo.throughput_limit = self.throughput_limit.unwrap_or(fifo.throughput_limit);
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
        let (new, old) = (
            wanted.fifo.unwrap_or_default(),
            settings.fifo.unwrap_or_default(),
        );
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
            (
                REDRIVE_ALLOW,
                wanted.redrive_allow == settings.redrive_allow,
            ),
            (
                CONTENT_BASED,
                new.content_based_deduplication == old.content_based_deduplication,
            ),
            (SCOPE, new.deduplication_scope == old.deduplication_scope),
            (THROUGHPUT, new.throughput_limit == old.throughput_limit),
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

fn boolean(attribute: &'static str, value: &str) -> Result<bool, QueueError> {
    match value.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(QueueError::attribute(
            attribute,
            format!("`{value}` must be true or false"),
        )),
    }
}

/// Attributes without effect here are kept only in a form that SQS would take, too.
fn check_inert(attribute: &str, value: &str) -> Result<(), QueueError> {
    match attribute {
        _ if value.is_empty() => Ok(()),
        KMS_REUSE => in_range(KMS_REUSE, Some(number(KMS_REUSE, value)?), &KMS_REUSE_RANGE),
        MANAGED_SSE => boolean(MANAGED_SSE, value).map(drop),
        POLICY => policy::check(value),
        _ => Ok(()),
    }
}

/// Refuses settings whose parts contradict each other.
pub(crate) fn check_together(settings: &QueueSettings) -> Result<(), QueueError> {
    let contradicts = settings.fifo.is_some_and(|fifo| {
        fifo.throughput_limit == ThroughputLimit::PerMessageGroupId
            && fifo.deduplication_scope == DeduplicationScope::Queue
    });
    if contradicts {
        return Err(QueueError::attribute(
            THROUGHPUT,
            "The perMessageGroupId value is allowed only when the value for DeduplicationScope is \
             messageGroup.",
        ));
    }
    Ok(())
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
                unset if OPTIONAL.contains(&unset) || INERT.contains(&unset) => {}
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
        let allow = settings.redrive_allow.iter();
        let allow = allow.map(|policy| (REDRIVE_ALLOW, policy.to_json()));
        let fifo = settings.fifo.iter().flat_map(|fifo| {
            [
                (FIFO_QUEUE, true.to_string()),
                (CONTENT_BASED, fifo.content_based_deduplication.to_string()),
                (SCOPE, fifo.deduplication_scope.as_str().to_owned()),
                (THROUGHPUT, fifo.throughput_limit.as_str().to_owned()),
            ]
        });
        let mut all = settings.inert.clone();
        let typed = pairs.into_iter().chain(redrive).chain(allow).chain(fifo);
        all.extend(typed.map(|(name, value)| (name.to_owned(), value)));
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
