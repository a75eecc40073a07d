//! Inverse transforms, bit for bit those of libjpeg-turbo: its accurate integer transform of 8 × 8 samples ("islow") and
//! its reduced ones of 4 × 4, 2 × 2 and 1 sample.
//!
//! Products wrap to 16 bits and the middle result saturates, which no sound picture notices; with these two a damaged one
//! looks the same whether vectors of 16-bit numbers computed it or this file.

use super::block::Block;

/// Dequantisation factors as the transforms multiply by them.
pub(super) type Factors = [i16; 64];

const CONST_BITS: u32 = 13;
const PASS1_BITS: u32 = 2;

/// Constants of the transform, times 2^13.
pub(super) mod constant {
    pub(in super::super) const C0_298: i32 = 2446;
    pub(in super::super) const C0_390: i32 = 3196;
    pub(in super::super) const C0_541: i32 = 4433;
    pub(in super::super) const C0_765: i32 = 6270;
    pub(in super::super) const C0_899: i32 = 7373;
    pub(in super::super) const C1_175: i32 = 9633;
    pub(in super::super) const C1_501: i32 = 12299;
    pub(in super::super) const C1_847: i32 = 15137;
    pub(in super::super) const C1_961: i32 = 16069;
    pub(in super::super) const C2_053: i32 = 16819;
    pub(in super::super) const C2_562: i32 = 20995;
    pub(in super::super) const C3_072: i32 = 25172;
    pub(in super::super) const C0_211: i32 = 1730;
    pub(in super::super) const C0_509: i32 = 4176;
    pub(in super::super) const C0_601: i32 = 4926;
    pub(in super::super) const C0_720: i32 = 5906;
    pub(in super::super) const C0_850: i32 = 6967;
    pub(in super::super) const C1_061: i32 = 8697;
    pub(in super::super) const C1_272: i32 = 10426;
    pub(in super::super) const C1_451: i32 = 11893;
    pub(in super::super) const C2_172: i32 = 17799;
    pub(in super::super) const C3_624: i32 = 29692;
}
use constant::*;

/// Samples of a block whose only coefficient is the first: all alike.
#[inline(always)]
pub(super) fn flat(coefficient: i16, factor: i16) -> u8 {
    let value = i32::from(coefficient.wrapping_mul(factor));
    to_sample((value + 4) >> 3)
}

/// The 8 × 8 samples of a block.
#[inline(always)]
pub(super) fn full(block: &Block, factors: &Factors, out: &mut [u8], stride: usize) {
    let mut middle = [0i16; 64];
    for column in 0..8 {
        let input = std::array::from_fn(|row| block[8 * row + column].wrapping_mul(factors[8 * row + column]));
        for (row, value) in pass(input, CONST_BITS - PASS1_BITS).into_iter().enumerate() {
            middle[8 * row + column] = value.clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16;
        }
    }
    for (row, input) in middle.as_chunks::<8>().0.iter().enumerate() {
        let samples = pass(*input, CONST_BITS + PASS1_BITS + 3).map(to_sample);
        out[row * stride..][..8].copy_from_slice(&samples);
    }
}

