//! The general path: whatever arrow's reader reads, over bytes that were brought, batch by batch.

use std::sync::Arc;

use arrow::array::RecordBatch;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, RowGroups, RowSelection, RowSelector};
use parquet::arrow::{ProjectionMask, parquet_to_arrow_field_levels};
use parquet::column::page::{PageIterator, PageReader};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::page_index::offset_index::PageLocation;
use parquet::file::serialized_reader::SerializedPageReader;

use super::chunks::Chunks;
use super::flat::Window;
use super::index::{PagePlace, PageTable};
use super::parquet_error;
use super::plan::FileSchema;
use crate::{Error, Result};

/// Bytes of values aimed at in one batch.
const BATCH_BYTES_AIM: u64 = 4 << 20;
const BATCH_ROWS_MAX: usize = 8192;
const BATCH_ROWS_MIN: usize = 16;

/// One row group of which the pages of some columns are at hand.
pub(super) struct Group<'a> {
    pub metadata: &'a ParquetMetaData,
    pub index: usize,
    pub chunks: &'a Arc<Chunks>,
    /// The columns that `tables` are of, where only a part of the row group is read.
    pub tables: Option<(&'a [usize], &'a [PageTable])>,
    pub schema: &'a FileSchema,
}

impl Group<'_> {
    fn group(&self) -> &RowGroupMetaData {
        self.metadata.row_group(self.index)
    }

    /// Reads the rows of `window` of the given columns, handing on each batch with the number of rows before it.
    pub(super) fn read(
        &self,
        columns: &[usize],
        window: Window,
        mut each: impl FnMut(&RecordBatch, usize) -> Result<()>,
    ) -> Result<()> {
        let group = self.group();
        let mask = ProjectionMask::leaves(&self.schema.descriptor, columns.iter().copied());
        let levels = parquet_to_arrow_field_levels(&self.schema.descriptor, mask, Some(self.schema.arrow.fields()))
            .map_err(parquet_error)?;
        let bytes: u64 = columns.iter().map(|&column| group.column(column).uncompressed_size().max(0) as u64).sum();
        let per_row = bytes / (group.num_rows().max(1) as u64);
        let batch_rows = usize::try_from(BATCH_BYTES_AIM / per_row.max(1)).unwrap_or(usize::MAX);
        let batch_rows = batch_rows.clamp(BATCH_ROWS_MIN, BATCH_ROWS_MAX);
        let all = window.skip == 0 && window.take as u64 == group.num_rows() as u64;
        let selection =
            (!all).then(|| RowSelection::from(vec![RowSelector::skip(window.skip), RowSelector::select(window.take)]));
        let reader = ParquetRecordBatchReader::try_new_with_row_groups(&levels, self, batch_rows, selection);
        let mut done = 0;
        for batch in reader.map_err(parquet_error)? {
            let batch = batch.map_err(|error| Error::corrupt(format!("a column is damaged: {error}")))?;
            if batch.num_rows() > window.take - done {
                return Err(Error::corrupt("a column has more rows than its row group"));
            }
            each(&batch, done)?;
            done += batch.num_rows();
        }
        if done < window.take {
            return Err(Error::corrupt(format!("the pages of a column lack {} rows", window.take - done)));
        }
        Ok(())
    }
}

impl RowGroups for Group<'_> {
    fn num_rows(&self) -> usize {
        self.group().num_rows().max(0) as usize
    }

    fn column_chunks(&self, column: usize) -> parquet::errors::Result<Box<dyn PageIterator>> {
        let table = self.tables.and_then(|(columns, tables)| tables.get(columns.binary_search(&column).ok()?));
        let locations = table.map(|table| {
            let location = |page: &PagePlace| PageLocation {
                offset: page.offset as i64,
                compressed_page_size: page.bytes as i32,
                first_row_index: page.first_row as i64,
            };
            table.pages.iter().map(location).collect()
        });
        let reader =
            SerializedPageReader::new(self.chunks.clone(), self.group().column(column), self.num_rows(), locations)?;
        Ok(Box::new(Once(Some(reader))))
    }

    fn row_groups(&self) -> Box<dyn Iterator<Item = &RowGroupMetaData> + '_> {
        Box::new(std::iter::once(self.group()))
    }

    fn metadata(&self) -> &ParquetMetaData {
        self.metadata
    }
}

struct Once(Option<SerializedPageReader<Chunks>>);

impl Iterator for Once {
    type Item = parquet::errors::Result<Box<dyn PageReader>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.take().map(|reader| Ok(Box::new(reader) as Box<dyn PageReader>))
    }
}

impl PageIterator for Once {}
