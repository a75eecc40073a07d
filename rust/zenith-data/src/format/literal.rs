//! Values that users write to compare columns with, and their exact conversion to the type of a column.

use std::sync::Arc;

use arrow::array::*;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, TimeUnit};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A value as the user wrote it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Literal {
    Bool(bool),
    Int(i64),
    /// For those that `Int` cannot hold.
    Uint(u64),
    /// Written as text, since JSON has no infinity.
    Float(#[serde(with = "as_text")] f64),
    /// A decimal number, written out.
    Decimal(String),
    Text(String),
    Bytes(Vec<u8>),
    /// Days since 1970-01-01.
    Date(i32),
    /// A moment; with `utc` counted from 1970-01-01 UTC, else on a clock without a zone.
    Timestamp {
        micros: i64,
        utc: bool,
    },
}

/// Digits before and behind the point that decimals are compared with.
const WIDE_DECIMAL: DataType = DataType::Decimal256(76, 38);

impl Literal {
    /// An array of this one value in the type of `column`. To a float it is rounded; else it must be exactly the same.
    pub(crate) fn of_type(&self, column: &str, data_type: &DataType) -> Result<ArrayRef> {
        if !comparable(data_type) {
            let why = format!("filters cannot test columns of type {data_type}");
            return Err(Error::unsupported(why).in_field(column));
        }
        self.convert(data_type).ok_or_else(|| {
            let why = format!(
                "filters: the value {self} for column {column:?} is no {data_type}, which the column is. \
                 Give a value of its type"
            );
            Error::invalid(why).in_field(column)
        })
    }

    fn convert(&self, to: &DataType) -> Option<ArrayRef> {
        let whole = to.is_integer() || matches!(to, DataType::Float16 | DataType::Float32 | DataType::Float64);
        match self {
            Literal::Bool(value) if *to == DataType::Boolean => Some(Arc::new(BooleanArray::from(vec![*value]))),
            Literal::Int(value) if whole || is_decimal(to) => exact(Arc::new(Int64Array::from(vec![*value])), to),
            Literal::Uint(value) if whole || is_decimal(to) => exact(Arc::new(UInt64Array::from(vec![*value])), to),
            Literal::Float(value) if whole => exact(Arc::new(Float64Array::from(vec![*value])), to),
            Literal::Decimal(value) if is_decimal(to) => {
                let wide = strict(&StringArray::from(vec![value.as_str()]), &WIDE_DECIMAL)?;
                exact(wide, to)
            }
            Literal::Text(value) if matches!(to, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) => {
                exact(Arc::new(StringArray::from(vec![value.as_str()])), to)
            }
            Literal::Bytes(value) => match to {
                DataType::FixedSizeBinary(width) if usize::try_from(*width) != Ok(value.len()) => None,
                DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
                    strict(&BinaryArray::from(vec![value.as_slice()]), to)
                }
                _ => None,
            },
            Literal::Date(days) if matches!(to, DataType::Date32 | DataType::Date64 | DataType::Timestamp(_, None)) => {
                exact(Arc::new(Date32Array::from(vec![*days])), to)
            }
            Literal::Timestamp { micros, utc } => match to {
                DataType::Timestamp(unit, zone) if zone.is_some() == *utc => moment(*micros, *unit, zone.clone()),
                _ => None,
            },
            _ => None,
        }
    }
}

impl std::fmt::Display for Literal {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Literal::Bool(value) => write!(out, "{value}"),
            Literal::Int(value) => write!(out, "{value}"),
            Literal::Uint(value) => write!(out, "{value}"),
            Literal::Float(value) => write!(out, "{value:?}"),
            Literal::Decimal(value) => write!(out, "{value}"),
            Literal::Text(value) => write!(out, "{value:?}"),
            Literal::Bytes(value) => write!(out, "b\"{}\"", value.escape_ascii()),
            Literal::Date(days) => write!(out, "date (day {days} since 1970-01-01)"),
            Literal::Timestamp { micros, utc: true } => write!(out, "datetime ({micros} us since 1970-01-01 UTC)"),
            Literal::Timestamp { micros, utc: false } => {
                write!(out, "datetime ({micros} us since 1970-01-01, no zone)")
            }
        }
    }
}

pub(crate) fn is_float(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Float16 | DataType::Float32 | DataType::Float64)
}

fn is_decimal(data_type: &DataType) -> bool {
    use DataType::*;
    matches!(data_type, Decimal32(..) | Decimal64(..) | Decimal128(..) | Decimal256(..))
}

fn comparable(data_type: &DataType) -> bool {
    use DataType::*;
    data_type.is_integer()
        || is_float(data_type)
        || is_decimal(data_type)
        || matches!(data_type, Boolean | Utf8 | LargeUtf8 | Utf8View | Binary | LargeBinary | BinaryView)
        || matches!(data_type, FixedSizeBinary(_) | Date32 | Date64 | Timestamp(..))
}

/// A conversion in which values that do not fit are errors rather than nulls.
fn strict(array: &dyn Array, to: &DataType) -> Option<ArrayRef> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(array, to, &options).ok().filter(|array| array.null_count() == 0)
}

/// The value in type `to`, if it comes back the same from there, which is not asked of floats.
fn exact(array: ArrayRef, to: &DataType) -> Option<ArrayRef> {
    let converted = strict(&array, to)?;
    (is_float(to) || *strict(&converted, array.data_type())? == *array).then_some(converted)
}

fn moment(micros: i64, unit: TimeUnit, zone: Option<Arc<str>>) -> Option<ArrayRef> {
    let whole = |divisor: i64| (micros % divisor == 0).then(|| micros / divisor);
    let array: ArrayRef = match unit {
        TimeUnit::Second => Arc::new(TimestampSecondArray::from(vec![whole(1_000_000)?]).with_timezone_opt(zone)),
        TimeUnit::Millisecond => Arc::new(TimestampMillisecondArray::from(vec![whole(1000)?]).with_timezone_opt(zone)),
        TimeUnit::Microsecond => Arc::new(TimestampMicrosecondArray::from(vec![micros]).with_timezone_opt(zone)),
        TimeUnit::Nanosecond => {
            Arc::new(TimestampNanosecondArray::from(vec![micros.checked_mul(1000)?]).with_timezone_opt(zone))
        }
    };
    Some(array)
}

mod as_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(value: &f64, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(&format!("{value:?}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<f64, D::Error> {
        let text = String::deserialize(input)?;
        text.parse().map_err(|_| D::Error::custom(format!("{text:?} is no number")))
    }
}
