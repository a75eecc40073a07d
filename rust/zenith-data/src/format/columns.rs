//! Values of arrow arrays on their way into rows: nulls filled or refused, lists taken apart, types converted.

use std::borrow::Cow;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, i256};

use super::cast::{Values, cast_append, column_of};
use super::json;
use super::projection::{Leaf, Output, Projection, Target, natural_dtype};
use crate::field::DType;
use crate::rows::{Column, Rows};
use crate::{Error, Result};

impl Projection {
    /// Appends a whole record batch whose columns have the schema that this projection was made for. `first_row` is
    /// the number in the file of its first row, for error messages. Columns that need no change are not copied first.
    pub fn append_batch(&self, batch: &RecordBatch, first_row: u64, rows: &mut Rows) -> Result<()> {
        let arrays = self.leaves().iter().map(|leaf| find_leaf(leaf, batch)).collect::<Result<Vec<_>>>()?;
        let mut built = self.dense_buffers();
        let mut plain = Vec::with_capacity(self.outputs().len());
        for (place, output) in self.outputs().iter().enumerate() {
            let array = &arrays[output.leaf];
            let bytes = match (&output.target, natural_dtype(array.data_type())) {
                (Target::Dense { dtype, per_row: 1, .. }, Some(natural))
                    if natural == *dtype && natural != DType::Bool && array.null_count() == 0 =>
                {
                    Some(primitive_bytes(array, natural)?)
                }
                _ => {
                    self.append_output(place, array, first_row, &mut built, rows)?;
                    None
                }
            };
            plain.push(bytes);
        }
        let mut columns = Vec::new();
        for ((output, bytes), values) in self.outputs().iter().zip(&plain).zip(&built) {
            if let Target::Dense { offset, per_row, dtype, .. } = output.target {
                let column =
                    bytes.as_ref().map_or_else(|| values.column(per_row), |b| column_of(b, dtype.width(), per_row));
                columns.push((offset, column));
            }
        }
        rows.append_columns(&columns)
    }

    /// An empty buffer for each output; those of varying outputs stay empty.
    pub fn dense_buffers(&self) -> Vec<Values> {
        let width = |output: &Output| match output.target {
            Target::Dense { dtype, .. } => dtype.width(),
            _ => 1,
        };
        self.outputs().iter().map(|output| Values::new(width(output))).collect()
    }

    /// Appends the values of `array`, the column of output `place`: dense ones to its buffer, varying ones to `rows`.
    pub fn append_output(
        &self,
        place: usize,
        array: &ArrayRef,
        first_row: u64,
        dense: &mut [Values],
        rows: &mut Rows,
    ) -> Result<()> {
        let output = &self.outputs()[place];
        let array = plain_values(array)?;
        if let Target::Dense { per_row, .. } = &output.target {
            dense[place].reserve(array.len().saturating_mul(*per_row))?;
        }
        let result = match &output.target {
            Target::Dense { dtype, per_row, fill, pad: None, .. } => {
                append_dense(&array, *dtype, *per_row, *fill, &mut dense[place])
            }
            Target::Dense { dtype, per_row, fill, pad: Some(pad), .. } => {
                append_padded(&array, *dtype, *per_row, *fill, *pad, &mut dense[place])
            }
            Target::Ragged { index, dtype, fill } => append_ragged(&array, *dtype, *fill, *index, rows),
            Target::Bytes { index, fill } => append_bytes(&array, fill.as_deref(), *index, rows),
            Target::Json { index } => append_json(&array, *index, rows),
        };
        result.map_err(|(error, row)| error.at_row(first_row + row as u64).in_field(&self.leaves()[output.leaf].name))
    }

    /// The dense columns as `Rows::append_columns` takes them. `raw` may give an output's values in place of `dense`.
    pub fn dense_columns<'a>(&self, dense: &'a [Values], raw: &[Option<&'a Values>]) -> Vec<(usize, Column<'a>)> {
        let mut columns = Vec::with_capacity(dense.len());
        for (place, output) in self.outputs().iter().enumerate() {
            if let Target::Dense { offset, per_row, .. } = output.target {
                let values = raw.get(place).copied().flatten().unwrap_or(&dense[place]);
                columns.push((offset, values.column(per_row)));
            }
        }
        columns
    }
}

