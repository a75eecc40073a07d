//! Kernels for x86 processors with AVX2 (Intel since 2013, AMD since 2015).
//!
//! SIMD-1: a value of `Avx2` exists only where the processor was found to have the instructions that the functions of this
//! module are compiled for.
#![expect(unsafe_code, reason = "functions compiled for AVX2 may only be called where it was detected")]

use std::arch::x86_64::*;

use super::block::Block;
use super::idct::Factors;
use super::idct::constant::*;
use super::kernels::{Kernels, Work};
use super::sink::Target;

#[derive(Debug, Clone, Copy)]
pub(super) struct Avx2(());

impl Avx2 {
    pub(super) fn detect() -> Option<Self> {
        let found = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("lzcnt");
        found.then_some(Self(()))
    }
}

impl Kernels for Avx2 {
    #[inline(always)]
    fn enter<W: Work>(self, work: W) -> W::Output {
        // SAFETY: SIMD-1, `self` exists.
        unsafe { enter(self, work) }
    }

    #[inline(always)]
    fn transform_pair(self, blocks: &[Block; 2], factors: [&Factors; 2], samples: &mut [u8], targets: [Target; 2]) {
        // SAFETY: SIMD-1, `self` exists.
        unsafe { transform_pair(blocks, factors, samples, targets) }
    }

    #[inline(always)]
    fn sixteenth(self, block: &Block, factors: &Factors) -> [[u8; 2]; 2] {
        // SAFETY: SIMD-1, `self` exists.
        unsafe { sixteenth(block, factors) }
    }

