//! Doubles of the ports for tests: storage that is a map of named buffers.

use std::collections::BTreeMap;
use std::sync::Mutex;

use bytes::Bytes;

use crate::storage::{Pending, Range, Source, Storage};
use crate::{Error, ErrorKind, Result};

/// Files in memory. It counts what is read, so that tests can bound it.
#[derive(Debug, Default)]
pub struct MemoryStorage {
    files: BTreeMap<String, Bytes>,
    reads: Mutex<Vec<Range>>,
}

impl MemoryStorage {
    pub fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn with(mut self, name: &str, bytes: impl Into<Bytes>) -> Self {
        self.files.insert(name.to_owned(), bytes.into());
        self
    }

    /// All files.
    pub fn sources(&self) -> Vec<Source> {
        self.files.iter().map(|(name, bytes)| source(name, bytes)).collect()
    }

    /// The ranges read since the last call.
    pub fn take_reads(&self) -> Vec<Range> {
        std::mem::take(&mut *self.reads.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

fn source(name: &str, bytes: &Bytes) -> Source {
    Source { location: name.to_owned(), name: name.to_owned(), len: bytes.len() as u64, version: "1".to_owned() }
}

struct Ready(Vec<Bytes>);

impl Pending for Ready {
    fn wait(self: Box<Self>) -> Result<Vec<Bytes>> {
        Ok(self.0)
    }
}

impl Storage for MemoryStorage {
    /// `pattern` is a name or the beginning of names.
    fn list(&self, pattern: &str) -> Result<Vec<Source>> {
        let found: Vec<Source> = self
            .files
            .iter()
            .filter(|(name, _)| name.starts_with(pattern))
            .map(|(name, bytes)| source(name, bytes))
            .collect();
        if found.is_empty() {
            Err(Error::new(ErrorKind::NotFound, format!("nothing matches {pattern:?}")))
        } else {
            Ok(found)
        }
    }

    fn submit(&self, sources: &[Source], ranges: &[Range]) -> Result<Box<dyn Pending>> {
        let mut parts = Vec::with_capacity(ranges.len());
        for range in ranges {
            let source = sources.get(range.source as usize).ok_or_else(|| Error::internal("no such source"))?;
            let changed = || Error::new(ErrorKind::DatasetChanged, "the file changed").in_file(&source.name);
            let bytes = self.files.get(&source.location).ok_or_else(changed)?;
            let end =
                range.offset.checked_add(range.len).filter(|&end| end <= bytes.len() as u64).ok_or_else(changed)?;
            parts.push(bytes.slice(range.offset as usize..end as usize));
        }
        self.reads.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend_from_slice(ranges);
        Ok(Box::new(Ready(parts)))
    }

    fn will_need(&self, _sources: &[Source], _ranges: &[Range]) {}
}
