//! Byte ranges of a file that a block needs, and the bytes that were brought for them.

use bytes::Bytes;

use crate::storage::Range;
use crate::{Error, Result};

/// Ranges that lie closer than this are read at once.
const GAP_BYTES_MAX: u64 = 64 << 10;

/// Ranges (offset and length) of one file, sorted, joined where they are near.
pub(super) fn merge(source: u32, mut parts: Vec<(u64, u64)>) -> Vec<Range> {
    parts.sort_unstable();
    let mut ranges: Vec<Range> = Vec::new();
    for (offset, len) in parts.into_iter().filter(|(_, len)| *len > 0) {
        match ranges.last_mut() {
            Some(last) if offset <= last.offset + last.len + GAP_BYTES_MAX => {
                last.len = last.len.max(offset + len - last.offset);
            }
            _ => ranges.push(Range { source, offset, len }),
        }
    }
    ranges
}

/// Pieces of a file in ascending order, found again by their place in the file.
#[derive(Debug, Clone)]
pub(super) struct Pieces(Vec<(u64, Bytes)>);

impl Pieces {
    /// Pairs the ranges that were asked for with what was brought.
    pub(super) fn new(ranges: &[Range], bytes: &[Bytes]) -> Result<Self> {
        if ranges.len() != bytes.len() || ranges.iter().zip(bytes).any(|(range, bytes)| range.len != bytes.len() as u64)
        {
            return Err(Error::internal("other bytes were brought than were asked for"));
        }
        Ok(Self(ranges.iter().zip(bytes).map(|(range, bytes)| (range.offset, bytes.clone())).collect()))
    }

    /// The piece in which `offset` lies, from there on.
    pub(super) fn from(&self, offset: u64) -> Option<Bytes> {
        let after = self.0.partition_point(|(start, _)| *start <= offset);
        let (start, bytes) = self.0.get(after.checked_sub(1)?)?;
        let skip = usize::try_from(offset - start).ok().filter(|&skip| skip <= bytes.len())?;
        Some(bytes.slice(skip..))
    }

    /// `len` bytes at `offset` of the file, if they were brought.
    pub(super) fn get(&self, offset: u64, len: u64) -> Option<Bytes> {
        let len = usize::try_from(len).ok()?;
        if len == 0 {
            return Some(Bytes::new());
        }
        self.from(offset).filter(|bytes| len <= bytes.len()).map(|bytes| bytes.slice(..len))
    }
}
