//! Which shards of an epoch one process reads: one, as a rank does, or several, as a process that feeds several devices.

use std::sync::Arc;

use crate::{Error, Result};

/// Some of the `world` shards. Shard `s` has the positions `j` with `j mod world = s`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shards {
    world: u64,
    /// Ascending, at least one.
    own: Arc<[u64]>,
}

impl Shards {
    /// Errors: none, one that is not below `world`, or one twice.
    pub fn new(world: u64, own: &[u64]) -> Result<Self> {
        let mut sorted = own.to_vec();
        sorted.sort_unstable();
        if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Error::invalid(format!("shard {} is given twice", pair[0])));
        }
        match sorted.last() {
            None => Err(Error::invalid("shards must not be empty: a process reads at least one")),
            Some(&last) if last >= world => {
                Err(Error::invalid(format!("every shard must be below the world size {world}, got {last}")))
            }
            Some(_) => Ok(Self { world, own: sorted.into() }),
        }
    }

    /// The one shard of a rank. Errors: the rank is not below `world`.
    pub fn of_rank(rank: u64, world: u64) -> Result<Self> {
        if rank >= world {
            return Err(Error::invalid(format!("rank must be below the world size {world}, got {rank}")));
        }
        Ok(Self { world, own: Arc::new([rank]) })
    }

    /// All shards of all processes.
    pub fn world(&self) -> u64 {
        self.world
    }

    /// The shards that this process reads, ascending.
    pub fn own(&self) -> &[u64] {
        &self.own
    }

    /// The same positions told with as few shards as may be: whoever reads all of them reads every position.
    pub(super) fn simplest(&self) -> Self {
        let reads_all = self.own.len() as u64 == self.world;
        if reads_all { Self { world: 1, own: Arc::new([0]) } } else { self.clone() }
    }

    /// The first position of `shard` that is not below `from`.
    pub(super) fn first_of(&self, shard: u64, from: u64) -> u64 {
        from + (shard + self.world - from % self.world) % self.world
    }

    /// The first position of any own shard that is not below `from`.
    pub(super) fn first(&self, from: u64) -> u64 {
        self.own.iter().map(|&shard| self.first_of(shard, from)).min().unwrap_or(from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_shards_are_named() {
        assert!(Shards::new(4, &[]).unwrap_err().message().contains("at least one"));
        assert!(Shards::new(4, &[1, 4]).unwrap_err().message().contains("got 4"));
        assert!(Shards::new(4, &[1, 3, 1]).unwrap_err().message().contains("shard 1 is given twice"));
    }

    #[test]
    fn the_next_own_position_is_found_from_anywhere() {
        let shards = Shards::new(8, &[6, 1]).unwrap();
        let expected = |from: u64| (from..).find(|position| [1, 6].contains(&(position % 8))).unwrap();
        assert!((0..40).all(|from| shards.first(from) == expected(from)));
        assert_eq!(Shards::new(3, &[2, 0, 1]).unwrap().simplest(), Shards::of_rank(0, 1).unwrap());
    }
}
