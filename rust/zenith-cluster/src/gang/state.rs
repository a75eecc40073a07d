//! The decisions: what happened goes in with its time, what is to be done comes out.

use std::time::{Duration, Instant, SystemTime};

use super::leftovers::Removed;
use super::messages::{Failure, Order, Target};
use super::tree::Process;
use super::{Notice, Outcome, Rules};
use crate::worker::{Exit, Status, Worker};

/// What SIGKILL does not end within this is given up: it hangs in the kernel, or a device takes as long to let go of it.
const GIVE_UP_AFTER: Duration = Duration::from_secs(30);
/// Longer than any wait that is meant; an `Instant` cannot be put off without bound.
pub(super) const AGE: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// Descendants that outlive a success are named after this; most only end a moment later than their rank.
const NAME_AFTER: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) enum Event {
    Started {
        index: usize,
        pid: i32,
    },
    NotStarted {
        index: usize,
        failure: Failure,
    },
    Ended {
        index: usize,
        pid: i32,
        status: Status,
        at: SystemTime,
    },
    /// No rank is left, and none of their descendants.
    Empty,
    Descendants {
        count: usize,
        first: Vec<Process>,
    },
    /// Shared memory of the attempt was removed.
    Removed(Removed),
    /// The launcher was sent a signal.
    Signal(i32),
    /// The gang is not wanted any more.
    Withdrawn,
    /// The ranks are taken for failed.
    GivenUp,
    /// A deadline may have passed.
    Time,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// For the guardian.
    Order(Order),
    Tell(Notice),
    /// The launcher is to stop until SIGCONT, as its ranks do.
    Suspend,
    /// The attempt is over.
    Finish(Result<Outcome, Trouble>),
}

/// Why there is no outcome.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    NotStarted {
        index: usize,
        failure: Failure,
    },
    /// SIGKILL did not end everything.
    Stuck,
}

/// One attempt.
#[derive(Debug)]
pub(super) struct State {
    rules: Rules,
    ranks: Vec<Rank>,
    exits: Vec<Exit>,
    phase: Phase,
    interrupted: bool,
    /// Since when launcher and ranks are stopped by SIGTSTP.
    suspended: Option<Instant>,
}

#[derive(Debug)]
struct Rank {
    local_rank: u32,
    rank: u32,
    is_over: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    /// Ranks are starting or running.
    Running,
    /// All ranks have succeeded; some of their descendants still run.
    Outlived {
        name_at: Option<Instant>,
        stop_at: Instant,
    },
    /// Everybody was asked to end.
    Stopping {
        why: Why,
        kill_at: Instant,
    },
    Killing {
        why: Why,
        give_up_at: Instant,
    },
    Over,
}

/// Why a gang is stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Why {
    NotStarted {
        index: usize,
        failure: Failure,
    },
    Failed,
    Signal(i32),
    /// What the ranks have left behind took too long; they had succeeded.
    Outlived,
    Withdrawn,
}

impl State {
    pub(super) fn new(workers: &[Worker], rules: &Rules) -> Self {
        let rank = |worker: &Worker| Rank { local_rank: worker.local_rank, rank: worker.rank, is_over: false };
        Self {
            rules: Rules { grace: rules.grace.min(AGE), ..rules.clone() },
            ranks: workers.iter().map(rank).collect(),
            exits: Vec::new(),
            phase: Phase::Running,
            interrupted: false,
            suspended: None,
        }
    }

