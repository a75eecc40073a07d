//! Makes the rows of a view: decodes the part that they come from, resizes exactly that, and lays it on its canvas.

use zenith_data::transform::Encoded;
use zenith_data::{Error, Result};

use super::view::{Canvas, View};
use crate::decode::{self, Limits, Mode, Request};
use crate::picture::{Picture, Rect};
use crate::resize::{Axis, Pixels, Resizer, RowSink, Taps};

/// Where pixels come from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source<'a> {
    /// A file of these sides (turned, if that is asked for).
    Encoded {
        encoded: Encoded<'a>,
        width: usize,
        height: usize,
    },
    Pixels(Pixels<'a>),
}

impl Source<'_> {
    /// (width, height).
    pub(super) fn size(&self) -> (usize, usize) {
        match self {
            Self::Encoded { width, height, .. } => (*width, *height),
            Self::Pixels(pixels) => (pixels.width, pixels.height),
        }
    }
}

/// How files are decoded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Decoding {
    pub mode: Mode,
    pub turn: bool,
    /// Smaller inverse transforms where the picture stays at least as large as what is made of it.
    pub fast: bool,
    pub limits: Limits,
}

/// Memory kept from picture to picture.
#[derive(Debug, Default)]
pub(super) struct Renderer {
    decoded: Picture,
    below_canvas: Picture,
    canvas_row: Vec<u8>,
    resizer: Resizer,
    columns: Taps,
    rows: Taps,
}

impl Renderer {
    /// Gives the rows of `view` in any order, flipped vertically where the view is, and not yet horizontally.
    pub(super) fn render(
        &mut self,
        source: Source<'_>,
        view: &View,
        decoding: &Decoding,
        sink: &mut RowSink<'_>,
    ) -> Result<()> {
        let height = view.size().1;
        let place = |y: usize| if view.flip_y { height - 1 - y } else { y };
        let Some(canvas) = &view.canvas else {
            return self.inner(source, view, decoding, &mut |y, row| sink(place(y), row));
        };
        let mut below = std::mem::take(&mut self.below_canvas);
        let drawn = fill_picture(&mut below, view.inner_size(), channels(decoding.mode), |sink| {
            self.inner(source, view, decoding, sink)
        });
        drawn.map(|()| lay(&below, canvas, &mut self.canvas_row, &mut |y, row| sink(place(y), row)))?;
        self.below_canvas = below;
        Ok(())
    }

    /// The rows of what lies on the canvas.
    fn inner(&mut self, source: Source<'_>, view: &View, decoding: &Decoding, sink: &mut RowSink<'_>) -> Result<()> {
        let part = view.source;
        let Some(scaled) = &view.scaled else {
            let pixels = cut(source, part, 1, decoding, &mut self.decoded)?;
            (0..pixels.height).for_each(|y| sink(y, pixels.row(y)));
            return Ok(());
        };
        let reduce = reduction(source, part, (scaled.width, scaled.height), decoding.fast);
        let (width, height) = source.size();
        let (first_x, mut across) = axis(part.x, part.width, width, reduce, scaled.width);
        let (first_y, mut down) = axis(part.y, part.height, height, reduce, scaled.height);
        (across.window_start, across.window_len) = (scaled.window.x, scaled.window.width);
        (down.window_start, down.window_len) = (scaled.window.y, scaled.window.height);
        self.columns.compute(&across, scaled.interpolation);
        self.rows.compute(&down, scaled.interpolation);
        let ((left, right), (top, bottom)) = (self.columns.range(), self.rows.range());
        let needed = Rect { x: first_x + left, y: first_y + top, width: right - left, height: bottom - top };
        let pixels = cut(source, needed, reduce, decoding, &mut self.decoded)?;
        self.resizer.resize(pixels, &self.columns, &self.rows, sink);
        Ok(())
    }
}

pub(super) fn channels(mode: Mode) -> usize {
    match mode {
        Mode::Grey => 1,
        Mode::Rgb => 3,
        Mode::Rgba => 4,
    }
}

