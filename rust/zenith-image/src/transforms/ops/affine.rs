//! Rotation, shear and shift in place, as `PIL.Image.transform` does them: for each pixel where it came from, in fixed point
//! for the nearest pixel, in floats for bilinear interpolation.

use serde::{Deserialize, Serialize};

use crate::picture::Picture;
use crate::transforms::arguments::Value;

/// How pixels are taken at places between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sampling {
    #[default]
    Nearest,
    Bilinear,
}

/// (a, b, c, d, e, f): x' = a·x + b·y + c, y' = d·x + e·y + f.
pub(crate) type Matrix = [f64; 6];

/// torchvision's inverse matrix of a shear (degrees) around `center` and a shift.
pub(crate) fn shear_and_shift(shear: [f64; 2], shift: [f64; 2], center: [f64; 2]) -> Matrix {
    let [sx, sy] = shear.map(f64::to_radians);
    let a = (-sy).cos() / sy.cos();
    let b = -(a * sx.tan());
    let c = (-sy).sin() / sy.cos();
    let d = 1.0 - c * sx.tan();
    let mut matrix = [d, -b, 0.0, -c, a, 0.0];
    let to = [center[0] + shift[0], center[1] + shift[1]];
    matrix[2] += center[0] - matrix[0] * to[0] - matrix[1] * to[1];
    matrix[5] += center[1] - matrix[3] * to[0] - matrix[4] * to[1];
    matrix
}

/// `PIL.Image.rotate` around the middle, anticlockwise.
pub(crate) fn rotation(degrees: f64, width: usize, height: usize) -> Matrix {
    // Pillow rounds to 15 digits, so that right angles are exact.
    let digits = |value: f64| (value * 1e15).round_ties_even() / 1e15;
    let angle = -degrees.to_radians();
    let (cos, sin) = (digits(angle.cos()), digits(angle.sin()));
    let center = [width as f64 / 2.0, height as f64 / 2.0];
    let turned = |x: f64, y: f64| (cos * x + sin * y, -sin * x + cos * y);
    let (x, y) = turned(-center[0], -center[1]);
    [cos, sin, x + center[0], -sin, cos, y + center[1]]
}

/// Writes the picture that `matrix` takes from `picture` back to it.
pub(crate) fn transform(picture: &mut Picture, matrix: &Matrix, sampling: Sampling, fill: &Value, spare: &mut Vec<u8>) {
    spare.clear();
    spare.extend_from_slice(&picture.pixels);
    match (picture.channels, sampling) {
        (1, Sampling::Nearest) => nearest::<1>(picture, matrix, fill, spare),
        (1, Sampling::Bilinear) => bilinear::<1>(picture, matrix, fill, spare),
        (_, Sampling::Nearest) => nearest::<3>(picture, matrix, fill, spare),
        (_, Sampling::Bilinear) => bilinear::<3>(picture, matrix, fill, spare),
    }
}

fn levels<const CHANNELS: usize>(fill: &Value) -> [u8; CHANNELS] {
    std::array::from_fn(|channel| fill.level(channel))
}

fn nearest<const CHANNELS: usize>(picture: &mut Picture, matrix: &Matrix, fill: &Value, from: &[u8]) {
    if matrix[1] == 0.0 && matrix[3] == 0.0 {
        return scale::<CHANNELS>(picture, matrix, fill, from);
    }
    let (width, height) = (picture.width as i64, picture.height as i64);
    let fill = levels::<CHANNELS>(fill);
    let from = from.as_chunks::<CHANNELS>().0;
    // 16 bits behind the point; Pillow's are of 32 bits, and it takes floats where they would not do.
    let fixed = |value: f64| (value * 65_536.0 + 0.5).floor() as i64;
    let [a, b, c, d, e, f] = *matrix;
    let (step_x, step_y) = (fixed(a), fixed(d));
    let (row_x, row_y) = (fixed(b), fixed(e));
    let (start_x, start_y) = (fixed(c + a * 0.5 + b * 0.5), fixed(f + d * 0.5 + e * 0.5));
    for (y, row) in picture.pixels.chunks_exact_mut(picture.width * CHANNELS).enumerate() {
        let (mut at_x, mut at_y) = (start_x + row_x * y as i64, start_y + row_y * y as i64);
        for pixel in row.as_chunks_mut::<CHANNELS>().0 {
            let (x, y) = (at_x >> 16, at_y >> 16);
            let inside = (0..width).contains(&x) && (0..height).contains(&y);
            *pixel = if inside { from[(y * width + x) as usize] } else { fill };
            (at_x, at_y) = (at_x + step_x, at_y + step_y);
        }
    }
}

/// Without shear Pillow adds up the steps in floats.
fn scale<const CHANNELS: usize>(picture: &mut Picture, matrix: &Matrix, fill: &Value, from: &[u8]) {
    let fill = levels::<CHANNELS>(fill);
    let width = picture.width;
    let from = from.as_chunks::<CHANNELS>().0;
    let place = |at: f64, side: usize| (at >= 0.0 && at < side as f64).then_some(at as usize);
    let mut at_y = matrix[5] + matrix[4] * 0.5;
    for row in picture.pixels.chunks_exact_mut(width * CHANNELS) {
        let y = place(at_y, picture.height);
        let mut at_x = matrix[2] + matrix[0] * 0.5;
        for pixel in row.as_chunks_mut::<CHANNELS>().0 {
            *pixel = match (place(at_x, width), y) {
                (Some(x), Some(y)) => from[y * width + x],
                _ => fill,
            };
            at_x += matrix[0];
        }
        at_y += matrix[4];
    }
}

fn bilinear<const CHANNELS: usize>(picture: &mut Picture, matrix: &Matrix, fill: &Value, from: &[u8]) {
    let (width, height) = (picture.width, picture.height);
    let fill = levels::<CHANNELS>(fill);
    let from = from.as_chunks::<CHANNELS>().0;
    let [a, b, c, d, e, f] = *matrix;
    for (y, row) in picture.pixels.chunks_exact_mut(width * CHANNELS).enumerate() {
        for (x, pixel) in row.as_chunks_mut::<CHANNELS>().0.iter_mut().enumerate() {
            let (middle_x, middle_y) = (x as f64 + 0.5, y as f64 + 0.5);
            let at_x = a * middle_x + b * middle_y + c;
            let at_y = d * middle_x + e * middle_y + f;
            if !(at_x >= 0.0 && at_x < width as f64 && at_y >= 0.0 && at_y < height as f64) {
                *pixel = fill;
                continue;
            }
            let (at_x, at_y) = (at_x - 0.5, at_y - 0.5);
            let (left, top) = (at_x.floor(), at_y.floor());
            let (part_x, part_y) = (at_x - left, at_y - top);
            // Beyond the borders the outermost pixels count again.
            let column = |x: f64| x.clamp(0.0, (width - 1) as f64) as usize;
            let line = |y: f64| y.clamp(0.0, (height - 1) as f64) as usize * width;
            let (columns, lines) = ([column(left), column(left + 1.0)], [line(top), line(top + 1.0)]);
            *pixel = std::array::from_fn(|channel| {
                let level = |line: usize, column: usize| f64::from(from[line + column][channel]);
                let across = |line| level(line, columns[0]) * (1.0 - part_x) + level(line, columns[1]) * part_x;
                (across(lines[0]) * (1.0 - part_y) + across(lines[1]) * part_y) as u8
            });
        }
    }
}
