//! The vertical pass: one finished row from the rows that its filter covers.
#![expect(unsafe_code, reason = "functions compiled for AVX2 and AVX-512 are unsafe to call from code that is not")]

use super::taps::{GROUP, HALF, PRECISION_BITS};
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
    let width = into.len();
    for x in (0..width).step_by(BLOCK) {
        // The last block begins earlier, where it can: its first columns are made twice rather than one by one.
        let x = x.min(width.saturating_sub(BLOCK));
        match into[x..].first_chunk_mut::<BLOCK>() {
            Some(block) => sum_block(rows, source.stride, x, weights, block),
            None => sum_columns(rows, source.stride, weights, into),
        }
    }
}

#[inline(always)]
fn sum_block(rows: &[u8], stride: usize, x: usize, weights: &[i32], into: &mut [u8; BLOCK]) {
    let mut sums = [HALF; BLOCK];
    // Four rows at a time, so that the sums are fetched and put back once for all of them.
    for (group, four) in weights.chunks(GROUP).enumerate() {
        // Where there are fewer, a row stands in for the others with a weight of 0.
        let weight = |tap: usize| four.get(tap).copied().unwrap_or(0);
        let levels = |tap: usize| {
            let row = group * GROUP + tap.min(four.len() - 1);
            rows[row * stride + x..].first_chunk::<BLOCK>()
        };
        let (Some(a), Some(b), Some(c), Some(d)) = (levels(0), levels(1), levels(2), levels(3)) else { return };
        let weight = [weight(0), weight(1), weight(2), weight(3)];
        let product = |level: u8, weight: i32| i32::from(level).wrapping_mul(weight);
        for at in 0..BLOCK {
            let first = product(a[at], weight[0]).wrapping_add(product(b[at], weight[1]));
            let second = product(c[at], weight[2]).wrapping_add(product(d[at], weight[3]));
            sums[at] = sums[at].wrapping_add(first.wrapping_add(second));
        }
    }
    for (level, sum) in into.iter_mut().zip(sums) {
        *level = (sum >> PRECISION_BITS).clamp(0, 255) as u8;
    }
}

/// Of pictures too narrow for a block.
fn sum_columns(rows: &[u8], stride: usize, weights: &[i32], into: &mut [u8]) {
    for (x, level) in into.iter_mut().enumerate() {
        let column = rows[x..].iter().step_by(stride).zip(weights);
        let product = |level: &u8, weight: &i32| i32::from(*level).wrapping_mul(*weight);
        let sum = column.fold(HALF, |sum, (level, weight)| sum.wrapping_add(product(level, weight)));
        *level = (sum >> PRECISION_BITS).clamp(0, 255) as u8;
    }
}
