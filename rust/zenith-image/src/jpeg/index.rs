//! An index of a scan: where in its bits MCUs or blocks begin, found once by reading all of them. Decoding a part begins there
//! instead of passing over all that stands before it.
//!
//! Of a sequential scan without restart markers, which are places to begin at in themselves. INDEX-1: an index counts only
//! with as many bits as it was made of; its checksum is whoever keeps it's.

/// MCUs from one place in a row to the next. Fewer would save a few blocks a row, and double the index.
pub(super) const GROUP_MCUS: usize = 4;

/// The layouts, which are the first byte.
const GROUPS: u8 = 1;
const BLOCKS: u8 = 2;

/// Before the first place: the layout, and the bits of the scan.
const HEAD_BYTES: usize = 9;

/// In place of a length that does not fit into a byte; two bytes with it follow.
const LONG: u8 = u8::MAX;

/// An MCU at which reading can begin.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Group {
    /// In bits from the beginning of the data.
    pub(super) bit: usize,
    pub(super) predictors: [i32; 4],
}

/// What is kept of a scan.
#[derive(Debug, Clone, Copy)]
pub(super) enum Index<'a> {
    Groups(&'a [u8]),
    /// The bits of each block.
    Blocks(&'a [u8]),
}

impl<'a> Index<'a> {
    /// Reads the head of an index; `None` unless it is one of a scan of so many bits.
    pub(super) fn new(bytes: &'a [u8], bits: u64) -> Option<Self> {
        let (head, places) = bytes.split_at_checked(HEAD_BYTES)?;
        if head[1..] != bits.to_le_bytes() {
            return None;
        }
        match head[0] {
            GROUPS => Some(Self::Groups(places)),
            BLOCKS => Some(Self::Blocks(places)),
            _ => None,
        }
    }

    /// The groups of a scan, if these are groups; as many as there are.
    pub(super) fn groups(self, into: &mut Vec<Group>) {
        into.clear();
        let Self::Groups(mut left) = self else { return };
        let mut group = Group::default();
        while !left.is_empty() {
            let components = usize::from(left[0] & 3) + 1;
            let Some(bits) = take(&mut left) else { return };
            group.bit += bits as usize >> 2;
            for predictor in &mut group.predictors[..components] {
                let Some(change) = take(&mut left) else { return };
                *predictor = predictor.wrapping_add(((change >> 1) as i32) ^ -((change & 1) as i32));
            }
            into.push(group);
        }
    }
}

/// Makes an index, place by place.
#[derive(Debug)]
pub(super) struct Writer {
    bytes: Vec<u8>,
    last: Group,
}

impl Writer {
    pub(super) fn new(blocks: bool, bits: u64) -> Self {
        let mut bytes = vec![if blocks { BLOCKS } else { GROUPS }];
        bytes.extend(bits.to_le_bytes());
        Self { bytes, last: Group::default() }
    }

    /// The next group, of a scan of so many components.
    pub(super) fn group(&mut self, group: Group, components: usize) {
        let bits = (group.bit - self.last.bit) as u32;
        put(&mut self.bytes, bits << 2 | (components as u32 - 1) & 3);
        for (now, before) in group.predictors.iter().zip(self.last.predictors).take(components) {
            let change = now.wrapping_sub(before);
            put(&mut self.bytes, (change << 1 ^ change >> 31) as u32);
        }
        self.last = group;
    }

    /// The next block ends at that bit.
    pub(super) fn block(&mut self, end: usize) {
        let bits = end - self.last.bit;
        match u8::try_from(bits) {
            Ok(bits) if bits != LONG => self.bytes.push(bits),
            // 64 codes of 26 bits with their values fit.
            _ => {
                self.bytes.push(LONG);
                self.bytes.extend((bits as u16).to_le_bytes());
            }
        }
        self.last.bit = end;
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// Takes the length of a block.
#[inline(always)]
pub(super) fn take_block(left: &mut &[u8]) -> Option<u32> {
    let (&bits, rest) = left.split_first()?;
    if bits != LONG {
        *left = rest;
        return Some(u32::from(bits));
    }
    let (bits, rest) = rest.split_first_chunk()?;
    *left = rest;
    Some(u32::from(u16::from_le_bytes(*bits)))
}

/// Seven bits a byte, the lowest first (LEB128).
fn put(bytes: &mut Vec<u8>, mut number: u32) {
    while number > 0x7F {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take(left: &mut &[u8]) -> Option<u32> {
    let mut number = 0;
    for shift in (0..32).step_by(7) {
        let (&byte, rest) = left.split_first()?;
        *left = rest;
        number |= u32::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}
