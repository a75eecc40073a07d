//! `RandomErasing` (Zhong et al.: "Random Erasing Data Augmentation", 2017): of levels before `ToDtype`, of numbers behind it.

use bytemuck::bytes_of;
use half::{bf16, f16};
use serde::{Deserialize, Serialize};
use zenith_data::{DType, Error, Result};

use super::arguments::{Value, check_probability, check_range};
use super::draws::Draws;
use super::flips::half;
use super::output::Layout;
use crate::picture::Rect;

fn scale() -> [f64; 2] {
    [0.02, 0.33]
}

fn ratio() -> [f64; 2] {
    [0.3, 3.3]
}

fn zero() -> Erasure {
    Erasure::Value(Value::One(0.0))
}

/// What is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "value: a number, one for each channel or \"random\" was expected")]
pub enum Erasure {
    Value(Value),
    /// "random": standard normal, each number anew.
    Word(String),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomErasing {
    #[serde(default = "half")]
    pub p: f64,
    /// Share of the area.
    #[serde(default = "scale")]
    pub scale: [f64; 2],
    /// Height ÷ width, uniform in its logarithm.
    #[serde(default = "ratio")]
    pub ratio: [f64; 2],
    #[serde(default = "zero")]
    pub value: Erasure,
}

/// Numbers that lie in memory as a picture.
#[derive(Debug)]
pub struct Numbers<'a> {
    pub bytes: &'a mut [u8],
    pub dtype: DType,
    pub layout: Layout,
    pub width: usize,
    pub height: usize,
    pub channels: usize,
}

impl RandomErasing {
    pub fn check(&self, channels: usize) -> Result<()> {
        check_probability("RandomErasing: p", self.p)?;
        check_range("RandomErasing: scale", self.scale, [0.0, 1.0])?;
        check_range("RandomErasing: ratio", self.ratio, [1e-3, 1e3])?;
        match &self.value {
            Erasure::Value(value) => value.check_finite("RandomErasing: value", channels),
            Erasure::Word(word) if word == "random" => Ok(()),
            Erasure::Word(word) => Err(Error::invalid(format!(
                "RandomErasing: value must be a number, one for each channel or \"random\", got {word:?}"
            ))),
        }
    }

    /// Of levels only levels can be erased to.
    pub fn check_levels(&self, channels: usize) -> Result<()> {
        match &self.value {
            Erasure::Value(value) => value.check_levels("RandomErasing: value", channels),
            Erasure::Word(_) => Err(Error::invalid(
                "RandomErasing: value=\"random\" draws normal numbers, which uint8 cannot hold; put it behind ToDtype(\"float32\")",
            )),
        }
    }

    pub fn apply(&self, numbers: &mut Numbers<'_>, draws: &mut Draws) {
        if !draws.chance(self.p) {
            return;
        }
        let Some(part) = self.part((numbers.width, numbers.height), draws) else { return };
        let (size, planes) = (numbers.dtype.width(), numbers.layout == Layout::Planes);
        // In the order of torch's normal_: channel, row, column.
        for channel in 0..numbers.channels {
            for y in part.y..part.y + part.height {
                for x in part.x..part.x + part.width {
                    let value = match &self.value {
                        Erasure::Value(value) => value.of(channel),
                        Erasure::Word(_) => draws.normal(),
                    };
                    let at = if planes {
                        (channel * numbers.height + y) * numbers.width + x
                    } else {
                        (y * numbers.width + x) * numbers.channels + channel
                    };
                    write(numbers.dtype, value, &mut numbers.bytes[at * size..][..size]);
                }
            }
        }
    }

    /// Ten attempts, then nothing, as torchvision's. A part has neither all the height nor all the width.
    fn part(&self, (width, height): (usize, usize), draws: &mut Draws) -> Option<Rect> {
        let area = (width * height) as f64;
        let logs = self.ratio.map(f64::ln);
        for _ in 0..10 {
            let target = area * draws.uniform(self.scale);
            let ratio = draws.uniform(logs).exp();
            let part_height = (target * ratio).sqrt().round_ties_even() as usize;
            let part_width = (target / ratio).sqrt().round_ties_even() as usize;
            if part_height < height && part_width < width {
                let y = draws.below(height - part_height + 1);
                let x = draws.below(width - part_width + 1);
                return Some(Rect { x, y, width: part_width, height: part_height });
            }
        }
        None
    }
}

fn write(dtype: DType, value: f64, into: &mut [u8]) {
    match dtype {
        DType::F32 => into.copy_from_slice(bytes_of(&(value as f32))),
        DType::F16 => into.copy_from_slice(bytes_of(&f16::from_f32(value as f32))),
        DType::BF16 => into.copy_from_slice(bytes_of(&bf16::from_f32(value as f32))),
        _ => into.copy_from_slice(&[value as u8]),
    }
}
