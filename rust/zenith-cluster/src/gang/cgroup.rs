//! A control group around the ranks, where one can be made: what is in it can be killed as a whole, while it forks.
//!
//! Version 2 kills by `cgroup.kill`. Version 1 is frozen first, so that nothing is born while its list is gone through.
//! Launcher and guardian hold a lock on the folder as long as one of them lives; one that nobody holds is a leftover.

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, FlockOperation, Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal};

const PREFIX: &str = "zenith-run.";

#[derive(Debug)]
pub(super) struct Cgroup {
    version: Version,
    folder: PathBuf,
    /// Where ranks write themselves.
    members: OwnedFd,
    /// The folder, locked.
    held: OwnedFd,
    /// Whether this process has killed the members by `cgroup.kill`.
    was_killed: Cell<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// The unified hierarchy.
    Two,
    /// The hierarchy of the freezer.
    One,
}

impl Cgroup {
    /// Makes one below the calling process's own, and clears away what launchers that were killed have left there.
    pub(super) fn make(version: Version) -> Option<Self> {
        let mounts = std::fs::read("/proc/self/mountinfo").ok()?;
        let groups = std::fs::read("/proc/self/cgroup").ok()?;
        let parent = own_folder(version, &mounts, &groups)?;
        sweep(version, &parent);
        let pid = rustix::process::getpid().as_raw_nonzero();
        // Between its making and its lock another launcher may take the folder for a leftover.
        (0..5).find_map(|attempt| {
            let folder = parent.join(format!("{PREFIX}{pid}.{attempt}"));
            std::fs::create_dir(&folder).ok()?;
            let made = Self::open(version, &folder);
            if made.is_none() {
                let _ = std::fs::remove_dir(&folder);
            }
            made
        })
    }

    /// `None` also if another launcher takes the new folder for a leftover.
    fn open(version: Version, folder: &Path) -> Option<Self> {
        let held = lock(folder)?;
        if version == Version::Two && !folder.join("cgroup.kill").exists() {
            return None;
        }
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let members = rustix::fs::openat(CWD, folder.join("cgroup.procs"), flags, Mode::empty()).ok()?;
        Some(Self { version, folder: folder.to_owned(), members, held, was_killed: Cell::new(false) })
    }

    /// The folder into which a process can be forked. Not after a kill: the kernel (seen with 6.18) compares the number of kills of
    /// the parent's group with that of the new one and kills the newborn if they differ, so ranks enter a killed group by themselves.
    pub(super) fn birthplace(&self) -> Option<BorrowedFd<'_>> {
        (self.version == Version::Two && !self.was_killed.get()).then(|| self.held.as_fd())
    }

    pub(super) fn members(&self) -> BorrowedFd<'_> {
        self.members.as_fd()
    }

    /// Kills all members, once.
    pub(super) fn kill(&self) {
        self.was_killed.set(true);
        kill(self.version, &self.folder);
    }

    /// Puts the members, which are to live on, where the launcher is.
    pub(super) fn release(&self) {
        let Some(parent) = self.folder.parent() else { return };
        // Those that are born meanwhile are found by the next turn.
        for _ in 0..10 {
            let members = list(&self.folder);
            for pid in &members {
                let _ = std::fs::write(parent.join("cgroup.procs"), pid.as_raw_nonzero().to_string());
            }
            if members.is_empty() {
                break;
            }
        }
    }

    pub(super) fn remove(&self) {
        remove(&self.folder);
    }
}