    #[inline(always)]
    fn ycc_to_rgb(self, y: &[u8], cb: &[u8], cr: &[u8], out: &mut [u8]) {
        // SAFETY: SIMD-1, `self` exists.
        unsafe { ycc_to_rgb(y, cb, cr, out) }
    }
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
fn enter<W: Work>(kernels: Avx2, work: W) -> W::Output {
    work.run(kernels)
}

/// One block in the lower half of each vector and one in the upper, of which each half holds a row.
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
fn transform_pair(blocks: &[Block; 2], factors: [&Factors; 2], samples: &mut [u8], targets: [Target; 2]) {
    let both = |first: &[i16; 64], second: &[i16; 64], row: usize| {
        let load = |from: &[i16; 64]| bytemuck::cast::<[i16; 8], __m128i>(from.as_chunks::<8>().0[row]);
        _mm256_set_m128i(load(second), load(first))
    };
    let mut rows = [_mm256_setzero_si256(); 8];
    for (row, value) in rows.iter_mut().enumerate() {
        *value = _mm256_mullo_epi16(both(&blocks[0], &blocks[1], row), both(factors[0], factors[1], row));
    }
    let columns = transpose(pass::<11>(rows));
    let bytes = to_rows(pass::<18>(columns));
    let [first, second] = targets;
    for (half, target) in [first, second].into_iter().enumerate() {
        let area = &mut samples[target.at..][..7 * target.stride + 8];
        for (pair, rows) in bytes.iter().enumerate() {
            let half = if half == 0 { _mm256_castsi256_si128(*rows) } else { _mm256_extracti128_si256::<1>(*rows) };
            let (upper, lower) = area[2 * pair * target.stride..].split_at_mut(target.stride);
            upper[..8].copy_from_slice(&_mm_cvtsi128_si64(half).to_le_bytes());
            lower[..8].copy_from_slice(&_mm_extract_epi64::<1>(half).to_le_bytes());
        }
    }
}

/// The reduced transform of `idct`, whose sums wrap as these do: all columns at once, then both rows.
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
fn sixteenth(block: &Block, factors: &Factors) -> [[u8; 2]; 2] {
    let times = |x: __m256i, factor: i32| _mm256_mullo_epi32(x, _mm256_set1_epi32(factor));
    let add = |a: __m256i, b: __m256i| _mm256_add_epi32(a, b);
    let row = |row: usize| {
        let load =
            |from: &[i16; 64]| _mm256_cvtepi16_epi32(bytemuck::cast::<[i16; 8], __m128i>(from.as_chunks::<8>().0[row]));
        _mm256_mullo_epi32(load(block), load(factors))
    };
    let odd =
        add(add(times(row(7), -C0_720), times(row(5), C0_850)), add(times(row(3), -C1_272), times(row(1), C3_624)));
    let even = add(_mm256_slli_epi32::<15>(row(0)), _mm256_set1_epi32(1 << 12));
    let descale = |x: __m256i| _mm256_srai_epi32::<13>(x);
    let (upper, lower) = (descale(add(even, odd)), descale(_mm256_sub_epi32(even, odd)));
    let weights = _mm256_setr_epi32(0, C3_624, 0, -C1_272, 0, C0_850, 0, -C0_720);
    let pairs = _mm256_hadd_epi32(_mm256_mullo_epi32(upper, weights), _mm256_mullo_epi32(lower, weights));
    let fours = _mm256_hadd_epi32(pairs, pairs);
    let odd = _mm_add_epi32(_mm256_castsi256_si128(fours), _mm256_extracti128_si256::<1>(fours));
    let samples = |first: __m256i, odd: i32| {
        let even = (_mm256_cvtsi256_si32(first) << 15).wrapping_add(1 << 19);
        [even.wrapping_add(odd), even.wrapping_sub(odd)].map(|value| ((value >> 20) + 128).clamp(0, 255) as u8)
    };
    [samples(upper, _mm_cvtsi128_si32(odd)), samples(lower, _mm_extract_epi32::<1>(odd))]
}

/// One dimension of the transform, for each of 16 columns of 16-bit numbers.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
fn pass<const SHIFT: i32>(x: [__m256i; 8]) -> [__m256i; 8] {
    let pair = |first: i32, second: i32| _mm256_set1_epi32((first & 0xFFFF) | second << 16);
    // Two products and their sum, for the lower and the upper four columns of each half.
    let split = |a: __m256i, b: __m256i| [_mm256_unpacklo_epi16(a, b), _mm256_unpackhi_epi16(a, b)];
    let dot = |x: [__m256i; 2], factors: __m256i| [_mm256_madd_epi16(x[0], factors), _mm256_madd_epi16(x[1], factors)];
    let add = |a: [__m256i; 2], b: [__m256i; 2]| [_mm256_add_epi32(a[0], b[0]), _mm256_add_epi32(a[1], b[1])];
    let sub = |a: [__m256i; 2], b: [__m256i; 2]| [_mm256_sub_epi32(a[0], b[0]), _mm256_sub_epi32(a[1], b[1])];

    let z = split(x[2], x[6]);
    let even2 = dot(z, pair(C0_541, C0_541 - C1_847));
    let even3 = dot(z, pair(C0_541 + C0_765, C0_541));
    let round = _mm256_set1_epi32(1 << (SHIFT - 1));
    // Times 2^13, from the upper half of a 32-bit number; the rounding of the end is added here once.
    let widen =
        |x: __m256i| split(_mm256_setzero_si256(), x).map(|x| _mm256_add_epi32(_mm256_srai_epi32::<3>(x), round));
    let even0 = widen(_mm256_add_epi16(x[0], x[4]));
    let even1 = widen(_mm256_sub_epi16(x[0], x[4]));
    let even = [add(even0, even3), add(even1, even2), sub(even1, even2), sub(even0, even3)];

    let z = split(_mm256_add_epi16(x[7], x[3]), _mm256_add_epi16(x[5], x[1]));
    let sum3 = dot(z, pair(C1_175 - C1_961, C1_175));
    let sum4 = dot(z, pair(C1_175, C1_175 - C0_390));
    let outer = split(x[7], x[1]);
    let inner = split(x[5], x[3]);
    let odd = [
        add(dot(outer, pair(-C0_899, C1_501 - C0_899)), sum4),
        add(dot(inner, pair(-C2_562, C3_072 - C2_562)), sum3),
        add(dot(inner, pair(C2_053 - C2_562, -C2_562)), sum4),
        add(dot(outer, pair(C0_298 - C0_899, -C0_899)), sum3),
    ];
    let narrow =
        |x: [__m256i; 2]| _mm256_packs_epi32(_mm256_srai_epi32::<SHIFT>(x[0]), _mm256_srai_epi32::<SHIFT>(x[1]));
    [
        narrow(add(even[0], odd[0])),
        narrow(add(even[1], odd[1])),
        narrow(add(even[2], odd[2])),
        narrow(add(even[3], odd[3])),
        narrow(sub(even[3], odd[3])),
        narrow(sub(even[2], odd[2])),
        narrow(sub(even[1], odd[1])),
        narrow(sub(even[0], odd[0])),
    ]
}

/// Exchanges rows and columns, in each half.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
fn transpose(x: [__m256i; 8]) -> [__m256i; 8] {
    let one = |a: __m256i, b: __m256i| [_mm256_unpacklo_epi16(a, b), _mm256_unpackhi_epi16(a, b)];
    let two = |a: __m256i, b: __m256i| [_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b)];
    let four = |a: __m256i, b: __m256i| [_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b)];
    let ([a0, a1], [b0, b1]) = (one(x[0], x[1]), one(x[2], x[3]));
    let ([c0, c1], [d0, d1]) = (one(x[4], x[5]), one(x[6], x[7]));
    let ([e0, e1], [e2, e3]) = (two(a0, b0), two(a1, b1));
    let ([f0, f1], [f2, f3]) = (two(c0, d0), two(c1, d1));
    let ([g0, g1], [g2, g3]) = (four(e0, f0), four(e1, f1));
    let ([g4, g5], [g6, g7]) = (four(e2, f2), four(e3, f3));
    [g0, g1, g2, g3, g4, g5, g6, g7]
}

