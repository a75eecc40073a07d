//! One block, from bytes to rows.

use arrow::array::{Array, ArrayData, ArrayRef, RecordBatch, make_array};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer};
use arrow::datatypes::DataType;
use arrow::ipc::reader::RecordBatchDecoder;
use bytes::Bytes;

use super::batch::{Batch, BufferPlace, General, LeafPlace, RATIO_MAX, is_bits, mask_span, values_span};
use super::message;
use super::plan::Flat;
use super::{ArrowIpc, BlockPlace, FileEntry};
use crate::format::cast::{Values, column_of};
use crate::format::columns::{find_leaf, primitive_bytes};
use crate::format::guard::guard;
use crate::format::partition::Partitions;
use crate::format::projection::{Leaf, Target, natural_dtype};
use crate::format::ranges::Pieces;
use crate::memory::room;
use crate::rows::{Column, Rows};
use crate::{Error, ErrorKind, Result};

/// Rows that are converted together, so that their values stay in the cache until they are in place.
const CONVERTED_ROWS: usize = 4096;
/// A buffer that unpacks to no more is never suspected.
const UNPACKED_FREE: u64 = 16 << 20;
/// Nor are buffers that together unpack to no more.
const UNPACKED_TOTAL_FREE: u64 = 256 << 20;
/// Where buffers are copied together they begin at multiples of this.
const BUFFER_ALIGN: usize = 64;

impl ArrowIpc {
    /// Decodes the `count` rows at `place` from the bytes of their ranges.
    pub(super) fn decode_rows(&self, place: BlockPlace, count: u64, bytes: &[Bytes], rows: &mut Rows) -> Result<()> {
        let file = &self.files[place.file as usize];
        let result = Pieces::new(&self.ranges_of(place, count), bytes).and_then(|pieces| {
            let batch = &file.batches[place.batch as usize];
            let decoder = Decoder { file, partitions: &self.partitions, batch, place, count: count as usize, pieces };
            guard("the record batch", || decoder.decode(rows))
        });
        result.map_err(|error| error.in_file(&self.sources[place.file as usize].name).in_block(place.batch.into()))
    }
}

struct Decoder<'a> {
    file: &'a FileEntry,
    partitions: &'a Partitions,
    batch: &'a Batch,
    place: BlockPlace,
    count: usize,
    pieces: Pieces,
}

/// Where the values of one output come from.
enum Input {
    /// The bytes as they are delivered.
    Raw(Buffer),
    /// To be converted.
    Array(ArrayRef),
}

