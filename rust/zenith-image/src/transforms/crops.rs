//! `CenterCrop`, `RandomCrop` and `Pad`: parts of a picture at its own size, and what lies around it.

use serde::{Deserialize, Serialize};
use zenith_data::{Error, Result};

use super::arguments::{SIDE_MAX, Size, Value};
use super::draws::Draws;
use super::view::{PaddingMode, View};
use crate::picture::Rect;

fn zero() -> Value {
    Value::One(0.0)
}

/// The middle; where the picture is smaller it is padded with 0 on both sides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CenterCrop {
    pub size: Size,
}

impl CenterCrop {
    pub fn check(&self) -> Result<()> {
        self.size.check("CenterCrop: size")
    }

    pub fn needs_padding(&self, view: &View) -> bool {
        let ((width, height), [crop_height, crop_width]) = (view.size(), self.size.pair());
        crop_height > height || crop_width > width
    }

    pub fn apply(&self, view: &mut View) {
        let [crop_height, crop_width] = self.size.pair();
        if self.needs_padding(view) {
            let (width, height) = view.size();
            let (across, down) = (crop_width.saturating_sub(width), crop_height.saturating_sub(height));
            view.pad([across / 2, down / 2, across.div_ceil(2), down.div_ceil(2)], PaddingMode::Constant, &zero());
        }
        let (width, height) = view.size();
        // Python rounds a half to the even number, and torchvision computes the place so.
        let middle = |left: usize| (left as f64 / 2.0).round_ties_even() as usize;
        let (x, y) = (middle(width - crop_width), middle(height - crop_height));
        view.crop(Rect { x, y, width: crop_width, height: crop_height });
    }
}

/// (left, top, right, bottom) from one number, (left and right, top and bottom), or all four.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "an int, a pair (left and right, top and bottom) or four (left, top, right, bottom) were expected"
)]
pub enum Padding {
    All(i64),
    Pair([i64; 2]),
    Sides([i64; 4]),
}

impl Padding {
    fn sides(self) -> [i64; 4] {
        match self {
            Self::All(all) => [all; 4],
            Self::Pair([across, down]) => [across, down, across, down],
            Self::Sides(sides) => sides,
        }
    }

    fn pixels(self) -> [usize; 4] {
        self.sides().map(|side| side as usize)
    }

    fn check(self, name: &str) -> Result<()> {
        match self.sides().into_iter().find(|side| !(0..=SIDE_MAX).contains(side)) {
            Some(side) => Err(Error::invalid(format!("{name} must be in 0..={SIDE_MAX}, got {side}"))),
            None => Ok(()),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pad {
    pub padding: Padding,
    #[serde(default = "zero")]
    pub fill: Value,
    #[serde(default)]
    pub padding_mode: PaddingMode,
}

impl Pad {
    pub fn check(&self, channels: usize) -> Result<()> {
        self.padding.check("Pad: padding")?;
        self.fill.check_levels("Pad: fill", channels)
    }

    pub fn size_of(&self, [height, width]: [usize; 2]) -> [usize; 2] {
        let [left, top, right, bottom] = self.padding.pixels();
        [height + top + bottom, width + left + right]
    }

    pub fn apply(&self, view: &mut View) {
        view.pad(self.padding.pixels(), self.padding_mode, &self.fill);
    }
}

/// A part of the given size at a random place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomCrop {
    pub size: Size,
    #[serde(default)]
    pub padding: Option<Padding>,
    #[serde(default)]
    pub pad_if_needed: bool,
    #[serde(default = "zero")]
    pub fill: Value,
    #[serde(default)]
    pub padding_mode: PaddingMode,
}

impl RandomCrop {
    pub fn check(&self, channels: usize) -> Result<()> {
        self.size.check("RandomCrop: size")?;
        if let Some(padding) = self.padding {
            padding.check("RandomCrop: padding")?;
        }
        self.fill.check_levels("RandomCrop: fill", channels)
    }

    /// Left, top, right, bottom: what is given, and on both sides what is missing, as torchvision does it.
    fn sides(&self, (width, height): (usize, usize)) -> [usize; 4] {
        let [crop_height, crop_width] = self.size.pair();
        let [mut left, mut top, mut right, mut bottom] = self.padding.map_or([0; 4], Padding::pixels);
        if self.pad_if_needed {
            let down = crop_height.saturating_sub(height + top + bottom);
            (top, bottom) = (top + down, bottom + down);
            let across = crop_width.saturating_sub(width + left + right);
            (left, right) = (left + across, right + across);
        }
        [left, top, right, bottom]
    }

    pub fn needs_padding(&self, view: &View) -> bool {
        self.sides(view.size()) != [0; 4]
    }

    pub fn apply(&self, view: &mut View, draws: &mut Draws) -> Result<()> {
        view.pad(self.sides(view.size()), self.padding_mode, &self.fill);
        let ((width, height), [crop_height, crop_width]) = (view.size(), self.size.pair());
        if crop_height > height || crop_width > width {
            return Err(Error::invalid(format!(
                "RandomCrop: size ({crop_height}, {crop_width}) is larger than the picture with its padding, {height} × {width} \
                 (height × width); set pad_if_needed=True or put a Resize before it"
            )));
        }
        let y = draws.below(height - crop_height + 1);
        let x = draws.below(width - crop_width + 1);
        view.crop(Rect { x, y, width: crop_width, height: crop_height });
        Ok(())
    }
}
