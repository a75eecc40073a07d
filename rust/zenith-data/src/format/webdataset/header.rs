//! One header block of a tar archive, as V7, ustar and GNU write it.

use crate::{Error, Result};

/// Everything in an archive is a multiple of this.
pub(super) const BLOCK_BYTES: u64 = 512;

/// What a header stands before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A file with content.
    File,
    /// A directory, link, device or pipe: nothing follows, whatever the size says.
    Bare,
    /// Something else, whose content is passed over.
    Passed,
    /// GNU: the name of the next member.
    LongName,
    /// GNU: where the next member links to.
    LongLink,
    /// PAX: what is said of the next member.
    Pax,
    /// PAX: what is said of all members that follow.
    PaxGlobal,
    /// GNU: a file with holes.
    Sparse,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub name: Vec<u8>,
    pub size: u64,
    pub kind: Kind,
}

/// Whether the block is one of the two that end an archive.
pub(super) fn is_zero(block: &[u8]) -> bool {
    block.iter().all(|&byte| byte == 0)
}

impl Header {
    /// Reads a block of `BLOCK_BYTES`, whose checksum is verified.
    pub(super) fn parse(block: &[u8]) -> Result<Self> {
        let field = |start: usize, len: usize| block.get(start..start + len).unwrap_or_default();
        if !is_sealed(block) {
            return Err(Error::corrupt("the checksum of a tar header is wrong. Restore the shard"));
        }
        let mut name = until_zero(field(0, 100)).to_vec();
        // Where GNU writes times, others write the beginning of a long name.
        let prefix = until_zero(field(345, 155));
        if field(257, 6) == b"ustar\0" && !prefix.is_empty() {
            name = [prefix, b"/", &name].concat();
        }
        let kind = kind(field(156, 1).first().copied().unwrap_or(0), &name);
        let size = if kind == Kind::Bare { Some(0) } else { number(field(124, 12)) };
        let size = size.ok_or_else(|| {
            let shown = String::from_utf8_lossy(&name).into_owned();
            Error::corrupt(format!("the size of member {shown:?} is negative or no number. Restore the shard"))
        })?;
        Ok(Self { name, size, kind })
    }
}

fn kind(letter: u8, name: &[u8]) -> Kind {
    match letter {
        // Before there were letters for them, directories were files whose names end in a slash.
        0 if name.ends_with(b"/") => Kind::Bare,
        0 | b'0' | b'7' => Kind::File,
        b'1'..=b'6' => Kind::Bare,
        b'L' => Kind::LongName,
        b'K' => Kind::LongLink,
        b'x' | b'X' => Kind::Pax,
        b'g' => Kind::PaxGlobal,
        b'S' => Kind::Sparse,
        _ => Kind::Passed,
    }
}

/// Whether the block has the checksum that it says.
pub(super) fn is_sealed(block: &[u8]) -> bool {
    let stored = number(block.get(148..156).unwrap_or_default());
    stored.is_some_and(|stored| checksums(block).contains(&(stored as i64)))
}

/// The sum of the header's bytes with its own place taken as spaces; some old programs took bytes as signed.
fn checksums(block: &[u8]) -> [i64; 2] {
    let bytes = || block.iter().enumerate().map(|(place, &byte)| if (148..156).contains(&place) { b' ' } else { byte });
    [bytes().map(i64::from).sum(), bytes().map(|byte| i64::from(byte as i8)).sum()]
}

pub(super) fn until_zero(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// A number: octal digits between spaces, or GNU's form for large ones, big-endian behind a first bit of one.
fn number(field: &[u8]) -> Option<u64> {
    if let [first, rest @ ..] = field
        && first & 0x80 != 0
    {
        if first & 0x40 != 0 {
            return None;
        }
        let value = rest.iter().fold(u128::from(first & 0x3f), |value, &byte| value << 8 | u128::from(byte));
        return u64::try_from(value).ok();
    }
    let digits = until_zero(field).trim_ascii();
    digits.iter().try_fold(0_u64, |value, &digit| match digit {
        b'0'..=b'7' => Some(value << 3 | u64::from(digit - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"   17 \0 "), Some(0o17));
        assert_eq!(number(b"\0\0\0\0"), Some(0));
        assert_eq!(number(b"777777777777"), Some((1 << 36) - 1));
        assert_eq!(number(b"\x80\0\0\0\0\0\0\x02\0\0\0\x01"), Some((2 << 32) + 1));
        assert_eq!(number(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), None, "minus one");
        assert_eq!(number(b"\x80\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), None, "beyond 64 bits");
        assert_eq!(number(b"12x"), None);
    }
}