/// Writes the rows that `rows` gives into a picture of that size.
pub(super) fn fill_picture(
    picture: &mut Picture,
    (width, height): (usize, usize),
    channels: usize,
    rows: impl FnOnce(&mut RowSink<'_>) -> Result<()>,
) -> Result<()> {
    check_pixels(width, height)?;
    (picture.width, picture.height, picture.channels) = (width, height, channels);
    let stride = width * channels;
    picture.pixels.resize(stride * height, 0);
    rows(&mut |y, row| picture.pixels[y * stride..][..stride].copy_from_slice(row))
}

/// What a transform may make of a picture is bounded as what a file may ask for.
pub(super) fn check_pixels(width: usize, height: usize) -> Result<()> {
    let most = Limits::default().pixels_max;
    if (width as u64).saturating_mul(height as u64) <= most {
        return Ok(());
    }
    Err(Error::new(
        zenith_data::ErrorKind::Budget,
        format!("the transforms would make a picture of {height} × {width} (height × width), more than {most} pixels"),
    ))
}

impl Picture {
    /// All of it, to be read.
    pub fn view(&self) -> Pixels<'_> {
        let (width, height, channels) = (self.width, self.height, self.channels);
        Pixels { bytes: &self.pixels, width, height, channels, stride: width * channels }
    }
}

/// A part of the source, reduced.
fn cut<'a>(
    source: Source<'a>,
    part: Rect,
    reduce: usize,
    decoding: &Decoding,
    into: &'a mut Picture,
) -> Result<Pixels<'a>> {
    match source {
        Source::Pixels(pixels) => {
            let bytes = &pixels.bytes[part.y * pixels.stride + part.x * pixels.channels..];
            Ok(Pixels { bytes, width: part.width, height: part.height, ..pixels })
        }
        Source::Encoded { encoded, .. } => {
            let request = Request { mode: decoding.mode, turn: decoding.turn, reduce, coarse: true, region: part };
            decode::decode(encoded, &request, &decoding.limits, into)?;
            if (into.width, into.height, into.channels) != (part.width, part.height, channels(decoding.mode)) {
                return Err(Error::internal("a decoder gave another part of the picture than it was asked for"));
            }
            Ok(into.view())
        }
    }
}

/// How much smaller the picture is decoded: never smaller than what is made of it.
pub(super) fn reduction(source: Source<'_>, part: Rect, (width, height): (usize, usize), fast: bool) -> usize {
    let Source::Encoded { .. } = source else { return 1 };
    let fits = |reduce: &usize| part.width / reduce >= width && part.height / reduce >= height;
    if fast { [8, 4, 2].into_iter().find(fits).unwrap_or(1) } else { 1 }
}

/// `len` pixels from `start` on of `side`, reduced: the first pixel of the reduced picture that they touch, and the axis from
/// there on.
fn axis(start: usize, len: usize, side: usize, reduce: usize, out: usize) -> (usize, Axis) {
    let first = start / reduce;
    let end = (start + len).div_ceil(reduce).min(side.div_ceil(reduce));
    let exact = |place: usize| place as f64 / reduce as f64 - first as f64;
    let axis = Axis::whole(end - first, out);
    (first, Axis { start: exact(start), end: exact(start + len).min((end - first) as f64), ..axis })
}

/// The rows of a canvas with a picture on it.
fn lay(picture: &Picture, canvas: &Canvas, row: &mut Vec<u8>, sink: &mut RowSink<'_>) {
    let channels = picture.channels;
    let stride = picture.width * channels;
    row.resize(canvas.width * channels, 0);
    for y in 0..canvas.height {
        let from = canvas.mode.index(canvas.y + y as i64, picture.height as i64);
        let from = from.map(|y| &picture.pixels[y * stride..][..stride]);
        for (x, pixel) in row.chunks_exact_mut(channels).enumerate() {
            match (from, canvas.mode.index(canvas.x + x as i64, picture.width as i64)) {
                (Some(from), Some(x)) => pixel.copy_from_slice(&from[x * channels..][..channels]),
                _ => pixel.iter_mut().enumerate().for_each(|(channel, level)| *level = canvas.fill.level(channel)),
            }
        }
        sink(y, row);
    }
}