fn kill(version: Version, folder: &Path) {
    match version {
        Version::Two => {
            let _ = std::fs::write(folder.join("cgroup.kill"), "1");
        }
        Version::One => {
            let state = folder.join("freezer.state");
            let _ = std::fs::write(&state, "FROZEN");
            for _ in 0..20 {
                if std::fs::read_to_string(&state).is_ok_and(|state| state.trim() != "FREEZING") {
                    break;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            let open = |pid| Some((pid, rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()?));
            let held: Vec<(Pid, OwnedFd)> = list(folder).into_iter().filter_map(open).collect();
            // Still listed after it was held: it is a member, whoever had its number before.
            let members = list(folder);
            for (pid, process) in held {
                if members.contains(&pid) {
                    let _ = rustix::process::pidfd_send_signal(process, Signal::KILL);
                }
            }
            let _ = std::fs::write(&state, "THAWED");
        }
    }
}

/// The processes of a group and of those that its processes have made in it.
fn list(folder: &Path) -> Vec<Pid> {
    let mut members = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let text = std::fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
        // 0 stands for a process of another pid namespace.
        members.extend(text.split_ascii_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)));
        folders.extend(subfolders(&folder));
    }
    members
}

fn subfolders(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path())
}

fn remove(folder: &Path) {
    for inner in subfolders(folder) {
        remove(&inner);
    }
    let _ = std::fs::remove_dir(folder);
}

/// `None` if another process holds it.
fn lock(folder: &Path) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::openat(CWD, folder, flags, Mode::empty()).ok()?;
    rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive).ok()?;
    Some(folder)
}

/// Empties and removes the groups whose launcher and guardian are both gone.
fn sweep(version: Version, parent: &Path) {
    for folder in subfolders(parent) {
        let is_ours = folder.file_name().is_some_and(|name| name.as_bytes().starts_with(PREFIX.as_bytes()));
        if !is_ours {
            continue;
        }
        let Some(_held) = lock(&folder) else { continue };
        for _ in 0..20 {
            kill(version, &folder);
            if list(&folder).is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        remove(&folder);
    }
}

/// The folder of the calling process's own group, from its /proc/self/mountinfo and /proc/self/cgroup.
fn own_folder(version: Version, mounts: &[u8], groups: &[u8]) -> Option<PathBuf> {
    let (mounts, groups) = (str::from_utf8(mounts).ok()?, str::from_utf8(groups).ok()?);
    let (root, point) = mounts.lines().find_map(|line| {
        let (head, tail) = line.split_once(" - ")?;
        let mut head = head.split(' ').skip(3);
        let (root, point) = (head.next()?, head.next()?);
        let mut tail = tail.split(' ');
        let (kind, options) = (tail.next()?, tail.nth(1).unwrap_or_default());
        let fits = match version {
            Version::Two => kind == "cgroup2",
            Version::One => kind == "cgroup" && options.split(',').any(|option| option == "freezer"),
        };
        fits.then_some((root, point))
    })?;
    let own = groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let fits = match version {
            Version::Two => number == "0",
            Version::One => controllers.split(',').any(|controller| controller == "freezer"),
        };
        fits.then_some(path)
    })?;
    // A container often sees only its own part of the hierarchy, mounted as if it were all.
    let below = Path::new(own).strip_prefix(root).ok()?;
    Some(Path::new(point).join(below))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &[u8] = b"31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
        37 31 0:34 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n";

    #[test]
    fn the_own_group_is_found_in_both_hierarchies() {
        let groups = b"6:freezer:/job\n0::/user.slice/a b\n";
        let two = own_folder(Version::Two, MOUNTS, groups);
        assert_eq!(two, Some(PathBuf::from("/sys/fs/cgroup/unified/user.slice/a b")));
        assert_eq!(own_folder(Version::One, MOUNTS, groups), Some(PathBuf::from("/sys/fs/cgroup/freezer/job")));
    }

    #[test]
    fn a_container_that_sees_only_its_part_finds_its_group_there() {
        let mounts = b"41 31 0:38 /docker/1 /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let own = own_folder(Version::Two, mounts, b"0::/docker/1/inner\n");
        assert_eq!(own, Some(PathBuf::from("/sys/fs/cgroup/inner")));
        assert_eq!(own_folder(Version::Two, mounts, b"0::/elsewhere\n"), None);
        assert_eq!(own_folder(Version::One, mounts, b"0::/docker/1\n"), None);
    }
}
