//! One record batch as its metadata describes it: checked against its body, and where the delivered columns lie.

use std::collections::BTreeSet;

use arrow::datatypes::DataType;
use arrow::ipc::{self, MetadataVersion};
use bytes::Bytes;

use super::layout::Cursor;
use super::message::{self, Envelope};
use super::plan::{Flat, LeafPlan, Plan};
use crate::field::DType;
use crate::format::projection::Target;
use crate::{Error, Result};

/// Columns that need no bytes (of nulls, say) may have this many rows.
const ROWS_FREE: u64 = 1 << 20;
/// The same where a few packed bytes may be many values.
const ROWS_FREE_PACKED: u64 = 1 << 24;
/// Packed bytes may stand for this many times as many.
pub(super) const RATIO_MAX: u64 = 200;
/// Guess of what packed bytes grow to, for estimates.
const RATIO_GUESS: u64 = 3;
/// Bytes that a value of varying size costs beyond its own.
const VARYING_BYTES: u64 = 8;

#[derive(Debug)]
pub(super) struct Batch {
    pub rows: u64,
    /// Its first row in the file.
    pub file_row: u64,
    /// Which of the file's states of the dictionaries it uses.
    pub dictionaries: usize,
    /// Where the leaves of the projection are.
    pub leaves: Vec<LeafPlace>,
    /// What arrow's reader needs, if there are columns for it.
    pub general: Option<General>,
}

#[derive(Debug)]
pub(super) enum LeafPlace {
    /// Plain numbers at byte `values` of the file; validity bitmaps of the leaf and of the structs around it.
    Flat { values: u64, masks: Vec<u64> },
    /// Left to arrow's reader.
    General,
    /// Not in the file: the column of the directories of this number.
    Partition(usize),
}

/// A buffer: its number in the message, its offset and its length.
pub(super) type BufferPlace = (usize, u64, u64);

/// The columns of a batch that arrow's reader takes.
#[derive(Debug)]
pub(super) struct General {
    /// The metadata of the message.
    pub metadata: Bytes,
    pub compressed: bool,
    /// Columns of the file, ascending.
    pub roots: Vec<usize>,
    /// Their buffers in the file.
    pub buffers: Vec<BufferPlace>,
}

/// The lists of a record batch, each entry checked against the body.
pub(super) struct Lists {
    pub rows: u64,
    /// Lengths and counts of nulls.
    nodes: Vec<(u64, u64)>,
    /// Offsets in the file and lengths.
    pub buffers: Vec<(u64, u64)>,
    variadic: Vec<i64>,
    pub compressed: bool,
}

impl Lists {
    pub(super) fn new(batch: ipc::RecordBatch<'_>, body: u64, body_len: u64) -> Result<Self> {
        let compressed = batch.compression().is_some();
        let (growth, free) = if compressed { (RATIO_MAX, ROWS_FREE_PACKED) } else { (1, ROWS_FREE) };
        let rows_max = body_len.saturating_mul(8 * growth).saturating_add(free);
        let count = |value: i64, what: &str| {
            let sound = u64::try_from(value).ok().filter(|&value| value <= rows_max);
            sound.ok_or_else(|| {
                Error::corrupt(format!("a record batch of {body_len} bytes claims {value} {what}. Restore the file"))
            })
        };
        let rows = count(batch.length(), "rows")?;
        let mut nodes = Vec::new();
        for node in batch.nodes().into_iter().flatten() {
            let (len, nulls) = (count(node.length(), "values")?, count(node.null_count(), "nulls")?);
            if nulls > len {
                return Err(Error::corrupt(format!("a column of {len} values claims {nulls} nulls. Restore the file")));
            }
            nodes.push((len, nulls));
        }
        let mut buffers = Vec::new();
        let mut total = 0u64;
        for buffer in batch.buffers().into_iter().flatten() {
            let (offset, len) = (u64::try_from(buffer.offset()).ok(), u64::try_from(buffer.length()).ok());
            let inside =
                offset.zip(len).filter(|(offset, len)| offset.checked_add(*len).is_some_and(|e| e <= body_len));
            let Some((offset, len)) = inside else {
                return Err(Error::corrupt("a buffer lies outside the body of its record batch. Restore the file"));
            };
            total = total.saturating_add(len);
            buffers.push((body + offset, len));
        }
        if total > body_len {
            return Err(Error::corrupt("the buffers of a record batch overlap. Restore the file"));
        }
        let variadic = batch.variadicBufferCounts().into_iter().flatten().collect();
        Ok(Self { rows, nodes, buffers, variadic, compressed })
    }

