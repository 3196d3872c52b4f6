//! How a key and its value look as an item, which is how Spin lays them out:
//! partition key `PK`, value `VAL`, counters as decimal text. `VER` changes with
//! every write, so that Spin's compare-and-swap, which looks at it alone,
//! notices ours.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;

use super::super::{Limits, StoreError};

pub(super) const KEY: &str = "PK";
pub(super) const VALUE: &str = "VAL";
pub(super) const VERSION: &str = "VER";
/// For DynamoDB's time to live, where the table has it: seconds since 1970.
pub(super) const EXPIRES: &str = "EXP";

/// Service quotas: bytes of an item (names and values) and of a key.
const MAX_ITEM_BYTES: usize = 400 * 1024;
const MAX_KEY_BYTES: usize = 2048;
/// What an item has beside key and value: its attributes' names and a number.
const ITEM_OVERHEAD: usize = KEY.len() + VALUE.len() + VERSION.len() + 21;

/// Bytes of the largest value, under a key of `key_bytes`.
pub(super) fn largest_value(key_bytes: usize) -> usize {
    MAX_ITEM_BYTES - ITEM_OVERHEAD - key_bytes
}

/// The bytes of `value`, if it fits into an item under `key`.
pub(super) fn fits(key: &str, value: &[u8], limits: Limits) -> Result<usize, StoreError> {
    let limit = largest_value(checked(key)?.len());
    let limits = Limits {
        max_value: limit.min(limits.max_value),
    };
    limits.check(key, value)
}

pub(super) fn checked(key: &str) -> Result<&str, StoreError> {
    if (1..=MAX_KEY_BYTES).contains(&key.len()) {
        return Ok(key);
    }
    Err(StoreError::Key {
        bytes: key.len(),
        limit: MAX_KEY_BYTES,
    })
}

pub(super) fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

pub(super) fn binary(value: Vec<u8>) -> AttributeValue {
    AttributeValue::B(Blob::new(value))
}

/// A version that no write had before: the time in nanoseconds. A counter would
/// begin anew when an item is deleted and made again.
pub(super) fn version() -> AttributeValue {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or_else(|_| u128::from(fastrand::u64(..)), |now| now.as_nanos());
    AttributeValue::N(now.to_string())
}

/// The second in which `lifetime` is over.
pub(super) fn expiry(lifetime: std::time::Duration) -> AttributeValue {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let end = now.unwrap_or_default().saturating_add(lifetime);
    AttributeValue::N(end.as_secs().to_string())
}

/// A whole new item.
pub(super) fn item(key: String, value: Vec<u8>) -> HashMap<String, AttributeValue> {
    HashMap::from([
        (KEY.to_owned(), AttributeValue::S(key)),
        (VALUE.to_owned(), binary(value)),
        (VERSION.to_owned(), version()),
    ])
}

pub(super) fn key_of(mut item: HashMap<String, AttributeValue>) -> Option<String> {
    match item.remove(KEY) {
        Some(AttributeValue::S(key)) => Some(key),
        _ => None,
    }
}

pub(super) fn value_of(mut item: HashMap<String, AttributeValue>) -> Option<Vec<u8>> {
    match item.remove(VALUE) {
        Some(AttributeValue::B(value)) => Some(value.into_inner()),
        _ => None,
    }
}

/// Spin: decimal text.
pub(super) fn counter(bytes: &[u8]) -> Option<i64> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}
