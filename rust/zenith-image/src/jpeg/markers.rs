//! What stands before and between the scans of a file: frame, tables, orientation.

use zenith_data::{Error, Result};

use super::frame::{Colours, Component, Frame};
use super::huffman::Definition;
use crate::decode::Limits;
use crate::orientation;

const SOF0: u8 = 0xC0;
const SOF2: u8 = 0xC2;
const DHT: u8 = 0xC4;
const RST0: u8 = 0xD0;
const RST7: u8 = 0xD7;
const SOI: u8 = 0xD8;
const EOI: u8 = 0xD9;
const SOS: u8 = 0xDA;
const DQT: u8 = 0xDB;
const DNL: u8 = 0xDC;
const DRI: u8 = 0xDD;
const APP0: u8 = 0xE0;
const APP1: u8 = 0xE1;
const APP14: u8 = 0xEE;
const TEM: u8 = 0x01;

/// From frequency order to the order of rows.
pub(super) const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21,
    28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54,
    47, 55, 62, 63,
];

/// Dequantisation factors, in the order of rows.
pub(super) type Quantisation = [u16; 64];

/// What a scan header says. Tables are those in force when it came.
#[derive(Debug, Clone)]
pub(super) struct Scan {
    /// Of each component of the scan: its place in the frame, its DC and its AC table.
    pub(super) components: Vec<ScanComponent>,
    pub(super) spectral_start: u8,
    pub(super) spectral_end: u8,
    pub(super) approximation_high: u8,
    pub(super) approximation_low: u8,
    /// Where the entropy-coded bytes begin.
    pub(super) data: usize,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct ScanComponent {
    pub(super) index: usize,
    pub(super) dc_table: usize,
    pub(super) ac_table: usize,
}

/// Walks the markers of a file; the caller decodes the scans that it finds.
#[derive(Debug)]
pub(super) struct Markers<'a> {
    bytes: &'a [u8],
    position: usize,
    scans: u32,
    jfif: bool,
    adobe: Option<u8>,
    /// EXIF's number, 1 to 8.
    pub(super) orientation: u8,
    pub(super) frame: Option<Frame>,
    pub(super) quantisation: [Option<Quantisation>; 4],
    pub(super) dc: [Option<Definition>; 4],
    pub(super) ac: [Option<Definition>; 4],
    /// MCUs between restart markers; 0 where there are none.
    pub(super) restart_interval: usize,
}

