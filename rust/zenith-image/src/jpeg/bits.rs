//! The bits of a scan: byte stuffing and restart markers taken out first, so that reading them needs no look at each byte.

use zenith_data::{Error, Result};

use super::markers::{corrupt, truncated};

/// Bytes behind the last one that a reader may load; they are zero.
const PADDING: usize = 16;

/// The entropy-coded bytes of a scan without what is not code.
#[derive(Debug, Default)]
pub(super) struct ScanData {
    bytes: Vec<u8>,
    segments: Vec<Segment>,
    /// Where the marker behind the scan is.
    pub(super) end: usize,
}

/// What lies between two restart markers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment {
    /// In `ScanData::bytes`.
    start: usize,
    pub(super) end: usize,
    /// Where it begins in the file.
    source: usize,
}

impl ScanData {
    /// Takes the scan's bytes from `file`, which ends with a marker: without one the file was cut.
    pub(super) fn read(&mut self, file: &[u8], start: usize) -> Result<()> {
        if u32::try_from(file.len()).is_err() {
            return Err(Error::unsupported("a JPEG of 4 GiB or more is not supported"));
        }
        self.bytes.clear();
        self.segments.clear();
        let (mut from, mut source, mut segment) = (start, start, 0);
        loop {
            let rest = file.get(from..).unwrap_or_default();
            let Some(found) = memchr::memchr(0xFF, rest) else { return Err(truncated(file.len())) };
            let at = from + found;
            // Markers may be preceded by any number of fill bytes.
            let after = file[at..].iter().position(|&byte| byte != 0xFF).map(|count| at + count);
            let Some(after) = after else { return Err(truncated(file.len())) };
            if file[after] == 0 {
                self.bytes.extend_from_slice(&file[from..=at]);
                from = after + 1;
                continue;
            }
            self.bytes.extend_from_slice(&file[from..at]);
            self.segments.push(Segment { start: segment, end: self.bytes.len(), source });
            let expected = 0xD0 + ((self.segments.len() - 1) & 7) as u8;
            match file[after] {
                marker if marker == expected => {
                    (from, source, segment) = (after + 1, after + 1, self.bytes.len());
                }
                0xD0..=0xD7 => {
                    let message = format!("restart marker {:#x} where {expected:#x} is due", file[after]);
                    return Err(corrupt(message, after));
                }
                _ => {
                    self.end = at;
                    self.bytes.extend_from_slice(&[0; PADDING]);
                    return Ok(());
                }
            }
        }
    }

    /// Bits of all segments: what cannot be decoded from so few is refused before memory is taken for it.
    pub(super) fn bits(&self) -> u64 {
        8 * (self.bytes.len() - PADDING) as u64
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn segment(&self, index: usize) -> Option<Segment> {
        self.segments.get(index).copied()
    }

    /// The error for a segment that the scan lacks.
    pub(super) fn missing(&self, index: usize) -> Error {
        corrupt(format!("a scan ends before the picture is complete: restart marker {index} is missing"), self.end)
    }

    pub(super) fn reader(&self, segment: Segment) -> Bits<'_> {
        Bits { bytes: &self.bytes, state: BitPosition { buffer: 0, count: 0, next: segment.start as u32 } }
    }

    /// Whether what was read lies within its segment; reading on behind it gives bits of the next segment, or zeros.
    pub(super) fn contains(&self, segment: Segment, state: &BitPosition) -> bool {
        state.bits_read() <= 8 * segment.end
    }

    /// The error for bits that mean nothing, at a position of the reader.
    pub(super) fn error(&self, file: &[u8], segment: Segment, state: &BitPosition) -> Error {
        let read = (state.bits_read() / 8).saturating_sub(segment.start);
        if !self.contains(segment, state) {
            let end = self.source(file, segment, segment.end - segment.start);
            return corrupt("a scan ends before the picture is complete", end);
        }
        corrupt("a Huffman code or coefficient that cannot be", self.source(file, segment, read))
    }

    /// Where in the file the byte of a segment is: behind the stuffing that was taken out before it.
    fn source(&self, file: &[u8], segment: Segment, byte: usize) -> usize {
        let mut at = segment.source;
        for _ in 0..byte {
            at += if file.get(at) == Some(&0xFF) { 2 } else { 1 };
        }
        at.min(file.len())
    }
}

/// A place in a scan: all that is needed to read on from it.
#[derive(Debug, Clone, Copy)]
pub(super) struct BitPosition {
    /// Bits that are next, from the top. Below the first `count` may be bits that are loaded again later.
    buffer: u64,
    count: u32,
    /// The byte that is loaded next. Of 32 bits, so that adding to it needs no look for an overflow.
    next: u32,
}

impl BitPosition {
    fn bits_read(&self) -> usize {
        (8 * self.next as usize).saturating_sub(self.count as usize)
    }
}

/// Reads bits, eight bytes ahead.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    pub(super) state: BitPosition,
}

impl Bits<'_> {
    /// Bits from the beginning of the data.
    pub(super) fn position(&self) -> usize {
        self.state.bits_read()
    }

    /// Goes on at that position.
    #[inline(always)]
    pub(super) fn seek(&mut self, position: usize) {
        self.state = BitPosition { buffer: 0, count: 0, next: (position >> 3) as u32 };
        self.refill();
        self.take(position as u32 & 7);
    }

    /// Makes at least 56 bits ready. Behind the end they are zeros.
    ///
    /// Without a branch: as many whole bytes are counted as fit, and the bits of the next that fit by part are there
    /// twice, which the next load repeats (the scheme is Fabian Giesen's).
    #[inline(always)]
    pub(super) fn refill(&mut self) {
        let state = &mut self.state;
        let next = state.next as usize;
        let word = match self.bytes.get(next..next + 8).and_then(<[u8]>::first_chunk) {
            Some(bytes) => u64::from_be_bytes(*bytes),
            None => 0,
        };
        state.buffer |= word >> state.count;
        state.next = state.next.wrapping_add((63 - state.count) >> 3);
        state.count |= 56;
    }

    /// The bits that are next, from the top: after `refill` at least 56 that are right, less those taken since.
    #[inline(always)]
    pub(super) fn window(&self) -> u64 {
        self.state.buffer
    }

    /// Takes bits; only the low 6 bits of `shift` count, and they are at most as many as are ready.
    #[inline(always)]
    pub(super) fn take(&mut self, shift: u32) {
        self.state.buffer = self.state.buffer.wrapping_shl(shift);
        self.state.count = self.state.count.wrapping_sub(shift & 63);
    }

    /// Takes `count` bits (at most 16) as a number.
    #[inline(always)]
    pub(super) fn number(&mut self, count: u32) -> u32 {
        let value = (self.state.buffer >> 32) as u32;
        self.take(count);
        if count == 0 { 0 } else { value >> (32 - count) }
    }
}
