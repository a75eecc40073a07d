//! A batch as Rust programs see it: fields by name as slices, or all of it as an Arrow record batch, without a copy.

use std::sync::Arc;

use arrow::array::{Array, ArrayData, ArrayRef, BooleanArray, make_array};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, Field as ArrowField, Schema as ArrowSchema};
use arrow::record_batch::RecordBatch;
use bytemuck::Pod;
use bytes::Bytes;
use zenith_data::batch::{self, FieldData};
use zenith_data::{DType, Error, ErrorKind, Field, FieldKind, Result};
use zenith_host::Slab;

/// Samples that were handed out together. Clones share the memory, which goes back to its pool with the last of them and
/// of the arrays made from them.
#[derive(Debug, Clone)]
pub struct Batch {
    rows: usize,
    schema: Arc<[Field]>,
    columns: Vec<Column>,
}

#[derive(Debug, Clone)]
enum Column {
    Dense(Bytes),
    /// Value `i` is `bytes[offsets[i]..offsets[i + 1]]`.
    Varying {
        offsets: Arc<[i64]>,
        bytes: Bytes,
    },
}

impl Batch {
    pub(crate) fn new(batch: batch::Batch<Slab>, schema: Arc<[Field]>) -> Self {
        let columns = batch.fields.into_iter().map(|data| match data {
            FieldData::Dense(slab) => Column::Dense(Bytes::from_owner(slab)),
            FieldData::Varying { offsets, bytes } => {
                Column::Varying { offsets: offsets.iter().map(|&offset| offset as i64).collect(), bytes: bytes.into() }
            }
        });
        Self { rows: batch.rows, columns: columns.collect(), schema }
    }

    /// Samples in the batch.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Names, element types and shapes of the fields.
    pub fn fields(&self) -> &[Field] {
        &self.schema
    }

    /// The values of a dense field, `rows` × its shape in C order. Errors: no such field, another element type, a field
    /// of varying size.
    ///
    /// `T` is the Rust type of the field's dtype (`f32`, `i64`, `half::f16`, …; `u8` for booleans).
    pub fn values<T: Element>(&self, name: &str) -> Result<&[T]> {
        let (field, column) = self.find(name)?;
        match (&field.kind, column) {
            (FieldKind::Dense { dtype, .. }, Column::Dense(bytes)) if T::DTYPES.contains(dtype) => {
                bytemuck::try_cast_slice(bytes).map_err(|error| Error::internal(error.to_string()).in_field(name))
            }
            (FieldKind::Dense { dtype, .. }, _) => {
                let why = format!("the field is {}, not {}", dtype.name(), std::any::type_name::<T>());
                Err(Error::invalid(why).in_field(name))
            }
            _ => Err(Error::invalid("the field's values vary in size: use Batch::value").in_field(name)),
        }
    }

    /// The bytes of one value of a field of varying size: text, binary, JSON, or the numbers of a ragged list. Errors: no
    /// such field, a dense field, no such row.
    pub fn value(&self, name: &str, row: usize) -> Result<&[u8]> {
        match self.find(name)?.1 {
            Column::Varying { offsets, bytes } if row < self.rows => {
                Ok(&bytes[offsets[row] as usize..offsets[row + 1] as usize])
            }
            Column::Varying { .. } => {
                Err(Error::invalid(format!("there is no row {row} in a batch of {}", self.rows)).in_field(name))
            }
            Column::Dense(_) => Err(Error::invalid("the field is dense: use Batch::values").in_field(name)),
        }
    }

    /// The memory of a dense field, shared: it stays as long as the returned value lives. Errors: as of `values`.
    pub fn bytes(&self, name: &str) -> Result<Bytes> {
        match self.find(name)?.1 {
            Column::Dense(bytes) => Ok(bytes.clone()),
            Column::Varying { .. } => Err(Error::invalid("the field's values vary in size").in_field(name)),
        }
    }

    fn find(&self, name: &str) -> Result<(&Field, &Column)> {
        let found = self.schema.iter().zip(&self.columns).find(|(field, _)| field.name == name);
        found.ok_or_else(|| {
            let names: Vec<&str> = self.schema.iter().map(|field| field.name.as_str()).collect();
            Error::new(ErrorKind::NotFound, format!("there is no field {name:?}; there are {names:?}"))
        })
    }

