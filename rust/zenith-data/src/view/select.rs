//! Some samples of a dataset: chosen by number, or drawn at random.
//!
//! Every block of a selection is cut from one block of the dataset below. Wherever decoding allows it, the blocks follow
//! the order in which the samples were given. A selection that jumps about would decode a block for every few samples;
//! there the blocks follow the dataset below and `given_order` says where each sample stands.

use std::ops::Range as Span;
use std::sync::Arc;

use arrow::buffer::BooleanBuffer;
use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

use super::Indices;
use super::draw::Draw;
use crate::dataset::{Block, Dataset, Unit};
use crate::error::Place;
use crate::field::Schema;
use crate::rows::{RowLayout, Rows};
use crate::storage::{Range, Source};
use crate::{Error, Result};

/// How many times as many rows may be decoded for the sake of the given order.
const REDECODE_MAX: u64 = 2;

/// Some samples of a dataset.
#[derive(Debug, Clone)]
pub struct Select {
    base: Arc<dyn Dataset>,
    cuts: Arc<[Cut]>,
    blocks: Arc<[Block]>,
    order: Option<Arc<[u64]>>,
    fingerprint: String,
}

/// One block of a selection: rows of one block of the dataset below.
#[derive(Debug)]
struct Cut {
    block: usize,
    rows: Picked,
}

#[derive(Debug)]
enum Picked {
    All,
    Runs(Box<[Span<u32>]>),
    List(Box<[u32]>),
    /// Those whose bit is set, the block's first being this one.
    Marked(u64, BooleanBuffer),
    /// What the split draws among the rows of the block, whose first is this sample of the dataset below.
    Drawn(u64, Arc<Draw>),
}

impl Cut {
    /// Calls `each` with the rows that are picked of the block below, which has `count`, run by run.
    fn for_each_run(&self, count: u64, mut each: impl FnMut(Span<u32>) -> Result<()>) -> Result<()> {
        match &self.rows {
            Picked::All => each(0..count as u32),
            Picked::Runs(runs) => runs.iter().cloned().try_for_each(each),
            Picked::List(list) => list.iter().try_for_each(|&row| each(row..row + 1)),
            Picked::Marked(first, marks) => marks
                .slice(*first as usize, count as usize)
                .set_slices()
                .try_for_each(|(start, end)| each(start as u32..end as u32)),
            Picked::Drawn(first, draw) => draw.for_each_run(*first, count as u32, each),
        }
    }

    /// The row of the block below, which has `count`, that row `row` is.
    fn row(&self, row: u64, count: u64) -> u64 {
        let (mut before, mut found) = (0, row);
        // Nothing here fails.
        let _ = self.for_each_run(count, |run| {
            let after = before + u64::from(run.end - run.start);
            if (before..after).contains(&row) {
                found = u64::from(run.start) + row - before;
            }
            before = after;
            Ok(())
        });
        found
    }
}

/// Consecutive samples of one block of the dataset below; `place` is where they were given.
#[derive(Debug, Clone, Copy)]
struct Piece {
    block: usize,
    start: u32,
    end: u32,
    place: u64,
}

impl Select {
    /// The samples `indices`. Errors: one that does not exist.
    pub fn new(base: Arc<dyn Dataset>, indices: &Indices) -> Result<Self> {
        let mut hash = Xxh3::new();
        hash.update(b"select");
        hash.update(base.fingerprint().as_bytes());
        let mut pieces = Pieces::of(&*base)?;
        indices.for_each_run(|start, end| {
            hash.update(&start.to_le_bytes());
            hash.update(&end.to_le_bytes());
            pieces.add_given(start..end)
        })?;
        Ok(Self::cut(base.clone(), pieces.list, hash))
    }

    /// Part 0 or 1 of a random split.
    pub fn split(base: Arc<dyn Dataset>, fraction: f64, seed: u64, part: u32) -> Result<Self> {
        let mut hash = Xxh3::new();
        hash.update(b"split");
        hash.update(base.fingerprint().as_bytes());
        hash.update(&fraction.to_bits().to_le_bytes());
        hash.update(&seed.to_le_bytes());
        hash.update(&part.to_le_bytes());
        let samples = base.blocks().iter().map(|block| block.rows).sum();
        let draw = Arc::new(Draw::new(samples, fraction, seed, part)?);
        if base.given_order().is_some() {
            let mut pieces = Pieces::of(&*base)?;
            let mut first = 0;
            while first < samples {
                let count = u32::try_from(samples - first).unwrap_or(u32::MAX);
                draw.for_each_run(first, count, |run| {
                    pieces.add_given(first + u64::from(run.start)..first + u64::from(run.end))
                })?;
                first += u64::from(count);
            }
            return Ok(Self::cut(base.clone(), pieces.list, hash));
        }
        let (mut cuts, mut blocks) = (Vec::new(), Vec::new());
        let mut first = 0;
        for (block, below) in base.blocks().iter().enumerate() {
            let mut count = 0;
            draw.for_each_run(first, rows_of(below)?, |run| {
                count += u64::from(run.end - run.start);
                Ok(())
            })?;
            if count > 0 {
                let rows = if count == below.rows { Picked::All } else { Picked::Drawn(first, draw.clone()) };
                cuts.push(Cut { block, rows });
                blocks.push(part_of(below, count));
            }
            first += below.rows;
        }
        Ok(Self::with_cuts(base, cuts, blocks, None, hash))
    }

