//! What one process gets of an epoch: batches, their positions, and what happens at the tail.
//!
//! Batch k is the positions [p + kG, p + (k+1)G) with G = batch size × world size; a shard takes those with j mod W = shard. So a
//! state is one number, p, whatever the batch size and world size before and after. A rank reads one shard; a process that
//! feeds several devices reads one for each, and its batch is their rows one after the other.

use super::{Plan, SampleRef, Schedule, Shards};
use crate::{Error, Result};

/// What happens to the samples that do not fill a global batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tail {
    /// They are left out.
    DropLast,
    /// They are filled up to a multiple of the world size with the epoch's first positions: all ranks get equally many
    /// samples, in a last batch that may be smaller.
    Pad,
    /// They are filled up to a whole global batch with the epoch's first positions, so that all batches are of one size.
    Fill,
    /// They are handed out as they are: ranks may differ by one sample, and by one batch.
    Uneven,
}

/// The rest of an epoch from a position on, as one process sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epoch {
    plan_len: u64,
    from: u64,
    batch_size: u64,
    shards: Shards,
    tail: Tail,
}

/// The positions of one batch of one shard: `start`, `start + W`, ... With padding they may reach beyond the plan's
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
        Self::of_shards(plan_len, from, batch_size, Shards::of_rank(rank, world)?, tail)
    }

    /// The epoch of a process that reads `shards`, with `batch_size` samples of each in a batch. Errors: as of `new`; an
    /// uneven tail of several shards, whose rows could differ in number.
    pub fn of_shards(plan_len: u64, from: u64, batch_size: u64, shards: Shards, tail: Tail) -> Result<Self> {
        let world = shards.world();
        if batch_size == 0 {
            return Err(Error::invalid("batch_size must be >= 1, got 0"));
        }
        if tail == Tail::Uneven && shards.own().len() > 1 {
            let message = "tail=\"uneven\" leaves several shards with different numbers of samples. Use \"pad\" or \"fill\", \
                           or drop_last";
            return Err(Error::invalid(message));
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
        Ok(Self { plan_len, from, batch_size, shards, tail })
    }

    /// How many batches this process gets.
    pub fn batches(&self) -> u64 {
        self.samples().div_ceil(self.batch_size)
    }

    /// How many samples of each of its shards this process gets.
    pub fn samples(&self) -> u64 {
        let left = self.plan_len - self.from;
        match self.tail {
            Tail::DropLast => left / self.global_batch() * self.batch_size,
            Tail::Pad => left.div_ceil(self.world()),
            Tail::Fill => left.div_ceil(self.global_batch()) * self.batch_size,
            // One shard (`of_shards`).
            Tail::Uneven => self.plan_len.saturating_sub(self.shards.first(self.from)).div_ceil(self.world()),
        }
    }

    /// The positions of batch `index` that the process's first shard in order of position has; the count is that of each
    /// shard, 0 from `batches` on.
    pub fn batch(&self, index: u64) -> BatchPlan {
        let index = index.min(self.batches());
        let left = self.samples().saturating_sub(index.saturating_mul(self.batch_size));
        BatchPlan {
            start: self.shards.first(self.from) + index * self.global_batch(),
            count: left.min(self.batch_size),
        }
    }

    /// The global position once batch `index` has been handed out, the same on all ranks: what the state stores.
    pub fn position_after(&self, index: u64) -> u64 {
        let handed_out = index.saturating_add(1).saturating_mul(self.global_batch());
        self.from.saturating_add(handed_out).min(self.plan_len)
    }

    /// No position from here on is handed out to any rank: beyond the plan's length with padding, before it when the
    /// tail is dropped. The `end` of `Plan::schedule`, and the bound at which a schedule need not be followed further.
    pub fn end(&self) -> u64 {
        match self.tail {
            Tail::DropLast | Tail::Pad | Tail::Fill => self.from + self.samples() * self.world(),
            Tail::Uneven => self.plan_len,
        }
    }

    /// Samples of each shard in a batch.
    pub fn batch_size(&self) -> u64 {
        self.batch_size
    }

    /// Samples of all shards of this process in a whole batch.
    pub fn rows(&self) -> u64 {
        self.batch_size * self.shards.own().len() as u64
    }

    pub fn world(&self) -> u64 {
        self.shards.world()
    }

    /// The shards that this process reads.
    pub fn shards(&self) -> &Shards {
        &self.shards
    }

    /// The process's last position of batch `index`; `u64::MAX` from `batches` on.
    pub fn last_position(&self, index: u64) -> u64 {
        let count = self.batch(index).count;
        let Some(steps) = count.checked_sub(1) else { return u64::MAX };
        let last = self.shards.own().iter().map(|&shard| self.start(shard, index)).max().unwrap_or(u64::MAX);
        last.saturating_add(steps * self.world())
    }

    /// Appends the samples of batch `index`, those of one shard after those of another.
    pub fn resolve(&self, plan: &Plan, index: u64, out: &mut Vec<SampleRef>) {
        let count = self.batch(index).count as usize;
        for &shard in self.shards.own() {
            plan.resolve(self.start(shard, index), self.world(), count, out);
        }
    }

    /// The blocks that this process needs for these batches, in the order in which it needs them.
    pub fn schedule(&self, plan: &Plan) -> Schedule {
        plan.schedule(self.from, self.end(), &self.shards)
    }

    fn global_batch(&self) -> u64 {
        self.batch_size * self.world()
    }

    /// The first position of `shard` in batch `index`.
    fn start(&self, shard: u64, index: u64) -> u64 {
        self.shards.first_of(shard, self.from) + index * self.global_batch()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Order;

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
        assert_eq!(counts(25, 0, Tail::Fill)?, [(3, 12); 3]);
        assert_eq!(counts(24, 0, Tail::Fill)?, [(2, 8); 3]);
        for tail in [Tail::DropLast, Tail::Pad, Tail::Fill, Tail::Uneven] {
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
    fn a_process_with_several_shards_gets_what_as_many_ranks_get() -> Result<()> {
        let plan = Plan::new(&[40, 60], &Order { seed: 3, epoch: 0, lanes: 4, window: 8, shuffle: true })?;
        let own = [1, 2, 4];
        for (from, tail) in [(0, Tail::Pad), (10, Tail::Pad), (7, Tail::Fill), (13, Tail::DropLast)] {
            let epoch = Epoch::of_shards(100, from, 4, Shards::new(5, &own)?, tail)?;
            for index in 0..epoch.batches() {
                let mut expected = Vec::new();
                let mut positions = Vec::new();
                for rank in own {
                    let alone = Epoch::new(100, from, 4, 5, rank, tail)?;
                    assert_eq!(
                        (alone.batches(), alone.position_after(index)),
                        (epoch.batches(), epoch.position_after(index))
                    );
                    alone.resolve(&plan, index, &mut expected);
                    positions.extend([alone.batch(index).start, alone.last_position(index)]);
                }
                let mut samples = Vec::new();
                epoch.resolve(&plan, index, &mut samples);
                assert_eq!(samples, expected);
                assert_eq!(samples.len() as u64, 3 * epoch.batch(index).count);
                assert_eq!(positions.iter().min(), Some(&epoch.batch(index).start));
                assert_eq!(positions.iter().max(), Some(&epoch.last_position(index)));
            }
        }
        let uneven = Epoch::of_shards(100, 0, 4, Shards::new(5, &own)?, Tail::Uneven);
        assert!(uneven.is_err_and(|error| error.message().contains("uneven")));
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
