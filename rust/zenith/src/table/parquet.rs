//! Parquet files: row groups decoded by arrow's reader.

use std::sync::Arc;

use ::parquet::arrow::ProjectionMask;
use ::parquet::arrow::arrow_reader::{ArrowReaderMetadata, ParquetRecordBatchReaderBuilder};
use ::parquet::errors::ParquetError;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use zenith_data::format::guard::guard;
use zenith_data::format::parquet::{check_chunk_pages, check_footers};
use zenith_data::storage::Source;
use zenith_data::{Error, Result};
use zenith_io::LocalFiles;

use super::{LoadOptions, Table, check_same, chosen, content, in_parallel};

pub(super) fn load(storage: &LocalFiles, sources: &[Source], options: &LoadOptions) -> Result<Table> {
    check_footers(storage, sources)?;
    let mut schema: Option<SchemaRef> = None;
    let mut groups = Vec::new();
    for (index, source) in sources.iter().enumerate() {
        let file = content(storage, sources, index, options).and_then(|bytes| File::open(bytes, options));
        let file = file.map_err(|error| error.in_file(&source.name))?;
        check_same(&mut schema, &file.schema, sources, index)?;
        let count = file.metadata.metadata().num_row_groups();
        let file = Arc::new(file);
        groups.extend((0..count).map(|group| (source, file.clone(), group)));
    }
    let schema = schema.ok_or_else(|| Error::internal("no file was listed"))?;
    let batches = in_parallel(groups.len(), options.threads, |index| {
        let (source, file, group) = &groups[index];
        file.group(*group).map_err(|error| error.in_file(&source.name).in_block(*group as u64))
    })?;
    Ok(Table { schema, batches: batches.into_iter().flatten().collect() })
}

struct File {
    bytes: Bytes,
    metadata: ArrowReaderMetadata,
    schema: SchemaRef,
    mask: ProjectionMask,
}

impl File {
    fn open(bytes: Bytes, options: &LoadOptions) -> Result<Self> {
        guard("the footer", || {
            let metadata = ArrowReaderMetadata::load(&bytes, Default::default()).map_err(corrupt)?;
            let columns = chosen(metadata.schema(), options)?;
            let schema = metadata.schema().project(&columns).map_err(|error| Error::internal(error.to_string()))?;
            let mask = ProjectionMask::roots(metadata.parquet_schema(), columns);
            Ok(Self { bytes: bytes.clone(), schema: Arc::new(schema), mask, metadata })
        })
    }

    fn group(&self, group: usize) -> Result<Vec<RecordBatch>> {
        guard("a row group", || {
            let row_group = self.metadata.metadata().row_group(group);
            let rows = usize::try_from(row_group.num_rows()).unwrap_or(usize::MAX);
            for (column, chunk) in row_group.columns().iter().enumerate() {
                if self.mask.leaf_included(column) {
                    check_chunk_pages(&self.bytes, chunk)?;
                }
            }
            let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(self.bytes.clone(), self.metadata.clone())
                .with_projection(self.mask.clone())
                .with_row_groups(vec![group])
                .with_batch_size(rows.max(1))
                .build()
                .map_err(corrupt)?;
            let batches = reader
                .map(|batch| batch.map_err(|error| Error::corrupt(format!("{error}. Restore the file"))))
                .collect::<Result<Vec<_>>>()?;
            let found: usize = batches.iter().map(RecordBatch::num_rows).sum();
            if found != rows {
                let why = format!("the pages hold {found} rows, the footer claims {rows}. Restore the file");
                return Err(Error::corrupt(why));
            }
            Ok(batches)
        })
    }
}

#[expect(clippy::needless_pass_by_value, reason = "map_err hands the error over")]
fn corrupt(error: ParquetError) -> Error {
    Error::corrupt(format!("{error}. Restore the file"))
}
