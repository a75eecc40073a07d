//! What `MixUp` (Zhang et al., 2017) and `CutMix` (Yun et al., 2019) draw. It belongs to the batch: its key is made of (seed,
//! epoch, number of the batch). The mixing itself is tensors' arithmetic, on whatever device they are (`zenith.transforms`).

use zenith_data::transform::DrawKey;
use zenith_data::{Error, Result};

use super::draws::Draws;
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

#[cfg(test)]
mod tests {
    use super::*;

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
