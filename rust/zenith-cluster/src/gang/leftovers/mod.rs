//! Shared memory that the processes of a stopped attempt have left: names in /dev/shm and segments of System V.
//!
//! Nobody's is touched that may be another's. The kernel does not say who made a file of shared memory, so an entry is
//! removed only if all of this holds:
//!
//! LEFT-1: it was not there when the attempt began (a file is known by its name and inode, a segment by its number).
//! LEFT-2: it belongs to the attempt. Of a file: a process of the attempt was seen to have it mapped, right before that process
//! was signalled or killed, and its name is of those that libraries draw at random for themselves. Of a segment: the process that
//! made it, which the kernel knows, was seen to be of the attempt while it was not reaped yet, and did not begin after it.
//! LEFT-3: nobody holds it. Of a file the kernel says so, for all containers, by granting a lease. A segment has no attachments.
//! LEFT-4: it is owned by the user that runs the launcher.
//!
//! What ranks leave that end by themselves and well is theirs to leave: nothing is removed after a success.

mod files;
mod kernel;
mod segments;

use std::time::Duration;

use files::Files;
use rustix::process::Pid;
use segments::Segments;

use super::tree;

/// How long a signal is put off to see what its receivers hold. Only where there are files that they may hold.
const LOOK_MAX: Duration = Duration::from_millis(100);

/// What has been removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Removed {
    pub files: u32,
    pub segments: u32,
    pub bytes: u64,
}

impl std::fmt::Display for Removed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { files, segments, bytes } = self;
        write!(f, "removed shared memory that the stopped ranks had left: {files} files in /dev/shm, ")?;
        write!(f, "{segments} segments of System V, {:.1} MiB", *bytes as f64 / f64::from(1 << 20))
    }
}

/// Of one attempt; belongs to the guardian.
#[derive(Debug)]
pub(super) struct Leftovers {
    files: Files,
    segments: Segments,
    /// A rank has failed, or something was asked to end or made to.
    has_failed: bool,
}

impl Leftovers {
    /// Before the first process of the attempt.
    pub(super) fn before() -> Self {
        Self { files: Files::before(), segments: Segments::before(), has_failed: false }
    }

    /// Before descendants are asked to end, or killed: sees what they hold.
    pub(super) fn on_stop(&mut self) {
        self.has_failed = true;
        let fresh = self.files.fresh();
        let creators = self.segments.unknown_creators();
        if fresh.is_empty() && creators.is_empty() {
            return;
        }
        let mut processes = Vec::new();
        tree::visit(
            |_| false,
            |pid, process, stat| {
                if let Ok(held) = process.try_clone_to_owned() {
                    processes.push(files::Holder { pid, process: held });
                }
                if creators.contains(&pid.as_raw_nonzero().get()) {
                    self.segments.on_process(pid, stat);
                }
            },
        );
        if !fresh.is_empty() {
            self.files.look(&fresh, &processes, LOOK_MAX);
        }
    }

    /// A rank has ended by itself and not well: what it alone had mapped is not known, what it has made is.
    pub(super) fn on_failure(&mut self) {
        self.has_failed = true;
    }

    /// Before children that have ended are reaped: until then their numbers are theirs.
    pub(super) fn on_ends(&mut self) {
        for pid in self.segments.unknown_creators().into_iter().filter_map(Pid::from_raw) {
            if let Some(stat) = tree::Stat::of_child(pid) {
                self.segments.on_process(pid, &stat);
            }
        }
    }

    /// After the last process of the attempt.
    pub(super) fn remove(self) -> Removed {
        if !self.has_failed {
            return Removed::default();
        }
        let (files, bytes_of_files) = self.files.remove();
        let (segments, bytes_of_segments) = self.segments.remove();
        Removed { files, segments, bytes: bytes_of_files + bytes_of_segments }
    }
}
