//! What is worth writing for a processor's vectors, and the choice between what there is.

use super::block::Block;
use super::colour;
use super::idct::{self, Factors};
use super::sink::Target;

/// Work that is compiled once for each kind of processor. `run` must be `#[inline(always)]`: only what is inlined into
/// `Kernels::enter` is compiled for its instructions.
pub(super) trait Work {
    type Output;

    fn run<K: Kernels>(self, kernels: K) -> Self::Output;
}

/// A kind of processor. The defaults are plain Rust, and all others give the same samples.
pub(super) trait Kernels: Copy {
    /// Does the work with this processor's instructions.
    fn enter<W: Work>(self, work: W) -> W::Output;

    /// The samples of two blocks.
    #[inline(always)]
    fn transform_pair(self, blocks: &[Block; 2], factors: [&Factors; 2], samples: &mut [u8], targets: [Target; 2]) {
        for ((block, factors), target) in blocks.iter().zip(factors).zip(targets) {
            idct::full(block, factors, &mut samples[target.at..], target.stride);
        }
    }

    /// The 2 × 2 samples of a block.
    #[inline(always)]
    fn sixteenth(self, block: &Block, factors: &Factors) -> [[u8; 2]; 2] {
        let mut samples = [[0; 2]; 2];
        idct::reduced(block, factors, 2, samples.as_flattened_mut(), 2);
        samples
    }

    /// The pixels of a row.
    #[inline(always)]
    fn ycc_to_rgb(self, y: &[u8], cb: &[u8], cr: &[u8], out: &mut [u8]) {
        colour::ycc_to_rgb(y, cb, cr, out);
    }
}

/// Any processor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Portable;

impl Kernels for Portable {
    fn enter<W: Work>(self, work: W) -> W::Output {
        work.run(self)
    }
}

/// Does the work on the best kernels that this processor has.
pub(super) fn dispatch<W: Work>(work: W) -> W::Output {
    #[cfg(target_arch = "x86_64")]
    if let Some(kernels) = super::avx2::Avx2::detect() {
        return kernels.enter(work);
    }
    Portable.enter(work)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Runs both kinds of kernels on the same input; on a processor without vectors there is nothing to compare.
    struct Both<'a> {
        blocks: &'a [Block; 2],
        factors: &'a Factors,
        rows: [&'a [u8]; 3],
    }

    impl Work for Both<'_> {
        type Output = (Vec<u8>, Vec<u8>, [[[u8; 2]; 2]; 2]);

        fn run<K: Kernels>(self, kernels: K) -> Self::Output {
            let mut samples = vec![0; 8 * 24];
            let target = |at: usize| Target { at, stride: 24, size: 8, component: 0 };
            kernels.transform_pair(self.blocks, [self.factors, self.factors], &mut samples, [target(0), target(11)]);
            let mut pixels = vec![0; 3 * self.rows[0].len()];
            kernels.ycc_to_rgb(self.rows[0], self.rows[1], self.rows[2], &mut pixels);
            let small = self.blocks.each_ref().map(|block| kernels.sixteenth(block, self.factors));
            (samples, pixels, small)
        }
    }

    fn block(values: std::ops::RangeInclusive<i16>) -> impl Strategy<Value = Block> {
        prop::collection::vec(prop_oneof![Just(0), values], 64).prop_map(|values| values.try_into().unwrap_or([0; 64]))
    }

    proptest! {
        #[test]
        fn vectors_give_what_plain_rust_gives(
            first in block(-1024..=1023),
            wild in block(i16::MIN..=i16::MAX),
            factors in block(1..=255),
            row in prop::collection::vec(any::<[u8; 3]>(), 1..100),
        ) {
            let rows: [Vec<u8>; 3] = std::array::from_fn(|place| row.iter().map(|pixel| pixel[place]).collect());
            let blocks = [first, wild];
            let work = || Both { blocks: &blocks, factors: &factors, rows: [&rows[0], &rows[1], &rows[2]] };
            prop_assert_eq!(dispatch(work()), Portable.enter(work()));
        }
    }

    #[test]
    fn every_pair_of_chroma_values_gives_the_colour_of_the_plain_formula() {
        let (blocks, factors) = ([[0; 64]; 2], [0; 64]);
        for y in [0u8, 1, 127, 128, 254, 255] {
            for cb in 0..=255u8 {
                let cr: Vec<u8> = (0..=255).collect();
                let rows = [&[y; 256][..], &[cb; 256], &cr];
                let work = || Both { blocks: &blocks, factors: &factors, rows };
                assert_eq!(dispatch(work()).1, Portable.enter(work()).1);
            }
        }
    }
}
