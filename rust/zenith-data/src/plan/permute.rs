//! A keyed bijection on 0..n that is evaluated on demand: no table, O(1) memory, any position alone.
//!
//! On the smallest power of two ≥ n, rounds of "multiply by an odd number, add, xor with the shifted self", each of which
//! can be undone; what falls outside 0..n is sent through again until it lands inside. Source: Kensler, "Correlated
//! Multi-Jittered Sampling" (Pixar 2013), `permute()`, whose constants are replaced by keys; the walk is from Black and
//! Rogaway, "Ciphers with Arbitrary Finite Domains" (2002). A Feistel network in the same place took 2.5 times as long
//! and was less even on short windows. A keyed rotation first makes the place of each single sample exactly uniform.
//!
//! This is a shuffle, not a cipher: it withstands statistics, not an adversary. The order is part of checkpoints, so a
//! change of any constant here is a new version of the state.

use super::key::Stream;

/// The largest n: one bit is kept free so that sums of two indices fit 32 bits.
pub const LEN_MAX: u64 = 1 << 31;

/// With four, neighbours were measurably correlated under a few keys in a thousand.
const ROUNDS: usize = 5;

/// On fewer bits the rounds have too little to mix; a short window walks a little longer instead.
const BITS_MIN: u32 = 5;

/// Up to here rotations and reflections are all the permutations there are.
const DIHEDRAL_LEN_MAX: u32 = 3;

/// How many values are mapped before the few that fell outside are walked; its buffers stay in the first-level cache.
const CHUNK: usize = 256;

/// A permutation of 0..len, chosen by a key.
#[derive(Debug, Clone)]
pub struct Permutation {
    len: u32,
    rotation: u32,
    reflected: bool,
    mask: u32,
    /// Half of the bits, so that the well mixed upper half reaches the lower.
    shift: u32,
    rounds: [Round; ROUNDS],
}

#[derive(Debug, Clone, Copy)]
struct Round {
    factor: u32,
    summand: u32,
}

impl Permutation {
    /// `len` above `LEN_MAX` is cut to it.
    pub fn new(len: u64, key: u64) -> Self {
        let len = len.min(LEN_MAX) as u32;
        let bits = (32 - len.saturating_sub(1).leading_zeros()).max(BITS_MIN);
        let shift = bits.div_ceil(2);
        let mut stream = Stream::new(key);
        let place = stream.below(u64::from(len) * 2) as u32;
        let rounds = std::array::from_fn(|_| {
            let word = stream.next();
            Round { factor: factor((word >> 32) as u32, shift), summand: word as u32 }
        });
        Self { len, rotation: place / 2, reflected: place % 2 == 1, mask: (1 << bits) - 1, shift, rounds }
    }

    /// Where `index` goes; `index` must be below `len`.
    pub fn map(&self, index: u32) -> u32 {
        let mut value = self.rotate(index);
        if self.len <= DIHEDRAL_LEN_MAX {
            return self.reflect(value);
        }
        // Ends: the cycle of a value inside comes back to it at the latest.
        loop {
            value = self.mix(value);
            if value < self.len {
                return value;
            }
        }
    }

    /// Maps `start`, `start + 1`, ... into `out`.
    pub fn map_range(&self, start: u32, out: &mut [u32]) {
        self.map_strided(start, 1, out);
    }

    /// Maps `start`, `start + stride`, ... into `out`; all of them must be below `len`.
    pub fn map_strided(&self, start: u32, stride: u32, out: &mut [u32]) {
        let mut next = start;
        for chunk in out.chunks_mut(CHUNK) {
            if self.len <= DIHEDRAL_LEN_MAX {
                for value in chunk {
                    *value = self.reflect(self.rotate(next));
                    next = next.wrapping_add(stride);
                }
                continue;
            }
            for value in &mut *chunk {
                *value = self.mix(self.rotate(next));
                next = next.wrapping_add(stride);
            }
            self.walk(chunk);
        }
    }

    #[inline(always)]
    fn rotate(&self, index: u32) -> u32 {
        // An index that is not below len is the caller's fault, but must not make the walk endless.
        let sum = index.min(self.len.saturating_sub(1)) + self.rotation;
        if sum >= self.len { sum - self.len } else { sum }
    }

    fn reflect(&self, value: u32) -> u32 {
        if self.reflected { (self.len - value).saturating_sub(1) } else { value }
    }

    #[inline(always)]
    fn mix(&self, mut value: u32) -> u32 {
        for round in self.rounds {
            value = value.wrapping_mul(round.factor).wrapping_add(round.summand) & self.mask;
            value ^= value >> self.shift;
        }
        value
    }

