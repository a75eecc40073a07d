//! A batch as its shards are served: for each field one block of rows per shard, of the types that a device program takes.

use zenith_data::batch::{Batch, FieldData};
use zenith_data::memory::BatchMemory;
use zenith_data::{DType, Error, Field, FieldKind, Result};
use zenith_host::Slab;

use crate::memory::HostMemory;

/// How one field is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldLayout {
    /// Its name.
    pub name: String,
    /// Element type in the file's terms.
    pub source: DType,
    /// Element type of what is served.
    pub dtype: DType,
    /// Extents of one row.
    pub shape: Vec<usize>,
}

impl FieldLayout {
    fn values(&self) -> usize {
        self.shape.iter().product()
    }
}

/// How batches are served: shard *s* of *W* gets the rows *s*, *s* + *W*, ... of a batch, in this order.
#[derive(Debug, Clone)]
pub struct Layout {
    /// The fields of a batch.
    pub fields: Vec<FieldLayout>,
    /// *W*.
    pub shards: usize,
    /// Rows of each shard.
    pub rows: usize,
}

impl Layout {
    /// With `narrow`, values of 64 bits are served with 32. Errors: fields without a fixed width, a batch size that
    /// is not a multiple of the shards.
    pub fn new(fields: &[Field], batch_size: u64, shards: usize, narrow: bool) -> Result<Self> {
        let rows = usize::try_from(batch_size).unwrap_or(usize::MAX);
        if shards == 0 || !rows.is_multiple_of(shards) {
            let message = format!("batch_size={batch_size} does not divide among {shards} shards. Choose a multiple");
            return Err(Error::invalid(message));
        }
        let layout = |field: &Field| match &field.kind {
            FieldKind::Dense { dtype, shape } => {
                let served = if narrow { narrower(*dtype) } else { *dtype };
                Ok(FieldLayout { name: field.name.clone(), source: *dtype, dtype: served, shape: shape.clone() })
            }
            _ => Err(Error::unsupported(format!(
                "field {:?} has values of different lengths, which a compiled program cannot take. Leave it out (columns=), or \
                 iterate the loader outside jit",
                field.name
            ))),
        };
        let fields = fields.iter().map(layout).collect::<Result<Vec<_>>>()?;
        Ok(Self { fields, shards, rows: rows / shards })
    }

    /// Puts a batch together as it is served. A short one is filled up with zeros.
    pub(super) fn arrange(&self, batch: Batch<Slab>, memory: &HostMemory) -> Result<Arranged> {
        let mut fields = Vec::with_capacity(self.fields.len());
        for (layout, data) in self.fields.iter().zip(batch.fields) {
            let FieldData::Dense(slab) = data else {
                let message = format!("field {:?} came in a form its schema does not have", layout.name);
                return Err(Error::internal(message));
            };
            let is_ready = self.shards == 1 && batch.rows == self.rows && layout.source == layout.dtype;
            fields.push(if is_ready { slab } else { self.place(layout, slab.as_ref(), batch.rows, memory)? });
        }
        Ok(Arranged { fields, shards: self.shards, valid: batch.rows })
    }

    fn place(&self, field: &FieldLayout, from: &[u8], rows: usize, memory: &HostMemory) -> Result<Slab> {
        let (source, target) = (field.values() * field.source.width(), field.values() * field.dtype.width());
        let mut slab = memory.slab(self.shards * self.rows * target)?;
        let into = slab.as_mut();
        if rows < self.shards * self.rows {
            into.fill(0);
        }
        for row in 0..rows {
            let from = from.get(row * source..(row + 1) * source);
            let place = (row % self.shards * self.rows + row / self.shards) * target;
            let (Some(from), Some(into)) = (from, into.get_mut(place..place + target)) else {
                let message = format!("field {:?} came with fewer rows than its batch", field.name);
                return Err(Error::internal(message));
            };
            narrow(field, from, into).map_err(|value| {
                Error::invalid(format!(
                    "field {:?}: {value} in row {row} of a batch does not fit {}, and JAX has no {} unless jax_enable_x64 is set. \
                     Set it, or store the field with fewer bits",
                    field.name,
                    field.dtype.name(),
                    field.source.name()
                ))
            })?;
        }
        Ok(slab)
    }
}

/// A batch that is ready to be served.
#[derive(Debug)]
pub struct Arranged {
    fields: Vec<Slab>,
    shards: usize,
    valid: usize,
}

impl Arranged {
    /// The rows of a shard.
    pub fn field(&self, index: usize, shard: usize) -> Option<&[u8]> {
        let bytes = self.fields.get(index)?.as_ref();
        let block = bytes.len() / self.shards;
        bytes.get(shard * block..(shard + 1) * block)
    }

    /// Rows of the whole batch that are samples; the others are zeros.
    pub fn valid(&self) -> usize {
        self.valid
    }
}

