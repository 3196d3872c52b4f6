//! Quantities of Kubernetes (`250m`, `0.5`, `256Mi`) as whole numbers, rounded up as
//! `Quantity.MilliValue` and `Quantity.Value` do (`apimachinery/pkg/api/resource`).

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

/// An amount in billionths: Kubernetes knows nothing smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quantity {
    nanos: u128,
}

/// Suffixes, and what they multiply by, in billionths.
const SUFFIXES: [(&str, u128); 14] = [
    ("n", 1),
    ("u", 1_000),
    ("m", 1_000_000),
    ("Ki", NANOS << 10),
    ("Mi", NANOS << 20),
    ("Gi", NANOS << 30),
    ("Ti", NANOS << 40),
    ("Pi", NANOS << 50),
    ("k", NANOS * 1_000),
    ("M", NANOS * 1_000_000),
    ("G", NANOS * 1_000_000_000),
    ("T", NANOS * 1_000_000_000_000),
    ("P", NANOS * 1_000_000_000_000_000),
    ("", NANOS),
];

const NANOS: u128 = 1_000_000_000;

impl Quantity {
    /// Reads what the YAML says, a text or a number.
    fn parse(text: &str) -> Option<Self> {
        let (number, factor) = SUFFIXES
            .iter()
            .find_map(|(suffix, factor)| Some((text.strip_suffix(suffix)?, factor)))?;
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        let digits = [whole, part].concat();
        if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
            return None;
        }
        let scale = 10_u128.checked_pow(u32::try_from(part.len()).ok()?)?;
        let scaled = digits.parse::<u128>().ok()?.checked_mul(*factor)?;
        Some(Self {
            nanos: scaled.div_ceil(scale),
        })
    }

    /// Thousandths.
    pub(super) fn millis(self) -> u64 {
        u64::try_from(self.nanos.div_ceil(NANOS / 1000)).unwrap_or(u64::MAX)
    }

    /// Whole ones.
    pub(super) fn whole(self) -> u64 {
        u64::try_from(self.nanos.div_ceil(NANOS)).unwrap_or(u64::MAX)
    }

    /// As a ratio.
    pub(super) fn ratio(self) -> f64 {
        self.nanos as f64 / NANOS as f64
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        };
        Self::parse(&text).ok_or_else(|| {
            D::Error::custom(format!(
                "`{text}` is no quantity such as `250m`, `2` or `256Mi`"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        for (text, millis) in [
            ("250m", 250),
            ("2", 2_000),
            ("0.5", 500),
            ("1.0005", 1_001),
            ("0.1m", 1),
            ("0.0000000001", 1),
            ("1k", 1_000_000),
            ("256Mi", 268_435_456_000),
            ("1.5Gi", 1_610_612_736_000),
            ("0", 0),
        ] {
            assert_eq!(Quantity::parse(text).unwrap().millis(), millis, "{text}");
        }
        for text in [
            "",
            "m",
            "Mi",
            "-1",
            "1e3",
            "1 Gi",
            "1.2.3",
            "one",
            "999999999999999999999999999999999999999",
        ] {
            assert_eq!(Quantity::parse(text), None, "{text}");
        }
        assert_eq!(Quantity::parse("0.1m").unwrap().whole(), 1);
        assert!((Quantity::parse("0.0125").unwrap().ratio() - 0.0125).abs() < f64::EPSILON);
    }
}