    /// Sends the values that fell outside through again until they land inside. The list of those is compacted without
    /// branches: which value falls outside cannot be predicted.
    fn walk(&self, chunk: &mut [u32]) {
        let mut outside = [0_u8; CHUNK];
        let mut count = 0;
        for (index, value) in chunk.iter().enumerate() {
            outside[count & (CHUNK - 1)] = index as u8;
            count += usize::from(*value >= self.len);
        }
        while count > 0 {
            let mut left = 0;
            for place in 0..count.min(CHUNK) {
                let index = outside[place];
                let Some(value) = chunk.get_mut(usize::from(index)) else { continue };
                *value = self.mix(*value);
                outside[left & (CHUNK - 1)] = index;
                left += usize::from(*value >= self.len);
            }
            count = left;
        }
    }
}

/// An odd number whose low half is neither near 0 nor near 2^shift: a factor such as 2^shift + 1 would hardly mix.
fn factor(word: u32, shift: u32) -> u32 {
    let (top, next) = (1 << (shift - 1), 1 << (shift - 2));
    ((word | top) & !next & !7) | 5
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(len: u64, key: u64) -> Vec<u32> {
        let mut out = vec![0; len as usize];
        Permutation::new(len, key).map_range(0, &mut out);
        out
    }

    #[test]
    fn every_length_gives_a_permutation() {
        for len in (0..70).chain([127, 128, 129, 255, 256, 257, 1000, 4095, 4097]) {
            let values = all(len, 7 + len);
            let mut seen = vec![false; len as usize];
            for value in &values {
                assert!(!std::mem::replace(&mut seen[*value as usize], true), "length {len}");
            }
            let permutation = Permutation::new(len, 7 + len);
            for (index, value) in values.iter().enumerate() {
                assert_eq!(permutation.map(index as u32), *value);
            }
        }
    }

    #[test]
    fn strides_agree_with_ranges() {
        let values = all(1000, 3);
        let mut strided = vec![0; 142];
        Permutation::new(1000, 3).map_strided(5, 7, &mut strided);
        let expected: Vec<u32> = values.iter().copied().skip(5).step_by(7).take(142).collect();
        assert_eq!(strided, expected);
    }

    /// These numbers are part of every checkpoint.
    #[test]
    fn the_permutation_never_changes() {
        assert_eq!(all(10, 1), [8, 5, 1, 2, 6, 9, 7, 3, 4, 0]);
        let mut far = [0; 4];
        Permutation::new(1_000_003, 2).map_strided(500_000, 1000, &mut far);
        assert_eq!(far, [743_921, 901_260, 275_422, 649_355]);
    }

    #[test]
    fn the_largest_length_works() {
        let permutation = Permutation::new(LEN_MAX, 1);
        let mut out = [0; 4];
        permutation.map_range((LEN_MAX - 4) as u32, &mut out);
        assert!(out.iter().all(|value| u64::from(*value) < LEN_MAX));
        assert_eq!(Permutation::new(u64::MAX, 1).len, LEN_MAX as u32);
    }

    /// Chi-square of observed counts against equal ones, in standard deviations from its mean.
    fn deviation(counts: &[u32], total: u32) -> f64 {
        let expected = f64::from(total) / counts.len() as f64;
        let chi: f64 = counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum();
        let freedom = counts.len() as f64 - 1.0;
        (chi - freedom) / (2.0 * freedom).sqrt()
    }

    #[test]
    fn places_are_uniform_over_keys() {
        for len in [2_u32, 3, 5, 8, 13, 40] {
            let mut counts = vec![0; len as usize];
            for key in 0..4000 {
                counts[Permutation::new(u64::from(len), key).map(len / 2) as usize] += 1;
            }
            assert!(deviation(&counts, 4000).abs() < 4.5, "length {len}: {}", deviation(&counts, 4000));
        }
    }

    #[test]
    fn pairs_of_neighbours_are_uniform_over_keys() {
        for len in [2_u32, 3, 4, 6, 9, 16, 23] {
            let size = (len * (len - 1)) as usize;
            let mut counts = vec![0; size];
            for key in 0..8000 {
                let permutation = Permutation::new(u64::from(len), key);
                let (one, two) = (permutation.map(0), permutation.map(1));
                counts[(one * (len - 1) + two - u32::from(two > one)) as usize] += 1;
            }
            assert!(deviation(&counts, 8000).abs() < 5.0, "length {len}: {}", deviation(&counts, 8000));
        }
    }

    #[test]
    fn one_key_spreads_neighbours() {
        for len in [1000_u32, 1024, 5000] {
            let values = all(u64::from(len), 11);
            let rising = values.windows(2).filter(|pair| pair[1] > pair[0]).count() as f64;
            let pairs = f64::from(len - 1);
            assert!((rising - pairs / 2.0).abs() < 4.0 * (pairs / 12.0).sqrt(), "length {len}: {rising}");
            let near = values.windows(2).filter(|pair| pair[1].abs_diff(pair[0]) < len / 16).count() as f64;
            let share = 1.0 / 8.0 - 1.0 / 256.0;
            assert!((near - pairs * share).abs() < 5.0 * (pairs * share).sqrt(), "length {len}: {near}");
        }
    }
}
