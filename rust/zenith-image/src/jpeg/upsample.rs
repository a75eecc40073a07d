//! From samples to as many as there are pixels, as libjpeg-turbo does it ("fancy" upsampling: triangle filters whose halves
//! are rounded up and down by turns).
//!
//! The loops are written so that the compiler makes vectors of them: two samples that come to lie side by side are
//! computed in one 16-bit number.

/// Twice as wide: each sample gives two, three quarters its own and one quarter its neighbour's.
#[inline(always)]
pub(super) fn wide(samples: &[u8], out: &mut [u8]) {
    let last = samples.len() - 1;
    let pair = |first: u16, second: u16| (first | second << 8).to_le_bytes();
    let (pairs, _) = out[..2 * samples.len()].as_chunks_mut::<2>();
    let (own, next) = (u16::from(samples[0]), u16::from(samples[1]));
    pairs[0] = pair(own, (3 * own + next + 2) >> 2);
    let neighbours = samples.iter().zip(&samples[1..]).zip(&samples[2..]);
    for (pixels, ((&before, &own), &next)) in pairs[1..last].iter_mut().zip(neighbours) {
        let (before, own, next) = (u16::from(before), 3 * u16::from(own), u16::from(next));
        *pixels = pair((own + before + 1) >> 2, (own + next + 2) >> 2);
    }
    let (own, before) = (u16::from(samples[last]), u16::from(samples[last - 1]));
    pairs[last] = pair((3 * own + before + 1) >> 2, own);
}

/// A row between two rows of samples, nearer to `near`. `upper` tells of a row that lies above the centre of `near`.
#[inline(always)]
pub(super) fn high(near: &[u8], far: &[u8], upper: bool, out: &mut [u8]) {
    let bias = if upper { 1 } else { 2 };
    for ((out, &near), &far) in out.iter_mut().zip(near).zip(far) {
        *out = ((3 * u16::from(near) + u16::from(far) + bias) >> 2) as u8;
    }
}

/// Both at once, with one rounding. `sums` is room for as many numbers as there are samples.
#[inline(always)]
pub(super) fn both(near: &[u8], far: &[u8], sums: &mut [u16], out: &mut [u8]) {
    let sums = &mut sums[..near.len()];
    for ((sum, &near), &far) in sums.iter_mut().zip(near).zip(far) {
        *sum = 3 * u16::from(near) + u16::from(far);
    }
    let last = sums.len() - 1;
    let pair = |first: u16, second: u16| (first | second << 8).to_le_bytes();
    let (pairs, _) = out[..2 * sums.len()].as_chunks_mut::<2>();
    pairs[0] = pair((4 * sums[0] + 8) >> 4, (3 * sums[0] + sums[1] + 7) >> 4);
    let neighbours = sums.iter().zip(&sums[1..]).zip(&sums[2..]);
    for (pixels, ((&before, &own), &next)) in pairs[1..last].iter_mut().zip(neighbours) {
        *pixels = pair((3 * own + before + 8) >> 4, (3 * own + next + 7) >> 4);
    }
    pairs[last] = pair((3 * sums[last] + sums[last - 1] + 8) >> 4, (4 * sums[last] + 7) >> 4);
}

/// Each sample as often as pixels lie under it.
pub(super) fn replicate(samples: &[u8], wide: usize, out: &mut [u8]) {
    for (out, &sample) in out.chunks_exact_mut(wide).zip(samples) {
        out.fill(sample);
    }
}
