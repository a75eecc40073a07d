//! Thrift's compact protocol, as far as Parquet's footers and page headers need it, over untrusted bytes: nothing is
//! allocated, depth is bounded, and a list is never longer than the bytes that are left.

use crate::{Error, Result};

/// Structures nested deeper than this are refused.
pub(super) const DEPTH_MAX: usize = 64;

/// Wire types.
pub(super) const TRUE: u8 = 1;
pub(super) const FALSE: u8 = 2;
const BYTE: u8 = 3;
const I16: u8 = 4;
pub(super) const I32: u8 = 5;
pub(super) const I64: u8 = 6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
pub(super) const LIST: u8 = 9;
const SET: u8 = 10;
const MAP: u8 = 11;
pub(super) const STRUCT: u8 = 12;
const UUID: u8 = 13;

/// A position in a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Compact<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Compact<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    pub(super) fn position(&self) -> usize {
        self.position
    }

    fn left(&self) -> usize {
        self.bytes.len() - self.position
    }

    fn byte(&mut self) -> Result<u8> {
        let byte = self.bytes.get(self.position).copied().ok_or_else(ends_early)?;
        self.position += 1;
        Ok(byte)
    }

    fn advance(&mut self, count: u64) -> Result<()> {
        let count = usize::try_from(count).ok().filter(|&count| count <= self.left()).ok_or_else(ends_early)?;
        self.position += count;
        Ok(())
    }

    fn unsigned(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Error::corrupt("a number is longer than 64 bits"))
    }

    pub(super) fn signed(&mut self) -> Result<i64> {
        let zigzag = self.unsigned()?;
        Ok((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
    }

    pub(super) fn i32(&mut self) -> Result<i32> {
        i32::try_from(self.signed()?).map_err(|_| Error::corrupt("a number is longer than 32 bits"))
    }

    /// The next field's type and number, or `None` at the end of the struct. `last` is the number before.
    pub(super) fn field(&mut self, last: &mut i16) -> Result<Option<(u8, i16)>> {
        let head = self.byte()?;
        if head == 0 {
            return Ok(None);
        }
        let delta = i16::from(head >> 4);
        let id = if delta > 0 {
            last.checked_add(delta).ok_or_else(|| Error::corrupt("a field number is out of range"))?
        } else {
            i16::try_from(self.signed()?).map_err(|_| Error::corrupt("a field number is out of range"))?
        };
        *last = id;
        Ok(Some((head & 0x0f, id)))
    }

    /// The element type and length of a list or set.
    pub(super) fn list(&mut self) -> Result<(u8, usize)> {
        let head = self.byte()?;
        let count = if head >> 4 == 15 { self.unsigned()? } else { u64::from(head >> 4) };
        match usize::try_from(count) {
            Ok(count) if count <= self.left() => Ok((head & 0x0f, count)),
            _ => Err(Error::corrupt(format!("a list claims {count} elements, but {} bytes are left", self.left()))),
        }
    }

    /// Passes over one value.
    pub(super) fn skip(&mut self, kind: u8, depth_max: usize) -> Result<()> {
        let depth = depth_max.checked_sub(1).ok_or_else(|| Error::corrupt("structures are nested too deep"))?;
        match kind {
            TRUE | FALSE => Ok(()),
            BYTE => self.advance(1),
            I16 | I32 | I64 => self.unsigned().map(drop),
            DOUBLE => self.advance(8),
            UUID => self.advance(16),
            BINARY => {
                let length = self.unsigned()?;
                self.advance(length)
            }
            LIST | SET => {
                let (element, count) = self.list()?;
                let start = self.position;
                for _ in 0..count {
                    self.skip_element(element, depth)?;
                }
                // Readers reserve some hundred bytes for each structure of a list; the least that is in use (a column order)
                // takes three.
                if element == STRUCT && self.position - start < 3 * count {
                    return Err(Error::corrupt("a list is made of empty structures"));
                }
                Ok(())
            }
            MAP => {
                let count = self.unsigned()?;
                if count == 0 {
                    return Ok(());
                }
                if count > self.left() as u64 {
                    return Err(Error::corrupt("a map claims more entries than there are bytes"));
                }
                let kinds = self.byte()?;
                for _ in 0..count {
                    self.skip_element(kinds >> 4, depth)?;
                    self.skip_element(kinds & 0x0f, depth)?;
                }
                Ok(())
            }
            STRUCT => {
                let mut last = 0;
                while let Some((kind, _)) = self.field(&mut last)? {
                    self.skip(kind, depth)?;
                }
                Ok(())
            }
            other => Err(Error::corrupt(format!("{other} is no type of Thrift's compact protocol"))),
        }
    }

    /// A boolean takes a byte as an element, but none as a field.
    fn skip_element(&mut self, kind: u8, depth: usize) -> Result<()> {
        if matches!(kind, TRUE | FALSE) { self.advance(1) } else { self.skip(kind, depth) }
    }
}

fn ends_early() -> Error {
    Error::corrupt("the metadata ends early")
}
