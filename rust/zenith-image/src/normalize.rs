//! Whole batches of pictures from levels to numbers: `(level * scale - mean) / std` by channel, in one pass, as a compiler's
//! custom call asks for it. What each of the 256 levels becomes is computed once and looked up, as in the transforms.

use half::{bf16, f16};
use zenith_data::{DType, Error, Result};

use crate::transforms::Layout;
use crate::transforms::output::{Output, Table};

/// What becomes of the levels of a batch of pictures that lie as [pictures, height, width, channels].
#[derive(Debug, Clone, PartialEq)]
pub struct Normalization {
    table: Table,
    layout: Layout,
    channels: usize,
    width: usize,
}

impl Normalization {
    /// `mean` and `std` have one value for each channel. Computed in float32, in this order of roundings, and rounded to
    /// `dtype` (float32, float16 or bfloat16) at the end.
    pub fn new(mean: &[f32], std: &[f32], scale: f32, dtype: DType, layout: Layout) -> Result<Self> {
        if mean.is_empty() || mean.len() != std.len() {
            let (means, stds) = (mean.len(), std.len());
            let message = format!("normalize: mean and std need a value for each channel, got {means} and {stds}");
            return Err(Error::invalid(message));
        }
        let channels = mean.iter().zip(std);
        let values =
            channels.flat_map(|(mean, std)| (0..=255u8).map(move |level| (f32::from(level) * scale - mean) / std));
        let (table, width) = match dtype {
            DType::F32 => (Table::Wide(values.map(f32::to_bits).collect()), 4),
            DType::F16 => (Table::Short(values.map(|value| f16::from_f32(value).to_bits()).collect()), 2),
            DType::BF16 => (Table::Short(values.map(|value| bf16::from_f32(value).to_bits()).collect()), 2),
            _ => {
                let message = format!("normalize: dtype must be float32, float16 or bfloat16, got {}", dtype.name());
                return Err(Error::invalid(message));
            }
        };
        Ok(Self { table, layout, channels: mean.len(), width })
    }

    /// Bytes of a value that is written.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Writes the pictures of `height` × `width` pixels in `levels` to `output`, which has room for exactly as many values.
    pub fn apply(&self, levels: &[u8], [height, width]: [usize; 2], output: &mut [u8]) -> Result<()> {
        let (row, picture) = (width * self.channels, height * width * self.channels);
        if levels.len().checked_mul(self.width) != Some(output.len())
            || picture == 0
            || !levels.len().is_multiple_of(picture)
        {
            let (held, room) = (levels.len(), output.len());
            let message = format!("normalize: {held} levels of pictures of {picture} do not fill {room} bytes");
            return Err(Error::internal(message));
        }
        let (table, layout, channels) = (&self.table, self.layout, self.channels);
        let rows = Output { table, layout, width, height, channels, flip_x: false };
        for (levels, output) in levels.chunks_exact(picture).zip(output.chunks_exact_mut(picture * self.width)) {
            for (y, levels) in levels.chunks_exact(row).enumerate() {
                rows.row(y, levels, output);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
    const STD: [f32; 3] = [0.229, 0.224, 0.225];

    fn levels(count: usize) -> Vec<u8> {
        (0..count).map(|at| (at * 7919 % 256) as u8).collect()
    }

    fn expected(levels: &[u8], at: usize) -> f32 {
        (f32::from(levels[at]) * (1.0 / 255.0) - MEAN[at % 3]) / STD[at % 3]
    }

    #[test]
    fn values_are_those_of_the_formula_in_either_layout() {
        let (pictures, height, width) = (3, 5, 37);
        let levels = levels(pictures * height * width * 3);
        for layout in [Layout::Pixels, Layout::Planes] {
            let by = Normalization::new(&MEAN, &STD, 1.0 / 255.0, DType::F32, layout).unwrap();
            let mut output = vec![0; levels.len() * 4];
            by.apply(&levels, [height, width], &mut output).unwrap();
            let values: Vec<f32> = output.chunks_exact(4).map(bytemuck::pod_read_unaligned).collect();
            for at in 0..levels.len() {
                let (picture, pixel, channel) = (at / (height * width * 3), at / 3 % (height * width), at % 3);
                let place = match layout {
                    Layout::Pixels => at,
                    Layout::Planes => (picture * 3 + channel) * height * width + pixel,
                };
                assert_eq!(values[place], expected(&levels, at), "{layout:?} {at}");
            }
        }
    }

    #[test]
    fn short_types_are_rounded_once() {
        let levels = levels(3 * 64);
        for (dtype, round) in [
            (DType::BF16, (|value| bf16::from_f32(value).to_bits()) as fn(f32) -> u16),
            (DType::F16, |value| f16::from_f32(value).to_bits()),
        ] {
            let by = Normalization::new(&MEAN, &STD, 1.0 / 255.0, dtype, Layout::Pixels).unwrap();
            let mut output = vec![0; levels.len() * 2];
            by.apply(&levels, [8, 8], &mut output).unwrap();
            let values: Vec<u16> = output.chunks_exact(2).map(bytemuck::pod_read_unaligned).collect();
            assert!((0..levels.len()).all(|at| values[at] == round(expected(&levels, at))));
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(Normalization::new(&MEAN, &STD[..2], 1.0, DType::F32, Layout::Pixels).is_err());
        assert!(Normalization::new(&[], &[], 1.0, DType::F32, Layout::Pixels).is_err());
        assert!(Normalization::new(&MEAN, &STD, 1.0, DType::I32, Layout::Pixels).is_err());
        let by = Normalization::new(&MEAN, &STD, 1.0, DType::F32, Layout::Pixels).unwrap();
        assert!(by.apply(&[0; 12], [2, 2], &mut [0; 47]).is_err());
        assert!(by.apply(&[0; 11], [2, 2], &mut [0; 44]).is_err());
        assert!(by.apply(&[], [0, 2], &mut []).is_err());
    }
}
