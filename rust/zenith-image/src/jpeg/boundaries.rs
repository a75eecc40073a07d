//! Where the blocks of a scan begin, found by several readers at once.
//!
//! What passing over blocks costs is one chain: the place of a code is known once the length of the one before it is. A core
//! has room for several such chains. A scan without restart markers has but one place where reading is known to begin; yet
//! Huffman codes synchronise themselves (Klein and Wiseman 2003; Weissenberger and Schmidt 2018 decode JPEG on GPUs so). So
//! the next bytes are cut into parts, and a reader begins in each as if an MCU began there. What it finds at first is wrong,
//! and soon right.
//!
//! JOIN-1: what is given is what one reader would find that begins at the first bit. A reader's state between two blocks is
//! its position and the block's number in the MCU; where the reader of the part before comes to a state that this one was in,
//! both go on alike, and only what was found behind that place counts. A reader that meets bits without a meaning forgets what
//! it found. The first does not begin again: there the list ends, and plain reading tells what is wrong.

use super::bits::ScanData;
use super::frame::MCU_BLOCKS_MAX;
use super::huffman::{END_OF_BLOCK, SKIP_BITS, Skips, Table};

/// Readers that run at once.
pub(super) const READERS: usize = 3;

/// Blocks of a part, about.
const PART_BLOCKS: usize = 8192;

/// Parts of fewer bits are not worth the beginning of a reader.
pub(super) const PART_BITS_MIN: usize = 8 * 8192;

/// Looks for two times as many codes before it is asked whether a reader is done.
const ROUND: usize = 32;

/// Tables in turn: enough for a round wherever in an MCU it begins.
const TURNS: usize = 128;
const _: () = assert!(2 * MCU_BLOCKS_MAX + 2 * ROUND < TURNS);