/// An error and the row of the array at which it happened.
type Failure = (Error, usize);
type Outcome<T> = std::result::Result<T, Failure>;

pub(crate) fn misfit(value: &str, dtype: DType) -> Error {
    Error::corrupt(format!("the value {value} is no {}. Choose another type with dtypes={{..}}", dtype.name()))
}

pub(crate) fn null_error() -> Error {
    Error::corrupt(
        "the value is missing (null). Give a value for it with nulls={\"<field>\": 0}, or leave the column out",
    )
}

/// The column of `leaf`, with the nulls of the structs around it.
pub(crate) fn find_leaf(leaf: &Leaf, batch: &RecordBatch) -> Result<ArrayRef> {
    let missing = || Error::corrupt(format!("column {:?} is missing", leaf.name));
    let (first, rest) = leaf.path.split_first().ok_or_else(missing)?;
    let mut array = batch.column_by_name(first).ok_or_else(missing)?.clone();
    for name in rest {
        let parent = array.as_struct_opt().ok_or_else(missing)?;
        let child = parent.column_by_name(name).ok_or_else(missing)?;
        array = match parent.nulls() {
            Some(nulls) if nulls.null_count() > 0 => {
                let both = NullBuffer::union(Some(nulls), child.nulls());
                let data = child.to_data().into_builder().nulls(both).build();
                arrow::array::make_array(data.map_err(|error| Error::corrupt(error.to_string()))?)
            }
            _ => child.clone(),
        };
    }
    Ok(array)
}

/// Dictionary values in place of their codes.
fn plain_values(array: &ArrayRef) -> Result<Cow<'_, ArrayRef>> {
    match array.data_type() {
        DataType::Dictionary(_, values) => {
            arrow::compute::cast(array, values).map(Cow::Owned).map_err(|error| Error::corrupt(error.to_string()))
        }
        _ => Ok(Cow::Borrowed(array)),
    }
}

/// The stored bytes of an array of fixed width.
pub(crate) fn primitive_bytes(array: &ArrayRef, dtype: DType) -> Result<arrow::buffer::Buffer> {
    let data = array.to_data();
    let (start, len) = (data.offset() * dtype.width(), data.len() * dtype.width());
    match data.buffers().first() {
        Some(buffer) if start + len <= buffer.len() => Ok(buffer.slice_with_length(start, len)),
        _ => Err(Error::corrupt("a column is shorter than its length")),
    }
}

/// The values of a scalar type as bytes of the type that they are stored as.
fn natural_values(array: &ArrayRef) -> Outcome<(DType, Vec<u8>)> {
    match array.data_type() {
        DataType::Boolean => {
            let values: &BooleanArray = array.as_boolean();
            Ok((DType::Bool, values.values().iter().map(u8::from).collect()))
        }
        DataType::Decimal32(_, scale) => decimals(array, array.as_primitive::<Decimal32Type>().iter(), *scale),
        DataType::Decimal64(_, scale) => decimals(array, array.as_primitive::<Decimal64Type>().iter(), *scale),
        DataType::Decimal128(_, scale) => decimals(array, array.as_primitive::<Decimal128Type>().iter(), *scale),
        DataType::Decimal256(_, scale) => decimals(array, array.as_primitive::<Decimal256Type>().iter(), *scale),
        other => {
            let dtype = natural_dtype(other).ok_or_else(|| (Error::internal(format!("{other} is no number")), 0))?;
            let bytes = primitive_bytes(array, dtype).map_err(|error| (error, 0))?;
            Ok((dtype, bytes.to_vec()))
        }
    }
}

