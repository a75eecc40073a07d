//! One block, from bytes to rows.

use std::sync::{Arc, PoisonError};

use bytes::Bytes;

use super::chunks::Chunks;
use super::flat::{self, Scratch, Window};
use super::general::Group;
use super::page::{PageHeader, Walk};
use super::{BlockPlace, FileEntry, Parquet, open};
use crate::dataset::Dataset;
use crate::format::cast::{Values, cast_append};
use crate::format::columns::{find_leaf, misfit};
use crate::format::guard::guard;
use crate::format::projection::Target;
use crate::rows::Rows;
use crate::{Error, Result};

/// Buffers kept for the next block at most.
const SCRATCH_MAX: usize = 16;

/// Memory for the columns of one block, used again for the next.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    scratch: Scratch,
    /// Values of flat leaves, as stored.
    stored: Vec<Option<Values>>,
    /// Values of outputs that had to be converted or came from the general reader.
    built: Vec<Values>,
}

impl Parquet {
    pub(super) fn decode_block(&self, block: usize, bytes: &[Bytes], rows: &mut Rows) -> Result<()> {
        let place = self.places[block];
        let count = self.blocks[block].rows as usize;
        let mut buffers = self.scratch.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        let result =
            Chunks::new(&self.ranges(block), bytes, self.sources[place.file as usize].len).and_then(|chunks| {
                guard("the row group", || {
                    let decoder =
                        Decoder { file: &self.files[place.file as usize], place, count, chunks: Arc::new(chunks) };
                    decoder.decode(&mut buffers, rows)
                })
            });
        let mut free = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        if result.is_ok() && free.len() < SCRATCH_MAX {
            free.push(buffers);
        }
        drop(free);
        let name = &self.sources[place.file as usize].name;
        result.map_err(|error| error.in_file(name).in_block(u64::from(place.group)))
    }
}

struct Decoder<'a> {
    file: &'a FileEntry,
    place: BlockPlace,
    count: usize,
    chunks: Arc<Chunks>,
}

impl Decoder<'_> {
    fn decode(&self, buffers: &mut Buffers, rows: &mut Rows) -> Result<()> {
        let plan = &self.file.plan;
        let projection = &plan.projection;
        if buffers.stored.len() != plan.leaves.len() {
            buffers.stored =
                plan.leaves.iter().map(|leaf| leaf.flat.map(|flat| Values::new(flat.dtype.width()))).collect();
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
            let (Target::Dense { dtype, .. }, true) = (&output.target, is_stored[output.leaf]) else { continue };
            let (Some(values), Some(flat)) = (&stored[output.leaf], plan.leaves[output.leaf].flat) else { continue };
            if flat.dtype == *dtype {
                raw[place] = Some(values);
            } else {
                cast_append(values.bytes(), flat.dtype, *dtype, &mut built[place]).map_err(|bad| {
                    let row = self.place.file_row + bad.index as u64;
                    misfit(&bad.value, *dtype).at_row(row).in_field(&projection.leaves()[output.leaf].name)
                })?;
            }
        }
        rows.append_columns(&projection.dense_columns(built, &raw))?;
        if rows.len()? == self.count || projection.outputs().is_empty() {
            Ok(())
        } else {
            Err(Error::corrupt("a column has another number of rows than its row group"))
        }
    }

    fn window(&self) -> Window {
        Window { skip: self.place.skip as usize, take: self.count }
    }

    /// The bytes that hold the pages of a column which are needed.
    fn spans(&self, column: usize) -> Result<Vec<Bytes>> {
        let chunk = self.file.metadata.row_group(self.place.group as usize).column(column);
        let (offset, len) = open::chunk_range(chunk).ok_or_else(|| Error::internal("a chunk was not checked"))?;
        Ok(vec![self.chunks.get(offset, len)?])
    }

    /// Reads a leaf by the fast path, if it can be.
    fn read_flat(&self, leaf: usize, buffers: &mut Buffers) -> Result<bool> {
        let (Some(flat), Some(values)) = (self.file.plan.leaves[leaf].flat, buffers.stored[leaf].as_mut()) else {
            return Ok(false);
        };
        values.clear();
        let chunk = self.file.metadata.row_group(self.place.group as usize).column(flat.column);
        flat::read(&self.spans(flat.column)?, chunk.compression(), flat, self.window(), &mut buffers.scratch, values)
    }

    /// Reads the leaves that are left by the general path.
    fn read_general(&self, is_stored: &[bool], buffers: &mut Buffers, rows: &mut Rows) -> Result<()> {
        let plan = &self.file.plan;
        let left: Vec<usize> = (0..is_stored.len()).filter(|&leaf| !is_stored[leaf]).collect();
        if left.is_empty() {
            return Ok(());
        }
        let mut columns: Vec<usize> = left.iter().flat_map(|&leaf| plan.leaves[leaf].columns.clone()).collect();
        columns.sort_unstable();
        for &column in &columns {
            self.check_pages(column)?;
        }
        let group = Group {
            metadata: &self.file.metadata,
            index: self.place.group as usize,
            chunks: &self.chunks,
            pages: None,
        };
        group.read(plan, &columns, self.window(), |batch, done| {
            for &leaf in &left {
                let array = find_leaf(&plan.projection.leaves()[leaf], batch)?;
                let outputs = plan.projection.outputs().iter().enumerate().filter(|(_, output)| output.leaf == leaf);
                for (place, _) in outputs {
                    let row = self.place.file_row + done as u64;
                    plan.projection.append_output(place, &array, row, &mut buffers.built, rows)?;
                }
            }
            Ok(())
        })
    }

    /// Looks at every page header, as the general reader allocates what they claim.
    fn check_pages(&self, column: usize) -> Result<()> {
        for span in self.spans(column)? {
            let mut walk = Walk::new(&span);
            while let Some(header) = walk.next_header()? {
                check_counts(&header)?;
            }
        }
        Ok(())
    }
}

/// A dictionary has at least a bit for each of its values.
fn check_counts(header: &PageHeader) -> Result<()> {
    match header.kind {
        super::page::PageKind::Dictionary { values, .. } if values / 8 > header.unpacked_bytes => {
            Err(Error::corrupt(format!("a dictionary of {values} values has {} bytes", header.unpacked_bytes)))
        }
        _ => Ok(()),
    }
}