/// The tables of the blocks of an MCU, again and again: for each block that of the DC and that of the other codes.
#[derive(Debug, Clone)]
pub(super) struct McuTables<'a> {
    skips: [&'a Skips; TURNS],
    tables: [&'a Table; TURNS],
    /// Tables until they come again.
    period: usize,
}

impl<'a> McuTables<'a> {
    /// `None` unless there are blocks, and their tables are ready for passing over codes.
    pub(super) fn new(blocks: impl ExactSizeIterator<Item = (&'a Table, &'a Table)> + Clone) -> Option<Self> {
        let period = 2 * blocks.len();
        let mut in_turn = blocks.flat_map(|(dc, ac)| [dc, ac]).cycle();
        let first = in_turn.next().filter(|_| period <= 2 * MCU_BLOCKS_MAX)?;
        let mut all = Self { skips: [first.skips()?; TURNS], tables: [first; TURNS], period };
        for (place, table) in (1..TURNS).zip(in_turn) {
            (all.tables[place], all.skips[place]) = (table, table.skips()?);
        }
        Some(all)
    }
}

/// What was found, and room for finding more.
#[derive(Debug, Default)]
pub(super) struct Boundaries {
    readers: [Reader; READERS],
    /// Where the codes of one table begin, in bits from `base`: by turns the DC code of a block and its other codes.
    found: Vec<u32>,
    base: usize,
}

/// One who passes over codes.
#[derive(Debug, Default)]
struct Reader {
    state: State,
    /// Where it may stop, in bits.
    end: usize,
    /// The first reader, and those that it met: bits without a meaning are its end.
    certain: bool,
    /// Where it began, and where it was at each turn to another table, in bits.
    starts: Vec<u32>,
    /// How many of these are enough.
    starts_max: usize,
}

/// What the next step depends on.
#[derive(Debug, Default, Clone, Copy)]
struct State {
    /// Bits read times 256, and coefficients of the block that were passed.
    at: u64,
    /// The number of the table that is next.
    turn: usize,
    /// Bits without a meaning.
    lost: bool,
}

/// Where the turns of a round are noted, by their number; the room of the first is not used.
type Notes = [u32; TURNS + 1];

impl Boundaries {
    pub(super) fn clear(&mut self) {
        self.found.clear();
    }

    /// Where the codes of one table begin, in bits from the first number on: by turns the DC code of a block and its others.
    #[inline(always)]
    pub(super) fn found(&self) -> (usize, &[u32]) {
        (self.base, &self.found)
    }

    /// Takes over what is known of the blocks from bit `from` on: the bits of each.
    pub(super) fn take(&mut self, from: usize, lengths: impl Iterator<Item = u32>) {
        self.found.clear();
        self.base = from;
        let mut at = 0;
        for length in lengths {
            self.found.extend([at, at]);
            at += length;
        }
        self.found.push(at);
    }

    /// Finds about `wanted` blocks from bit `from` on, where an MCU begins, in a scan that ends at bit `end` and whose blocks
    /// have `block_bits` each in the mean; nothing where plain reading is as good.
    #[inline(always)]
    pub(super) fn find(
        &mut self,
        data: &ScanData,
        tables: &McuTables<'_>,
        from: usize,
        wanted: usize,
        (end, block_bits): (usize, usize),
    ) {
        self.found.clear();
        let blocks = PART_BLOCKS.min(wanted.div_ceil(READERS));
        let part = (blocks * block_bits).min(end.saturating_sub(from) / READERS);
        let Some(bytes) = data.bytes().get(from / 8..).filter(|_| part >= PART_BITS_MIN) else { return };
        self.base = from & !7;
        for (number, reader) in self.readers.iter_mut().enumerate() {
            let first = from - self.base + number * part;
            reader.begin(first);
            (reader.end, reader.certain) = (first + part, number == 0);
            // Twice as many blocks as there are in the mean; with more the reader ends early.
            reader.starts_max = 4 * blocks;
        }
        self.run(bytes, tables);
        self.join(bytes, tables);
    }

    /// All readers to their ends.
    #[inline(always)]
    fn run(&mut self, bytes: &[u8], tables: &McuTables<'_>) {
        let mut left: Vec<&mut Reader> = self.readers.iter_mut().collect();
        loop {
            left.retain(|reader| reader.goes_on());
            match &mut left[..] {
                [] => return,
                [a, b, c] => together(bytes, tables, [a, b, c]),
                [a, b] => together(bytes, tables, [a, b]),
                [a, ..] => together(bytes, tables, [a]),
            }
        }
    }

    /// JOIN-1.
    #[inline(always)]
    fn join(&mut self, bytes: &[u8], tables: &McuTables<'_>) {
        let (first, others) = self.readers.split_at_mut(1);
        let mut current = &mut first[0];
        let mut from = 0;
        for next in others {
            if let Some((own, theirs)) = meet(bytes, tables, current, next) {
                self.found.extend_from_slice(&current.starts[from..own]);
                (current, from) = (next, theirs);
                current.certain = true;
            }
        }
        self.found.extend_from_slice(&current.starts[from..]);
    }
}

/// Takes `current` on until it is in a state that `next` was in: the number of that turn for both.
#[inline(always)]
fn meet(bytes: &[u8], tables: &McuTables<'_>, current: &mut Reader, next: &Reader) -> Option<(usize, usize)> {
    let others = &next.starts;
    let (mut own, mut theirs) = (current.starts.partition_point(|&start| start < others[0]), 0);
    loop {
        while own >= current.starts.len() {
            current.end = current.state.bits() + 1;
            if !current.goes_on() {
                return None;
            }
            together(bytes, tables, [&mut *current]);
            if current.end == 0 {
                return None;
            }
        }
        let start = current.starts[own];
        while *others.get(theirs)? < start {
            theirs += 1;
        }
        if others[theirs] == start && own % tables.period == theirs % tables.period {
            return Some((own, theirs));
        }
        own += 1;
    }
}

/// Lets readers take turns until one of them is done.
#[inline(always)]
fn together<const N: usize>(bytes: &[u8], tables: &McuTables<'_>, mut readers: [&mut Reader; N]) {
    let mut notes = [[0; TURNS + 1]; N];
    while readers.iter().all(|reader| reader.goes_on()) {
        let mut states = readers.each_ref().map(|reader| reader.state);
        for _ in 0..ROUND {
            for (state, notes) in states.iter_mut().zip(&mut notes) {
                state.step(bytes, tables, notes);
            }
        }
        for ((reader, state), notes) in readers.iter_mut().zip(states).zip(&notes) {
            reader.end_round(state, notes, tables.period);
        }
    }
}

impl Reader {
    /// At a bit, as if an MCU began there.
    fn begin(&mut self, bit: usize) {
        self.state = State { at: (bit as u64) << 8 | 1, turn: 0, lost: false };
        self.starts.clear();
        self.starts.push(bit as u32);
    }

    #[inline(always)]
    fn goes_on(&self) -> bool {
        self.state.bits() < self.end && self.starts.len() < self.starts_max
    }

    #[inline(always)]
    fn end_round(&mut self, state: State, notes: &Notes, period: usize) {
        self.starts.extend_from_slice(notes.get(self.state.turn + 1..=state.turn).unwrap_or_default());
        self.state = State { turn: state.turn % period, ..state };
        if state.lost {
            self.begin_again();
        }
    }

    /// After bits without a meaning. Behind the end they are expected, and it stays there.
    #[cold]
    fn begin_again(&mut self) {
        self.state.lost = false;
        if self.certain {
            self.end = 0;
        } else if self.state.bits() < self.end {
            self.begin(self.state.bits() + 1);
        }
    }
}

impl State {
    fn bits(&self) -> usize {
        (self.at >> 8) as usize
    }

    /// Passes over the codes of two looks. No branch depends on the end of a block.
    #[inline(always)]
    fn step(&mut self, bytes: &[u8], tables: &McuTables<'_>, notes: &mut Notes) {
        let mut window = window(bytes, self.bits());
        // 57 bits are enough: a look takes 37 at most.
        for _ in 0..2 {
            let turn = self.turn % TURNS;
            let skip = tables.skips[turn][(window >> (64 - SKIP_BITS)) as usize];
            let at = self.at + skip.step();
            if at & 0x40 != 0 {
                return self.single(window, tables, notes);
            }
            window = window.wrapping_shl(skip.bits());
            // Before the turn comes this is overwritten.
            notes[turn + 1] = (at >> 8) as u32;
            self.turn += usize::from(skip.turns());
            self.at = if skip.turns() { at & !0xFF | 1 } else { at };
        }
    }

    /// Passes over one code, as `skip_block` does it.
    #[cold]
    #[inline(never)]
    fn single(&mut self, window: u64, tables: &McuTables<'_>, notes: &mut Notes) {
        let turn = self.turn % TURNS;
        let Some(entry) = tables.tables[turn].any_entry(window) else {
            self.lost = true;
            return;
        };
        let place = (self.at & 0xFF) as usize + entry.advance() + 1;
        let turns = turn.is_multiple_of(2) || place > 63;
        if turns && !turn.is_multiple_of(2) && place != 64 && place <= END_OF_BLOCK {
            self.lost = true;
            return;
        }
        let bits = (self.at >> 8) + u64::from(entry.total_bits());
        notes[turn + 1] = bits as u32;
        self.turn += usize::from(turns);
        self.at = bits << 8 | if turns { 1 } else { place as u64 };
    }
}

/// The bits from `at` on: at least 57 that are right. Behind the end they are zeros.
#[inline(always)]
fn window(bytes: &[u8], at: usize) -> u64 {
    let byte = at >> 3;
    let word = match bytes.get(byte..byte + 8).and_then(<[u8]>::first_chunk) {
        Some(bytes) => u64::from_be_bytes(*bytes),
        None => 0,
    };
    word << (at & 7)
}
