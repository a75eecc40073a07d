//! Opening: footers checked, every file's schema held against the first one's, row groups cut into blocks.

use std::sync::Arc;

use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};
use parquet::schema::types::SchemaDescriptor;
use xxhash_rust::xxh3::Xxh3Default;

use super::footer::{Footer, read_footers};
use super::index::{self, PageTable};
use super::plan::FilePlan;
use super::{BlockPlace, FileEntry, Parquet, ParquetOptions, blocks};
use crate::dataset::Block;
use crate::format::partition::Partitions;
use crate::format::projection::Target;
use crate::storage::{Source, Storage};
use crate::{Error, ErrorKind, Result};

/// Row groups with more decoded bytes than this are refused where they cannot be read in parts.
pub(super) const WHOLE_BYTES_MAX: u64 = 4 << 30;
/// Bytes that a value of varying size costs beyond its own.
const VARYING_BYTES: u64 = 8;

impl Parquet {
    /// Opens all rows of `sources`, reading their footers only.
    pub(super) fn open_all(storage: &dyn Storage, sources: Vec<Source>, options: &ParquetOptions) -> Result<Parquet> {
        if sources.is_empty() {
            return Err(Error::new(ErrorKind::NotFound, "there are no Parquet files to open"));
        }
        let mut opening = Opening {
            options,
            partitions: Partitions::read(options.partitioning, &sources)?,
            storage,
            sources: &sources,
            files: Vec::new(),
            blocks: Vec::new(),
            places: Vec::new(),
            hash: Xxh3Default::new(),
        };
        read_footers(storage, &sources, |index, footer| {
            opening.add(index, footer).map_err(|error| error.in_file(&sources[index].name))
        })?;
        let Opening { partitions, files, blocks, places, mut hash, .. } = opening;
        let Some(first) = files.first() else { return Err(Error::internal("no file was opened")) };
        let projection = first.plan.projection.clone();
        let described =
            serde_json::to_vec(&(projection.schema(), options)).map_err(|error| Error::internal(error.to_string()))?;
        hash.update(&described);
        let fingerprint = format!("{:032x}", hash.digest128());
        Ok(Parquet { sources, partitions, projection, files, blocks, places, fingerprint, buffers: Default::default() })
    }
}

/// How a row group was cut.
struct Cuts {
    rows: Vec<std::ops::Range<u64>>,
    row_bytes: u64,
    pages: Option<Arc<Vec<PageTable>>>,
}

struct Opening<'a> {
    options: &'a ParquetOptions,
    partitions: Partitions,
    storage: &'a dyn Storage,
    sources: &'a [Source],
    files: Vec<FileEntry>,
    blocks: Vec<Block>,
    places: Vec<BlockPlace>,
    hash: Xxh3Default,
}

impl Opening<'_> {
    fn add(&mut self, index: usize, footer: Footer) -> Result<()> {
        let source = &self.sources[index];
        let metadata = footer.metadata;
        let plan = self.plan(&metadata)?;
        check_row_counts(&metadata)?;
        check_chunks(&metadata, &plan.schema.descriptor, &plan.columns, source.len)?;
        self.hash.update(source.name.as_bytes());
        self.hash.update(&[0]);
        for number in [source.len, metadata.file_metadata().num_rows() as u64] {
            self.hash.update(&number.to_le_bytes());
        }
        self.hash.update(&footer.hash.to_le_bytes());
        self.partitions.hash(index, &mut self.hash);
        let mut file_row = 0;
        for group in 0..metadata.num_row_groups() {
            let rows = metadata.row_group(group).num_rows() as u64;
            if rows > 0 {
                let cuts = self.cut(index, &metadata, group, &plan).map_err(|error| error.in_block(group as u64))?;
                self.add_blocks(index, group, file_row, cuts);
            }
            file_row += rows;
        }
        self.files.push(FileEntry { metadata, plan, footer_hash: footer.hash });
        Ok(())
    }

    fn add_blocks(&mut self, file: usize, group: usize, file_row: u64, cuts: Cuts) {
        for rows in cuts.rows {
            let count = rows.end - rows.start;
            self.blocks.push(Block { rows: count, decoded_bytes: count.saturating_mul(cuts.row_bytes) });
            self.places.push(BlockPlace {
                file: file as u32,
                group: group as u32,
                skip: rows.start,
                file_row: file_row + rows.start,
                pages: cuts.pages.clone(),
            });
        }
    }

    /// The blocks of a row group: itself, or parts of it where it is large and its pages can be found.
    fn cut(&self, file: usize, metadata: &ParquetMetaData, group: usize, plan: &FilePlan) -> Result<Cuts> {
        let row_group = metadata.row_group(group);
        let rows = row_group.num_rows() as u64;
        let bytes = decoded_bytes(row_group, plan);
        let row_bytes = bytes.div_ceil(rows.max(1));
        if bytes > blocks::BLOCK_BYTES_MAX
            && let Some(tables) = index::find_pages(self.storage, self.sources, file, row_group, plan)?
        {
            return Ok(Cuts { rows: blocks::cut(rows, bytes, &tables), row_bytes, pages: Some(Arc::new(tables)) });
        }
        if bytes > WHOLE_BYTES_MAX {
            let why = format!(
                "the row group of {rows} rows would take {bytes} bytes, the limit for what cannot be read in parts being \
                 {WHOLE_BYTES_MAX}. Write smaller row groups"
            );
            return Err(Error::new(ErrorKind::Budget, why));
        }
        Ok(Cuts { rows: std::iter::once(0..rows).collect(), row_bytes, pages: None })
    }

    /// The plan for a file: the one before it, where the schemas are the same.
    fn plan(&self, metadata: &ParquetMetaData) -> Result<Arc<FilePlan>> {
        if let Some(last) = self.files.last() {
            let (one, other) = (last.metadata.file_metadata(), metadata.file_metadata());
            if one.schema_descr() == other.schema_descr() && one.key_value_metadata() == other.key_value_metadata() {
                return Ok(last.plan.clone());
            }
        }
        let plan = FilePlan::new(metadata, &self.options.select, &self.partitions)?;
        if let Some(first) = self.files.first() {
            first.plan.projection.check_same(&plan.projection)?;
        }
        Ok(Arc::new(plan))
    }
}