    /// When `Event::Time` is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        if self.suspended.is_some() {
            return None;
        }
        match &self.phase {
            Phase::Running | Phase::Over => None,
            Phase::Outlived { name_at, stop_at } => Some(name_at.unwrap_or(*stop_at)),
            Phase::Stopping { kill_at, .. } => Some(*kill_at),
            Phase::Killing { give_up_at, .. } => Some(*give_up_at),
        }
    }

    pub(super) fn on_event(&mut self, event: Event, now: Instant, out: &mut Vec<Command>) {
        if self.phase == Phase::Over {
            return;
        }
        match event {
            Event::Started { index, pid } => self.on_start(index, pid, out),
            Event::NotStarted { index, failure } => self.on_failed_start(index, failure, now, out),
            Event::Ended { index, pid, status, at } => self.on_end(index, pid, status, at, now, out),
            Event::Empty => self.on_empty(out),
            Event::Descendants { count, first } => {
                if matches!(self.phase, Phase::Outlived { .. }) && count > 0 {
                    out.push(Command::Tell(Notice::Outlived { count, first }));
                }
            }
            Event::Removed(removed) => out.push(Command::Tell(Notice::Removed(removed))),
            Event::Signal(signal) => self.on_signal(signal, now, out),
            Event::Withdrawn => {
                if matches!(self.phase, Phase::Running | Phase::Outlived { .. }) {
                    self.stop(Why::Withdrawn, libc::SIGTERM, now, out);
                }
            }
            Event::GivenUp => {
                if self.phase == Phase::Running {
                    self.stop(Why::Failed, libc::SIGTERM, now, out);
                }
            }
            Event::Time => self.on_time(now, out),
        }
    }

    fn on_start(&mut self, index: usize, pid: i32, out: &mut Vec<Command>) {
        if let Some(rank) = self.ranks.get(index) {
            out.push(Command::Tell(Notice::Started { local_rank: rank.local_rank, rank: rank.rank, pid }));
        }
    }

    fn on_failed_start(&mut self, index: usize, failure: Failure, now: Instant, out: &mut Vec<Command>) {
        let Some(rank) = self.ranks.get_mut(index).filter(|rank| !rank.is_over) else { return };
        rank.is_over = true;
        if self.phase == Phase::Running {
            // What runs already has done nothing worth a grace.
            self.kill(Why::NotStarted { index, failure }, now, out);
        }
    }

    fn on_end(&mut self, index: usize, pid: i32, status: Status, at: SystemTime, now: Instant, out: &mut Vec<Command>) {
        let Some(rank) = self.ranks.get_mut(index).filter(|rank| !rank.is_over) else { return };
        rank.is_over = true;
        let exit = Exit { local_rank: rank.local_rank, rank: rank.rank, pid, status, at };
        self.exits.push(exit);
        out.push(Command::Tell(Notice::Ended(exit)));
        let all_over = self.ranks.iter().all(|rank| rank.is_over);
        match &self.phase {
            Phase::Running if !status.is_success() => self.stop(Why::Failed, libc::SIGTERM, now, out),
            Phase::Running if all_over && self.rules.keeps_background => {
                out.push(Command::Order(Order::Leave));
                let exits = std::mem::take(&mut self.exits);
                self.finish(Ok(Outcome::Succeeded(exits)), out);
            }
            Phase::Running if all_over => {
                let name_at = now + NAME_AFTER.min(self.rules.grace / 2);
                self.phase = Phase::Outlived { name_at: Some(name_at), stop_at: now + self.rules.grace };
            }
            // The group of a rank was told when the rank was; those that left it hear of the end only now.
            Phase::Stopping { .. } if all_over => signal_groups(libc::SIGTERM, out),
            _ => {}
        }
    }

    fn on_empty(&mut self, out: &mut Vec<Command>) {
        if !self.ranks.iter().all(|rank| rank.is_over) {
            return;
        }
        let exits = std::mem::take(&mut self.exits);
        let verdict = match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Running | Phase::Outlived { .. } => Ok(Outcome::Succeeded(exits)),
            Phase::Stopping { why, .. } | Phase::Killing { why, .. } => match why {
                Why::Failed => Ok(Outcome::Failed(exits)),
                Why::Signal(signal) => Ok(Outcome::Stopped { signal, exits }),
                Why::Outlived => Ok(Outcome::Succeeded(exits)),
                Why::Withdrawn => Ok(Outcome::Withdrawn(exits)),
                Why::NotStarted { index, failure } => Err(Trouble::NotStarted { index, failure }),
            },
            Phase::Over => return,
        };
        self.finish(verdict, out);
    }

    fn on_signal(&mut self, signal: i32, now: Instant, out: &mut Vec<Command>) {
        match signal {
            _ if self.rules.stops.contains(&signal) => self.on_stop(signal, now, out),
            _ if self.rules.forwards.contains(&signal) => {
                out.push(Command::Order(Order::Signal { signal, to: Target::Ranks }));
            }
            libc::SIGTSTP if self.suspended.is_none() => {
                self.suspended = Some(now);
                if !matches!(self.phase, Phase::Killing { .. }) {
                    // Sessions without a terminal ignore SIGTSTP itself.
                    out.push(Command::Order(Order::Signal { signal: libc::SIGSTOP, to: Target::Groups }));
                }
                out.push(Command::Suspend);
            }
            libc::SIGCONT => {
                if let Some(since) = self.suspended.take() {
                    self.postpone(now.saturating_duration_since(since));
                    out.push(Command::Order(Order::Signal { signal: libc::SIGCONT, to: Target::Groups }));
                }
            }
            _ => {}
        }
    }

    fn on_stop(&mut self, signal: i32, now: Instant, out: &mut Vec<Command>) {
        let insists = signal == libc::SIGINT && self.interrupted;
        self.interrupted |= signal == libc::SIGINT;
        match self.phase.clone() {
            Phase::Running | Phase::Outlived { .. } => self.stop(Why::Signal(signal), signal, now, out),
            Phase::Stopping { .. } if insists => self.kill(Why::Signal(signal), now, out),
            Phase::Stopping { why: Why::Failed | Why::Outlived | Why::Withdrawn, kill_at } => {
                // Asked to end, it shall not be started again; the grace began with the failure.
                self.phase = Phase::Stopping { why: Why::Signal(signal), kill_at };
                signal_groups(signal, out);
            }
            Phase::Killing { why: Why::Failed | Why::Outlived | Why::Withdrawn, give_up_at } => {
                self.phase = Phase::Killing { why: Why::Signal(signal), give_up_at };
            }
            Phase::Stopping { .. } | Phase::Killing { .. } | Phase::Over => {}
        }
    }

    fn on_time(&mut self, now: Instant, out: &mut Vec<Command>) {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        match self.phase.clone() {
            Phase::Outlived { name_at: Some(_), stop_at } => {
                self.phase = Phase::Outlived { name_at: None, stop_at };
                out.push(Command::Order(Order::List));
            }
            Phase::Outlived { name_at: None, .. } => self.stop(Why::Outlived, libc::SIGTERM, now, out),
            Phase::Stopping { why, .. } => self.kill(why, now, out),
            Phase::Killing { .. } => self.finish(Err(Trouble::Stuck), out),
            Phase::Running | Phase::Over => {}
        }
    }

    fn stop(&mut self, why: Why, signal: i32, now: Instant, out: &mut Vec<Command>) {
        self.suspended = None;
        out.push(Command::Tell(Notice::Stopping { signal }));
        signal_groups(signal, out);
        self.phase = Phase::Stopping { why, kill_at: now + self.rules.grace };
    }

    fn kill(&mut self, why: Why, now: Instant, out: &mut Vec<Command>) {
        self.suspended = None;
        out.push(Command::Tell(Notice::Killing));
        out.push(Command::Order(Order::Kill));
        self.phase = Phase::Killing { why, give_up_at: now + GIVE_UP_AFTER };
    }

    fn finish(&mut self, verdict: Result<Outcome, Trouble>, out: &mut Vec<Command>) {
        self.phase = Phase::Over;
        out.push(Command::Finish(verdict));
    }

    fn postpone(&mut self, by: Duration) {
        match &mut self.phase {
            Phase::Outlived { name_at, stop_at } => {
                *name_at = name_at.map(|at| at + by);
                *stop_at += by;
            }
            Phase::Stopping { kill_at: at, .. } | Phase::Killing { give_up_at: at, .. } => *at += by,
            Phase::Running | Phase::Over => {}
        }
    }
}

/// A stopped process would not take the signal before it goes on.
fn signal_groups(signal: i32, out: &mut Vec<Command>) {
    for signal in [signal, libc::SIGCONT] {
        out.push(Command::Order(Order::Signal { signal, to: Target::Groups }));
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
