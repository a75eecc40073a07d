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
