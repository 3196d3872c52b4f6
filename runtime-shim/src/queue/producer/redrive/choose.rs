//! Which dead letters to move, by their reason and by filters, and what is sent for
//! one.

use serde::Deserialize;

use super::super::{Outgoing, ProducerError};
use crate::app::Filters;
use crate::cli::RedriveArgs;
use crate::queue::message::{AttributeValue, Received};
use crate::queue::source::REASON_ATTRIBUTE;

/// What a dead letter must be like.
#[derive(Debug, Default)]
pub(super) struct Choice {
    component: Option<String>,
    error: Option<String>,
    filters: Option<Filters>,
}

/// The part of `gristmill.reason` that is asked about.
#[derive(Debug, Default, Deserialize)]
struct Reason {
    #[serde(default)]
    component: String,
    #[serde(default)]
    error: String,
}

impl Choice {
    pub(super) fn new(args: &RedriveArgs) -> Result<Self, ProducerError> {
        let filters = args.filter.as_ref().map(Filters::parse).transpose()?;
        Ok(Self {
            component: args.component.as_ref().map(ToString::to_string),
            error: args.error.clone(),
            filters,
        })
    }

    /// Whether `message` is to be moved.
    pub(super) fn takes(&self, message: &Received) -> bool {
        self.takes_reason(message)
            && self
                .filters
                .as_ref()
                .is_none_or(|filters| filters.matches(message))
    }

    /// A message that the queue's own redrive moved has no reason.
    fn takes_reason(&self, message: &Received) -> bool {
        if self.component.is_none() && self.error.is_none() {
            return true;
        }
        let reason = message.custom.iter().find(|a| a.name == REASON_ATTRIBUTE);
        let Some(AttributeValue::Text(reason)) = reason.map(|attribute| &attribute.value) else {
            return false;
        };
        let reason: Reason = serde_json::from_str(reason).unwrap_or_default();
        self.component
            .as_ref()
            .is_none_or(|c| *c == reason.component)
            && self.error.as_ref().is_none_or(|e| reason.error.contains(e))
    }
}

/// A copy of `message` without its reason. To a FIFO queue it goes once, however
/// often it is sent within five minutes: its id is that of the dead letter.
pub(super) fn copy(message: &Received, to_fifo: bool) -> Outgoing {
    let kept = message.custom.iter().filter(|a| a.name != REASON_ATTRIBUTE);
    let group = message.system("MessageGroupId").map(str::to_owned);
    Outgoing {
        body: message.body.as_str().into(),
        attributes: kept.cloned().collect(),
        trace_header: message.system("AWSTraceHeader").map(str::to_owned),
        delay_secs: None,
        // A message without a group is a group of its own.
        group: group.or_else(|| to_fifo.then(|| message.id.clone())),
        dedup_id: to_fifo.then(|| format!("redrive-{}", message.id)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use serde_json::{Value, json};

    use super::*;
    use crate::queue::message::{CustomAttribute, Receipt};

    fn dead_letter(reason: Option<&str>) -> Received {
        let attribute = |name: &str, value: &str| CustomAttribute {
            name: name.to_owned(),
            data_type: "String".to_owned(),
            value: AttributeValue::Text(value.to_owned()),
        };
        let reason = reason.map(|reason| attribute(REASON_ATTRIBUTE, reason));
        Received {
            id: "1".to_owned(),
            receipt: Receipt("r".to_owned()),
            body: "{\"n\": 1}".to_owned(),
            system: vec![("AWSTraceHeader".to_owned(), "Root=1".to_owned())],
            custom: reason.into_iter().chain([attribute("k", "v")]).collect(),
            receive_count: 1,
            at: Instant::now(),
        }
    }

    #[test]
    fn dead_letters_are_chosen_by_reason_and_filter() {
        let reason = json!({"component": "worker", "error": "no such order: 7"}).to_string();
        let check = |choice: Choice, reason: Option<&str>, expected: bool| {
            assert_eq!(
                choice.takes(&dead_letter(reason)),
                expected,
                "{choice:?} {reason:?}"
            );
        };
        let by = |component: Option<&str>, error: Option<&str>| Choice {
            component: component.map(str::to_owned),
            error: error.map(str::to_owned),
            filters: None,
        };
        check(Choice::default(), None, true);
        check(by(Some("worker"), None), Some(&reason), true);
        check(by(Some("other"), None), Some(&reason), false);
        check(by(None, Some("such order")), Some(&reason), true);
        check(by(Some("worker"), Some("timeout")), Some(&reason), false);
        check(by(Some("worker"), None), None, false);
        check(by(None, Some("x")), Some("not JSON"), false);
        let filtered = |filter: Value| Choice {
            filters: Some(Filters::parse(&filter).expect("valid")),
            ..Choice::default()
        };
        check(filtered(json!({"body": {"n": [1]}})), None, true);
        check(filtered(json!({"body": {"n": [2]}})), None, false);
    }

    #[test]
    fn a_copy_has_everything_but_the_reason() {
        let message = dead_letter(Some("{}"));
        let plain = copy(&message, false);
        assert_eq!(&*plain.body, "{\"n\": 1}");
        assert_eq!(plain.attributes.len(), 1);
        assert_eq!(plain.attributes[0].name, "k");
        assert_eq!(plain.trace_header.as_deref(), Some("Root=1"));
        assert_eq!((plain.group, plain.dedup_id), (None, None));
        let fifo = copy(&message, true);
        assert_eq!(fifo.group.as_deref(), Some("1"));
        assert_eq!(fifo.dedup_id.as_deref(), Some("redrive-1"));
    }
}