    fn node(&self, index: usize) -> Result<(u64, u64)> {
        self.nodes.get(index).copied().ok_or_else(fewer)
    }

    fn buffer(&self, index: usize, len_min: u64) -> Result<u64> {
        let &(offset, len) = self.buffers.get(index).ok_or_else(fewer)?;
        if len < len_min {
            let why = format!("a buffer has {len} bytes where {len_min} are needed. Restore the file");
            return Err(Error::corrupt(why).at_offset(offset));
        }
        Ok(offset)
    }
}

fn fewer() -> Error {
    Error::corrupt("a record batch has fewer columns than the schema. Restore the file")
}

impl Batch {
    pub(super) fn new(plan: &Plan, envelope: &Envelope, file_row: u64, dictionaries: usize) -> Result<Self> {
        let message = message::parse(&envelope.metadata)?;
        let wrong = || Error::corrupt("a message holds no record batch where one is expected. Restore the file");
        let header = message.header_as_record_batch().ok_or_else(wrong)?;
        let lists = Lists::new(header, envelope.body, envelope.body_len)?;
        let starts = column_starts(plan, &lists, message.version())?;
        let mut leaves = Vec::with_capacity(plan.leaves.len());
        let mut roots = BTreeSet::new();
        for (leaf, described) in plan.leaves.iter().zip(plan.projection.leaves()) {
            let (root, flat) = match *leaf {
                LeafPlan::Stored { root, flat } => (root, flat),
                LeafPlan::Partition(at) => {
                    leaves.push(LeafPlace::Partition(at));
                    continue;
                }
            };
            let place = match flat {
                Some(flat) if !lists.compressed => {
                    let start = starts.get(root).ok_or_else(fewer)?.clone();
                    locate(plan, &lists, start, root, &described.path, flat)
                        .map_err(|error| error.in_field(&described.name))?
                }
                _ => LeafPlace::General,
            };
            if matches!(place, LeafPlace::General) {
                roots.insert(root);
            }
            leaves.push(place);
        }
        let mut buffers = Vec::new();
        for &root in &roots {
            let (first, end) = match (starts.get(root), starts.get(root + 1)) {
                (Some(first), Some(end)) => (first.buffer, end.buffer),
                _ => return Err(fewer()),
            };
            let span = lists.buffers.get(first..end).ok_or_else(fewer)?;
            buffers.extend(span.iter().enumerate().map(|(i, &(offset, len))| (first + i, offset, len)));
        }
        let general = (!roots.is_empty()).then(|| General {
            metadata: envelope.metadata.clone(),
            compressed: lists.compressed,
            roots: roots.into_iter().collect(),
            buffers,
        });
        Ok(Self { rows: lists.rows, file_row, dictionaries, leaves, general })
    }

    /// Whether any of its rows can be read without the others.
    pub(super) fn is_plain(&self) -> bool {
        !self.leaves.iter().any(|leaf| matches!(leaf, LeafPlace::General))
    }

    /// Where the bytes of `rows` rows after the first `skip` lie: offsets in the file and lengths.
    pub(super) fn spans(&self, plan: &Plan, skip: u64, rows: u64) -> Vec<(u64, u64)> {
        let mut spans = Vec::new();
        for (place, leaf) in self.leaves.iter().zip(&plan.leaves) {
            if let (LeafPlace::Flat { values, masks }, Some(flat)) = (place, leaf.flat()) {
                spans.push(values_span(*values, flat, skip, rows));
                spans.extend(masks.iter().map(|&mask| mask_span(mask, skip, rows)));
            }
        }
        spans.extend(self.general.iter().flat_map(|general| &general.buffers).map(|&(_, offset, len)| (offset, len)));
        spans
    }

