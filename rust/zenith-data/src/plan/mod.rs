//! The order of an epoch as a function: which sample stands at which position, and when a rank needs which block.
//!
//! PLAN-1: a sample's place depends on (seed, epoch, lanes, window, position) alone, never on workers or world size.
//!
//! 1. The blocks are permuted by (seed, epoch).
//! 2. That row of samples is cut into `lanes` equal parts.
//! 3. Inside a lane consecutive windows are permuted by a keyed bijection.
//! 4. Position j is sample j div lanes of lane j mod lanes. Rank r of W takes the positions with j mod W = r.
//!
//! Memory is O(blocks).

pub mod choose;
pub mod epoch;
pub mod permute;
pub mod schedule;
pub mod shards;

mod key;
mod lanes;
mod resolve;
mod sequence;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use choose::{ChosenOrder, choose_order};
pub use epoch::{BatchPlan, Epoch, Tail};
pub use permute::Permutation;
pub use schedule::{BlockUse, Release, Schedule};
pub use shards::Shards;

use crate::{Error, Result};
pub(crate) use key::{Purpose, absorb, epoch_key, mix};
use lanes::Lane;
use sequence::Sequence;

/// More lanes than anybody can hold open blocks for.
pub const LANES_MAX: u32 = 4096;

/// Everything that decides the order of an epoch, besides the blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    pub seed: u64,
    pub epoch: u64,
    /// A power of two in 1..=4096.
    pub lanes: u32,
    /// Samples that are permuted among each other inside a lane, at least 1; more than 2^31 counts as 2^31.
    pub window: u64,
    /// `false` is file order: position j is sample j, and the other fields mean nothing.
    pub shuffle: bool,
}

/// Where a sample lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct SampleRef {
    pub block: u32,
    /// Row within the block.
    pub row: u32,
}

/// The order of one epoch. Cloning shares the tables.
#[derive(Debug, Clone)]
pub struct Plan {
    order: Order,
    sequence: Sequence,
    lanes: Arc<[Lane]>,
    lane_bits: u32,
    window_key: u64,
    /// For every position its place among the blocks, where neither file order nor a shuffle is wanted.
    given: Option<Arc<[u64]>>,
}

impl Plan {
    /// The plan of blocks with these numbers of samples. Errors: `lanes` is not a power of two in 1..=4096, `window` is
    /// 0, more than 2³² blocks, or a block of 2³² samples.
    pub fn new(block_rows: &[u64], order: &Order) -> Result<Self> {
        // File order is one lane whose windows are single samples.
        let (lanes, window) = if order.shuffle { (order.lanes, order.window) } else { (1, 1) };
        check_lanes(lanes)?;
        if window == 0 {
            return Err(Error::invalid("window must be >= 1 sample, got 0"));
        }
        let block_key = order.shuffle.then(|| epoch_key(order.seed, order.epoch, Purpose::BlockOrder));
        let sequence = Sequence::new(block_rows, block_key)?;
        let lane_bits = lanes.trailing_zeros();
        let lanes = lanes::cut(sequence.len(), lane_bits, window.min(permute::LEN_MAX)).into();
        let window_key = epoch_key(order.seed, order.epoch, Purpose::WindowOrder);
        Ok(Self { order: *order, sequence, lanes, lane_bits, window_key, given: None })
    }

    /// The plan in which position j is the `given[j]`-th sample of the blocks as they lie. Whoever follows it holds every
    /// block from the first position that needs it to the last. Errors: `given` is not as long as the blocks together, or
    /// names a sample that is not there.
    pub fn in_given_order(block_rows: &[u64], order: &Order, given: Arc<[u64]>) -> Result<Self> {
        let mut plan = Self::new(block_rows, &Order { shuffle: false, ..*order })?;
        let len = plan.len();
        if given.len() as u64 != len || given.iter().any(|&place| place >= len) {
            return Err(Error::internal("the order of a selection does not fit its blocks"));
        }
        plan.given = Some(given);
        Ok(plan)
    }

    pub fn order(&self) -> &Order {
        &self.order
    }

    /// The number of samples, which is the number of positions.
    pub fn len(&self) -> u64 {
        self.sequence.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sample at a position; positions from `len` on begin again, as padding does. `None` if there is no sample.
    pub fn sample(&self, position: u64) -> Option<SampleRef> {
        let position = position.checked_rem(self.len())?;
        Some(self.sequence.sample_at(self.place(position)))
    }

    /// The other blocks with samples, in the order of the epoch from the one after `block` on, round and round once.
    pub fn blocks_after(&self, block: u32) -> impl Iterator<Item = u32> + '_ {
        let blocks = self.sequence.blocks();
        let here = blocks.iter().position(|&other| other == block).unwrap_or(0);
        blocks.iter().cycle().skip(here + 1).take(blocks.len().saturating_sub(1)).copied()
    }

    /// The place in the sequence of blocks of a position below `len`.
    fn place(&self, position: u64) -> u64 {
        if let Some(given) = &self.given {
            return given[position as usize];
        }
        if !self.order.shuffle {
            return position;
        }
        let (number, offset) = (position & (self.lanes.len() as u64 - 1), position >> self.lane_bits);
        let lane = &self.lanes[number as usize];
        let window = lane.window_at(offset);
        let range = lane.window(window);
        let permutation = self.permutation(number, window, range.end - range.start);
        lane.place(range.start + u64::from(permutation.map((offset - range.start) as u32)))
    }

    /// The permutation of one window of one lane.
    fn permutation(&self, lane: u64, window: u64, len: u64) -> Permutation {
        Permutation::new(len, absorb(absorb(self.window_key, lane), window))
    }
}

/// Errors unless `lanes` is a power of two that a plan can have.
pub(crate) fn check_lanes(lanes: u32) -> Result<()> {
    if lanes.is_power_of_two() && lanes <= LANES_MAX {
        return Ok(());
    }
    let near = lanes.clamp(1, LANES_MAX).next_power_of_two();
    Err(Error::invalid(format!(
        "lanes must be a power of two between 1 and {LANES_MAX}, got {lanes}. Use lanes={near}, or leave it out to have it chosen"
    )))
}
