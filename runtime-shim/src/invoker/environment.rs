//! What a program finds in its environment about the message or the tick that it
//! was started for: docs/guides/any-language.md has the table. Pure.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Delivery, MessageAttribute, MessageAttributeValue};

/// Bytes of the value of one attribute.
const MAX_VALUE: usize = 16 * 1024;
/// Bytes of all attributes, names included: more than the ten that SQS allows
/// a message could take.
const MAX_ATTRIBUTES: usize = 256 * 1024;

/// The variables of a program that is started for a message.
pub(super) fn of_message(delivery: &Delivery<'_>) -> Vec<(String, String)> {
    let message = delivery.message;
    let mut variables = vec![
        variable("TRIGGER", "sqs"),
        variable("QUEUE", delivery.queue),
        variable("RECEIVE_COUNT", &delivery.receive_count.to_string()),
        variable("MESSAGE_ID", message.id.as_deref().unwrap_or_default()),
    ];
    let (attributes, omitted) = of_attributes(&message.message_attributes);
    variables.extend(attributes);
    if !omitted.is_empty() {
        variables.push(variable("OMITTED", &omitted.join(" ")));
    }
    variables
}

/// The variables of a program that is started on its schedule.
pub(super) fn of_tick(timestamp: u64) -> Vec<(String, String)> {
    vec![
        variable("TRIGGER", "cron"),
        variable("TIMESTAMP", &timestamp.to_string()),
    ]
}

fn variable(name: &str, value: &str) -> (String, String) {
    (format!("GRISTMILL_{name}"), value.to_owned())
}

/// The variables of attributes, and the names of those that are left out: for
/// their size, or because several attributes would have the same name, of which
/// none may pass for another.
fn of_attributes(attributes: &[MessageAttribute]) -> (Vec<(String, String)>, Vec<String>) {
    let mut by_name: BTreeMap<String, Vec<&MessageAttribute>> = BTreeMap::new();
    for attribute in attributes {
        let same = by_name.entry(name_of(attribute)).or_default();
        same.push(attribute);
    }
    let (mut variables, mut omitted) = (Vec::new(), Vec::new());
    let mut room = MAX_ATTRIBUTES;
    for (name, attributes) in by_name {
        let value = match attributes.as_slice() {
            [attribute] => value_of(attribute),
            _ => None,
        };
        let size = value.as_ref().map(|value| name.len() + value.len());
        match (value, size.and_then(|size| room.checked_sub(size))) {
            (Some(value), Some(left)) => {
                room = left;
                variables.push((name, value));
            }
            _ => omitted.push(name),
        }
    }
    (variables, omitted)
}

/// As CGI does it with headers: capital letters and digits, and `_` for the rest.
fn name_of(attribute: &MessageAttribute) -> String {
    // The queue's own have no type.
    let kind = match attribute.data_type {
        Some(_) => "GRISTMILL_ATTRIBUTE_",
        None => "GRISTMILL_SYSTEM_ATTRIBUTE_",
    };
    let encoding = match attribute.value {
        MessageAttributeValue::Str(_) => "",
        MessageAttributeValue::Binary(_) => "_BASE64",
    };
    let name = attribute.name.chars().map(|character| match character {
        'a'..='z' | 'A'..='Z' | '0'..='9' => character.to_ascii_uppercase(),
        _ => '_',
    });
    let name: String = name.collect();
    format!("{kind}{name}{encoding}")
}

