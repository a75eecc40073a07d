//! MCUs whose blocks were found before they are read, one after the other.

use super::boundaries::{Boundaries, McuTables};
use super::cursor::Cursor;

#[derive(Debug)]
pub(super) struct Ahead<'a> {
    boundaries: &'a mut Boundaries,
    tables: McuTables<'a>,
    /// Blocks of an MCU.
    blocks: usize,
    /// Blocks that are wanted and were not given yet.
    wanted: usize,
    /// Bits of a block, in the mean.
    block_bits: usize,
    /// Number of the block that comes next, of those that were found.
    next: usize,
    /// No more are looked for.
    over: bool,
}

/// Where the blocks of an MCU begin, and where the last ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Starts<'a> {
    base: usize,
    starts: &'a [u32],
}

impl Starts<'_> {
    /// In bits from the beginning of the data; block number `blocks` is the end.
    #[inline(always)]
    pub(super) fn of(&self, block: usize) -> usize {
        self.base + self.starts[2 * block] as usize
    }
}

impl<'a> Ahead<'a> {
    /// For a scan of one segment; of the MCUs of the picture the first `wanted` will be read.
    pub(super) fn new(
        boundaries: &'a mut Boundaries,
        tables: McuTables<'a>,
        (blocks, mcus, wanted): (usize, usize, usize),
        cursor: &Cursor<'_>,
    ) -> Self {
        boundaries.clear();
        // A block has 64 codes at most, of 26 bits with their values.
        let block_bits = (cursor.data.bits() as usize / (blocks * mcus)).min(64 * 26);
        Self { boundaries, tables, blocks, wanted: blocks * wanted, block_bits, next: 0, over: false }
    }

    /// The MCU at which `cursor` is; `None` if it must be read to find its blocks.
    #[inline(always)]
    pub(super) fn mcu(&mut self, cursor: &Cursor<'_>) -> Option<Starts<'_>> {
        if self.over {
            return None;
        }
        if self.next + 2 * self.blocks >= self.boundaries.found().1.len() {
            let bits = (8 * cursor.segment.end, self.block_bits);
            self.boundaries.find(cursor.data, &self.tables, cursor.bits.position(), self.wanted, bits);
            self.next = 0;
        }
        let (base, found) = self.boundaries.found();
        let Some(starts) = found.get(self.next..=self.next + 2 * self.blocks) else {
            self.over = true;
            return None;
        };
        self.next += 2 * self.blocks;
        self.wanted = self.wanted.saturating_sub(self.blocks);
        Some(Starts { base, starts })
    }
}
