//! `MixUp` (Zhang et al., 2017) and `CutMix` (Yun et al., 2019): each sample of a batch with the one before it. What is drawn
//! belongs to the batch: its key is made of (seed, epoch, number of the batch).

use half::{bf16, f16};
use zenith_data::transform::DrawKey;
use zenith_data::{DType, Error, Result};

use super::draws::Draws;
use super::output::Layout;
use crate::picture::Rect;

/// Where the batches of one seed and epoch lie among the keys of samples.
const BATCHES: u64 = 0x6261_7463_6865_7321;

/// The key of a batch.
pub fn batch_key(seed: u64, epoch: u64, batch: u64) -> DrawKey {
    DrawKey::new(seed, epoch, BATCHES, batch)
}

/// How much of each sample stays its own: Beta(`alpha`, `alpha`).
pub fn draw_mix_up(alpha: f64, key: DrawKey) -> Result<f64> {
    check_alpha(alpha)?;
    Ok(Draws::new(key, 0).beta(alpha))
}

/// The part that comes from the sample before, and how much of each sample stays its own.
pub fn draw_cut_mix(alpha: f64, width: usize, height: usize, key: DrawKey) -> Result<(Rect, f64)> {
    check_alpha(alpha)?;
    if width == 0 || height == 0 {
        return Err(Error::invalid(format!(
            "CutMix: pictures must have pixels, got {height} × {width} (height × width)"
        )));
    }
    let mut draws = Draws::new(key, 0);
    let own = draws.beta(alpha);
    let (x, y) = (draws.below(width), draws.below(height));
    let half = 0.5 * (1.0 - own).sqrt();
    let (half_width, half_height) = ((half * width as f64) as usize, (half * height as f64) as usize);
    let (left, right) = (x.saturating_sub(half_width), (x + half_width).min(width));
    let (top, bottom) = (y.saturating_sub(half_height), (y + half_height).min(height));
    let part = Rect { x: left, y: top, width: right - left, height: bottom - top };
    let share = (part.width * part.height) as f64 / (width * height) as f64;
    Ok((part, 1.0 - share))
}

fn check_alpha(alpha: f64) -> Result<()> {
    if alpha.is_finite() && alpha > 0.0 {
        return Ok(());
    }
    Err(Error::invalid(format!("alpha must be above 0, got {alpha}")))
}

/// `batch` holds samples of `sample_bytes` each; of each, `own` stays, and the rest comes from the sample before. Rounded as
/// torch does: both products, then the sum.
pub fn mix_up(batch: &[u8], sample_bytes: usize, dtype: DType, own: f64, into: &mut [u8]) -> Result<()> {
    check_batch(batch, sample_bytes, into)?;
    let shares = [own as f32, (1.0 - own) as f32];
    match dtype {
        DType::F32 => mix_samples(batch, sample_bytes, shares, into, f32::from_ne_bytes, f32::to_ne_bytes),
        DType::F16 => {
            let write = |value| f16::from_f32(value).to_ne_bytes();
            mix_samples(batch, sample_bytes, shares, into, |bytes| f16::from_ne_bytes(bytes).to_f32(), write);
        }
        DType::BF16 => {
            let write = |value| bf16::from_f32(value).to_ne_bytes();
            mix_samples(batch, sample_bytes, shares, into, |bytes| bf16::from_ne_bytes(bytes).to_f32(), write);
        }
        _ => return Err(Error::invalid(format!("MixUp: the batch must be of floats, got {}", dtype.name()))),
    }
    Ok(())
}

