//! The bytes of headers, which lie apart: windows of a file that are as long as there is use for them.

use bytes::Bytes;

use crate::Result;
use crate::storage::{Range, Source, Storage};

/// The first read, and the bounds of later ones. Headers of small members come many in one read; to those of large ones it
/// jumps, and reads little beside them.
const FIRST_BYTES: u64 = 64 << 10;
const LEAST_BYTES: u64 = 4 << 10;
const MOST_BYTES: u64 = 1 << 20;

pub(super) struct Window<'a> {
    storage: &'a dyn Storage,
    sources: &'a [Source],
    source: u32,
    held: Bytes,
    start: u64,
    len: u64,
}

impl<'a> Window<'a> {
    pub(super) fn new(storage: &'a dyn Storage, sources: &'a [Source], source: u32) -> Self {
        Self { storage, sources, source, held: Bytes::new(), start: 0, len: FIRST_BYTES }
    }

    /// Bytes of the file.
    pub(super) fn file_bytes(&self) -> u64 {
        self.sources.get(self.source as usize).map_or(0, |source| source.len)
    }

    /// `len` bytes at `offset`; `None` where the file ends before.
    pub(super) fn at(&mut self, offset: u64, len: u64) -> Result<Option<Bytes>> {
        let file_bytes = self.file_bytes();
        if offset.checked_add(len).is_none_or(|end| end > file_bytes) {
            return Ok(None);
        }
        let end = self.start + self.held.len() as u64;
        if offset < self.start || offset + len > end {
            let is_next = offset >= self.start && offset < end + self.len;
            self.len = if is_next { (self.len * 2).min(MOST_BYTES) } else { (self.len / 2).max(LEAST_BYTES) };
            let len = self.len.max(len).min(file_bytes - offset);
            self.held = self.storage.read(self.sources, Range { source: self.source, offset, len })?;
            self.start = offset;
        }
        let from = (offset - self.start) as usize;
        Ok(self.held.get(from..from + len as usize).map(|part| self.held.slice_ref(part)))
    }
}
