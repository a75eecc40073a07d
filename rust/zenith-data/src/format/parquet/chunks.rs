//! The bytes that were brought for a block, found again by their place in the file.

use std::io::{self, Read};

use bytes::{Buf, Bytes};
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use crate::storage::Range;
use crate::{Error, Result};

/// Pieces of a file in ascending order.
#[derive(Debug, Clone)]
pub(super) struct Chunks {
    pieces: Vec<(u64, Bytes)>,
    file_len: u64,
}

impl Chunks {
    /// Pairs the ranges that were asked for with what was brought.
    pub(super) fn new(ranges: &[Range], bytes: &[Bytes], file_len: u64) -> Result<Self> {
        if ranges.len() != bytes.len() || ranges.iter().zip(bytes).any(|(range, bytes)| range.len != bytes.len() as u64)
        {
            return Err(Error::internal("other bytes were brought than were asked for"));
        }
        let pieces = ranges.iter().zip(bytes).map(|(range, bytes)| (range.offset, bytes.clone())).collect();
        Ok(Self { pieces, file_len })
    }

    /// The piece in which `offset` lies, from there on.
    fn from(&self, offset: u64) -> Option<Bytes> {
        let after = self.pieces.partition_point(|(start, _)| *start <= offset);
        let (start, bytes) = self.pieces.get(after.checked_sub(1)?)?;
        let skip = usize::try_from(offset - start).ok().filter(|&skip| skip <= bytes.len())?;
        Some(bytes.slice(skip..))
    }

    /// `len` bytes at `offset` of the file.
    pub(super) fn get(&self, offset: u64, len: u64) -> Result<Bytes> {
        let len = usize::try_from(len).map_err(|_| Error::corrupt("a column chunk is too long"))?;
        match self.from(offset) {
            Some(bytes) if len <= bytes.len() => Ok(bytes.slice(..len)),
            _ => Err(Error::corrupt("a page lies outside its column chunk").at_offset(offset)),
        }
    }
}

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.file_len
    }
}

impl ChunkReader for Chunks {
    type T = PieceReader;

    fn get_read(&self, start: u64) -> parquet::errors::Result<PieceReader> {
        self.from(start).map(PieceReader).ok_or_else(|| outside(start))
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        self.get(start, length as u64).map_err(|_| outside(start))
    }
}

fn outside(offset: u64) -> ParquetError {
    ParquetError::EOF(format!("byte {offset} lies outside the column chunk"))
}

/// Reads on from a place in a piece.
#[derive(Debug)]
pub(super) struct PieceReader(Bytes);

impl Read for PieceReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = out.len().min(self.0.len());
        self.0.copy_to_slice(&mut out[..count]);
        Ok(count)
    }
}
