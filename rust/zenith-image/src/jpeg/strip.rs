//! From planes of samples to rows of pixels.

use super::colour;
use super::frame::{Colours, Upsampling};
use super::kernels::Kernels;
use super::plan::Plan;
use super::planes::Planes;
use super::upsample;
use crate::decode::Mode;

/// Room for rows that are on their way, kept from picture to picture.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// Of each component, at full width.
    samples: [Vec<u8>; 4],
    sums: Vec<u16>,
    rgb: Vec<u8>,
}

impl Rows {
    pub(super) fn prepare(&mut self, plan: &Plan) {
        let width = plan.columns.len() * plan.mcu_width;
        for samples in &mut self.samples {
            samples.resize(width, 0);
        }
        self.sums.resize(width, 0);
        self.rgb.resize(3 * plan.region.width, 0);
    }

    /// Writes the wanted part of row `y` of the reduced picture.
    #[inline(always)]
    pub(super) fn write<K: Kernels>(
        &mut self,
        kernels: K,
        (plan, planes): (&Plan, &Planes),
        (colours, mode): (Colours, Mode),
        y: usize,
        out: &mut [u8],
    ) {
        let first = plan.region.x - plan.columns.start * plan.mcu_width;
        let columns = first..first + plan.region.width;
        let Self { samples, sums, rgb } = self;
        let mut rows: [&[u8]; 4] = [&[]; 4];
        for ((component, row), samples) in rows.iter_mut().enumerate().take(plan.components.len()).zip(samples) {
            *row =
                &upsampled(planes, component, plan.components[component].upsampling, y, samples, sums)[columns.clone()];
        }
        if colours == Colours::Grey {
            match mode {
                Mode::Grey => out.copy_from_slice(rows[0]),
                Mode::Rgb => colour::repeat::<3>(rows[0], out),
                Mode::Rgba => colour::repeat::<4>(rows[0], out),
            }
            return;
        }
        let direct = mode == Mode::Rgb;
        let target: &mut [u8] = if direct { &mut *out } else { rgb };
        match colours {
            Colours::YCbCr => kernels.ycc_to_rgb(rows[0], rows[1], rows[2], target),
            Colours::Ycck => {
                kernels.ycc_to_rgb(rows[0], rows[1], rows[2], target);
                target.iter_mut().for_each(|value| *value = !*value);
            }
            Colours::Rgb | Colours::Cmyk | Colours::Grey => colour::interleave(rows[0], rows[1], rows[2], target),
        }
        if matches!(colours, Colours::Cmyk | Colours::Ycck) {
            colour::blacken(target, rows[3]);
        }
        match mode {
            Mode::Rgb => {}
            Mode::Grey => colour::rgb_to_grey(rgb, out),
            Mode::Rgba => colour::rgb_to_rgba(rgb, out),
        }
    }
}

/// Row `y` of a component, as wide as the planes are.
#[inline(always)]
fn upsampled<'a>(
    planes: &'a Planes,
    component: usize,
    upsampling: Upsampling,
    y: usize,
    room: &'a mut [u8],
    sums: &mut [u16],
) -> &'a [u8] {
    let row = |row: isize| planes.row(component, row);
    let y = y as isize;
    // The row of samples that is nearer, and the one on the other side of `y`.
    let (near, upper) = (y / 2, y % 2 == 0);
    let far = if upper { near - 1 } else { near + 1 };
    match upsampling {
        Upsampling::None => return row(y),
        Upsampling::FancyWide => upsample::wide(row(y), room),
        Upsampling::FancyHigh => upsample::high(row(near), row(far), upper, room),
        Upsampling::FancyBoth => upsample::both(row(near), row(far), sums, room),
        Upsampling::Replicate { wide: 1, high } => return row(y / high as isize),
        Upsampling::Replicate { wide, high } => upsample::replicate(row(y / high as isize), wide, room),
    }
    room
}
