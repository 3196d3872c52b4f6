//! MD5 digests as SQS returns them and as its clients check them.
//! Owns the byte layout; refuses to know where a message comes from.
//! Source: SQS Developer Guide, "Calculating the MD5 message digest for message attributes".

use std::collections::BTreeMap;
use std::fmt;

use md5::{Digest as _, Md5};

use crate::model::{AttributeValue, MessageAttribute};

/// An MD5 digest; displayed as 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Md5Digest(pub(crate) [u8; 16]);

impl Md5Digest {
    /// The digest of a message body's UTF-8 bytes (`MD5OfMessageBody`).
    pub fn of_body(body: &str) -> Self {
        Self(Md5::digest(body.as_bytes()).into())
    }

    /// The digest of message attributes (`MD5OfMessageAttributes`, and of system attributes
    /// `MD5OfMessageSystemAttributes`); `None` without attributes, as SQS leaves the field out.
    pub fn of_attributes(attributes: &BTreeMap<String, MessageAttribute>) -> Option<Self> {
        if attributes.is_empty() {
            return None;
        }
        let mut md5 = Md5::new();
        // A BTreeMap iterates in the order of the names' bytes, which is the order SQS asks for.
        for (name, attribute) in attributes {
            with_length(&mut md5, name.as_bytes());
            with_length(&mut md5, attribute.data_type().as_bytes());
            match attribute.value() {
                AttributeValue::Text(text) => {
                    md5.update([1]);
                    with_length(&mut md5, text.as_bytes());
                }
                AttributeValue::Binary(bytes) => {
                    md5.update([2]);
                    with_length(&mut md5, bytes);
                }
            }
        }
        Some(Self(md5.finalize().into()))
    }
}

fn with_length(md5: &mut Md5, bytes: &[u8]) {
    md5.update((bytes.len() as u32).to_be_bytes());
    md5.update(bytes);
}

impl fmt::Display for Md5Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(attributes: &[(&str, MessageAttribute)], expected: &str) {
        let map = attributes
            .iter()
            .map(|(name, a)| ((*name).to_owned(), a.clone()))
            .collect();
        let digest = Md5Digest::of_attributes(&map).map(|d| d.to_string());
        assert_eq!(digest.as_deref(), Some(expected));
    }

    /// Vectors of npm `aws-md5-of-message-attributes`, which took them from SQS.
    #[test]
    fn attributes_match_published_vectors() {
        let text = ("attribName1", MessageAttribute::string("attribValue 1"));
        let number = "4563442423554324324264524243.32543234";
        let number = (
            "customNumberTypeAttrib",
            MessageAttribute::text_of("Number.float", number),
        );
        let binary = (
            "binaryAttribute",
            MessageAttribute::binary(b"Hello binary world!".to_vec()),
        );
        check(
            std::slice::from_ref(&text),
            "19e27d4e946b072f3f58da80d94fd778",
        );
        check(
            std::slice::from_ref(&number),
            "9fe1b90bbd9965bdf77bac517c7d2495",
        );
        check(
            std::slice::from_ref(&binary),
            "31a92b15d92f8db860eda32aceb656c3",
        );
        check(&[text, number, binary], "c932db14a896c663f83c260297d594ff");
    }

    #[test]
    fn body_is_the_plain_md5() {
        assert_eq!(
            Md5Digest::of_body("hello").to_string(),
            "5d41402abc4b2a76b9719d911017c592"
        );
        assert_eq!(Md5Digest::of_attributes(&BTreeMap::new()), None);
    }
}
