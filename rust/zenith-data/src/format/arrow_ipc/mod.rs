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

use crate::Result;
use crate::dataset::{Block, Dataset, Unit};
use crate::field::Schema;
use crate::format::options::ColumnOptions;
use crate::format::projection::Projection;
use crate::format::ranges::merge;
use crate::rows::Rows;
use crate::storage::{Range, Source};
use batch::Batch;
use plan::Plan;

/// Bytes between messages, or behind the last, that are taken for padding.
const PADDING_MAX: u64 = 64;

/// How Arrow IPC files are read.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ArrowIpcOptions {
    #[serde(flatten)]
    pub select: ColumnOptions,
}

/// Values of dictionaries by their number.
type Dictionaries = HashMap<i64, ArrayRef>;

/// Opened Arrow IPC files of one schema.
#[derive(Debug)]
pub struct ArrowIpc {
    sources: Vec<Source>,
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
        let place = self.places[block];
        let file = &self.files[place.file as usize];
        let spans = file.batches[place.batch as usize].spans(&file.plan, place.skip, self.blocks[block].rows);
        merge(place.file, spans)
    }

    fn decode(&self, block: usize, bytes: &[Bytes], rows: &mut Rows) -> Result<()> {
        self.decode_block(block, bytes, rows)
    }
}
