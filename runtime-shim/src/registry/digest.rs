//! SHA-256 digests, in the spelling of registries: `sha256:` and 64 hex digits.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::Deserialize;
use sha2::Digest as _;

/// What some content hashes to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Digest(Arc<str>);

/// Why a text is no digest.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a digest: expected `sha256:` and 64 lower-case hex digits")]
pub struct InvalidDigest(String);

impl Digest {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::default();
        hasher.update(bytes);
        hasher.digest()
    }

    /// The digits alone: they are safe in a file's name.
    pub(super) fn hex(&self) -> &str {
        &self.0
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        match text.strip_prefix("sha256:") {
            Some(hex) if hex.len() == 64 && hex.bytes().all(is_digit) => Ok(Self(hex.into())),
            _ => Err(InvalidDigest(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Digest {
    type Error = InvalidDigest;

    fn try_from(text: String) -> Result<Self, InvalidDigest> {
        text.parse()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

/// Hashes what comes in parts.
#[derive(Default)]
pub(super) struct Hasher(sha2::Sha256);

impl Hasher {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Of what came so far.
    pub(super) fn digest(&self) -> Digest {
        use fmt::Write as _;
        let mut hex = String::with_capacity(64);
        for byte in self.0.clone().finalize() {
            // Writing to a text cannot fail.
            let _ = write!(hex, "{byte:02x}");
        }
        Digest(hex.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_nothing_else() {
        let digest = Digest::of(b"");
        let text = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(digest.to_string(), text);
        assert!(text.parse::<Digest>().is_ok_and(|read| read == digest));
        for wrong in [
            "",
            "sha256:",
            "sha256:00",
            "sha512:00",
            &text[7..],
            &text.to_ascii_uppercase(),
            &format!("{}../../../../x", &text[..58]),
        ] {
            assert!(wrong.parse::<Digest>().is_err(), "{wrong}");
        }
    }
}
