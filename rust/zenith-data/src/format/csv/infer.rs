//! What the values of a column look like, and the type that follows from it.

use arrow::datatypes::DataType;
use serde::{Deserialize, Serialize};

use super::number;

/// The kinds of values seen in a column, as bits, so that what was seen in several places joins by `|`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seen(u8);

impl Seen {
    const NEGATIVE: u8 = 1;
    const INTEGER: u8 = 2;
    /// Above the largest int64.
    const LARGE: u8 = 4;
    const FLOAT: u8 = 8;
    const BOOL: u8 = 16;
    const TEXT: u8 = 32;

    pub(super) fn value(value: &[u8]) -> Self {
        let trimmed = value.trim_ascii();
        Self(if let Some(integer) = number::integer(trimmed) {
            match integer {
                i128::MIN..0 => Self::NEGATIVE,
                _ if i64::try_from(integer).is_ok() => Self::INTEGER,
                _ => Self::LARGE,
            }
        } else if number::truth(trimmed).is_some() {
            Self::BOOL
        } else if !number::is_integer(trimmed) && number::float::<f64>(trimmed).is_some() {
            Self::FLOAT
        } else {
            Self::TEXT
        })
    }

    #[must_use]
    pub(super) fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The narrowest type that holds all that was seen without loss; a column without values is taken for numbers.
    pub(super) fn data_type(self) -> DataType {
        let has = |bits: u8| self.0 & bits != 0;
        if has(Self::TEXT) || has(Self::BOOL) && self.0 != Self::BOOL || has(Self::LARGE) && has(Self::NEGATIVE) {
            DataType::Utf8
        } else if has(Self::BOOL) {
            DataType::Boolean
        } else if has(Self::FLOAT) || self.0 == 0 {
            DataType::Float64
        } else if has(Self::LARGE) {
            DataType::UInt64
        } else {
            DataType::Int64
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_follow_from_values() {
        let of = |values: &[&str]| {
            values.iter().map(|value| Seen::value(value.as_bytes())).fold(Seen::default(), Seen::and).data_type()
        };
        assert_eq!(of(&[]), DataType::Float64);
        assert_eq!(of(&["1", "-2", "+3", "007", " 9 "]), DataType::Int64);
        assert_eq!(of(&["1", "18446744073709551615"]), DataType::UInt64);
        assert_eq!(of(&["-1", "18446744073709551615"]), DataType::Utf8);
        assert_eq!(of(&["18446744073709551616"]), DataType::Utf8, "a float would lose digits");
        assert_eq!(of(&["1", "2.5", "1e-3", "nan", "-inf", ".5", "5."]), DataType::Float64);
        assert_eq!(of(&["true", "False", "TRUE"]), DataType::Boolean);
        assert_eq!(of(&["true", "1"]), DataType::Utf8);
        assert_eq!(of(&["1", "x"]), DataType::Utf8);
        assert_eq!(of(&["0x10"]), DataType::Utf8);
    }
}
