//! How much a store takes, hands over, and lets wait.

use super::StoreError;

/// Bytes handed to a guest at once. Spin: `MAX_HOST_BUFFERED_BYTES`.
pub const MAX_RESULT_BYTES: usize = 128 * 1024 * 1024;
/// Bytes of a key that a component writes.
const MAX_KEY_BYTES: usize = 64 * 1024;
/// Results of many keys that one backend hands over at once.
pub(super) const SCANS: usize = 2;
/// KiB of values that may wait to be written to one backend.
pub(super) const WAITING_KIB: u32 = 64 * 1024;
/// Bytes of one value, unless configured.
pub const DEFAULT_MAX_VALUE: usize = 16 * 1024 * 1024;
/// The most that can be configured: one value must not have to wait for itself.
pub const MAX_MAX_VALUE: usize = WAITING_KIB as usize * 1024;

/// What the operator allows.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of one value.
    pub max_value: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_value: DEFAULT_MAX_VALUE,
        }
    }
}

impl Limits {
    /// The bytes of `key` and `value`, if neither is too large.
    pub(super) fn check(self, key: &str, value: &[u8]) -> Result<usize, StoreError> {
        if key.len() > MAX_KEY_BYTES {
            return Err(StoreError::Key {
                bytes: key.len(),
                limit: MAX_KEY_BYTES,
            });
        }
        if value.len() > self.max_value {
            return Err(StoreError::ValueTooLarge {
                bytes: value.len(),
                limit: self.max_value,
            });
        }
        Ok(key.len() + value.len())
    }

    /// The bytes of all pairs, if none is too large, nor all together.
    pub(super) fn check_all(self, pairs: &[(String, Vec<u8>)]) -> Result<usize, StoreError> {
        let mut bytes = 0;
        for (key, value) in pairs {
            bytes += self.check(key, value)?;
        }
        check_sum(bytes)?;
        Ok(bytes)
    }
}

/// Refuses values that are too many bytes together.
pub(super) fn check_sum(bytes: usize) -> Result<(), StoreError> {
    let limit = MAX_MAX_VALUE;
    if bytes > limit {
        return Err(StoreError::ValueTooLarge { bytes, limit });
    }
    Ok(())
}

/// The share of the waiting values that `bytes` take up.
pub(super) fn kib(bytes: usize) -> u32 {
    let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
    kib.min(WAITING_KIB)
}
