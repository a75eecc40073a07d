//! Local files by positioned reads into recycled buffers, with the kernel told what comes next.
#![expect(unsafe_code, reason = "posix_fadvise and fstatfs have no safe wrapper in std")]

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use zenith_data::storage::{Pending, Range, Source, Storage, Tree};
use zenith_data::{Error, ErrorKind, Result};
use zenith_host::SlabPool;

use crate::listing::{self, io_error};

/// Files kept open at once; the oldest go first. Well under the smallest usual limit of open files.
const OPEN_FILES_MAX: usize = 48;
/// How often a file is opened again when there was no handle left, after idle files were closed.
const HANDLE_TRIES_MAX: u32 = 20;
/// A read that fails with EIO is tried this many times in all.
const TRIES_MAX: u32 = 3;
/// Returned read buffers that are kept for the next block.
const IDLE_BYTES_MAX: usize = 24 << 20;

/// Files kept open once the process has run out of handles: the rest of the program needs some too.
const OPEN_FILES_IN_NEED: usize = 2;

/// Whether the process has run out of handles before.
static IN_NEED: AtomicBool = AtomicBool::new(false);

type OpenFiles = Mutex<HashMap<String, Open>>;

#[derive(Debug, Clone)]
struct Open {
    file: Arc<File>,
    /// Whether it is on a disk (or in the memory) of this machine.
    is_local: bool,
}

/// The open files of every `LocalFiles`, to be closed when the process runs out of handles.
static ALL_OPEN: Mutex<Vec<Weak<OpenFiles>>> = Mutex::new(Vec::new());

/// Closes every file that no read is using. Locks that are taken (or were, when the process forked) are passed over.
fn close_idle_files() {
    let Ok(all) = ALL_OPEN.try_lock() else { return };
    for open in all.iter().filter_map(Weak::upgrade) {
        if let Ok(mut open) = open.try_lock() {
            open.clear();
        }
    }
}

/// Files on this machine. One per process: a forked child makes its own.
#[derive(Debug, Clone)]
pub struct LocalFiles {
    open: Arc<OpenFiles>,
    /// Whether a file was opened that is on another machine.
    has_remote: Arc<AtomicBool>,
    buffers: Arc<SlabPool>,
}

impl LocalFiles {
    pub fn new() -> Self {
        let open = Arc::new(OpenFiles::default());
        // In a forked child the lock may be taken for ever; then these files are not among those closed in need.
        if let Ok(mut all) = ALL_OPEN.try_lock() {
            all.retain(|open| open.strong_count() > 0);
            all.push(Arc::downgrade(&open));
        }
        Self { open, has_remote: Arc::default(), buffers: SlabPool::new(IDLE_BYTES_MAX) }
    }

    fn open_files(&self) -> MutexGuard<'_, HashMap<String, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the file of `source` without holding the lock: on a mount that hangs only this thread waits.
    fn open_file(&self, source: &Source) -> Result<Arc<File>> {
        let mut file = File::open(&source.location);
        for _ in 0..HANDLE_TRIES_MAX {
            if !file.as_ref().is_err_and(no_handle_left) {
                break;
            }
            IN_NEED.store(true, Ordering::Relaxed);
            // Under a low limit the files that no read is using make room; other threads want it too.
            close_idle_files();
            file = File::open(&source.location);
            std::thread::yield_now();
        }
        let file = Arc::new(file.map_err(|error| {
            let failure = io_error(&error, "open the file", &source.location);
            if no_handle_left(&error) {
                let message = format!("cannot open the file: {error}. Raise the limit of open files (ulimit -n)");
                failure.with_message(message)
            } else if failure.kind() == ErrorKind::NotFound {
                changed(source, "was deleted")
            } else {
                failure
            }
        })?);
        let is_local = is_local(&file);
        if !is_local {
            self.has_remote.store(true, Ordering::Relaxed);
        }
        let mut open = self.open_files();
        let most = if IN_NEED.load(Ordering::Relaxed) { OPEN_FILES_IN_NEED } else { OPEN_FILES_MAX };
        if open.len() >= most {
            open.clear();
        }
        open.insert(source.location.clone(), Open { file: file.clone(), is_local });
        Ok(file)
    }

