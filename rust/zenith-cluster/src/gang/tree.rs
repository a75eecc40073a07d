//! All descendants of a process, whatever session or group they went to.
//!
//! A number from /proc may belong to another process by the time it is used. So a process is first held by a pidfd, and then
//! found to be the child of one that is held already: what is signalled is a descendant, or nothing.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};

/// A process, as it is named to people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    pub pid: i32,
    pub name: String,
    /// The letter of /proc: `S` sleeps, `D` cannot be interrupted, `Z` has ended.
    pub state: u8,
}

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}, state {})", self.pid, self.name, char::from(self.state))
    }
}

/// A child that still has to be looked at, and the parent under which it was found. The calling process needs no descriptor.
struct Found {
    pid: Pid,
    parent: Pid,
    held_parent: Option<Rc<OwnedFd>>,
}

/// Calls `each` for every descendant of the calling process, parents before their children. What is below a child of ours for
/// which `skips` holds is left out with it. Processes that come while it runs may be missed: ask again until none is left.
pub(super) fn visit(skips: impl Fn(Pid) -> bool, mut each: impl FnMut(Pid, BorrowedFd<'_>, &Stat)) {
    let own = rustix::process::getpid();
    let children = Children::new();
    let found = |parent, held_parent: Option<&Rc<OwnedFd>>| {
        let held = held_parent.cloned();
        children.of(parent).into_iter().map(move |pid| Found { pid, parent, held_parent: held.clone() })
    };
    let mut waiting: Vec<Found> = found(own, None).filter(|child| !skips(child.pid)).collect();
    while let Some(child) = waiting.pop() {
        let Ok(held) = rustix::process::pidfd_open(child.pid, PidfdFlags::empty()) else { continue };
        let Some(stat) = Stat::of(child.pid) else { continue };
        let is_ours = stat.parent == own.as_raw_nonzero().get();
        let is_theirs = stat.parent == child.parent.as_raw_nonzero().get()
            && child.held_parent.as_deref().is_none_or(|parent| !has_ended(parent.as_fd()));
        // Came to us meanwhile: our own child, unless it is one that is skipped.
        if !(is_theirs || is_ours && !skips(child.pid)) {
            continue;
        }
        let held = Rc::new(held);
        // Before it is killed: its children would come to us and be found only by the next visit.
        waiting.extend(found(child.pid, Some(&held)));
        each(child.pid, held.as_fd(), &stat);
    }
}

/// Kills what it finds, once. How many processes that were not dead it found.
pub(super) fn kill(skips: impl Fn(Pid) -> bool) -> usize {
    let mut count = 0;
    visit(skips, |_, process, stat| {
        // One that has gone meanwhile is what is wanted. A dead main thread may have living ones beside it.
        let _ = rustix::process::pidfd_send_signal(process, Signal::KILL);
        count += usize::from(stat.state != b'Z' || !has_ended(process));
    });
    count
}

/// The descendants that have not ended.
pub(super) fn list(skips: impl Fn(Pid) -> bool) -> Vec<Process> {
    let mut processes = Vec::new();
    visit(skips, |pid, process, stat| {
        if !has_ended(process) {
            processes.push(Process { pid: pid.as_raw_nonzero().get(), name: stat.name.clone(), state: stat.state });
        }
    });
    processes
}

/// The children that the calling process has.
pub(super) fn own_children() -> Vec<Pid> {
    Children::new().of(rustix::process::getpid())
}

pub(super) fn has_ended(process: BorrowedFd<'_>) -> bool {
    let mut polled = [PollFd::new(&process, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(rustix::event::poll(&mut polled, Some(&now)), Ok(ready) if ready > 0)
}

/// Who is whose child: the kernel's own lists, or, where it was built without them, all of /proc.
struct Children {
    scanned: Option<HashMap<i32, Vec<Pid>>>,
}

impl Children {
    fn new() -> Self {
        let has_lists = std::path::Path::new("/proc/thread-self/children").exists();
        Self { scanned: (!has_lists).then(scan) }
    }

    fn of(&self, parent: Pid) -> Vec<Pid> {
        let parent = parent.as_raw_nonzero().get();
        if let Some(scanned) = &self.scanned {
            return scanned.get(&parent).cloned().unwrap_or_default();
        }
        let mut children = Vec::new();
        // A child is listed with the thread that made it.
        for thread in std::fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten() {
            let list = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            children.extend(list.split_ascii_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)));
        }
        children
    }
}

fn scan() -> HashMap<i32, Vec<Pid>> {
    let mut children: HashMap<i32, Vec<Pid>> = HashMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| Pid::from_raw(name.parse().ok()?)) else { continue };
        if let Some(stat) = Stat::of(pid) {
            children.entry(stat.parent).or_default().push(pid);
        }
    }
    children
}

/// The first fields of /proc/PID/stat.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stat {
    name: String,
    state: u8,
    parent: i32,
    /// Since the boot, in hundredths of a second, whatever the kernel's own clock is.
    started_ticks: u64,
}

impl Stat {
    /// Of a child of the calling process, which may have ended but was not reaped.
    pub(super) fn of_child(pid: Pid) -> Option<Self> {
        Self::of(pid).filter(|stat| stat.parent == rustix::process::getpid().as_raw_nonzero().get())
    }

    /// How long after the boot the process began.
    pub(super) fn started_after(&self) -> Duration {
        Duration::from_millis(self.started_ticks.saturating_mul(10))
    }

    fn of(pid: Pid) -> Option<Self> {
        let bytes = std::fs::read(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
        Self::parse(&String::from_utf8_lossy(&bytes))
    }

    /// A name may hold blanks and parentheses of its own.
    fn parse(line: &str) -> Option<Self> {
        let (head, tail) = line.rsplit_once(") ")?;
        let (_, name) = head.split_once(" (")?;
        let mut fields = tail.split_ascii_whitespace();
        let state = *fields.next()?.as_bytes().first()?;
        let parent = fields.next()?.parse().ok()?;
        Some(Self { name: name.to_owned(), state, parent, started_ticks: fields.nth(17)?.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn names_with_parentheses_are_read() {
        let stat = Stat { name: "a) R (b".to_owned(), state: b'S', parent: 7, started_ticks: 305 };
        let line = "12 (a) R (b) S 7 12 12 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 305 2 3";
        assert_eq!(Stat::parse(line), Some(stat));
        assert_eq!(Stat::parse("12 a"), None);
    }

    #[test]
    fn the_kernels_lists_and_a_scan_agree() {
        let mut child = Command::new("sleep").arg("100").stdin(Stdio::null()).spawn().unwrap();
        let own = rustix::process::getpid();
        let pid = Pid::from_child(&child);
        let scanned = Children { scanned: Some(scan()) };
        assert!(Children { scanned: None }.of(own).contains(&pid));
        assert!(scanned.of(own).contains(&pid));
        let mut seen = Vec::new();
        visit(|other| other != pid, |pid, _, stat| seen.push((pid, stat.name.clone())));
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].0, pid);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
