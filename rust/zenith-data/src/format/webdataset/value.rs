//! From the bytes of a member to a value.

use super::npy::{self, Array};
use crate::field::{DType, FieldKind};
use crate::{Error, Result};

/// How a field's values are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Int,
    Float,
    Text,
    Json,
    Bytes,
    Npy(Array),
    /// By a transform, when a batch is put together.
    Made(FieldKind),
}

impl Value {
    pub(super) fn kind(&self) -> FieldKind {
        match self {
            Value::Int => FieldKind::Dense { dtype: DType::I64, shape: Vec::new() },
            Value::Float => FieldKind::Dense { dtype: DType::F64, shape: Vec::new() },
            Value::Text => FieldKind::Text,
            Value::Json => FieldKind::Json,
            Value::Bytes => FieldKind::Binary,
            Value::Npy(array) => FieldKind::Dense { dtype: array.dtype, shape: array.shape.clone() },
            Value::Made(kind) => kind.clone(),
        }
    }

    /// Writes the value to its place in the row.
    pub(super) fn write(&self, bytes: &[u8], into: &mut [u8]) -> Result<()> {
        match self {
            Value::Int => {
                let number: i64 = number(bytes, "int64")?;
                into.copy_from_slice(&number.to_ne_bytes());
            }
            Value::Float => {
                let number: f64 = number(bytes, "float64")?;
                into.copy_from_slice(&number.to_ne_bytes());
            }
            Value::Npy(array) => npy::copy(bytes, array, into)?,
            Value::Text | Value::Json | Value::Bytes | Value::Made(_) => {
                return Err(Error::internal("a value of varying size has no place in the row"));
            }
        }
        Ok(())
    }

    /// Errors unless the bytes can be delivered as they are.
    pub(super) fn check(&self, bytes: &[u8]) -> Result<()> {
        match self {
            Value::Text => {
                std::str::from_utf8(bytes).map_err(|error| {
                    let at = error.valid_up_to();
                    Error::corrupt(format!("it is not UTF-8 from its byte {at} on. Ask for bytes if it is no text"))
                })?;
            }
            Value::Json => check_json(bytes)?,
            _ => {}
        }
        Ok(())
    }
}

fn number<T: std::str::FromStr>(bytes: &[u8], name: &str) -> Result<T> {
    let parsed = std::str::from_utf8(bytes).ok().and_then(|text| text.trim().parse().ok());
    parsed.ok_or_else(|| {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned();
        Error::corrupt(format!("{shown:?} is no {name}"))
    })
}

fn check_json(bytes: &[u8]) -> Result<()> {
    let text = std::str::from_utf8(bytes).map_err(|_| Error::corrupt("it is no JSON: not UTF-8"))?;
    let check = |text: &str| serde_json::from_str::<serde::de::IgnoredAny>(text).map(|_| ());
    let Err(error) = check(text) else { return Ok(()) };
    // Python writes NaN and the infinities, which JSON has no words for, and reads them too.
    check(&without_specials(text)).map_err(|_| Error::corrupt(format!("it is no JSON: {error}")))
}

/// The text with zeros for `NaN` and `Infinity` wherever they stand outside of strings.
fn without_specials(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut rest, mut is_string) = (text, false);
    while let Some(first) = rest.chars().next() {
        let special = ["NaN", "Infinity"].into_iter().find(|word| !is_string && rest.starts_with(word));
        let taken = match (special, first) {
            (Some(word), _) => word.len(),
            (None, '\\') if is_string => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
            (None, _) => first.len_utf8(),
        };
        is_string ^= special.is_none() && first == '"';
        out.push_str(if special.is_some() { "0" } else { &rest[..taken] });
        rest = &rest[taken..];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_what_python_reads() {
        let int = |text: &str| {
            let mut into = [0; 8];
            Value::Int.write(text.as_bytes(), &mut into).map(|()| i64::from_ne_bytes(into))
        };
        assert_eq!((int("7").unwrap(), int(" -12\n").unwrap(), int("+3").unwrap()), (7, -12, 3));
        for bad in ["", "1.5", "9223372036854775808", "x", "\u{7f}"] {
            assert!(int(bad).unwrap_err().message().contains("is no int64"), "{bad}");
        }
        let mut into = [0; 8];
        Value::Float.write(b"-1e-3\n", &mut into).unwrap();
        assert_eq!(f64::from_ne_bytes(into), -1e-3);
        Value::Float.write(b"nan", &mut into).unwrap();
        assert!(f64::from_ne_bytes(into).is_nan());
    }

    #[test]
    fn json_is_what_python_reads() {
        for good in ["{\"a\": [1, null, \"NaN\"]}", "NaN", " [-Infinity, 1e5] ", "\"\\ud800 \\\" Infinity\"", "{}"] {
            Value::Json.check(good.as_bytes()).unwrap();
        }
        for bad in ["", "{", "[1,]", "nan", "Infinity Infinity", "\"a", "{\"NaN\": }", "\"\\"] {
            assert!(Value::Json.check(bad.as_bytes()).is_err(), "{bad}");
        }
        let deep = "[".repeat(100_000);
        assert!(Value::Json.check(deep.as_bytes()).is_err());
        assert!(Value::Json.check(b"\"\xff\"").is_err() && Value::Text.check(b"a\xff").is_err());
        Value::Text.check("a\u{e9}".as_bytes()).unwrap();
    }
}