    /// The file of `source`, opened if need be and checked to be the one that was listed.
    pub(crate) fn file(&self, source: &Source) -> Result<Arc<File>> {
        let known = self.open_files().get(&source.location).map(|open| open.file.clone());
        let file = match known {
            Some(file) => file,
            None => self.open_file(source)?,
        };
        let metadata = file.metadata().map_err(|error| io_error(&error, "inspect the file", &source.location))?;
        if metadata.len() != source.len {
            return Err(changed(source, &format!("had {} bytes and now has {}", source.len, metadata.len())));
        }
        if listing::version(&metadata) != source.version {
            return Err(changed(source, "was modified or replaced"));
        }
        Ok(file)
    }
}

/// File systems of this machine's own disks and memory, by their magic numbers. Of others (NFS, FUSE, Lustre, ...) a read
/// may hang for as long as a server does.
const LOCAL_FILE_SYSTEMS: [u32; 16] = [
    0xef53,      // ext2, ext3, ext4
    0x5846_5342, // XFS
    0x9123_683e, // Btrfs
    0xca45_1a4e, // bcachefs
    0x2fc1_2fc1, // ZFS
    0xf2f5_2010, // F2FS
    0x0102_1994, // tmpfs
    0x8584_58f6, // ramfs
    0x9584_58f6, // hugetlbfs
    0x794c_7630, // overlayfs: its layers are nearly always local
    0x7371_7368, // squashfs
    0xe0f5_e1e2, // EROFS
    0x5265_4973, // ReiserFS
    0x3153_464a, // JFS
    0x4d44,      // FAT
    0x9660,      // ISO 9660
];

fn is_local(file: &File) -> bool {
    let mut found = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: `file` keeps the descriptor open, and the call writes a `statfs` to the place given, which has room for one.
    let outcome = unsafe { libc::fstatfs(file.as_raw_fd(), found.as_mut_ptr()) };
    if outcome != 0 {
        return false;
    }
    // SAFETY: the call succeeded, so that it has filled the structure.
    let found = unsafe { found.assume_init() };
    LOCAL_FILE_SYSTEMS.contains(&(found.f_type as u32))
}