/// Nothing where it is too long, or would end early for a program in C.
fn value_of(attribute: &MessageAttribute) -> Option<String> {
    let value = match &attribute.value {
        MessageAttributeValue::Str(text) if text.len() <= MAX_VALUE => text.clone(),
        MessageAttributeValue::Binary(bytes) if bytes.len() <= MAX_VALUE => STANDARD.encode(bytes),
        _ => return None,
    };
    (value.len() <= MAX_VALUE && !value.contains('\0')).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::super::Message;
    use super::*;

    fn text(name: &str, value: &str) -> MessageAttribute {
        MessageAttribute {
            name: name.to_owned(),
            data_type: Some("String".to_owned()),
            value: MessageAttributeValue::Str(value.to_owned()),
        }
    }

    fn binary(name: &str, bytes: &[u8]) -> MessageAttribute {
        MessageAttribute {
            value: MessageAttributeValue::Binary(bytes.to_vec()),
            ..text(name, "")
        }
    }

    fn system(name: &str, value: &str) -> MessageAttribute {
        MessageAttribute {
            data_type: None,
            ..text(name, value)
        }
    }

    fn environment(message_attributes: Vec<MessageAttribute>) -> Vec<(String, String)> {
        let message = Message {
            id: Some("an-id".to_owned()),
            message_attributes,
            body: None,
        };
        let mut variables = of_message(&Delivery {
            message: &message,
            queue: "jobs",
            receive_count: 2,
        });
        let attributes = variables.split_off(4);
        let fixed = [
            ("GRISTMILL_TRIGGER", "sqs"),
            ("GRISTMILL_QUEUE", "jobs"),
            ("GRISTMILL_RECEIVE_COUNT", "2"),
            ("GRISTMILL_MESSAGE_ID", "an-id"),
        ];
        assert_eq!(variables, owned(&fixed));
        attributes
    }

    fn owned(variables: &[(&str, &str)]) -> Vec<(String, String)> {
        variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn names_become_names_of_variables() {
        let attributes = vec![
            text("trace.id-2", "7"),
            binary("blob", &[0, 1, 255]),
            system("SentTimestamp", "17"),
            text("SentTimestamp", "forged"),
            text("größe", "XL"),
        ];
        let expected = [
            ("GRISTMILL_ATTRIBUTE_BLOB_BASE64", "AAH/"),
            ("GRISTMILL_ATTRIBUTE_GR__E", "XL"),
            ("GRISTMILL_ATTRIBUTE_SENTTIMESTAMP", "forged"),
            ("GRISTMILL_ATTRIBUTE_TRACE_ID_2", "7"),
            ("GRISTMILL_SYSTEM_ATTRIBUTE_SENTTIMESTAMP", "17"),
        ];
        assert_eq!(environment(attributes), owned(&expected));
    }

    #[test]
    fn of_attributes_with_one_name_none_is_set() {
        for [one, other] in [
            [text("trace.id", "1"), text("trace_ID", "2")],
            [binary("blob", b"1"), text("blob_base64", "Mg==")],
        ] {
            let name = name_of(&one);
            let expected = [("GRISTMILL_OMITTED", name.as_str())];
            assert_eq!(environment(vec![one, other]), owned(&expected));
        }
    }

    #[test]
    fn what_is_too_large_is_named() {
        let most = "x".repeat(MAX_VALUE);
        let more = format!("{most}x");
        let set = environment(vec![text("a", &most)]);
        assert_eq!(set, owned(&[("GRISTMILL_ATTRIBUTE_A", &most)]));
        let omitted = environment(vec![
            text("b", &more),
            binary("c", most.as_bytes()),
            text("d", "ends\0here"),
        ]);
        let names = "GRISTMILL_ATTRIBUTE_B GRISTMILL_ATTRIBUTE_C_BASE64 GRISTMILL_ATTRIBUTE_D";
        assert_eq!(omitted, owned(&[("GRISTMILL_OMITTED", names)]));

        let many = (0..20).map(|n| text(&format!("n{n}"), &most)).collect();
        let set = environment(many);
        let all: usize = set.iter().map(|(_, value)| value.len()).sum();
        assert!(all <= MAX_ATTRIBUTES + 1024, "{all}");
        assert_eq!(
            set.last().map(|(name, _)| name.as_str()),
            Some("GRISTMILL_OMITTED")
        );
    }
}
