//! Huffman tables: as a file defines them, and as they are looked up.

use zenith_data::{Error, Result};

/// Codes up to this length are found by one look. At 10 bits the four tables of a picture stay in the first-level cache,
/// and of a photograph's codes less than one in a hundred is longer.
pub(super) const LOOKUP_BITS: u32 = 10;

/// Bits of which all codes are passed over at once where values are not wanted.
pub(super) const SKIP_BITS: u32 = 12;

/// `Entry::advance` of the code that ends a block: beyond any position that a run can reach.
pub(super) const END_OF_BLOCK: usize = 128;

/// A table as DHT defines it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Definition {
    /// Codes of each length, from 1 to 16 bits.
    counts: [u8; 16],
    values: [u8; 256],
}

impl Definition {
    /// Reads one definition; the rest of the bytes comes back.
    pub(super) fn read(bytes: &[u8], of_dc: bool) -> Result<(Self, &[u8])> {
        let short = || Error::corrupt("damaged JPEG: a Huffman table that is too short");
        let (counts, rest) = bytes.split_first_chunk::<16>().ok_or_else(short)?;
        let total: usize = counts.iter().map(|&count| usize::from(count)).sum();
        if total > 256 {
            return Err(Error::corrupt(format!("damaged JPEG: a Huffman table of {total} codes")));
        }
        let (listed, rest) = rest.split_at_checked(total).ok_or_else(short)?;
        let mut free = 1u32;
        for &count in counts {
            free = (2 * free).checked_sub(u32::from(count)).ok_or_else(|| {
                Error::corrupt("damaged JPEG: a Huffman table with more codes of a length than there can be")
            })?;
        }
        if of_dc && listed.iter().any(|&size| size > 15) {
            return Err(Error::corrupt("damaged JPEG: a DC table with a difference of more than 15 bits"));
        }
        let mut values = [0; 256];
        values[..total].copy_from_slice(listed);
        Ok((Self { counts: *counts, values }, rest))
    }

    /// Length, code and symbol of each, the shortest first.
    fn codes(&self) -> impl Iterator<Item = (u32, u32, u8)> {
        let lengths = (1..=16u32).zip(&self.counts).flat_map(|(length, &count)| (0..count).map(move |_| length));
        let mut code = (0, 0);
        lengths.zip(&self.values).map(move |(length, &symbol)| {
            let this = code.1 << (length - code.0);
            code = (length, this + 1);
            (length, this, symbol)
        })
    }
}

/// What a code means: a run of zeros and a value of `size` bits that follow the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry(u32);

impl Entry {
    const NONE: Self = Self(0);

    fn new(code_bits: u32, symbol: u8) -> Self {
        let size = u32::from(symbol & 15);
        let run = u32::from(symbol >> 4);
        let advance = if size == 0 && run != 15 { END_OF_BLOCK as u32 } else { run };
        Self((code_bits + size) | size << 8 | advance << 16 | u32::from(symbol) << 24)
    }

    /// No code of up to `LOOKUP_BITS` begins like this.
    #[inline(always)]
    pub(super) fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Bits of code and value together, and above them what shifts do not look at.
    #[inline(always)]
    pub(super) fn shift(self) -> u32 {
        self.0
    }

    #[inline(always)]
    pub(super) fn total_bits(self) -> u32 {
        self.0 & 0xFF
    }

    #[inline(always)]
    pub(super) fn size(self) -> u32 {
        self.0 >> 8 & 0xFF
    }

    #[inline(always)]
    pub(super) fn advance(self) -> usize {
        (self.0 >> 16 & 0xFF) as usize
    }

    #[inline(always)]
    pub(super) fn symbol(self) -> u8 {
        (self.0 >> 24) as u8
    }

    #[inline(always)]
    pub(super) fn code_bits(self) -> u32 {
        self.total_bits() - self.size()
    }
}

/// Codes that are passed over together, with their values; the last value may reach beyond the bits that were looked at.
///
/// From the lowest bit: coefficients passed over, of 7 bits; whether what follows is of another table (behind the end of a
/// block, and behind the one code of a DC table); bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Skip(u16);

impl Skip {
    /// Not even one whole code: more coefficients than there are.
    const NONE: Self = Self(64);
    const NOTHING: Self = Self(0);
    const TURNS: u16 = 1 << 7;

