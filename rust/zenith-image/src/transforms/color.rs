//! `ColorJitter` and `RandomGrayscale`.

use serde::{Deserialize, Serialize};
use zenith_data::{Error, Result};

use super::arguments::{Span, check_probability, check_range};
use super::draws::Draws;
use super::ops::{enhance, hue};
use crate::picture::Picture;

/// Changes brightness, contrast, saturation and hue by factors drawn from ranges, in random order. `None` leaves one out; one
/// number is how far the factor goes from that which changes nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColorJitter {
    #[serde(default)]
    pub brightness: Option<Span>,
    #[serde(default)]
    pub contrast: Option<Span>,
    #[serde(default)]
    pub saturation: Option<Span>,
    #[serde(default)]
    pub hue: Option<Span>,
}

/// A factor's range. One number beyond 1 ends at 0, where negative factors begin.
fn factors(span: Option<Span>) -> Option<[f64; 2]> {
    let range = span?.around(1.0);
    match span? {
        Span::One(_) => Some([range[0].max(0.0), range[1]]),
        Span::Pair(_) => Some(range),
    }
}

impl ColorJitter {
    pub fn check(&self) -> Result<()> {
        let spans = [("brightness", self.brightness), ("contrast", self.contrast), ("saturation", self.saturation)];
        for (name, span) in spans.into_iter().chain([("hue", self.hue)]) {
            if let Some(Span::One(reach)) = span
                && (reach.is_nan() || reach < 0.0)
            {
                let text = format!("ColorJitter: {name} as one number must not be negative, got {reach}");
                return Err(Error::invalid(text));
            }
        }
        for (name, span) in spans {
            check_range(&format!("ColorJitter: {name}"), factors(span).unwrap_or([1.0; 2]), [0.0, f64::INFINITY])?;
        }
        check_range("ColorJitter: hue", self.hue.map_or([0.0; 2], |hue| hue.around(0.0)), [-0.5, 0.5])
    }

    pub fn apply(&self, picture: &mut Picture, draws: &mut Draws) {
        let order = draws.order_of_four();
        // All are drawn before one is used: what is drawn does not depend on the order.
        let mut factor = |range: Option<[f64; 2]>| range.map(|range| draws.uniform(range));
        let hue = self.hue.map(|hue| hue.around(0.0));
        let factors =
            [factors(self.brightness), factors(self.contrast), factors(self.saturation), hue].map(&mut factor);
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
