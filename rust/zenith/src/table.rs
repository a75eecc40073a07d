//! Whole files as Arrow record batches: what `zenith.load` hands to pyarrow without another copy.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ParquetRecordBatchReaderBuilder};
use zenith_data::format::guard::guard;
use zenith_data::format::parquet::check_footers;
use zenith_data::storage::{Range, Source, Storage};
use zenith_data::{Error, Result};
use zenith_io::LocalFiles;

/// A table in memory.
#[derive(Debug)]
pub struct Table {
    /// Names and types of the columns.
    pub schema: SchemaRef,
    /// The rows, one batch per row group.
    pub batches: Vec<RecordBatch>,
}

/// Reads the Parquet files that `pattern` means (a file, directory or glob) with `threads` threads. `columns` are names of
/// top-level columns; all when not given. Errors: no file, a column that does not exist, files of different schemas, bytes
/// that are not Parquet.
pub fn load(pattern: &str, columns: Option<&[String]>, threads: usize) -> Result<Table> {
    let storage = LocalFiles::new();
    let sources = storage.list(pattern)?;
    check_footers(&storage, &sources)?;
    let mut tasks = Vec::new();
    let mut schema: Option<SchemaRef> = None;
    for (index, source) in sources.iter().enumerate() {
        let file =
            File::open(&storage, &sources, index as u32, columns).map_err(|error| error.in_file(&source.name))?;
        match &schema {
            Some(first) if first.fields() != file.schema.fields() => {
                let message = format!("the columns differ from those of {}", sources[0].name);
                return Err(Error::invalid(message).in_file(&source.name));
            }
            Some(_) => {}
            None => schema = Some(file.schema.clone()),
        }
        let groups = file.metadata.metadata().num_row_groups();
        let file = Arc::new(file);
        tasks.extend((0..groups).map(|group| (source, file.clone(), group)));
    }
    let schema = schema.ok_or_else(|| Error::internal("no file was listed"))?;
    Ok(Table { schema, batches: read_groups(&tasks, threads)? })
}

struct File {
    bytes: Bytes,
    metadata: ArrowReaderMetadata,
    schema: SchemaRef,
    mask: ProjectionMask,
}

impl File {
    fn open(storage: &dyn Storage, sources: &[Source], index: u32, columns: Option<&[String]>) -> Result<Self> {
        let range = Range { source: index, offset: 0, len: sources[index as usize].len };
        let bytes = storage.read(sources, range)?;
        guard("the footer", || {
            let metadata = ArrowReaderMetadata::load(&bytes, Default::default()).map_err(corrupt)?;
            let all = metadata.schema();
            let mut roots: Vec<usize> = (0..all.fields().len()).collect();
            if let Some(names) = columns {
                roots = names.iter().map(|name| position(all, name)).collect::<Result<_>>()?;
                roots.sort_unstable();
            }
            let schema = Arc::new(all.project(&roots).map_err(|error| Error::internal(error.to_string()))?);
            let mask = ProjectionMask::roots(metadata.parquet_schema(), roots);
            Ok(Self { bytes: bytes.clone(), schema, mask, metadata })
        })
    }

    fn group(&self, group: usize) -> Result<Vec<RecordBatch>> {
        guard("a row group", || {
            let rows = usize::try_from(self.metadata.metadata().row_group(group).num_rows()).unwrap_or(usize::MAX);
            let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(self.bytes.clone(), self.metadata.clone())
                .with_projection(self.mask.clone())
                .with_row_groups(vec![group])
                .with_batch_size(rows.max(1))
                .build()
                .map_err(corrupt)?;
            reader.map(|batch| batch.map_err(|error| Error::corrupt(format!("{error}. Restore the file")))).collect()
        })
    }
}

fn position(schema: &SchemaRef, name: &str) -> Result<usize> {
    schema.index_of(name).map_err(|_| {
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        Error::new(zenith_data::ErrorKind::NotFound, format!("there is no column {name:?}; there are {names:?}"))
    })
}

#[expect(clippy::needless_pass_by_value, reason = "map_err hands the error over")]
fn corrupt(error: parquet::errors::ParquetError) -> Error {
    Error::corrupt(format!("{error}. Restore the file"))
}

type Task<'a> = (&'a Source, Arc<File>, usize);

/// Decodes the row groups with a few threads; the result is in their order.
fn read_groups(tasks: &[Task<'_>], threads: usize) -> Result<Vec<RecordBatch>> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<Option<Result<Vec<RecordBatch>>>>> = Mutex::new(tasks.iter().map(|_| None).collect());
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, tasks.len().max(1)) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some((source, file, group)) = tasks.get(index) else { return };
                    let read = file.group(*group).map_err(|error| error.in_file(&source.name).in_block(*group as u64));
                    done.lock().unwrap_or_else(PoisonError::into_inner)[index] = Some(read);
                }
            });
        }
    });
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut batches = Vec::new();
    for read in done.into_iter().flatten() {
        batches.extend(read?);
    }
    Ok(batches)
}