impl Decoder<'_> {
    fn decode(&self, rows: &mut Rows) -> Result<()> {
        let projection = &self.file.plan.projection;
        let inputs = self.inputs()?;
        let before = rows.complete_rows()?;
        let outputs = projection.outputs();
        let mut built = projection.dense_buffers();
        let all_raw = outputs.iter().zip(&inputs).all(|(output, input)| is_aligned(&output.target, input));
        let step = if all_raw { self.count.max(1) } else { CONVERTED_ROWS };
        for done in (0..self.count).step_by(step) {
            let count = step.min(self.count - done);
            built.iter_mut().for_each(Values::clear);
            for (place, (output, input)) in outputs.iter().zip(&inputs).enumerate() {
                match (input, &output.target) {
                    (Input::Array(array), _) => {
                        let row = self.batch.file_row + self.place.skip + done as u64;
                        projection.append_output(place, &array.slice(done, count), row, &mut built, rows)?;
                    }
                    (Input::Raw(bytes), Target::Dense { dtype, per_row, .. }) if !is_aligned(&output.target, input) => {
                        let width = dtype.width() * per_row;
                        built[place].reserve(count * per_row)?;
                        built[place].extend_bytes(&bytes[done * width..(done + count) * width]);
                    }
                    _ => {}
                }
            }
            let mut columns: Vec<(usize, Column<'_>)> = Vec::with_capacity(outputs.len());
            for (place, (output, input)) in outputs.iter().zip(&inputs).enumerate() {
                let Target::Dense { offset, dtype, per_row, .. } = output.target else { continue };
                let width = dtype.width() * per_row;
                columns.push((
                    offset,
                    match input {
                        Input::Raw(bytes) if is_aligned(&output.target, input) => {
                            column_of(&bytes[done * width..(done + count) * width], dtype.width(), per_row)
                        }
                        _ => built[place].column(per_row),
                    },
                ));
            }
            rows.append_columns(&columns)?;
        }
        if outputs.is_empty() || rows.complete_rows()? == before + self.count {
            Ok(())
        } else {
            Err(Error::corrupt("a column has another number of rows than its record batch. Restore the file"))
        }
    }

    /// The values of every output.
    fn inputs(&self) -> Result<Vec<Input>> {
        let plan = &self.file.plan;
        let general = self.batch.general.as_ref().map(|general| self.read_general(general)).transpose()?;
        let mut arrays: Vec<Option<ArrayRef>> = vec![None; plan.leaves.len()];
        let mut inputs = Vec::with_capacity(plan.projection.outputs().len());
        for output in plan.projection.outputs() {
            let leaf = &plan.projection.leaves()[output.leaf];
            let input = match (&self.batch.leaves[output.leaf], plan.leaves[output.leaf].flat()) {
                (LeafPlace::Flat { values, masks }, Some(flat)) => {
                    self.flat_input(*values, masks, flat, leaf, &output.target, &mut arrays[output.leaf])
                }
                (LeafPlace::Partition(at), _) => {
                    array_input(self.partitions.column(self.place.file as usize, *at, self.count), &output.target)
                }
                _ => general
                    .as_ref()
                    .ok_or_else(|| Error::internal("a column was not read"))
                    .and_then(|batch| array_input(find_leaf(leaf, batch)?, &output.target)),
            };
            inputs.push(input.map_err(|error| error.in_field(&leaf.name))?);
        }
        Ok(inputs)
    }

    fn buffer(&self, (offset, len): (u64, u64)) -> Result<Buffer> {
        self.pieces.get(offset, len).map(Buffer::from).ok_or_else(|| Error::internal("a buffer was not brought"))
    }

    fn flat_input(
        &self,
        values: u64,
        masks: &[u64],
        flat: Flat,
        leaf: &Leaf,
        target: &Target,
        array: &mut Option<ArrayRef>,
    ) -> Result<Input> {
        let (skip, rows) = (self.place.skip, self.count as u64);
        let values = self.buffer(values_span(values, flat, skip, rows))?;
        if let Target::Dense { dtype, per_row, pad: None, .. } = target
            && masks.is_empty()
            && !is_bits(flat)
            && (flat.dtype, flat.per_row) == (*dtype, *per_row)
        {
            return Ok(Input::Raw(values));
        }
        if array.is_none() {
            let mut nulls = None;
            for &mask in masks {
                let bits = BooleanBuffer::new(self.buffer(mask_span(mask, skip, rows))?, 0, self.count);
                nulls = NullBuffer::union(nulls.as_ref(), Some(&NullBuffer::new(bits)));
            }
            *array = Some(make_array(flat_data(&leaf.data_type, self.count, values, nulls)?));
        }
        array.clone().map(Input::Array).ok_or_else(|| Error::internal("an array was not built"))
    }

    /// Lets arrow's reader decode the columns that are not plain numbers.
    fn read_general(&self, general: &General) -> Result<RecordBatch> {
        if general.compressed {
            let packed = general.buffers.iter().map(|&(_, offset, len)| self.buffer((offset, len)));
            let packed = packed.collect::<Result<Vec<Buffer>>>()?;
            check_growth(packed.iter().map(Buffer::as_slice))?;
        }
        let (body, offsets) = self.gather(general)?;
        let metadata = rebase(&general.metadata, &offsets)?;
        let message = message::parse(&metadata)?;
        let wrong = || Error::internal("a record batch was lost");
        let header = message.header_as_record_batch().ok_or_else(wrong)?;
        let dictionaries = self.file.dictionaries.get(self.batch.dictionaries).ok_or_else(wrong)?;
        let version = message.version();
        let schema = self.file.plan.schema.clone();
        let decoder = RecordBatchDecoder::try_new(&body, header, schema, dictionaries, &version)
            .map_err(message::arrow_error)?
            .with_projection(Some(&general.roots));
        let batch = decoder.read_record_batch().map_err(message::arrow_error)?;
        if batch.num_rows() == self.count {
            Ok(batch)
        } else {
            Err(Error::corrupt("a column has another number of rows than its record batch. Restore the file"))
        }
    }

    /// The buffers in one piece of memory, and where each is in it.
    fn gather(&self, general: &General) -> Result<(Buffer, Vec<BufferPlace>)> {
        let filled = || general.buffers.iter().filter(|(_, _, len)| *len > 0);
        let first = filled().map(|(_, offset, _)| *offset).min().unwrap_or(0);
        let end = filled().map(|(_, offset, len)| offset + len).max().unwrap_or(0);
        if let Some(bytes) = self.pieces.get(first, end - first) {
            let offsets = filled().map(|&(index, offset, len)| (index, offset - first, len)).collect();
            return Ok((Buffer::from(bytes), offsets));
        }
        let mut body = Vec::new();
        let padded = filled().map(|(_, _, len)| (*len as usize).next_multiple_of(BUFFER_ALIGN));
        room(&mut body, padded.sum())?;
        let mut offsets = Vec::new();
        for &(index, offset, len) in filled() {
            body.resize(body.len().next_multiple_of(BUFFER_ALIGN), 0);
            offsets.push((index, body.len() as u64, len));
            body.extend_from_slice(&self.buffer((offset, len))?);
        }
        Ok((Buffer::from_vec(body), offsets))
    }
}

