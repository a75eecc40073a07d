//! The horizontal pass: every needed row to its new width.
//!
//! A weight of 22 bits is too wide for the instruction that multiplies and adds pairs of 16 bits, so it is split:
//! weight = high · 2¹¹ + low. Two such instructions make four products, and the sum is exact. Additions may wrap on the way;
//! their end fits 32 bits.
#![expect(unsafe_code, reason = "functions compiled for AVX2 and AVX-512 are unsafe to call from code that is not")]

use super::taps::{HALF, PRECISION_BITS, Taps};
use super::{Pixels, Simd};

/// Bits of the lower half of a weight.
const LOW_BITS: u32 = 11;
/// What the vector code may read beyond a row: it takes 16 bytes for 4 pixels.
const BEYOND: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// For each group of four taps the pairs (high 0, high 1), (high 2, high 3), (low 0, low 1), (low 2, low 3).
    pairs: Vec<[i32; 4]>,
    /// The last rows, with room behind them.
    tail: Vec<u8>,
}

/// Writes all rows of `source`, whose first pixel is the tap `left`, at `stride` bytes from one to the next.
pub(super) fn pass(
    simd: Simd,
    source: Pixels<'_>,
    taps: &Taps,
    left: usize,
    scratch: &mut Scratch,
    into: &mut [u8],
    stride: usize,
) {
    #[cfg(target_arch = "x86_64")]
    if source.channels == 3
        && let Some(lanes) = x86::rows_at_once(simd)
    {
        scratch.pairs.clear();
        scratch.pairs.extend(taps.weights.chunks_exact(super::taps::GROUP).map(split));
        // A row may be read beyond its end only where other rows follow.
        let readable = source.width * 3 + BEYOND;
        let mut y = 0;
        while y < source.height {
            let count = lanes.min(source.height - y);
            let rows = &source.bytes[y * source.stride..];
            let last = (count - 1) * source.stride;
            let out = &mut into[y * stride..];
            if rows.len() >= last + readable {
                x86::rows(simd, rows, source.stride, count, taps, left, &scratch.pairs, out, stride);
            } else {
                scratch.tail.clear();
                for row in 0..count {
                    scratch.tail.extend_from_slice(&rows[row * source.stride..][..source.width * 3]);
                    scratch.tail.resize((row + 1) * readable, 0);
                }
                x86::rows(simd, &scratch.tail, readable, count, taps, left, &scratch.pairs, out, stride);
            }
            y += count;
        }
        return;
    }
    for y in 0..source.height {
        let row = source.row(y);
        let out = &mut into[y * stride..];
        match source.channels {
            1 => row_plain::<1>(row, taps, left, out),
            _ => row_plain::<3>(row, taps, left, out),
        }
    }
    let _ = (simd, scratch);
}

fn split(weights: &[i32]) -> [i32; 4] {
    let high = |tap: usize| weights[tap] >> LOW_BITS;
    let low = |tap: usize| weights[tap] & ((1 << LOW_BITS) - 1);
    let pair = |first: i32, second: i32| (first & 0xffff) | (second << 16);
    [pair(high(0), high(1)), pair(high(2), high(3)), pair(low(0), low(1)), pair(low(2), low(3))]
}

