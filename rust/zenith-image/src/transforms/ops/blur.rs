//! Gaussian blur as torchvision's: a kernel of the given size over the picture mirrored at its borders, in float32.

use crate::picture::Picture;
use crate::transforms::view::PaddingMode;

/// Memory between the passes, kept from picture to picture.
#[derive(Debug, Default)]
pub struct Scratch {
    wide: Vec<f32>,
    middle: Vec<f32>,
    sums: Vec<f32>,
}

/// `kernel`: width and height, both odd. torchvision sums the products of both directions in one pass; the order of the
/// sums is all that differs here.
pub(crate) fn gaussian(picture: &mut Picture, kernel: [usize; 2], sigma: f64, scratch: &mut Scratch) {
    let (width, height, channels) = (picture.width, picture.height, picture.channels);
    let (across, down) = (weights(kernel[0], sigma), weights(kernel[1], sigma));
    let (half_x, half_y) = (kernel[0] as i64 / 2, kernel[1] as i64 / 2);
    let stride = width * channels;
    let mirrored = |at: i64, len: usize| PaddingMode::Reflect.index(at, len as i64).unwrap_or(0);
    scratch.middle.clear();
    for row in picture.pixels.chunks_exact(stride) {
        scratch.wide.clear();
        for x in -half_x..width as i64 + half_x {
            let pixel = &row[mirrored(x, width) * channels..][..channels];
            scratch.wide.extend(pixel.iter().map(|level| f32::from(*level)));
        }
        sum(&across, &mut scratch.sums, stride, |tap| &scratch.wide[tap * channels..]);
        scratch.middle.extend_from_slice(&scratch.sums);
    }
    for y in 0..height {
        let row = |tap: usize| mirrored(y as i64 + tap as i64 - half_y, height) * stride;
        sum(&down, &mut scratch.sums, stride, |tap| &scratch.middle[row(tap)..]);
        for (level, sum) in picture.pixels[y * stride..].iter_mut().zip(&scratch.sums) {
            *level = sum.round_ties_even() as u8;
        }
    }
}

fn sum<'a>(weights: &[f32], sums: &mut Vec<f32>, len: usize, shifted: impl Fn(usize) -> &'a [f32]) {
    sums.clear();
    sums.resize(len, 0.0);
    for (tap, weight) in weights.iter().enumerate() {
        sums.iter_mut().zip(shifted(tap)).for_each(|(sum, value)| *sum += weight * value);
    }
}

/// torchvision's kernel: exp(−(x ÷ σ)²) at places that reach to ±(size − 1) ÷ 2√2.
fn weights(size: usize, sigma: f64) -> Vec<f32> {
    let reach = (size as f64 - 1.0) / (2.0 * std::f64::consts::SQRT_2);
    let place = |tap: usize| -reach + 2.0 * reach * tap as f64 / (size.max(2) - 1) as f64;
    let values: Vec<f64> = (0..size).map(|tap| (-(place(tap) / sigma).powi(2)).exp()).collect();
    let sum: f64 = values.iter().sum();
    values.into_iter().map(|value| (value / sum) as f32).collect()
}