/// What JAX makes of a type unless it is told to keep 64 bits.
fn narrower(dtype: DType) -> DType {
    match dtype {
        DType::I64 => DType::I32,
        DType::U64 => DType::U32,
        DType::F64 => DType::F32,
        other => other,
    }
}

/// Copies values; the error is the first that does not fit.
fn narrow(field: &FieldLayout, from: &[u8], into: &mut [u8]) -> std::result::Result<(), String> {
    match (field.source, field.dtype) {
        (DType::I64, DType::I32) => {
            convert(from, into, i64::from_ne_bytes, |value| i32::try_from(value).ok().map(i32::to_ne_bytes))
        }
        (DType::U64, DType::U32) => {
            convert(from, into, u64::from_ne_bytes, |value| u32::try_from(value).ok().map(u32::to_ne_bytes))
        }
        (DType::F64, DType::F32) => convert(from, into, f64::from_ne_bytes, |value| {
            let short = value as f32;
            (short.is_finite() || !value.is_finite()).then_some(short.to_ne_bytes())
        }),
        _ => {
            into.copy_from_slice(from);
            Ok(())
        }
    }
}

fn convert<T: Copy + std::fmt::Display>(
    from: &[u8],
    into: &mut [u8],
    read: impl Fn([u8; 8]) -> T,
    shorten: impl Fn(T) -> Option<[u8; 4]>,
) -> std::result::Result<(), String> {
    for (from, into) in from.as_chunks::<8>().0.iter().zip(into.as_chunks_mut::<4>().0) {
        let value = read(*from);
        *into = shorten(value).ok_or_else(|| value.to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(bytes: Vec<u8>, rows: usize, memory: &HostMemory) -> Batch<Slab> {
        let mut slab = memory.slab(bytes.len()).unwrap();
        slab.as_mut().copy_from_slice(&bytes);
        Batch { rows, fields: vec![FieldData::Dense(slab)], position_after: 0 }
    }

    fn layout(dtype: DType, batch_size: u64, shards: usize) -> Result<Layout> {
        let kind = FieldKind::Dense { dtype, shape: vec![2] };
        Layout::new(&[Field { name: "x".into(), kind, unit: None }], batch_size, shards, true)
    }

    fn i32s(bytes: &[u8]) -> Vec<i32> {
        bytes.as_chunks::<4>().0.iter().map(|bytes| i32::from_ne_bytes(*bytes)).collect()
    }

    #[test]
    fn shards_take_turns_and_a_short_batch_ends_in_zeros() {
        let memory = HostMemory::new(0);
        let values: Vec<u8> = (0..10_i64).flat_map(i64::to_ne_bytes).collect();
        let arranged = layout(DType::I64, 6, 2).unwrap().arrange(batch(values, 5, &memory), &memory).unwrap();
        assert_eq!(i32s(arranged.field(0, 0).unwrap()), [0, 1, 4, 5, 8, 9]);
        assert_eq!(i32s(arranged.field(0, 1).unwrap()), [2, 3, 6, 7, 0, 0]);
        assert_eq!(arranged.valid(), 5);
        assert!(arranged.field(0, 2).is_none() && arranged.field(1, 0).is_none());
    }

    #[test]
    fn a_whole_batch_for_one_shard_is_not_copied() {
        let memory = HostMemory::new(0);
        let batch = batch(vec![7; 24], 3, &memory);
        let FieldData::Dense(slab) = &batch.fields[0] else { panic!("dense") };
        let place = slab.as_ref().as_ptr();
        let arranged = layout(DType::F32, 3, 1).unwrap().arrange(batch, &memory).unwrap();
        assert_eq!(arranged.field(0, 0).unwrap().as_ptr(), place);
    }

    #[test]
    fn values_that_do_not_fit_are_named() {
        let memory = HostMemory::new(0);
        let values: Vec<u8> = [1, 2, 3, 1_i64 << 40].into_iter().flat_map(i64::to_ne_bytes).collect();
        let error = layout(DType::I64, 2, 1).unwrap().arrange(batch(values, 2, &memory), &memory).unwrap_err();
        for part in ["\"x\"", "1099511627776", "row 1", "int32"] {
            assert!(error.to_string().contains(part), "{error}");
        }
        let values: Vec<u8> = [f64::INFINITY, 1e300].into_iter().flat_map(f64::to_ne_bytes).collect();
        let error = layout(DType::F64, 1, 1).unwrap().arrange(batch(values, 1, &memory), &memory).unwrap_err();
        assert!(error.to_string().contains("float32"), "{error}");
    }

    #[test]
    fn what_cannot_be_divided_is_refused() {
        assert!(layout(DType::I64, 7, 2).unwrap_err().to_string().contains("batch_size=7"));
        let text = Field { name: "t".into(), kind: FieldKind::Text, unit: None };
        assert!(Layout::new(&[text], 2, 1, true).unwrap_err().to_string().contains("\"t\""));
    }
}
