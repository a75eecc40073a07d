//! Decoded samples of one block: dense fields row by row, so that a shuffled batch copies whole rows, in chunks that
//! are freed (and recycled) one by one as the plan has used them up.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytemuck::Pod;
use serde::{Deserialize, Serialize};

use crate::field::{DType, Schema};
use crate::memory;
use crate::transform::{DrawKey, Transform};
use crate::{Error, Result};

/// Decoded bytes aimed at in one chunk: large enough to amortise the bookkeeping, small enough to free early.
const CHUNK_BYTES_AIM: usize = 1 << 20;
/// Rows of a chunk where values are made of encoded ones, tens of kilobytes each: it is freed when all were used.
const MADE_CHUNK_ROWS: usize = 16;
/// A cache line.
const LINE_BYTES: usize = 64;
/// Rows that are transposed together, so that their bytes stay in the first-level cache while columns are written.
const TILE_BYTES: usize = 16 << 10;

/// Where each field lies in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowLayout {
    stride: usize,
    /// Byte offset in the row of each dense field, or the index among the varying fields.
    slots: Vec<Slot>,
    varying: usize,
    /// Where rows have their `DrawKey`, if a field is made of them.
    key: Option<usize>,
    chunk_rows: usize,
}

/// The place of one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slot {
    Dense {
        offset: usize,
        width: usize,
    },
    Varying {
        index: usize,
    },
    /// `elements` unsigned numbers that are delivered as int64: kept as narrow as in the file until then.
    Widened {
        offset: usize,
        elements: usize,
        from: DType,
        boundary: Option<Boundary>,
    },
    /// `width` bytes, made of a varying value when a batch is put together.
    Made {
        index: usize,
        width: usize,
        by: Maker,
    },
}

/// The transform of a field. Two are equal that give equal values.
#[derive(Debug, Clone)]
pub struct Maker(pub Arc<dyn Transform>);

impl PartialEq for Maker {
    fn eq(&self, other: &Self) -> bool {
        self.0.describe() == other.0.describe()
    }
}

impl Eq for Maker {}

/// Where one document ends and the next begins in a sequence of tokens. Of targets, those that belong to another
/// document than the token before them are delivered as `Boundary::IGNORED`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Boundary {
    /// The token between documents.
    pub token: u32,
    /// It is the first token of a document rather than the last.
    pub begins: bool,
}

impl Boundary {
    /// What torch's losses leave out by default (`ignore_index`).
    pub const IGNORED: i64 = -100;
}

impl RowLayout {
    /// A layout that a format chose itself; dense fields only.
    pub fn with_slots(stride: usize, slots: Vec<Slot>) -> Self {
        Self { stride, slots, varying: 0, key: None, chunk_rows: chunk_rows_for(stride) }
    }

    pub fn new(schema: &Schema) -> Self {
        Self::with_transforms(schema, &[])
    }

    /// As `new`; of the fields that `transforms` has one for, rows hold what it makes their values of. Such rows have a
    /// `DrawKey`.
    pub fn with_transforms(schema: &Schema, transforms: &[Option<Arc<dyn Transform>>]) -> Self {
        let makers = transforms.iter().flatten().count();
        let key = (makers > 0).then_some(0);
        let mut stride = key.map_or(0, |_| size_of::<DrawKey>());
        let mut varying = 0;
        let mut slots = Vec::with_capacity(schema.fields.len());
        for (place, field) in schema.fields.iter().enumerate() {
            let width = field.kind.width();
            if let (Some(transform), Some(width)) = (transforms.get(place).and_then(Option::as_ref), width) {
                varying += 1;
                slots.push(Slot::Made { index: varying - 1, width, by: Maker(transform.clone()) });
                continue;
            }
            slots.push(match width {
                Some(width) => {
                    let offset = stride;
                    stride += width;
                    Slot::Dense { offset, width }
                }
                None => {
                    varying += 1;
                    Slot::Varying { index: varying - 1 }
                }
            });
        }
        let stride = padded(stride);
        let chunk_rows = if makers > 0 { MADE_CHUNK_ROWS } else { chunk_rows_for(stride + 32 * varying) };
        Self { stride, slots, varying, key, chunk_rows }
    }