    /// This one code, and then others; a code that would lead beyond a block is left to those who know the place in it.
    fn and(self, others: Self) -> Self {
        if self.advance() + others.advance() > 63 { self } else { Self(self.0 + others.0) }
    }

    #[inline(always)]
    pub(super) fn bits(self) -> u32 {
        u32::from(self.0 >> 8)
    }

    /// What follows is of another table.
    #[inline(always)]
    pub(super) fn turns(self) -> bool {
        self.0 & Self::TURNS != 0
    }

    /// Coefficients passed over, without those that the end of a block stands for; 64 if there is no whole code.
    #[inline(always)]
    pub(super) fn advance(self) -> usize {
        usize::from(self.0 & 0x7F)
    }

    /// Bits times 256, 128 if it turns, and coefficients.
    #[inline(always)]
    pub(super) fn step(self) -> u64 {
        self.0.into()
    }
}

/// What is passed over for each value of the next bits.
pub(super) type Skips = [Skip; 1 << SKIP_BITS];

/// A table as it is looked up. Building one takes microseconds, and most files have the same ones: it is built anew only when
/// the definition differs from the last.
#[derive(Debug)]
pub(super) struct Table {
    definition: Option<Definition>,
    lookup: Box<[Entry; 1 << LOOKUP_BITS]>,
    skip: Option<Box<Skips>>,
    /// For each length: one more than the largest code, as 16 bits; and what to add to a code to find its value.
    ends: [u32; 17],
    offsets: [i32; 17],
}

impl Default for Table {
    fn default() -> Self {
        let lookup = Box::new([Entry::NONE; 1 << LOOKUP_BITS]);
        Self { definition: None, lookup, skip: None, ends: [0; 17], offsets: [0; 17] }
    }
}

impl Table {
    pub(super) fn prepare(&mut self, definition: &Definition) {
        if self.definition.as_ref() == Some(definition) {
            return;
        }
        self.lookup.fill(Entry::NONE);
        self.skip = None;
        let (mut code, mut place) = (0u32, 0usize);
        for length in 1..=16u32 {
            let count = usize::from(definition.counts[length as usize - 1]);
            self.offsets[length as usize] = place as i32 - code as i32;
            for &symbol in &definition.values[place..place + count] {
                if let Some(spare) = LOOKUP_BITS.checked_sub(length) {
                    let first = (code << spare) as usize;
                    self.lookup[first..first + (1 << spare)].fill(Entry::new(length, symbol));
                }
                code += 1;
            }
            place += count;
            self.ends[length as usize] = code << (16 - length);
            code <<= 1;
        }
        self.definition = Some(definition.clone());
    }

    /// Makes ready for passing over values. Of a DC table one code is passed over at a time.
    pub(super) fn prepare_skip(&mut self, of_dc: bool) {
        if self.skip.is_none() {
            self.skip = self.definition.as_ref().map(|definition| skips_of(definition, of_dc));
        }
    }

    /// The entry of the code that `window` begins with.
    #[inline(always)]
    pub(super) fn entry(&self, window: u64) -> Entry {
        self.lookup[(window >> (64 - LOOKUP_BITS)) as usize]
    }

    #[inline(always)]
    pub(super) fn skips(&self) -> Option<&Skips> {
        self.skip.as_deref()
    }

    /// The entry of a code of any length.
    pub(super) fn any_entry(&self, window: u64) -> Option<Entry> {
        let entry = self.entry(window);
        if entry.is_none() { self.long_entry(window) } else { Some(entry) }
    }

    /// The entry of a code that is longer than `LOOKUP_BITS`; none if there is no such code.
    #[cold]
    pub(super) fn long_entry(&self, window: u64) -> Option<Entry> {
        let bits = (window >> 48) as u32;
        let length = (LOOKUP_BITS + 1..=16).find(|&length| bits < self.ends[length as usize])?;
        let place = (bits >> (16 - length)) as i32 + self.offsets[length as usize];
        let value = self.definition.as_ref()?.values.get(usize::try_from(place).ok()?)?;
        Some(Entry::new(length, *value))
    }
}

