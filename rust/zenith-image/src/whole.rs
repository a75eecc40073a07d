//! Pictures that were decoded whole, because their format has no other way.

use crate::decode::{Mode, Request};
use crate::orientation::Turn;
use crate::picture::Picture;

/// All pixels of a picture, as stored.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA.
    pub(crate) channels: usize,
    pub(crate) pixels: Vec<u8>,
}

impl Whole {
    /// Writes the wanted part, reduced and turned. The caller has seen that the region lies within the picture.
    pub(crate) fn deliver(&self, request: &Request, turn: Turn, into: &mut Picture) {
        let reduce = request.reduce;
        let (width, height) = turn.size(self.width.div_ceil(reduce), self.height.div_ceil(reduce));
        let region = turn.stored(request.region, width, height);
        let channels = request.mode.channels();
        let mut part = Vec::with_capacity(region.width * region.height * channels);
        for y in region.y..region.y + region.height {
            for x in region.x..region.x + region.width {
                part.extend_from_slice(&self.average(x, y, reduce, request.mode)[..channels]);
            }
        }
        (into.width, into.height, into.channels) = (request.region.width, request.region.height, channels);
        if turn == Turn::default() {
            into.pixels = part;
        } else {
            into.pixels.resize(part.len(), 0);
            turn.apply(&part, into.width, into.height, channels, &mut into.pixels);
        }
    }

    /// The mean of the pixels that become one; at the lower and right edges these may be fewer.
    #[inline]
    fn average(&self, x: usize, y: usize, reduce: usize, mode: Mode) -> [u8; 4] {
        if reduce == 1 {
            return self.pixel(x, y, mode);
        }
        let rows = y * reduce..((y + 1) * reduce).min(self.height);
        let columns = x * reduce..((x + 1) * reduce).min(self.width);
        let count = (rows.len() * columns.len()) as u32;
        let mut sums = [count / 2; 4];
        for (y, x) in rows.flat_map(|y| columns.clone().map(move |x| (y, x))) {
            for (sum, value) in sums.iter_mut().zip(self.pixel(x, y, mode)) {
                *sum += u32::from(value);
            }
        }
        sums.map(|sum| (sum / count) as u8)
    }

    /// One pixel in the wanted mode; what lies behind its channels is not looked at.
    #[inline]
    fn pixel(&self, x: usize, y: usize, mode: Mode) -> [u8; 4] {
        let stored = &self.pixels[(y * self.width + x) * self.channels..][..self.channels];
        let rgba = match *stored {
            [grey] => [grey, grey, grey, 255],
            [grey, alpha] => [grey, grey, grey, alpha],
            [red, green, blue] => [red, green, blue, 255],
            [red, green, blue, alpha, ..] => [red, green, blue, alpha],
            [] => [0; 4],
        };
        match mode {
            Mode::Rgb | Mode::Rgba => rgba,
            Mode::Grey if self.channels < 3 => rgba,
            Mode::Grey => {
                let [red, green, blue, _] = rgba.map(u32::from);
                [((19_595 * red + 38_470 * green + 7_471 * blue + 32_768) >> 16) as u8, 0, 0, 0]
            }
        }
    }
}
