//! What can be seen of a run from outside while it goes on: its events in a file, its numbers and its health over HTTP.
//!
//! Whatever happens goes through `Observer::note` once; `event` says what there is to tell, `file` writes it, `metrics` counts it,
//! `server` hands the counts out (`http` is its language). None of them can hold up the launcher: lines that a disk does not
//! take are dropped and counted, and clients have a thread of their own.

mod event;
mod file;
mod http;
mod metrics;
mod server;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::gang::Notice;
use crate::plan::Settings;
use crate::run::described;
use crate::signals;
use crate::worker::{Exit, Status};

pub(crate) use event::Event;
use event::Line;
use file::EventsFile;
use metrics::Metrics;

/// A rank that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Running {
    pub(crate) local_rank: u32,
    pub(crate) rank: u32,
    pub(crate) pid: i32,
}

/// Hears everything that happens to a run. Its copies are one.
#[derive(Debug, Clone)]
pub(crate) struct Observer(Arc<Mutex<Seen>>);

#[derive(Debug)]
struct Seen {
    run_id: String,
    node: String,
    /// Attempts before this one.
    attempt: u32,
    is_stopping: bool,
    /// By local rank.
    running: BTreeMap<u32, Running>,
    /// How many ranks of the attempt have started.
    started: usize,
    metrics: Metrics,
    events: Option<EventsFile>,
}

impl Observer {
    /// Opens the file and the port that `settings` ask for; the port that was taken comes back.
    pub(crate) fn start(settings: &Settings) -> io::Result<(Self, Option<u16>)> {
        let asked = &settings.observing;
        let seen = Seen {
            run_id: settings.run_id.clone(),
            node: crate::report::host_name(),
            attempt: 0,
            is_stopping: false,
            running: BTreeMap::new(),
            started: 0,
            metrics: Metrics::new(&settings.run_id, settings.ranks),
            events: asked.events_file.as_deref().map(EventsFile::open).transpose()?,
        };
        let observer = Self(Arc::new(Mutex::new(seen)));
        let port = asked.metrics_port.map(|port| server::start(port, observer.clone())).transpose()?;
        Ok((observer, port))
    }

    pub(crate) fn note(&self, event: &Event) {
        self.seen().note(event);
    }

    /// From here on events are those of this attempt.
    pub(crate) fn begin_attempt(&self, attempt: u32) {
        let mut seen = self.seen();
        (seen.attempt, seen.is_stopping, seen.started) = (attempt, false, 0);
        seen.running.clear();
    }

    pub(crate) fn hear(&self, notice: &Notice) {
        let mut seen = self.seen();
        match notice {
            Notice::Started { local_rank, rank, pid } => {
                let (local_rank, rank, pid) = (*local_rank, *rank, *pid);
                seen.started += 1;
                seen.running.insert(local_rank, Running { local_rank, rank, pid });
                seen.note(&Event::RankStarted { rank, local_rank, pid });
            }
            Notice::Ended(exit) => {
                seen.running.remove(&exit.local_rank);
                seen.note(&ended(exit));
                if !seen.is_stopping && !exit.status.is_success() {
                    let what = format!("rank {} failed ({})", exit.rank, described(exit.status));
                    seen.note(&Event::FailureSeen { what });
                }
            }
            Notice::Stopping { signal } => {
                seen.is_stopping = true;
                let signal = signals::name(*signal).map_or_else(|| signal.to_string(), Into::into);
                seen.note(&Event::StopSent { signal });
            }
            Notice::Killing => {
                seen.is_stopping = true;
                seen.note(&Event::KillSent {});
            }
            Notice::Outlived { count, .. } => seen.note(&Event::Outlived { processes: *count }),
            Notice::Removed(removed) => {
                let (files, segments, bytes) = (removed.files, removed.segments, removed.bytes);
                seen.note(&Event::Removed { files, segments, bytes });
            }
            Notice::Warm { pid } => seen.note(&Event::Warm { pid: *pid }),
            Notice::Cold { reason } => seen.note(&Event::Cold { reason: reason.clone() }),
        }
    }

    /// The ranks of the present attempt that have started and not ended.
    pub(crate) fn running(&self) -> Vec<Running> {
        self.seen().running.values().copied().collect()
    }

    /// Whether the ranks of the present attempt have been asked to end.
    pub(crate) fn is_stopping(&self) -> bool {
        self.seen().is_stopping
    }

    /// How many ranks of the present attempt have started.
    pub(crate) fn started(&self) -> usize {
        self.seen().started
    }

    /// How long each rank has been without progress.
    pub(crate) fn silences(&self, silences: Vec<(u32, Duration)>) {
        self.seen().metrics.silences(silences);
    }

    pub(crate) fn lines_lost(&self, lines: u64) {
        self.seen().metrics.lines_lost(lines);
    }

    /// Waits a moment for the file; says what could not be written.
    pub(crate) fn finish(&self) -> Option<String> {
        let events = self.seen().events.take();
        events.and_then(EventsFile::finish)
    }

    /// For `/metrics`.
    fn exposition(&self) -> String {
        let seen = self.seen();
        let events_lost = seen.events.as_ref().map_or(0, EventsFile::lost);
        seen.metrics.exposition(seen.running.len(), events_lost, Instant::now())
    }

    /// For `/healthz`: whether all is well, and what there is to say.
    fn health(&self) -> (bool, String) {
        let seen = self.seen();
        seen.metrics.health(seen.attempt, seen.running.len())
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn note(&mut self, event: &Event) {
        self.metrics.note(event, Instant::now());
        if let Some(events) = &mut self.events {
            let line = Line::now(&self.run_id, &self.node, self.attempt, event);
            events.push(line.to_bytes());
        }
    }
}

fn ended(exit: &Exit) -> Event {
    let (exit_code, signal) = match exit.status {
        Status::Code(code) => (Some(code), None),
        Status::Signal(signal) => (None, Some(signals::name(signal).map_or_else(|| signal.to_string(), Into::into))),
    };
    Event::RankEnded { rank: exit.rank, local_rank: exit.local_rank, pid: exit.pid, exit_code, signal }
}
