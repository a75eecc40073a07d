//! Pages of a column chunk: their headers, checked against the bytes that are there, and the walk over them.

use parquet::basic::Encoding;

use super::thrift::{Compact, DEPTH_MAX, FALSE, I32, STRUCT, TRUE};
use crate::{Error, Result};

/// A page may not grow beyond this when decompressed.
pub(super) const PAGE_BYTES_MAX: u64 = 512 << 20;
/// Above `RATIO_FREE_BYTES` a page may not be this many times larger than its compressed bytes.
const RATIO_MAX: u64 = 200;
const RATIO_FREE_BYTES: u64 = 16 << 20;
/// Longest header that is looked for; statistics may hold long values.
pub(super) const HEADER_BYTES_MAX: usize = 1 << 20;

/// What a page header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PageHeader {
    pub kind: PageKind,
    /// Bytes of the header itself.
    pub header_bytes: usize,
    pub body_bytes: usize,
    pub unpacked_bytes: usize,
    pub crc: Option<u32>,
}

/// The kinds of page, each with what only it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PageKind {
    Dictionary {
        values: usize,
        encoding: Encoding,
    },
    Data {
        values: usize,
        encoding: Encoding,
        definition: Encoding,
    },
    DataV2 {
        values: usize,
        rows: usize,
        nulls: usize,
        encoding: Encoding,
        definition_bytes: usize,
        repetition_bytes: usize,
        packed: bool,
    },
    /// An index page, which readers pass over.
    Other,
}

impl PageHeader {
    /// Reads the header at the start of `bytes`.
    pub(super) fn parse(bytes: &[u8]) -> Result<PageHeader> {
        let mut input = Compact::new(&bytes[..bytes.len().min(HEADER_BYTES_MAX)]);
        let (mut kind, mut unpacked, mut packed, mut crc) = (None, None, None, None);
        let mut parts = [None; 3];
        let mut last = 0;
        while let Some((wire, id)) = input.field(&mut last)? {
            match (id, wire) {
                (1, I32) => kind = Some(input.i32()?),
                (2, I32) => unpacked = Some(input.i32()?),
                (3, I32) => packed = Some(input.i32()?),
                (4, I32) => crc = Some(input.i32()? as u32),
                (5, STRUCT) => parts[0] = Some(numbers(&mut input)?),
                (7, STRUCT) => parts[1] = Some(numbers(&mut input)?),
                (8, STRUCT) => parts[2] = Some(numbers(&mut input)?),
                (_, wire) => input.skip(wire, DEPTH_MAX)?,
            }
        }
        let missing = || Error::corrupt("a page header is incomplete");
        let kind = match (kind.ok_or_else(missing)?, parts) {
            (0, [Some(part), ..]) => {
                PageKind::Data { values: part.size(1)?, encoding: part.encoding(2)?, definition: part.encoding(3)? }
            }
            (2, [_, Some(part), _]) => PageKind::Dictionary { values: part.size(1)?, encoding: part.encoding(2)? },
            (3, [_, _, Some(part)]) => PageKind::DataV2 {
                values: part.size(1)?,
                nulls: part.size(2)?,
                rows: part.size(3)?,
                encoding: part.encoding(4)?,
                definition_bytes: part.size(5)?,
                repetition_bytes: part.size(6)?,
                packed: part.0[7] != Some(0),
            },
            (1, _) => PageKind::Other,
            _ => return Err(missing()),
        };
        let size = |value: Option<i32>| {
            usize::try_from(value.ok_or_else(missing)?).map_err(|_| Error::corrupt("a page has a negative size"))
        };
        let header = PageHeader {
            kind,
            header_bytes: input.position(),
            body_bytes: size(packed)?,
            unpacked_bytes: size(unpacked)?,
            crc,
        };
        header.check_growth()?;
        Ok(header)
    }

    /// Refuses what would decompress to far more than was read.
    fn check_growth(&self) -> Result<()> {
        let (packed, unpacked) = (self.body_bytes as u64, self.unpacked_bytes as u64);
        let too_large = unpacked > PAGE_BYTES_MAX;
        let too_steep = unpacked > RATIO_FREE_BYTES && unpacked / packed.max(1) >= RATIO_MAX;
        if too_large || too_steep {
            let why = format!(
                "a page of {packed} bytes claims {unpacked} bytes when decompressed, which is over the limit \
                of {PAGE_BYTES_MAX} bytes or {RATIO_MAX} times its size. Write the file with smaller pages"
            );
            return Err(Error::new(crate::ErrorKind::Budget, why));
        }
        Ok(())
    }

