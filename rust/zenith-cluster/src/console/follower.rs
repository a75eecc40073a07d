//! A file that is read while somebody else writes it, and the files with copies of chosen lines.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::lines::Lines;
use super::sink::Sink;
use crate::plan::{Duplicate, Tail, TailedStream};

const READ_BYTES: usize = 64 << 10;
/// A file that is so far ahead of a console that takes no more is read without being shown.
const BEHIND_BYTES_MAX: u64 = 64 << 20;

/// What became of a look at a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Progress {
    AtEnd,
    /// There is more, and the console takes none of it now.
    Held,
    Read,
}

#[derive(Debug)]
pub(super) struct Follower {
    tail: Tail,
    file: File,
    position: u64,
    lines: Lines,
    buffer: Vec<u8>,
    /// Lines left out since the last one that was shown.
    lost: u64,
    error: Option<io::Error>,
}

impl Follower {
    pub(super) fn create(tail: &Tail) -> io::Result<Self> {
        let options = File::options().read(true).write(true).create(true).truncate(true).open(&tail.file);
        Ok(Self {
            tail: tail.clone(),
            file: options.map_err(|error| at(&tail.file, &error))?,
            position: 0,
            lines: Lines::default(),
            buffer: vec![0; READ_BYTES],
            lost: 0,
            error: None,
        })
    }

    pub(super) fn stream(&self) -> TailedStream {
        self.tail.stream
    }

    /// Shows the next piece.
    pub(super) fn read(&mut self, sink: &mut Sink, duplicates: &mut [DuplicateFile]) -> Progress {
        if sink.is_full() && !self.is_behind_by(BEHIND_BYTES_MAX) {
            return if self.is_behind_by(0) { Progress::Held } else { Progress::AtEnd };
        }
        let is_shown = !sink.is_full();
        match self.file.read_at(&mut self.buffer, self.position) {
            Ok(0) => {
                // Somebody has cut the file: what comes is new.
                if self.length() < self.position {
                    self.position = 0;
                }
                Progress::AtEnd
            }
            Ok(read) => {
                self.position += read as u64;
                let mut show = Show { tail: &self.tail, sink, duplicates, is_shown, lost: &mut self.lost };
                self.lines.push(&self.buffer[..read], |line, cut| show.line(line, cut));
                Progress::Read
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Progress::Read,
            Err(error) => {
                self.error = Some(error);
                Progress::AtEnd
            }
        }
    }

    pub(super) fn end(&mut self, sink: &mut Sink, duplicates: &mut [DuplicateFile]) {
        let mut show = Show { tail: &self.tail, sink, duplicates, is_shown: true, lost: &mut self.lost };
        self.lines.end(|line, cut| show.line(line, cut));
        show.tell_lost();
    }

    fn length(&self) -> u64 {
        self.file.metadata().map_or(0, |metadata| metadata.len())
    }

    fn is_behind_by(&self, bytes: u64) -> bool {
        self.length() > self.position + bytes
    }

    pub(super) fn take_error(&mut self) -> Option<String> {
        self.error.take().map(|error| at(&self.tail.file, &error).to_string())
    }
}

/// One line on its way.
struct Show<'a> {
    tail: &'a Tail,
    sink: &'a mut Sink,
    duplicates: &'a mut [DuplicateFile],
    is_shown: bool,
    lost: &'a mut u64,
}

impl Show<'_> {
    fn line(&mut self, line: &[u8], cut: u64) {
        let prefix = self.tail.prefix.as_bytes();
        let mark = if cut > 0 { format!(" [.. {cut} bytes more]") } else { String::new() };
        let parts = [prefix, line, mark.as_bytes(), b"\n"];
        for duplicate in self.duplicates.iter_mut().filter(|duplicate| duplicate.wants(self.tail.stream, line)) {
            duplicate.write(&parts);
        }
        if self.is_shown {
            self.tell_lost();
            self.sink.push(&parts);
        } else {
            *self.lost += 1;
        }
    }

    fn tell_lost(&mut self) {
        if *self.lost > 0 {
            self.sink.lose(*self.lost);
            let file = self.tail.file.display();
            let note = format!("zenith-run: {} lines came too fast for the console; they are in {file}\n", self.lost);
            self.sink.push(&[note.as_bytes()]);
            *self.lost = 0;
        }
    }
}

/// A file for lines with one of some texts in them.
#[derive(Debug)]
pub(super) struct DuplicateFile {
    file: BufWriter<File>,
    path: PathBuf,
    stream: TailedStream,
    texts: Vec<String>,
    error: Option<io::Error>,
}

impl DuplicateFile {
    pub(super) fn create(duplicate: &Duplicate) -> io::Result<Self> {
        let file = File::create(&duplicate.file).map_err(|error| at(&duplicate.file, &error))?;
        Ok(Self {
            file: BufWriter::new(file),
            path: duplicate.file.clone(),
            stream: duplicate.stream,
            texts: duplicate.texts.clone(),
            error: None,
        })
    }

    fn wants(&self, stream: TailedStream, line: &[u8]) -> bool {
        let holds = |text: &String| text.is_empty() || line.windows(text.len()).any(|part| part == text.as_bytes());
        stream == self.stream && self.texts.iter().any(holds)
    }

    fn write(&mut self, parts: &[&[u8]]) {
        let written = parts.iter().try_for_each(|part| self.file.write_all(part));
        self.note(written);
    }

    pub(super) fn flush(&mut self) {
        let flushed = self.file.flush();
        self.note(flushed);
    }

    /// The first error is told at the end.
    fn note(&mut self, result: io::Result<()>) {
        if let Err(error) = result {
            self.error.get_or_insert(error);
        }
    }

    pub(super) fn take_error(&mut self) -> Option<String> {
        self.error.take().map(|error| at(&self.path, &error).to_string())
    }
}

fn at(path: &std::path::Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("log file {}: {error}", path.display()))
}
