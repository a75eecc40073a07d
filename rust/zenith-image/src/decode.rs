//! From the bytes of a file to pixels.

use zenith_data::transform::Encoded;
use zenith_data::{Error, Result};

use crate::picture::{Picture, Rect};
use crate::{jpeg, png, webp};

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

impl Limits {
    /// Refuses a size before anything is allocated for it.
    pub(crate) fn check(&self, width: usize, height: usize) -> Result<()> {
        if width as u64 * height as u64 <= self.pixels_max {
            return Ok(());
        }
        Err(Error::unsupported(format!("{width} × {height} pixels; the limit pixels_max is {}", self.pixels_max)))
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
    /// Of a reduced JPEG, components that are sampled less than others stay as coarse beside them as they are in the file. Without it
    /// they are as fine as their coefficients allow, which is what libjpeg gives, and takes half as long again at an eighth.
    pub coarse: bool,
    /// The part that is wanted, in pixels of the (reduced, turned) picture; it lies within it and is not empty.
    pub region: Rect,
}

impl Mode {
    pub fn channels(self) -> usize {
        match self {
            Mode::Grey => 1,
            Mode::Rgb => 3,
            Mode::Rgba => 4,
        }
    }
}

impl Format {
    /// The format that bytes begin like.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0xFF, 0xD8, 0xFF, ..] => Some(Format::Jpeg),
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1A, b'\n', ..] => Some(Format::Png),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(Format::WebP),
            _ => None,
        }
    }
}

/// Reads the headers. Errors: not a picture, damaged, beyond the limits.
pub fn probe(bytes: &[u8], turn: bool, limits: &Limits) -> Result<Info> {
    match Format::of(bytes) {
        Some(Format::Jpeg) => jpeg::probe(bytes, turn, limits),
        Some(Format::Png) => png::probe(bytes, turn, limits),
        Some(Format::WebP) => webp::probe(bytes, turn, limits),
        None => Err(unknown(bytes)),
    }
}

/// Decodes what is wanted; `into` gets its size and pixels. Errors name the byte at which the file is wrong.
/// A hint is an `index`.
pub fn decode<'a>(
    encoded: impl Into<Encoded<'a>>,
    request: &Request,
    limits: &Limits,
    into: &mut Picture,
) -> Result<()> {
    let encoded = encoded.into();
    let bytes = encoded.bytes;
    if !matches!(request.reduce, 1 | 2 | 4 | 8) {
        return Err(Error::invalid(format!("reduce must be 1, 2, 4 or 8, not {}", request.reduce)));
    }
    let info = probe(bytes, request.turn, limits)?;
    let (width, height) = (info.width.div_ceil(request.reduce), info.height.div_ceil(request.reduce));
    if !request.region.lies_within(width, height) {
        let Rect { x, y, width: wide, height: high } = request.region;
        return Err(Error::invalid(format!(
            "the region {wide} × {high} at ({x}, {y}) is empty or not within the picture of {width} × {height}"
        )));
    }
    match info.format {
        Format::Jpeg => jpeg::decode(encoded, request, limits, into),
        Format::Png => png::decode(bytes, request, limits, into),
        Format::WebP => webp::decode(bytes, request, limits, into),
    }
}

/// What lets `decode` begin in the midst of a file, made by reading all of it: of a JPEG where groups of MCUs begin (about two
/// hundredths of the file), or all `blocks`, for decoding at an eighth (nine). Empty where it would not help, and
/// for what is no picture.
pub fn index(bytes: &[u8], blocks: bool, limits: &Limits) -> Vec<u8> {
    match Format::of(bytes) {
        Some(Format::Jpeg) => jpeg::index(bytes, blocks, limits),
        _ => Vec::new(),
    }
}

fn unknown(bytes: &[u8]) -> Error {
    let head = &bytes[..bytes.len().min(8)];
    Error::corrupt(format!("not a JPEG, PNG or WebP picture: it begins with {head:02x?}")).at_offset(0)
}