fn row_plain<const CHANNELS: usize>(row: &[u8], taps: &Taps, left: usize, into: &mut [u8]) {
    for (x, (first, count)) in taps.firsts.iter().zip(&taps.counts).enumerate() {
        let weights = &taps.weights[x * taps.stride..][..*count];
        let levels = &row[(first - left) * CHANNELS..][..count * CHANNELS];
        let mut sums = [HALF; CHANNELS];
        for (pixel, weight) in levels.chunks_exact(CHANNELS).zip(weights) {
            for (sum, level) in sums.iter_mut().zip(pixel) {
                *sum = sum.wrapping_add(i32::from(*level).wrapping_mul(*weight));
            }
        }
        for (level, sum) in into[x * CHANNELS..].iter_mut().zip(sums) {
            *level = (sum >> PRECISION_BITS).clamp(0, 255) as u8;
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::super::taps::GROUP;
    use super::{HALF, LOW_BITS, PRECISION_BITS, Simd, Taps};

    /// How many rows one call takes; `None` without vectors.
    pub(super) fn rows_at_once(simd: Simd) -> Option<usize> {
        match simd {
            Simd::Plain => None,
            Simd::Avx2(_) => Some(2),
            Simd::Avx512(_) => Some(4),
        }
    }

    /// Resizes `count` rows; the last one stands in for those that a vector has room for and that are not there.
    #[expect(clippy::too_many_arguments, reason = "a leaf that the loop above calls with what it has")]
    pub(super) fn rows(
        simd: Simd,
        rows: &[u8],
        source_stride: usize,
        count: usize,
        taps: &Taps,
        left: usize,
        pairs: &[[i32; 4]],
        into: &mut [u8],
        stride: usize,
    ) {
        let from = |row: usize| &rows[row.min(count - 1) * source_stride..];
        match simd {
            Simd::Plain => {}
            // SAFETY: SIMD-1, the processor has AVX2.
            Simd::Avx2(_) => unsafe { rows_avx2([from(0), from(1)], count, taps, left, pairs, into, stride) },
            // SAFETY: SIMD-1, the processor has these parts of AVX-512.
            Simd::Avx512(_) => unsafe {
                rows_avx512([from(0), from(1), from(2), from(3)], count, taps, left, pairs, into, stride);
            },
        }
    }

    /// Pixels 0 and 1, and 2 and 3, of sixteen bytes as pairs of 16 bits for each channel.
    const FIRST_PAIR: [i8; 16] = [0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1];
    const SECOND_PAIR: [i8; 16] = [6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1];
    /// Drops the empty fourth channel of four pixels.
    const CLOSE_UP: [i8; 16] = [0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1];

    #[inline(always)]
    fn load(row: &[u8], at: usize) -> __m128i {
        bytemuck::pod_read_unaligned(&row[at..at + 16])
    }

    #[inline(always)]
    fn store(into: &mut [u8], at: usize, four: __m128i) {
        into[at..at + 16].copy_from_slice(bytemuck::bytes_of(&four));
    }

    /// The sum of one pixel's taps in as many rows as a vector has quarters. A macro, because a function would not be inlined
    /// and a closure would keep the sums in memory.
    macro_rules! pixel {
        ($x:expr, $taps:expr, $left:expr, $pairs:expr, $levels:expr, $pick:expr, $set:ident, $add:ident, $multiply:ident,
         $shuffle:ident, $shift_left:expr, $shift_right:expr) => {{
            // The last pixel stands in for those beyond it, which the next row or nobody reads.
            let x = $x.min($taps.firsts.len() - 1);
            let (mut high, mut low) = ($set(0), $set(HALF));
            let mut at = ($taps.firsts[x] - $left) * 3;
            for weights in &$pairs[x * ($taps.stride / GROUP)..][..$taps.counts[x].div_ceil(GROUP)] {
                let levels = $levels(at);
                let (first, second) = ($shuffle(levels, $pick.0), $shuffle(levels, $pick.1));
                high = $add(high, $add($multiply(first, $set(weights[0])), $multiply(second, $set(weights[1]))));
                low = $add(low, $add($multiply(first, $set(weights[2])), $multiply(second, $set(weights[3]))));
                at += 3 * GROUP;
            }
            $shift_right($add($shift_left(high), low))
        }};
    }

    #[target_feature(enable = "avx2")]
    fn rows_avx2(
        rows: [&[u8]; 2],
        count: usize,
        taps: &Taps,
        left: usize,
        pairs: &[[i32; 4]],
        into: &mut [u8],
        stride: usize,
    ) {
        let pick = (
            _mm256_broadcastsi128_si256(bytemuck::cast(FIRST_PAIR)),
            _mm256_broadcastsi128_si256(bytemuck::cast(SECOND_PAIR)),
        );
        let close_up = _mm256_broadcastsi128_si256(bytemuck::cast(CLOSE_UP));
        // Rows of one length: what lies within one lies within both.
        let len = rows[0].len().min(rows[1].len());
        let rows = rows.map(|row| &row[..len]);
        macro_rules! pixel_at {
            ($x:expr) => {
                pixel!(
                    $x,
                    taps,
                    left,
                    pairs,
                    |at| _mm256_set_m128i(load(rows[1], at), load(rows[0], at)),
                    pick,
                    _mm256_set1_epi32,
                    _mm256_add_epi32,
                    _mm256_madd_epi16,
                    _mm256_shuffle_epi8,
                    _mm256_slli_epi32::<{ LOW_BITS as i32 }>,
                    _mm256_srai_epi32::<{ PRECISION_BITS as i32 }>
                )
            };
        }
        for x in (0..taps.firsts.len()).step_by(4) {
            let first = _mm256_packs_epi32(pixel_at!(x), pixel_at!((x + 1)));
            let second = _mm256_packs_epi32(pixel_at!((x + 2)), pixel_at!((x + 3)));
            let pixels = _mm256_shuffle_epi8(_mm256_packus_epi16(first, second), close_up);
            store(into, x * 3, _mm256_castsi256_si128(pixels));
            if count > 1 {
                store(into, stride + x * 3, _mm256_extracti128_si256::<1>(pixels));
            }
        }
    }

    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl")]
    fn rows_avx512(
        rows: [&[u8]; 4],
        count: usize,
        taps: &Taps,
        left: usize,
        pairs: &[[i32; 4]],
        into: &mut [u8],
        stride: usize,
    ) {
        let pick =
            (_mm512_broadcast_i32x4(bytemuck::cast(FIRST_PAIR)), _mm512_broadcast_i32x4(bytemuck::cast(SECOND_PAIR)));
        let close_up = _mm512_broadcast_i32x4(bytemuck::cast(CLOSE_UP));
        let len = rows.iter().fold(usize::MAX, |len, row| len.min(row.len()));
        let rows = rows.map(|row| &row[..len]);
        macro_rules! pixel_at {
            ($x:expr) => {
                pixel!(
                    $x,
                    taps,
                    left,
                    pairs,
                    |at| {
                        let levels = _mm512_castsi128_si512(load(rows[0], at));
                        let levels = _mm512_inserti32x4::<1>(levels, load(rows[1], at));
                        let levels = _mm512_inserti32x4::<2>(levels, load(rows[2], at));
                        _mm512_inserti32x4::<3>(levels, load(rows[3], at))
                    },
                    pick,
                    _mm512_set1_epi32,
                    _mm512_add_epi32,
                    _mm512_madd_epi16,
                    _mm512_shuffle_epi8,
                    _mm512_slli_epi32::<LOW_BITS>,
                    _mm512_srai_epi32::<PRECISION_BITS>
                )
            };
        }
        for x in (0..taps.firsts.len()).step_by(4) {
            let first = _mm512_packs_epi32(pixel_at!(x), pixel_at!((x + 1)));
            let second = _mm512_packs_epi32(pixel_at!((x + 2)), pixel_at!((x + 3)));
            let pixels = _mm512_shuffle_epi8(_mm512_packus_epi16(first, second), close_up);
            let ends = [
                _mm512_castsi512_si128(pixels),
                _mm512_extracti32x4_epi32::<1>(pixels),
                _mm512_extracti32x4_epi32::<2>(pixels),
                _mm512_extracti32x4_epi32::<3>(pixels),
            ];
            for (row, end) in ends.into_iter().enumerate().take(count) {
                store(into, row * stride + x * 3, end);
            }
        }
    }
}
