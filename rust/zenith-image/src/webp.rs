//! WebP, lossy and lossless, by the crate `image-webp`; of animations the first frame.

use std::io::Cursor;

use image_webp::{DecodingError, WebPDecoder};
use zenith_data::{Error, Result};

use crate::decode::{Format, Info, Limits, Request};
use crate::orientation::{self, Turn};
use crate::picture::Picture;
use crate::whole::Whole;

pub(crate) fn probe(bytes: &[u8], turn: bool, limits: &Limits) -> Result<Info> {
    let mut file = Cursor::new(bytes);
    let read = open(&mut file, limits).and_then(|(mut decoder, (width, height))| {
        let number = if turn { orientation_of(&mut decoder)? } else { 1 };
        let (width, height) = Turn::of_orientation(number).size(width, height);
        Ok(Info { format: Format::WebP, width, height })
    });
    read.map_err(|error| error.at_offset(file.position()))
}

pub(crate) fn decode(bytes: &[u8], request: &Request, limits: &Limits, into: &mut Picture) -> Result<()> {
    let mut file = Cursor::new(bytes);
    let read = open(&mut file, limits).and_then(|(mut decoder, (width, height))| {
        let number = if request.turn { orientation_of(&mut decoder)? } else { 1 };
        let channels = if decoder.has_alpha() { 4 } else { 3 };
        let mut pixels = vec![0; width * height * channels];
        decoder.read_image(&mut pixels).map_err(|error| failed(&error))?;
        Ok((Whole { width, height, channels, pixels }, Turn::of_orientation(number)))
    });
    let (whole, turn) = read.map_err(|error| error.at_offset(file.position()))?;
    whole.deliver(request, turn, into);
    Ok(())
}

type Opened<'a, 'b> = (WebPDecoder<&'a mut Cursor<&'b [u8]>>, (usize, usize));

fn open<'a, 'b>(file: &'a mut Cursor<&'b [u8]>, limits: &Limits) -> Result<Opened<'a, 'b>> {
    let claimed = file.get_ref().get(4..8).and_then(<[u8]>::first_chunk).map_or(0, |size| u32::from_le_bytes(*size));
    let held = file.get_ref().len();
    if (held as u64) < 8 + u64::from(claimed) {
        return Err(Error::corrupt(format!("damaged WebP: it claims {} bytes (truncated)", 8 + u64::from(claimed)))
            .at_offset(held as u64));
    }
    let mut decoder = WebPDecoder::new(file).map_err(|error| failed(&error))?;
    let (width, height) = decoder.dimensions();
    let size = (width as usize, height as usize);
    limits.check(size.0, size.1)?;
    // Metadata and the frame: four bytes a pixel, and as much again for what lies between.
    let bytes = limits.pixels_max.saturating_mul(8).saturating_add(16 << 20);
    decoder.set_memory_limit(usize::try_from(bytes).unwrap_or(usize::MAX));
    Ok((decoder, size))
}

fn orientation_of(decoder: &mut WebPDecoder<&mut Cursor<&[u8]>>) -> Result<u8> {
    let exif = decoder.exif_metadata().map_err(|error| failed(&error))?.unwrap_or_default();
    // Some writers keep the prefix that EXIF has in a JPEG.
    let tiff = exif.strip_prefix(b"Exif\0\0").unwrap_or(&exif);
    Ok(orientation::of_tiff(tiff).unwrap_or(1))
}

fn failed(error: &DecodingError) -> Error {
    match error {
        DecodingError::UnsupportedFeature(what) => Error::unsupported(format!("a WebP with {what} is not supported")),
        DecodingError::MemoryLimitExceeded => Error::unsupported("a WebP that needs more memory than the limits allow"),
        other => Error::corrupt(format!("damaged WebP: {other}")),
    }
}