    /// The samples whose bit in `marks` is set, counted as they stand in the blocks.
    pub(crate) fn marked(base: Arc<dyn Dataset>, marks: &BooleanBuffer) -> Result<Self> {
        let mut hash = Xxh3::new();
        hash.update(b"marked");
        hash.update(base.fingerprint().as_bytes());
        let (mut cuts, mut blocks) = (Vec::new(), Vec::new());
        let mut first = 0;
        for (block, below) in base.blocks().iter().enumerate() {
            let end = first + rows_of(below)? as usize;
            if end > marks.len() {
                return Err(Error::internal("a selection has fewer marks than samples"));
            }
            let count = marks.slice(first, end - first).count_set_bits() as u64;
            if count > 0 {
                let rows = if count == below.rows { Picked::All } else { Picked::Marked(first as u64, marks.clone()) };
                cuts.push(Cut { block, rows });
                blocks.push(part_of(below, count));
            }
            first = end;
        }
        Ok(Self::with_cuts(base, cuts, blocks, None, hash))
    }

    fn cut(base: Arc<dyn Dataset>, mut pieces: Vec<Piece>, hash: Xxh3) -> Self {
        let samples = pieces.last().map_or(0, |last| last.place + u64::from(last.end - last.start));
        let below = base.blocks();
        let decoded = |groups: &[Span<usize>], pieces: &[Piece]| -> u64 {
            groups.iter().map(|group| below[pieces[group.start].block].rows).sum()
        };
        let mut groups = group(below, &pieces);
        let mut order = None;
        let mut sorted = pieces.clone();
        sorted.sort_unstable_by_key(|piece| (piece.block, piece.start, piece.place));
        let sorted_groups = group(below, &sorted);
        if decoded(&groups, &pieces) > REDECODE_MAX * decoded(&sorted_groups, &sorted).max(samples) {
            (pieces, groups) = (sorted, sorted_groups);
            let mut places = vec![0; samples as usize];
            let mut next = 0;
            for piece in &pieces {
                let count = u64::from(piece.end - piece.start);
                for (place, number) in places[piece.place as usize..][..count as usize].iter_mut().zip(next..) {
                    *place = number;
                }
                next += count;
            }
            order = Some(places.into());
        }
        let (mut cuts, mut blocks) = (Vec::with_capacity(groups.len()), Vec::with_capacity(groups.len()));
        for group in groups {
            let block = pieces[group.start].block;
            let (rows, count) = picked(&pieces[group], below[block].rows);
            cuts.push(Cut { block, rows });
            blocks.push(part_of(&below[block], count));
        }
        Self::with_cuts(base.clone(), cuts, blocks, order, hash)
    }

    fn with_cuts(
        base: Arc<dyn Dataset>,
        cuts: Vec<Cut>,
        blocks: Vec<Block>,
        order: Option<Arc<[u64]>>,
        hash: Xxh3,
    ) -> Self {
        let fingerprint = format!("{:032x}", hash.digest128());
        Self { base, cuts: cuts.into(), blocks: blocks.into(), order, fingerprint }
    }
}

/// Collects pieces in the order in which samples are given.
struct Pieces<'a> {
    base: &'a dyn Dataset,
    /// Number of the first sample of each block, and the total last.
    starts: Vec<u64>,
    list: Vec<Piece>,
    given: u64,
}

impl<'a> Pieces<'a> {
    fn of(base: &'a dyn Dataset) -> Result<Self> {
        let mut starts = vec![0];
        let mut total = 0;
        for block in base.blocks() {
            total += u64::from(rows_of(block)?);
            starts.push(total);
        }
        Ok(Self { base, starts, list: Vec::new(), given: 0 })
    }

    /// Adds samples as users count them.
    fn add_given(&mut self, samples: Span<u64>) -> Result<()> {
        let total = self.starts.last().copied().unwrap_or(0);
        if samples.end > total {
            let index = samples.start.max(total);
            return Err(Error::invalid(format!("index {index} is out of range for a dataset of {total} samples")));
        }
        match self.base.given_order() {
            None => self.add(samples),
            Some(order) => {
                for place in &order[samples.start as usize..samples.end as usize] {
                    self.add(*place..place + 1);
                }
            }
        }
        Ok(())
    }

    /// Adds samples that exist, as they stand in the blocks.
    fn add(&mut self, samples: Span<u64>) {
        let mut sample = samples.start;
        while sample < samples.end {
            let block = self.starts.partition_point(|start| *start <= sample) - 1;
            let (first, end) = (self.starts[block], self.starts[block + 1].min(samples.end));
            let (start, end_row) = ((sample - first) as u32, (end - first) as u32);
            match self.list.last_mut() {
                Some(last) if last.block == block && last.end == start => last.end = end_row,
                _ => self.list.push(Piece { block, start, end: end_row, place: self.given }),
            }
            self.given += end - sample;
            sample = end;
        }
    }
}