/// From columns of 16-bit numbers to rows of samples: two rows in each half of each vector.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
fn to_rows(x: [__m256i; 8]) -> [__m256i; 4] {
    let shift_up = _mm256_set1_epi8(-128);
    let pack = |a: __m256i, b: __m256i| _mm256_xor_si256(_mm256_packs_epi16(a, b), shift_up);
    let (even, odd) = ([pack(x[0], x[2]), pack(x[4], x[6])], [pack(x[1], x[3]), pack(x[5], x[7])]);
    let quarter = |even: __m256i, odd: __m256i| {
        let (low, high) = (_mm256_unpacklo_epi8(even, odd), _mm256_unpackhi_epi8(even, odd));
        [_mm256_unpacklo_epi16(low, high), _mm256_unpackhi_epi16(low, high)]
    };
    let (left, right) = (quarter(even[0], odd[0]), quarter(even[1], odd[1]));
    [
        _mm256_unpacklo_epi32(left[0], right[0]),
        _mm256_unpackhi_epi32(left[0], right[0]),
        _mm256_unpacklo_epi32(left[1], right[1]),
        _mm256_unpackhi_epi32(left[1], right[1]),
    ]
}

/// 32 pixels at a time; what is left at the end goes through a vector's worth of room.
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
fn ycc_to_rgb(y: &[u8], cb: &[u8], cr: &[u8], out: &mut [u8]) {
    let (y, y_rest) = y.as_chunks::<32>();
    let (cb, cb_rest) = cb.as_chunks::<32>();
    let (cr, cr_rest) = cr.as_chunks::<32>();
    let (out, out_rest) = out.as_chunks_mut::<96>();
    for (((out, y), cb), cr) in out.iter_mut().zip(y).zip(cb).zip(cr) {
        *out = rgb_of_32([y, cb, cr]);
    }
    let mut last = [[0; 32]; 3];
    for (room, rest) in last.iter_mut().zip([y_rest, cb_rest, cr_rest]) {
        room[..rest.len()].copy_from_slice(rest);
    }
    out_rest.copy_from_slice(&rgb_of_32(last.each_ref())[..out_rest.len()]);
}

