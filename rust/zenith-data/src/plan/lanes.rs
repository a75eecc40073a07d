//! Lanes: the equal parts that the row of samples is cut into, and the windows inside a lane.
//!
//! Lane l reads segment bitrev(l), so that the lanes of a rank (l ≡ r mod W, W a power of two) are neighbouring
//! segments and blocks are cut between ranks only W - 1 times. Odd segments run backwards: the two lanes that share a
//! cut block then both begin with it, or both end with it, and it is decoded once.

use std::ops::Range;

/// One of the equal parts; an offset counts its samples in the order of windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lane {
    /// Its first place in the sequence.
    pub(crate) start: u64,
    pub(crate) len: u64,
    pub(crate) backward: bool,
    /// Samples in the first window, which is shorter so that lanes change windows at different times.
    first_window: u64,
    /// Samples in every other window but the last.
    window: u64,
}

impl Lane {
    /// The number of the window that holds `offset`.
    pub(crate) fn window_at(&self, offset: u64) -> u64 {
        if offset < self.first_window { 0 } else { 1 + (offset - self.first_window) / self.window }
    }

    /// The offsets of a window, cut at the lane's end.
    pub(crate) fn window(&self, number: u64) -> Range<u64> {
        let end = self.first_window.saturating_add(self.window.saturating_mul(number));
        let start = if number == 0 { 0 } else { end.saturating_sub(self.window) };
        start.min(self.len)..end.min(self.len)
    }

    /// The place in the sequence of an unpermuted offset below `len`.
    pub(crate) fn place(&self, offset: u64) -> u64 {
        if self.backward { self.start + (self.len - 1 - offset) } else { self.start + offset }
    }

    pub(crate) fn places(&self) -> Range<u64> {
        self.start..self.start + self.len
    }

    /// Offsets to places and back: for a range the same reflection serves both ways.
    pub(crate) fn places_of(&self, offsets: Range<u64>) -> Range<u64> {
        if self.backward {
            self.start + (self.len - offsets.end)..self.start + (self.len - offsets.start)
        } else {
            self.start + offsets.start..self.start + offsets.end
        }
    }

    pub(crate) fn offsets_of(&self, places: Range<u64>) -> Range<u64> {
        let (start, end) = (places.start - self.start, places.end - self.start);
        if self.backward { self.len - end..self.len - start } else { start..end }
    }
}

/// The `bits` low bits of `value` in reverse.
pub(crate) fn bit_reverse(value: u32, bits: u32) -> u32 {
    if bits == 0 { 0 } else { value.reverse_bits() >> (32 - bits) }
}

/// Cuts `total` samples into 2^`bits` lanes, in lane order; lane l has total div 2^bits samples, and one more for
/// l < total mod 2^bits.
pub(crate) fn cut(total: u64, bits: u32, window: u64) -> Vec<Lane> {
    let count = 1_u32 << bits;
    let (share, rest) = (total >> bits, total & (u64::from(count) - 1));
    let empty = Lane { start: 0, len: 0, backward: false, first_window: 1, window };
    let mut lanes = vec![empty; count as usize];
    let mut start = 0;
    for segment in 0..count {
        let lane = bit_reverse(segment, bits);
        let len = share + u64::from(u64::from(lane) < rest);
        let part = (u128::from(window) * (u128::from(segment) + 1)) >> bits;
        lanes[lane as usize] =
            Lane { start, len, backward: segment % 2 == 1, first_window: (part as u64).max(1), window };
        start += len;
    }
    lanes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_tile_the_sequence_and_windows_tile_a_lane() {
        for (total, bits, window) in [(0, 3, 5), (5, 3, 5), (1000, 0, 64), (1003, 4, 7), (100, 2, 1 << 40)] {
            let lanes = cut(total, bits, window);
            let mut places: Vec<u64> = lanes.iter().flat_map(Lane::places).collect();
            places.sort_unstable();
            assert_eq!(places, (0..total).collect::<Vec<_>>());
            for lane in &lanes {
                let mut offset = 0;
                while offset < lane.len {
                    let range = lane.window(lane.window_at(offset));
                    assert_eq!(range.start, offset);
                    assert!(range.end - range.start <= window);
                    assert_eq!(lane.offsets_of(lane.places_of(range.clone())), range);
                    offset = range.end;
                }
                assert_eq!(offset, lane.len);
            }
        }
    }

    #[test]
    fn lanes_that_share_a_cut_meet_there() {
        let lanes = cut(800, 3, 50);
        let mut by_place = lanes.clone();
        by_place.sort_unstable_by_key(|lane| lane.start);
        for (index, pair) in by_place.windows(2).enumerate() {
            let cut = pair[1].start;
            let at = if index % 2 == 0 { 99 } else { 0 };
            assert_eq!((pair[0].place(at), pair[1].place(at)), (cut - 1, cut));
        }
    }
}
