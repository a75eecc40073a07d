//! A folder of small files, one for each thing that was dear to find out.
//!
//! SIDE-1: a file is whole or absent (written aside, synced, renamed) and its checksum is verified, so that a crash, a
//! full disk or a flipped bit costs time, never a wrong answer.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{BufWriter, Read, Write as _};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use xxhash_rust::xxh3::xxh3_64;
use zenith_data::sidecar::{Kept, Progress, Sidecar, Task, Write};
use zenith_data::{ErrorKind, Result};

const MAGIC: &[u8; 8] = b"ZENSIDE1";
/// All files together; the ones not used for longest go first.
const FOLDER_BYTES_MAX: u64 = 4 << 30;
/// How often the lock of another process is tried.
const LOCK_POLL: Duration = Duration::from_millis(20);

/// Shows work to people: makes the progress of one task.
pub type ShowProgress = Box<dyn Fn(&Task) -> Box<dyn Progress> + Send + Sync>;

/// A folder that keeps sidecars.
pub struct SidecarFolder {
    folder: PathBuf,
    show: ShowProgress,
    warned: AtomicBool,
}

impl std::fmt::Debug for SidecarFolder {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("SidecarFolder").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl SidecarFolder {
    /// `folder` is made when something is first kept.
    pub fn new(folder: PathBuf, show: ShowProgress) -> Self {
        Self { folder, show, warned: AtomicBool::new(false) }
    }

    fn path(&self, task: &Task) -> PathBuf {
        self.folder.join(&task.key)
    }

    /// The lock of a task, or `None` where files cannot be locked. Waiting can be interrupted through `progress`.
    fn lock(&self, task: &Task, progress: &dyn Progress) -> Result<Option<File>> {
        if fs::create_dir_all(&self.folder).is_err() {
            return Ok(None);
        }
        // A few locks for all keys, so that they need not be cleared away.
        let name = format!("lock-{}", task.key.get(..2).unwrap_or("00"));
        let Ok(file) = OpenOptions::new().create(true).append(true).open(self.folder.join(name)) else {
            return Ok(None);
        };
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(file)),
                Err(TryLockError::WouldBlock) => {
                    progress.advance(0)?;
                    std::thread::sleep(LOCK_POLL);
                }
                Err(TryLockError::Error(_)) => return Ok(None),
            }
        }
    }

    fn keep(&self, path: &Path, content: &[u8]) -> std::io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        self.make_room(content.len() as u64)?;
        aside(path, |file| {
            file.write_all(MAGIC)?;
            file.write_all(&xxh3_64(content).to_le_bytes())?;
            file.write_all(content)
        })
    }

    /// Once for all tasks.
    fn warn(&self, task: &Task, error: &std::io::Error) {
        if !self.warned.swap(true, Ordering::Relaxed) {
            eprintln!(
                "zenith: warning: {} cannot be written ({error}), so that {} is done again next time",
                self.folder.display(),
                task.title
            );
        }
    }

    /// Removes what was not used for longest until `bytes` more fit.
    fn make_room(&self, bytes: u64) -> std::io::Result<()> {
        let mut files = Vec::new();
        let mut total = bytes;
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_file() && !entry.file_name().to_string_lossy().starts_with("lock-") {
                total += metadata.len();
                files.push((metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH), metadata.len(), entry.path()));
            }
        }
        files.sort_unstable();
        for (_, len, path) in files {
            if total <= FOLDER_BYTES_MAX {
                break;
            }
            if fs::remove_file(path).is_ok() {
                total -= len;
            }
        }
        Ok(())
    }
}

/// Writes a file under another name first (SIDE-1).
fn aside(path: &Path, write: impl FnOnce(&mut File) -> std::io::Result<()>) -> std::io::Result<()> {
    let aside = path.with_extension(format!("{}.tmp", std::process::id()));
    let written = (|| {
        let mut file = File::create(&aside)?;
        write(&mut file)?;
        file.sync_all()?;
        fs::rename(&aside, path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&aside);
    }
    written
}

/// A file that stays open, so that it can be read even when it was removed to make room.
#[derive(Debug)]
struct KeptFile {
    file: File,
    size: u64,
}

impl KeptFile {
    /// Marks it as used.
    fn open(path: &Path) -> Option<Arc<dyn Kept>> {
        let file = File::open(path).ok()?;
        let size = file.metadata().ok()?.len();
        let _ = file.set_modified(SystemTime::now());
        Some(Arc::new(Self { file, size }))
    }
}

impl Kept for KeptFile {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> bool {
        self.file.read_exact_at(into, offset).is_ok()
    }
}

/// What `path` keeps, if it is whole. Reading marks it as used.
fn kept(path: &Path) -> Option<Vec<u8>> {
    let mut file = File::open(path).ok()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).ok()?;
    let (head, content) = bytes.split_at_checked(16)?;
    let sum = u64::from_le_bytes(head[8..].try_into().ok()?);
    if &head[..8] != MAGIC || sum != xxh3_64(content) {
        return None;
    }
    let _ = file.set_modified(SystemTime::now());
    bytes.drain(..16);
    Some(bytes)
}

