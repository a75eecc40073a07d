//! The ranks of one node, started and stopped together.
//!
//! Three parts: `state` decides, `launcher` asks and waits, `guardian` (a process of its own) does. Below them: `spawn` makes a
//! process a rank, `tree` and `cgroup` find and kill what ranks have left, `warm` forks ranks from a process that has imported what they
//! need, `messages` is what launcher and guardian say.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::worker::Exit;

mod cgroup;
mod guardian;
mod launcher;
mod layers;
mod leftovers;
mod messages;
mod signals;
mod spawn;
mod state;
mod tree;
mod warm;

pub use launcher::Gang;
pub use leftovers::Removed;
pub(crate) use signals::{hold, release};
pub(crate) use spawn::{Forked, exit, fork};
pub use tree::Process;

/// How a gang is watched and stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Time between SIGTERM and SIGKILL. What outlives a successful gang has as long until it gets SIGTERM.
    pub grace: Duration,
    /// Signals that stop the gang; each is sent on to the groups of the ranks. A hangup that was ignored when the launcher
    /// began (nohup) stays ignored. A second SIGINT kills at once.
    pub stops: Vec<i32>,
    /// Signals that are passed on to the ranks' first processes and stop nothing.
    pub forwards: Vec<i32>,
    /// Whether descendants that outlive a successful gang are left alone.
    pub keeps_background: bool,
}

/// Something besides signals that can end a gang, or the wait for one.
pub trait Summons {
    /// Can be read when something is to be looked at.
    fn descriptor(&self) -> BorrowedFd<'_>;
    /// Looks, so that the descriptor cannot be read any more, and says whether the gang is to stop.
    fn is_stop(&mut self) -> bool;
    /// Looks likewise, and says whether the ranks are taken for failed, though they run.
    fn gives_up(&mut self) -> bool {
        false
    }
    /// Hears that launcher and ranks stop until SIGCONT.
    fn suspending(&mut self);
}

/// What became of a gang. Exits are in the order in which they were noticed; those that the stop itself caused are among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Succeeded(Vec<Exit>),
    Failed(Vec<Exit>),
    /// A signal to the launcher stopped it.
    Stopped {
        signal: i32,
        exits: Vec<Exit>,
    },
    /// It was summoned away.
    Withdrawn(Vec<Exit>),
}

/// Why a wait between two gangs ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    Over,
    Signal(i32),
    Summoned,
}

/// What happens on the way to an `Outcome`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The program of a rank has begun.
    Started {
        local_rank: u32,
        rank: u32,
        pid: i32,
    },
    Ended(Exit),
    /// All that still runs is asked to end, by this signal.
    Stopping {
        signal: i32,
    },
    /// What still runs is killed.
    Killing,
    /// All ranks have succeeded, but so many of their descendants still run.
    Outlived {
        count: usize,
        first: Vec<Process>,
    },
    /// Shared memory that the stopped ranks had left.
    Removed(Removed),
    /// The template has imported its modules: ranks of later attempts are forked from it.
    Warm {
        pid: i32,
    },
    /// Ranks are started without the template, for this reason.
    Cold {
        reason: String,
    },
}

impl std::fmt::Display for Notice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Started { rank, pid, .. } => write!(f, "rank {rank} runs as process {pid}"),
            Self::Ended(exit) => write!(f, "rank {} (process {}) ended: {:?}", exit.rank, exit.pid, exit.status),
            Self::Stopping { signal } => write!(f, "stopping the gang by signal {signal}"),
            Self::Killing => write!(f, "killing what is left of the gang"),
            Self::Outlived { count, first } => {
                let names: Vec<String> = first.iter().map(Process::to_string).collect();
                let more = if *count > first.len() { ", .." } else { "" };
                write!(f, "all ranks have succeeded; {count} of their processes still run: {}{more}", names.join(", "))
            }
            Self::Removed(removed) => write!(f, "{removed}"),
            Self::Warm { pid } => write!(f, "ranks can be forked from process {pid}"),
            Self::Cold { reason } => write!(f, "no warm start: {reason}"),
        }
    }
}
