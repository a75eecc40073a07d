//! One block, from bytes to rows.

use std::sync::{Arc, PoisonError};

use arrow::array::ArrayRef;
use bytes::Bytes;
use parquet::file::metadata::ColumnChunkMetaData;

use super::chunks::Chunks;
use super::flat::{self, FlatColumn, FlatValues, Scratch, Window};
use super::general::Group;
use super::page::{PageHeader, PageKind, Walk};
use super::{BlockPlace, FileEntry, Parquet};
use crate::dataset::Dataset;
use crate::field::DType;
use crate::format::cast::{Values, cast_append};
use crate::format::columns::{find_leaf, misfit, null_error};
use crate::format::guard::guard;
use crate::format::partition::Partitions;
use crate::format::projection::Target;
use crate::rows::Rows;
use crate::{Error, Result};

/// Buffers that are kept for the next blocks at most.
const BUFFERS_MAX: usize = 16;

/// Memory for the columns of one block, used again for the next.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    scratch: Scratch,
    /// Flat leaves as they are stored.
    stored: Vec<Option<FlatValues>>,
    /// Outputs that had to be converted or came from the general reader.
    built: Vec<Values>,
}

impl Parquet {
    pub(super) fn decode_block(&self, block: usize, bytes: &[Bytes], rows: &mut Rows) -> Result<()> {
        let place = &self.places[block];
        let count = self.blocks[block].rows as usize;
        let source = &self.sources[place.file as usize];
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        let result = Chunks::new(&self.ranges(block), bytes, source.len).and_then(|chunks| {
            let file = &self.files[place.file as usize];
            let decoder = Decoder { file, partitions: &self.partitions, place, count, chunks: Arc::new(chunks) };
            guard("the row group", || decoder.decode(&mut buffers, rows))
        });
        if result.is_ok() {
            let mut free = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
            if free.len() < BUFFERS_MAX {
                free.push(buffers);
            }
        }
        result.map_err(|error| error.in_file(&source.name).in_block(place.group.into()))
    }
}

struct Decoder<'a> {
    file: &'a FileEntry,
    partitions: &'a Partitions,
    place: &'a BlockPlace,
    count: usize,
    chunks: Arc<Chunks>,
}

