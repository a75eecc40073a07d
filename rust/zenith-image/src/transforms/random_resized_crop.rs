//! `RandomResizedCrop` (Szegedy et al.: "Going Deeper with Convolutions", 2014).

use serde::{Deserialize, Serialize};
use zenith_data::Result;

use super::arguments::{Size, check_range};
use super::draws::Draws;
use super::view::View;
use crate::picture::Rect;
use crate::resize::Interpolation;

fn scale() -> [f64; 2] {
    [0.08, 1.0]
}

fn ratio() -> [f64; 2] {
    [3.0 / 4.0, 4.0 / 3.0]
}

/// A part of random area and proportions, resized.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomResizedCrop {
    pub size: Size,
    /// Share of the area.
    #[serde(default = "scale")]
    pub scale: [f64; 2],
    /// Width ÷ height, uniform in its logarithm.
    #[serde(default = "ratio")]
    pub ratio: [f64; 2],
    #[serde(default)]
    pub interpolation: Interpolation,
}

impl RandomResizedCrop {
    pub fn check(&self) -> Result<()> {
        self.size.check("RandomResizedCrop: size")?;
        check_range("RandomResizedCrop: scale", self.scale, [0.0, f64::INFINITY])?;
        check_range("RandomResizedCrop: ratio", self.ratio, [1e-3, 1e3])
    }

    pub fn apply(&self, view: &mut View, draws: &mut Draws) {
        view.crop(self.part(view.size(), draws));
        let [height, width] = self.size.pair();
        view.resize(width, height, self.interpolation);
    }

    /// Ten attempts, then the middle, as torchvision's.
    fn part(&self, (width, height): (usize, usize), draws: &mut Draws) -> Rect {
        let area = (width * height) as f64;
        let logs = self.ratio.map(f64::ln);
        for _ in 0..10 {
            let target = area * draws.uniform(self.scale);
            let ratio = draws.uniform(logs).exp();
            let crop_width = (target * ratio).sqrt().round_ties_even() as usize;
            let crop_height = (target / ratio).sqrt().round_ties_even() as usize;
            if (1..=width).contains(&crop_width) && (1..=height).contains(&crop_height) {
                let y = draws.below(height - crop_height + 1);
                let x = draws.below(width - crop_width + 1);
                return Rect { x, y, width: crop_width, height: crop_height };
            }
        }
        let whole = width as f64 / height as f64;
        let (mut crop_width, mut crop_height) = (width, height);
        if whole < self.ratio[0] {
            crop_height = (width as f64 / self.ratio[0]).round_ties_even() as usize;
        } else if whole > self.ratio[1] {
            crop_width = (height as f64 * self.ratio[1]).round_ties_even() as usize;
        }
        let (crop_width, crop_height) = (crop_width.clamp(1, width), crop_height.clamp(1, height));
        let (x, y) = ((width - crop_width) / 2, (height - crop_height) / 2);
        Rect { x, y, width: crop_width, height: crop_height }
    }
}

#[cfg(test)]
mod tests {
    use zenith_data::transform::DrawKey;

    use super::*;

    #[test]
    fn parts_lie_inside_and_pictures_too_thin_for_any_give_their_middle() {
        let crop = RandomResizedCrop {
            size: Size::One(8),
            scale: scale(),
            ratio: ratio(),
            interpolation: Interpolation::Bilinear,
        };
        for key in 0..200 {
            for (width, height) in [(1, 1), (500, 375), (3, 1000), (1000, 3)] {
                let part = crop.part((width, height), &mut Draws::new(DrawKey(key), 0));
                assert!(part.width >= 1 && part.height >= 1);
                assert!(part.x + part.width <= width && part.y + part.height <= height);
            }
        }
        let part = crop.part((3, 1000), &mut Draws::new(DrawKey(1), 0));
        assert_eq!(part, Rect { x: 0, y: 498, width: 3, height: 4 });
    }
}
