//! Nested values as JSON documents: maps, lists of lists, lists of structs. A map is a list of pairs, as its keys may
//! repeat and need not be text; NaN and the infinities are written as Python's `json` reads them.

use std::io::Write as _;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Float16Type, Float32Type, Float64Type};

use super::projection::natural_dtype;
use crate::field::DType;
use crate::{Error, Result};

/// Whether every value of the type can be written.
pub(crate) fn supports(data_type: &DataType, depth_max: usize) -> bool {
    let Some(depth) = depth_max.checked_sub(1) else { return false };
    match data_type {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            supports(item.data_type(), depth)
        }
        DataType::Map(entries, _) => supports(entries.data_type(), depth),
        DataType::Struct(fields) => fields.iter().all(|field| supports(field.data_type(), depth)),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => true,
        other => natural_dtype(other).is_some(),
    }
}

/// Appends the JSON of one value.
pub(crate) fn write(array: &ArrayRef, row: usize, out: &mut Vec<u8>) -> Result<()> {
    if array.is_null(row) || array.data_type() == &DataType::Null {
        out.extend_from_slice(b"null");
        return Ok(());
    }
    match array.data_type() {
        DataType::List(_) => write_list(&array.as_list::<i32>().value(row), out),
        DataType::LargeList(_) => write_list(&array.as_list::<i64>().value(row), out),
        DataType::FixedSizeList(..) => write_list(&array.as_fixed_size_list().value(row), out),
        DataType::Map(..) => {
            let map = array.as_map();
            let entries = map.value(row);
            write_items(entries.len(), out, |i, out| {
                out.push(b'[');
                write(entries.column(0), i, out)?;
                out.push(b',');
                write(entries.column(1), i, out)?;
                out.push(b']');
                Ok(())
            })
        }
        DataType::Struct(fields) => {
            let columns = array.as_struct();
            out.push(b'{');
            for (i, field) in fields.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_text(field.name(), out)?;
                out.push(b':');
                write(columns.column(i), row, out)?;
            }
            out.push(b'}');
            Ok(())
        }
        DataType::Utf8 => write_text(array.as_string::<i32>().value(row), out),
        DataType::LargeUtf8 => write_text(array.as_string::<i64>().value(row), out),
        DataType::Utf8View => write_text(array.as_string_view().value(row), out),
        other => write_number(array, natural_dtype(other), row, out),
    }
}

fn write_list(items: &ArrayRef, out: &mut Vec<u8>) -> Result<()> {
    write_items(items.len(), out, |i, out| write(items, i, out))
}

fn write_items(count: usize, out: &mut Vec<u8>, mut item: impl FnMut(usize, &mut Vec<u8>) -> Result<()>) -> Result<()> {
    out.push(b'[');
    for i in 0..count {
        if i > 0 {
            out.push(b',');
        }
        item(i, out)?;
    }
    out.push(b']');
    Ok(())
}

fn write_text(text: &str, out: &mut Vec<u8>) -> Result<()> {
    serde_json::to_writer(out, text).map_err(|error| Error::internal(error.to_string()))
}

fn write_number(array: &ArrayRef, dtype: Option<DType>, row: usize, out: &mut Vec<u8>) -> Result<()> {
    fn float<T: ArrowPrimitiveType>(array: &ArrayRef, row: usize) -> T::Native {
        array.as_primitive::<T>().value(row)
    }
    let text = |out: &mut Vec<u8>, text: std::fmt::Arguments<'_>| {
        out.write_fmt(text).map_err(|error| Error::internal(error.to_string()))
    };
    match dtype {
        Some(DType::F16) => write_float(f64::from(float::<Float16Type>(array, row)), out),
        Some(DType::F32) => write_float(f64::from(float::<Float32Type>(array, row)), out),
        Some(DType::F64) => write_float(float::<Float64Type>(array, row), out),
        Some(DType::Bool) => text(out, format_args!("{}", array.as_boolean().value(row))),
        Some(dtype) => {
            let data = array.to_data();
            let width = dtype.width();
            let start = (data.offset() + row) * width;
            let bytes = data.buffers().first().and_then(|buffer| buffer.as_slice().get(start..start + width));
            let bytes = bytes.ok_or_else(|| Error::corrupt("a column is shorter than its length"))?;
            match dtype {
                DType::U8 => text(out, format_args!("{}", bytes[0])),
                DType::I8 => text(out, format_args!("{}", bytes[0] as i8)),
                DType::U16 => text(out, format_args!("{}", bytemuck::pod_read_unaligned::<u16>(bytes))),
                DType::I16 => text(out, format_args!("{}", bytemuck::pod_read_unaligned::<i16>(bytes))),
                DType::U32 => text(out, format_args!("{}", bytemuck::pod_read_unaligned::<u32>(bytes))),
                DType::I32 => text(out, format_args!("{}", bytemuck::pod_read_unaligned::<i32>(bytes))),
                DType::U64 => text(out, format_args!("{}", bytemuck::pod_read_unaligned::<u64>(bytes))),
                _ => text(out, format_args!("{}", bytemuck::pod_read_unaligned::<i64>(bytes))),
            }
        }
        None => Err(Error::unsupported(format!("values of type {} cannot be written as JSON", array.data_type()))),
    }
}

fn write_float(value: f64, out: &mut Vec<u8>) -> Result<()> {
    if value.is_finite() {
        serde_json::to_writer(out, &value).map_err(|error| Error::internal(error.to_string()))
    } else {
        let text: &[u8] = if value.is_nan() {
            b"NaN"
        } else if value > 0.0 {
            b"Infinity"
        } else {
            b"-Infinity"
        };
        out.extend_from_slice(text);
        Ok(())
    }
}
