//! The operations, how strong each gets, and what it does; strengths as torchvision spaces them.

use super::super::arguments::Value;
use super::super::draws::Draws;
use super::super::ops::affine::{self, Sampling};
use super::super::ops::{enhance, levels};
use crate::picture::Picture;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Identity,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
    Brightness,
    Color,
    Contrast,
    Sharpness,
    Posterize,
    Solarize,
    AutoContrast,
    Equalize,
    Invert,
}

impl Op {
    /// What `RandAugment` and `TrivialAugmentWide` choose from.
    pub(super) const WITHOUT_INVERT: [Op; 14] = [
        Op::Identity,
        Op::ShearX,
        Op::ShearY,
        Op::TranslateX,
        Op::TranslateY,
        Op::Rotate,
        Op::Brightness,
        Op::Color,
        Op::Contrast,
        Op::Sharpness,
        Op::Posterize,
        Op::Solarize,
        Op::AutoContrast,
        Op::Equalize,
    ];

    /// Whether a coin decides on the direction.
    fn is_signed(self) -> bool {
        use Op::*;
        matches!(self, ShearX | ShearY | TranslateX | TranslateY | Rotate | Brightness | Color | Contrast | Sharpness)
    }
}

/// How strong the strongest is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Space {
    shear: f64,
    /// Of the side, or in pixels.
    shift_of_side: f64,
    shift_pixels: f64,
    degrees: f64,
    enhance: f64,
    bits: f64,
}

impl Space {
    /// Of AutoAugment and RandAugment.
    pub(super) const USUAL: Space =
        Space { shear: 0.3, shift_of_side: 150.0 / 331.0, shift_pixels: 0.0, degrees: 30.0, enhance: 0.9, bits: 4.0 };
    pub(super) const WIDE: Space =
        Space { shear: 0.99, shift_of_side: 0.0, shift_pixels: 32.0, degrees: 135.0, enhance: 0.99, bits: 6.0 };

    /// The strength of `bin` of `bins`.
    fn strength(&self, op: Op, bin: usize, bins: usize, (width, height): (usize, usize)) -> f64 {
        let up_to = |most: f64| spaced(0.0, most, bin, bins);
        match op {
            Op::ShearX | Op::ShearY => up_to(self.shear),
            Op::TranslateX => up_to(self.shift_of_side * width as f64 + self.shift_pixels),
            Op::TranslateY => up_to(self.shift_of_side * height as f64 + self.shift_pixels),
            Op::Rotate => up_to(self.degrees),
            Op::Brightness | Op::Color | Op::Contrast | Op::Sharpness => up_to(self.enhance),
            Op::Posterize => (8.0 - bin as f64 / ((bins.max(2) - 1) as f64 / self.bits)).round_ties_even(),
            Op::Solarize => spaced(1.0, 0.0, bin, bins),
            Op::Identity | Op::AutoContrast | Op::Equalize | Op::Invert => 0.0,
        }
    }
}

/// `torch.linspace(start, end, bins)[bin]`: in float32, from whichever end is nearer. A strength that is off by the last bit
/// moves levels that lie on an edge.
fn spaced(start: f64, end: f64, bin: usize, bins: usize) -> f64 {
    let (start, end) = (start as f32, end as f32);
    let step = f64::from((end - start) / (bins.max(2) - 1) as f32);
    let value = if bin < bins / 2 {
        f64::from(start) + step * bin as f64
    } else {
        f64::from(end) - step * (bins - 1 - bin) as f64
    };
    f64::from(value as f32)
}

/// How operations are carried out.
#[derive(Debug)]
pub(super) struct Brush<'a> {
    pub(super) space: Space,
    pub(super) sampling: Sampling,
    pub(super) fill: &'a Value,
    pub(super) spare: &'a mut Vec<u8>,
}

impl Brush<'_> {
    /// Draws the direction and does it.
    pub(super) fn apply(&mut self, op: Op, bin: usize, bins: usize, picture: &mut Picture, draws: &mut Draws) {
        let size = (picture.width, picture.height);
        let strength = self.space.strength(op, bin, bins, size);
        let strength = if op.is_signed() && draws.chance(0.5) { -strength } else { strength };
        // Shifts are cut off to whole pixels.
        let whole = strength.trunc();
        let center = [size.0 as f64 * 0.5, size.1 as f64 * 0.5];
        match op {
            Op::Identity => {}
            Op::ShearX => self.warp(picture, affine::shear_and_shift([degrees(strength), 0.0], [0.0; 2], [0.0; 2])),
            Op::ShearY => self.warp(picture, affine::shear_and_shift([0.0, degrees(strength)], [0.0; 2], [0.0; 2])),
            Op::TranslateX => self.warp(picture, affine::shear_and_shift([0.0; 2], [whole, 0.0], center)),
            Op::TranslateY => self.warp(picture, affine::shear_and_shift([0.0; 2], [0.0, whole], center)),
            Op::Rotate => self.warp(picture, affine::rotation(strength, size.0, size.1)),
            Op::Brightness => enhance::brightness(picture, 1.0 + strength),
            Op::Color => enhance::saturation(picture, 1.0 + strength),
            Op::Contrast => enhance::contrast(picture, 1.0 + strength),
            Op::Sharpness => enhance::sharpness(picture, 1.0 + strength, self.spare),
            Op::Posterize => levels::posterize(picture, strength as u32),
            Op::Solarize => levels::solarize(picture, 255.0 * strength),
            Op::AutoContrast => levels::autocontrast(picture),
            Op::Equalize => levels::equalize(picture),
            Op::Invert => levels::invert(picture),
        }
    }

    fn warp(&mut self, picture: &mut Picture, matrix: affine::Matrix) {
        affine::transform(picture, &matrix, self.sampling, self.fill, self.spare);
    }
}

fn degrees(shear: f64) -> f64 {
    shear.atan().to_degrees()
}
