//! What one rank gets of an epoch: batches, their positions, and what happens at the tail.
//!
//! Batch k is the positions [p + kG, p + (k+1)G) with G = batch size × world size; a rank takes those with j mod W = rank. So a
//! state is one number, p, whatever the batch size and world size before and after.

use crate::{Error, Result};

/// What happens to the samples that do not fill a global batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tail {
    /// They are left out.
    DropLast,
    /// They are filled up to a multiple of the world size with the epoch's first positions: all ranks get equally many
    /// samples, in a last batch that may be smaller.
    Pad,
    /// They are handed out as they are: ranks may differ by one sample, and by one batch.
    Uneven,
}

/// The rest of an epoch from a position on, as one rank sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epoch {
    plan_len: u64,
    from: u64,
    batch_size: u64,
    world: u64,
    rank: u64,
    tail: Tail,
}

/// The positions of one batch of one rank: `start`, `start + W`, ... With padding they may reach beyond the plan's
/// length N, where N + i means position i mod N, as `Plan::resolve` takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchPlan {
    pub start: u64,
    /// Samples in this batch: the batch size, or less in the last batch.
    pub count: u64,
}

impl Epoch {
    /// Errors: a batch size or world size of 0, a rank that is not below the world size, `from` beyond the plan, or
    /// sizes whose product does not fit 63 bits.
    pub fn new(plan_len: u64, from: u64, batch_size: u64, world: u64, rank: u64, tail: Tail) -> Result<Self> {
        if batch_size == 0 {
            return Err(Error::invalid("batch_size must be >= 1, got 0"));
        }
        if rank >= world {
            return Err(Error::invalid(format!("rank must be below the world size {world}, got {rank}")));
        }
        if from > plan_len {
            return Err(Error::invalid(format!("position {from} is beyond the {plan_len} samples of the epoch")));
        }
        let bound = 1_u64 << 62;
        if plan_len >= bound || batch_size.checked_mul(world).is_none_or(|global| global >= bound) {
            return Err(Error::invalid(format!(
                "batch_size {batch_size} x world size {world} over {plan_len} samples does not fit 62 bits"
            )));
        }
        Ok(Self { plan_len, from, batch_size, world, rank, tail })
    }

    /// How many batches this rank gets.
    pub fn batches(&self) -> u64 {
        self.samples().div_ceil(self.batch_size)
    }

    /// How many samples this rank gets.
    pub fn samples(&self) -> u64 {
        let left = self.plan_len - self.from;
        match self.tail {
            Tail::DropLast => left / self.global_batch() * self.batch_size,
            Tail::Pad => left.div_ceil(self.world),
            Tail::Uneven => self.plan_len.saturating_sub(self.first_position()).div_ceil(self.world),
        }
    }

    /// The positions of batch `index`; its count is 0 from `batches` on.
    pub fn batch(&self, index: u64) -> BatchPlan {
        let index = index.min(self.batches());
        let left = self.samples().saturating_sub(index.saturating_mul(self.batch_size));
        BatchPlan { start: self.first_position() + index * self.global_batch(), count: left.min(self.batch_size) }
    }

    /// The global position once batch `index` has been handed out, the same on all ranks: what the state stores.
    pub fn position_after(&self, index: u64) -> u64 {
        let handed_out = index.saturating_add(1).saturating_mul(self.global_batch());
        self.from.saturating_add(handed_out).min(self.plan_len)
    }

    /// No position from here on is handed out to any rank: beyond the plan's length with padding, before it when the
    /// tail is dropped. The `end` of `Plan::schedule_to`, and the bound at which a schedule need not be followed further.
    pub fn end(&self) -> u64 {
        match self.tail {
            Tail::DropLast => self.from + self.samples() * self.world,
            Tail::Pad => self.from + self.samples() * self.world,
            Tail::Uneven => self.plan_len,
        }
    }

    fn global_batch(&self) -> u64 {
        self.batch_size * self.world
    }

    /// The rank's first position that is not below `from`.
    fn first_position(&self) -> u64 {
        self.from + (self.rank + self.world - self.from % self.world) % self.world
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(plan_len: u64, from: u64, tail: Tail) -> Result<Vec<(u64, u64)>> {
        // Batches of 4 at each of 3 ranks.
        (0..3).map(|rank| Epoch::new(plan_len, from, 4, 3, rank, tail).map(|e| (e.batches(), e.samples()))).collect()
    }

    #[test]
    fn tails() -> Result<()> {
        assert_eq!(counts(25, 0, Tail::DropLast)?, [(2, 8); 3]);
        assert_eq!(counts(25, 0, Tail::Pad)?, [(3, 9); 3]);
        assert_eq!(counts(25, 0, Tail::Uneven)?, [(3, 9), (2, 8), (2, 8)]);
        assert_eq!(counts(25, 2, Tail::Uneven)?, [(2, 8), (2, 7), (2, 8)]);
        assert_eq!(counts(25, 25, Tail::Pad)?, [(0, 0); 3]);
        assert_eq!(counts(1, 0, Tail::Pad)?, [(1, 1); 3]);
        for tail in [Tail::DropLast, Tail::Pad, Tail::Uneven] {
            assert_eq!(counts(0, 0, tail)?, [(0, 0); 3]);
        }
        Ok(())
    }

    #[test]
    fn positions_do_not_need_to_be_multiples_of_the_world_size() -> Result<()> {
        let epoch = Epoch::new(100, 10, 4, 3, 0, Tail::Pad)?;
        assert_eq!(epoch.batch(0), BatchPlan { start: 12, count: 4 });
        assert_eq!(epoch.batch(1), BatchPlan { start: 24, count: 4 });
        assert_eq!((epoch.position_after(0), epoch.position_after(7), epoch.position_after(u64::MAX)), (22, 100, 100));
        assert_eq!(epoch.batch(epoch.batches()).count, 0);
        Ok(())
    }

    #[test]
    fn wrong_arguments_are_named() {
        assert!(Epoch::new(10, 0, 0, 1, 0, Tail::Pad).is_err_and(|e| e.message().contains("batch_size")));
        assert!(Epoch::new(10, 0, 1, 2, 2, Tail::Pad).is_err_and(|e| e.message().contains("rank")));
        assert!(Epoch::new(10, 0, 1, 0, 0, Tail::Pad).is_err_and(|e| e.message().contains("rank")));
        assert!(Epoch::new(10, 11, 1, 1, 0, Tail::Pad).is_err_and(|e| e.message().contains("position 11")));
        assert!(Epoch::new(10, 0, u64::MAX, 2, 0, Tail::Pad).is_err());
    }
}
