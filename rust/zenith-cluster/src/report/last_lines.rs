//! The end of a log.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// Of lines that are longer than this all together, the end is given.
const BYTES_MAX: u64 = 16 << 10;

/// The last `count` lines, without the line break of the last one.
pub fn last_lines(path: &Path, count: usize) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(BYTES_MAX)))?;
    let mut text = Vec::new();
    file.take(BYTES_MAX).read_to_end(&mut text)?;
    if text.last() == Some(&b'\n') {
        text.pop();
    }
    let breaks = text.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
    let start = breaks.map(|(at, _)| at + 1).nth(count.saturating_sub(1)).unwrap_or(0);
    Ok(text.split_off(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_bounded_in_number_and_bytes() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        for (text, lines) in [("", ""), ("a\nb\nc\n", "b\nc"), ("a\nb\nc", "b\nc"), ("a", "a"), ("\n\n\n", "\n")] {
            std::fs::write(&path, text).expect("a file");
            assert_eq!(last_lines(&path, 2).expect("its lines"), lines.as_bytes(), "{text:?}");
        }
        std::fs::write(&path, "x".repeat(100_000)).expect("a file");
        assert_eq!(last_lines(&path, 2).expect("its lines").len(), BYTES_MAX as usize);
    }
}