/// Decimals of scale 0 as `int64`, others as the nearest `float64`.
fn decimals<T>(array: &ArrayRef, values: impl Iterator<Item = Option<T>>, scale: i8) -> Outcome<(DType, Vec<u8>)>
where
    T: Into<i256>,
{
    let mut bytes = Vec::with_capacity(array.len() * 8);
    for (row, value) in values.enumerate() {
        let value: i256 = value.map_or(i256::ZERO, Into::into);
        if scale == 0 {
            let exact = value.to_i128().and_then(|v| i64::try_from(v).ok());
            let exact = exact.ok_or_else(|| (misfit(&value.to_string(), DType::I64), row))?;
            bytes.extend_from_slice(&exact.to_le_bytes());
        } else {
            // The decimal text is read back, which rounds once and correctly.
            let nearest: f64 = format!("{value}e{}", -i32::from(scale)).parse().unwrap_or(f64::NAN);
            bytes.extend_from_slice(&nearest.to_le_bytes());
        }
    }
    Ok((if scale == 0 { DType::I64 } else { DType::F64 }, bytes))
}

/// Appends scalars, converted, with nulls filled. `nulls` is that of the elements; `per_row` only numbers rows.
fn append_scalars(
    array: &ArrayRef,
    nulls: Option<&NullBuffer>,
    dtype: DType,
    per_row: usize,
    fill: Option<u64>,
    out: &mut Values,
) -> Outcome<()> {
    let per_row = per_row.max(1);
    let nulls = nulls.filter(|nulls| nulls.null_count() > 0);
    if let (Some(nulls), None) = (nulls, fill) {
        let first = (0..nulls.len()).find(|&i| nulls.is_null(i)).unwrap_or(0);
        return Err((null_error(), first / per_row));
    }
    // The items of a list may be codes of a dictionary.
    let array = plain_values(array).map_err(|error| (error, 0))?;
    let (natural, bytes) = natural_values(&array).map_err(|(error, at)| (error, at / per_row))?;
    let start = out.len();
    let Some(nulls) = nulls else {
        return cast_append(&bytes, natural, dtype, out).map_err(|m| (misfit(&m.value, dtype), m.index / per_row));
    };
    // What lies in the place of a null is unspecified and need not fit.
    let mut bytes = bytes;
    let width = natural.width();
    for i in (0..nulls.len()).filter(|&i| nulls.is_null(i)) {
        bytes[i * width..(i + 1) * width].fill(0);
    }
    cast_append(&bytes, natural, dtype, out).map_err(|m| (misfit(&m.value, dtype), m.index / per_row))?;
    for i in (0..nulls.len()).filter(|&i| nulls.is_null(i)) {
        out.set(start + i, fill.unwrap_or(0));
    }
    Ok(())
}

/// Scalars, or lists of fixed size: down to the scalars, each level's nulls spread over its elements.
fn append_dense(array: &ArrayRef, dtype: DType, per_row: usize, fill: Option<u64>, out: &mut Values) -> Outcome<()> {
    let mut array = array.clone();
    let mut nulls = array.logical_nulls();
    while let DataType::FixedSizeList(_, length) = array.data_type() {
        let length = usize::try_from(*length).unwrap_or(0);
        let list = array.as_fixed_size_list();
        let items = list.values().slice(list.value_offset_at(0), list.len() * length);
        let spread = nulls.filter(|nulls| nulls.null_count() > 0).map(|nulls| nulls.expand(length));
        nulls = NullBuffer::union(spread.as_ref(), items.logical_nulls().as_ref());
        array = items;
    }
    append_scalars(&array, nulls.as_ref(), dtype, per_row, fill, out)
}

