//! Segments of System V, for which the kernel keeps who made them and how many attachments there are.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use rustix::process::Pid;

use super::kernel;
use crate::gang::tree::Stat;

const LIST: &str = "/proc/sysvipc/shm";
/// Times of segments are whole seconds, and that of the boot is known no better.
const COARSE_SECONDS: u64 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Segment {
    id: i32,
    bytes: u64,
    creator: i32,
    attachments: u64,
    owner: u32,
    /// Seconds since 1970.
    made_at: u64,
}

#[derive(Debug)]
pub(super) struct Segments {
    before: HashSet<i32>,
    /// Those that the attempt has made, with their creators.
    made: HashMap<i32, i32>,
}

impl Segments {
    pub(super) fn before() -> Self {
        Self { before: list().into_iter().map(|segment| segment.id).collect(), made: HashMap::new() }
    }

    fn unknown(&self) -> impl Iterator<Item = Segment> {
        let user = rustix::process::geteuid().as_raw();
        list().into_iter().filter(move |segment| {
            segment.owner == user && !self.before.contains(&segment.id) && !self.made.contains_key(&segment.id)
        })
    }

    /// Who may have made what came since the attempt began.
    pub(super) fn unknown_creators(&self) -> HashSet<i32> {
        self.unknown().map(|segment| segment.creator).collect()
    }

    /// This process is of the attempt and was not reaped when `stat` was read.
    pub(super) fn on_process(&mut self, pid: Pid, stat: &Stat) {
        let Some(booted_at) = booted_at() else { return };
        let began_at = booted_at + stat.started_after().as_secs();
        let pid = pid.as_raw_nonzero().get();
        // What is older was made by another process that had the number before.
        let is_its = |segment: &Segment| segment.creator == pid && segment.made_at + COARSE_SECONDS >= began_at;
        let made: Vec<Segment> = self.unknown().filter(is_its).collect();
        self.made.extend(made.into_iter().map(|segment| (segment.id, segment.creator)));
    }

    /// Removes what was made and nobody has attached; how many these were, and of what size.
    pub(super) fn remove(self) -> (u32, u64) {
        let mut removed = (0, 0);
        if self.made.is_empty() {
            return removed;
        }
        let user = rustix::process::geteuid().as_raw();
        for segment in list() {
            let is_it = self.made.get(&segment.id) == Some(&segment.creator);
            // LEFT-3, LEFT-4.
            if is_it && segment.attachments == 0 && segment.owner == user && kernel::remove_segment(segment.id) {
                removed = (removed.0 + 1, removed.1 + segment.bytes);
            }
        }
        removed
    }
}

/// None where the kernel or a sandbox has no such segments.
fn list() -> Vec<Segment> {
    std::fs::read_to_string(Path::new(LIST)).map(|text| parse(&text)).unwrap_or_default()
}

/// Columns are found by their names, as their number has grown with time.
fn parse(text: &str) -> Vec<Segment> {
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap_or_default().split_ascii_whitespace().collect();
    let segment = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let field = |name: &str| fields.get(names.iter().position(|known| *known == name)?).copied();
        Some(Segment {
            id: field("shmid")?.parse().ok()?,
            bytes: field("size")?.parse().ok()?,
            creator: field("cpid")?.parse().ok()?,
            attachments: field("nattch")?.parse().ok()?,
            owner: field("uid")?.parse().ok()?,
            made_at: field("ctime")?.parse().ok()?,
        })
    };
    lines.filter_map(segment).collect()
}

/// Seconds since 1970.
fn booted_at() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_list_is_read_by_its_names() {
        let text = "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      \
                    atime      dtime      ctime                   rss                  swap\n         0     65537  \
                    1600                  4096   901   902      3  1000  1000  1000  1000 1700000001 1700000002 \
                    1700000003                  4096                     0\n";
        let segment =
            Segment { id: 65_537, bytes: 4096, creator: 901, attachments: 3, owner: 1000, made_at: 1_700_000_003 };
        assert_eq!(parse(text), [segment]);
        assert_eq!(parse("key shmid\n0 x\n"), []);
    }

    #[test]
    fn the_boot_was_before_now() {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
        assert!(booted_at().is_some_and(|at| at > 0 && at <= now));
    }
}
