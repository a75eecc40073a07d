//! From the bytes of a file to pixels.

use zenith_data::{Error, Result};

use crate::picture::{Picture, Rect};

/// What files are told apart by: their first bytes, never their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Jpeg,
    Png,
    WebP,
}

/// Which channels are delivered, as `PIL.Image.convert` makes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Grey,
    Rgb,
    Rgba,
}

/// What a file may ask for before it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Width × height.
    pub pixels_max: u64,
    /// Scans of a progressive JPEG.
    pub scans_max: u32,
}

impl Default for Limits {
    /// Pillow's bound of pixels.
    fn default() -> Self {
        Self { pixels_max: 178_956_970, scans_max: 100 }
    }
}

/// What is known of a picture before it is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Info {
    pub format: Format,
    /// As delivered: turned, if that was asked for.
    pub width: usize,
    pub height: usize,
}

/// What is wanted of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    pub mode: Mode,
    /// Turn the picture as its EXIF orientation says.
    pub turn: bool,
    /// 1, 2, 4 or 8: the picture is wanted at `ceil(width / reduce)` × `ceil(height / reduce)`, by a JPEG's smaller inverse
    /// transforms. Other formats are decoded whole and averaged over the pixels that become one.
    pub reduce: usize,
    /// The part that is wanted, in pixels of the (reduced, turned) picture; it lies within it and is not empty.
    pub region: Rect,
}

/// Reads the headers. Errors: not a picture, damaged, beyond the limits.
pub fn probe(bytes: &[u8], turn: bool, limits: &Limits) -> Result<Info> {
    let _ = (turn, limits);
    Err(unknown(bytes))
}

/// Decodes what is wanted; `into` gets its size and pixels. Errors name the byte at which the file is wrong.
pub fn decode(bytes: &[u8], request: &Request, limits: &Limits, into: &mut Picture) -> Result<()> {
    let _ = (request, limits, into);
    Err(unknown(bytes))
}

fn unknown(bytes: &[u8]) -> Error {
    let head = &bytes[..bytes.len().min(8)];
    Error::corrupt(format!("not a JPEG, PNG or WebP picture: it begins with {head:02x?}"))
}
