//! Warm starts: a template process has imported what ranks import, and is forked for them.
//!
//! WARM-1: nothing of a rank happens in a fork before the guardian gives it leave; and leave is given to a child that the guardian
//! holds by a pidfd and has not reaped. So the end of every rank is seen, and a fork that is given up, for a cold start in its place,
//! does not become the same rank a second time: its connection is closed, and it ends.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::epoll;
use rustix::process::{Pid, Signal, WaitStatus};

use super::spawn::{self, Conditions, Spawned};
use crate::worker::Worker;

mod likeness;
mod request;

pub(super) use likeness::template;
use request::Word;

/// The environment variable in which a template finds its connection.
const CONNECTION: &str = "ZENITH_TEMPLATE";
/// A template that does not fork for so long hangs, unless it has less for its modules. Forking a large process takes some 20 ms.
const BIRTH_LIMIT: Duration = Duration::from_secs(10);

/// What epoll events of this module are about.
pub(super) const TEMPLATE: u64 = 3;
pub(super) const BIRTHS: u64 = 3 << 32;

/// The template of a node, and the ranks that it was asked for.
#[derive(Debug, Default)]
pub(super) struct Warm {
    phase: Phase,
    births: BTreeMap<u64, Birth>,
    asked: u64,
}

#[derive(Debug, Default)]
enum Phase {
    /// Nobody wants one, or it is gone.
    #[default]
    Absent,
    /// It begins when the first ranks have.
    Ordered {
        worker: Worker,
        limit: Duration,
    },
    Loading {
        held: Held,
        limit: Duration,
        until: Instant,
    },
    Ready {
        held: Held,
        limit: Duration,
    },
    /// Of no use any more, and not reaped yet.
    Ending(Held),
}

#[derive(Debug)]
struct Held {
    worker: Worker,
    spawned: Spawned,
    socket: OwnedFd,
}

/// A rank that was asked for.
#[derive(Debug)]
struct Birth {
    index: u32,
    worker: Worker,
    channel: OwnedFd,
    until: Instant,
}

/// What the guardian is to do.
#[derive(Debug)]
pub(super) enum News {
    Ready(Pid),
    /// There is no template any more; these ranks are to be started cold.
    Lost {
        reason: String,
        unborn: Vec<(u32, Worker)>,
    },
    /// A rank begins. Its connection, in the place of the pipe of a cold start, is known to epoll by the number of its birth.
    Born {
        index: u32,
        spawned: Spawned,
    },
    /// This rank is to be started cold.
    Unborn {
        index: u32,
        worker: Worker,
        reason: String,
    },
}

impl Warm {
    pub(super) fn order(&mut self, worker: Worker, limit: Duration) {
        if matches!(self.phase, Phase::Absent) {
            self.phase = Phase::Ordered { worker, limit };
        }
    }

    /// Starts what was ordered.
    pub(super) fn begin(&mut self, epoll: &OwnedFd, conditions: &Conditions<'_>) -> Option<News> {
        let (worker, limit) = match std::mem::take(&mut self.phase) {
            Phase::Ordered { worker, limit } => (worker, limit),
            other => {
                self.phase = other;
                return None;
            }
        };
        match Held::start(worker, epoll, conditions) {
            Ok(held) => {
                self.phase = Phase::Loading { held, limit, until: Instant::now() + limit };
                None
            }
            Err(error) => {
                Some(News::Lost { reason: format!("the template cannot be started: {error}"), unborn: vec![] })
            }
        }
    }

    /// Asks for a rank. `Ok(false)`: there is no template, as was said before, and the start is cold; so it is after an error,
    /// which is the reason.
    pub(super) fn ask(
        &mut self,
        index: u32,
        worker: &Worker,
        epoll: &OwnedFd,
        conditions: &Conditions<'_>,
    ) -> Result<bool, String> {
        let (held, limit) = match &self.phase {
            Phase::Absent | Phase::Ordered { .. } | Phase::Ending(_) => return Ok(false),
            Phase::Loading { .. } => return Err("the template is still importing its modules".to_owned()),
            Phase::Ready { held, limit } => (held, BIRTH_LIMIT.min(*limit)),
        };
        let arguments = likeness::arguments(&held.worker, worker)?;
        let asked = request::ask(held.socket.as_fd(), worker, arguments, conditions).and_then(|channel| {
            let token = epoll::EventData::new_u64(BIRTHS + self.asked);
            epoll::add(epoll, &channel, token, epoll::EventFlags::IN)?;
            Ok(channel)
        });
        // What cannot be opened is named by the cold start, which tries it again.
        let channel =
            asked.map_err(|error| format!("the template cannot be asked for rank {}: {error}", worker.rank))?;
        let birth = Birth { index, worker: worker.clone(), channel, until: Instant::now() + limit };
        self.births.insert(self.asked, birth);
        self.asked += 1;
        Ok(true)
    }

    /// The template's process, as long as it is not reaped.
    pub(super) fn pid(&self) -> Option<Pid> {
        self.held().map(|held| held.spawned.pid)
    }

    pub(super) fn has_births(&self) -> bool {
        !self.births.is_empty()
    }

