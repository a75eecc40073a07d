//! Brightness, contrast, saturation and sharpness as `PIL.ImageEnhance` has them: a blend of the picture with a degenerate
//! one, by a factor that may lie beyond 0..=1.

use crate::picture::Picture;

/// With black.
pub(crate) fn brightness(picture: &mut Picture, factor: f64) {
    let factor = factor as f32;
    let levels: [u8; 256] = std::array::from_fn(|level| blend(0, level as u8, factor));
    picture.pixels.iter_mut().for_each(|level| *level = levels[usize::from(*level)]);
}

/// With the mean of its greys.
pub(crate) fn contrast(picture: &mut Picture, factor: f64) {
    let factor = factor as f32;
    let greys: u64 = match picture.channels {
        1 => picture.pixels.iter().map(|level| u64::from(*level)).sum(),
        _ => picture.pixels.as_chunks::<3>().0.iter().map(|pixel| u64::from(grey(*pixel))).sum(),
    };
    let mean = (greys as f64 / (picture.width * picture.height).max(1) as f64 + 0.5) as u8;
    let levels: [u8; 256] = std::array::from_fn(|level| blend(mean, level as u8, factor));
    picture.pixels.iter_mut().for_each(|level| *level = levels[usize::from(*level)]);
}

/// With its greys. Nothing to do where there is one channel.
pub(crate) fn saturation(picture: &mut Picture, factor: f64) {
    if picture.channels != 3 {
        return;
    }
    let factor = factor as f32;
    for pixel in picture.pixels.as_chunks_mut::<3>().0 {
        let grey = grey(*pixel);
        *pixel = pixel.map(|level| blend(grey, level, factor));
    }
}

/// With its smoothed self (`ImageFilter.SMOOTH`: the neighbours once, the pixel five times, by 13; the outermost pixels as
/// they are).
pub(crate) fn sharpness(picture: &mut Picture, factor: f64, spare: &mut Vec<u8>) {
    let (width, height, channels) = (picture.width, picture.height, picture.channels);
    if width < 3 || height < 3 {
        return;
    }
    let factor = factor as f32;
    spare.clear();
    spare.extend_from_slice(&picture.pixels);
    let stride = width * channels;
    for y in 1..height - 1 {
        let rows = [-1, 0, 1].map(|row: isize| &spare[y.wrapping_add_signed(row) * stride..][..stride]);
        let into = &mut picture.pixels[y * stride + channels..][..stride - 2 * channels];
        for (at, level) in into.iter_mut().enumerate() {
            let column = |place: usize| rows.iter().map(|row| u32::from(row[place])).sum::<u32>();
            let here = u32::from(*level);
            let sum = column(at) + column(at + channels) + column(at + 2 * channels) + 4 * here;
            // Thirteenths are never halfway between two levels, so that integers round as Pillow's floats do.
            *level = blend(((2 * sum + 13) / 26) as u8, *level, factor);
        }
    }
}

/// The picture in greys, in as many channels.
pub(crate) fn greys(picture: &mut Picture) {
    if picture.channels == 3 {
        picture.pixels.as_chunks_mut::<3>().0.iter_mut().for_each(|pixel| *pixel = [grey(*pixel); 3]);
    }
}

/// Luma by ITU-R 601-2, in Pillow's fixed point.
pub(crate) fn grey([red, green, blue]: [u8; 3]) -> u8 {
    let sum = u32::from(red) * 19_595 + u32::from(green) * 38_470 + u32::from(blue) * 7_471;
    ((sum + 0x8000) >> 16) as u8
}

/// From `degenerate` (factor 0) to `level` (factor 1) and beyond; cut off, not rounded.
#[inline(always)]
fn blend(degenerate: u8, level: u8, factor: f32) -> u8 {
    let from = f32::from(degenerate);
    // The conversion cuts off at both ends of the levels.
    (from + factor * (f32::from(level) - from)) as u8
}
