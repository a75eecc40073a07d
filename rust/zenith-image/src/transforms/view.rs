//! What the geometric transforms have made of a picture so far, before a pixel of it was read: which part of the source, at
//! which size, on which canvas, flipped or not. Rendering a view reads what it needs and no more.

use serde::{Deserialize, Serialize};

use super::arguments::Value;
use crate::picture::Rect;
use crate::resize::Interpolation;

/// What lies around a padded picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PaddingMode {
    #[default]
    Constant,
    /// The outermost pixels.
    Edge,
    /// Mirrored at the outermost pixels, which are not repeated.
    Reflect,
    /// Mirrored behind the outermost pixels.
    Symmetric,
}

impl PaddingMode {
    /// The pixel that stands at `at` in a row of `len`, which may lie outside of it; `None` for the constant.
    pub fn index(self, at: i64, len: i64) -> Option<usize> {
        if (0..len).contains(&at) {
            return Some(at as usize);
        }
        let inside = match self {
            Self::Constant => return None,
            Self::Edge => at.clamp(0, len - 1),
            Self::Reflect if len == 1 => 0,
            Self::Reflect => {
                let folded = at.rem_euclid(2 * (len - 1));
                folded.min(2 * (len - 1) - folded)
            }
            Self::Symmetric => {
                let folded = at.rem_euclid(2 * len);
                folded.min(2 * len - 1 - folded)
            }
        };
        Some(inside as usize)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scaled {
    pub width: usize,
    pub height: usize,
    pub interpolation: Interpolation,
    /// The part that is left, in pixels of the new size.
    pub window: Rect,
}

/// The area that is delivered, in pixels of what lies below it; it may reach beyond.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Canvas {
    pub x: i64,
    pub y: i64,
    pub width: usize,
    pub height: usize,
    pub mode: PaddingMode,
    pub fill: Value,
}

/// flip(canvas(window(resize(source)))).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct View {
    pub source: Rect,
    pub scaled: Option<Scaled>,
    pub canvas: Option<Canvas>,
    pub flip_x: bool,
    pub flip_y: bool,
}

impl View {
    pub fn whole(width: usize, height: usize) -> Self {
        Self { source: Rect::whole(width, height), scaled: None, canvas: None, flip_x: false, flip_y: false }
    }

    /// (width, height).
    pub fn size(&self) -> (usize, usize) {
        match &self.canvas {
            Some(canvas) => (canvas.width, canvas.height),
            None => self.inner_size(),
        }
    }

    /// (width, height) of what lies on the canvas.
    pub fn inner_size(&self) -> (usize, usize) {
        match &self.scaled {
            Some(scaled) => (scaled.window.width, scaled.window.height),
            None => (self.source.width, self.source.height),
        }
    }

    pub fn is_whole(&self, width: usize, height: usize) -> bool {
        *self == Self::whole(width, height)
    }

    /// `part` lies within the view.
    pub fn crop(&mut self, part: Rect) {
        let (width, height) = self.size();
        let x = if self.flip_x { width - part.x - part.width } else { part.x };
        let y = if self.flip_y { height - part.y - part.height } else { part.y };
        let part = Rect { x, y, ..part };
        let Some(canvas) = &mut self.canvas else { return self.crop_inner(part) };
        canvas.x += x as i64;
        canvas.y += y as i64;
        (canvas.width, canvas.height) = (part.width, part.height);
        self.drop_hidden();
    }

    fn crop_inner(&mut self, part: Rect) {
        let inner = match &mut self.scaled {
            Some(scaled) => &mut scaled.window,
            None => &mut self.source,
        };
        *inner = Rect { x: inner.x + part.x, y: inner.y + part.y, ..part };
    }