    /// When `on_time` is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let loaded = match &self.phase {
            Phase::Loading { until, .. } => Some(*until),
            _ => None,
        };
        self.births.values().map(|birth| birth.until).chain(loaded).min()
    }

    pub(super) fn on_time(&mut self, now: Instant) -> Option<News> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return None;
        }
        let reason = match &self.phase {
            Phase::Loading { limit, .. } => {
                format!("the template was to have imported its modules in {:.1} s, and was killed", limit.as_secs_f64())
            }
            _ => "the template does not fork, and was killed".to_owned(),
        };
        Some(self.lose(reason))
    }

    /// The template's connection can be read.
    pub(super) fn on_template(&mut self, epoll: &OwnedFd) -> Option<News> {
        let held = self.held()?;
        let word = request::word(held.socket.as_fd())?;
        if word != Word::Ready {
            // It would be ready for ever.
            let _ = epoll::delete(epoll, &held.socket);
        }
        match (word, std::mem::take(&mut self.phase)) {
            (Word::Ready, Phase::Loading { held, limit, .. }) => {
                let pid = held.spawned.pid;
                self.phase = Phase::Ready { held, limit };
                Some(News::Ready(pid))
            }
            (Word::No(reason), phase) => {
                self.phase = phase;
                Some(self.lose(reason))
            }
            // Its end tells more than that of its connection.
            (_, phase) => {
                self.phase = phase;
                self.kill();
                None
            }
        }
    }

    /// The connection of a rank that was asked for can be read.
    pub(super) fn on_birth(&mut self, token: u64, epoll: &OwnedFd) -> Option<News> {
        let Birth { index, worker, channel, .. } = self.births.remove(&(token - BIRTHS))?;
        let newborn = request::newborn(channel.as_fd()).and_then(|newborn| {
            request::give_leave(channel.as_fd()).map_err(|error| error.to_string())?;
            Ok(newborn)
        });
        match newborn {
            // WARM-1.
            Ok(newborn) => Some(News::Born {
                index,
                spawned: Spawned { pid: newborn.pid, process: Some(newborn.process), failure: Some(channel) },
            }),
            Err(reason) => {
                let _ = epoll::delete(epoll, &channel);
                let reason = format!("the template cannot be forked for rank {}: {reason}", worker.rank);
                Some(News::Unborn { index, worker, reason })
            }
        }
    }

    /// A child of the guardian was reaped.
    pub(super) fn on_reaped(&mut self, pid: Pid, status: WaitStatus) -> Option<News> {
        if self.pid() != Some(pid) {
            return None;
        }
        match std::mem::take(&mut self.phase) {
            Phase::Loading { held, .. } | Phase::Ready { held, .. } => {
                // What it has said before it ended is the reason.
                let reason = match request::word(held.socket.as_fd()) {
                    Some(Word::No(reason)) => reason,
                    _ => held.end(status),
                };
                Some(News::Lost { reason, unborn: self.unborn() })
            }
            _ => None,
        }
    }

    /// Gives up all ranks that were asked for and have not begun.
    pub(super) fn cancel(&mut self) -> Vec<u32> {
        self.unborn().into_iter().map(|(index, _)| index).collect()
    }

    pub(super) fn kill(&self) {
        if let Some(process) = self.held().and_then(|held| held.spawned.process.as_ref()) {
            // That it has just ended is no error.
            let _ = rustix::process::pidfd_send_signal(process, Signal::KILL);
        }
    }

    fn lose(&mut self, reason: String) -> News {
        self.kill();
        self.phase = match std::mem::take(&mut self.phase) {
            Phase::Loading { held, .. } | Phase::Ready { held, .. } => Phase::Ending(held),
            other => other,
        };
        News::Lost { reason, unborn: self.unborn() }
    }

    /// Closes their connections, which ends those of them that have been forked meanwhile.
    fn unborn(&mut self) -> Vec<(u32, Worker)> {
        std::mem::take(&mut self.births).into_values().map(|birth| (birth.index, birth.worker)).collect()
    }

    fn held(&self) -> Option<&Held> {
        match &self.phase {
            Phase::Absent | Phase::Ordered { .. } => None,
            Phase::Loading { held, .. } | Phase::Ready { held, .. } | Phase::Ending(held) => Some(held),
        }
    }
}

impl Held {
    fn start(mut worker: Worker, epoll: &OwnedFd, conditions: &Conditions<'_>) -> io::Result<Self> {
        let (socket, theirs) = request::connection()?;
        epoll::add(epoll, &socket, epoll::EventData::new_u64(TEMPLATE), epoll::EventFlags::IN)?;
        worker.environment.push((CONNECTION.into(), theirs.as_raw_fd().to_string().into()));
        let conditions = Conditions { cgroup: None, keeps: Some(theirs.as_fd()), ..*conditions };
        let spawned =
            spawn::spawn(&worker, &conditions).map_err(|failure| io::Error::from_raw_os_error(failure.errno))?;
        worker.environment.pop();
        Ok(Self { worker, spawned, socket })
    }

    fn end(&self, status: WaitStatus) -> String {
        let failure = self.spawned.failure.as_ref().and_then(|pipe| spawn::read_failure(pipe.as_fd()));
        match (failure, status.terminating_signal()) {
            (Some(failure), _) => {
                let error = io::Error::from_raw_os_error(failure.errno);
                format!("the template cannot be started as {}: {error}", self.worker.program.display())
            }
            (None, Some(signal)) => format!("the template was killed by signal {signal}"),
            (None, None) => format!("the template ended with exit code {}", status.exit_status().unwrap_or(-1)),
        }
    }
}
