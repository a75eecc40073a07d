//! The samples of the components: for two rows of MCUs, which is all that pixels are made from at a time.

use super::frame::Frame;
use super::plan::Plan;

/// A ring of rows for each component. A row of samples is at its number modulo the rows of the ring, so that what upsampling
/// looks at above a row of MCUs is still there.
#[derive(Debug, Default)]
pub(super) struct Planes {
    pub(super) samples: Vec<u8>,
    pub(super) components: Vec<Plane>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Plane {
    /// Where it begins in `samples`.
    pub(super) start: usize,
    pub(super) stride: usize,
    /// Rows of an MCU; the ring has twice as many.
    rows: usize,
    /// Across an MCU.
    pub(super) mcu_width: usize,
    /// The sample that its first column holds.
    first: usize,
    /// Samples of the picture.
    width: usize,
    height: usize,
}

impl Planes {
    pub(super) fn prepare(&mut self, frame: &Frame, plan: &Plan) {
        self.components.clear();
        let mut start = 0;
        for (component, scaled) in frame.components.iter().zip(&plan.components) {
            let mcu_width = component.horizontal * scaled.block;
            let plane = Plane {
                start,
                stride: plan.columns.len() * mcu_width,
                rows: component.vertical * scaled.block,
                mcu_width,
                first: plan.columns.start * mcu_width,
                width: scaled.width,
                height: scaled.height,
            };
            start += plane.stride * 2 * plane.rows;
            self.components.push(plane);
        }
        // What was there before is overwritten before it is read, or lies behind the picture's edge.
        self.samples.resize(start, 0);
    }

    /// The samples of a row that are in the picture, as far as the planes have them; rows beside the picture are its
    /// first and its last.
    #[inline(always)]
    pub(super) fn row(&self, component: usize, row: isize) -> &[u8] {
        let plane = &self.components[component];
        let row = row.clamp(0, plane.height as isize - 1) as usize;
        let start = plane.start + row % (2 * plane.rows) * plane.stride;
        &self.samples[start..start + plane.stride.min(plane.width - plane.first)]
    }
}

impl Plane {
    /// Where the samples of a row of MCUs begin.
    #[inline(always)]
    pub(super) fn mcu_row(&self, row: usize) -> usize {
        self.start + row % 2 * self.rows * self.stride
    }
}
