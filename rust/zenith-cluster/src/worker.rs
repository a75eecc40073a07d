//! One rank, from its plan to its end.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::placement::CpuSet;

/// All that is needed to start a rank; nothing is looked up afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    pub local_rank: u32,
    pub rank: u32,
    /// Looked up in `PATH` if it has no slash, as `execvp` does.
    pub program: OsString,
    /// Without the program itself.
    pub arguments: Vec<OsString>,
    /// All of its environment.
    pub environment: Vec<(OsString, OsString)>,
    pub stdout: Output,
    pub stderr: Output,
    /// `None`: wherever the launcher may run.
    pub binding: Option<Binding>,
}

/// What a rank is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// Not empty.
    pub cpus: CpuSet,
    /// Where its memory comes from while there is some.
    pub memory_node: Option<u32>,
}

impl fmt::Display for Binding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "CPUs {}", self.cpus)?;
        self.memory_node.map_or(Ok(()), |node| write!(out, ", memory of node {node}"))
    }
}

/// Where a stream of a rank goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Where the launcher's goes.
    Inherited,
    /// `/dev/null`.
    Discarded,
    /// A file that the rank writes itself; its folder exists.
    File(PathBuf),
}

/// The end of a rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    pub local_rank: u32,
    pub rank: u32,
    pub pid: i32,
    pub status: Status,
    /// When it was noticed. `gang` lists exits in the order in which they were.
    pub at: SystemTime,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Code(i32),
    Signal(i32),
}

impl Status {
    pub fn is_success(self) -> bool {
        self == Self::Code(0)
    }
}
