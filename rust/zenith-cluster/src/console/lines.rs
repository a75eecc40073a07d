//! Bytes cut into lines.

/// A line that is longer is shown up to here.
const LINE_BYTES_MAX: usize = 32 << 10;

/// Ends lines where Python's text files do: at `\n`, `\r\n` and `\r` (progress bars write no other).
#[derive(Debug, Default)]
pub(super) struct Lines {
    begun: Vec<u8>,
    /// Bytes of the begun line that are left out.
    cut: u64,
    after_return: bool,
}

impl Lines {
    /// Calls `each` with every line that ends in `bytes`, without its end, and the number of bytes that it lacks.
    pub(super) fn push(&mut self, mut bytes: &[u8], mut each: impl FnMut(&[u8], u64)) {
        while let Some(first) = bytes.first() {
            if std::mem::take(&mut self.after_return) && *first == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let Some(at) = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
                self.add(bytes);
                return;
            };
            self.add(&bytes[..at]);
            self.after_return = bytes[at] == b'\r';
            self.finish(&mut each);
            bytes = &bytes[at + 1..];
        }
    }

    /// A line that nothing ends is one, too.
    pub(super) fn end(&mut self, each: impl FnMut(&[u8], u64)) {
        if !self.begun.is_empty() {
            self.finish(each);
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        let (fits, cut) = bytes.split_at(bytes.len().min(LINE_BYTES_MAX - self.begun.len()));
        self.begun.extend_from_slice(fits);
        self.cut += cut.len() as u64;
    }

    fn finish(&mut self, mut each: impl FnMut(&[u8], u64)) {
        each(&self.begun, self.cut);
        self.begun.clear();
        self.cut = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(pieces: &[&[u8]]) -> Vec<String> {
        let mut lines = Lines::default();
        let mut found = Vec::new();
        let mut keep = |line: &[u8], cut| found.push(format!("{}+{cut}", String::from_utf8_lossy(line)));
        pieces.iter().for_each(|piece| lines.push(piece, &mut keep));
        lines.end(keep);
        found
    }

    #[test]
    fn lines_are_whole_however_they_come() {
        for (pieces, expected) in [
            (&[&b"one\ntwo\n"[..]][..], &["one+0", "two+0"][..]),
            (&[b"part1-", b"part2\n"], &["part1-part2+0"]),
            (&[b"a\n\nb"], &["a+0", "+0", "b+0"]),
            (&[b"10%\r20%\r", b"\ndone\n"], &["10%+0", "20%+0", "done+0"]),
            (&[b"a\r", b"b\r\n", b"c"], &["a+0", "b+0", "c+0"]),
            (&[b"\xff\n"], &["\u{fffd}+0"]),
            (&[b"", b""], &[]),
        ] {
            assert_eq!(cut(pieces), expected, "{pieces:?}");
        }
    }

    #[test]
    fn endless_lines_are_cut() {
        let piece = vec![b'x'; LINE_BYTES_MAX - 1];
        let found = cut(&[&piece, b"yz", b"zz\nnext\n"]);
        assert_eq!(found.len(), 2);
        assert!(found[0].ends_with("xy+3"), "{}", &found[0][LINE_BYTES_MAX - 2..]);
        assert_eq!(found[1], "next+0");
    }

    proptest::proptest! {
        /// However the bytes are cut, the lines are those of Python's universal newlines.
        #[test]
        fn pieces_do_not_matter(text in "[a\r\n]{0,40}", cuts in proptest::collection::vec(0usize..40, 0..5)) {
            let mut pieces = Vec::new();
            let mut rest = text.as_bytes();
            for cut in cuts {
                let (piece, behind) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = behind;
            }
            pieces.push(rest);
            let plain = text.replace("\r\n", "\n").replace('\r', "\n");
            let mut expected: Vec<String> = plain.split('\n').map(|line| format!("{line}+0")).collect();
            if plain.is_empty() || plain.ends_with('\n') {
                expected.pop();
            }
            proptest::prop_assert_eq!(cut(&pieces), expected);
        }
    }
}
