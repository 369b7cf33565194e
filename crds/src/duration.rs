//! Durations as the Gateway API writes them (GEP-2257): `1h30m`, `500ms`.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// One to four numbers of up to five digits, each with a unit of `h`, `m`, `s` or `ms`.
///
/// Kept as text, so that an object with a bad one can be read and blamed; [`parse`](Self::parse) gives
/// the value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Duration(String);

/// A text that is not a duration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DurationError(String);

impl fmt::Display for DurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is not a duration: write one to four numbers with the units h, m, s or ms, as in 1m30s or 500ms",
            self.0
        )
    }
}

impl std::error::Error for DurationError {}

const PATTERN: &str = "^([0-9]{1,5}(h|m|s|ms)){1,4}$";
/// Four times five digits and two letters: bounds the cost of CEL rules.
const MAX_LENGTH: usize = 28;

impl Duration {
    /// The text, unchecked.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The value. Zero is a value: what it means is said at each field.
    pub fn parse(&self) -> Result<std::time::Duration, DurationError> {
        let error = || DurationError(self.0.clone());
        let mut rest = self.0.as_str();
        let mut total = std::time::Duration::ZERO;
        let mut parts = 0;
        while !rest.is_empty() {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            if !(1..=5).contains(&digits) || parts == 4 {
                return Err(error());
            }
            let number: u64 = rest[..digits].parse().map_err(|_| error())?;
            rest = &rest[digits..];
            let (unit, milliseconds) = [("ms", 1), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)]
                .into_iter()
                .find(|(unit, _)| rest.starts_with(unit))
                .ok_or_else(error)?;
            rest = &rest[unit.len()..];
            total += std::time::Duration::from_millis(number * milliseconds);
            parts += 1;
        }
        if parts == 0 { Err(error()) } else { Ok(total) }
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": PATTERN, "maxLength": MAX_LENGTH})
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_schema_accepts() {
        for (text, milliseconds) in [
            ("0s", 0),
            ("250ms", 250),
            ("1m30s", 90_000),
            ("1h2m3s4ms", 3_723_004),
            ("99999h", 359_996_400_000),
            ("5s5s", 10_000),
        ] {
            let value = Duration::new(text).parse().unwrap();
            assert_eq!(value.as_millis(), milliseconds, "{text}");
        }
    }

    #[test]
    fn refuses_the_rest() {
        for text in [
            "",
            "5",
            "s",
            "-1s",
            "1.5s",
            "100000s",
            "1d",
            "1s ",
            "1s1s1s1s1s",
            "5 s",
        ] {
            assert!(Duration::new(text).parse().is_err(), "{text:?}");
        }
    }
}
