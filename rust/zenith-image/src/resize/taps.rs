//! Which source pixels make one resized pixel, and with which weights: Pillow's filters and its rounding, so that results
//! are Pillow's to the last bit (Imaging's `precompute_coeffs` and `normalize_coeffs_8bpc`).

use serde::{Deserialize, Serialize};

/// Bits behind the point of a weight: what 32 bits leave beside 8 bits of pixel and 2 of overshoot.
pub(super) const PRECISION_BITS: u32 = 22;
/// Half a level, which rounds.
pub(super) const HALF: i32 = 1 << (PRECISION_BITS - 1);

/// How resized pixels are made, by torchvision's names. All but `Nearest` are antialiased, as Pillow does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    Nearest,
    Box,
    #[default]
    Bilinear,
    Hamming,
    Bicubic,
    Lanczos,
}

impl Interpolation {
    /// How far the filter reaches to each side, in pixels of the smaller picture.
    fn support(self) -> f64 {
        match self {
            Self::Nearest | Self::Box => 0.5,
            Self::Bilinear | Self::Hamming => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        let far = x.abs();
        match self {
            Self::Nearest | Self::Box => f64::from(u8::from(x > -0.5 && x <= 0.5)),
            Self::Bilinear => (1.0 - far).max(0.0),
            Self::Hamming if far == 0.0 => 1.0,
            Self::Hamming if far >= 1.0 => 0.0,
            Self::Hamming => {
                let angle = far * std::f64::consts::PI;
                // Pillow writes these two as floats.
                angle.sin() / angle * (f64::from(0.54f32) + f64::from(0.46f32) * angle.cos())
            }
            // Keys' cubic with a = -0.5.
            Self::Bicubic if far < 1.0 => (1.5 * far - 2.5) * far * far + 1.0,
            Self::Bicubic if far < 2.0 => (((far - 5.0) * far + 8.0) * far - 4.0) * -0.5,
            Self::Bicubic => 0.0,
            Self::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Self::Lanczos => 0.0,
        }
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    let angle = x * std::f64::consts::PI;
    angle.sin() / angle
}

/// One direction of a resize: `start..end` of `len` pixels becomes `out` pixels, of which a window is wanted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Axis {
    pub len: usize,
    pub start: f64,
    pub end: f64,
    pub out: usize,
    pub window_start: usize,
    pub window_len: usize,
}

impl Axis {
    /// All of `len` pixels become all of `out`.
    pub fn whole(len: usize, out: usize) -> Self {
        Self { len, start: 0.0, end: len as f64, out, window_start: 0, window_len: out }
    }

    /// Whether pixels stay what they are.
    fn is_plain(&self) -> bool {
        self.out == self.len && self.start == 0.0 && self.end == self.len as f64
    }
}

/// The weights of one axis. Kept from picture to picture; nothing is allocated once they were as large.
#[derive(Debug, Default)]
pub struct Taps {
    /// First source pixel of each wanted pixel.
    pub(super) firsts: Vec<usize>,
    pub(super) counts: Vec<usize>,
    /// `stride` weights for each wanted pixel; those beyond its count are 0.
    pub(super) weights: Vec<i32>,
    pub(super) stride: usize,
    pub(super) plain: bool,
    /// How many pixels fewer there will be.
    pub(super) shrink: f64,
    reals: Vec<f64>,
}

/// Taps come in groups of four, which is what the vector code takes at a time.
pub(super) const GROUP: usize = 4;

impl Taps {
    pub fn compute(&mut self, axis: &Axis, interpolation: Interpolation) {
        self.firsts.clear();
        self.counts.clear();
        self.weights.clear();
        self.plain = axis.is_plain();
        self.shrink = axis.end - axis.start - axis.out as f64;
        if self.plain {
            self.firsts.extend(axis.window_start..axis.window_start + axis.window_len);
            return;
        }
        match interpolation {
            Interpolation::Nearest => self.nearest(axis),
            _ => self.filtered(axis, interpolation),
        }
    }

