//! A message on its way to a queue, and the attributes that a command line gives it.

use std::str::FromStr;
use std::sync::Arc;

use crate::queue::message::{AttributeValue, CustomAttribute, size};
use crate::queue::source::{MAX_ATTRIBUTES, MAX_MESSAGE_BYTES};

/// The longest delay. SQS API Reference, `SendMessage`.
pub const MAX_DELAY_SECS: u16 = 900;

/// One message to send.
#[derive(Clone, Debug)]
pub(in crate::queue) struct Outgoing {
    pub(in crate::queue) body: Arc<str>,
    pub(in crate::queue) attributes: Arc<[CustomAttribute]>,
    pub(in crate::queue) trace_header: Option<String>,
    pub(in crate::queue) delay_secs: Option<u16>,
    pub(in crate::queue) group: Option<String>,
    pub(in crate::queue) dedup_id: Option<String>,
}

impl Outgoing {
    /// Bytes of its text and its attributes.
    pub(super) fn size(&self) -> usize {
        size(&self.body, &self.attributes)
    }

    /// What no queue would take, and what would spoil the batch that it is in.
    pub(super) fn flaw(&self) -> Option<String> {
        let size = self.size();
        if self.body.is_empty() {
            Some("the body is empty".to_owned())
        } else if size > MAX_MESSAGE_BYTES {
            Some(format!(
                "{size} bytes with attributes, allowed are {MAX_MESSAGE_BYTES}"
            ))
        } else if self.attributes.len() > MAX_ATTRIBUTES {
            let count = self.attributes.len();
            Some(format!("{count} attributes, allowed are {MAX_ATTRIBUTES}"))
        } else {
            None
        }
    }
}

/// `NAME[:TYPE]=VALUE`.
#[derive(Clone, Debug, PartialEq)]
pub struct GivenAttribute(CustomAttribute);

impl GivenAttribute {
    /// What `--attribute` may say.
    pub const FORM: &str = "NAME[:TYPE]=VALUE";

    pub(super) fn into_custom(self) -> CustomAttribute {
        self.0
    }
}

impl FromStr for GivenAttribute {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text
            .split_once('=')
            .ok_or_else(|| format!("`{text}` is not `{}`", Self::FORM))?;
        let (name, data_type) = key.split_once(':').unwrap_or((key, "String"));
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if name.is_empty() || name.len() > 256 || !name.chars().all(allowed) {
            return Err(format!(
                "`{name}` is not a valid name: use up to 256 letters, digits, `_`, `-` and `.`"
            ));
        }
        match data_type.split('.').next() {
            Some("String") => {}
            Some("Number") if value.parse::<f64>().is_ok_and(f64::is_finite) => {}
            Some("Number") => return Err(format!("`{value}` is not a number")),
            _ => {
                return Err(format!(
                    "`{data_type}` is not a type: use `String` or `Number`, with a label of your \
                     own after a `.` if you like"
                ));
            }
        }
        if value.is_empty() {
            return Err(format!("attribute `{name}` has no value"));
        }
        Ok(Self(CustomAttribute {
            name: name.to_owned(),
            data_type: data_type.to_owned(),
            value: AttributeValue::Text(value.to_owned()),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_have_a_name_a_type_and_a_value() {
        let check = |text: &str, name: &str, data_type: &str, value: &str| {
            let given: GivenAttribute = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(
                given.into_custom(),
                CustomAttribute {
                    name: name.to_owned(),
                    data_type: data_type.to_owned(),
                    value: AttributeValue::Text(value.to_owned()),
                }
            );
        };
        check("kind=invoice", "kind", "String", "invoice");
        check("kind=a=b:c", "kind", "String", "a=b:c");
        check("size:Number=-1.5", "size", "Number", "-1.5");
        check("size:Number.kg=2", "size", "Number.kg", "2");
        for (bad, reason) in [
            ("kind", "is not `NAME[:TYPE]=VALUE`"),
            ("=x", "not a valid name"),
            ("a b=x", "not a valid name"),
            ("a=", "has no value"),
            ("a:Number=x", "`x` is not a number"),
            ("a:Number=inf", "`inf` is not a number"),
            ("a:Binary=x", "`Binary` is not a type"),
        ] {
            let error = bad.parse::<GivenAttribute>().expect_err(bad);
            assert!(error.contains(reason), "{bad}: {error}");
        }
    }

    #[test]
    fn a_message_that_no_queue_takes_says_why() {
        let message = |body: String, attributes: Vec<CustomAttribute>| Outgoing {
            body: body.into(),
            attributes: attributes.into(),
            trace_header: None,
            delay_secs: None,
            group: None,
            dedup_id: None,
        };
        let attribute = || {
            let given: GivenAttribute = "n=v".parse().expect("valid");
            given.into_custom()
        };
        let longest = MAX_MESSAGE_BYTES - "nStringv".len();
        assert_eq!(message("x".repeat(longest), vec![attribute()]).flaw(), None);
        let cases = [
            (message(String::new(), vec![]), "empty"),
            (
                message("x".repeat(longest + 1), vec![attribute()]),
                "1048577 bytes",
            ),
            (
                message("x".to_owned(), vec![attribute(); 11]),
                "11 attributes",
            ),
        ];
        for (message, reason) in cases {
            let flaw = message.flaw().expect("a flaw");
            assert!(flaw.contains(reason), "{flaw}");
        }
    }
}