impl<'a> Markers<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            // The caller has seen SOI.
            position: 2,
            scans: 0,
            jfif: false,
            adobe: None,
            orientation: 1,
            frame: None,
            quantisation: [None; 4],
            dc: [const { None }; 4],
            ac: [const { None }; 4],
            restart_interval: 0,
        }
    }

    /// Goes on behind the entropy-coded bytes of a scan.
    pub(super) fn go_on_at(&mut self, position: usize) {
        self.position = position;
    }

    /// Reads up to and with the frame header: all that is needed to know a picture's size. EXIF stands before it.
    pub(super) fn read_frame(&mut self, limits: &Limits) -> Result<Frame> {
        while self.frame.is_none() {
            let start = self.position;
            let marker = self.marker()?;
            match marker {
                SOS => return Err(corrupt("a scan begins before any frame header", start)),
                EOI => return Err(corrupt("the picture ends before any frame header", start)),
                _ => self.segment(marker, start, limits)?,
            }
        }
        self.frame.clone().ok_or_else(|| Error::internal("no frame after its header"))
    }

    /// The next scan, or nothing at the end of the picture.
    pub(super) fn next_scan(&mut self, limits: &Limits) -> Result<Option<Scan>> {
        loop {
            let start = self.position;
            match self.marker()? {
                EOI => return Ok(None),
                SOS => {
                    self.scans += 1;
                    if self.scans > limits.scans_max {
                        let message = format!("more than {} scans (the limit scans_max)", limits.scans_max);
                        return Err(Error::unsupported(message).at_offset(start as u64));
                    }
                    return self.scan(start).map(Some);
                }
                marker => self.segment(marker, start, limits)?,
            }
        }
    }

    /// What the components' numbers mean, by the rules of libjpeg.
    pub(super) fn colours(&self, frame: &Frame) -> Colours {
        let ids: Vec<u8> = frame.components.iter().map(|component| component.id).collect();
        match (ids.len(), self.jfif, self.adobe) {
            (1, _, _) => Colours::Grey,
            (3, true, _) => Colours::YCbCr,
            (3, false, Some(transform)) => {
                if transform == 0 {
                    Colours::Rgb
                } else {
                    Colours::YCbCr
                }
            }
            (3, false, None) if ids == *b"RGB" => Colours::Rgb,
            (3, ..) => Colours::YCbCr,
            (_, _, None | Some(0)) => Colours::Cmyk,
            _ => Colours::Ycck,
        }
    }

    /// The next marker; bytes that are none are passed over, as libjpeg does.
    fn marker(&mut self) -> Result<u8> {
        let ended = || truncated(self.bytes.len());
        loop {
            let rest = self.bytes.get(self.position..).ok_or_else(ended)?;
            self.position += memchr::memchr(0xFF, rest).ok_or_else(ended)?;
            while self.bytes.get(self.position) == Some(&0xFF) {
                self.position += 1;
            }
            let marker = *self.bytes.get(self.position).ok_or_else(ended)?;
            self.position += 1;
            if marker != 0 {
                return Ok(marker);
            }
        }
    }

    fn segment(&mut self, marker: u8, start: usize, limits: &Limits) -> Result<()> {
        match marker {
            TEM | RST0..=RST7 => return Ok(()),
            SOI => return Err(corrupt("a second picture begins inside this one (SOI)", start)),
            _ => {}
        }
        let body = self.body()?;
        let offset = self.position - body.len();
        match marker {
            SOF0..=SOF2 => self.frame_header(marker, body, offset, limits)?,
            DHT => self.huffman_tables(body, offset)?,
            DQT => self.quantisation_tables(body, offset)?,
            DRI => {
                let [high, low] = exactly(body, offset, "the restart interval")?;
                self.restart_interval = usize::from(u16::from_be_bytes([high, low]));
            }
            APP0 if body.starts_with(b"JFIF\0") => self.jfif = true,
            APP1 if body.starts_with(b"Exif\0\0") => {
                self.orientation = orientation::of_tiff(&body[6..]).unwrap_or(1);
            }
            APP14 if body.starts_with(b"Adobe") && body.len() >= 12 => self.adobe = Some(body[11]),
            DNL => return Err(unsupported("a height that is told after the first scan (DNL)", start)),
            0xC3 => return Err(unsupported("lossless coding (SOF3)", start)),
            0xC5..=0xC7 => return Err(unsupported("hierarchical coding", start)),
            0xC8..=0xCF => return Err(unsupported("arithmetic coding", start)),
            _ => {}
        }
        Ok(())
    }

    /// The bytes of a segment behind its length.
    fn body(&mut self) -> Result<&'a [u8]> {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        let Some((length, _)) = rest.split_first_chunk() else { return Err(truncated(self.bytes.len())) };
        let length = usize::from(u16::from_be_bytes(*length));
        if length < 2 {
            return Err(corrupt(format!("a segment claims a length of {length}"), self.position));
        }
        let body = rest.get(2..length).ok_or_else(|| truncated(self.bytes.len()))?;
        self.position += length;
        Ok(body)
    }

    fn frame_header(&mut self, marker: u8, body: &[u8], offset: usize, limits: &Limits) -> Result<()> {
        if self.frame.is_some() {
            return Err(corrupt("a second frame header", offset));
        }
        let Some((&[precision, h0, h1, w0, w1, count], specs)) = body.split_first_chunk() else {
            return Err(corrupt("a frame header that is too short", offset));
        };
        let (height, width) = (usize::from(u16::from_be_bytes([h0, h1])), usize::from(u16::from_be_bytes([w0, w1])));
        if precision != 8 {
            return Err(unsupported(&format!("{precision} bits a sample"), offset));
        }
        if height == 0 {
            return Err(unsupported("a height that is told after the first scan (DNL)", offset));
        }
        if width == 0 {
            return Err(corrupt("the picture is 0 pixels wide", offset));
        }
        limits.check(width, height).map_err(|error| error.at_offset(offset as u64))?;
        if !matches!(count, 1 | 3 | 4) {
            return Err(unsupported(&format!("{count} components"), offset));
        }
        if specs.len() != 3 * usize::from(count) {
            return Err(corrupt("the frame header's length does not match its components", offset));
        }
        let components = specs.chunks_exact(3).map(|spec| Component {
            id: spec[0],
            horizontal: usize::from(spec[1] >> 4),
            vertical: usize::from(spec[1] & 15),
            quantisation: usize::from(spec[2]),
        });
        let progressive = marker == SOF2;
        self.frame = Some(Frame::new(width, height, progressive, components.collect(), offset)?);
        Ok(())
    }

    fn huffman_tables(&mut self, mut body: &[u8], offset: usize) -> Result<()> {
        while !body.is_empty() {
            let (class, slot) = (body[0] >> 4, usize::from(body[0] & 15));
            let (definition, rest) =
                Definition::read(&body[1..], class == 0).map_err(|error| error.at_offset(offset as u64))?;
            let tables = match class {
                0 => &mut self.dc,
                1 => &mut self.ac,
                _ => return Err(corrupt(format!("a Huffman table of class {class}"), offset)),
            };
            let table =
                tables.get_mut(slot).ok_or_else(|| corrupt(format!("a Huffman table number {slot}"), offset))?;
            *table = Some(definition);
            body = rest;
        }
        Ok(())
    }

    fn quantisation_tables(&mut self, mut body: &[u8], offset: usize) -> Result<()> {
        while let Some((&head, rest)) = body.split_first() {
            let (wide, slot) = (head >> 4, usize::from(head & 15));
            let bytes = if wide == 0 { 64 } else { 128 };
            let short = || corrupt("a quantisation table that is too short", offset);
            let (values, after) = rest.split_at_checked(bytes).ok_or_else(short)?;
            let mut table = [0; 64];
            for (place, &to) in ZIGZAG.iter().enumerate() {
                table[usize::from(to)] = match wide {
                    0 => u16::from(values[place]),
                    _ => u16::from_be_bytes([values[2 * place], values[2 * place + 1]]),
                };
            }
            let kept = self.quantisation.get_mut(slot);
            *kept.ok_or_else(|| corrupt(format!("a quantisation table number {slot}"), offset))? = Some(table);
            body = after;
        }
        Ok(())
    }

    fn scan(&mut self, start: usize) -> Result<Scan> {
        let Some(frame) = self.frame.clone() else {
            return Err(corrupt("a scan begins before any frame header", start));
        };
        let body = self.body()?;
        let offset = self.position - body.len();
        let count = usize::from(*body.first().unwrap_or(&0));
        if !(1..=4).contains(&count) || body.len() != 4 + 2 * count {
            return Err(corrupt("a scan header whose length does not match its components", offset));
        }
        let mut components: Vec<ScanComponent> = Vec::with_capacity(count);
        for spec in body[1..1 + 2 * count].chunks_exact(2) {
            let index = frame.components.iter().position(|component| component.id == spec[0]);
            let index = index
                .ok_or_else(|| corrupt(format!("a scan of component {}, which the frame lacks", spec[0]), offset))?;
            let (dc_table, ac_table) = (usize::from(spec[1] >> 4), usize::from(spec[1] & 15));
            if dc_table > 3 || ac_table > 3 || components.iter().any(|known| known.index == index) {
                return Err(corrupt("a scan header names a component twice or a table that cannot be", offset));
            }
            components.push(ScanComponent { index, dc_table, ac_table });
        }
        let [spectral_start, spectral_end, approximation] = exactly(&body[1 + 2 * count..], offset, "the scan header")?;
        let scan = Scan {
            components,
            spectral_start,
            spectral_end,
            approximation_high: approximation >> 4,
            approximation_low: approximation & 15,
            data: self.position,
        };
        if frame.progressive && !progression_is_legal(&scan) {
            return Err(corrupt("a progressive scan with parameters that cannot be", offset));
        }
        Ok(scan)
    }
}

/// The rules of the standard's table B.3 that libjpeg insists on.
fn progression_is_legal(scan: &Scan) -> bool {
    let (start, end) = (scan.spectral_start, scan.spectral_end);
    let band = if start == 0 { end == 0 } else { start <= end && end < 64 && scan.components.len() == 1 };
    let (high, low) = (scan.approximation_high, scan.approximation_low);
    band && low <= 13 && (high == 0 || high == low + 1)
}

fn exactly<const N: usize>(body: &[u8], offset: usize, what: &str) -> Result<[u8; N]> {
    body.try_into().map_err(|_| corrupt(format!("{what} has {} bytes instead of {N}", body.len()), offset))
}

pub(super) fn corrupt(message: impl Into<String>, offset: usize) -> Error {
    Error::corrupt(format!("damaged JPEG: {}", message.into())).at_offset(offset as u64)
}

pub(super) fn truncated(length: usize) -> Error {
    corrupt("it ends early (truncated)", length)
}

fn unsupported(what: &str, offset: usize) -> Error {
    Error::unsupported(format!("a JPEG with {what} is not supported")).at_offset(offset as u64)
}