/// Whether the bytes can be written as they lie.
fn is_aligned(target: &Target, input: &Input) -> bool {
    match (target, input) {
        (Target::Dense { dtype, per_row, .. }, Input::Raw(bytes)) => {
            *per_row != 1 || bytes.as_ptr().align_offset(dtype.width()) == 0
        }
        _ => false,
    }
}

/// Decoded values: as they are, where nothing has to be done to them.
fn array_input(array: ArrayRef, target: &Target) -> Result<Input> {
    if let Target::Dense { dtype, per_row: 1, pad: None, .. } = target
        && natural_dtype(array.data_type()) == Some(*dtype)
        && array.data_type() != &DataType::Boolean
        && array.null_count() == 0
    {
        return primitive_bytes(&array, *dtype).map(Input::Raw);
    }
    Ok(Input::Array(array))
}

/// Numbers, or lists of fixed size of them without nulls, as an array.
fn flat_data(data_type: &DataType, len: usize, values: Buffer, nulls: Option<NullBuffer>) -> Result<ArrayData> {
    let builder = ArrayData::builder(data_type.clone()).len(len).nulls(nulls).align_buffers(true);
    let builder = match data_type {
        DataType::FixedSizeList(item, length) => {
            let items = usize::try_from(*length).ok().and_then(|length| length.checked_mul(len));
            let items = items.ok_or_else(|| Error::corrupt("a list has an absurd size. Restore the file"))?;
            builder.add_child_data(flat_data(item.data_type(), items, values, None)?)
        }
        _ => builder.add_buffer(values),
    };
    builder.build().map_err(message::arrow_error)
}

/// Refuses packed buffers that claim to unpack to far more than was read.
pub(super) fn check_growth<'a>(packed: impl Iterator<Item = &'a [u8]>) -> Result<()> {
    let (mut packed_total, mut total) = (0u64, 0u64);
    let steep = |claimed: u64, packed: u64| {
        let why = format!(
            "buffers of {packed} bytes claim {claimed} bytes when decompressed, which is over {RATIO_MAX} times their \
             size. Write smaller record batches, or do not compress them"
        );
        Err(Error::new(ErrorKind::Budget, why))
    };
    for bytes in packed.filter(|bytes| !bytes.is_empty()) {
        let Some((prefix, rest)) = bytes.split_first_chunk::<8>() else {
            return Err(Error::corrupt("a compressed buffer is cut short. Restore the file"));
        };
        let claimed = match i64::from_le_bytes(*prefix) {
            // Stored as it is.
            -1 => rest.len() as u64,
            claimed => u64::try_from(claimed)
                .map_err(|_| Error::corrupt(format!("a buffer claims {claimed} bytes. Restore the file")))?,
        };
        let len = bytes.len() as u64;
        if claimed > UNPACKED_FREE && claimed / len > RATIO_MAX {
            return steep(claimed, len);
        }
        (packed_total, total) = (packed_total + len, total.saturating_add(claimed));
    }
    if total > UNPACKED_TOTAL_FREE && total / packed_total.max(1) > RATIO_MAX {
        return steep(total, packed_total);
    }
    Ok(())
}

/// The message with its buffers where they now are; those that were not brought are empty.
fn rebase(metadata: &Bytes, buffers: &[BufferPlace]) -> Result<Vec<u8>> {
    let wrong = || Error::internal("a record batch was lost");
    let list =
        message::parse(metadata)?.header_as_record_batch().and_then(|header| header.buffers()).ok_or_else(wrong)?;
    let entries = list.bytes();
    let start = (entries.as_ptr() as usize).checked_sub(metadata.as_ptr() as usize).ok_or_else(wrong)?;
    let mut metadata = metadata.to_vec();
    let entries = metadata.get_mut(start..start + entries.len()).ok_or_else(wrong)?;
    entries.fill(0);
    for &(index, offset, len) in buffers {
        let entry = entries.get_mut(index * 16..(index + 1) * 16).ok_or_else(wrong)?;
        entry[..8].copy_from_slice(&offset.to_le_bytes());
        entry[8..].copy_from_slice(&len.to_le_bytes());
    }
    Ok(metadata)
}
