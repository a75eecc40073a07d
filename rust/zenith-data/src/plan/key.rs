//! Keys: how (seed, epoch, purpose, lane, window) becomes independent random bits, the same on every machine.

/// What a key is for, so that no two uses of one seed ever share bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum Purpose {
    BlockOrder = 1,
    WindowOrder = 2,
    /// Which samples a split puts into which part; not of an epoch.
    Split = 3,
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014).
pub(crate) fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// One word after another into a key; the order of the words matters.
pub(crate) fn absorb(key: u64, word: u64) -> u64 {
    mix(key.wrapping_add(GOLDEN) ^ mix(word.wrapping_add(GOLDEN)))
}

/// The key of one purpose in one epoch.
pub(crate) fn epoch_key(seed: u64, epoch: u64, purpose: Purpose) -> u64 {
    absorb(absorb(absorb(0, seed), epoch), purpose as u64)
}

/// SplitMix64 as a stream.
#[derive(Debug, Clone)]
pub(crate) struct Stream(u64);

impl Stream {
    pub(crate) fn new(key: u64) -> Self {
        Self(key)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    /// A number in 0..`bound` (0 for a bound of 0). The bias is below bound / 2⁶⁴, so no rejection loop is needed.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitmix64_is_the_published_one() {
        // The first outputs for seed 1234567, as printed by the reference implementation.
        let mut stream = Stream::new(1_234_567);
        assert_eq!(stream.next(), 6_457_827_717_110_365_317);
        assert_eq!(stream.next(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn keys_differ_in_every_word() {
        let base = epoch_key(1, 2, Purpose::BlockOrder);
        assert_ne!(base, epoch_key(2, 1, Purpose::BlockOrder));
        assert_ne!(base, epoch_key(1, 2, Purpose::WindowOrder));
        assert_ne!(absorb(absorb(base, 0), 1), absorb(absorb(base, 1), 0));
    }
}