impl Sidecar for SidecarFolder {
    fn get_or_build(&self, task: &Task, build: &mut dyn FnMut(&dyn Progress) -> Result<Vec<u8>>) -> Result<Vec<u8>> {
        let path = self.path(task);
        if let Some(content) = kept(&path) {
            return Ok(content);
        }
        let progress = (self.show)(task);
        let lock = self.lock(task, &*progress)?;
        // Another process may have built it while this one waited.
        if let Some(content) = lock.as_ref().and_then(|_| kept(&path)) {
            return Ok(content);
        }
        let content = build(&*progress)?;
        if let Err(error) = self.keep(&path, &content) {
            self.warn(task, &error);
        }
        Ok(content)
    }

    /// The content's own checksums are whoever reads it's: it may be larger than what one wants to read at once.
    fn get_or_write(&self, task: &Task, write: Write<'_>) -> Result<Option<Arc<dyn Kept>>> {
        let path = self.path(task);
        if let Some(kept) = KeptFile::open(&path) {
            return Ok(Some(kept));
        }
        let progress = (self.show)(task);
        let lock = self.lock(task, &*progress)?;
        if let Some(kept) = lock.as_ref().and_then(|_| KeptFile::open(&path)) {
            return Ok(Some(kept));
        }
        // What the task itself fails with is its error; that nothing can be written is none.
        let mut failed = None;
        let written = fs::create_dir_all(&self.folder).and_then(|()| {
            aside(&path, |file| {
                let mut out = BufWriter::new(file);
                if let Err(error) = write(&*progress, &mut out) {
                    failed = Some(error);
                    return Err(std::io::Error::other("given up"));
                }
                out.flush()
            })
        });
        if let Some(error) = failed.filter(|error| error.kind() != ErrorKind::Io || error.place().file.is_some()) {
            return Err(error);
        }
        if let Err(error) = written {
            self.warn(task, &error);
            return Ok(None);
        }
        let kept = KeptFile::open(&path);
        let _ = self.make_room(0);
        Ok(kept)
    }

    fn forget(&self, task: &Task) {
        let _ = fs::remove_file(self.path(task));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use zenith_data::Error;
    use zenith_data::sidecar::{Silent, value};

    fn folder(root: &Path) -> SidecarFolder {
        SidecarFolder::new(root.join("index"), Box::new(|_| Box::new(Silent)))
    }

    fn task(key: &str) -> Task {
        Task { key: key.into(), title: "a test".into(), bytes: 1 }
    }

    #[test]
    fn what_was_built_is_kept_and_damage_is_noticed() {
        let root = tempfile::tempdir().unwrap();
        let sidecar = folder(root.path());
        let built = AtomicUsize::new(0);
        let get = |key: &str| {
            value(&sidecar, &task(key), &mut |_| {
                built.fetch_add(1, Ordering::Relaxed);
                Ok(vec![1u64, 2, 3])
            })
            .unwrap()
        };
        assert_eq!((get("aa"), get("aa"), get("ab")), (vec![1, 2, 3], vec![1, 2, 3], vec![1, 2, 3]));
        assert_eq!(built.load(Ordering::Relaxed), 2);
        let path = root.path().join("index/aa");
        let whole = fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            assert!(kept(&path).is_none(), "cut at {cut}");
        }
        for bit in 0..8 * whole.len() {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &damaged).unwrap();
            assert!(kept(&path).is_none(), "bit {bit}");
        }
        assert_eq!(get("aa"), [1, 2, 3]);
        assert_eq!(built.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn one_builds_while_others_wait() {
        let root = tempfile::tempdir().unwrap();
        let built = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let build = &mut |_: &dyn Progress| {
                        built.fetch_add(1, Ordering::Relaxed);
                        std::thread::sleep(Duration::from_millis(100));
                        Ok(b"x".to_vec())
                    };
                    assert_eq!(folder(root.path()).get_or_build(&task("aa"), build).unwrap(), b"x");
                });
            }
        });
        assert_eq!(built.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_folder_that_cannot_be_written_only_costs_time() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("index"), b"a file, not a folder").unwrap();
        let content = folder(root.path()).get_or_build(&task("aa"), &mut |_| Ok(b"x".to_vec())).unwrap();
        assert_eq!(content, b"x");
    }

    #[test]
    fn an_error_is_not_kept() {
        let root = tempfile::tempdir().unwrap();
        let sidecar = folder(root.path());
        let failed = sidecar.get_or_build(&task("aa"), &mut |_| Err(Error::corrupt("bad")));
        assert_eq!(failed.unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(sidecar.get_or_build(&task("aa"), &mut |_| Ok(vec![7])).unwrap(), [7]);
    }
}