/// Where a column chunk lies.
pub(super) fn chunk_range(column: &ColumnChunkMetaData) -> Option<(u64, u64)> {
    let start = column.dictionary_page_offset().unwrap_or(column.data_page_offset());
    Some((u64::try_from(start).ok()?, u64::try_from(column.compressed_size()).ok()?))
}

pub(super) fn check_row_counts(metadata: &ParquetMetaData) -> Result<()> {
    let mut total = 0i64;
    for (index, group) in metadata.row_groups().iter().enumerate() {
        let rows = group.num_rows();
        total = match total.checked_add(rows) {
            Some(total) if rows >= 0 => total,
            _ => return Err(wrong(format!("the row group claims {rows} rows"), index)),
        };
    }
    if total != metadata.file_metadata().num_rows() {
        let claimed = metadata.file_metadata().num_rows();
        return Err(Error::corrupt(format!(
            "the row groups have {total} rows, the footer claims {claimed}. Restore the file"
        )));
    }
    Ok(())
}

/// Refuses column chunks of the given columns that lie outside the file or do not have a value for every row.
pub(super) fn check_chunks(
    metadata: &ParquetMetaData,
    schema: &SchemaDescriptor,
    columns: &[usize],
    file_len: u64,
) -> Result<()> {
    for (index, group) in metadata.row_groups().iter().enumerate() {
        let rows = group.num_rows();
        for &column in columns {
            let Some(chunk) = group.columns().get(column) else {
                return Err(wrong(format!("the row group has {} columns", group.num_columns()), index));
            };
            let wrong = |why: String| wrong(why, index).in_field(&chunk.column_path().string());
            let range =
                chunk_range(chunk).filter(|(start, len)| start.checked_add(*len).is_some_and(|end| end <= file_len));
            if range.is_none() {
                return Err(wrong("the column chunk lies outside the file".into()));
            }
            if schema.column(column).max_rep_level() == 0 && chunk.num_values() != rows {
                return Err(wrong(format!("the column has {} values for {rows} rows", chunk.num_values())));
            }
            if chunk.uncompressed_size() < 0 {
                return Err(wrong("the column has a negative size".into()));
            }
        }
    }
    Ok(())
}

fn wrong(why: String, group: usize) -> Error {
    Error::corrupt(format!("{why}. Restore the file")).in_block(group as u64)
}

/// What the samples of a row group take, from the widths of dense fields and the sizes of the columns of others.
fn decoded_bytes(row_group: &RowGroupMetaData, plan: &FilePlan) -> u64 {
    let rows = row_group.num_rows() as u64;
    let mut per_row = 0u64;
    let mut varying = 0u64;
    for output in plan.projection.outputs() {
        if let Target::Dense { dtype, per_row: elements, .. } = output.target {
            per_row = per_row.saturating_add((dtype.width() as u64).saturating_mul(elements as u64));
        } else {
            per_row = per_row.saturating_add(VARYING_BYTES);
            let columns = &plan.leaves[output.leaf].columns;
            let sizes = columns.iter().map(|&column| row_group.column(column).uncompressed_size() as u64);
            varying = sizes.fold(varying, u64::saturating_add);
        }
    }
    rows.saturating_mul(per_row).saturating_add(varying)
}
