//! Arguments that several transforms share, and how they are checked: every message names the argument, what it may be and
//! what it was.

use serde::{Deserialize, Serialize};
use zenith_data::{Error, Result};

/// Longest side of a picture that a transform makes: beyond it there is a mistake, not a picture.
pub(super) const SIDE_MAX: i64 = 32_768;

/// One number for both sides, or (height, width).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "an int or a pair of ints (height, width) was expected")]
pub enum Size {
    One(i64),
    Pair([i64; 2]),
}

impl Size {
    /// (height, width).
    pub fn pair(self) -> [usize; 2] {
        match self {
            Self::One(side) => [side as usize; 2],
            Self::Pair(sides) => sides.map(|side| side as usize),
        }
    }

    pub fn check(self, name: &str) -> Result<()> {
        let sides = match self {
            Self::One(side) => [side; 2],
            Self::Pair(sides) => sides,
        };
        match sides.into_iter().find(|side| !(1..=SIDE_MAX).contains(side)) {
            Some(side) => Err(Error::invalid(format!("{name} must be in 1..={SIDE_MAX}, got {side}"))),
            None => Ok(()),
        }
    }
}

/// A number for all channels, or one for each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a number or a list with one for each channel was expected")]
pub enum Value {
    One(f64),
    Each(Vec<f64>),
}

impl Value {
    pub fn of(&self, channel: usize) -> f64 {
        match self {
            Self::One(value) => *value,
            Self::Each(values) => values.get(channel).or(values.first()).copied().unwrap_or(0.0),
        }
    }

    /// As a level of 8 bits.
    pub fn level(&self, channel: usize) -> u8 {
        self.of(channel) as u8
    }

    pub fn check_levels(&self, name: &str, channels: usize) -> Result<()> {
        self.check_finite(name, channels)?;
        match (0..channels).map(|channel| self.of(channel)).find(|value| !(0.0..=255.0).contains(value)) {
            Some(value) => Err(Error::invalid(format!("{name} must be in 0..=255, the levels of uint8, got {value}"))),
            None => Ok(()),
        }
    }

    pub fn check_finite(&self, name: &str, channels: usize) -> Result<()> {
        if let Self::Each(values) = self
            && values.len() != 1
            && values.len() != channels
        {
            let given = values.len();
            return Err(Error::invalid(format!(
                "{name} must be a number or {channels}, one for each channel, got {given}"
            )));
        }
        match (0..channels).map(|channel| self.of(channel)).find(|value| !value.is_finite()) {
            Some(value) => Err(Error::invalid(format!("{name} must be finite, got {value}"))),
            None => Ok(()),
        }
    }
}

/// A number, or (min, max).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a number or a pair (min, max) was expected")]
pub enum Span {
    One(f64),
    Pair([f64; 2]),
}

impl Span {
    /// (min, max); one number is how far it may go to both sides of `middle`.
    pub(super) fn around(self, middle: f64) -> [f64; 2] {
        match self {
            Self::One(reach) => [middle - reach, middle + reach],
            Self::Pair(range) => range,
        }
    }

    /// (min, max); one number is both.
    pub(super) fn range(self) -> [f64; 2] {
        match self {
            Self::One(value) => [value; 2],
            Self::Pair(range) => range,
        }
    }
}

pub(super) fn check_probability(name: &str, p: f64) -> Result<()> {
    if (0.0..=1.0).contains(&p) {
        return Ok(());
    }
    Err(Error::invalid(format!("{name} must be a probability in 0..=1, got {p}")))
}

/// A range (min, max) within bounds.
pub(super) fn check_range(name: &str, range: [f64; 2], within: [f64; 2]) -> Result<()> {
    let [low, high] = range;
    if within[0] <= low && low <= high && high <= within[1] && high.is_finite() {
        return Ok(());
    }
    let bounds = match within {
        [low, f64::INFINITY] => format!("not below {low}"),
        [low, high] => format!("in {low}..={high}"),
    };
    Err(Error::invalid(format!("{name} must be (min, max) with min <= max, both {bounds}, got ({low}, {high})")))
}
