//! `ToDtype` and `Normalize`: from levels to numbers. A picture of 8 bits has 256 levels, so that what becomes of each is
//! computed once, in torch's own order of roundings, and looked up for every pixel.

use half::{bf16, f16};
use serde::{Deserialize, Serialize};
use zenith_data::{DType, Error, Result};

use super::arguments::Value;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToDtype {
    pub dtype: String,
    /// From 0..=255 to 0..=1.
    #[serde(default)]
    pub scale: bool,
}

impl ToDtype {
    pub fn dtype(&self) -> Result<DType> {
        match DType::parse(&self.dtype) {
            Some(dtype @ (DType::U8 | DType::F32 | DType::F16 | DType::BF16)) => Ok(dtype),
            _ => Err(Error::invalid(format!(
                "ToDtype: dtype must be \"uint8\", \"float32\", \"float16\" or \"bfloat16\", got {:?}",
                self.dtype
            ))),
        }
    }
}

/// (value − mean) ÷ std, by channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalize {
    pub mean: Value,
    pub std: Value,
}

impl Normalize {
    pub fn check(&self, channels: usize) -> Result<()> {
        self.mean.check_finite("Normalize: mean", channels)?;
        self.std.check_finite("Normalize: std", channels)?;
        if (0..channels).any(|channel| self.std.of(channel) == 0.0) {
            return Err(Error::invalid("Normalize: std must not be 0"));
        }
        Ok(())
    }
}

/// What the levels of each channel become: the transforms of numbers, put together.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Numbers {
    pub dtype: DType,
    /// 256 values for each channel.
    values: Vec<f32>,
}

impl Numbers {
    pub(super) fn new(channels: usize) -> Self {
        let values = (0..channels).flat_map(|_| (0..=255).map(|level: u8| f32::from(level))).collect();
        Self { dtype: DType::U8, values }
    }

    pub(super) fn convert(&mut self, to: &ToDtype) -> Result<()> {
        let dtype = to.dtype()?;
        if dtype == DType::U8 && self.dtype != DType::U8 {
            return Err(Error::invalid(format!(
                "ToDtype: {} values cannot become uint8 again; leave out the conversion before it",
                self.dtype.name()
            )));
        }
        let from = std::mem::replace(&mut self.dtype, dtype);
        let scale = to.scale && from == DType::U8 && dtype != DType::U8;
        for value in &mut self.values {
            *value = rounded(dtype, *value);
            if scale {
                // torch multiplies by the reciprocal, in float32, also for the shorter types.
                *value = rounded(dtype, *value * (1.0f64 / 255.0) as f32);
            }
        }
        Ok(())
    }

    pub(super) fn normalize(&mut self, by: &Normalize) -> Result<()> {
        if self.dtype == DType::U8 {
            return Err(Error::invalid("Normalize works on floats; put ToDtype(\"float32\", scale=True) before it"));
        }
        for (channel, values) in self.values.chunks_exact_mut(256).enumerate() {
            let mean = rounded(self.dtype, by.mean.of(channel) as f32);
            let std = rounded(self.dtype, by.std.of(channel) as f32);
            for value in values {
                *value = rounded(self.dtype, rounded(self.dtype, *value - mean) / std);
            }
        }
        Ok(())
    }

    /// The values as they are stored.
    pub(super) fn table(&self) -> Table {
        match self.dtype {
            DType::F32 => Table::Wide(self.values.iter().map(|value| value.to_bits()).collect()),
            DType::F16 => Table::Short(self.values.iter().map(|value| f16::from_f32(*value).to_bits()).collect()),
            DType::BF16 => Table::Short(self.values.iter().map(|value| bf16::from_f32(*value).to_bits()).collect()),
            _ => Table::Levels,
        }
    }
}

/// As the type stores it.
pub(super) fn rounded(dtype: DType, value: f32) -> f32 {
    match dtype {
        DType::F16 => f16::from_f32(value).to_f32(),
        DType::BF16 => bf16::from_f32(value).to_f32(),
        _ => value,
    }
}

/// The bits of what each level becomes, 256 for each channel.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Table {
    /// Levels stay levels.
    Levels,
    Short(Vec<u16>),
    Wide(Vec<u32>),
}