    /// The source pixels that the window is made of: first, and one beyond the last.
    pub fn range(&self) -> (usize, usize) {
        let last = self.firsts.len().saturating_sub(1);
        let count = self.counts.get(last).copied().unwrap_or(1);
        // Both ends of the filters move on with the window.
        match (self.firsts.first(), self.firsts.get(last)) {
            (Some(first), Some(end)) => (*first, end + count),
            _ => (0, 0),
        }
    }

    /// Pillow adds up the step, with its rounding errors.
    fn nearest(&mut self, axis: &Axis) {
        let step = (axis.end - axis.start) / axis.out as f64;
        let mut place = axis.start + step * 0.5;
        self.stride = GROUP;
        for index in 0..axis.window_start + axis.window_len {
            if index >= axis.window_start {
                self.firsts.push((place.max(0.0) as usize).min(axis.len.saturating_sub(1)));
                self.counts.push(1);
                self.weights.extend([1 << PRECISION_BITS, 0, 0, 0]);
            }
            place += step;
        }
    }

    fn filtered(&mut self, axis: &Axis, interpolation: Interpolation) {
        let scale = (axis.end - axis.start) / axis.out as f64;
        let filter_scale = scale.max(1.0);
        let support = interpolation.support() * filter_scale;
        let step = 1.0 / filter_scale;
        self.stride = (support.ceil() as usize * 2 + 1).next_multiple_of(GROUP);
        self.weights.resize(self.stride * axis.window_len, 0);
        for (index, weights) in self.weights.chunks_exact_mut(self.stride).enumerate() {
            let center = axis.start + ((axis.window_start + index) as f64 + 0.5) * scale;
            let first = (center - support + 0.5).max(0.0) as usize;
            let end = ((center + support + 0.5) as usize).min(axis.len);
            // A box ends inside the picture, so that every pixel has taps; the bound is for boxes that do not.
            let first = first.min(axis.len.saturating_sub(1));
            let count = end.saturating_sub(first).clamp(1, self.stride);
            self.reals.clear();
            self.reals.extend((0..count).map(|tap| interpolation.weight(((first + tap) as f64 - center + 0.5) * step)));
            let sum: f64 = self.reals.iter().sum();
            for (weight, real) in weights.iter_mut().zip(&self.reals) {
                let real = if sum == 0.0 { *real } else { real / sum };
                let rounding = if real < 0.0 { -0.5 } else { 0.5 };
                *weight = (rounding + real * f64::from(1 << PRECISION_BITS)) as i32;
            }
            self.firsts.push(first);
            self.counts.push(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_add_up_to_one() {
        let mut taps = Taps::default();
        for interpolation in
            [Interpolation::Box, Interpolation::Bilinear, Interpolation::Bicubic, Interpolation::Lanczos]
        {
            for (len, out) in [(300, 224), (7, 50), (1000, 3), (1, 9), (5, 1)] {
                taps.compute(&Axis::whole(len, out), interpolation);
                for weights in taps.weights.chunks_exact(taps.stride) {
                    let sum: i64 = weights.iter().copied().map(i64::from).sum();
                    assert!(
                        (sum - (1 << PRECISION_BITS)).abs() <= taps.stride as i64,
                        "{interpolation:?} {len} {out} {sum}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_window_has_the_weights_of_the_whole() {
        let (mut whole, mut part) = (Taps::default(), Taps::default());
        for interpolation in [Interpolation::Nearest, Interpolation::Bilinear, Interpolation::Lanczos] {
            let axis = Axis::whole(341, 256);
            whole.compute(&axis, interpolation);
            part.compute(&Axis { window_start: 16, window_len: 224, ..axis }, interpolation);
            assert_eq!(part.firsts, whole.firsts[16..240]);
            assert_eq!(part.weights, whole.weights[16 * whole.stride..240 * whole.stride]);
            let (first, end) = part.range();
            assert!(first > 0 && end < 341);
        }
    }
}