fn rows_of(block: &Block) -> Result<u32> {
    u32::try_from(block.rows).map_err(|_| Error::invalid("a block has more than 2^32 - 1 samples"))
}

/// Neighbouring pieces of one block, no more of them together than the block has rows.
fn group(below: &[Block], pieces: &[Piece]) -> Vec<Span<usize>> {
    let mut groups: Vec<Span<usize>> = Vec::new();
    let mut rows = 0;
    for (number, piece) in pieces.iter().enumerate() {
        let count = u64::from(piece.end - piece.start);
        match groups.last_mut() {
            Some(last) if pieces[last.start].block == piece.block && rows + count <= below[piece.block].rows => {
                last.end = number + 1;
                rows += count;
            }
            _ => {
                groups.push(number..number + 1);
                rows = count;
            }
        }
    }
    groups
}

/// The rows of the pieces in the shorter form, and how many they are.
fn picked(pieces: &[Piece], block_rows: u64) -> (Picked, u64) {
    let count = pieces.iter().map(|piece| u64::from(piece.end - piece.start)).sum();
    let rows = match pieces {
        [piece] if piece.start == 0 && u64::from(piece.end) == block_rows => Picked::All,
        _ if 2 * pieces.len() as u64 <= count => {
            Picked::Runs(pieces.iter().map(|piece| piece.start..piece.end).collect())
        }
        _ => Picked::List(pieces.iter().flat_map(|piece| piece.start..piece.end).collect()),
    };
    (rows, count)
}

/// A block of `count` of the rows of `below`.
fn part_of(below: &Block, count: u64) -> Block {
    let bytes = u128::from(below.decoded_bytes) * u128::from(count) / u128::from(below.rows.max(1));
    Block { rows: count, decoded_bytes: u64::try_from(bytes).unwrap_or(u64::MAX) }
}

impl Dataset for Select {
    fn format(&self) -> &'static str {
        self.base.format()
    }

    fn schema(&self) -> &Schema {
        self.base.schema()
    }

    fn sources(&self) -> &[Source] {
        self.base.sources()
    }

    fn layout(&self) -> RowLayout {
        self.base.layout()
    }

    fn at_epoch(&self, epoch: u64) -> Option<Arc<dyn Dataset>> {
        let base = self.base.at_epoch(epoch)?;
        Some(Arc::new(Self { base, ..self.clone() }))
    }

    fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    fn given_order(&self) -> Option<&Arc<[u64]>> {
        self.order.as_ref()
    }

    fn working_bytes(&self) -> u64 {
        self.base.working_bytes()
    }

    fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// A block of a selection is as bad as the block that it is cut from, whole.
    fn units(&self) -> Vec<Unit> {
        let units = self.base.units();
        self.cuts.iter().map(|cut| units[cut.block].clone()).collect()
    }

    fn place(&self, block: usize, row: u64, field: usize) -> Place {
        let cut = &self.cuts[block];
        self.base.place(cut.block, cut.row(row, self.base.blocks()[cut.block].rows), field)
    }

    fn ranges(&self, block: usize) -> Vec<Range> {
        self.base.ranges(self.cuts[block].block)
    }

    fn encoded_at(&self, block: usize, row: u64, field: usize) -> Option<Range> {
        let cut = &self.cuts[block];
        self.base.encoded_at(cut.block, cut.row(row, self.base.blocks()[cut.block].rows), field)
    }

    fn hint(&self, block: usize, row: u64, field: usize, into: &mut Vec<u8>) {
        let cut = &self.cuts[block];
        self.base.hint(cut.block, cut.row(row, self.base.blocks()[cut.block].rows), field, into);
    }

    /// Those of the block below where it is taken whole; what is picked from a block needs all of its rows at once.
    fn parts(&self, block: usize) -> Vec<Vec<Range>> {
        let cut = &self.cuts[block];
        match cut.rows {
            Picked::All => self.base.parts(cut.block),
            _ => vec![self.base.ranges(cut.block)],
        }
    }

    fn decode_part(&self, block: usize, part: usize, bytes: &[Bytes], rows: &mut Rows) -> Result<()> {
        let cut = &self.cuts[block];
        match cut.rows {
            Picked::All => self.base.decode_part(cut.block, part, bytes, rows),
            _ => self.decode(block, bytes, rows),
        }
    }

    fn decode(&self, block: usize, bytes: &[Bytes], rows: &mut Rows) -> Result<()> {
        let cut = &self.cuts[block];
        if let Picked::All = cut.rows {
            return self.base.decode(cut.block, bytes, rows);
        }
        let mut whole = rows.sibling();
        self.base.decode(cut.block, bytes, &mut whole)?;
        let (count, promised) = (whole.complete_rows()? as u64, self.base.blocks()[cut.block].rows);
        if count != promised {
            let message = format!("the block holds {count} samples where its index promises {promised}");
            return Err(Error::corrupt(message).in_block(cut.block as u64));
        }
        cut.for_each_run(promised, |run| rows.append_rows(&whole, run.start as usize..run.end as usize))
    }
}
