//! Files mapped into memory, for who asks for it.
#![expect(unsafe_code, reason = "a mapped file may change under its reader, which no type can prevent")]

use bytes::Bytes;
use zenith_data::storage::Source;
use zenith_data::{Error, Result};

use crate::LocalFiles;
use crate::listing::io_error;

impl LocalFiles {
    /// The content of `source` without reading it: pages come when they are touched, and go back when memory is short.
    /// Loaders never use this: a file that is cut while its pages are in use ends the process with SIGBUS.
    pub fn map(&self, source: &Source) -> Result<Bytes> {
        let file = self.file(source)?;
        if source.len == 0 {
            return Ok(Bytes::new());
        }
        // SAFETY: MAP-1 the map is private and read-only, and lives as long as the bytes that own it. That nobody else
        // writes to the file is what a caller of `mmap=True` promises, as the documentation says.
        let map = unsafe { memmap2::MmapOptions::new().map_copy_read_only(&*file) };
        let map = map.map_err(|error| io_error(&error, "map the file", &source.location))?;
        if map.len() as u64 != source.len {
            return Err(Error::internal("a map has another size than its file").in_file(&source.location));
        }
        Ok(Bytes::from_owner(map))
    }
}