/// As `mix_up`, but the part comes from the sample before, whole. `channels` numbers of `width` bytes make a pixel.
pub fn cut_mix(
    batch: &[u8],
    [height, width, channels]: [usize; 3],
    layout: Layout,
    dtype: DType,
    part: Rect,
    into: &mut [u8],
) -> Result<()> {
    let sample_bytes = height * width * channels * dtype.width();
    check_batch(batch, sample_bytes, into)?;
    if part.x + part.width > width || part.y + part.height > height {
        return Err(Error::invalid(format!(
            "CutMix: {part:?} does not lie in pictures of {height} × {width} (height × width)"
        )));
    }
    into.copy_from_slice(batch);
    let (pixel, planes) = match layout {
        Layout::Pixels => (channels * dtype.width(), 1),
        Layout::Planes => (dtype.width(), channels),
    };
    let count = batch.len() / sample_bytes;
    for sample in 0..count {
        let before = (sample + count - 1) % count * sample_bytes;
        for plane in 0..planes {
            for y in part.y..part.y + part.height {
                let at = ((plane * height + y) * width + part.x) * pixel;
                let from = &batch[before + at..][..part.width * pixel];
                into[sample * sample_bytes + at..][..part.width * pixel].copy_from_slice(from);
            }
        }
    }
    Ok(())
}

fn check_batch(batch: &[u8], sample_bytes: usize, into: &[u8]) -> Result<()> {
    if sample_bytes > 0 && batch.len().is_multiple_of(sample_bytes) && batch.len() == into.len() {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "a batch must be whole samples of {sample_bytes} bytes and its output as large, got {} and {} bytes",
        batch.len(),
        into.len()
    )))
}

/// Numbers of `SIZE` bytes.
fn mix_samples<const SIZE: usize>(
    batch: &[u8],
    sample_bytes: usize,
    [own, other]: [f32; 2],
    into: &mut [u8],
    read: impl Fn([u8; SIZE]) -> f32,
    write: impl Fn(f32) -> [u8; SIZE],
) {
    let samples = batch.chunks_exact(sample_bytes);
    let before = batch.chunks_exact(sample_bytes).cycle().skip(samples.len().saturating_sub(1));
    for ((sample, before), into) in samples.zip(before).zip(into.chunks_exact_mut(sample_bytes)) {
        let numbers = sample.as_chunks::<SIZE>().0.iter().zip(before.as_chunks::<SIZE>().0);
        for ((sample, before), into) in numbers.zip(into.as_chunks_mut::<SIZE>().0) {
            let product = |number: &[u8; SIZE], share: f32| read(write(read(*number) * share));
            *into = write(product(before, other) + product(sample, own));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_ne_bytes()).collect()
    }

    #[test]
    fn each_sample_is_mixed_with_the_one_before() {
        let mut into = vec![0; 24];
        mix_up(&bytes(&[0.0, 8.0, 16.0, 32.0, 64.0, 128.0]), 8, DType::F32, 0.75, &mut into).unwrap();
        assert_eq!(into, bytes(&[16.0, 38.0, 12.0, 26.0, 52.0, 104.0]));
        assert!(mix_up(&[0; 10], 4, DType::F32, 0.5, &mut [0; 10]).is_err());
        assert!(mix_up(&[0; 8], 4, DType::U8, 0.5, &mut [0; 8]).is_err());
    }

    #[test]
    fn a_part_is_cut_in_either_layout() {
        let part = Rect { x: 1, y: 0, width: 1, height: 2 };
        let batch: Vec<u8> = (0..16).collect();
        let mut into = vec![0; 16];
        cut_mix(&batch, [2, 2, 2], Layout::Planes, DType::U8, part, &mut into).unwrap();
        assert_eq!(into, [0, 9, 2, 11, 4, 13, 6, 15, 8, 1, 10, 3, 12, 5, 14, 7]);
        cut_mix(&batch, [2, 2, 2], Layout::Pixels, DType::U8, part, &mut into).unwrap();
        assert_eq!(into, [0, 1, 10, 11, 4, 5, 14, 15, 8, 9, 2, 3, 12, 13, 6, 7]);
    }

    #[test]
    fn what_stays_is_what_is_not_cut() {
        for batch in 0..500 {
            let (part, own) = draw_cut_mix(1.0, 30, 20, batch_key(1, 2, batch)).unwrap();
            assert!(part.x + part.width <= 30 && part.y + part.height <= 20);
            assert!((own - (1.0 - (part.width * part.height) as f64 / 600.0)).abs() < 1e-12);
        }
        assert!(draw_mix_up(0.0, DrawKey(1)).is_err());
    }
}
