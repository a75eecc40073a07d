//! When a process needs which block, and when it needs which of its rows no longer.
//!
//! Evaluated lazily: memory is O(lanes) whatever the length of the epoch. Each lane that the process reads walks through its
//! blocks; a small heap merges the lanes by position. A block that several lanes share is one use, told by the lane
//! that wants it first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use super::lanes::Lane;
use super::{Plan, Shards};

/// Windows are merged until a release is at least this part of its block: a use has about this many releases at most,
/// and one or two more for each lane that shares the block.
const RELEASES_PER_BLOCK: u64 = 64;

/// File order has no windows; its rows are released in pieces of at least this many.
const FILE_ORDER_RELEASE_ROWS: u64 = 8192;

/// One block that a process needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockUse {
    pub block: u32,
    /// The process's earliest position at which it may need a row of the block.
    pub first: u64,
    /// Every row of the block, in the order in which they become free.
    pub releases: Vec<Release>,
}

/// Rows of a block that the process never needs again once every position below `after` has been delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    pub rows: Range<u32>,
    pub after: u64,
}

/// The uses of one process in the order of `first`; no block twice, but for repeated positions at the end.
#[derive(Debug, Clone)]
pub struct Schedule {
    plan: Plan,
    from: u64,
    shards: Shards,
    /// In every lane the offsets of one shard are congruent modulo this.
    turn: u64,
    /// For every lane the smallest offset of each shard that reads of it; empty if none does.
    residues: Vec<Vec<u64>>,
    heap: BinaryHeap<Reverse<Wish>>,
    /// The uses of a plan in a given order, which has no lanes.
    given: std::vec::IntoIter<BlockUse>,
    /// The process's repeated positions that are still to be told.
    repeated: Range<u64>,
}

/// A lane wants a block from a position on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Wish {
    first: u64,
    lane: usize,
    /// Index of the block in the sequence.
    index: usize,
}

/// What a lane needs of a block, as offsets.
#[derive(Debug)]
struct Part {
    first: u64,
    lane: usize,
    offsets: Range<u64>,
}

impl Plan {
    /// What a process with these shards needs for the positions from `from` to `end`. Those from `len` on are what padding
    /// repeats: each is a late use of its own, with `first` ≥ `len`, that holds one row. To stop before the end of the epoch,
    /// stop at the first use whose `first` is not below the end.
    pub fn schedule(&self, from: u64, end: u64, shards: &Shards) -> Schedule {
        Schedule::new(self.clone(), from, end, shards.simplest())
    }

    /// Whether `rank` of `world` reads anything of a lane: whether some j ≡ lane (mod lanes) has j ≡ rank (mod world).
    pub fn reads_lane(&self, lane: u64, rank: u64, world: u64) -> bool {
        lane.abs_diff(rank).is_multiple_of(common_divisor(self.lanes.len() as u64, world.max(1)))
    }
}

/// gcd(lanes, world) where lanes is a power of two.
fn common_divisor(lanes: u64, world: u64) -> u64 {
    1 << world.trailing_zeros().min(lanes.trailing_zeros())
}

/// Every block that the process needs, from its first position to its last.
fn uses_in_given_order(plan: &Plan, given: &[u64], from: u64, shards: &Shards) -> Vec<BlockUse> {
    let mut spans: Vec<Option<(u64, u64)>> = vec![None; plan.sequence.blocks().len()];
    for &shard in shards.own() {
        for position in (shards.first_of(shard, from)..given.len() as u64).step_by(shards.world() as usize) {
            let index = plan.sequence.index_at(given[position as usize]);
            let (first, last) = spans[index].unwrap_or((position, position));
            spans[index] = Some((first.min(position), last.max(position)));
        }
    }
    let use_of = |(index, span): (usize, &Option<(u64, u64)>)| {
        let (first, last) = (*span)?;
        let rows = plan.sequence.span(index);
        let releases = vec![Release { rows: 0..(rows.end - rows.start) as u32, after: last + 1 }];
        Some(BlockUse { block: plan.sequence.block(index), first, releases })
    };
    let mut uses: Vec<BlockUse> = spans.iter().enumerate().filter_map(use_of).collect();
    uses.sort_unstable_by_key(|used| used.first);
    uses
}

