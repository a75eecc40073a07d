//! Doubles of the ports for tests: storage that is a map of named buffers, and storage and memory that fail when told to.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use crate::memory::BatchMemory;
use crate::storage::{Pending, Range, Source, Storage, Tree};
use crate::{Error, ErrorKind, Result};

/// Files in memory. It counts what is read, so that tests can bound it.
#[derive(Debug, Default)]
pub struct MemoryStorage {
    files: BTreeMap<String, Bytes>,
    reads: Mutex<Vec<Range>>,
    /// What `reads_again_at_once` says.
    pub again: bool,
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

    fn list_tree(&self, root: &str, wanted: &dyn Fn(&str) -> bool) -> Result<Tree> {
        let mut tree = Tree::default();
        for (location, bytes) in &self.files {
            let Some(name) = location.strip_prefix(root).and_then(|name| name.strip_prefix('/')) else { continue };
            tree.folders.extend(name.split_once('/').map(|(folder, _)| folder.to_owned()));
            if wanted(name.rsplit('/').next().unwrap_or(name)) {
                tree.files.push(Source { name: name.to_owned(), ..source(location, bytes) });
            }
        }
        tree.folders.dedup();
        Ok(tree)
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

    fn reads_again_at_once(&self) -> bool {
        self.again
    }
}

/// Storage of which one call of `submit`, counted from 0, fails with an error of the operating system.
#[derive(Debug)]
pub struct FaultyStorage<S> {
    inner: S,
    fails: usize,
    calls: AtomicUsize,
}

impl<S> FaultyStorage<S> {
    pub fn new(inner: S, fails: usize) -> Self {
        Self { inner, fails, calls: AtomicUsize::new(0) }
    }
}

impl<S: Storage> Storage for FaultyStorage<S> {
    fn list(&self, pattern: &str) -> Result<Vec<Source>> {
        self.inner.list(pattern)
    }

    fn list_tree(&self, root: &str, wanted: &dyn Fn(&str) -> bool) -> Result<Tree> {
        self.inner.list_tree(root, wanted)
    }

    fn submit(&self, sources: &[Source], ranges: &[Range]) -> Result<Box<dyn Pending>> {
        if self.calls.fetch_add(1, Ordering::Relaxed) == self.fails {
            return Err(Error::new(ErrorKind::Io, "cannot read the file: Input/output error (os error 5)"));
        }
        self.inner.submit(sources, ranges)
    }

    fn will_need(&self, sources: &[Source], ranges: &[Range]) {
        self.inner.will_need(sources, ranges);
    }
}

/// Batch memory of which one slab, counted from 0, is refused.
#[derive(Debug)]
pub struct FaultyMemory {
    fails: usize,
    slabs: AtomicUsize,
}

impl FaultyMemory {
    pub fn new(fails: usize) -> Self {
        Self { fails, slabs: AtomicUsize::new(0) }
    }
}

impl BatchMemory for FaultyMemory {
    type Slab = Vec<u8>;
    type Piece = Vec<u8>;

    fn cut(&self, slab: Vec<u8>, bytes: usize) -> Vec<Vec<u8>> {
        if slab.is_empty() { vec![slab] } else { slab.chunks(bytes.max(1)).map(<[u8]>::to_vec).collect() }
    }

    fn join(&self, pieces: Vec<Vec<u8>>) -> Result<Vec<u8>> {
        Ok(pieces.concat())
    }

    fn slab(&self, bytes: usize) -> Result<Vec<u8>> {
        if self.slabs.fetch_add(1, Ordering::Relaxed) == self.fails {
            return Err(Error::new(ErrorKind::Budget, format!("no memory for a batch field of {bytes} bytes")));
        }
        Ok(vec![0; bytes])
    }
}
