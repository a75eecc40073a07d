//! `Resize`.

use serde::{Deserialize, Serialize};
use zenith_data::{Error, Result};

use super::arguments::{SIDE_MAX, Size};
use super::view::View;
use crate::resize::Interpolation;

/// To (height, width), or the shorter side to one number and the longer in proportion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resize {
    /// `None`: the longer side becomes `max_size`.
    #[serde(default)]
    pub size: Option<Size>,
    #[serde(default)]
    pub interpolation: Interpolation,
    /// Bound of the longer side where `size` is one number.
    #[serde(default)]
    pub max_size: Option<i64>,
}

impl Resize {
    pub fn check(&self) -> Result<()> {
        if let Some(size) = self.size {
            size.check("Resize: size")?;
        }
        match (self.size, self.max_size) {
            (None, None) => {
                Err(Error::invalid("Resize: size must be an int or a pair of ints unless max_size is given"))
            }
            (Some(Size::Pair(_)), Some(_)) => {
                Err(Error::invalid("Resize: max_size goes with size as one int or None, not with a pair"))
            }
            (_, Some(max_size)) if !(1..=SIDE_MAX).contains(&max_size) => {
                Err(Error::invalid(format!("Resize: max_size must be in 1..={SIDE_MAX}, got {max_size}")))
            }
            (Some(Size::One(size)), Some(max_size)) if max_size <= size => {
                Err(Error::invalid(format!("Resize: max_size must be above size = {size}, got {max_size}")))
            }
            _ => Ok(()),
        }
    }

    /// (height, width) of what becomes of a picture of (height, width); sides of 0 where it is too thin for the new size.
    pub fn size_of(&self, [height, width]: [usize; 2]) -> [usize; 2] {
        let (short, long) = (width.min(height) as f64, width.max(height) as f64);
        let (new_short, new_long) = match (self.size, self.max_size) {
            (Some(Size::Pair([height, width])), _) => return [height as usize, width as usize],
            (None, max_size) => {
                let max_size = max_size.unwrap_or(0) as f64;
                ((max_size * short / long) as usize, max_size as usize)
            }
            (Some(Size::One(size)), max_size) => {
                let new_long = (size as f64 * long / short) as usize;
                match max_size {
                    Some(max_size) if new_long as i64 > max_size => {
                        ((max_size as f64 * size as f64 / new_long as f64) as usize, max_size as usize)
                    }
                    _ => (size as usize, new_long),
                }
            }
        };
        if width <= height { [new_long, new_short] } else { [new_short, new_long] }
    }

    pub fn apply(&self, view: &mut View) -> Result<()> {
        let (width, height) = view.size();
        let [new_height, new_width] = self.size_of([height, width]);
        let sides = 1..=usize::MAX / 2;
        if !sides.contains(&new_height)
            || !sides.contains(&new_width)
            || new_height.max(new_width) > 64 * SIDE_MAX as usize
        {
            return Err(Error::invalid(format!(
                "Resize: a picture of {height} × {width} (height × width) would become {new_height} × {new_width}; give size \
                 as a pair, or leave such pictures out"
            )));
        }
        view.resize(new_width, new_height, self.interpolation);
        Ok(())
    }
}