impl Schedule {
    fn new(plan: Plan, from: u64, end: u64, shards: Shards) -> Self {
        let (lanes, world) = (plan.lanes.len() as u64, shards.world());
        let divisor = common_divisor(lanes, world);
        let turn = world / divisor;
        // Offset i of lane l is the shard's if i·lanes + l ≡ shard (mod world); divided by gcd(lanes, world) the factor of i
        // has an inverse modulo `turn`.
        let factor = (lanes / divisor) % turn;
        let inverse = (0..turn).find(|inverse| (factor * inverse) % turn == 1 % turn).unwrap_or(0);
        let residue = |lane: u64, shard: u64| {
            let difference = (shard + world - lane % world) % world;
            plan.reads_lane(lane, shard, world).then(|| (difference / divisor % turn) * inverse % turn)
        };
        let of_lane = |lane| shards.own().iter().filter_map(|&shard| residue(lane, shard)).collect();
        let residues: Vec<Vec<u64>> = (0..lanes).map(of_lane).collect();
        let repeated = if plan.is_empty() { 0..0 } else { plan.len().max(from)..end };
        let given = plan.given.as_ref().map(|given| uses_in_given_order(&plan, given, from, &shards));
        let is_given = given.is_some();
        let given = given.unwrap_or_default().into_iter();
        let mut schedule = Self { plan, from, shards, turn, residues, heap: BinaryHeap::new(), given, repeated };
        if is_given {
            return schedule;
        }
        for lane in 0..lanes as usize {
            let needed = schedule.needed_from(lane);
            if needed < schedule.lane(lane).len {
                let index = schedule.plan.sequence.index_at(schedule.lane(lane).place(needed));
                schedule.push(lane, Some(index));
            }
        }
        schedule
    }

    fn lane(&self, number: usize) -> &Lane {
        &self.plan.lanes[number]
    }

    /// The lane's first offset whose position is not below `from`.
    fn passed(&self, lane: usize) -> u64 {
        (self.from.saturating_sub(lane as u64)).div_ceil(self.plan.lanes.len() as u64)
    }

    /// The offsets below this lie in windows that are wholly handed out.
    fn needed_from(&self, lane: usize) -> u64 {
        let passed = self.passed(lane);
        self.lane(lane).window(self.lane(lane).window_at(passed)).start
    }

    fn position(&self, lane: usize, offset: u64) -> u64 {
        offset * self.plan.lanes.len() as u64 + lane as u64
    }

    /// Which offsets of the lane lie in the block, and when this process first needs them; `None` if it never does.
    fn part(&self, number: usize, index: usize) -> Option<Part> {
        let residues = &self.residues[number];
        if residues.is_empty() {
            return None;
        }
        let lane = self.lane(number);
        let (block, places) = (self.plan.sequence.span(index), lane.places());
        let shared = block.start.max(places.start)..block.end.min(places.end);
        if shared.is_empty() {
            return None;
        }
        let mut offsets = lane.offsets_of(shared);
        offsets.start = offsets.start.max(self.needed_from(number));
        if offsets.is_empty() {
            return None;
        }
        let start = lane.window(lane.window_at(offsets.start)).start.max(self.passed(number));
        let end = lane.window(lane.window_at(offsets.end - 1)).end;
        let first_of = |residue: &u64| start + (residue + self.turn - start % self.turn) % self.turn;
        let first = residues.iter().map(first_of).min()?;
        (first < end).then(|| Part { first: self.position(number, first), lane: number, offsets })
    }

    /// Puts the lane's wish for the block `index`, or for the next after it that the process needs, on the heap.
    fn push(&mut self, lane: usize, mut index: Option<usize>) {
        while let Some(at) = index {
            if let Some(part) = self.part(lane, at) {
                self.heap.push(Reverse(Wish { first: part.first, lane, index: at }));
                return;
            }
            index = self.following(lane, at);
        }
    }

