//! The port through which bytes arrive: listing, and reads that are submitted first and reaped later.

use bytes::Bytes;

use crate::Result;

/// A file, object or memory region that holds data; `id` is its place in the dataset's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// What `Storage::submit` is asked for: an absolute path, a URL, a key.
    pub location: String,
    /// The name relative to the listed root, which goes into fingerprints and error messages.
    pub name: String,
    pub len: u64,
    /// Changes when the content may have changed (inode, mtime, ETag); compared, never interpreted.
    pub version: String,
}

/// One range of one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Range {
    /// Index into the dataset's sources.
    pub source: u32,
    pub offset: u64,
    pub len: u64,
}

/// A folder with what lies below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    /// Names of the folders right in it, in bytewise order.
    pub folders: Vec<String>,
    /// Files at any depth, by name within each folder; names are relative to the folder and have `/` between their parts.
    pub files: Vec<Source>,
}

/// Reads under way. Dropping it abandons them.
pub trait Pending: Send {
    /// Waits for every range and returns their bytes in the order of the request. A source whose `version` or length
    /// no longer matches is `ErrorKind::DatasetChanged`; a short read is never returned.
    fn wait(self: Box<Self>) -> Result<Vec<Bytes>>;
}

/// Where bytes come from. Ranges are submitted, then reaped, so that a ring, a thread pool, an object store and plain
/// memory fit behind it alike.
pub trait Storage: Send + Sync {
    /// Expands a path, directory or glob into sources, in bytewise order of their names; hidden files are skipped.
    fn list(&self, pattern: &str) -> Result<Vec<Source>>;

    /// Lists everything below a folder, hidden or not, links followed; of the files those whose last names are `wanted`.
    fn list_tree(&self, root: &str, wanted: &dyn Fn(&str) -> bool) -> Result<Tree>;

    /// Starts reading `ranges` of `sources`.
    fn submit(&self, sources: &[Source], ranges: &[Range]) -> Result<Box<dyn Pending>>;

    /// Tells that the ranges will be wanted soon; a hint.
    fn will_need(&self, sources: &[Source], ranges: &[Range]);

    /// Whether reading the ranges may hang for long: a file has to be opened first, or is on another machine. Only a disk of
    /// this machine answers in any case.
    fn may_hang(&self, _sources: &[Source], _ranges: &[Range]) -> bool {
        true
    }

    /// Whether what was read comes again as fast as from memory, and without waiting (the page cache of this machine), so that
    /// it need not be kept.
    fn reads_again_at_once(&self) -> bool {
        false
    }

    /// Reads a range again in place of what `into` holds. It was read before, when `reads_again_at_once` held.
    fn read_into(&self, sources: &[Source], range: Range, into: &mut Vec<u8>) -> Result<()> {
        let bytes = self.read(sources, range)?;
        into.clear();
        into.extend_from_slice(&bytes);
        Ok(())
    }

    /// Reads one range and waits for it.
    fn read(&self, sources: &[Source], range: Range) -> Result<Bytes> {
        let mut parts = self.submit(sources, &[range])?.wait()?;
        parts.pop().ok_or_else(|| crate::Error::internal("a read of one range returned no bytes"))
    }
}
