//! The vertical pass: one finished row from the rows that its filter covers.
#![expect(unsafe_code, reason = "functions compiled for AVX2 and AVX-512 are unsafe to call from code that is not")]

use super::taps::{HALF, PRECISION_BITS};
use super::{Pixels, Simd};

/// Columns whose sums are kept in registers at a time.
pub(super) const BLOCK: usize = 64;

/// Writes the weighted sum of the rows from `first` on.
pub(super) fn row(simd: Simd, source: Pixels<'_>, first: usize, weights: &[i32], into: &mut [u8]) {
    match simd {
        Simd::Plain => row_plain(source, first, weights, into),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: SIMD-1, the processor has AVX2.
        Simd::Avx2(_) => unsafe { row_avx2(source, first, weights, into) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: SIMD-1, the processor has these parts of AVX-512.
        Simd::Avx512(_) => unsafe { row_avx512(source, first, weights, into) },
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn row_avx2(source: Pixels<'_>, first: usize, weights: &[i32], into: &mut [u8]) {
    row_plain(source, first, weights, into);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl")]
fn row_avx512(source: Pixels<'_>, first: usize, weights: &[i32], into: &mut [u8]) {
    row_plain(source, first, weights, into);
}

/// Inlined into each of the above, where the compiler makes vectors of the loops over a block.
#[inline(always)]
fn row_plain(source: Pixels<'_>, first: usize, weights: &[i32], into: &mut [u8]) {
    let rows = &source.bytes[first * source.stride..];
    let mut blocks = into.chunks_exact_mut(BLOCK);
    let mut x = 0;
    for block in &mut blocks {
        let mut sums = [HALF; BLOCK];
        for (tap, weight) in weights.iter().enumerate() {
            let levels = &rows[tap * source.stride + x..][..BLOCK];
            for (sum, level) in sums.iter_mut().zip(levels) {
                *sum = sum.wrapping_add(i32::from(*level).wrapping_mul(*weight));
            }
        }
        for (level, sum) in block.iter_mut().zip(sums) {
            *level = (sum >> PRECISION_BITS).clamp(0, 255) as u8;
        }
        x += BLOCK;
    }
    for (at, level) in blocks.into_remainder().iter_mut().enumerate() {
        let column = rows[x + at..].iter().step_by(source.stride);
        let sum = column
            .zip(weights)
            .fold(HALF, |sum, (level, weight)| sum.wrapping_add(i32::from(*level).wrapping_mul(*weight)));
        *level = (sum >> PRECISION_BITS).clamp(0, 255) as u8;
    }
}
