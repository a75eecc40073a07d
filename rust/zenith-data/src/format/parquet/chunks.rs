//! The bytes that were brought for a block, found again by their place in the file.

use std::io::{self, Read};

use bytes::{Buf, Bytes};
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use crate::format::ranges::Pieces;
use crate::storage::Range;
use crate::{Error, Result};

/// Pieces of a file, and how long it is.
#[derive(Debug, Clone)]
pub(super) struct Chunks {
    pieces: Pieces,
    file_len: u64,
}

impl Chunks {
    pub(super) fn new(ranges: &[Range], bytes: &[Bytes], file_len: u64) -> Result<Self> {
        Ok(Self { pieces: Pieces::new(ranges, bytes)?, file_len })
    }

    /// `len` bytes at `offset` of the file.
    pub(super) fn get(&self, offset: u64, len: u64) -> Result<Bytes> {
        let outside = || Error::corrupt("a page lies outside its column chunk").at_offset(offset);
        self.pieces.get(offset, len).ok_or_else(outside)
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
        self.pieces.from(start).map(PieceReader).ok_or_else(|| outside(start))
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
