//! Which MCUs a region needs.

use std::ops::Range;

use zenith_data::Result;

use super::frame::{Frame, Scaled, Upsampling};
use crate::picture::Rect;

#[derive(Debug)]
pub(super) struct Plan {
    /// What is wanted, in stored pixels of the reduced picture.
    pub(super) region: Rect,
    pub(super) components: Vec<Scaled>,
    /// Pixels across and down an MCU, reduced.
    pub(super) mcu_width: usize,
    pub(super) mcu_height: usize,
    /// MCUs that hold the region and the samples beside it that upsampling looks at.
    pub(super) columns: Range<usize>,
    pub(super) rows: Range<usize>,
}

impl Plan {
    /// `region` lies within the reduced picture and is not empty.
    pub(super) fn new(frame: &Frame, reduce: usize, coarse: bool, region: Rect) -> Result<Self> {
        let components = frame.scaled(reduce, coarse)?;
        let (mcu_width, mcu_height) = (frame.horizontal_max * 8 / reduce, frame.vertical_max * 8 / reduce);
        let (mut beside, mut above) = (0, 0);
        for component in &components {
            // One sample, which is two pixels.
            let (wide, high) = match component.upsampling {
                Upsampling::FancyWide => (2, 0),
                Upsampling::FancyHigh => (0, 2),
                Upsampling::FancyBoth => (2, 2),
                Upsampling::None | Upsampling::Replicate { .. } => (0, 0),
            };
            (beside, above) = (beside.max(wide), above.max(high));
        }
        let mcus = |start: usize, length: usize, margin: usize, size: usize, most: usize| {
            start.saturating_sub(margin) / size..(start + length + margin).div_ceil(size).min(most)
        };
        Ok(Self {
            region,
            columns: mcus(region.x, region.width, beside, mcu_width, frame.mcus_wide),
            rows: mcus(region.y, region.height, above, mcu_height, frame.mcus_high),
            components,
            mcu_width,
            mcu_height,
        })
    }

    /// Rows of pixels at the end of a row of MCUs that need samples of the next.
    pub(super) fn delay(&self) -> usize {
        let looks_down =
            |component: &Scaled| matches!(component.upsampling, Upsampling::FancyHigh | Upsampling::FancyBoth);
        usize::from(self.components.iter().any(looks_down))
    }
}
