//! What can be seen of a rank from outside: the files that it writes, and what /proc tells.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::hang::Beat;
use super::uninterruptible::Sleep;
use crate::worker::{Output, Worker};

/// More than a heartbeat holds.
const HEARTBEAT_BYTES_MAX: u64 = 4096;
/// No chain of parents that is followed is longer.
const PARENTS_MAX: usize = 256;

/// Where a rank leaves what it writes.
#[derive(Debug, Clone)]
pub(super) struct Traces {
    pub(super) local_rank: u32,
    pub(super) rank: u32,
    pub(super) heartbeat: Option<PathBuf>,
    outputs: Vec<PathBuf>,
}

impl Traces {
    pub(super) fn of(worker: &Worker, heartbeat: Option<PathBuf>) -> Self {
        let file = |output: &Output| match output {
            Output::File(path) => Some(path.clone()),
            _ => None,
        };
        let outputs = [&worker.stdout, &worker.stderr].into_iter().filter_map(file).collect();
        Self { local_rank: worker.local_rank, rank: worker.rank, heartbeat, outputs }
    }

    /// Time and size of the heartbeat file, which any program may touch or write.
    pub(super) fn beat(&self) -> Option<Beat> {
        let metadata = std::fs::metadata(self.heartbeat.as_deref()?).ok()?;
        let since = Duration::new(metadata.mtime().try_into().ok()?, metadata.mtime_nsec().try_into().ok()?);
        Some((SystemTime::UNIX_EPOCH.checked_add(since)?, metadata.len()))
    }

    /// `None` if nothing goes to a file.
    pub(super) fn output(&self) -> Option<u64> {
        let length = |path: &PathBuf| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        (!self.outputs.is_empty()).then(|| self.outputs.iter().map(length).sum())
    }
}

/// Whom to ask for the stacks of a rank: who has given its first sign of life, and by which signal it writes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Registered {
    pub(super) pid: i32,
    pub(super) signal: i32,
}

/// What the heartbeat file says of it: a count, a process and a signal, 0 if there is none.
pub(super) fn registered(heartbeat: &Path) -> Option<Registered> {
    let metadata = std::fs::metadata(heartbeat).ok()?;
    if !metadata.is_file() || metadata.len() > HEARTBEAT_BYTES_MAX {
        return None;
    }
    parse_registered(&std::fs::read_to_string(heartbeat).ok()?)
}

fn parse_registered(text: &str) -> Option<Registered> {
    let mut words = text.lines().next()?.split_ascii_whitespace().skip(1);
    let (pid, signal) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    (pid > 1 && signal > 0).then_some(Registered { pid, signal })
}

/// A field of /proc/PID/status, such as `SigCgt`.
pub(super) fn status<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// Whether a process has a handler for a signal; without one it would die of it.
pub(super) fn catches(status_text: &str, signal: i32) -> bool {
    let caught = status(status_text, "SigCgt").and_then(|mask| u64::from_str_radix(mask, 16).ok()).unwrap_or(0);
    (1..=64).contains(&signal) && caught >> (signal - 1) & 1 == 1
}

/// Whether it was stopped by a signal, or by whoever traces it.
pub(super) fn is_stopped(status: &str) -> bool {
    self::status(status, "State").is_some_and(|state| state.starts_with('T'))
}

pub(super) fn sleep(pid: i32) -> Option<Sleep> {
    parse_sleep(&std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

fn parse_sleep(text: &str) -> Option<Sleep> {
    let count = |name| status(text, name)?.parse::<u64>().ok();
    Some(Sleep {
        is_uninterruptible: status(text, "State")?.starts_with('D'),
        switches: count("voluntary_ctxt_switches")? + count("nonvoluntary_ctxt_switches")?,
    })
}

/// Whether a process is another's descendant, or that one itself.
pub(super) fn is_within(pid: i32, ancestor: i32) -> bool {
    let parent = |pid: i32| -> Option<i32> {
        status(&std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?, "PPid")?.parse().ok()
    };
    std::iter::successors(Some(pid), |pid| parent(*pid)).take(PARENTS_MAX).any(|pid| pid == ancestor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heartbeats_tell_process_and_signal() {
        for (text, expected) in [
            ("12 345 16\n", Some(Registered { pid: 345, signal: 16 })),
            ("12 345 0\n", None),
            ("12 1 16\n", None),
            ("12 345\n", None),
            ("", None),
            ("x y z", None),
        ] {
            assert_eq!(parse_registered(text), expected, "{text:?}");
        }
    }

    #[test]
    fn the_kernels_table_is_read() {
        let text = "Name:\tState: S\nState:\tD (disk sleep)\nPPid:\t7\nSigCgt:\t0000000000008001\nvoluntary_ctxt_switches:\t5\nnonvoluntary_ctxt_switches:\t2\n";
        assert_eq!(parse_sleep(text), Some(Sleep { is_uninterruptible: true, switches: 7 }));
        assert_eq!(parse_sleep("State:\tD"), None);
        assert_eq!(
            [1, 16, 15, 64, 65, 0].map(|signal| catches(text, signal)),
            [true, true, false, false, false, false]
        );
        assert_eq!(sleep(std::process::id() as i32).map(|sleep| sleep.is_uninterruptible), Some(false));
    }

    #[test]
    fn descendants_are_those_below() {
        let own = std::process::id() as i32;
        assert!(is_within(own, own) && is_within(own, 1));
        assert!(!is_within(1, own) && !is_within(i32::MAX, own));
    }

    #[test]
    fn signs_of_life_are_any_change_of_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("heartbeat");
        let traces =
            Traces { local_rank: 0, rank: 0, heartbeat: Some(path.clone()), outputs: vec![folder.path().join("log")] };
        assert_eq!((traces.beat(), traces.output()), (None, Some(0)));
        std::fs::write(&path, "").expect("a file");
        let first = traces.beat();
        std::fs::write(&path, "x").expect("a file");
        assert!(first.is_some() && traces.beat() != first);
        std::fs::write(folder.path().join("log"), "abc").expect("a file");
        assert_eq!(traces.output(), Some(3));
    }
}
