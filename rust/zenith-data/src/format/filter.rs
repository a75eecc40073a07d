//! Conditions on columns, and which rows of a column meet them. A missing value meets none; NaN is equal to nothing.

use std::collections::HashSet;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Datum, Scalar};
use arrow::buffer::BooleanBuffer;
use arrow::compute::cast;
use arrow::compute::kernels::cmp;
use arrow::datatypes::{DataType, Float64Type};
use arrow::row::{RowConverter, SortField};
use serde::{Deserialize, Serialize};

use super::literal::{Literal, is_float};
use crate::{Error, Result};

/// Lists longer than this are not held against statistics.
const LIST_MAX: usize = 1000;

/// Groups of conditions: a row is wanted if it meets every condition of any group.
pub type Filters = Vec<Vec<Condition>>;

/// What the value of a column must be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// A column of the file, delivered or not; a member of a struct is `outer.inner`.
    pub column: String,
    pub test: Test,
}

/// How a value is tested.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Test {
    #[serde(rename = "==")]
    Equal(Literal),
    #[serde(rename = "!=")]
    NotEqual(Literal),
    #[serde(rename = "<")]
    Less(Literal),
    #[serde(rename = "<=")]
    LessOrEqual(Literal),
    #[serde(rename = ">")]
    Greater(Literal),
    #[serde(rename = ">=")]
    GreaterOrEqual(Literal),
    #[serde(rename = "in")]
    In(Vec<Literal>),
    #[serde(rename = "not in")]
    NotIn(Vec<Literal>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A test made ready for columns of one type.
#[derive(Debug)]
pub(crate) enum Check {
    Compare(Order, ArrayRef),
    Member(Members),
}

/// Values of which a value is one, or is none.
#[derive(Debug)]
pub(crate) struct Members {
    wanted: bool,
    /// Each on its own.
    values: Vec<ArrayRef>,
    converter: RowConverter,
    rows: HashSet<Box<[u8]>>,
}

impl Check {
    /// Errors: a value that cannot be of the column's type, naming both.
    pub(crate) fn new(column: &str, data_type: &DataType, test: &Test) -> Result<Self> {
        let value = |literal: &Literal| normal(&literal.of_type(column, data_type)?);
        let compare = |order, literal| Ok(Check::Compare(order, value(literal)?));
        let member = |wanted, list: &[Literal]| {
            let values = list.iter().map(value).collect::<Result<Vec<_>>>()?;
            Ok(Check::Member(Members::new(wanted, values, data_type)?))
        };
        match test {
            Test::Equal(literal) => compare(Order::Equal, literal),
            Test::NotEqual(literal) => compare(Order::NotEqual, literal),
            Test::Less(literal) => compare(Order::Less, literal),
            Test::LessOrEqual(literal) => compare(Order::LessOrEqual, literal),
            Test::Greater(literal) => compare(Order::Greater, literal),
            Test::GreaterOrEqual(literal) => compare(Order::GreaterOrEqual, literal),
            Test::In(list) => member(true, list),
            Test::NotIn(list) => member(false, list),
        }
    }

    /// Which values of `array` meet it.
    pub(crate) fn matches(&self, array: &ArrayRef) -> Result<BooleanBuffer> {
        let array = normal(array)?;
        match self {
            Check::Compare(order, value) => compare(&array, *order, value),
            Check::Member(members) => members.matches(&array),
        }
    }

    /// Whether any value from `mins` to `maxes` (each of one value, null where it is not known) may meet it.
    pub(crate) fn may_match(&self, min: &ArrayRef, max: &ArrayRef) -> Result<bool> {
        let (min, max) = (normal(min)?, normal(max)?);
        let surely = |array: &ArrayRef, order, value: &ArrayRef| {
            Ok::<_, Error>(compare(array, order, value)?.iter().any(|holds| holds))
        };
        let outside = |value: &ArrayRef| {
            Ok::<_, Error>(surely(&min, Order::Greater, value)? || surely(&max, Order::Less, value)?)
        };
        Ok(!match self {
            Check::Compare(Order::Equal, value) => outside(value)?,
            Check::Compare(Order::Less, value) => surely(&min, Order::GreaterOrEqual, value)?,
            Check::Compare(Order::LessOrEqual, value) => surely(&min, Order::Greater, value)?,
            Check::Compare(Order::Greater, value) => surely(&max, Order::LessOrEqual, value)?,
            Check::Compare(Order::GreaterOrEqual, value) => surely(&max, Order::Less, value)?,
            Check::Member(Members { wanted: true, values, .. }) if values.len() <= LIST_MAX => {
                let mut all = true;
                for value in values {
                    all = all && outside(value)?;
                }
                all
            }
            Check::Compare(Order::NotEqual, _) | Check::Member(_) => false,
        })
    }
}

impl Members {
    fn new(wanted: bool, values: Vec<ArrayRef>, data_type: &DataType) -> Result<Self> {
        let data_type = if is_float(data_type) { DataType::Float64 } else { data_type.clone() };
        let converter = RowConverter::new(vec![SortField::new(data_type)]).map_err(internal)?;
        let mut rows = HashSet::new();
        for value in &values {
            let row = converter.convert_columns(std::slice::from_ref(value)).map_err(internal)?;
            rows.extend(row.iter().map(|row| Box::from(row.data())));
        }
        Ok(Self { wanted, values, converter, rows })
    }

    fn matches(&self, array: &ArrayRef) -> Result<BooleanBuffer> {
        let rows = self.converter.convert_columns(std::slice::from_ref(array)).map_err(internal)?;
        let found = BooleanBuffer::collect_bool(array.len(), |row| {
            self.rows.contains(rows.row(row).data()) == self.wanted && array.is_valid(row)
        });
        Ok(found)
    }
}

/// Floats as `float64` in which zero has one sign; the kernels would tell -0.0 from 0.0.
fn normal(array: &ArrayRef) -> Result<ArrayRef> {
    if !is_float(array.data_type()) {
        return Ok(array.clone());
    }
    let wide = cast(array, &DataType::Float64).map_err(internal)?;
    Ok(std::sync::Arc::new(wide.as_primitive::<Float64Type>().unary::<_, Float64Type>(|value| value + 0.0)))
}

/// Where `array <order> value` surely holds: not for nulls, and for NaN only where it is not equal.
fn compare(array: &ArrayRef, order: Order, value: &ArrayRef) -> Result<BooleanBuffer> {
    let kernel: fn(&dyn Datum, &dyn Datum) -> std::result::Result<BooleanArray, arrow::error::ArrowError> = match order
    {
        Order::Equal => cmp::eq,
        Order::NotEqual => cmp::neq,
        Order::Less => cmp::lt,
        Order::LessOrEqual => cmp::lt_eq,
        Order::Greater => cmp::gt,
        Order::GreaterOrEqual => cmp::gt_eq,
    };
    let outcome = kernel(array, &Scalar::new(value.clone())).map_err(internal)?;
    let mut holds = outcome.values().clone();
    if let Some(nulls) = outcome.nulls() {
        holds = &holds & nulls.inner();
    }
    if let (Some(floats), true) = (array.as_primitive_opt::<Float64Type>(), order != Order::NotEqual) {
        let values = floats.values();
        holds = &holds & &BooleanBuffer::collect_bool(values.len(), |row| !values[row].is_nan());
    }
    Ok(holds)
}

fn internal(error: arrow::error::ArrowError) -> Error {
    Error::internal(format!("a filter cannot be applied: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float32Array, Int32Array, StringArray};
    use std::sync::Arc;

    fn rows(array: &ArrayRef, test: &Test) -> Vec<usize> {
        let check = Check::new("x", array.data_type(), test).unwrap();
        check.matches(array).unwrap().set_indices().collect()
    }

    #[test]
    fn nulls_and_nan_meet_nothing_and_zero_has_one_sign() {
        let array: ArrayRef =
            Arc::new(Float32Array::from(vec![Some(-0.0), None, Some(f32::NAN), Some(-f32::NAN), Some(1.0)]));
        let zero = || Literal::Int(0);
        assert_eq!(rows(&array, &Test::Equal(zero())), [0]);
        assert_eq!(rows(&array, &Test::NotEqual(zero())), [2, 3, 4]);
        assert_eq!(rows(&array, &Test::Less(Literal::Float(5.0))), [0, 4]);
        assert_eq!(rows(&array, &Test::GreaterOrEqual(zero())), [0, 4]);
        assert_eq!(rows(&array, &Test::In(vec![zero(), Literal::Int(1)])), [0, 4]);
        assert_eq!(rows(&array, &Test::NotIn(vec![zero()])), [2, 3, 4]);
    }

    #[test]
    fn statistics_rule_out_only_what_they_surely_exclude() {
        let bounds = |min: Option<i32>, max: Option<i32>| -> (ArrayRef, ArrayRef) {
            (Arc::new(Int32Array::from(vec![min])), Arc::new(Int32Array::from(vec![max])))
        };
        let int = Literal::Int;
        let cases = [
            (Test::Equal(int(9)), false),
            (Test::Equal(int(10)), true),
            (Test::NotEqual(int(10)), true),
            (Test::Less(int(10)), false),
            (Test::LessOrEqual(int(10)), true),
            (Test::Greater(int(20)), false),
            (Test::GreaterOrEqual(int(20)), true),
            (Test::In(vec![int(1), int(30)]), false),
            (Test::In(vec![int(1), int(15)]), true),
            (Test::In(vec![]), false),
            (Test::NotIn(vec![int(15)]), true),
        ];
        for (test, expected) in cases {
            let check = Check::new("x", &DataType::Int32, &test).unwrap();
            let (min, max) = bounds(Some(10), Some(20));
            assert_eq!(check.may_match(&min, &max).unwrap(), expected, "{test:?}");
            let (min, max) = bounds(None, None);
            assert_eq!(check.may_match(&min, &max).unwrap(), test != Test::In(vec![]), "{test:?}");
        }
        let nan: ArrayRef = Arc::new(Float32Array::from(vec![f32::NAN]));
        let check = Check::new("x", &DataType::Float32, &Test::Less(Literal::Float(1.0))).unwrap();
        assert!(check.may_match(&nan, &nan).unwrap());
    }

    #[test]
    fn literals_keep_their_value_or_are_refused() {
        let refused = |data_type: DataType, literal: Literal| {
            let error = Check::new("x", &data_type, &Test::Equal(literal)).unwrap_err();
            assert!(error.to_string().contains("\"x\""), "{error}");
        };
        refused(DataType::Int8, Literal::Int(128));
        refused(DataType::Int64, Literal::Float(0.5));
        refused(DataType::Int64, Literal::Float(f64::INFINITY));
        refused(DataType::UInt64, Literal::Int(-1));
        refused(DataType::Boolean, Literal::Int(1));
        refused(DataType::Utf8, Literal::Bytes(b"a".to_vec()));
        refused(DataType::Date32, Literal::Int(5));
        let text: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
        assert_eq!(rows(&text, &Test::Greater(Literal::Text("a".into()))), [1]);
        let written = serde_json::to_string(&Test::In(vec![Literal::Float(f64::INFINITY)])).unwrap();
        assert_eq!(written, r#"{"in":[{"float":"inf"}]}"#);
        assert_eq!(serde_json::from_str::<Test>(&written).unwrap(), Test::In(vec![Literal::Float(f64::INFINITY)]));
    }
}
