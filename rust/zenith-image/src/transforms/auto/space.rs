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
        let share = bin as f64 / (bins.max(2) - 1) as f64;
        match op {
            Op::ShearX | Op::ShearY => self.shear * share,
            Op::TranslateX => (self.shift_of_side * width as f64 + self.shift_pixels) * share,
            Op::TranslateY => (self.shift_of_side * height as f64 + self.shift_pixels) * share,
            Op::Rotate => self.degrees * share,
            Op::Brightness | Op::Color | Op::Contrast | Op::Sharpness => self.enhance * share,
            Op::Posterize => (8.0 - self.bits * share).round_ties_even(),
            Op::Solarize => 1.0 - share,
            Op::Identity | Op::AutoContrast | Op::Equalize | Op::Invert => 0.0,
        }
    }
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
        // torchvision computes strengths in float32 and cuts shifts off to whole pixels.
        let whole = f64::from(strength as f32).trunc();
        let center = [size.0 as f64 * 0.5, size.1 as f64 * 0.5];
        match op {
            Op::Identity => {}
            Op::ShearX => self.warp(picture, affine::shear_and_shift([degrees(strength), 0.0], [0.0; 2], [0.0; 2])),
            Op::ShearY => self.warp(picture, affine::shear_and_shift([0.0, degrees(strength)], [0.0; 2], [0.0; 2])),
            Op::TranslateX => self.warp(picture, affine::shear_and_shift([0.0; 2], [whole, 0.0], center)),
            Op::TranslateY => self.warp(picture, affine::shear_and_shift([0.0; 2], [0.0, whole], center)),
            Op::Rotate => self.warp(picture, affine::rotation(f64::from(strength as f32), size.0, size.1)),
            Op::Brightness => enhance::brightness(picture, factor(strength)),
            Op::Color => enhance::saturation(picture, factor(strength)),
            Op::Contrast => enhance::contrast(picture, factor(strength)),
            Op::Sharpness => enhance::sharpness(picture, factor(strength), self.spare),
            Op::Posterize => levels::posterize(picture, strength as u32),
            Op::Solarize => levels::solarize(picture, 255.0 * f64::from(strength as f32)),
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
    f64::from(shear as f32).atan().to_degrees()
}

fn factor(strength: f64) -> f64 {
    1.0 + f64::from(strength as f32)
}
