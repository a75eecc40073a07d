//! What maps levels to levels, whatever lies beside them: `PIL.ImageOps`.

use crate::picture::Picture;

fn map(picture: &mut Picture, levels: &[u8; 256]) {
    picture.pixels.iter_mut().for_each(|level| *level = levels[usize::from(*level)]);
}

pub(crate) fn invert(picture: &mut Picture) {
    picture.pixels.iter_mut().for_each(|level| *level = 255 - *level);
}

/// Keeps the upper bits, 0 to 8.
pub(crate) fn posterize(picture: &mut Picture, bits: u32) {
    let mask = !(255u32 >> bits.min(8)) as u8;
    picture.pixels.iter_mut().for_each(|level| *level &= mask);
}

/// Inverts the levels from the threshold on.
pub(crate) fn solarize(picture: &mut Picture, threshold: f64) {
    map(
        picture,
        &std::array::from_fn(|level| if (level as f64) < threshold { level as u8 } else { 255 - level as u8 }),
    );
}

fn histogram(picture: &Picture, channel: usize) -> [u32; 256] {
    let mut counts = [0; 256];
    picture.pixels[channel..].iter().step_by(picture.channels).for_each(|level| counts[usize::from(*level)] += 1);
    counts
}

fn map_channels(picture: &mut Picture, levels: impl Fn(&[u32; 256]) -> Option<[u8; 256]>) {
    if picture.pixels.is_empty() {
        return;
    }
    for channel in 0..picture.channels {
        if let Some(levels) = levels(&histogram(picture, channel)) {
            let step = picture.channels;
            picture.pixels[channel..].iter_mut().step_by(step).for_each(|level| *level = levels[usize::from(*level)]);
        }
    }
}

/// Each channel from its darkest level to its brightest over all levels.
pub(crate) fn autocontrast(picture: &mut Picture) {
    map_channels(picture, |counts| {
        let low = counts.iter().position(|count| *count > 0)?;
        let high = counts.iter().rposition(|count| *count > 0)?;
        if high <= low {
            return None;
        }
        let scale = 255.0 / (high - low) as f64;
        let offset = -(low as f64) * scale;
        Some(std::array::from_fn(|level| (level as f64 * scale + offset) as u8))
    });
}

/// Each channel so that its levels occur about as often.
pub(crate) fn equalize(picture: &mut Picture) {
    map_channels(picture, |counts| {
        let last = counts.iter().rposition(|count| *count > 0)?;
        let step = (counts.iter().sum::<u32>() - counts[last]) / 255;
        if counts.iter().filter(|count| **count > 0).count() <= 1 || step == 0 {
            return None;
        }
        let mut sum = step / 2;
        Some(std::array::from_fn(|level| {
            let to = (sum / step).min(255) as u8;
            sum += counts[level];
            to
        }))
    });
}
