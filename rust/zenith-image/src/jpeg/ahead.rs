//! MCUs whose blocks were found before they are read, one after the other.

use super::boundaries::{Boundaries, McuTables, PART_BITS_MIN, READERS};
use super::cursor::Cursor;
use super::index::take_block;

/// Blocks that are taken from an index at a time.
const KNOWN_BLOCKS: usize = 1024;

#[derive(Debug)]
pub(super) struct Ahead<'a> {
    boundaries: &'a mut Boundaries,
    from: From<'a>,
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

/// How blocks are found.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one, for as long as a picture is decoded")]
pub(super) enum From<'a> {
    Search(McuTables<'a>),
    /// An index has their lengths.
    Known(&'a [u8]),
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
    /// Whether there are bits enough for several readers.
    pub(super) fn is_worth(cursor: &Cursor<'_>) -> bool {
        cursor.data.bits() >= (READERS * PART_BITS_MIN) as u64
    }

    /// For a scan of one segment; of the MCUs of the picture the first `wanted` will be read.
    pub(super) fn new(
        boundaries: &'a mut Boundaries,
        from: From<'a>,
        (blocks, mcus, wanted): (usize, usize, usize),
        cursor: &Cursor<'_>,
    ) -> Self {
        boundaries.clear();
        // A block has 64 codes at most, of 26 bits with their values.
        let block_bits = (cursor.data.bits() as usize / (blocks * mcus)).min(64 * 26);
        Self { boundaries, from, blocks, wanted: blocks * wanted, block_bits, next: 0, over: false }
    }

    /// The MCU at which `cursor` is; `None` if it must be read to find its blocks.
    #[inline(always)]
    pub(super) fn mcu(&mut self, cursor: &Cursor<'_>) -> Option<Starts<'_>> {
        if self.over || self.wanted == 0 {
            return None;
        }
        if self.next + 2 * self.blocks >= self.boundaries.found().1.len() {
            let from = cursor.bits.position();
            match &mut self.from {
                From::Search(tables) => {
                    let bits = (8 * cursor.segment.end, self.block_bits);
                    self.boundaries.find(cursor.data, tables, from, self.wanted, bits);
                }
                From::Known(lengths) => {
                    let mcus = KNOWN_BLOCKS.div_ceil(self.blocks);
                    self.boundaries.take(from, (0..mcus * self.blocks).map_while(|_| take_block(lengths)));
                }
            }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use zenith_data::transform::Encoded;

    use crate::decode::{Limits, Mode, Request, decode, index};
    use crate::{Picture, Rect};

    const SIDE: usize = 768;

    /// What a picture is made of besides its size: any bytes are codes of tables without gaps.
    #[derive(Debug, Clone)]
    struct Code {
        seed: u64,
        /// Symbols of codes of 4 bits, one table for each of two components.
        ac: [Vec<u8>; 2],
        /// Bytes of the scan.
        len: usize,
        /// A code that is missing, in a hundred tables.
        gap: bool,
    }

    fn symbols() -> impl Strategy<Value = Vec<u8>> {
        // Values of up to 7 bits behind runs of up to 2; as often as not the end of a block, a run of 16, or a long run.
        let symbol = prop_oneof![
            8 => (0u8..3, 1u8..8).prop_map(|(run, size)| run << 4 | size),
            2 => Just(0u8),
            1 => prop_oneof![Just(0xF0u8), Just(0xA1), Just(0x51)],
        ];
        prop::collection::vec(symbol, 16).prop_map(|mut symbols| {
            symbols[3] = 0;
            symbols
        })
    }

    fn code() -> impl Strategy<Value = Code> {
        (any::<u64>(), [symbols(), symbols()], 20_000usize..400_000, prop::bool::weighted(0.2))
            .prop_map(|(seed, ac, len, gap)| Code { seed, ac, len, gap })
    }

    /// A baseline picture, 4:2:0. Its restart interval is behind its end where `plain`, which takes the scan from `Ahead`.
    fn file(code: &Code, plain: bool) -> Vec<u8> {
        let mut file = vec![0xFF, 0xD8, 0xFF, 0xDB, 0, 67, 0];
        file.extend([3; 64]);
        let [high, low] = (SIDE as u16).to_be_bytes();
        file.extend([0xFF, 0xC0, 0, 17, 8, high, low, high, low, 3, 1, 0x22, 0, 2, 0x11, 0, 3, 0x11, 0]);
        for (slot, ac) in code.ac.iter().enumerate() {
            let table = |file: &mut Vec<u8>, class: u8, length: usize, symbols: &[u8]| {
                file.extend([0xFF, 0xC4, 0, (19 + symbols.len()) as u8, class << 4 | slot as u8]);
                file.extend((1..=16).map(|bits| if bits == length { symbols.len() as u8 } else { 0 }));
                file.extend(symbols);
            };
            table(&mut file, 0, 3, &[0, 1, 2, 3, 4, 5, 6, 7]);
            table(&mut file, 1, 4, &ac[..16 - usize::from(code.gap)]);
        }
        let interval = if plain { u16::MAX } else { 0 };
        file.extend([0xFF, 0xDD, 0, 4]);
        file.extend(interval.to_be_bytes());
        file.extend([0xFF, 0xDA, 0, 12, 3, 1, 0x00, 2, 0x11, 3, 0x11, 0, 63, 0]);
        let mut state = code.seed | 1;
        for _ in 0..code.len {
            // Xorshift; a stuffed byte where one is due.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            file.push((state >> 32) as u8);
            if file.last() == Some(&0xFF) {
                file.push(0);
            }
        }
        file.extend([0xFF, 0xD9]);
        file
    }

    fn decoded(file: &[u8], reduce: usize, region: Rect) -> Result<Vec<u8>, String> {
        decoded_with(file, &[], reduce, region)
    }

    fn decoded_with(bytes: &[u8], hint: &[u8], reduce: usize, region: Rect) -> Result<Vec<u8>, String> {
        let mut picture = Picture::default();
        let request = Request { mode: Mode::Rgb, turn: false, reduce, coarse: false, region };
        let encoded = Encoded { bytes, hint };
        decode(encoded, &request, &Limits::default(), &mut picture).map_err(|error| error.to_string())?;
        Ok(picture.pixels)
    }

    #[test]
    fn with_an_index_what_stands_before_a_region_is_not_read() {
        let symbols = vec![0x01, 0x02, 0x11, 0x00, 0x03, 0x12, 0x21, 0x04, 0, 0, 0, 0, 0, 0, 0, 0];
        let code = Code { seed: 7, ac: [symbols.clone(), symbols], len: 200_000, gap: false };
        let (whole, limits) = (file(&code, false), Limits::default());
        let mut damaged = whole.clone();
        let scan = whole.len() - 190_000;
        // As many bytes, and no marker.
        let plain = damaged[scan..].iter_mut().filter(|byte| (1..0xFE).contains(*byte));
        plain.take(64).for_each(|byte| *byte ^= 1);
        let index = index(&whole, false, &limits);
        for (reduce, region) in
            [(1, Rect { x: 600, y: 500, width: 90, height: 80 }), (8, Rect { x: 70, y: 60, width: 20, height: 30 })]
        {
            let wanted = decoded(&whole, reduce, region);
            assert!(wanted.is_ok() && decoded(&damaged, reduce, region) != wanted);
            assert!(decoded_with(&damaged, &index, reduce, region) == wanted);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn reading_ahead_gives_what_plain_reading_gives(code in code(), x in 0usize..90, y in 0usize..90) {
            let region = Rect { x, y, width: 96 - x, height: 96 - y };
            prop_assert_eq!(decoded(&file(&code, false), 8, region), decoded(&file(&code, true), 8, region));
            let region = Rect { x: 8 * x, y: 8 * y, width: 30, height: 40 };
            prop_assert_eq!(decoded(&file(&code, false), 1, region), decoded(&file(&code, true), 1, region));
        }

        #[test]
        fn an_index_changes_nothing(code in code(), x in 0usize..90, y in 0usize..90, damage in any::<u64>()) {
            let file = file(&code, false);
            let limits = Limits::default();
            let regions = [
                (8, Rect { x, y, width: 96 - x, height: 96 - y }),
                (1, Rect { x: 8 * x, y: 8 * y, width: 30, height: 40 }),
            ];
            for blocks in [false, true] {
                let index = index(&file, blocks, &limits);
                for (reduce, region) in regions {
                    if let Ok(plain) = decoded(&file, reduce, region) {
                        prop_assert_eq!(decoded_with(&file, &index, reduce, region), Ok(plain));
                    }
                    // Whatever it says, an index is no reason to panic; of another scan it is none at all.
                    let mut wrong = index.clone();
                    if let Some(byte) = wrong.len().checked_sub(1).map(|last| damage as usize % (last + 1)) {
                        wrong[byte] ^= 1 << (damage >> 32 & 7);
                        let _ = decoded_with(&file, &wrong, reduce, region);
                        let _ = decoded_with(&file, &wrong[..byte], reduce, region);
                    }
                }
            }
        }
    }
}