    /// The block that the lane comes to after `index`.
    fn following(&self, number: usize, index: usize) -> Option<usize> {
        let (lane, block) = (self.lane(number), self.plan.sequence.span(index));
        if self.residues[number].is_empty() {
            None
        } else if lane.backward {
            (block.start > lane.start).then(|| index - 1)
        } else {
            (block.end < lane.places().end).then_some(index + 1)
        }
    }

    /// What each lane of this process needs of the block.
    fn parts(&self, index: usize) -> Vec<Part> {
        let block = self.plan.sequence.span(index);
        let bits = self.plan.lane_bits;
        let by_segment = |segment: u32| super::lanes::bit_reverse(segment, bits) as usize;
        let segments = self.plan.lanes.len() as u32;
        let (mut low, mut high) = (0, segments);
        while low < high {
            let middle = low.midpoint(high);
            if self.lane(by_segment(middle)).places().end <= block.start { low = middle + 1 } else { high = middle }
        }
        (low..segments)
            .map(by_segment)
            .take_while(|lane| self.lane(*lane).start < block.end)
            .filter_map(|lane| self.part(lane, index))
            .collect()
    }

    fn releases(&self, index: usize, parts: &[Part]) -> Vec<Release> {
        let block = self.plan.sequence.span(index);
        let rows = block.end - block.start;
        let at_least = rows / RELEASES_PER_BLOCK;
        let at_least = if self.plan.order.shuffle { at_least } else { at_least.max(FILE_ORDER_RELEASE_ROWS) };
        let mut releases = Vec::new();
        for part in parts {
            let lane = self.lane(part.lane);
            let mut start = part.offsets.start;
            while start < part.offsets.end {
                // All windows but a lane's first have one size, so the last of enough windows is known at once.
                let last = lane.window_at(start.saturating_add(at_least.saturating_sub(1)).min(part.offsets.end - 1));
                let window_end = lane.window(last).end;
                let end = window_end.min(part.offsets.end);
                let places = lane.places_of(start..end);
                let rows = (places.start - block.start) as u32..(places.end - block.start) as u32;
                releases.push(Release { rows, after: self.position(part.lane, window_end - 1) + 1 });
                start = end;
            }
        }
        releases.sort_unstable_by_key(|release| release.rows.start);
        let mut never_needed = Vec::new();
        let mut covered = 0;
        for release in &releases {
            if covered < release.rows.start {
                never_needed.push(Release { rows: covered..release.rows.start, after: self.from });
            }
            covered = release.rows.end;
        }
        if u64::from(covered) < rows {
            never_needed.push(Release { rows: covered..rows as u32, after: self.from });
        }
        releases.extend(never_needed);
        releases.sort_unstable_by_key(|release| (release.after, release.rows.start));
        releases
    }

    /// The next repeated position of this process, as a use that holds the one row.
    fn next_repeated(&mut self) -> Option<BlockUse> {
        let position = self.shards.first(self.repeated.start);
        if position >= self.repeated.end {
            return None;
        }
        self.repeated.start = position + 1;
        let place = self.plan.place(position % self.plan.len());
        let (sample, rows) = (self.plan.sequence.sample_at(place), self.plan.sequence.rows_at(place));
        let (before, beyond) = (0..sample.row, sample.row + 1..rows);
        let releases = [(before, self.from), (beyond, self.from), (sample.row..sample.row + 1, position + 1)];
        let releases = releases.into_iter().filter(|(rows, _)| !rows.is_empty());
        let releases = releases.map(|(rows, after)| Release { rows, after }).collect();
        Some(BlockUse { block: sample.block, first: position, releases })
    }
}

impl Iterator for Schedule {
    type Item = BlockUse;

    fn next(&mut self) -> Option<BlockUse> {
        while let Some(Reverse(wish)) = self.heap.pop() {
            self.push(wish.lane, self.following(wish.lane, wish.index));
            let parts = self.parts(wish.index);
            // Positions of different lanes differ, so exactly one lane is the earliest.
            if parts.iter().map(|part| part.first).min() == Some(wish.first) {
                let (block, releases) = (self.plan.sequence.block(wish.index), self.releases(wish.index, &parts));
                return Some(BlockUse { block, first: wish.first, releases });
            }
        }
        self.given.next().or_else(|| self.next_repeated())
    }
}
