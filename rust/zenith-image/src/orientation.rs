//! The orientation that a camera noted (EXIF), and what it does to pixels.

use crate::picture::Rect;

const TAG_ORIENTATION: u16 = 0x0112;

/// The orientation, 1 to 8, in a TIFF header and its first directory. Anything that is out of place means there is none.
pub(crate) fn of_tiff(tiff: &[u8]) -> Option<u8> {
    let little = match tiff.get(..4)? {
        b"II*\0" => true,
        b"MM\0*" => false,
        _ => return None,
    };
    let u16_at = |at: usize| {
        let bytes: [u8; 2] = tiff.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    };
    let bytes: [u8; 4] = tiff.get(4..8)?.try_into().ok()?;
    let directory = if little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) } as usize;
    let entries = usize::from(u16_at(directory)?);
    let start = directory.checked_add(2)?;
    let entry = (0..entries).map_while(|entry| start.checked_add(12 * entry));
    let found = entry.map_while(|at| Some((u16_at(at)?, at))).find(|&(tag, _)| tag == TAG_ORIENTATION)?;
    u8::try_from(u16_at(found.1.checked_add(8)?)?).ok().filter(|number| (1..=8).contains(number))
}

/// How stored pixels become the ones that are seen: the three moves of which all eight orientations are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Turn {
    /// Rows and columns change places, before the flips.
    pub(crate) transpose: bool,
    pub(crate) flip_x: bool,
    pub(crate) flip_y: bool,
}

impl Turn {
    pub(crate) fn of_orientation(number: u8) -> Self {
        let (transpose, flip_x, flip_y) = match number {
            2 => (false, true, false),
            3 => (false, true, true),
            4 => (false, false, true),
            5 => (true, false, false),
            6 => (true, true, false),
            7 => (true, true, true),
            8 => (true, false, true),
            _ => (false, false, false),
        };
        Self { transpose, flip_x, flip_y }
    }

    /// The size as it is seen.
    pub(crate) fn size(self, width: usize, height: usize) -> (usize, usize) {
        if self.transpose { (height, width) } else { (width, height) }
    }

    /// The stored part that is seen as `seen`, in a picture whose seen size is `width` × `height`.
    pub(crate) fn stored(self, seen: Rect, width: usize, height: usize) -> Rect {
        let x = if self.flip_x { width - seen.x - seen.width } else { seen.x };
        let y = if self.flip_y { height - seen.y - seen.height } else { seen.y };
        if self.transpose {
            Rect { x: y, y: x, width: seen.height, height: seen.width }
        } else {
            Rect { x, y, width: seen.width, height: seen.height }
        }
    }

    /// Turns stored pixels; `width` and `height` are those of the result.
    pub(crate) fn apply(self, stored: &[u8], width: usize, height: usize, channels: usize, into: &mut [u8]) {
        let stored_width = if self.transpose { height } else { width };
        for (y, row) in into.chunks_exact_mut(width * channels).enumerate() {
            let y = if self.flip_y { height - 1 - y } else { y };
            for (x, pixel) in row.chunks_exact_mut(channels).enumerate() {
                let x = if self.flip_x { width - 1 - x } else { x };
                let at = if self.transpose { x * stored_width + y } else { y * stored_width + x };
                pixel.copy_from_slice(&stored[at * channels..][..channels]);
            }
        }
    }
}