impl Decoder<'_> {
    fn decode(&self, buffers: &mut Buffers, rows: &mut Rows) -> Result<()> {
        let plan = &self.file.plan;
        let projection = &plan.projection;
        if buffers.stored.len() != plan.leaves.len() {
            let empty = |flat: FlatColumn| FlatValues { values: Values::new(flat.dtype.width()), nulls: Vec::new() };
            buffers.stored = plan.leaves.iter().map(|leaf| leaf.flat.map(empty)).collect();
            buffers.built = projection.dense_buffers();
        }
        buffers.built.iter_mut().for_each(Values::clear);
        let mut is_stored = vec![false; plan.leaves.len()];
        for (leaf, done) in is_stored.iter_mut().enumerate() {
            *done = self.read_flat(leaf, buffers).map_err(|error| error.in_field(&projection.leaves()[leaf].name))?;
        }
        self.read_general(&is_stored, buffers, rows)?;

        let Buffers { stored, built, .. } = buffers;
        let mut raw: Vec<Option<&Values>> = vec![None; projection.outputs().len()];
        for (place, output) in projection.outputs().iter().enumerate() {
            let (Target::Dense { dtype, fill, .. }, true) = (&output.target, is_stored[output.leaf]) else { continue };
            let (Some(column), Some(flat)) = (&stored[output.leaf], plan.leaves[output.leaf].flat) else { continue };
            if flat.dtype == *dtype && column.nulls.is_empty() {
                raw[place] = Some(&column.values);
                continue;
            }
            self.convert(column, flat.dtype, *dtype, *fill, &mut built[place])
                .map_err(|error| error.in_field(&projection.leaves()[output.leaf].name))?;
        }
        rows.append_columns(&projection.dense_columns(built, &raw))?;
        if projection.outputs().is_empty() || rows.complete_rows()? == self.count {
            Ok(())
        } else {
            Err(Error::corrupt("a column has another number of rows than its row group"))
        }
    }

    /// Brings stored values into the type that is delivered, and fills nulls or refuses them.
    fn convert(&self, column: &FlatValues, from: DType, to: DType, fill: Option<u64>, out: &mut Values) -> Result<()> {
        let row = |index: usize| self.place.file_row + index as u64;
        if let (Some(&first), None) = (column.nulls.first(), fill) {
            return Err(null_error().at_row(row(first)));
        }
        out.reserve(self.count)?;
        cast_append(column.values.bytes(), from, to, out)
            .map_err(|bad| misfit(&bad.value, to).at_row(row(bad.index)))?;
        for &null in &column.nulls {
            out.set(null, fill.unwrap_or_default());
        }
        Ok(())
    }

    fn chunk(&self, column: usize) -> &ColumnChunkMetaData {
        self.file.metadata.row_group(self.place.group as usize).column(column)
    }

    /// The bytes that hold the pages of a column which are needed, and the row of the row group at which they begin.
    fn spans(&self, column: usize) -> Result<(Vec<Bytes>, u64)> {
        let unread = |_| Error::internal("the column is not among those that are read");
        let at = self.file.plan.columns.binary_search(&column).map_err(unread)?;
        let spans = self.place.spans(self.file, at, self.count as u64);
        let bytes = spans.iter().map(|&(offset, len)| self.chunks.get(offset, len)).collect::<Result<_>>()?;
        let rows = self.place.skip..self.place.skip + self.count as u64;
        let table = self.place.pages.as_ref().map(|tables| &tables[at]);
        let first = table.and_then(|table| table.overlapping(rows).first()).map_or(0, |page| page.first_row);
        Ok((bytes, first))
    }

    /// Reads a leaf by the fast path, if it can be.
    fn read_flat(&self, leaf: usize, buffers: &mut Buffers) -> Result<bool> {
        let (Some(flat), Some(values)) = (self.file.plan.leaves[leaf].flat, buffers.stored[leaf].as_mut()) else {
            return Ok(false);
        };
        let (spans, first) = self.spans(flat.column)?;
        let window = Window { skip: (self.place.skip - first) as usize, take: self.count };
        flat::read(&spans, self.chunk(flat.column).compression(), flat, window, &mut buffers.scratch, values)
    }

    /// Reads the leaves that are left by the general path.
    fn read_general(&self, is_stored: &[bool], buffers: &mut Buffers, rows: &mut Rows) -> Result<()> {
        let plan = &self.file.plan;
        let (constant, left): (Vec<usize>, Vec<usize>) = (0..is_stored.len())
            .filter(|&leaf| !is_stored[leaf])
            .partition(|&leaf| plan.leaves[leaf].partition.is_some());
        for leaf in constant {
            let Some(at) = plan.leaves[leaf].partition else { continue };
            let array = self.partitions.column(self.place.file as usize, at, self.count);
            self.append(leaf, &array, 0, buffers, rows)?;
        }
        if left.is_empty() {
            return Ok(());
        }
        let mut columns: Vec<usize> = left.iter().flat_map(|&leaf| plan.leaves[leaf].columns.clone()).collect();
        columns.sort_unstable();
        for &column in &columns {
            self.spans(column)?.0.iter().try_for_each(check_pages)?;
        }
        let group = Group {
            metadata: &self.file.metadata,
            index: self.place.group as usize,
            chunks: &self.chunks,
            tables: self.place.pages.as_ref().map(|tables| (&plan.columns[..], &tables[..])),
            schema: &plan.schema,
        };
        let window = Window { skip: self.place.skip as usize, take: self.count };
        group.read(&columns, window, |batch, done| {
            for &leaf in &left {
                let array = find_leaf(&plan.projection.leaves()[leaf], batch)?;
                self.append(leaf, &array, done, buffers, rows)?;
            }
            Ok(())
        })
    }

    /// Appends the values of a leaf, `done` rows of the block being before them, to all outputs that it has.
    fn append(&self, leaf: usize, array: &ArrayRef, done: usize, buffers: &mut Buffers, rows: &mut Rows) -> Result<()> {
        let projection = &self.file.plan.projection;
        for (place, _) in projection.outputs().iter().enumerate().filter(|(_, output)| output.leaf == leaf) {
            let row = self.place.file_row + done as u64;
            projection.append_output(place, array, row, &mut buffers.built, rows)?;
        }
        Ok(())
    }
}

/// Looks at every page header of a part of a column, as the general reader allocates what they claim.
pub(super) fn check_pages(span: &Bytes) -> Result<()> {
    let mut walk = Walk::new(span);
    while let Some(header) = walk.next_header()? {
        check_counts(&header)?;
    }
    Ok(())
}

/// A dictionary has at least a bit for each of its values.
fn check_counts(header: &PageHeader) -> Result<()> {
    match header.kind {
        PageKind::Dictionary { values, .. } if values / 8 > header.unpacked_bytes => {
            Err(Error::corrupt(format!("a dictionary of {values} values has {} bytes", header.unpacked_bytes)))
        }
        _ => Ok(()),
    }
}
