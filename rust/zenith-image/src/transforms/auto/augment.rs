//! Which operations are drawn, and how strong.

use serde::{Deserialize, Serialize};
use zenith_data::{Error, Result};

use super::super::arguments::Value;
use super::super::draws::Draws;
use super::super::ops::affine::Sampling;
use super::policies::{CIFAR10, IMAGENET, Part, SVHN};
use super::space::{Brush, Op, Space};
use crate::picture::Picture;

fn zero() -> Value {
    Value::One(0.0)
}

fn two() -> i64 {
    2
}

fn nine() -> i64 {
    9
}

fn thirty_one() -> i64 {
    31
}

/// The data whose policy is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    #[default]
    ImageNet,
    Cifar10,
    Svhn,
}

/// One of 25 pairs of operations that a search found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AutoAugment {
    #[serde(default)]
    pub policy: Policy,
    #[serde(default)]
    pub interpolation: Sampling,
    #[serde(default = "zero")]
    pub fill: Value,
}

impl AutoAugment {
    pub fn check(&self, channels: usize) -> Result<()> {
        self.fill.check_levels("AutoAugment: fill", channels)
    }

    pub fn apply(&self, picture: &mut Picture, draws: &mut Draws, spare: &mut Vec<u8>) {
        let policies: &[[Part; 2]] = match self.policy {
            Policy::ImageNet => &IMAGENET,
            Policy::Cifar10 => &CIFAR10,
            Policy::Svhn => &SVHN,
        };
        let mut brush = Brush { space: Space::USUAL, sampling: self.interpolation, fill: &self.fill, spare };
        for (op, probability, bin) in policies[draws.below(policies.len())] {
            if draws.chance(probability) {
                brush.apply(op, bin, 10, picture, draws);
            }
        }
    }
}

/// `num_ops` of 14 operations, each as strong as `magnitude` says (Cubuk et al.: "RandAugment", 2019).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandAugment {
    #[serde(default = "two")]
    pub num_ops: i64,
    #[serde(default = "nine")]
    pub magnitude: i64,
    #[serde(default = "thirty_one")]
    pub num_magnitude_bins: i64,
    #[serde(default)]
    pub interpolation: Sampling,
    #[serde(default = "zero")]
    pub fill: Value,
}

impl RandAugment {
    pub fn check(&self, channels: usize) -> Result<()> {
        if !(0..=100).contains(&self.num_ops) {
            return Err(Error::invalid(format!("RandAugment: num_ops must be in 0..=100, got {}", self.num_ops)));
        }
        check_bins("RandAugment", self.num_magnitude_bins)?;
        if !(0..self.num_magnitude_bins).contains(&self.magnitude) {
            return Err(Error::invalid(format!(
                "RandAugment: magnitude must be in 0..num_magnitude_bins = {}, got {}",
                self.num_magnitude_bins, self.magnitude
            )));
        }
        self.fill.check_levels("RandAugment: fill", channels)
    }

    pub fn apply(&self, picture: &mut Picture, draws: &mut Draws, spare: &mut Vec<u8>) {
        let mut brush = Brush { space: Space::USUAL, sampling: self.interpolation, fill: &self.fill, spare };
        for _ in 0..self.num_ops {
            let op = Op::WITHOUT_INVERT[draws.below(Op::WITHOUT_INVERT.len())];
            brush.apply(op, self.magnitude as usize, self.num_magnitude_bins as usize, picture, draws);
        }
    }
}

/// One of 14 operations at any strength (Müller, Hutter: "TrivialAugment", 2021).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrivialAugmentWide {
    #[serde(default = "thirty_one")]
    pub num_magnitude_bins: i64,
    #[serde(default)]
    pub interpolation: Sampling,
    #[serde(default = "zero")]
    pub fill: Value,
}

impl TrivialAugmentWide {
    pub fn check(&self, channels: usize) -> Result<()> {
        check_bins("TrivialAugmentWide", self.num_magnitude_bins)?;
        self.fill.check_levels("TrivialAugmentWide: fill", channels)
    }

    pub fn apply(&self, picture: &mut Picture, draws: &mut Draws, spare: &mut Vec<u8>) {
        let mut brush = Brush { space: Space::WIDE, sampling: self.interpolation, fill: &self.fill, spare };
        let op = Op::WITHOUT_INVERT[draws.below(Op::WITHOUT_INVERT.len())];
        let bins = self.num_magnitude_bins as usize;
        brush.apply(op, draws.below(bins), bins, picture, draws);
    }
}

fn check_bins(name: &str, bins: i64) -> Result<()> {
    if (2..=10_000).contains(&bins) {
        return Ok(());
    }
    Err(Error::invalid(format!("{name}: num_magnitude_bins must be in 2..=10000, got {bins}")))
}
