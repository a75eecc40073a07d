//! The blocks laid end to end in the order of the epoch, and the way back from a place in that row of samples.

use std::sync::Arc;

use super::SampleRef;
use super::key::Stream;
use crate::{Error, Result};

/// Places per block in the lookup table: most places then need no search. 16 bytes a block.
const BUCKETS_PER_BLOCK: u64 = 4;

/// A row of samples made of whole blocks; empty blocks are left out.
#[derive(Debug, Clone)]
pub(crate) struct Sequence {
    /// Block numbers in sequence order.
    blocks: Arc<[u32]>,
    /// Where each begins, and the end of the last.
    starts: Arc<[u64]>,
    /// For every 2^shift samples, the block that holds the first of them.
    buckets: Arc<[u32]>,
    shift: u32,
}

impl Sequence {
    /// File order, or the order that `key` draws (Fisher and Yates, as in Knuth's Algorithm P).
    pub(crate) fn new(block_rows: &[u64], key: Option<u64>) -> Result<Self> {
        if u32::try_from(block_rows.len()).is_err() {
            return Err(Error::invalid(format!("{} blocks are more than 2^32; use larger blocks", block_rows.len())));
        }
        if let Some(block) = block_rows.iter().position(|rows| *rows > u64::from(u32::MAX)) {
            let rows = block_rows[block];
            return Err(
                Error::invalid(format!("{rows} samples in one block are more than 2^32 - 1")).in_block(block as u64)
            );
        }
        let mut blocks: Vec<u32> =
            (0_u32..).zip(block_rows).filter(|(_, rows)| **rows > 0).map(|(block, _)| block).collect();
        if let Some(key) = key {
            let mut stream = Stream::new(key);
            for last in (1..blocks.len()).rev() {
                blocks.swap(last, stream.below(last as u64 + 1) as usize);
            }
        }
        let mut starts = Vec::with_capacity(blocks.len() + 1);
        let mut total = 0_u64;
        starts.push(total);
        for block in &blocks {
            // Fewer than 2^32 blocks of fewer than 2^32 samples: the sum fits.
            total += block_rows[*block as usize];
            starts.push(total);
        }
        let (buckets, shift) = lookup_table(&starts, blocks.len() as u64);
        Ok(Self { blocks: blocks.into(), starts: starts.into(), buckets: buckets.into(), shift })
    }

    /// How many samples.
    pub(crate) fn len(&self) -> u64 {
        self.starts.last().copied().unwrap_or(0)
    }

    /// Block numbers in sequence order.
    pub(crate) fn blocks(&self) -> &[u32] {
        &self.blocks
    }

    /// The number that the dataset knows the block by.
    pub(crate) fn block(&self, index: usize) -> u32 {
        self.blocks[index]
    }

    /// The places of the block's samples.
    pub(crate) fn span(&self, index: usize) -> std::ops::Range<u64> {
        self.starts[index]..self.starts[index + 1]
    }

    /// Which block holds `place`, as an index into the sequence; `place` must be below `len`.
    #[inline]
    pub(crate) fn index_at(&self, place: u64) -> usize {
        let bucket = (place >> self.shift) as usize;
        let (low, high) = (self.buckets[bucket] as usize, self.buckets[bucket + 1] as usize);
        if low == high { low } else { low + self.starts[low + 1..=high].partition_point(|start| *start <= place) }
    }

    /// How many rows the block at `place` has.
    pub(crate) fn rows_at(&self, place: u64) -> u32 {
        let span = self.span(self.index_at(place));
        (span.end - span.start) as u32
    }

    #[inline]
    pub(crate) fn sample_at(&self, place: u64) -> SampleRef {
        let index = self.index_at(place);
        SampleRef { block: self.blocks[index], row: (place - self.starts[index]) as u32 }
    }
}

fn lookup_table(starts: &[u64], blocks: u64) -> (Vec<u32>, u32) {
    let total = starts.last().copied().unwrap_or(0);
    if total == 0 {
        return (Vec::new(), 0);
    }
    let mut shift = 0;
    while (total >> shift) > blocks * BUCKETS_PER_BLOCK {
        shift += 1;
    }
    let mut index = 0;
    let mut buckets = Vec::new();
    for bucket in 0..=((total - 1) >> shift) {
        while starts[index + 1] <= bucket << shift {
            index += 1;
        }
        buckets.push(index as u32);
    }
    buckets.push(blocks as u32 - 1);
    (buckets, shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_found_among_ragged_blocks() -> Result<()> {
        let rows = [0, 1, 0, 5, 1000, 1, 1, 1, 0, 3000, 2];
        for key in [None, Some(1), Some(2)] {
            let sequence = Sequence::new(&rows, key)?;
            assert_eq!((sequence.len(), sequence.blocks.len()), (4011, 8));
            let mut place = 0;
            for index in 0..sequence.blocks.len() {
                let block = sequence.block(index);
                assert_eq!(sequence.span(index), place..place + rows[block as usize]);
                for row in 0..rows[block as usize] as u32 {
                    assert_eq!(sequence.sample_at(place), SampleRef { block, row });
                    place += 1;
                }
            }
        }
        Ok(())
    }

    #[test]
    fn the_block_order_never_changes() -> Result<()> {
        let sequence = Sequence::new(&[1; 12], Some(42))?;
        assert_eq!(&*sequence.blocks, [9, 7, 11, 5, 4, 10, 6, 0, 3, 2, 1, 8]);
        Ok(())
    }

    #[test]
    fn a_block_that_is_too_large_is_named() {
        let error = Sequence::new(&[1, 1 << 32], None).expect_err("too large");
        assert_eq!(error.place().block, Some(1));
    }
}
