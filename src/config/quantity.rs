//! Durations and sizes as people write them: `500ms`, `30d`, `4MiB`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::text::{Text, not_allowed, text};

/// A length of time: a whole number and a unit, without sign or blanks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HumanDuration(pub Duration);

impl HumanDuration {
    pub(super) fn of_seconds(count: u64) -> Self {
        Self(Duration::from_secs(count))
    }
}

/// Units by length, longest first: `Display` picks the first that divides evenly.
const TIME_UNITS: &[(&str, u64)] = &[
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

impl FromStr for HumanDuration {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let allowed = "a duration (a whole number and ms, s, m, h or d, such as `30s`)";
        scaled(text, TIME_UNITS)
            .map(|millis| Self(Duration::from_millis(millis)))
            .ok_or_else(|| not_allowed(text, allowed))
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        if millis == 0 {
            return out.write_str("0s");
        }
        for (unit, scale) in TIME_UNITS {
            if millis.is_multiple_of(u128::from(*scale)) {
                return write!(out, "{}{unit}", millis / u128::from(*scale));
            }
        }
        Ok(())
    }
}

text!(
    HumanDuration,
    "duration",
    "^[0-9]+(ms|s|m|h|d)$",
    "a duration such as `30s`",
    str::parse
);

/// A number of bytes: `65536`, `64KiB`, `4MiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub usize);

const SIZE_UNITS: &[(&str, u64)] = &[
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
    ("", 1),
];

impl FromStr for ByteSize {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let allowed = "a size (a number of bytes, or one with KiB, MiB or GiB, such as `4MiB`)";
        scaled(text, SIZE_UNITS)
            .and_then(|bytes| usize::try_from(bytes).ok())
            .map(Self)
            .ok_or_else(|| not_allowed(text, allowed))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0 as u64;
        let even = |(_, scale): &&(&str, u64)| bytes != 0 && bytes.is_multiple_of(*scale);
        match SIZE_UNITS.iter().find(even) {
            Some((unit, scale)) if *scale > 1 => write!(out, "{}{unit}", bytes / scale),
            _ => write!(out, "{bytes}"),
        }
    }
}

impl Text for ByteSize {
    const FORMAT: &'static str = "byte-size";
    const PATTERN: &'static str = "^[0-9]+(B|KiB|MiB|GiB)?$";
    const EXAMPLE: &'static str = "a size such as `4MiB`";

    fn read(text: &str) -> Result<Self, String> {
        text.parse()
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, sink: S) -> Result<S::Ok, S::Error> {
        sink.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(usize),
            Text(String),
        }
        match Written::deserialize(source)? {
            Written::Number(bytes) => Ok(Self(bytes)),
            Written::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

impl schemars::JsonSchema for ByteSize {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ByteSize".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": ["integer", "string"], "format": Self::FORMAT, "pattern": Self::PATTERN
        })
    }
}

/// `<digits><unit>` in the smallest unit; `None` for any other text and for what does not fit.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits_end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(digits_end);
    let (_, scale) = units.iter().find(|(name, _)| *name == unit)?;
    digits.parse::<u64>().ok()?.checked_mul(*scale)
}