#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
fn rgb_of_32(samples: [&[u8; 32]; 3]) -> [u8; 96] {
    let [y, cb, cr] = samples.map(|samples| bytemuck::cast::<[u8; 32], __m256i>(*samples));
    let zero = _mm256_setzero_si256();
    let centre = _mm256_set1_epi16(128);
    let low = |x: __m256i| _mm256_unpacklo_epi8(x, zero);
    let high = |x: __m256i| _mm256_unpackhi_epi8(x, zero);
    let [r0, g0, b0] = rgb_of_16(low(y), _mm256_sub_epi16(low(cb), centre), _mm256_sub_epi16(low(cr), centre));
    let [r1, g1, b1] = rgb_of_16(high(y), _mm256_sub_epi16(high(cb), centre), _mm256_sub_epi16(high(cr), centre));
    interleave([_mm256_packus_epi16(r0, r1), _mm256_packus_epi16(g0, g1), _mm256_packus_epi16(b0, b1)])
}

/// The factors have more than 15 bits: whole multiples are split off, and what is left is multiplied, as a fraction of
/// 2^16. `(mulhi(2x, f) + 1) >> 1` is `(x * f + 2^15) >> 16`.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
fn rgb_of_16(y: __m256i, cb: __m256i, cr: __m256i) -> [__m256i; 3] {
    let rounded = |x: __m256i, factor: i16| {
        let product = _mm256_mulhi_epi16(_mm256_add_epi16(x, x), _mm256_set1_epi16(factor));
        _mm256_srai_epi16::<1>(_mm256_add_epi16(product, _mm256_set1_epi16(1)))
    };
    // 91,881 = 2^16 + 26,345 and 116,130 = 2 × 2^16 − 14,942.
    let red = _mm256_add_epi16(cr, rounded(cr, 26_345));
    let blue = _mm256_add_epi16(_mm256_add_epi16(cb, cb), rounded(cb, -14_942));
    // −46,802 = −2^16 + 18,734.
    let factors = _mm256_set1_epi32((-22_554 & 0xFFFF) | 18_734 << 16);
    let green = |pairs: __m256i| {
        let sum = _mm256_add_epi32(_mm256_madd_epi16(pairs, factors), _mm256_set1_epi32(1 << 15));
        _mm256_srai_epi32::<16>(sum)
    };
    let green = _mm256_packs_epi32(green(_mm256_unpacklo_epi16(cb, cr)), green(_mm256_unpackhi_epi16(cb, cr)));
    let green = _mm256_sub_epi16(green, cr);
    [red, green, blue].map(|colour| _mm256_add_epi16(y, colour))
}

/// Each half of the vectors holds 16 pixels of a colour; out come the bytes of 32 pixels.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
fn interleave(colours: [__m256i; 3]) -> [u8; 96] {
    // For each 16 of the 48 bytes of 16 pixels, where each colour's go.
    const PLACES: [[[i8; 16]; 3]; 3] = {
        let mut places = [[[-1; 16]; 3]; 3];
        let mut byte = 0;
        while byte < 48 {
            places[byte / 16][byte % 3][byte % 16] = (byte / 3) as i8;
            byte += 1;
        }
        places
    };
    let third = |part: usize| {
        let place = |colour: usize| {
            let places = bytemuck::cast::<[i8; 16], __m128i>(PLACES[part][colour]);
            _mm256_shuffle_epi8(colours[colour], _mm256_broadcastsi128_si256(places))
        };
        _mm256_or_si256(_mm256_or_si256(place(0), place(1)), place(2))
    };
    let (first, second, third) = (third(0), third(1), third(2));
    bytemuck::cast([
        _mm256_permute2x128_si256::<0x20>(first, second),
        _mm256_permute2x128_si256::<0x30>(third, first),
        _mm256_permute2x128_si256::<0x31>(second, third),
    ])
}