    /// What its samples take: the stored or the delivered width of dense fields, and the sizes of the others' buffers.
    pub(super) fn decoded_bytes(&self, plan: &Plan) -> u64 {
        let mut per_row = 0u64;
        for output in plan.projection.outputs() {
            per_row = per_row.saturating_add(match output.target {
                Target::Dense { dtype, per_row: elements, .. } => {
                    let stored = plan.leaves.get(output.leaf).and_then(LeafPlan::flat);
                    let width = dtype.width().max(stored.map_or(1, |flat| flat.dtype.width()));
                    (width as u64).saturating_mul(elements as u64)
                }
                _ => VARYING_BYTES,
            });
        }
        let general = self.general.as_ref().map_or(0, |general| {
            let bytes: u64 = general.buffers.iter().map(|(_, _, len)| len).sum();
            if general.compressed { bytes.saturating_mul(RATIO_GUESS) } else { bytes }
        });
        self.rows.saturating_mul(per_row).saturating_add(general)
    }
}

pub(super) fn values_span(values: u64, flat: Flat, skip: u64, rows: u64) -> (u64, u64) {
    let start = flat.bytes(skip);
    (values + start, flat.bytes(skip + rows) - start)
}

pub(super) fn mask_span(mask: u64, skip: u64, rows: u64) -> (u64, u64) {
    (mask + skip / 8, rows.div_ceil(8))
}

/// Where each column begins, and where the last ends.
fn column_starts<'a>(plan: &Plan, lists: &'a Lists, version: MetadataVersion) -> Result<Vec<Cursor<'a>>> {
    let mut cursor = Cursor { node: 0, buffer: 0, variadic: &lists.variadic, version };
    let mut starts = vec![cursor.clone()];
    for field in plan.schema.fields() {
        let (len, _) = lists.node(cursor.node)?;
        if len != lists.rows {
            let why =
                format!("the column has {len} values where its record batch has {}. Restore the file", lists.rows);
            return Err(Error::corrupt(why).in_field(field.name()));
        }
        cursor.skip(field.data_type())?;
        starts.push(cursor.clone());
    }
    if cursor.node != lists.nodes.len() || cursor.buffer != lists.buffers.len() {
        let why = format!(
            "a record batch has {} columns and {} buffers where the schema has {} and {}. Restore the file",
            lists.nodes.len(),
            lists.buffers.len(),
            cursor.node,
            cursor.buffer
        );
        return Err(Error::corrupt(why));
    }
    Ok(starts)
}

/// Finds the numbers of a leaf, unless they need arrow's reader for their nulls.
fn locate(
    plan: &Plan,
    lists: &Lists,
    mut cursor: Cursor<'_>,
    root: usize,
    path: &[String],
    flat: Flat,
) -> Result<LeafPlace> {
    let mut levels = Vec::new();
    // Only the column itself is searched: another may have its name.
    let column = plan.schema.fields().get(root).cloned().into_iter().collect();
    let mut data_type = cursor.descend(&column, path, &mut levels)?;
    let mut rows = lists.rows;
    let mut in_list = false;
    let mut masks = Vec::new();
    for (node, buffer) in levels {
        note_level(lists, node, buffer, rows, &mut masks)?;
    }
    while let DataType::FixedSizeList(item, length) = data_type {
        in_list |= note_level(lists, cursor.node, cursor.buffer, rows, &mut masks)?;
        cursor.node += 1;
        cursor.buffer += 1;
        rows = rows.saturating_mul(u64::try_from(*length).unwrap_or(0));
        data_type = item.data_type();
        in_list |= lists.node(cursor.node)?.1 > 0;
    }
    if in_list || (rows != lists.rows && !masks.is_empty()) {
        return Ok(LeafPlace::General);
    }
    note_level(lists, cursor.node, cursor.buffer, rows, &mut masks)?;
    let values = lists.buffer(cursor.buffer + 1, flat.bytes(lists.rows))?;
    Ok(LeafPlace::Flat { values, masks })
}

/// Checks one level of a column, and notes its validity bitmap if it has nulls.
fn note_level(lists: &Lists, node: usize, buffer: usize, rows: u64, masks: &mut Vec<u64>) -> Result<bool> {
    let (len, nulls) = lists.node(node)?;
    if len != rows {
        let why = format!("a column has {len} values where its record batch has {rows}. Restore the file");
        return Err(Error::corrupt(why));
    }
    if nulls > 0 {
        masks.push(lists.buffer(buffer, rows.div_ceil(8))?);
    }
    Ok(nulls > 0)
}

/// Whether the type's samples are single bits.
pub(super) fn is_bits(flat: Flat) -> bool {
    flat.dtype == DType::Bool
}
