//! Which ranks make no progress: what was seen of them goes in with its time, a verdict comes out.
//!
//! A rank that gives signs of life is judged by these and nothing else, and alone. Of the others there is only their output, which
//! may rest at one rank while another works: they are judged together. HANG-1: a rank is never called silent for longer than it was
//! looked at. Time in which nobody looked (the launcher was suspended, the machine frozen) does not count.

use std::time::{Duration, Instant, SystemTime};

use crate::plan::HangLimits;

/// `zenith.heartbeat()` leaves no more signs than one in this time (`_EVERY_S` in python/zenith/_heartbeat.py).
const BEATS_EVERY: Duration = Duration::from_millis(10);
const LOOKS_EVERY: [Duration; 2] = [Duration::from_millis(20), Duration::from_secs(1)];
const LATE: Duration = Duration::from_millis(100);

/// Between two looks for something that takes so long.
pub(super) fn looks_every(limit: Duration) -> Duration {
    let [least, most] = LOOKS_EVERY;
    (limit / 10).clamp(least, most)
}

/// Adds up the time in which somebody looked.
#[derive(Debug)]
pub(super) struct Watched {
    every: Duration,
    last: Option<Instant>,
    time: Duration,
}

impl Watched {
    pub(super) fn new(every: Duration) -> Self {
        Self { every, last: None, time: Duration::ZERO }
    }

    /// The time watched so far.
    pub(super) fn at(&mut self, now: Instant) -> Duration {
        let since = self.last.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        self.last = Some(now);
        self.time += since.min(2 * self.every + LATE);
        self.time
    }
}

/// A sign of life; another one differs.
pub(super) type Beat = (SystemTime, u64);

/// What is seen of a rank.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sight {
    pub(super) is_running: bool,
    /// If it has given any.
    pub(super) beat: Option<Beat>,
    /// Bytes of its output, if it goes to files.
    pub(super) output: Option<u64>,
}

/// What is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Of ranks that have given some.
    Heartbeat,
    /// Of no rank.
    Progress,
    /// Of no rank since the start.
    FirstProgress,
}

/// Who hangs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hang {
    pub(super) kind: Kind,
    /// Places of ranks, the one that was silent first first.
    pub(super) ranks: Vec<usize>,
    pub(super) silence: Duration,
}

#[derive(Debug)]
pub(super) struct HangWatch {
    limits: HangLimits,
    watched: Watched,
    ranks: Vec<Rank>,
    /// All ranks have started.
    start: Option<Duration>,
    /// The last progress of any rank.
    progress: Option<Duration>,
    /// Of the last rank that ended: from then on the others have their time.
    end: Duration,
}

#[derive(Debug, Clone, Copy, Default)]
struct Rank {
    sight: Sight,
    beat: Option<Duration>,
    progress: Option<Duration>,
}

impl HangWatch {
    pub(super) fn new(limits: HangLimits, ranks: usize) -> Self {
        Self {
            limits,
            watched: Watched::new(Self::looks_every(limits)),
            ranks: vec![Rank::default(); ranks],
            start: None,
            progress: None,
            end: Duration::ZERO,
        }
    }

    pub(super) fn looks_every(limits: HangLimits) -> Duration {
        looks_every(limits.first.map_or(limits.silence, |first| first.min(limits.silence)))
    }

    /// One sight for each rank, in their order; and whether all of them have started, of which some may have ended.
    pub(super) fn look(&mut self, sights: &[Sight], all_started: bool, now: Instant) -> Option<Hang> {
        let now = self.watched.at(now);
        for (rank, sight) in self.ranks.iter_mut().zip(sights) {
            if rank.sight.is_running && !sight.is_running {
                self.end = now;
            }
            if rank.see(*sight, now) {
                self.progress = Some(now);
            }
        }
        if all_started {
            self.start.get_or_insert(now);
        }
        self.start.and_then(|start| self.all(start, now)).or_else(|| self.single(now))
    }

    /// How long each rank that runs has been silent.
    pub(super) fn silences(&self) -> impl Iterator<Item = (usize, Duration)> {
        let start = self.start.unwrap_or(self.watched.time);
        let running = self.ranks.iter().enumerate().filter(|(_, rank)| rank.sight.is_running);
        running.map(move |(at, rank)| (at, self.watched.time.saturating_sub(rank.last(start))))
    }

    /// Everybody who still runs is silent.
    fn all(&self, start: Duration, now: Duration) -> Option<Hang> {
        let running = || self.ranks.iter().enumerate().filter(|(_, rank)| rank.sight.is_running);
        let is_seen = running().any(|(_, rank)| rank.beat.is_some() || rank.sight.output.is_some());
        let (kind, since, limit) = match self.progress {
            // Without files and heartbeats silence says nothing.
            Some(_) if !is_seen => return None,
            Some(progress) => (Kind::Progress, progress.max(self.end), self.limits.silence + BEATS_EVERY),
            None => (Kind::FirstProgress, start, self.limits.first?),
        };
        let silence = now.saturating_sub(since);
        if silence < limit {
            return None;
        }
        let mut ranks: Vec<(Duration, usize)> = running().map(|(at, rank)| (rank.last(start), at)).collect();
        ranks.sort_unstable();
        let ranks: Vec<usize> = ranks.into_iter().map(|(_, at)| at).collect();
        (!ranks.is_empty()).then_some(Hang { kind, ranks, silence })
    }

    /// Somebody whose heart has beaten.
    fn single(&self, now: Duration) -> Option<Hang> {
        let limit = self.limits.silence + BEATS_EVERY;
        let since = |rank: &Rank| rank.beat.filter(|beat| rank.sight.is_running && now.saturating_sub(*beat) >= limit);
        let silent = self.ranks.iter().enumerate().filter_map(|(at, rank)| Some((since(rank)?, at)));
        let mut silent: Vec<(Duration, usize)> = silent.collect();
        silent.sort_unstable();
        let silence = now.saturating_sub(silent.first()?.0);
        Some(Hang { kind: Kind::Heartbeat, ranks: silent.into_iter().map(|(_, at)| at).collect(), silence })
    }
}

impl Rank {
    /// Whether it has made progress.
    fn see(&mut self, sight: Sight, now: Duration) -> bool {
        let before = std::mem::replace(&mut self.sight, sight);
        let beats = sight.beat.is_some() && sight.beat != before.beat;
        // The files are empty at first.
        let writes = sight.output.unwrap_or(0) != before.output.unwrap_or(0);
        if beats {
            self.beat = Some(now);
        }
        let progresses = beats || writes && self.beat.is_none();
        if progresses {
            self.progress = Some(now);
        }
        progresses
    }

    fn last(&self, start: Duration) -> Duration {
        self.progress.unwrap_or(start)
    }
}

#[cfg(test)]
#[path = "hang_tests.rs"]
mod tests;
