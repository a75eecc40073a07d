//! Which request gets which batch, and when: decisions without threads, clock and memory; time is passed in.
//!
//! A device program asks for batch *k* of the epoch for one shard. FEED-1: what it gets depends on (k, shard) alone, whoever asks
//! first. FEED-2: within a run of a program no device gets batch *k* before every device has asked for it: programs
//! go on to collectives, where a device that fails alone leaves the others waiting until the process is aborted. FEED-3: once a run
//! has failed for one device it fails for all, and another run begins afresh.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use zenith_data::{Error, ErrorKind};

/// Batches that are made ready before anybody asks.
const AHEAD: u64 = 2;
/// Runs that are remembered. A device works on its runs one after the other, so few are under way at a time.
const RUNS: usize = 16;

/// Who wants which batch.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    /// The execution of a program, the same number on all its devices.
    pub run: i64,
    /// Number of the batch since the feed's position.
    pub batch: u64,
    /// Whose rows.
    pub shard: usize,
    /// Which device asks. Several may want the same shard, and a device may ask for a batch again.
    pub device: i32,
}

/// What becomes of a request.
#[derive(Debug)]
pub(super) enum Verdict<B, R> {
    /// The rows of this shard; no batch: past the end.
    Serve {
        to: R,
        ask: Ask,
        batch: Option<Arc<B>>,
    },
    Fail {
        to: R,
        error: Error,
    },
}

#[derive(Debug)]
pub(super) struct Rounds<B, R> {
    shards: usize,
    /// Devices of a program.
    devices: usize,
    window: u64,
    /// Batches `first`, `first + 1`, ...
    held: VecDeque<Arc<B>>,
    first: u64,
    /// What comes after the last of `held`, once it is known.
    end: Option<End>,
    /// Number of the batch after the newest that was given.
    given_to: u64,
    rounds: Vec<Round<R>>,
    runs: VecDeque<Run>,
}

#[derive(Debug)]
enum End {
    Epoch,
    Failed(Error),
}

/// The devices of a run that wait for the same batch.
#[derive(Debug)]
struct Round<R> {
    run: i64,
    batch: u64,
    since: Duration,
    asks: Vec<(Ask, R)>,
}

#[derive(Debug)]
struct Run {
    id: i64,
    /// Interrupts of the process when it began.
    interrupts: u64,
    error: Option<Error>,
}

impl<B, R> Rounds<B, R> {
    pub(super) fn new(shards: usize, devices: usize, window: u64) -> Self {
        let (held, rounds, runs) = (VecDeque::new(), Vec::new(), VecDeque::new());
        Self { shards, devices, window, held, first: 0, end: None, given_to: 0, rounds, runs }
    }

    /// Takes a request. One that cannot be served yet waits.
    pub(super) fn ask(&mut self, ask: Ask, to: R, now: Duration, interrupts: u64) -> Vec<Verdict<B, R>> {
        let mut verdicts = Vec::new();
        let run = self.run(ask.run, interrupts);
        if run.error.is_none() && interrupts > run.interrupts {
            verdicts = self.fail(ask.run, &interrupted());
        }
        if let Some(error) = self.run(ask.run, interrupts).error.clone() {
            verdicts.push(Verdict::Fail { to, error });
            return verdicts;
        }
        let refusal = self.refusal(ask);
        let known = self.rounds.iter_mut().find(|round| (round.run, round.batch) == (ask.run, ask.batch));
        match known {
            Some(round) => round.asks.push((ask, to)),
            None => {
                let asks = vec![(ask, to)];
                self.rounds.push(Round { run: ask.run, batch: ask.batch, since: now, asks });
            }
        }
        match refusal {
            Some(error) => self.fail(ask.run, &error),
            None => self.settle(),
        }
    }

    /// The run with this number; a new one begins here.
    fn run(&mut self, id: i64, interrupts: u64) -> &mut Run {
        let place = self.runs.iter().position(|run| run.id == id).unwrap_or_else(|| {
            if self.runs.len() == RUNS {
                self.runs.pop_front();
            }
            self.runs.push_back(Run { id, interrupts, error: None });
            self.runs.len() - 1
        });
        &mut self.runs[place]
    }

    fn refusal(&self, ask: Ask) -> Option<Error> {
        let (batch, window) = (ask.batch, self.window);
        if ask.shard >= self.shards {
            let message = format!("shard {} was asked for, but the feed has {}", ask.shard, self.shards);
            return Some(Error::invalid(message));
        }
        let is_past_the_end = matches!(self.end, Some(End::Epoch)) && batch >= self.next();
        let to = self.given_to;
        if batch < self.first {
            let first = self.first;
            return Some(Error::invalid(format!(
                "batch {batch} is out of the window: the newest batch that was given is {}, and the last {window} are held, from \
                 {first} on. Go on from the token of the last batch, begin again with set_epoch() or load_state_dict(), or raise \
                 window=",
                to.saturating_sub(1)
            )));
        }
        if batch >= to.saturating_add(window) && !is_past_the_end {
            return Some(Error::invalid(format!(
                "batch {batch} is out of the window: the next batch is {to}, and {window} can be asked for from there on. Go on \
                 from the token of the last batch, begin elsewhere with load_state_dict(state_dict(token)), or raise window="
            )));
        }
        None
    }

    /// Number of the batch after the last of `held`.
    fn next(&self) -> u64 {
        self.first + self.held.len() as u64
    }

