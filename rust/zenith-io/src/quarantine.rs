//! The list of bad units in a file, one JSON line each; ranks and runs share it.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use zenith_data::storage::Source;
use zenith_data::{Error, ErrorKind, Result};

use crate::listing::io_error;

/// A longer list is not read: something else than bad units filled the file.
const BYTES_MAX: u64 = 64 << 20;

/// One line: a part of a file that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadUnit {
    pub file: String,
    /// Row group, record batch or other unit of the file.
    pub block: u64,
    /// First row in the file, and the row after the last.
    pub rows: (u64, u64),
    /// The kind of the error, such as `Corrupt`.
    pub kind: String,
    pub message: String,
    /// The file as it was: a repaired or replaced file is read again.
    pub version: String,
}

/// An open list. Lines are appended whole, so that several processes may write.
#[derive(Debug)]
pub struct QuarantineFile {
    path: String,
    file: File,
    known: Mutex<HashMap<(String, String, u64, u64), BadUnit>>,
}

impl QuarantineFile {
    /// Opens or makes the list and reads what it has. Lines that are not of it (one cut off by a crash, say) are passed
    /// over: at worst a bad unit is read again. Errors: the file cannot be read or written.
    pub fn open(path: &str) -> Result<Self> {
        let named = |error: &std::io::Error| io_error(error, "open the list of quarantine_path", path);
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(|e| named(&e))?;
        let bytes = file.metadata().map_err(|error| named(&error))?.len();
        if bytes > BYTES_MAX {
            let message = format!(
                "quarantine_path names a file of {bytes} bytes, more than the {BYTES_MAX} that are read. Delete it"
            );
            return Err(Error::new(ErrorKind::Budget, message).in_file(path));
        }
        let mut text = Vec::new();
        (&mut file).take(BYTES_MAX).read_to_end(&mut text).map_err(|error| named(&error))?;
        let units = text.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice::<BadUnit>(line).ok());
        let known = units.map(|unit| (key(&unit.file, &unit.version, unit.rows), unit)).collect();
        if text.last().is_some_and(|&byte| byte != b'\n') {
            file.write_all(b"\n").map_err(|error| named(&error))?;
        }
        Ok(Self { path: path.to_owned(), file, known: Mutex::new(known) })
    }

    /// The line of these rows of a file, if there is one and the file is as it was.
    pub fn find(&self, source: &Source, rows: &Range<u64>) -> Option<BadUnit> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&key(&source.location, &source.version, (rows.start, rows.end))).cloned()
    }

    /// Appends a line, unless it is there. Errors: the disk refuses it.
    pub fn add(&self, unit: BadUnit) -> Result<()> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let key = key(&unit.file, &unit.version, unit.rows);
        if known.contains_key(&key) {
            return Ok(());
        }
        let mut line = serde_json::to_vec(&unit).map_err(|error| Error::internal(error.to_string()))?;
        line.push(b'\n');
        (&self.file)
            .write_all(&line)
            .map_err(|error| io_error(&error, "write the list of quarantine_path", &self.path))?;
        known.insert(key, unit);
        Ok(())
    }
}

fn key(file: &str, version: &str, (start, end): (u64, u64)) -> (String, String, u64, u64) {
    (file.to_owned(), version.to_owned(), start, end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(rows: (u64, u64)) -> BadUnit {
        let message = "page 3\nis \"bad\"".into();
        BadUnit { file: "/a".into(), block: 2, rows, kind: "Corrupt".into(), message, version: "1".into() }
    }

    fn source(version: &str) -> Source {
        Source { location: "/a".into(), name: "a".into(), len: 9, version: version.into() }
    }

    #[test]
    fn lines_are_found_again_while_the_file_is_the_same() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("bad.jsonl");
        let open = || QuarantineFile::open(path.to_str().unwrap()).unwrap();
        let list = open();
        assert_eq!(list.find(&source("1"), &(10..20)), None);
        for _ in 0..2 {
            list.add(unit((10, 20))).unwrap();
        }
        open().add(unit((20, 30))).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 2);
        assert_eq!(open().find(&source("1"), &(20..30)), Some(unit((20, 30))));
        assert_eq!(open().find(&source("2"), &(20..30)), None);
    }

    #[test]
    fn every_cut_of_the_file_is_passed_over() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("bad.jsonl");
        let line = serde_json::to_string(&unit((10, 20))).unwrap();
        for cut in 0..line.len() {
            std::fs::write(&path, &line[..cut]).unwrap();
            let list = QuarantineFile::open(path.to_str().unwrap()).unwrap();
            assert_eq!(list.find(&source("1"), &(10..20)), None);
            list.add(unit((10, 20))).unwrap();
            let again = QuarantineFile::open(path.to_str().unwrap()).unwrap();
            assert_eq!(again.find(&source("1"), &(10..20)), Some(unit((10, 20))));
        }
        std::fs::create_dir(root.path().join("folder")).unwrap();
        let error = QuarantineFile::open(root.path().join("folder").to_str().unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
    }
}