    /// The batch as Arrow arrays over the same memory (booleans are copied, for Arrow packs them). A field of shape
    /// `[k]` is a fixed-size list, a ragged one a list; JSON is text. Errors: `bfloat16`, which Arrow does not have.
    pub fn to_record_batch(&self) -> Result<RecordBatch> {
        let mut fields = Vec::with_capacity(self.columns.len());
        let mut arrays = Vec::with_capacity(self.columns.len());
        for (field, column) in self.schema.iter().zip(&self.columns) {
            let array = array(field, column, self.rows).map_err(|error| error.in_field(&field.name))?;
            fields.push(ArrowField::new(&field.name, array.data_type().clone(), false));
            arrays.push(array);
        }
        let options = arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(self.rows));
        RecordBatch::try_new_with_options(Arc::new(ArrowSchema::new(fields)), arrays, &options).map_err(wrong)
    }
}

/// The Rust types of elements.
pub trait Element: Pod {
    /// The element types that are stored as this one.
    const DTYPES: &'static [DType];
}

macro_rules! elements {
    ($($element:ty: $($dtype:ident),+;)+) => {
        $(impl Element for $element {
            const DTYPES: &'static [DType] = &[$(DType::$dtype),+];
        })+
    };
}

elements! {
    u8: U8, Bool; i8: I8; u16: U16; i16: I16; u32: U32; i32: I32; u64: U64; i64: I64;
    half::f16: F16; half::bf16: BF16; f32: F32; f64: F64;
}

#[expect(clippy::needless_pass_by_value, reason = "map_err hands the error over")]
fn wrong(error: arrow::error::ArrowError) -> Error {
    Error::internal(error.to_string())
}

fn array(field: &Field, column: &Column, rows: usize) -> Result<ArrayRef> {
    match (&field.kind, column) {
        (FieldKind::Dense { dtype, shape }, Column::Dense(bytes)) => {
            let mut data = numbers(*dtype, bytes)?;
            for (axis, &extent) in shape.iter().enumerate().rev() {
                let item = Arc::new(ArrowField::new("item", data.data_type().clone(), false));
                let extent = i32::try_from(extent).map_err(|_| Error::unsupported("an extent beyond Arrow's lists"))?;
                let len = rows * shape[..axis].iter().product::<usize>();
                let list = ArrayData::builder(DataType::FixedSizeList(item, extent)).len(len).add_child_data(data);
                data = list.build().map_err(wrong)?;
            }
            Ok(make_array(data))
        }
        (kind, Column::Varying { offsets, bytes }) => varying(kind, offsets, bytes),
        _ => Err(Error::internal("a field came in a form its schema does not have")),
    }
}

fn numbers(dtype: DType, bytes: &Bytes) -> Result<ArrayData> {
    if dtype == DType::Bool {
        return Ok(BooleanArray::from_iter(bytes.iter().map(|&byte| Some(byte != 0))).to_data());
    }
    let data = ArrayData::builder(arrow_type(dtype)?).len(bytes.len() / dtype.width());
    data.add_buffer(Buffer::from(bytes.clone())).build().map_err(wrong)
}

fn arrow_type(dtype: DType) -> Result<DataType> {
    Ok(match dtype {
        DType::Bool => DataType::Boolean,
        DType::U8 => DataType::UInt8,
        DType::I8 => DataType::Int8,
        DType::U16 => DataType::UInt16,
        DType::I16 => DataType::Int16,
        DType::U32 => DataType::UInt32,
        DType::I32 => DataType::Int32,
        DType::U64 => DataType::UInt64,
        DType::I64 => DataType::Int64,
        DType::F16 => DataType::Float16,
        DType::F32 => DataType::Float32,
        DType::F64 => DataType::Float64,
        DType::BF16 => return Err(Error::unsupported("Arrow has no bfloat16. Ask for float32 with dtypes")),
    })
}

fn varying(kind: &FieldKind, offsets: &Arc<[i64]>, bytes: &Bytes) -> Result<ArrayRef> {
    let builder = |data_type| ArrayData::builder(data_type).len(offsets.len().saturating_sub(1));
    let data = match kind {
        FieldKind::Ragged { dtype, .. } => {
            let items: Vec<i64> = offsets.iter().map(|offset| offset / dtype.width() as i64).collect();
            let values = numbers(*dtype, bytes)?;
            let item = Arc::new(ArrowField::new("item", values.data_type().clone(), false));
            builder(DataType::LargeList(item)).add_buffer(Buffer::from_vec(items)).add_child_data(values)
        }
        kind => {
            let text = !matches!(kind, FieldKind::Binary);
            let data_type = if text { DataType::LargeUtf8 } else { DataType::LargeBinary };
            builder(data_type).add_buffer(Buffer::from_slice_ref(&**offsets)).add_buffer(Buffer::from(bytes.clone()))
        }
    };
    data.build().map(make_array).map_err(wrong)
}
