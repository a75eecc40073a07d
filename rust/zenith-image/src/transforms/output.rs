//! The last pass: rows of levels to their place in the output, flipped, as numbers of the wanted type, in the wanted layout.
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "the instruction that fetches a line has no safe wrapper")
)]

use std::ops::Range;

use bytemuck::Pod;
use serde::{Deserialize, Serialize};

pub(crate) use super::numbers::Table;

/// How a picture lies in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Layout {
    /// [channels, height, width], torch's usual order.
    #[default]
    #[serde(rename = "NCHW")]
    Planes,
    /// [height, width, channels], as decoders give it.
    #[serde(rename = "NHWC")]
    Pixels,
}

/// Where rows go.
#[derive(Debug)]
pub(crate) struct Output<'a> {
    pub table: &'a Table,
    pub layout: Layout,
    pub width: usize,
    pub height: usize,
    pub channels: usize,
    pub flip_x: bool,
}

impl Output<'_> {
    pub(crate) fn row(&self, y: usize, levels: &[u8], into: &mut [u8]) {
        // While the next row is computed, its place is on its way into the cache: a batch is larger than that, and a row shorter
        // than what the processor's own prefetcher needs to see.
        if y + 1 < self.height {
            self.places(y + 1).for_each(|place| fetch(&into[place]));
        }
        match self.table {
            Table::Levels => self.levels(y, levels, into),
            Table::Short(values) => self.values(y, levels, values, into),
            Table::Wide(values) => self.values(y, levels, values, into),
        }
    }

    /// The bytes of a row in the output.
    fn places(&self, y: usize) -> impl Iterator<Item = Range<usize>> {
        let size = match self.table {
            Table::Levels => 1,
            Table::Short(_) => 2,
            Table::Wide(_) => 4,
        };
        let (parts, pixel) = match self.layout {
            Layout::Planes => (self.channels, size),
            Layout::Pixels => (1, self.channels * size),
        };
        let (bytes, plane) = (self.width * pixel, self.height * self.width * pixel);
        (0..parts).map(move |part| part * plane + y * bytes..part * plane + (y + 1) * bytes)
    }

    fn levels(&self, y: usize, levels: &[u8], into: &mut [u8]) {
        let (width, channels) = (self.width, self.channels);
        if self.layout == Layout::Planes && channels > 1 {
            for channel in 0..channels {
                let row = &mut into[(channel * self.height + y) * width..][..width];
                let levels = levels[channel..].iter().step_by(channels);
                place(row.iter_mut(), levels, self.flip_x, |to, level| *to = *level);
            }
            return;
        }
        let row = &mut into[y * width * channels..][..width * channels];
        match channels {
            _ if !self.flip_x => row.copy_from_slice(levels),
            1 => mirror::<1>(row, levels),
            3 => mirror::<3>(row, levels),
            _ => mirror::<4>(row, levels),
        }
    }

    /// Values are written by their bytes, for the output need not be aligned.
    fn values<T: Pod>(&self, y: usize, levels: &[u8], values: &[T], into: &mut [u8]) {
        let (width, channels, size) = (self.width, self.channels, size_of::<T>());
        let tables = values.as_chunks::<256>().0;
        for (channel, table) in tables.iter().enumerate().take(channels) {
            let levels = levels[channel..].iter().step_by(channels);
            let write = |to: &mut [u8], level: &u8| to.copy_from_slice(bytemuck::bytes_of(&table[usize::from(*level)]));
            if self.layout == Layout::Planes {
                let row = &mut into[(channel * self.height + y) * width * size..][..width * size];
                place(row.chunks_exact_mut(size), levels, self.flip_x, write);
            } else {
                let row = &mut into[y * width * channels * size..][..width * channels * size];
                let places = row.chunks_exact_mut(size).skip(channel).step_by(channels);
                place(places, levels, self.flip_x, write);
            }
        }
    }
}

/// The pixels in reverse. Their size is known to the compiler: to copy three bytes by a call takes longer than to make them.
fn mirror<const CHANNELS: usize>(row: &mut [u8], levels: &[u8]) {
    for (to, pixel) in row.as_chunks_mut::<CHANNELS>().0.iter_mut().rev().zip(levels.as_chunks::<CHANNELS>().0) {
        *to = *pixel;
    }
}

/// Starts to fetch memory that is written soon.
#[inline(always)]
fn fetch(bytes: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    for line in bytes.chunks(64) {
        use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
        // SAFETY: PREFETCH-1: the instruction reads nothing that the program can see and never faults.
        unsafe { _mm_prefetch::<_MM_HINT_ET0>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = bytes;
}

#[inline(always)]
fn place<To, From>(
    to: impl DoubleEndedIterator<Item = To> + ExactSizeIterator,
    from: impl Iterator<Item = From>,
    flip: bool,
    write: impl Fn(To, From),
) {
    if flip {
        to.rev().zip(from).for_each(|(to, from)| write(to, from));
    } else {
        to.zip(from).for_each(|(to, from)| write(to, from));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(table: &Table, layout: Layout, flip_x: bool, size: usize) -> Vec<u8> {
        let output = Output { table, layout, width: 2, height: 2, channels: 3, flip_x };
        let mut into = vec![255; 12 * size];
        output.row(0, &[1, 2, 3, 4, 5, 6], &mut into);
        output.row(1, &[7, 8, 9, 10, 11, 12], &mut into);
        into
    }

    fn numbers<T: Pod>(bytes: &[u8]) -> Vec<T> {
        bytes.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect()
    }

    #[test]
    fn levels_and_values_go_where_the_layout_says() {
        let layouts = [
            (Layout::Pixels, false, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
            (Layout::Pixels, true, [4, 5, 6, 1, 2, 3, 10, 11, 12, 7, 8, 9]),
            (Layout::Planes, false, [1, 4, 7, 10, 2, 5, 8, 11, 3, 6, 9, 12]),
            (Layout::Planes, true, [4, 1, 10, 7, 5, 2, 11, 8, 6, 3, 12, 9]),
        ];
        let short = Table::Short((0..768).map(|at| 1000 + at % 256).collect());
        let wide = Table::Wide((0..768).map(|at| 70_000 * (at % 256)).collect());
        for (layout, flip, order) in layouts {
            assert_eq!(written(&Table::Levels, layout, flip, 1), order);
            let shorts: Vec<u16> = numbers(&written(&short, layout, flip, 2));
            assert_eq!(shorts, order.map(|level| 1000 + u16::from(level)));
            let wides: Vec<u32> = numbers(&written(&wide, layout, flip, 4));
            assert_eq!(wides, order.map(|level| 70_000 * u32::from(level)));
        }
    }
}
