//! Local files by positioned reads into recycled buffers, with the kernel told what comes next.
#![expect(unsafe_code, reason = "posix_fadvise has no safe wrapper in std")]

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use zenith_data::storage::{Pending, Range, Source, Storage};
use zenith_data::{Error, ErrorKind, Result};
use zenith_host::SlabPool;

use crate::listing::{self, io_error};

/// Files kept open at once; the oldest go first. Well under the smallest usual limit of open files.
const OPEN_FILES_MAX: usize = 48;
/// A read that fails with EIO is tried this many times in all.
const TRIES_MAX: u32 = 3;
/// Returned read buffers that are kept for the next block.
const IDLE_BYTES_MAX: usize = 24 << 20;

/// Files on this machine. One per process: a forked child makes its own.
#[derive(Debug)]
pub struct LocalFiles {
    open: Mutex<HashMap<String, Arc<File>>>,
    buffers: Arc<SlabPool>,
}

impl LocalFiles {
    pub fn new() -> Self {
        Self { open: Mutex::default(), buffers: SlabPool::new(IDLE_BYTES_MAX) }
    }

    /// The file of `source`, opened if need be and checked to be the one that was listed.
    pub(crate) fn file(&self, source: &Source) -> Result<Arc<File>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let file = match open.get(&source.location) {
            Some(file) => file.clone(),
            None => {
                if open.len() >= OPEN_FILES_MAX {
                    open.clear();
                }
                let file = File::open(&source.location).map_err(|error| {
                    let error = io_error(&error, "open the file", &source.location);
                    if error.kind() == ErrorKind::NotFound { changed(source, "was deleted") } else { error }
                })?;
                let file = Arc::new(file);
                open.insert(source.location.clone(), file.clone());
                file
            }
        };
        drop(open);
        let metadata = file.metadata().map_err(|error| io_error(&error, "inspect the file", &source.location))?;
        if metadata.len() != source.len {
            return Err(changed(source, &format!("had {} bytes and now has {}", source.len, metadata.len())));
        }
        if listing::version(&metadata) != source.version {
            return Err(changed(source, "was modified or replaced"));
        }
        Ok(file)
    }
}

impl Default for LocalFiles {
    fn default() -> Self {
        Self::new()
    }
}

fn changed(source: &Source, how: &str) -> Error {
    let message = format!("the file {how} since the dataset was opened. Open the dataset again");
    Error::new(ErrorKind::DatasetChanged, message).in_file(&source.location)
}

fn source_of(sources: &[Source], range: Range) -> Result<&Source> {
    sources.get(range.source as usize).ok_or_else(|| Error::internal("a range names a source that does not exist"))
}

impl Storage for LocalFiles {
    fn list(&self, pattern: &str) -> Result<Vec<Source>> {
        listing::list(pattern)
    }

    fn submit(&self, sources: &[Source], ranges: &[Range]) -> Result<Box<dyn Pending>> {
        let mut reads: Vec<Read> = Vec::with_capacity(ranges.len());
        for &range in ranges {
            let source = source_of(sources, range)?;
            if range.offset.checked_add(range.len).is_none_or(|end| end > source.len) {
                let message =
                    format!("{} bytes were expected here but the file ends at byte {}", range.len, source.len);
                return Err(Error::corrupt(message).in_file(&source.location).at_offset(range.offset));
            }
            let same = reads.last().filter(|last| last.range.source == range.source);
            let (file, source) = match same {
                Some(last) => (last.file.clone(), last.source.clone()),
                None => (self.file(source)?, Arc::new(source.clone())),
            };
            reads.push(Read { file, source, range });
        }
        Ok(Box::new(LocalReads { reads, buffers: self.buffers.clone() }))
    }

    fn will_need(&self, sources: &[Source], ranges: &[Range]) {
        for &range in ranges {
            let Ok(file) = source_of(sources, range).and_then(|source| self.file(source)) else { continue };
            let (offset, len) = (range.offset as libc::off_t, range.len as libc::off_t);
            // SAFETY: `file` keeps the descriptor open during the call, which reads no memory of ours.
            unsafe { libc::posix_fadvise(file.as_raw_fd(), offset, len, libc::POSIX_FADV_WILLNEED) };
        }
    }
}

struct Read {
    file: Arc<File>,
    source: Arc<Source>,
    range: Range,
}

struct LocalReads {
    reads: Vec<Read>,
    buffers: Arc<SlabPool>,
}

impl Pending for LocalReads {
    fn wait(self: Box<Self>) -> Result<Vec<Bytes>> {
        self.reads.iter().map(|read| read.bytes(&self.buffers)).collect()
    }
}

impl Read {
    fn bytes(&self, buffers: &Arc<SlabPool>) -> Result<Bytes> {
        let bytes = usize::try_from(self.range.len).map_err(|_| Error::invalid("a range is larger than memory"))?;
        let mut buffer = buffers.slab(bytes).ok_or_else(|| {
            Error::new(ErrorKind::Budget, format!("no memory for a read of {bytes} bytes"))
                .in_file(&self.source.location)
        })?;
        let into = buffer.as_mut();
        let mut done = 0;
        let mut tries = 0;
        while done < into.len() {
            match self.file.read_at(&mut into[done..], self.range.offset + done as u64) {
                // IO-1: the length was right when the read was submitted, so the file has shrunk since.
                Ok(0) => return Err(changed(&self.source, "was truncated").at_offset(self.range.offset + done as u64)),
                Ok(count) => done += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::EIO) && tries + 1 < TRIES_MAX => tries += 1,
                Err(error) => {
                    let error = io_error(&error, "read the file", &self.source.location);
                    return Err(error.at_offset(self.range.offset + done as u64));
                }
            }
        }
        Ok(Bytes::from_owner(buffer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn open(path: &std::path::Path) -> (LocalFiles, Vec<Source>) {
        let files = LocalFiles::new();
        let sources = files.list(path.to_str().unwrap()).unwrap();
        (files, sources)
    }

    #[test]
    fn ranges_come_back_in_order() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a");
        fs::write(&path, b"0123456789").unwrap();
        let (files, sources) = open(&path);
        let ranges = [Range { source: 0, offset: 7, len: 3 }, Range { source: 0, offset: 0, len: 2 }];
        files.will_need(&sources, &ranges);
        let parts = files.submit(&sources, &ranges).unwrap().wait().unwrap();
        assert_eq!(parts, [Bytes::from_static(b"789"), Bytes::from_static(b"01")]);
        let past = files.read(&sources, Range { source: 0, offset: 8, len: 3 }).unwrap_err();
        assert_eq!(past.kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn a_file_that_changed_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a");
        let range = Range { source: 0, offset: 0, len: 4 };
        type Change = fn(&std::path::Path);
        let changes: [Change; 3] = [
            |path| fs::write(path, b"01").unwrap(),
            |path| fs::write(path, b"0123456789").unwrap(),
            |path| fs::remove_file(path).unwrap(),
        ];
        for change in changes {
            fs::write(&path, b"012345").unwrap();
            let (files, sources) = open(&path);
            change(&path);
            let error = files.read(&sources, range).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::DatasetChanged, "{error}");
        }
    }
}
