//! Parquet. Opening reads footers; a block is a row group; its bytes are the column chunks of the columns that are
//! delivered; a large row group is cut at pages into several blocks. Flat columns of numbers go from pages to rows without arrow; the rest goes through arrow's reader.
//! Whatever a file claims is checked against its size before memory is allocated for it.

mod blocks;
mod chunks;
mod decode;
mod filtered;
mod flat;
mod footer;
mod general;
mod index;
mod levels;
mod open;
mod page;
mod plan;
mod thrift;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use serde::{Deserialize, Serialize};

use crate::dataset::{Block, Dataset, Unit};
use crate::field::Schema;
use crate::format::filter::Filters;
use crate::format::options::ColumnOptions;
use crate::format::partition::{Partitioning, Partitions};
use crate::format::projection::Projection;
use crate::format::ranges::merge;
use crate::rows::Rows;
use crate::storage::{Range, Source, Storage};
use crate::{Error, Result};
use index::PageTable;
use plan::FilePlan;

/// How Parquet files are read.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ParquetOptions {
    #[serde(flatten)]
    pub select: ColumnOptions,
    /// Which rows are wanted; empty: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub filters: Filters,
    /// Whether the names of directories hold columns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partitioning: Option<Partitioning>,
}

/// Opened Parquet files of one schema.
#[derive(Debug)]
pub struct Parquet {
    sources: Vec<Source>,
    partitions: Partitions,
    projection: Projection,
    files: Vec<FileEntry>,
    blocks: Vec<Block>,
    places: Vec<BlockPlace>,
    fingerprint: String,
    /// Column buffers of decoders that are not running.
    buffers: Mutex<Vec<decode::Buffers>>,
}

#[derive(Debug)]
struct FileEntry {
    metadata: ParquetMetaData,
    plan: Arc<FilePlan>,
    footer_hash: u128,
}

/// Reads and checks the footers of `sources` (sizes, offsets, counts, nesting), for readers of whole files that would
/// otherwise allocate by what a file claims.
pub fn check_footers(storage: &dyn Storage, sources: &[Source]) -> Result<()> {
    footer::read_footers(storage, sources, |index, footer| {
        let metadata = &footer.metadata;
        let descriptor = metadata.file_metadata().schema_descr();
        let columns: Vec<usize> = (0..descriptor.num_columns()).collect();
        open::check_row_counts(metadata)
            .and_then(|()| open::check_chunks(metadata, descriptor, &columns, sources[index].len))
            .map_err(|error| error.in_file(&sources[index].name))
    })
}

/// Looks at the page headers of a column chunk of a file that is in memory whole.
pub fn check_chunk_pages(file: &Bytes, chunk: &ColumnChunkMetaData) -> Result<()> {
    let outside = || Error::corrupt("the column chunk lies outside the file. Restore the file");
    let (start, len) = open::chunk_range(chunk).ok_or_else(outside)?;
    let (start, len) = (usize::try_from(start), usize::try_from(len));
    let (Ok(start), Ok(len)) = (start, len) else { return Err(outside()) };
    let end = start.checked_add(len).filter(|&end| end <= file.len()).ok_or_else(outside)?;
    decode::check_pages(&file.slice(start..end)).map_err(|error| error.in_field(&chunk.column_path().string()))
}

/// Where the rows of a block are.
#[derive(Debug, Clone)]
struct BlockPlace {
    file: u32,
    group: u32,
    /// Rows of the row group before it.
    skip: u64,
    /// Its first row in the file.
    file_row: u64,
    /// The pages of the columns of the plan, where the block is only a part of its row group.
    pages: Option<Arc<Vec<PageTable>>>,
}

impl BlockPlace {
    /// The parts of the file that hold the `rows` rows of the block in column `at` of the plan's columns.
    fn spans(&self, file: &FileEntry, at: usize, rows: u64) -> Vec<(u64, u64)> {
        match &self.pages {
            Some(tables) => tables[at].spans(self.skip..self.skip + rows),
            None => {
                let group = file.metadata.row_group(self.group as usize);
                open::chunk_range(group.column(file.plan.columns[at])).into_iter().collect()
            }
        }
    }
}

impl Dataset for Parquet {
    fn format(&self) -> &'static str {
        "Parquet"
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
        let unit = |(place, block): (&BlockPlace, &Block)| Unit {
            source: place.file,
            number: place.group.into(),
            rows: place.file_row..place.file_row + block.rows,
        };
        self.places.iter().zip(&self.blocks).map(unit).collect()
    }

    fn ranges(&self, block: usize) -> Vec<Range> {
        let place = &self.places[block];
        let file = &self.files[place.file as usize];
        let spans = (0..file.plan.columns.len()).flat_map(|at| place.spans(file, at, self.blocks[block].rows));
        merge(place.file, spans.collect())
    }

    fn decode(&self, block: usize, bytes: &[Bytes], rows: &mut Rows) -> Result<()> {
        self.decode_block(block, bytes, rows)
    }
}

fn parquet_error(error: ParquetError) -> Error {
    match error {
        ParquetError::NYI(why) => Error::unsupported(why),
        other => Error::corrupt(format!("{other}. Restore the file")),
    }
}