    pub(super) fn total_bytes(&self) -> usize {
        self.header_bytes + self.body_bytes
    }

    /// Values, nulls included, of a data page.
    pub(super) fn values(&self) -> usize {
        match self.kind {
            PageKind::Data { values, .. } | PageKind::DataV2 { values, .. } => values,
            _ => 0,
        }
    }

    /// Whether a data page needs the dictionary.
    pub(super) fn uses_dictionary(&self) -> bool {
        matches!(
            self.kind,
            PageKind::Data { encoding: Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY, .. }
                | PageKind::DataV2 { encoding: Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY, .. }
        )
    }
}

/// The numbers of a header's part, by field number.
#[derive(Clone, Copy)]
struct Numbers([Option<i32>; 9]);

impl Numbers {
    fn size(&self, id: usize) -> Result<usize> {
        let value = self.0[id].ok_or_else(|| Error::corrupt("a page header is incomplete"))?;
        usize::try_from(value).map_err(|_| Error::corrupt("a page header has a negative count"))
    }

    fn encoding(&self, id: usize) -> Result<Encoding> {
        Ok(match self.0[id] {
            Some(0) => Encoding::PLAIN,
            Some(2) => Encoding::PLAIN_DICTIONARY,
            Some(3) => Encoding::RLE,
            #[expect(deprecated, reason = "old files have it")]
            Some(4) => Encoding::BIT_PACKED,
            Some(5) => Encoding::DELTA_BINARY_PACKED,
            Some(6) => Encoding::DELTA_LENGTH_BYTE_ARRAY,
            Some(7) => Encoding::DELTA_BYTE_ARRAY,
            Some(8) => Encoding::RLE_DICTIONARY,
            Some(9) => Encoding::BYTE_STREAM_SPLIT,
            other => return Err(Error::corrupt(format!("a page has the unknown encoding {other:?}"))),
        })
    }
}

fn numbers(input: &mut Compact<'_>) -> Result<Numbers> {
    let mut found = Numbers([None; 9]);
    let mut last = 0;
    while let Some((wire, id)) = input.field(&mut last)? {
        let slot = usize::try_from(id).ok().and_then(|id| found.0.get_mut(id));
        match (wire, slot) {
            (I32, Some(slot)) => *slot = Some(input.i32()?),
            (TRUE, Some(slot)) => *slot = Some(1),
            (FALSE, Some(slot)) => *slot = Some(0),
            (wire, _) => input.skip(wire, DEPTH_MAX)?,
        }
    }
    Ok(found)
}

/// The pages of a chunk whose bytes are at hand, each with its body.
pub(super) struct Walk<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Walk<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// The next page's header and packed body, its checksum verified where it has one.
    pub(super) fn next_page(&mut self) -> Result<Option<(PageHeader, &'a [u8])>> {
        let rest = &self.bytes[self.position..];
        if rest.is_empty() {
            return Ok(None);
        }
        let header = PageHeader::parse(rest)?;
        let body = rest.get(header.header_bytes..header.total_bytes());
        let body = body.ok_or_else(|| Error::corrupt("a page is longer than its column chunk"))?;
        if header.crc.is_some_and(|crc| crc != crc32fast::hash(body)) {
            return Err(Error::corrupt("the checksum of a page does not match its bytes. Restore the file"));
        }
        self.position += header.total_bytes();
        Ok(Some((header, body)))
    }

    /// The next page's header alone; its body is passed over unseen.
    pub(super) fn next_header(&mut self) -> Result<Option<PageHeader>> {
        let rest = &self.bytes[self.position..];
        if rest.is_empty() {
            return Ok(None);
        }
        let header = PageHeader::parse(rest)?;
        if header.total_bytes() > rest.len() {
            return Err(Error::corrupt("a page is longer than its column chunk"));
        }
        self.position += header.total_bytes();
        Ok(Some(header))
    }
}
