//! Arrow IPC files: their buffers as they are.

use zenith_data::format::arrow_ipc::record_batches;
use zenith_data::storage::Source;
use zenith_data::{Error, Result};
use zenith_io::LocalFiles;

use super::{LoadOptions, Table, check_same, chosen, content, in_parallel};

pub(super) fn load(storage: &LocalFiles, sources: &[Source], options: &LoadOptions) -> Result<Table> {
    let files = in_parallel(sources.len(), options.threads, |index| {
        let read = content(storage, sources, index, options)
            .and_then(|bytes| record_batches(storage, sources, index as u32, &bytes, |schema| chosen(schema, options)));
        read.map_err(|error| error.in_file(&sources[index].name))
    })?;
    let mut schema = None;
    let mut batches = Vec::new();
    for (index, (of_file, rows)) in files.into_iter().enumerate() {
        check_same(&mut schema, &of_file, sources, index)?;
        batches.extend(rows);
    }
    let schema = schema.ok_or_else(|| Error::internal("no file was listed"))?;
    Ok(Table { schema, batches })
}