/// Files that bring tables of their own are many, so these are put together from those for fewer bits: what follows a code
/// is what is known of the bits behind it.
fn skips_of(definition: &Definition, of_dc: bool) -> Box<Skips> {
    // One table behind the other: that for n bits begins at 2ⁿ.
    let mut all = vec![Skip::NOTHING; 2 << SKIP_BITS];
    for known in if of_dc { SKIP_BITS } else { 1 }..=SKIP_BITS {
        let (fewer, skips) = all.split_at_mut(1 << known);
        let codes = definition.codes().take_while(|(length, ..)| *length <= known);
        for (length, code, symbol) in codes {
            let (entry, beyond) = (Entry::new(length, symbol), known - length);
            let skips = &mut skips[(code << beyond) as usize..][..1 << beyond];
            let turns = of_dc || entry.advance() == END_OF_BLOCK;
            let bits = (entry.total_bits() as u16) << 8;
            if turns {
                skips.fill(Skip(bits | Skip::TURNS));
                continue;
            }
            let own = Skip(bits | (entry.advance() + 1) as u16);
            let left = known.saturating_sub(entry.total_bits());
            let others = &fewer[1 << left..2 << left];
            for skips in skips.chunks_mut(others.len()) {
                for (skip, others) in skips.iter_mut().zip(others) {
                    *skip = own.and(*others);
                }
            }
        }
    }
    let mut skips = Box::new([Skip::NONE; 1 << SKIP_BITS]);
    for (skip, known) in skips.iter_mut().zip(&all[1 << SKIP_BITS..]) {
        if *known != Skip::NOTHING {
            *skip = *known;
        }
    }
    skips
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_and_short_codes_are_found() {
        // One code of each length: 0, 10, 110, ...; symbols are 16 × length.
        let mut bytes = vec![1u8; 16];
        bytes.extend((1..=16u8).map(|length| length * 15));
        let (definition, rest) = Definition::read(&bytes, false).unwrap();
        assert!(rest.is_empty());
        let mut table = Table::default();
        table.prepare(&definition);
        for length in 1..=16u32 {
            let ones = if length == 1 { 0 } else { !0u64 << (65 - length) };
            let window = ones | 0x1234;
            let entry = match table.entry(window) {
                entry if !entry.is_none() => entry,
                _ => table.long_entry(window).unwrap(),
            };
            assert_eq!((entry.code_bits(), u32::from(entry.symbol())), (length, length * 15));
        }
        assert!(table.entry(!0).is_none());
        assert_eq!(table.long_entry(!0), None);
    }

    #[test]
    fn what_is_passed_over_at_once_are_the_codes_one_after_the_other() {
        // The lengths that most files have, with short codes for what is frequent.
        let mut bytes = vec![0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 125];
        bytes.extend([1, 2, 3, 0, 4, 0x11, 5, 0x12, 0x21, 0x31, 0x41, 6, 0xF0, 0xE1, 0x13]);
        bytes.extend((0x14..=0xFF).filter(|symbol| (1..=10).contains(&(symbol & 15))).take(147));
        let (definition, rest) = Definition::read(&bytes, false).unwrap();
        assert!(rest.is_empty());
        let mut table = Table::default();
        table.prepare(&definition);
        table.prepare_skip(false);
        let skips = table.skips().unwrap();
        let mut several = 0;
        for (bits, skip) in skips.iter().enumerate() {
            let window = (bits as u64) << (64 - SKIP_BITS) | 0x5A5A_5A5A_5A5A;
            let (mut taken, mut advance, mut turns, mut codes) = (0, 0, false, 0);
            while taken < SKIP_BITS && !turns {
                let Some(entry) = table.any_entry(window << taken) else { break };
                if taken + entry.code_bits() > SKIP_BITS {
                    break;
                }
                turns = entry.advance() == END_OF_BLOCK;
                advance += if turns { 0 } else { entry.advance() + 1 };
                taken += entry.total_bits();
                codes += 1;
            }
            match codes {
                0 => assert_eq!(*skip, Skip::NONE),
                _ => assert_eq!((skip.bits(), skip.advance(), skip.turns()), (taken, advance, turns), "{bits:012b}"),
            }
            several += usize::from(codes > 1);
        }
        assert!(several > 2000, "{several}");
    }

    #[test]
    fn definitions_that_cannot_be_are_refused() {
        let mut bytes = vec![0u8; 16];
        bytes[0] = 3;
        bytes.extend([0, 1, 2]);
        assert!(Definition::read(&bytes, false).unwrap_err().to_string().contains("more codes"));
        assert!(Definition::read(&bytes[..10], false).is_err());
        bytes[..16].fill(255);
        assert!(Definition::read(&bytes, false).unwrap_err().to_string().contains("4080 codes"));
    }
}