    /// Below a canvas only what shows on it is needed; mirrored surroundings may show all.
    fn drop_hidden(&mut self) {
        let (width, height) = self.inner_size();
        let Some(canvas) = &mut self.canvas else { return };
        if canvas.mode != PaddingMode::Constant {
            return;
        }
        let (left, right) = (canvas.x.max(0), (canvas.x + canvas.width as i64).min(width as i64));
        let (top, bottom) = (canvas.y.max(0), (canvas.y + canvas.height as i64).min(height as i64));
        if left >= right || top >= bottom {
            return;
        }
        canvas.x -= left;
        canvas.y -= top;
        let fits = canvas.x == 0
            && canvas.y == 0
            && right - left == canvas.width as i64
            && bottom - top == canvas.height as i64;
        let (x, y, width, height) = (left as usize, top as usize, (right - left) as usize, (bottom - top) as usize);
        if fits {
            self.canvas = None;
        }
        self.crop_inner(Rect { x, y, width, height });
    }

    /// Whether a resize can be added; else the view is rendered first.
    pub fn takes_resize(&self) -> bool {
        self.scaled.is_none() && self.canvas.is_none() && !self.flip_x && !self.flip_y
    }

    pub fn resize(&mut self, width: usize, height: usize, interpolation: Interpolation) {
        let (old_width, old_height) = self.size();
        if (old_width, old_height) != (width, height) {
            self.scaled = Some(Scaled { width, height, interpolation, window: Rect::whole(width, height) });
        }
    }

    pub fn takes_padding(&self) -> bool {
        self.canvas.is_none()
    }

    /// `sides`: left, top, right, bottom.
    pub fn pad(&mut self, sides: [usize; 4], mode: PaddingMode, fill: &Value) {
        let (width, height) = self.size();
        let [mut left, mut top, mut right, mut bottom] = sides;
        if self.flip_x {
            std::mem::swap(&mut left, &mut right);
        }
        if self.flip_y {
            std::mem::swap(&mut top, &mut bottom);
        }
        if sides != [0; 4] {
            self.canvas = Some(Canvas {
                x: -(left as i64),
                y: -(top as i64),
                width: width + left + right,
                height: height + top + bottom,
                mode,
                fill: fill.clone(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rect(x: usize, y: usize, width: usize, height: usize) -> Rect {
        Rect { x, y, width, height }
    }

    #[test]
    fn a_crop_of_a_flipped_picture_is_taken_from_the_other_side() {
        let mut view = View::whole(100, 50);
        view.flip_x = true;
        view.crop(rect(10, 5, 30, 20));
        assert_eq!(view.source, rect(60, 5, 30, 20));
    }

    #[test]
    fn a_crop_of_a_resized_picture_leaves_the_source_alone() {
        let mut view = View::whole(500, 375);
        view.resize(341, 256, Interpolation::Bilinear);
        view.crop(rect(58, 16, 224, 224));
        assert_eq!(view.size(), (224, 224));
        assert_eq!(view.source, Rect::whole(500, 375));
        assert!(!view.takes_resize());
    }

    #[test]
    fn padding_that_is_cropped_away_costs_nothing() {
        let mut view = View::whole(32, 32);
        view.pad([4; 4], PaddingMode::Constant, &Value::One(0.0));
        view.crop(rect(6, 2, 32, 32));
        assert_eq!(view.source, rect(2, 0, 30, 30));
        assert_eq!(view.canvas.as_ref().map(|canvas| (canvas.x, canvas.y)), Some((0, -2)));
        view.crop(rect(0, 2, 30, 30));
        assert_eq!((view.canvas.as_ref(), view.source), (None, rect(2, 0, 30, 30)));
    }

    #[test]
    fn surroundings_are_numpys() {
        let row = |mode: PaddingMode| (-4..7).map(|at| mode.index(at, 3)).collect::<Vec<_>>();
        let some = |places: [usize; 11]| places.map(Some).to_vec();
        assert_eq!(row(PaddingMode::Edge), some([0, 0, 0, 0, 0, 1, 2, 2, 2, 2, 2]));
        assert_eq!(row(PaddingMode::Reflect), some([0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2]));
        assert_eq!(row(PaddingMode::Symmetric), some([2, 2, 1, 0, 0, 1, 2, 2, 1, 0, 0]));
        assert_eq!(row(PaddingMode::Constant)[3..8], [None, Some(0), Some(1), Some(2), None]);
    }
}
