//! CSV files: types told by their values, missing values as nulls.

use std::sync::Arc;

use zenith_data::dataset::{Dataset, Ports};
use zenith_data::format::{Csv, CsvOptions};
use zenith_data::sidecar::NoSidecar;
use zenith_data::storage::{Source, Storage};
use zenith_data::{Error, Result};
use zenith_io::LocalFiles;

use crate::file_format::FileFormat;

use super::{LoadOptions, Table, chosen, in_parallel};

pub(super) fn load(storage: &LocalFiles, sources: Vec<Source>, options: &LoadOptions) -> Result<Table> {
    if options.mmap {
        return Err(Error::invalid("mmap is for Parquet and Arrow IPC: text has to be taken apart anyway"));
    }
    let delimiter = match FileFormat::of_name(&sources[0].name) {
        Some(FileFormat::Csv { delimiter }) => delimiter,
        _ => ',',
    };
    // One pass for the index and one for the values: for who reads a file once, that is quicker than keeping it.
    let ports = Ports { storage, sidecar: &NoSidecar };
    let csv = Csv::open(ports, sources, &CsvOptions { delimiter, ..CsvOptions::default() })?;
    let all = csv.arrow_schema();
    let schema = Arc::new(all.project(&chosen(&all, options)?).map_err(|error| Error::internal(error.to_string()))?);
    let batches = in_parallel(csv.blocks().len(), options.threads, |block| {
        let bytes = storage.submit(csv.sources(), &csv.ranges(block))?.wait()?;
        csv.record_batch(block, &bytes, &schema)
    })?;
    Ok(Table { schema, batches })
}
