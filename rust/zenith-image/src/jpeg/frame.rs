//! The geometry of a frame: what is sampled how often, and how large everything is at the scale that is wanted.

use zenith_data::{Error, Result};

use super::markers::corrupt;

/// Blocks of an MCU, by the standard.
pub(super) const MCU_BLOCKS_MAX: usize = 10;

#[derive(Debug, Clone)]
pub(super) struct Frame {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) progressive: bool,
    pub(super) components: Vec<Component>,
    /// The largest sampling factors.
    pub(super) horizontal_max: usize,
    pub(super) vertical_max: usize,
    pub(super) mcus_wide: usize,
    pub(super) mcus_high: usize,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Component {
    pub(super) id: u8,
    /// Sampling factors.
    pub(super) horizontal: usize,
    pub(super) vertical: usize,
    /// Number of its quantisation table.
    pub(super) quantisation: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colours {
    Grey,
    YCbCr,
    Rgb,
    /// As Adobe writes it: inverted.
    Cmyk,
    Ycck,
}

/// How samples of a component become as many as there are pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Upsampling {
    None,
    /// libjpeg's triangle filters.
    FancyWide,
    FancyHigh,
    FancyBoth,
    Replicate {
        wide: usize,
        high: usize,
    },
}

/// A component at the scale that is wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scaled {
    /// Samples across a block: 8, 4, 2 or 1.
    pub(super) block: usize,
    /// Samples that are part of the picture; those behind them only fill blocks.
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) upsampling: Upsampling,
}

impl Frame {
    pub(super) fn new(
        width: usize,
        height: usize,
        progressive: bool,
        mut components: Vec<Component>,
        offset: usize,
    ) -> Result<Self> {
        for component in &components {
            if !(1..=4).contains(&component.horizontal) || !(1..=4).contains(&component.vertical) {
                let message = format!("sampling factors {} × {}", component.horizontal, component.vertical);
                return Err(corrupt(message, offset));
            }
        }
        // A component that is alone has MCUs of one block, whatever its factors.
        if let [component] = &mut components[..] {
            (component.horizontal, component.vertical) = (1, 1);
        }
        let horizontal_max = components.iter().map(|component| component.horizontal).max().unwrap_or(1);
        let vertical_max = components.iter().map(|component| component.vertical).max().unwrap_or(1);
        Ok(Self {
            width,
            height,
            progressive,
            components,
            horizontal_max,
            vertical_max,
            mcus_wide: width.div_ceil(8 * horizontal_max),
            mcus_high: height.div_ceil(8 * vertical_max),
        })
    }

    /// Each component with blocks of at least `8 / reduce` samples, as libjpeg chooses them: a component that is sampled
    /// less gets larger blocks where that spares upsampling, unless it is to stay `coarse`.
    pub(super) fn scaled(&self, reduce: usize, coarse: bool) -> Result<Vec<Scaled>> {
        let smallest = 8 / reduce;
        self.components.iter().map(|component| self.scale(component, smallest, coarse)).collect()
    }

    fn scale(&self, component: &Component, smallest: usize, coarse: bool) -> Result<Scaled> {
        let (wide, high) = (self.horizontal_max * smallest, self.vertical_max * smallest);
        let mut block = smallest;
        while !coarse
            && block < 8
            && wide.is_multiple_of(component.horizontal * block * 2)
            && high.is_multiple_of(component.vertical * block * 2)
        {
            block *= 2;
        }
        let samples = |pixels: usize, factor: usize, most: usize| (pixels * factor * block).div_ceil(8 * most);
        let width = samples(self.width, component.horizontal, self.horizontal_max);
        let height = samples(self.height, component.vertical, self.vertical_max);
        let (across, down) = (component.horizontal * block, component.vertical * block);
        if !wide.is_multiple_of(across) || !high.is_multiple_of(down) {
            let message = format!(
                "a JPEG whose component {} is sampled {} × {} where another is {} × {} is not supported",
                component.id, component.horizontal, component.vertical, self.horizontal_max, self.vertical_max
            );
            return Err(Error::unsupported(message));
        }
        // Where libjpeg does without, its pictures are the measure.
        let fancy = smallest > 1 || coarse;
        let upsampling = match (wide / across, high / down) {
            (1, 1) => Upsampling::None,
            (2, 1) if fancy && width > 2 => Upsampling::FancyWide,
            (1, 2) if fancy => Upsampling::FancyHigh,
            (2, 2) if fancy && width > 2 => Upsampling::FancyBoth,
            (wide, high) => Upsampling::Replicate { wide, high },
        };
        Ok(Scaled { block, width, height, upsampling })
    }

    /// Blocks of a component that hold part of the picture: what a scan of it alone goes over.
    pub(super) fn blocks(&self, component: &Component) -> (usize, usize) {
        let wide = (self.width * component.horizontal).div_ceil(8 * self.horizontal_max);
        let high = (self.height * component.vertical).div_ceil(8 * self.vertical_max);
        (wide, high)
    }
}
