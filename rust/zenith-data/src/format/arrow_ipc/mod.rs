//! Arrow IPC, files (Feather V2 is the same) and streams. Opening reads the footer and the metadata of every message; a
//! block is a record batch, or a part of one that is large and made of plain numbers. Only the buffers of the columns
//! that are delivered are read. Plain numbers go from the bytes to rows without arrow; the rest goes through its reader.
//! Whatever a file claims is checked against its size before memory is allocated for it.

mod batch;
mod decode;
mod file;
mod layout;
mod message;
mod open;
mod plan;
mod whole;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::ArrayRef;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use whole::record_batches;

use crate::dataset::{Block, Dataset, Unit};
use crate::field::Schema;
use crate::format::options::ColumnOptions;
use crate::format::partition::{Partitioning, Partitions};
use crate::format::projection::Projection;
use crate::format::ranges::merge;
use crate::rows::Rows;
use crate::storage::{Range, Source};
use crate::{Error, Result};
use batch::Batch;
use plan::Plan;

/// Parts of batches begin at whole words of the validity bitmaps.
const PART_ROWS: u64 = 64;
/// Bytes of a block that are read and turned into rows at a time: about what a second-level cache keeps of them.
const PART_BYTES_AIM: u64 = 1 << 20;
/// Bytes between messages, or behind the last, that are taken for padding.
const PADDING_MAX: u64 = 64;

/// How Arrow IPC files are read.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ArrowIpcOptions {
    #[serde(flatten)]
    pub select: ColumnOptions,
    /// Whether the names of directories hold columns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partitioning: Option<Partitioning>,
}

/// Values of dictionaries by their number.
type Dictionaries = HashMap<i64, ArrayRef>;

/// Opened Arrow IPC files of one schema.
#[derive(Debug)]
pub struct ArrowIpc {
    sources: Vec<Source>,
    partitions: Partitions,
    projection: Projection,
    files: Vec<FileEntry>,
    blocks: Vec<Block>,
    places: Vec<BlockPlace>,
    fingerprint: String,
}

#[derive(Debug)]
struct FileEntry {
    plan: Arc<Plan>,
    batches: Vec<Batch>,
    /// The dictionaries as they stood for one batch or another: a stream may replace them on its way.
    dictionaries: Vec<Dictionaries>,
}

/// Where the rows of a block are.
#[derive(Debug, Clone, Copy)]
struct BlockPlace {
    file: u32,
    batch: u32,
    /// Rows of the batch before it; a multiple of 8.
    skip: u64,
}

impl Dataset for ArrowIpc {
    fn format(&self) -> &'static str {
        "ArrowIpc"
    }

    fn schema(&self) -> &Schema {
        self.projection.schema()
    }

    fn sources(&self) -> &[Source] {
        &self.sources
    }

    fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    fn units(&self) -> Vec<Unit> {
        let mut next = (0, 0);
        let unit = |(place, block): (&BlockPlace, &Block)| {
            let start = if next.0 == place.file { next.1 } else { 0 };
            next = (place.file, start + block.rows);
            Unit { source: place.file, number: place.batch.into(), rows: start..next.1 }
        };
        self.places.iter().zip(&self.blocks).map(unit).collect()
    }

    fn ranges(&self, block: usize) -> Vec<Range> {
        self.ranges_of(self.places[block], self.blocks[block].rows)
    }

    fn decode(&self, block: usize, bytes: &[Bytes], rows: &mut Rows) -> Result<()> {
        self.decode_rows(self.places[block], self.blocks[block].rows, bytes, rows)
    }

    fn parts(&self, block: usize) -> Vec<Vec<Range>> {
        self.part_places(block).map(|(place, rows)| self.ranges_of(place, rows)).collect()
    }

    fn decode_part(&self, block: usize, part: usize, bytes: &[Bytes], rows: &mut Rows) -> Result<()> {
        match self.part_places(block).nth(part) {
            Some((place, count)) => self.decode_rows(place, count, bytes, rows),
            None => Err(Error::internal("a part of a block was asked for that it does not have")),
        }
    }
}

impl ArrowIpc {
    fn ranges_of(&self, place: BlockPlace, rows: u64) -> Vec<Range> {
        let file = &self.files[place.file as usize];
        merge(place.file, file.batches[place.batch as usize].spans(&file.plan, place.skip, rows))
    }

    /// The parts of a block: where each begins, and its rows.
    fn part_places(&self, block: usize) -> impl Iterator<Item = (BlockPlace, u64)> {
        let (place, Block { rows, decoded_bytes }) = (self.places[block], self.blocks[block]);
        let plain = self.files[place.file as usize].batches[place.batch as usize].is_plain();
        let aim = PART_BYTES_AIM / decoded_bytes.div_ceil(rows.max(1)).max(1);
        let step = if plain { (aim / PART_ROWS * PART_ROWS).max(PART_ROWS) } else { rows.max(1) };
        (0..rows.div_ceil(step)).map(move |part| {
            let start = part * step;
            (BlockPlace { skip: place.skip + start, ..place }, step.min(rows - start))
        })
    }
}
