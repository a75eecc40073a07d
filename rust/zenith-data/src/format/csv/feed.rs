//! The bytes of a file in order, brought piece by piece or all at once.

use bytes::Bytes;

use crate::storage::{Range, Source, Storage};
use crate::{Error, Result};

/// Bytes asked for at a time.
const READ_BYTES: u64 = 4 << 20;

/// A file, or the part of one that a block needs, from front to back.
pub(super) struct Feed<'a> {
    held: Bytes,
    /// The place in the file behind `held`.
    next: u64,
    end: u64,
    from: Option<(&'a dyn Storage, &'a [Source], u32)>,
}

impl<'a> Feed<'a> {
    pub(super) fn of_file(storage: &'a dyn Storage, sources: &'a [Source], source: u32) -> Self {
        let end = sources.get(source as usize).map_or(0, |source| source.len);
        Self { held: Bytes::new(), next: 0, end, from: Some((storage, sources, source)) }
    }

    /// Bytes that were brought already; `offset` is their place in the file.
    pub(super) fn of_bytes(bytes: Bytes, offset: u64) -> Self {
        let end = offset + bytes.len() as u64;
        Self { held: bytes, next: end, end, from: None }
    }

    /// The place in the file of what comes next.
    pub(super) fn offset(&self) -> u64 {
        self.next - self.held.len() as u64
    }

    /// What comes next: at least `least` bytes, unless the file ends before.
    pub(super) fn peek(&mut self, least: usize) -> Result<&[u8]> {
        while self.held.len() < least.max(1) && self.next < self.end {
            let Some((storage, sources, source)) = self.from else { break };
            let len = READ_BYTES.min(self.end - self.next);
            let bytes = storage.read(sources, Range { source, offset: self.next, len })?;
            if bytes.len() as u64 != len {
                return Err(Error::internal("a read returned another number of bytes than was asked for"));
            }
            self.next += len;
            let after = Range { source, offset: self.next, len: READ_BYTES.min(self.end - self.next) };
            storage.will_need(sources, &[after]);
            self.held = if self.held.is_empty() { bytes } else { [&self.held[..], &bytes[..]].concat().into() };
        }
        Ok(&self.held)
    }

    /// Whether nothing comes behind what `peek` shows.
    pub(super) fn is_last(&self) -> bool {
        self.next >= self.end
    }

    pub(super) fn consume(&mut self, count: usize) {
        self.held = self.held.split_off(count.min(self.held.len()));
    }

    /// Takes what comes next, as much as there is at hand; empty at the end.
    pub(super) fn take(&mut self) -> Result<Bytes> {
        self.peek(1)?;
        Ok(std::mem::take(&mut self.held))
    }
}
