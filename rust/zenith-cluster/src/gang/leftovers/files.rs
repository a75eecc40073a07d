//! Files of shared memory: which are new, which of them the attempt has mapped, and which of those nobody holds any more.

use std::collections::HashSet;
use std::ffi::OsString;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirEntryExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, Signal};

use super::kernel;
use crate::gang::spawn::{self, Forked};
use crate::gang::tree;
use crate::listening::said;

const FOLDER: &str = "/dev/shm";
/// How names begin that a library draws at random, so that only who is told them can open them: torch's tensors, the blocks
/// and semaphores of Python's multiprocessing and of loky, NCCL's and CUDA's channels. Other names may be meant to last.
const FAMILIES: [&[u8]; 6] = [b"torch_", b"psm_", b"sem.mp-", b"sem.loky-", b"nccl-", b"cuda.shm."];
/// With more entries than that nothing is removed: it would take longer than an attempt should end.
const ENTRIES_MAX: usize = 65_536;
/// A process has a line of about 100 bytes for each of at most some ten thousand mappings.
const MAPS_BYTES_MAX: u64 = 16 << 20;

/// A name alone may come to stand for another file; of a file system of memory no inode number comes twice.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Entry {
    name: OsString,
    inode: u64,
}

#[derive(Debug)]
pub(super) struct Holder {
    pub(super) pid: Pid,
    pub(super) process: OwnedFd,
}

#[derive(Debug)]
pub(super) struct Files {
    /// `None` where there is no such folder, or too much in it.
    before: Option<HashSet<Entry>>,
    mapped: HashSet<Entry>,
}

impl Files {
    pub(super) fn before() -> Self {
        Self { before: entries(Path::new(FOLDER)), mapped: HashSet::new() }
    }

    /// Those that came since, and are not known to be the attempt's.
    pub(super) fn fresh(&self) -> Vec<Entry> {
        let Some(before) = &self.before else { return Vec::new() };
        let now = entries(Path::new(FOLDER)).unwrap_or_default();
        now.into_iter().filter(|entry| !before.contains(entry) && !self.mapped.contains(entry)).collect()
    }

    /// Finds those of `fresh` that one of `holders` has mapped. The kernel makes who reads the mappings of a process wait until
    /// the process does not change them, for ever if a driver hangs in it: a child of this process does that, and is killed in time.
    pub(super) fn look(&mut self, fresh: &[Entry], holders: &[Holder], time: Duration) {
        let until = Instant::now() + time;
        let Ok(device) = rustix::fs::stat(FOLDER).map(|stat| stat.st_dev) else { return };
        let Ok((from, to)) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC) else { return };
        match spawn::fork() {
            Ok(Forked::Child) => {
                let looked =
                    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| tell(fresh, holders, device, to)));
                spawn::exit(i32::from(looked.is_err()))
            }
            Ok(Forked::Parent(child)) => {
                drop(to);
                for place in told(from, until) {
                    self.mapped.extend(fresh.get(place as usize).cloned());
                }
                // It is reaped with all others. Nobody has reaped it yet, so the number is still its own.
                let _ = rustix::process::kill_process(child, Signal::KILL);
            }
            // Out of processes: then no more is known.
            Err(_) => {}
        }
    }

    /// Removes what was mapped and is held by nobody; how many these were, and of what size.
    pub(super) fn remove(self) -> (u32, u64) {
        let mut removed = (0, 0);
        if self.mapped.is_empty() {
            return removed;
        }
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(folder) = rustix::fs::open(FOLDER, flags, Mode::empty()) else { return removed };
        for entry in self.mapped {
            if let Some(bytes) = remove(&folder, &entry) {
                removed = (removed.0 + 1, removed.1 + bytes);
            }
        }
        removed
    }
}

/// Those of a library's names. `None` if they cannot be read, or are too many.
fn entries(folder: &Path) -> Option<HashSet<Entry>> {
    let mut entries = HashSet::new();
    for (count, entry) in std::fs::read_dir(folder).ok()?.enumerate() {
        let entry = entry.ok().filter(|_| count < ENTRIES_MAX)?;
        let name = entry.file_name();
        if FAMILIES.iter().any(|family| name.as_bytes().starts_with(family)) {
            entries.insert(Entry { name, inode: entry.ino() });
        }
    }
    Some(entries)
}

/// In the child: writes the places of the entries that are mapped.
fn tell(fresh: &[Entry], holders: &[Holder], device: u64, to: OwnedFd) {
    let mut untold: Vec<bool> = vec![true; fresh.len()];
    for holder in holders {
        let mut maps = Vec::new();
        let path = format!("/proc/{}/maps", holder.pid.as_raw_nonzero());
        let read = std::fs::File::open(path).and_then(|file| file.take(MAPS_BYTES_MAX).read_to_end(&mut maps));
        // After its end the number may be another's.
        if read.is_err() || tree::has_ended(holder.process.as_fd()) {
            continue;
        }
        let inodes: HashSet<u64> = inodes(&maps, device).collect();
        for (place, entry) in (0_u32..).zip(fresh) {
            if let Some(is_untold) = untold.get_mut(place as usize)
                && *is_untold
                && inodes.contains(&entry.inode)
            {
                *is_untold = false;
                let _ = rustix::io::write(&to, &place.to_le_bytes());
            }
        }
    }
}

