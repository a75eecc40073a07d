//! Pictures a second of a folder of JPEG files, by this crate and by zune-jpeg, as JSON: a part of
//! `python -m benchmarks.decoders`.

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use zenith_image::decode::{Limits, Mode, Request, decode, probe};
use zenith_image::{Picture, Rect};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).ok_or("usage: decoder_speed FOLDER")?;
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        files.push(std::fs::read(entry?.path())?);
    }
    let mut picture = Picture::default();
    let ours = rate(&files, |bytes| {
        let info = probe(bytes, false, &Limits::default())?;
        let region = Rect::whole(info.width, info.height);
        let request = Request { mode: Mode::Rgb, turn: false, reduce: 1, coarse: false, region };
        decode(bytes, &request, &Limits::default(), &mut picture)?;
        black_box(&picture);
        Ok(())
    })?;
    let zune = rate(&files, |bytes| {
        black_box(JpegDecoder::new(ZCursor::new(bytes)).decode()?);
        Ok(())
    })?;
    println!("{{\"Zenith, whole, from Rust\": {ours:.1}, \"zune-jpeg\": {zune:.1}}}");
    Ok(())
}

fn rate(files: &[Vec<u8>], mut decode: impl FnMut(&[u8]) -> Result<(), Box<dyn Error>>) -> Result<f64, Box<dyn Error>> {
    let begun = Instant::now();
    for bytes in files {
        decode(bytes)?;
    }
    Ok(files.len() as f64 / begun.elapsed().as_secs_f64())
}
