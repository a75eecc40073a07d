//! PNG, by the crate `png`; what Pillow makes of its depths and palettes is made here.

use std::io::Cursor;

use png::{BitDepth, ColorType, Decoder, DecodingError, Transformations};
use zenith_data::{Error, Result};

use crate::decode::{Format, Info, Limits, Request};
use crate::orientation::{self, Turn};
use crate::picture::Picture;
use crate::whole::Whole;

/// Inflating makes at most this many bytes of one.
const INFLATION_MAX: u64 = 1040;

pub(crate) fn probe(bytes: &[u8], turn: bool, limits: &Limits) -> Result<Info> {
    let mut file = Cursor::new(bytes);
    let mut decoder = Decoder::new(&mut file);
    let read = decoder.read_header_info().map(|info| (info.width as usize, info.height as usize));
    drop(decoder);
    let (width, height) = read.map_err(|error| failed(&error).at_offset(file.position()))?;
    limits.check(width, height)?;
    // EXIF may stand anywhere before the pixels, so that all up to there is read; only those who ask for it pay.
    let turn = if turn { Turn::of_orientation(orientation_of(bytes, limits)?) } else { Turn::default() };
    let (width, height) = turn.size(width, height);
    Ok(Info { format: Format::Png, width, height })
}

pub(crate) fn decode(bytes: &[u8], request: &Request, limits: &Limits, into: &mut Picture) -> Result<()> {
    let mut file = Cursor::new(bytes);
    let whole = read(&mut file, limits);
    let position = file.position();
    let (whole, number) = whole.map_err(|error| error.at_offset(position))?;
    whole.deliver(request, Turn::of_orientation(if request.turn { number } else { 1 }), into);
    Ok(())
}

fn read(file: &mut Cursor<&[u8]>, limits: &Limits) -> Result<(Whole, u8)> {
    let length = file.get_ref().len() as u64;
    let mut decoder = Decoder::new_with_limits(file, memory(limits));
    decoder.set_transformations(Transformations::EXPAND);
    let header = decoder.read_header_info().map_err(|error| failed(&error))?;
    limits.check(header.width as usize, header.height as usize)?;
    let claimed = header.raw_bytes() as u64;
    if claimed > INFLATION_MAX * length {
        let message = format!("damaged PNG: {claimed} bytes of pixels cannot be in a file of {length} (truncated?)");
        return Err(Error::corrupt(message));
    }
    let mut reader = decoder.read_info().map_err(|error| failed(&error))?;
    let number = exif_number(reader.info());
    let size = reader.output_buffer_size().ok_or_else(|| Error::unsupported("a PNG too large to address"))?;
    let mut pixels = vec![0; size];
    let info = reader.next_frame(&mut pixels).map_err(|error| failed(&error))?;
    pixels.truncate(info.buffer_size());
    let channels = info.color_type.samples();
    if info.bit_depth == BitDepth::Sixteen {
        // Pillow keeps grey of 16 bits as such, and converting it clips; of other colours it reads the upper 8 bits.
        let clips = info.color_type == ColorType::Grayscale;
        let samples = pixels.as_chunks::<2>().0.iter();
        pixels = samples
            .map(|&[high, low]| {
                if clips && high == 0 {
                    low
                } else if clips {
                    255
                } else {
                    high
                }
            })
            .collect();
    }
    Ok((Whole { width: info.width as usize, height: info.height as usize, channels, pixels }, number))
}

fn orientation_of(bytes: &[u8], limits: &Limits) -> Result<u8> {
    let mut file = Cursor::new(bytes);
    let read = Decoder::new_with_limits(&mut file, memory(limits)).read_info().map(|reader| exif_number(reader.info()));
    read.map_err(|error| failed(&error).at_offset(file.position()))
}

fn exif_number(info: &png::Info<'_>) -> u8 {
    info.exif_metadata.as_deref().and_then(orientation::of_tiff).unwrap_or(1)
}

/// What the crate may allocate: the pixels at their deepest, and a little for tables and texts.
fn memory(limits: &Limits) -> png::Limits {
    let bytes = limits.pixels_max.saturating_mul(8).saturating_add(16 << 20);
    png::Limits { bytes: usize::try_from(bytes).unwrap_or(usize::MAX) }
}

fn failed(error: &DecodingError) -> Error {
    match error {
        DecodingError::LimitsExceeded => Error::unsupported("a PNG that needs more memory than the limits allow"),
        other => Error::corrupt(format!("damaged PNG: {other}")),
    }
}