    /// Byte offset in the row of its `DrawKey`, which whoever appends rows writes like a column.
    pub fn key(&self) -> Option<usize> {
        self.key
    }

    /// Bytes of the dense part of a row.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// The place of each field, in schema order.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Which fields transforms make, and the bytes of a value of each.
    pub fn made(&self) -> impl Iterator<Item = (usize, usize)> {
        self.slots.iter().enumerate().filter_map(|(field, slot)| match slot {
            Slot::Made { width, .. } => Some((field, *width)),
            _ => None,
        })
    }

    /// Rows in a full chunk; a power of two.
    pub fn chunk_rows(&self) -> usize {
        self.chunk_rows
    }
}

/// Rows begin on four bytes where they are not tiny, so that a copy of a row is made of whole words, and on cache lines
/// where that costs little: a shuffled batch takes its rows from all over memory and pays for every line.
fn padded(stride: usize) -> usize {
    let lines = stride.next_multiple_of(LINE_BYTES);
    if lines - stride <= stride / 8 {
        lines
    } else if stride > 8 {
        stride.next_multiple_of(4)
    } else {
        stride
    }
}

fn chunk_rows_for(row_bytes: usize) -> usize {
    let aim = (CHUNK_BYTES_AIM / row_bytes.max(1)).clamp(64, 1 << 16);
    if aim.is_power_of_two() { aim } else { aim.next_power_of_two() / 2 }
}

/// Values of one field of varying size: `offsets[i]..offsets[i + 1]` are the bytes of row `i` of the chunk.
#[derive(Debug, Clone)]
pub struct Varying {
    offsets: Vec<u64>,
    bytes: Vec<u8>,
}

impl Varying {
    fn new() -> Self {
        Self { offsets: vec![0], bytes: Vec::new() }
    }

    pub fn get(&self, row: usize) -> &[u8] {
        &self.bytes[self.offsets[row] as usize..self.offsets[row + 1] as usize]
    }
}

/// Up to `chunk_rows` consecutive rows.
#[derive(Debug)]
pub struct Chunk {
    /// `u64` elements give the bytes an alignment that every element type accepts; the rows begin at `start`, which is
    /// on a cache line.
    dense: Vec<u64>,
    start: usize,
    varying: Vec<Varying>,
    pool: Option<Arc<RowPool>>,
}

impl Chunk {
    /// The dense bytes of all rows, `stride` apart.
    #[inline]
    pub fn dense(&self) -> &[u8] {
        bytemuck::cast_slice(&self.dense[self.start..])
    }

    fn dense_mut(&mut self) -> &mut [u8] {
        bytemuck::cast_slice_mut(&mut self.dense[self.start..])
    }

    pub fn varying(&self, index: usize) -> &Varying {
        &self.varying[index]
    }

    /// Heap bytes that dropping this chunk gives back.
    pub fn heap_bytes(&self) -> usize {
        let varying: usize = self.varying.iter().map(|v| v.bytes.capacity() + 8 * v.offsets.capacity()).sum();
        8 * self.dense.capacity() + varying
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            pool.put(std::mem::take(&mut self.dense));
        }
    }
}

/// Recycles the dense memory of chunks, which are all of one size: fresh pages cost more than decoding into warm ones.
#[derive(Debug, Default)]
pub struct RowPool {
    free: Mutex<Vec<Vec<u64>>>,
    keep_max: usize,
}

impl RowPool {
    /// Keeps at most `keep_max` unused chunks.
    pub fn new(keep_max: usize) -> Arc<Self> {
        Arc::new(Self { free: Mutex::default(), keep_max })
    }

    fn take(&self, words: usize) -> Result<Vec<u64>> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        match free.pop() {
            Some(memory) if memory.len() == words => Ok(memory),
            _ => {
                drop(free);
                memory::zeros(words)
            }
        }
    }

    fn put(&self, memory: Vec<u64>) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < self.keep_max {
            free.push(memory);
        }
    }
}