/// In the parent: what the child says until it ends or the time is over.
fn told(from: OwnedFd, until: Instant) -> Vec<u32> {
    let bytes = said(from, until, usize::MAX);
    bytes.chunks_exact(4).filter_map(|number| Some(u32::from_le_bytes(number.try_into().ok()?))).collect()
}

/// The inodes of `device` in a list such as `7f..-7f.. rw-s 00000000 00:1b 42   /dev/shm/torch_1_2_3`.
fn inodes(maps: &[u8], device: u64) -> impl Iterator<Item = u64> {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let text = |field: &[u8]| Some(std::str::from_utf8(field).ok()?.to_owned());
    maps.split(|&byte| byte == b'\n').filter_map(move |line| {
        // Of the path, which comes behind, nothing is known.
        let mut fields = line.split(|&byte| byte == b' ').filter(|field| !field.is_empty()).skip(3).take(2);
        let place = text(fields.next()?)?;
        let (line_major, line_minor) = place.split_once(':')?;
        let is_here =
            u32::from_str_radix(line_major, 16) == Ok(major) && u32::from_str_radix(line_minor, 16) == Ok(minor);
        text(fields.next().filter(|_| is_here)?)?.parse().ok()
    })
}

fn remove(folder: &OwnedFd, entry: &Entry) -> Option<u64> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, &entry.name, flags, Mode::empty()).ok()?;
    let stat = rustix::fs::fstat(&file).ok()?;
    let is_it = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_ino == entry.inode;
    // LEFT-3, LEFT-4; the lease is held until the file is closed, when it has no name any more.
    if !is_it || stat.st_uid != rustix::process::geteuid().as_raw() || !kernel::is_held_by_nobody_else(file.as_fd()) {
        return None;
    }
    rustix::fs::unlinkat(folder, &entry.name, AtFlags::empty()).ok()?;
    Some(u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_are_told_by_device_and_inode() {
        let maps =
            b"55e0-55e1 r--p 00000000 fe:00 1835 /usr/bin/a\n7f00-7f01 rw-s 00000000 00:1b 42   /dev/shm/torch_\xff\n\
                     7f02-7f03 rw-s 00000000 00:1c 43 /x\n7f04-7f05 rw-p 00000000 00:00 0 \nnonsense";
        let device = rustix::fs::makedev(0, 0x1b);
        assert_eq!(inodes(maps, device).collect::<Vec<_>>(), [42]);
    }

    #[test]
    fn only_names_that_libraries_draw_count() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["torch_1_2_3", "psm_0a1b", "nccl-x", "sem.mp-x", "checkpoint", "sem.train", "torch"] {
            std::fs::write(folder.path().join(name), "").expect("a file");
        }
        let mut names: Vec<_> = entries(folder.path()).expect("entries").into_iter().map(|entry| entry.name).collect();
        names.sort();
        assert_eq!(names, ["nccl-x", "psm_0a1b", "sem.mp-x", "torch_1_2_3"]);
        assert_eq!(entries(Path::new("/no/such/folder")), None);
    }

    #[test]
    fn a_file_that_is_mapped_or_another_is_not_removed() {
        let name = format!("psm_zenith_test_{}", std::process::id());
        let path = Path::new(FOLDER).join(&name);
        std::fs::write(&path, [0; 8192]).expect("a file");
        let folder = rustix::fs::open(FOLDER, OFlags::DIRECTORY, Mode::empty()).expect("the folder");
        let inode = rustix::fs::stat(&path).expect("the file").st_ino;
        let entry = Entry { name: name.into(), inode };
        let other = Entry { inode: inode + 1, ..entry.clone() };
        let open = std::fs::File::open(&path).expect("the file");
        assert_eq!((remove(&folder, &entry), remove(&folder, &other)), (None, None));
        drop(open);
        assert_eq!(remove(&folder, &other), None);
        assert!(path.exists());
        assert_eq!(remove(&folder, &entry), Some(8192));
        assert!(!path.exists());
    }

    #[test]
    fn who_does_not_end_is_not_waited_for() {
        let (from, to) = rustix::pipe::pipe().expect("a pipe");
        rustix::io::write(&to, &7_u32.to_le_bytes()).expect("room");
        let began = Instant::now();
        let time = Duration::from_millis(30);
        assert_eq!(told(from, began + time), [7]);
        assert!(began.elapsed() >= time);
    }
}