#[inline(always)]
fn pass(x: [i16; 8], shift: u32) -> [i32; 8] {
    let wide = i32::from;
    let (z2, z3) = (wide(x[2]), wide(x[6]));
    let even2 = (z2 * C0_541).wrapping_add(z3 * (C0_541 - C1_847));
    let even3 = (z2 * (C0_541 + C0_765)).wrapping_add(z3 * C0_541);
    let even0 = wide(x[0].wrapping_add(x[4])) << CONST_BITS;
    let even1 = wide(x[0].wrapping_sub(x[4])) << CONST_BITS;
    let even =
        [even0.wrapping_add(even3), even1.wrapping_add(even2), even1.wrapping_sub(even2), even0.wrapping_sub(even3)];

    let (t0, t1, t2, t3) = (wide(x[7]), wide(x[5]), wide(x[3]), wide(x[1]));
    let (z3, z4) = (wide(x[7].wrapping_add(x[3])), wide(x[5].wrapping_add(x[1])));
    let sum3 = (z3 * (C1_175 - C1_961)).wrapping_add(z4 * C1_175);
    let sum4 = (z3 * C1_175).wrapping_add(z4 * (C1_175 - C0_390));
    let odd = [
        (t0 * -C0_899).wrapping_add(t3 * (C1_501 - C0_899)).wrapping_add(sum4),
        (t1 * -C2_562).wrapping_add(t2 * (C3_072 - C2_562)).wrapping_add(sum3),
        (t1 * (C2_053 - C2_562)).wrapping_add(t2 * -C2_562).wrapping_add(sum4),
        (t0 * (C0_298 - C0_899)).wrapping_add(t3 * -C0_899).wrapping_add(sum3),
    ];
    let round = 1 << (shift - 1);
    let mut out = [0; 8];
    for place in 0..4 {
        let even = even[place].wrapping_add(round);
        out[place] = even.wrapping_add(odd[place]) >> shift;
        out[7 - place] = even.wrapping_sub(odd[place]) >> shift;
    }
    out
}

/// The samples of a block at a quarter, a sixteenth or a sixty-fourth of its area; `size` is 4, 2 or 1.
pub(super) fn reduced(block: &Block, factors: &Factors, size: usize, out: &mut [u8], stride: usize) {
    match size {
        4 => reduce_with(block, factors, quarter, out, stride),
        2 => reduce_with(block, factors, sixteenth, out, stride),
        _ => out[0] = flat(block[0], factors[0]),
    }
}

fn reduce_with<const N: usize>(
    block: &Block,
    factors: &Factors,
    pass: fn([i32; 8], u32) -> [i32; N],
    out: &mut [u8],
    stride: usize,
) {
    let mut middle = [[0i32; 8]; N];
    for column in 0..8 {
        let input =
            std::array::from_fn(|row| i32::from(block[8 * row + column]) * i32::from(factors[8 * row + column]));
        for (row, value) in pass(input, CONST_BITS - PASS1_BITS).into_iter().enumerate() {
            middle[row][column] = value;
        }
    }
    for (row, input) in middle.into_iter().enumerate() {
        let samples = pass(input, CONST_BITS + PASS1_BITS + 3).map(to_sample);
        out[row * stride..][..N].copy_from_slice(&samples);
    }
}

fn quarter(x: [i32; 8], shift: u32) -> [i32; 4] {
    let times = |place: usize, factor: i32| x[place].wrapping_mul(factor);
    let sum = |terms: [i32; 4]| terms.into_iter().fold(0, i32::wrapping_add);
    let even = times(0, 1 << (CONST_BITS + 1));
    let even2 = times(2, C1_847).wrapping_add(times(6, -C0_765));
    let odd0 = sum([times(7, -C0_211), times(5, C1_451), times(3, -C2_172), times(1, C1_061)]);
    let odd2 = sum([times(7, -C0_509), times(5, -C0_601), times(3, C0_899), times(1, C2_562)]);
    let (first, second) = (even.wrapping_add(even2), even.wrapping_sub(even2));
    [first.wrapping_add(odd2), second.wrapping_add(odd0), second.wrapping_sub(odd0), first.wrapping_sub(odd2)]
        .map(|value| descale(value, shift + 1))
}

fn sixteenth(x: [i32; 8], shift: u32) -> [i32; 2] {
    let times = |place: usize, factor: i32| x[place].wrapping_mul(factor);
    let even = times(0, 1 << (CONST_BITS + 2));
    let odd = [times(7, -C0_720), times(5, C0_850), times(3, -C1_272), times(1, C3_624)];
    let odd = odd.into_iter().fold(0, i32::wrapping_add);
    [even.wrapping_add(odd), even.wrapping_sub(odd)].map(|value| descale(value, shift + 2))
}

fn descale(value: i32, shift: u32) -> i32 {
    value.wrapping_add(1 << (shift - 1)) >> shift
}

#[inline(always)]
fn to_sample(value: i32) -> u8 {
    (value + 128).clamp(0, 255) as u8
}
