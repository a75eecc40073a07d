//! Runs of small numbers, Parquet's RLE and bit-packing hybrid: levels and dictionary codes.

use crate::{Error, Result};

/// A piece of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Run<'a> {
    /// The same value `count` times.
    Same { value: u32, count: usize },
    /// `count` values of the stream's width, packed from the lowest bit up. The last eight may be padding.
    Packed { bytes: &'a [u8], count: usize },
}

/// Reads runs of `width` bits a value.
#[derive(Debug, Clone)]
pub(super) struct Runs<'a> {
    bytes: &'a [u8],
    width: u32,
}

impl<'a> Runs<'a> {
    pub(super) fn new(bytes: &'a [u8], width: u32) -> Result<Self> {
        if width > 32 {
            return Err(Error::corrupt(format!("codes claim {width} bits each")));
        }
        Ok(Self { bytes, width })
    }

    /// The next run, of `count_max` values at most; `None` where the bytes end.
    pub(super) fn next_run(&mut self, count_max: usize) -> Result<Option<Run<'a>>> {
        if self.bytes.is_empty() || count_max == 0 {
            return Ok(None);
        }
        let head = self.varint()?;
        let count = (head >> 1) as usize;
        if head & 1 == 0 {
            let bytes = self.take(self.width.div_ceil(8) as usize)?;
            let mut word = [0; 4];
            word[..bytes.len()].copy_from_slice(bytes);
            let value = u32::from_le_bytes(word);
            if self.width < 32 && value >> self.width != 0 {
                return Err(Error::corrupt("a repeated code is wider than it may be"));
            }
            return Ok(Some(Run::Same { value, count: count.min(count_max) }));
        }
        let values = count.checked_mul(8).ok_or_else(|| Error::corrupt("a run is too long"))?;
        let bytes_claimed =
            count.checked_mul(self.width as usize).ok_or_else(|| Error::corrupt("a run is too long"))?;
        // Some writers leave out the padding of the last group.
        let bytes = self.take(bytes_claimed.min(self.bytes.len()))?;
        let whole = if self.width == 0 { values } else { (bytes.len() * 8 / self.width as usize).min(values) };
        let count = values.min(count_max);
        if whole < count {
            return Err(Error::corrupt("packed codes end early"));
        }
        Ok(Some(Run::Packed { bytes, count }))
    }

    fn varint(&mut self) -> Result<u32> {
        let mut value = 0u64;
        for (i, &byte) in self.bytes.iter().take(5).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                self.bytes = &self.bytes[i + 1..];
                return u32::try_from(value).map_err(|_| Error::corrupt("a run is too long"));
            }
        }
        Err(Error::corrupt("a run header ends early"))
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (head, rest) = self.bytes.split_at_checked(count).ok_or_else(|| Error::corrupt("a run ends early"))?;
        self.bytes = rest;
        Ok(head)
    }
}

/// Whether the first `count` levels are all `expected`, which is what columns without nulls look like. `bytes` are the
/// runs alone.
pub(super) fn all_equal(bytes: &[u8], width: u32, count: usize, expected: u32) -> Result<bool> {
    let mut runs = Runs::new(bytes, width)?;
    let mut left = count;
    while left > 0 {
        match runs.next_run(left)? {
            Some(Run::Same { value, count }) => {
                if count > 0 && value != expected {
                    return Ok(false);
                }
                left -= count;
            }
            Some(Run::Packed { bytes, count }) => {
                let mut same = true;
                unpack(bytes, width, count, |values| same &= values.iter().all(|&value| value == expected));
                if !same {
                    return Ok(false);
                }
                left -= count;
            }
            None => return Err(Error::corrupt("levels end early")),
        }
    }
    Ok(true)
}

/// Hands the values of a packed run to `each`, up to 32 at a time.
pub(super) fn unpack(bytes: &[u8], width: u32, count: usize, mut each: impl FnMut(&[u32])) {
    macro_rules! by_width {
        ($( $w:literal )*) => {
            match width {
                $( $w => unpack_width::<$w>(bytes, count, &mut each), )*
                _ => unpack_width::<0>(bytes, count, &mut each),
            }
        };
    }
    by_width!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32);
}

fn unpack_width<const W: usize>(bytes: &[u8], count: usize, each: &mut impl FnMut(&[u32])) {
    let mut values = [0u32; 32];
    let mut done = 0;
    // 32 values are 4 * W bytes; the loads reach up to seven bytes further.
    while done < count {
        let start = done / 8 * W;
        let now = (count - done).min(32);
        match bytes.get(start..start + 4 * W + 8) {
            Some(group) => unpack_group::<W>(group, &mut values),
            None => {
                let mut padded = [0u8; 4 * 32 + 8];
                let rest = &bytes[start.min(bytes.len())..];
                let rest = &rest[..rest.len().min(4 * W)];
                padded[..rest.len()].copy_from_slice(rest);
                unpack_group::<W>(&padded[..4 * W + 8], &mut values);
            }
        }
        each(&values[..now]);
        done += now;
    }
}

#[inline(always)]
fn unpack_group<const W: usize>(group: &[u8], values: &mut [u32; 32]) {
    let mask = ((1u64 << W) - 1) as u32;
    for (i, value) in values.iter_mut().enumerate() {
        let bit = i * W;
        let mut word = [0u8; 8];
        word.copy_from_slice(&group[bit / 8..bit / 8 + 8]);
        *value = (u64::from_le_bytes(word) >> (bit % 8)) as u32 & mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An oracle that goes bit by bit.
    fn pack(values: &[u32], width: u32) -> Vec<u8> {
        let mut bytes = vec![0; (values.len() * width as usize).div_ceil(8)];
        for (i, value) in values.iter().enumerate() {
            for bit in 0..width as usize {
                let at = i * width as usize + bit;
                bytes[at / 8] |= ((value >> bit & 1) as u8) << (at % 8);
            }
        }
        bytes
    }

    #[test]
    fn every_width_unpacks_to_what_was_packed() {
        for width in 0..=32 {
            let mask = ((1u64 << width) - 1) as u32;
            let values: Vec<u32> = (0..104u32).map(|i| i.wrapping_mul(0x9e37_79b9) & mask).collect();
            let bytes = pack(&values, width);
            for count in [1, 8, 31, 32, 33, 96, 104] {
                let mut got = Vec::new();
                unpack(&bytes, width, count, |part| got.extend_from_slice(part));
                assert_eq!(got, values[..count], "{width} bits, {count} values");
            }
        }
    }

    #[test]
    fn lying_runs_are_refused() {
        assert!(Runs::new(&[], 33).is_err());
        assert!(Runs::new(&[0x80], 1).unwrap().next_run(8).is_err());
        assert!(Runs::new(&[0xff, 0xff, 0xff, 0xff, 0x0f], 17).unwrap().next_run(usize::MAX).is_err());
        assert!(Runs::new(&[3 << 1], 8).unwrap().next_run(3).is_err());
        assert!(Runs::new(&[3 << 1, 2], 1).unwrap().next_run(3).is_err());
    }
}