    /// Whether another batch should be made ready.
    pub(super) fn wants(&self) -> bool {
        let asked = self.rounds.iter().map(|round| round.batch.saturating_add(1)).max().unwrap_or(0);
        self.end.is_none() && self.next() < asked.max(self.given_to.saturating_add(AHEAD))
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.rounds.is_empty()
    }

    /// The next batch of the epoch is ready.
    pub(super) fn deliver(&mut self, batch: B) {
        self.held.push_back(Arc::new(batch));
    }

    /// There are no more, or none that can be read.
    pub(super) fn finish(&mut self, outcome: Result<(), Error>) {
        self.end = Some(match outcome {
            Ok(()) => End::Epoch,
            Err(error) => End::Failed(error),
        });
    }

    /// Serves the rounds that are complete.
    pub(super) fn settle(&mut self) -> Vec<Verdict<B, R>> {
        let mut verdicts = Vec::new();
        let mut at = 0;
        while at < self.rounds.len() {
            let round = &self.rounds[at];
            let (run, batch) = (round.run, round.batch);
            let is_past = batch >= self.next();
            let failure = match &self.end {
                Some(End::Failed(error)) if is_past => Some(error.clone()),
                _ if batch < self.first => Some(Error::invalid(format!(
                    "batch {batch} left the window while shards of it were still missing: another run has gone ahead"
                ))),
                _ => None,
            };
            if let Some(error) = failure {
                verdicts.extend(self.fail(run, &error));
                // The run's rounds are gone, whichever they were.
                at = 0;
                continue;
            }
            let is_ready = !is_past || self.end.is_some();
            if !is_ready || !self.is_whole(round) {
                at += 1;
                continue;
            }
            let round = self.rounds.swap_remove(at);
            self.give(round, &mut verdicts);
        }
        verdicts
    }

    /// Whether all devices have asked.
    fn is_whole(&self, round: &Round<R>) -> bool {
        self.devices == 1 || distinct(round) >= self.devices
    }

    fn give(&mut self, round: Round<R>, verdicts: &mut Vec<Verdict<B, R>>) {
        let at = usize::try_from(round.batch - self.first).unwrap_or(usize::MAX);
        let batch = self.held.get(at).cloned();
        if batch.is_some() {
            self.given_to = self.given_to.max(round.batch + 1);
        }
        for (ask, to) in round.asks {
            verdicts.push(Verdict::Serve { to, ask, batch: batch.clone() });
        }
        while self.first + self.window < self.given_to && self.held.pop_front().is_some() {
            self.first += 1;
        }
    }

    /// Fails the runs that were interrupted, and those that wait for longer than `stall`.
    pub(super) fn watch(&mut self, now: Duration, interrupts: u64, stall: Duration) -> Vec<Verdict<B, R>> {
        let mut verdicts = Vec::new();
        while let Some((run, error)) = self.rounds.iter().find_map(|round| {
            let began = self.runs.iter().find(|run| run.id == round.run).map_or(0, |run| run.interrupts);
            if interrupts > began {
                return Some((round.run, interrupted()));
            }
            (now.saturating_sub(round.since) >= stall).then(|| (round.run, self.late(round, stall)))
        }) {
            verdicts.extend(self.fail(run, &error));
        }
        verdicts
    }

    fn late(&self, round: &Round<R>, stall: Duration) -> Error {
        let (batch, seconds) = (round.batch, stall.as_secs_f32());
        let message = if batch >= self.next() {
            format!(
                "batch {batch} was not ready after {seconds} s: the engine still reads or decodes. Raise stall_timeout= if that is \
                 to be expected (and xla_cpu_collective_call_terminate_timeout_seconds with it), or bound reads with \
                 read_timeout_ms=, which names them"
            )
        } else {
            let mut devices: Vec<i32> = round.asks.iter().map(|(ask, _)| ask.device).collect();
            devices.sort_unstable();
            devices.dedup();
            format!(
                "{} of {} devices did not ask for batch {batch} within {seconds} s of the first (devices {devices:?} did): a device \
                 is stuck, or the program calls next_batch on some devices only",
                self.devices - devices.len(),
                self.devices
            )
        };
        Error::new(ErrorKind::TimedOut, message)
    }

    /// Fails all requests of a run, those that are still to come too.
    fn fail(&mut self, run: i64, error: &Error) -> Vec<Verdict<B, R>> {
        self.run(run, 0).error = Some(error.clone());
        let mut verdicts = Vec::new();
        for round in self.rounds.extract_if(.., |round| round.run == run) {
            verdicts.extend(round.asks.into_iter().map(|(_, to)| Verdict::Fail { to, error: error.clone() }));
        }
        verdicts
    }

    /// Fails what waits, and begins again with no batches.
    pub(super) fn restart(&mut self, error: &Error) -> Vec<Verdict<B, R>> {
        let mut verdicts = Vec::new();
        while let Some(round) = self.rounds.first() {
            verdicts.extend(self.fail(round.run, error));
        }
        let runs = std::mem::take(&mut self.runs);
        *self = Self { runs, ..Self::new(self.shards, self.devices, self.window) };
        verdicts
    }
}

fn distinct<R>(round: &Round<R>) -> usize {
    let devices = round.asks.iter().enumerate();
    devices.filter(|(at, (ask, _))| round.asks[..*at].iter().all(|(other, _)| other.device != ask.device)).count()
}

fn interrupted() -> Error {
    Error::new(ErrorKind::Interrupted, "interrupted by Ctrl-C (SIGINT)")
}

#[cfg(test)]
#[path = "rounds_tests.rs"]
mod tests;
