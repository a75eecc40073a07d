//! `GaussianBlur`.

use serde::{Deserialize, Serialize};
use zenith_data::{Error, Result};

use super::arguments::{Span, check_range};
use super::draws::Draws;
use super::ops::blur;
use crate::picture::Picture;

fn sigma() -> Span {
    Span::Pair([0.1, 2.0])
}

/// One number for both sides, or (width, height).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "kernel_size: an int or a pair of ints (width, height) was expected")]
pub enum Kernel {
    One(i64),
    Pair([i64; 2]),
}

impl Kernel {
    fn pair(self) -> [i64; 2] {
        match self {
            Self::One(side) => [side; 2],
            Self::Pair(sides) => sides,
        }
    }
}

/// With a kernel of (width, height), as wide as sigma says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GaussianBlur {
    pub kernel_size: Kernel,
    #[serde(default = "sigma")]
    pub sigma: Span,
}

impl GaussianBlur {
    pub fn check(&self) -> Result<()> {
        if let Some(size) = self.kernel_size.pair().into_iter().find(|size| !(1..=1001).contains(size) || size % 2 == 0)
        {
            return Err(Error::invalid(format!("GaussianBlur: kernel_size must be odd and in 1..=1001, got {size}")));
        }
        check_range("GaussianBlur: sigma", self.sigma.range(), [1e-6, f64::INFINITY])
    }

    /// Errors: half the kernel reaches beyond the mirrored picture.
    pub fn apply(&self, picture: &mut Picture, draws: &mut Draws, scratch: &mut blur::Scratch) -> Result<()> {
        let kernel = self.kernel_size.pair().map(|size| size as usize);
        if kernel[0] / 2 >= picture.width || kernel[1] / 2 >= picture.height {
            return Err(Error::invalid(format!(
                "GaussianBlur: kernel_size {} × {} (width × height) is too large for a picture of {} × {}; put a Resize before \
                 it or make it smaller",
                kernel[0], kernel[1], picture.width, picture.height
            )));
        }
        blur::gaussian(picture, kernel, draws.uniform(self.sigma.range()), scratch);
        Ok(())
    }
}
