//! `ColorJitter` and `RandomGrayscale`.

use serde::{Deserialize, Serialize};
use zenith_data::Result;

use super::arguments::{check_probability, check_range};
use super::draws::Draws;
use super::ops::{enhance, hue};
use crate::picture::Picture;

/// Changes brightness, contrast, saturation and hue by factors drawn from ranges, in random order. `None` leaves one out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColorJitter {
    #[serde(default)]
    pub brightness: Option<[f64; 2]>,
    #[serde(default)]
    pub contrast: Option<[f64; 2]>,
    #[serde(default)]
    pub saturation: Option<[f64; 2]>,
    #[serde(default)]
    pub hue: Option<[f64; 2]>,
}

impl ColorJitter {
    pub fn check(&self) -> Result<()> {
        let factors = [("brightness", self.brightness), ("contrast", self.contrast), ("saturation", self.saturation)];
        for (name, range) in factors {
            check_range(&format!("ColorJitter: {name}"), range.unwrap_or([1.0; 2]), [0.0, f64::INFINITY])?;
        }
        check_range("ColorJitter: hue", self.hue.unwrap_or([0.0; 2]), [-0.5, 0.5])
    }

    pub fn apply(&self, picture: &mut Picture, draws: &mut Draws) {
        let order = draws.order_of_four();
        // All are drawn before one is used: what is drawn does not depend on the order.
        let mut factor = |range: Option<[f64; 2]>| range.map(|range| draws.uniform(range));
        let factors = [factor(self.brightness), factor(self.contrast), factor(self.saturation), factor(self.hue)];
        for place in order {
            match (place, factors[place]) {
                (_, None) => {}
                (0, Some(factor)) => enhance::brightness(picture, factor),
                (1, Some(factor)) => enhance::contrast(picture, factor),
                (2, Some(factor)) => enhance::saturation(picture, factor),
                (_, Some(turns)) => hue::turn(picture, turns),
            }
        }
    }
}

fn tenth() -> f64 {
    0.1
}

/// To greys in as many channels, with probability `p`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomGrayscale {
    #[serde(default = "tenth")]
    pub p: f64,
}

impl RandomGrayscale {
    pub fn check(&self) -> Result<()> {
        check_probability("RandomGrayscale: p", self.p)
    }
}
