//! A received message, as every queue gives it, and what a component sees of it.

use std::time::Instant;

use crate::app::QueueTrigger;
use crate::invoker::{
    BatchAttribute, BatchAttributeValue, BatchMessage, Message, MessageAttribute,
    MessageAttributeValue,
};

/// Identifies one receive of a message; a later receive has another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Receipt(pub(super) String);

/// One custom attribute.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct CustomAttribute {
    /// Its name.
    pub(super) name: String,
    /// Its SQS data type.
    pub(super) data_type: String,
    /// Its value.
    pub(super) value: AttributeValue,
}

/// The value of a custom attribute.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum AttributeValue {
    /// Types `String` and `Number`.
    Text(String),
    /// Type `Binary`.
    Binary(Vec<u8>),
}

/// What counts against the 1 MiB of a message and of a batch. SQS Developer Guide,
/// "Amazon SQS message quotas".
pub(super) fn size(body: &str, attributes: &[CustomAttribute]) -> usize {
    let attributes = attributes.iter().map(|attribute| {
        let value = match &attribute.value {
            AttributeValue::Text(text) => text.len(),
            AttributeValue::Binary(bytes) => bytes.len(),
        };
        attribute.name.len() + attribute.data_type.len() + value
    });
    body.len() + attributes.sum::<usize>()
}

/// One received message.
#[derive(Clone, Debug)]
pub(super) struct Received {
    /// The queue's id for it.
    pub(super) id: String,
    /// What deletes it, or changes its visibility.
    pub(super) receipt: Receipt,
    /// Its text.
    pub(super) body: String,
    /// System attributes.
    pub(super) system: Vec<(String, String)>,
    /// Custom attributes.
    pub(super) custom: Vec<CustomAttribute>,
    /// How often it has been received, this time included.
    pub(super) receive_count: u32,
    /// When this receive happened: the lease counts from here.
    pub(super) at: Instant,
}

impl Received {
    /// A system attribute.
    pub(super) fn system(&self, name: &str) -> Option<&str> {
        self.system
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    /// Its message group, if it has one.
    pub(super) fn group(&self) -> Option<&str> {
        self.system("MessageGroupId")
    }

    /// Bytes of its text and its custom attributes.
    pub(super) fn size(&self) -> usize {
        size(&self.body, &self.custom)
    }

    /// What a component gets of it that handles batches.
    pub(super) fn for_batch(&self, trigger: &QueueTrigger) -> BatchMessage {
        let Message {
            message_attributes, ..
        } = self.for_component(trigger);
        let attribute = |attribute: MessageAttribute| BatchAttribute {
            name: attribute.name,
            data_type: attribute.data_type,
            value: match attribute.value {
                MessageAttributeValue::Str(text) => BatchAttributeValue::Text(text),
                MessageAttributeValue::Binary(bytes) => BatchAttributeValue::Binary(bytes),
            },
        };
        let millis = |name| self.system(name).and_then(|text| text.parse().ok());
        BatchMessage {
            id: self.id.clone(),
            body: self.body.clone(),
            attributes: message_attributes.into_iter().map(attribute).collect(),
            receive_count: self.receive_count,
            sent_at: millis("SentTimestamp"),
            first_received_at: millis("ApproximateFirstReceiveTimestamp"),
            group_id: self.group().map(str::to_owned),
        }
    }

    /// The message that the component of `trigger` gets: with the attributes
    /// that the trigger asks for, system attributes first, as on stock Spin.
    pub(super) fn for_component(&self, trigger: &QueueTrigger) -> Message {
        let system = self
            .system
            .iter()
            .filter(|(name, _)| asked_for(&trigger.system_attributes, name))
            .map(|(name, value)| MessageAttribute {
                name: name.clone(),
                data_type: None,
                value: MessageAttributeValue::Str(value.clone()),
            });
        let custom = self
            .custom
            .iter()
            .filter(|attribute| asked_for(&trigger.message_attributes, &attribute.name))
            .map(|attribute| MessageAttribute {
                name: attribute.name.clone(),
                data_type: Some(attribute.data_type.clone()),
                value: match &attribute.value {
                    AttributeValue::Text(text) => MessageAttributeValue::Str(text.clone()),
                    AttributeValue::Binary(bytes) => MessageAttributeValue::Binary(bytes.clone()),
                },
            });
        Message {
            id: Some(self.id.clone()),
            message_attributes: system.chain(custom).collect(),
            body: Some(self.body.clone()),
        }
    }
}

/// `All`, `.*`, `prefix.*` or a name. SQS API Reference, `ReceiveMessage`.
fn asked_for(patterns: &[String], name: &str) -> bool {
    patterns.iter().any(|pattern| match pattern.as_str() {
        "All" | ".*" => true,
        pattern => match pattern.strip_suffix(".*") {
            Some(prefix) => name.starts_with(prefix),
            None => pattern == name,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::asked_for;

    #[test]
    fn attribute_names_match_as_in_sqs() {
        let patterns = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        assert!(asked_for(&patterns(&["All"]), "x"));
        assert!(asked_for(&patterns(&["trace.*"]), "trace.id"));
        assert!(asked_for(&patterns(&["a", "b"]), "b"));
        assert!(!asked_for(&patterns(&["a", "trace.*"]), "b"));
        assert!(!asked_for(&[], "b"));
    }
}