/// Whether the process, or the machine, has no handle left for another open file.
fn no_handle_left(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

impl Default for LocalFiles {
    fn default() -> Self {
        Self::new()
    }
}

fn changed(source: &Source, how: &str) -> Error {
    let message = format!("the file {how} since the dataset was opened. Open the dataset again");
    Error::new(ErrorKind::DatasetChanged, message).in_file(&source.location)
}

/// The source of a range, which holds all of it.
fn source_of(sources: &[Source], range: Range) -> Result<&Source> {
    let source = sources
        .get(range.source as usize)
        .ok_or_else(|| Error::internal("a range names a source that does not exist"))?;
    if range.offset.checked_add(range.len).is_none_or(|end| end > source.len) {
        let message = format!("{} bytes were expected here but the file ends at byte {}", range.len, source.len);
        return Err(Error::corrupt(message).in_file(&source.location).at_offset(range.offset));
    }
    Ok(source)
}

/// The bytes of a range, where there can be so many.
fn length(range: Range) -> Result<usize> {
    usize::try_from(range.len).map_err(|_| Error::invalid("a range is larger than memory"))
}

fn no_memory(bytes: usize, source: &Source) -> Error {
    Error::new(ErrorKind::Budget, format!("no memory for a read of {bytes} bytes")).in_file(&source.location)
}

impl Storage for LocalFiles {
    fn list(&self, pattern: &str) -> Result<Vec<Source>> {
        listing::list(pattern)
    }

    fn list_tree(&self, root: &str, wanted: &dyn Fn(&str) -> bool) -> Result<Tree> {
        listing::tree(root, wanted)
    }

    fn submit(&self, sources: &[Source], ranges: &[Range]) -> Result<Box<dyn Pending>> {
        let mut reads: Vec<(Arc<Source>, Range)> = Vec::with_capacity(ranges.len());
        for &range in ranges {
            let source = source_of(sources, range)?;
            let same = reads.last().filter(|(_, last)| last.source == range.source);
            let source = same.map_or_else(|| Arc::new(source.clone()), |(source, _)| source.clone());
            reads.push((source, range));
        }
        Ok(Box::new(LocalReads { files: self.clone(), reads }))
    }

    fn may_hang(&self, sources: &[Source], ranges: &[Range]) -> bool {
        let open = self.open_files();
        let is_at_hand = |range: &Range| {
            let source = sources.get(range.source as usize);
            source.and_then(|source| open.get(&source.location)).is_some_and(|open| open.is_local)
        };
        !ranges.iter().all(is_at_hand)
    }

    /// What comes from another machine may have left the page cache, or never have been in it.
    fn reads_again_at_once(&self) -> bool {
        !self.has_remote.load(Ordering::Relaxed)
    }

    fn read_into(&self, sources: &[Source], range: Range, into: &mut Vec<u8>) -> Result<()> {
        let source = source_of(sources, range)?;
        let file = self.file(source)?;
        let bytes = length(range)?;
        into.truncate(bytes);
        into.try_reserve(bytes - into.len()).map_err(|_| no_memory(bytes, source))?;
        into.resize(bytes, 0);
        fill(into, source, range.offset, |into, offset| file.read_at(into, offset))
    }

    fn will_need(&self, sources: &[Source], ranges: &[Range]) {
        for &range in ranges {
            let Ok(file) = source_of(sources, range).and_then(|source| self.file(source)) else { continue };
            let (offset, len) = (range.offset as libc::off_t, range.len as libc::off_t);
            // SAFETY: `file` keeps the descriptor open during the call, which reads no memory of ours.
            unsafe { libc::posix_fadvise(file.as_raw_fd(), offset, len, libc::POSIX_FADV_WILLNEED) };
        }
    }
}

/// Reads that are made when they are waited for: until then no file is held open for them.
struct LocalReads {
    files: LocalFiles,
    reads: Vec<(Arc<Source>, Range)>,
}

impl Pending for LocalReads {
    fn wait(self: Box<Self>) -> Result<Vec<Bytes>> {
        let mut parts = Vec::with_capacity(self.reads.len());
        let mut open: Option<(u32, Arc<File>)> = None;
        for (source, range) in &self.reads {
            // The ranges of a block lie in one file, which is looked up and checked once.
            let file = match &open {
                Some((of, file)) if *of == range.source => file.clone(),
                _ => open.insert((range.source, self.files.file(source)?)).1.clone(),
            };
            parts.push(self.files.read_range(&file, source, *range)?);
        }
        Ok(parts)
    }
}

impl LocalFiles {
    fn read_range(&self, file: &File, source: &Source, range: Range) -> Result<Bytes> {
        let bytes = length(range)?;
        let mut buffer = self.buffers.slab(bytes).ok_or_else(|| no_memory(bytes, source))?;
        fill(buffer.as_mut(), source, range.offset, |into, offset| file.read_at(into, offset))?;
        Ok(Bytes::from_owner(buffer))
    }
}

/// Fills `into` from `offset` on by as many calls of `read_at` as it takes.
fn fill(
    into: &mut [u8],
    source: &Source,
    offset: u64,
    mut read_at: impl FnMut(&mut [u8], u64) -> std::io::Result<usize>,
) -> Result<()> {
    let mut done = 0;
    let mut tries = 0;
    while done < into.len() {
        let here = offset + done as u64;
        match read_at(&mut into[done..], here) {
            // IO-1: the length was right when the read was submitted, so the file has shrunk since.
            Ok(0) => return Err(changed(source, "was truncated").at_offset(here)),
            Ok(count) => done += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) if error.raw_os_error() == Some(libc::EIO) && tries + 1 < TRIES_MAX => tries += 1,
            Err(error) => return Err(io_error(&error, "read the file", &source.location).at_offset(here)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn open(path: &std::path::Path) -> (LocalFiles, Vec<Source>) {
        let files = LocalFiles::new();
        let sources = files.list(path.to_str().unwrap()).unwrap();
        (files, sources)
    }

    #[test]
    fn ranges_come_back_in_order() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a");
        fs::write(&path, b"0123456789").unwrap();
        let (files, sources) = open(&path);
        let ranges = [Range { source: 0, offset: 7, len: 3 }, Range { source: 0, offset: 0, len: 2 }];
        files.will_need(&sources, &ranges);
        let parts = files.submit(&sources, &ranges).unwrap().wait().unwrap();
        assert_eq!(parts, [Bytes::from_static(b"789"), Bytes::from_static(b"01")]);
        let past = files.read(&sources, Range { source: 0, offset: 8, len: 3 }).unwrap_err();
        assert_eq!(past.kind(), ErrorKind::Corrupt);
    }

    /// A disk that answers a call by the next letter: a byte, half of what is asked, EINTR, EIO, the end; then in full.
    fn read_from(script: &str) -> (Result<Vec<u8>>, usize) {
        let content: Vec<u8> = (0..100).collect();
        let source = Source { location: "/a".into(), name: "a".into(), len: 100, version: String::new() };
        let (mut script, mut calls) = (script.chars(), 0);
        let mut into = vec![0; 60];
        let outcome = fill(&mut into, &source, 20, |into, offset| {
            calls += 1;
            let count = match script.next() {
                Some('1') => 1,
                Some('h') => into.len().div_ceil(2),
                Some('i') => return Err(std::io::ErrorKind::Interrupted.into()),
                Some('e') => return Err(std::io::Error::from_raw_os_error(libc::EIO)),
                Some('0') => 0,
                _ => into.len(),
            };
            into[..count].copy_from_slice(&content[offset as usize..offset as usize + count]);
            Ok(count)
        });
        (outcome.map(|()| into), calls)
    }

    #[test]
    fn short_and_interrupted_reads_are_invisible() {
        for script in ["", "1111", "hhh1h", "iii", "i1ihi", "e", "ee", "1eie", "hiehi"] {
            let (read, calls) = read_from(script);
            assert_eq!(read.unwrap(), (20..80).collect::<Vec<u8>>(), "{script}");
            assert!(calls <= script.len() + 1);
        }
    }

    #[test]
    fn a_failing_disk_is_tried_three_times_and_named_with_its_offset() {
        let (read, calls) = read_from("eeeeee");
        let error = read.unwrap_err();
        assert_eq!((error.kind(), error.place().offset, calls), (ErrorKind::Io, Some(20), 3));
        assert!(error.to_string().starts_with("/a, byte 20: cannot read the file"), "{error}");
        assert_eq!(read_from("1heeee").0.unwrap_err().place().offset, Some(20 + 1 + 30));
        let error = read_from("h0").0.unwrap_err();
        assert_eq!((error.kind(), error.place().offset), (ErrorKind::DatasetChanged, Some(50)));
    }

    #[test]
    fn a_file_that_changed_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a");
        let range = Range { source: 0, offset: 0, len: 4 };
        type Change = fn(&std::path::Path);
        let changes: [Change; 3] = [
            |path| fs::write(path, b"01").unwrap(),
            |path| fs::write(path, b"0123456789").unwrap(),
            |path| fs::remove_file(path).unwrap(),
        ];
        for change in changes {
            fs::write(&path, b"012345").unwrap();
            let (files, sources) = open(&path);
            change(&path);
            let error = files.read(&sources, range).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::DatasetChanged, "{error}");
        }
    }
}
