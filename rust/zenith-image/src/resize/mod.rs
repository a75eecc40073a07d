//! Resizing of 8-bit pictures, equal to Pillow's to the last bit: two passes, rounded to 8 bits in between, over the rows and
//! columns that are needed and no others, and each finished row straight to where it is wanted.
//! Pillow's weights of 22 bits are kept, because equality with the pictures that models were trained on is worth more than
//! the time that weights of 16 bits would save.

mod horizontal;
mod simd;
mod taps;
mod vertical;

pub use simd::Simd;
pub use taps::{Axis, Interpolation, Taps};

/// Pixels that lie somewhere, as a whole picture or as a part of one.
#[derive(Debug, Clone, Copy)]
pub struct Pixels<'a> {
    /// From the first pixel of the part on.
    pub bytes: &'a [u8],
    pub width: usize,
    pub height: usize,
    pub channels: usize,
    /// Bytes from row to row.
    pub stride: usize,
}

impl<'a> Pixels<'a> {
    pub fn row(&self, y: usize) -> &'a [u8] {
        &self.bytes[y * self.stride..][..self.width * self.channels]
    }
}

/// What takes rows as they are finished: their number, and their pixels.
pub type RowSink<'a> = dyn FnMut(usize, &[u8]) + 'a;

/// Memory between the two passes, kept from picture to picture.
#[derive(Debug)]
pub struct Resizer {
    simd: Simd,
    middle: Vec<u8>,
    row: Vec<u8>,
    horizontal: horizontal::Scratch,
}

impl Default for Resizer {
    fn default() -> Self {
        Self::with_simd(Simd::detect())
    }
}

impl Resizer {
    pub fn with_simd(simd: Simd) -> Self {
        Self { simd, middle: Vec::new(), row: Vec::new(), horizontal: horizontal::Scratch::default() }
    }

    /// Gives the rows of the window that `columns` and `rows` describe. `source` is what their ranges ask for: its first
    /// pixel is the first of both.
    pub fn resize(&mut self, source: Pixels<'_>, columns: &Taps, rows: &Taps, sink: &mut RowSink<'_>) {
        // Pillow's choice since version 13; earlier ones began with the columns always. The results differ by rounding.
        if rows.shrink > 0.0 && rows.shrink > 2.0 * columns.shrink && !columns.plain && !rows.plain {
            self.rows_first(source, columns, rows, sink);
        } else {
            self.columns_first(source, columns, rows, sink);
        }
    }

    fn columns_first(&mut self, source: Pixels<'_>, columns: &Taps, rows: &Taps, sink: &mut RowSink<'_>) {
        let width = columns.firsts.len() * source.channels;
        let left = columns.range().0;
        let top = rows.range().0;
        let middle = if columns.plain {
            Pixels { width: columns.firsts.len(), ..source }
        } else {
            let stride = padded(width);
            self.middle.resize(stride * source.height, 0);
            horizontal::pass(self.simd, source, columns, left, &mut self.horizontal, &mut self.middle, stride);
            Pixels { bytes: &self.middle, width: columns.firsts.len(), stride, ..source }
        };
        if rows.plain {
            for y in 0..rows.firsts.len() {
                sink(y, middle.row(y));
            }
            return;
        }
        self.row.resize(width, 0);
        for (y, (first, count)) in rows.firsts.iter().zip(&rows.counts).enumerate() {
            let weights = &rows.weights[y * rows.stride..][..*count];
            vertical::row(self.simd, middle, first - top, weights, &mut self.row);
            sink(y, &self.row);
        }
    }

    fn rows_first(&mut self, source: Pixels<'_>, columns: &Taps, rows: &Taps, sink: &mut RowSink<'_>) {
        let (left, top) = (columns.range().0, rows.range().0);
        let height = rows.firsts.len();
        let stride = source.width * source.channels;
        self.middle.resize(stride * height, 0);
        let lines = self.middle.chunks_exact_mut(stride);
        for (y, (line, (first, count))) in lines.zip(rows.firsts.iter().zip(&rows.counts)).enumerate() {
            let weights = &rows.weights[y * rows.stride..][..*count];
            vertical::row(self.simd, source, first - top, weights, line);
        }
        let width = columns.firsts.len() * source.channels;
        let wide = padded(width);
        self.row.resize(wide * height, 0);
        let middle = Pixels { bytes: &self.middle, height, stride, ..source };
        horizontal::pass(self.simd, middle, columns, left, &mut self.horizontal, &mut self.row, wide);
        for (y, row) in self.row.chunks_exact(wide).enumerate() {
            sink(y, &row[..width]);
        }
    }
}

/// Bytes of a row with room behind it: vectors of the last columns end beyond the row.
fn padded(width: usize) -> usize {
    (width + vertical::BLOCK).next_multiple_of(vertical::BLOCK)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(len: usize) -> Vec<u8> {
        (0..len as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
    }

    fn resized(simd: Simd, channels: usize, columns: Axis, rows: Axis, interpolation: Interpolation) -> Vec<u8> {
        let bytes = noise(columns.len * rows.len * channels);
        let (mut across, mut down) = (Taps::default(), Taps::default());
        across.compute(&columns, interpolation);
        down.compute(&rows, interpolation);
        let ((left, right), (top, bottom)) = (across.range(), down.range());
        let stride = columns.len * channels;
        let (width, height) = (right - left, bottom - top);
        let source = Pixels { bytes: &bytes[top * stride + left * channels..], width, height, channels, stride };
        let mut all = Vec::new();
        Resizer::with_simd(simd).resize(source, &across, &down, &mut |y, row| {
            assert_eq!(y * columns.window_len * channels, all.len());
            all.extend_from_slice(row);
        });
        all
    }

    #[test]
    fn vector_code_gives_what_plain_code_gives() {
        for simd in Simd::available() {
            for channels in [1, 3] {
                for (len, out) in [(300, 224), (31, 17), (17, 64), (1, 5), (90, 1), (7, 7), (500, 33)] {
                    for interpolation in [Interpolation::Nearest, Interpolation::Bilinear, Interpolation::Lanczos] {
                        let axes = (Axis::whole(len, out), Axis::whole(out + 3, len));
                        assert_eq!(
                            resized(simd, channels, axes.0, axes.1, interpolation),
                            resized(Simd::Plain, channels, axes.0, axes.1, interpolation),
                            "{simd:?} {channels} channels, {len} to {out}, {interpolation:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_window_is_a_part_of_the_whole() {
        let axis = Axis::whole(100, 61);
        let whole = resized(Simd::detect(), 3, axis, axis, Interpolation::Bicubic);
        let part = Axis { window_start: 20, window_len: 30, ..axis };
        let window = resized(Simd::detect(), 3, part, part, Interpolation::Bicubic);
        for (y, row) in window.chunks_exact(30 * 3).enumerate() {
            assert_eq!(row, &whole[((y + 20) * 61 + 20) * 3..][..30 * 3]);
        }
    }

    #[test]
    fn a_flat_picture_stays_flat() {
        for interpolation in [Interpolation::Bilinear, Interpolation::Bicubic, Interpolation::Lanczos] {
            let (mut across, mut down) = (Taps::default(), Taps::default());
            across.compute(&Axis::whole(40, 23), interpolation);
            down.compute(&Axis::whole(30, 77), interpolation);
            let source = Pixels { bytes: &[77; 40 * 30 * 3], width: 40, height: 30, channels: 3, stride: 120 };
            Resizer::default()
                .resize(source, &across, &down, &mut |_, row| assert!(row.iter().all(|level| *level == 77)));
        }
    }
}