/// The elements of all lists converted into `items`, and each row's place among them.
fn list_items(
    array: &ArrayRef,
    dtype: DType,
    fill: Option<u64>,
    items: &mut Values,
) -> Outcome<Vec<std::ops::Range<usize>>> {
    let offsets: Vec<usize> = match array.data_type() {
        DataType::List(_) => array.as_list::<i32>().value_offsets().iter().map(|&o| o as usize).collect(),
        DataType::LargeList(_) => array.as_list::<i64>().value_offsets().iter().map(|&o| o as usize).collect(),
        other => return Err((Error::internal(format!("{other} is no list")), 0)),
    };
    let values = match array.data_type() {
        DataType::List(_) => array.as_list::<i32>().values(),
        _ => array.as_list::<i64>().values(),
    };
    if let (Some(nulls), None) = (array.nulls().filter(|nulls| nulls.null_count() > 0), fill) {
        return Err((null_error(), (0..nulls.len()).find(|&i| nulls.is_null(i)).unwrap_or(0)));
    }
    let (first, last) = (offsets.first().copied().unwrap_or(0), offsets.last().copied().unwrap_or(0));
    let values = values.slice(first, last - first);
    let nulls = values.logical_nulls();
    items.reserve(values.len()).map_err(|error| (error, 0))?;
    append_scalars(&values, nulls.as_ref(), dtype, 1, fill, items).map_err(|(error, item)| {
        (error, offsets.partition_point(|&offset| offset <= first + item).saturating_sub(1))
    })?;
    // A null list is an empty one once nulls are to be filled, even if it has elements behind its back.
    let range = |row: usize| if array.is_null(row) { 0..0 } else { offsets[row] - first..offsets[row + 1] - first };
    Ok((0..array.len()).map(range).collect())
}

fn append_ragged(array: &ArrayRef, dtype: DType, fill: Option<u64>, index: usize, rows: &mut Rows) -> Outcome<()> {
    let mut items = Values::new(dtype.width());
    let width = dtype.width();
    for range in list_items(array, dtype, fill, &mut items)? {
        rows.push_varying(index, &items.bytes()[range.start * width..range.end * width]);
    }
    Ok(())
}

fn append_padded(
    array: &ArrayRef,
    dtype: DType,
    length: usize,
    fill: Option<u64>,
    pad: u64,
    out: &mut Values,
) -> Outcome<()> {
    let mut items = Values::new(dtype.width());
    let width = dtype.width();
    for (row, range) in list_items(array, dtype, fill, &mut items)?.into_iter().enumerate() {
        if range.len() > length {
            let why = format!("a list has {} elements, but they are padded to {length}. Raise pad_length", range.len());
            return Err((Error::invalid(why), row));
        }
        let end = out.len() + length;
        out.extend_bytes(&items.bytes()[range.start * width..range.end * width]);
        out.resize(end, pad);
    }
    Ok(())
}

fn append_bytes(array: &ArrayRef, fill: Option<&[u8]>, index: usize, rows: &mut Rows) -> Outcome<()> {
    fn push<'a>(
        values: impl Iterator<Item = Option<&'a [u8]>>,
        fill: Option<&'a [u8]>,
        index: usize,
        rows: &mut Rows,
    ) -> Outcome<()> {
        for (row, value) in values.enumerate() {
            rows.push_varying(index, value.or(fill).ok_or_else(|| (null_error(), row))?);
        }
        Ok(())
    }
    match array.data_type() {
        DataType::Utf8 => push(array.as_string::<i32>().iter().map(|v| v.map(str::as_bytes)), fill, index, rows),
        DataType::LargeUtf8 => push(array.as_string::<i64>().iter().map(|v| v.map(str::as_bytes)), fill, index, rows),
        DataType::Utf8View => push(array.as_string_view().iter().map(|v| v.map(str::as_bytes)), fill, index, rows),
        DataType::Binary => push(array.as_binary::<i32>().iter(), fill, index, rows),
        DataType::LargeBinary => push(array.as_binary::<i64>().iter(), fill, index, rows),
        DataType::BinaryView => push(array.as_binary_view().iter(), fill, index, rows),
        DataType::FixedSizeBinary(_) => push(array.as_fixed_size_binary().iter(), fill, index, rows),
        other => Err((Error::internal(format!("{other} is neither text nor bytes")), 0)),
    }
}

fn append_json(array: &ArrayRef, index: usize, rows: &mut Rows) -> Outcome<()> {
    let mut document = Vec::new();
    for row in 0..array.len() {
        document.clear();
        json::write(array, row, &mut document).map_err(|error| (error, row))?;
        rows.push_varying(index, &document);
    }
    Ok(())
}