/// A column to be written into rows: values of one width, whatever their meaning.
#[derive(Debug, Clone, Copy)]
pub enum Column<'a> {
    W1(&'a [u8]),
    W2(&'a [u16]),
    W4(&'a [u32]),
    W8(&'a [u64]),
    /// `width` bytes a value, such as the elements of a fixed-size list.
    Wide {
        width: usize,
        bytes: &'a [u8],
    },
}

impl Column<'_> {
    pub fn len(&self) -> usize {
        match self {
            Column::W1(v) => v.len(),
            Column::W2(v) => v.len(),
            Column::W4(v) => v.len(),
            Column::W8(v) => v.len(),
            Column::Wide { width, bytes } => bytes.len() / (*width).max(1),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn width(&self) -> usize {
        match self {
            Column::W1(_) => 1,
            Column::W2(_) => 2,
            Column::W4(_) => 4,
            Column::W8(_) => 8,
            Column::Wide { width, .. } => *width,
        }
    }
}

/// The samples of one block, being filled by a decoder or read by the pipeline.
#[derive(Debug)]
pub struct Rows {
    layout: Arc<RowLayout>,
    chunks: Vec<Chunk>,
    pool: Arc<RowPool>,
    /// Rows that each field has so far (dense fields by their first column), so that a short column is noticed.
    dense_rows: usize,
    varying_rows: Vec<usize>,
    /// Whether what transforms need is kept here, or read again when it is needed (`Dataset::encoded_at`).
    keeps_encoded: bool,
    /// Bytes for which there was no memory, if that happened: values are appended without a look at each outcome.
    refused: Option<usize>,
}

impl Rows {
    pub fn new(layout: Arc<RowLayout>, pool: Arc<RowPool>) -> Self {
        let varying_rows = vec![0; layout.varying];
        Self { layout, chunks: Vec::new(), pool, dense_rows: 0, varying_rows, keeps_encoded: true, refused: None }
    }

    pub fn layout(&self) -> &Arc<RowLayout> {
        &self.layout
    }

    /// Whether values that a transform makes something of are to be appended; where not, empty ones take their place.
    pub fn keeps_encoded(&self) -> bool {
        self.keeps_encoded
    }

    pub(crate) fn keep_encoded(&mut self, keeps: bool) {
        self.keeps_encoded = keeps;
    }

    /// Rows so far. Errors if the fields have different numbers of them, or there was no memory for a value.
    pub fn complete_rows(&self) -> Result<usize> {
        if let Some(bytes) = self.refused {
            return Err(memory::no_room(bytes));
        }
        let dense = (self.layout.stride > 0).then_some(self.dense_rows);
        let mut counts = dense.into_iter().chain(self.varying_rows.iter().copied());
        let first = counts.next().unwrap_or(0);
        if counts.all(|count| count == first) {
            Ok(first)
        } else {
            Err(Error::corrupt("the columns of a block have different lengths"))
        }
    }

    fn chunk_for(&mut self, row: usize) -> Result<&mut Chunk> {
        let index = row / self.layout.chunk_rows;
        while self.chunks.len() <= index {
            let words = (self.layout.chunk_rows * self.layout.stride).div_ceil(8);
            let dense = self.pool.take(words + LINE_BYTES / 8)?;
            // What is left after the first words is enough wherever the line begins.
            let start = dense.as_ptr().align_offset(LINE_BYTES).min(LINE_BYTES / 8);
            self.chunks.push(Chunk {
                dense,
                start,
                varying: (0..self.layout.varying).map(|_| Varying::new()).collect(),
                pool: Some(self.pool.clone()),
            });
        }
        Ok(&mut self.chunks[index])
    }

    /// Appends rows given as columns: each at its byte offset in the row, all of one length. Together the columns of
    /// one call must cover the dense part of the row: memory is recycled, so what is not written is another sample's.
    pub fn append_columns(&mut self, columns: &[(usize, Column<'_>)]) -> Result<()> {
        let Some((_, first)) = columns.first() else { return Ok(()) };
        let total = first.len();
        let stride = self.layout.stride;
        for (offset, column) in columns {
            if column.len() != total {
                return Err(Error::corrupt("the columns of a block have different lengths"));
            }
            if offset + column.width() > stride {
                return Err(Error::internal("a column lies outside the row"));
            }
        }
        let tile_rows_max = (TILE_BYTES / stride.max(1)).max(8);
        let mut done = 0;
        while done < total {
            let row = self.dense_rows;
            let chunk_rows = self.layout.chunk_rows;
            let in_chunk = row % chunk_rows;
            let count = tile_rows_max.min(chunk_rows - in_chunk).min(total - done);
            let chunk = self.chunk_for(row)?;
            let bytes = chunk.dense_mut();
            let tile = &mut bytes[in_chunk * stride..(in_chunk + count) * stride];
            write_tile(tile, stride, columns, done, count);
            done += count;
            self.dense_rows += count;
        }
        Ok(())
    }

    /// Appends one value of a varying field. That there was no memory for it is told by `complete_rows`.
    pub fn push_varying(&mut self, index: usize, value: &[u8]) {
        if self.refused.is_some() {
            return;
        }
        let row = self.varying_rows[index];
        let Ok(chunk) = self.chunk_for(row) else {
            self.refused = Some(value.len());
            return;
        };
        let varying = &mut chunk.varying[index];
        if varying.bytes.try_reserve(value.len()).is_err() || varying.offsets.try_reserve(1).is_err() {
            self.refused = Some(value.len());
            return;
        }
        varying.bytes.extend_from_slice(value);
        varying.offsets.push(varying.bytes.len() as u64);
        self.varying_rows[index] += 1;
    }

    /// Empty rows of the same layout; their memory comes from and goes back to the same pool.
    #[must_use]
    pub fn sibling(&self) -> Self {
        Self { keeps_encoded: self.keeps_encoded, ..Self::new(self.layout.clone(), self.pool.clone()) }
    }

    /// Appends the rows `range` of `other`, whose layout must be the same.
    pub fn append_rows(&mut self, other: &Self, range: Range<usize>) -> Result<()> {
        if !Arc::ptr_eq(&self.layout, &other.layout) && self.layout != other.layout {
            return Err(Error::internal("rows of another layout were to be appended"));
        }
        if range.end > other.complete_rows()? {
            return Err(Error::internal("rows were to be appended that are not there"));
        }
        let (stride, chunk_rows) = (self.layout.stride, self.layout.chunk_rows);
        let mut row = range.start;
        while stride > 0 && row < range.end {
            let (from, into) = (row % chunk_rows, self.dense_rows % chunk_rows);
            let count = (chunk_rows - from).min(chunk_rows - into).min(range.end - row);
            let source = &other.chunks[row / chunk_rows].dense()[from * stride..(from + count) * stride];
            let chunk = self.chunk_for(self.dense_rows)?;
            let bytes = chunk.dense_mut();
            bytes[into * stride..(into + count) * stride].copy_from_slice(source);
            self.dense_rows += count;
            row += count;
        }
        for index in 0..self.layout.varying {
            for row in range.clone() {
                self.push_varying(index, other.varying(index, row));
            }
        }
        Ok(())
    }

    /// The chunks in row order; every one but the last is full.
    pub fn into_chunks(self) -> Vec<Chunk> {
        self.chunks
    }

    /// The dense bytes of one row.
    pub fn dense_row(&self, row: usize) -> &[u8] {
        let (chunk, start) = (row / self.layout.chunk_rows, row % self.layout.chunk_rows * self.layout.stride);
        &self.chunks[chunk].dense()[start..start + self.layout.stride]
    }

    /// One value of a varying field.
    pub fn varying(&self, index: usize, row: usize) -> &[u8] {
        self.chunks[row / self.layout.chunk_rows].varying[index].get(row % self.layout.chunk_rows)
    }
}

fn write_tile(tile: &mut [u8], stride: usize, columns: &[(usize, Column<'_>)], from: usize, count: usize) {
    let mut rest = columns;
    while let Some(((offset, column), after)) = rest.split_first() {
        rest = after;
        match column {
            Column::W1(values) => write_column(tile, stride, *offset, &values[from..from + count]),
            Column::W2(values) => write_column(tile, stride, *offset, &values[from..from + count]),
            Column::W4(first) => match (neighbours(*offset, after), after.get(3..)) {
                (Some([second, third, fourth]), Some(after)) => {
                    let four = [first, second, third, fourth].map(|values| &values[from..from + count]);
                    write_four(tile, stride, *offset, four);
                    rest = after;
                }
                _ => write_column(tile, stride, *offset, &first[from..from + count]),
            },
            Column::W8(values) => write_column(tile, stride, *offset, &values[from..from + count]),
            Column::Wide { width, bytes } => {
                let values = &bytes[from * width..(from + count) * width];
                if *width == stride {
                    tile.copy_from_slice(values);
                } else if *width > 0 {
                    for (row, value) in tile.chunks_exact_mut(stride).zip(values.chunks_exact(*width)) {
                        row[*offset..*offset + width].copy_from_slice(value);
                    }
                }
            }
        }
    }
}

/// The next three columns, if they are of four bytes and follow the one at `offset` in the row.
fn neighbours<'a>(offset: usize, after: &[(usize, Column<'a>)]) -> Option<[&'a [u32]; 3]> {
    match after {
        [(b, Column::W4(second)), (c, Column::W4(third)), (d, Column::W4(fourth)), ..]
            if [*b, *c, *d] == [offset + 4, offset + 8, offset + 12] =>
        {
            Some([second, third, fourth])
        }
        _ => None,
    }
}

/// Four columns that lie side by side: blocks of four rows are transposed in registers and written 16 bytes at a time,
/// which takes half the instructions of one value at a time.
fn write_four(tile: &mut [u8], stride: usize, offset: usize, columns: [&[u32]; 4]) {
    let [a, b, c, d] = columns.map(|values| values.as_chunks::<4>().0);
    let blocks = a.iter().zip(b).zip(c).zip(d);
    for (rows, (((a, b), c), d)) in tile.chunks_exact_mut(4 * stride).zip(blocks) {
        for (r, row) in rows.chunks_exact_mut(stride).enumerate().take(4) {
            row[offset..offset + 16].copy_from_slice(bytemuck::bytes_of(&[a[r], b[r], c[r], d[r]]));
        }
    }
    let count = columns[0].len();
    let done = count / 4 * 4;
    for (i, row) in tile.chunks_exact_mut(stride).enumerate().take(count).skip(done) {
        let values = columns.map(|values| values[i]);
        row[offset..offset + 16].copy_from_slice(bytemuck::bytes_of(&values));
    }
}

fn write_column<T: Pod>(tile: &mut [u8], stride: usize, offset: usize, values: &[T]) {
    let width = size_of::<T>();
    if stride == width {
        tile.copy_from_slice(bytemuck::cast_slice(values));
        return;
    }
    for (row, value) in tile.chunks_exact_mut(stride).zip(values) {
        row[offset..offset + width].copy_from_slice(bytemuck::bytes_of(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::{Field, FieldKind};

    #[test]
    fn columns_come_back_row_by_row_across_chunks() {
        let schema = Schema::new(vec![
            Field::dense("x", DType::F32, vec![3]),
            Field { name: "s".into(), kind: FieldKind::Text, unit: None },
            Field::dense("y", DType::I64, vec![]),
        ]);
        let layout = Arc::new(RowLayout::new(&schema));
        let count = layout.chunk_rows() + 100;
        let mut rows = Rows::new(layout.clone(), RowPool::new(4));
        let columns: Vec<Vec<u32>> = (0..3).map(|c| (0..count as u32).map(|r| r * 3 + c).collect()).collect();
        let labels: Vec<u64> = (0..count as u64).collect();
        for part in [0..77, 77..count] {
            let mut views: Vec<(usize, Column<'_>)> =
                (0..3).map(|c| (4 * c, Column::W4(&columns[c][part.clone()]))).collect();
            views.push((12, Column::W8(&labels[part])));
            rows.append_columns(&views).unwrap();
        }
        assert!(rows.complete_rows().is_err(), "the text field has no rows yet");
        for r in 0..count {
            rows.push_varying(0, r.to_string().as_bytes());
        }
        assert_eq!(rows.complete_rows().unwrap(), count);
        for r in 0..count {
            let row = rows.dense_row(r);
            let x: Vec<u32> = row[..12].chunks(4).map(bytemuck::pod_read_unaligned).collect();
            assert_eq!(x, [r as u32 * 3, r as u32 * 3 + 1, r as u32 * 3 + 2]);
            assert_eq!(bytemuck::pod_read_unaligned::<u64>(&row[12..20]), r as u64);
            assert_eq!(rows.varying(0, r), r.to_string().as_bytes());
        }
    }

    #[test]
    fn four_columns_at_once_are_written_like_one_by_one() {
        let schema = Schema::new(vec![Field::dense("b", DType::U8, vec![1]), Field::dense("x", DType::F32, vec![9])]);
        for count in [1usize, 3, 4, 7, 500] {
            let columns: Vec<Vec<u32>> = (0..9).map(|c| (0..count as u32).map(|r| r * 9 + c).collect()).collect();
            let bytes = vec![7u8; count];
            let mut rows = Rows::new(Arc::new(RowLayout::new(&schema)), RowPool::new(0));
            let mut views: Vec<(usize, Column<'_>)> = vec![(0, Column::W1(&bytes))];
            views.extend(columns.iter().enumerate().map(|(c, values)| (1 + 4 * c, Column::W4(values))));
            rows.append_columns(&views).unwrap();
            for r in 0..count {
                let got: Vec<u32> = rows.dense_row(r)[1..37].chunks(4).map(bytemuck::pod_read_unaligned).collect();
                assert_eq!(got, (0..9).map(|c| r as u32 * 9 + c).collect::<Vec<_>>(), "row {r} of {count}");
            }
        }
    }

    #[test]
    fn rows_are_copied_from_other_rows() {
        let schema = Schema::new(vec![
            Field::dense("x", DType::I64, vec![]),
            Field { name: "s".into(), kind: FieldKind::Text, unit: None },
        ]);
        let layout = Arc::new(RowLayout::new(&schema));
        let count = 2 * layout.chunk_rows() + 9;
        let mut all = Rows::new(layout.clone(), RowPool::new(4));
        let numbers: Vec<u64> = (0..count as u64).collect();
        all.append_columns(&[(0, Column::W8(&numbers))]).unwrap();
        for number in &numbers {
            all.push_varying(0, number.to_string().as_bytes());
        }
        let mut some = all.sibling();
        let picked = [5..6, 1..1, 1..2, 7..count, 0..layout.chunk_rows() + 1, 5..6];
        for range in &picked {
            some.append_rows(&all, range.clone()).unwrap();
        }
        let expected: Vec<usize> = picked.into_iter().flatten().collect();
        assert_eq!(some.complete_rows().unwrap(), expected.len());
        for (row, number) in expected.iter().enumerate() {
            assert_eq!(bytemuck::pod_read_unaligned::<u64>(&some.dense_row(row)[..8]), *number as u64);
            assert_eq!(some.varying(0, row), number.to_string().as_bytes());
        }
        assert!(some.append_rows(&all, count..count + 1).is_err());
        let other = Schema::new(vec![Field::dense("x", DType::I32, vec![])]);
        assert!(Rows::new(Arc::new(RowLayout::new(&other)), RowPool::new(0)).append_rows(&all, 0..1).is_err());
    }

    #[test]
    fn a_short_or_misplaced_column_is_refused() {
        let schema = Schema::new(vec![Field::dense("x", DType::U8, vec![2])]);
        let mut rows = Rows::new(Arc::new(RowLayout::new(&schema)), RowPool::new(0));
        assert!(rows.append_columns(&[(0, Column::W1(&[1, 2])), (1, Column::W1(&[1]))]).is_err());
        assert!(rows.append_columns(&[(0, Column::W1(&[1])), (2, Column::W1(&[1]))]).is_err());
    }
}
