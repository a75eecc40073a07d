//! Whole files as Arrow record batches: what `zenith.load` hands to pyarrow without another copy.

mod arrow_ipc;
mod csv;
mod parquet;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use ::arrow::datatypes::{Schema, SchemaRef};
use ::arrow::record_batch::RecordBatch;
use bytes::Bytes;
use zenith_data::storage::{Range, Source, Storage};
use zenith_data::{Error, ErrorKind, Result};
use zenith_io::LocalFiles;

use crate::file_format::FileFormat;

/// A table in memory.
#[derive(Debug)]
pub struct Table {
    /// Names and types of the columns.
    pub schema: SchemaRef,
    /// The rows: a batch per row group, record batch or block of text.
    pub batches: Vec<RecordBatch>,
}

/// What is loaded, and how.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// Names of top-level columns; all when not given. They come in the order of the file.
    pub columns: Option<Vec<String>>,
    /// Threads that decode; at least one does.
    pub threads: usize,
    /// Map the files instead of reading them. A file that is cut while its table lives ends the process with SIGBUS.
    pub mmap: bool,
}

/// Reads the files that `pattern` means (a file, directory or glob); the name of the first tells the format of all: Parquet,
/// Arrow IPC, or CSV. Errors: no file, a name that tells no format, a column that does not exist, files of different
/// columns, bytes that are not of the format.
pub fn load(pattern: &str, options: &LoadOptions) -> Result<Table> {
    let storage = LocalFiles::new();
    let sources = storage.list(pattern)?;
    let first = sources.first().ok_or_else(|| Error::internal("no file was listed"))?;
    match FileFormat::of_name(&first.name) {
        Some(FileFormat::Parquet) => parquet::load(&storage, &sources, options),
        Some(FileFormat::ArrowIpc) => arrow_ipc::load(&storage, &sources, options),
        Some(FileFormat::Csv { .. }) => csv::load(&storage, sources, options),
        Some(FileFormat::Tokens | FileFormat::WebDataset) | None => {
            let message = format!("the name tells no format that is a table. Names end in {}", FileFormat::SUFFIXES);
            Err(Error::new(ErrorKind::Unsupported, message).in_file(&first.location))
        }
    }
}

/// The content of a file, read or mapped.
fn content(storage: &LocalFiles, sources: &[Source], index: usize, options: &LoadOptions) -> Result<Bytes> {
    if options.mmap {
        return storage.map(&sources[index]);
    }
    storage.read(sources, Range { source: index as u32, offset: 0, len: sources[index].len })
}

/// The numbers of the chosen columns, in the order of the file.
fn chosen(schema: &Schema, options: &LoadOptions) -> Result<Vec<usize>> {
    let Some(names) = &options.columns else { return Ok((0..schema.fields().len()).collect()) };
    let number = |name: &String| {
        schema.index_of(name).map_err(|_| {
            let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            Error::new(ErrorKind::NotFound, format!("there is no column {name:?}; there are {names:?}"))
        })
    };
    let mut numbers = names.iter().map(number).collect::<Result<Vec<_>>>()?;
    numbers.sort_unstable();
    Ok(numbers)
}

/// Holds a file's columns against those of the first file.
fn check_same(first: &mut Option<SchemaRef>, schema: &SchemaRef, sources: &[Source], index: usize) -> Result<()> {
    match first {
        Some(first) if first.fields() != schema.fields() => {
            let message = format!("the columns differ from those of {}", sources[0].name);
            Err(Error::invalid(message).in_file(&sources[index].name))
        }
        Some(_) => Ok(()),
        None => {
            *first = Some(schema.clone());
            Ok(())
        }
    }
}

/// Runs `work` for every number below `count` with a few threads; the results are in their order.
fn in_parallel<T: Send>(count: usize, threads: usize, work: impl Fn(usize) -> Result<T> + Sync) -> Result<Vec<T>> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<Option<Result<T>>>> = Mutex::new((0..count).map(|_| None).collect());
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, count.max(1)) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count {
                        return;
                    }
                    let result = work(index);
                    done.lock().unwrap_or_else(PoisonError::into_inner)[index] = Some(result);
                }
            });
        }
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().flatten().collect()
}
