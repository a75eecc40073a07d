//! A place in the entropy-coded bytes of a scan, with what decoding carries from one MCU to the next.

use zenith_data::{Error, Result};

use super::bits::{BitPosition, Bits, ScanData, Segment};

/// What the next MCU depends on besides its bits. It is small and copied freely: decoding can begin at any MCU for which it
/// is known.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Carried {
    /// The last DC value of each component of the scan.
    pub(super) predictors: [i32; 4],
    /// Blocks that are still known to end at once (progressive scans).
    pub(super) end_of_block_run: u32,
}

#[derive(Debug, Clone)]
pub(super) struct Cursor<'a> {
    file: &'a [u8],
    pub(super) data: &'a ScanData,
    pub(super) segment: Segment,
    /// Number of the segment.
    index: usize,
    /// MCUs until a restart marker is due.
    left: usize,
    pub(super) interval: usize,
    pub(super) bits: Bits<'a>,
    pub(super) carried: Carried,
}

impl<'a> Cursor<'a> {
    /// At the first MCU; `interval` is that of restart markers, 0 if there are none.
    pub(super) fn new(file: &'a [u8], data: &'a ScanData, interval: usize) -> Result<Self> {
        let segment = data.segment(0).ok_or_else(|| Error::internal("a scan without a segment"))?;
        let left = if interval == 0 { usize::MAX } else { interval };
        let bits = data.reader(segment);
        Ok(Self { file, data, segment, index: 0, left, interval, bits, carried: Carried::default() })
    }

    /// Passes over MCUs by whole segments, as many as begin at or before MCU number `wanted`; the number of the MCU that
    /// comes next.
    pub(super) fn jump(&mut self, wanted: usize) -> Result<usize> {
        if self.interval == 0 {
            return Ok(0);
        }
        self.enter(wanted / self.interval)?;
        Ok(self.index * self.interval)
    }

    /// Goes on at an MCU that begins at that bit of the same segment.
    pub(super) fn seek(&mut self, bit: usize, predictors: [i32; 4]) {
        self.bits.seek(bit);
        self.carried = Carried { predictors, end_of_block_run: 0 };
    }

    /// To be called before each MCU.
    #[inline(always)]
    pub(super) fn next_mcu(&mut self) -> Result<()> {
        if self.left == 0 {
            self.check()?;
            self.enter(self.index + 1)?;
        }
        self.left -= 1;
        Ok(())
    }

    /// Bits were read that the scan does not have, which looks like zeros or the bits behind a restart marker.
    pub(super) fn check(&self) -> Result<()> {
        if self.data.contains(self.segment, self.position()) { Ok(()) } else { Err(self.error()) }
    }

    /// The error for bits without a meaning.
    #[cold]
    pub(super) fn error(&self) -> Error {
        self.data.error(self.file, self.segment, self.position())
    }

    fn position(&self) -> &BitPosition {
        &self.bits.state
    }

    fn enter(&mut self, index: usize) -> Result<()> {
        let missing = || self.data.missing(index);
        (self.segment, self.index) = (self.data.segment(index).ok_or_else(missing)?, index);
        self.bits = self.data.reader(self.segment);
        self.left = self.interval;
        self.carried = Carried::default();
        Ok(())
    }
}
