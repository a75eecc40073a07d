//! Looks after the ranks of an attempt: whether they make progress (`--hang-timeout`), whether one is stuck in the kernel (TW-5).
//!
//! `hang` and `uninterruptible` decide, without a clock; `look` reads files and /proc for them; `stacks` saves where ranks stand.
//! A thread of its own does all of this, because a file system that does not answer would hold up whoever asks it; the launcher
//! hears by a bell (`Attended`), and then does what it does after a failure.

mod hang;
mod look;
mod stacks;
mod uninterruptible;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use crate::gang::Summons;
use crate::observe::{Event, Observer, Running};
use crate::plan::{Attempt, Settings};
use crate::worker::Worker;

use hang::{Hang, HangWatch, Kind, Sight};
use look::Traces;
use stacks::Subject;
use uninterruptible::SleepWatch;

/// How long the end of an attempt waits for a thread that a file system may hold.
const PATIENCE: Duration = Duration::from_secs(1);

/// Ranks that are taken for failed though they run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GivenUp {
    /// The likeliest cause.
    pub(crate) first: Running,
    /// Whether they may be started anew; not on a machine that does not let go of them.
    pub(crate) may_restart: bool,
    /// A sentence without its full stop.
    pub(crate) what: String,
    pub(crate) at: SystemTime,
}

/// The thread that looks.
#[derive(Debug)]
pub(crate) struct Watch {
    shared: Arc<Shared>,
    /// Ends when the thread does.
    done: Receiver<()>,
}

#[derive(Debug)]
struct Shared {
    /// Can be read when there is a verdict.
    bell: OwnedFd,
    finish: OwnedFd,
    verdict: OnceLock<GivenUp>,
}

impl Watch {
    /// `None` if nothing is to be looked for.
    pub(crate) fn start(
        settings: &Settings,
        attempt: &Attempt,
        workers: &[Worker],
        observer: &Observer,
    ) -> io::Result<Option<Self>> {
        let (hang, uninterruptible) = (settings.observing.hang, settings.observing.uninterruptible);
        if hang.is_none() && uninterruptible.is_none() {
            return Ok(None);
        }
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let shared = Shared { bell: eventfd(0, flags)?, finish: eventfd(0, flags)?, verdict: OnceLock::new() };
        let shared = Arc::new(shared);
        let folder = attempt.folder.as_deref();
        let traces = |worker: &Worker| Traces::of(worker, settings.heartbeat_file(folder, worker.local_rank));
        let every = hang.map(HangWatch::looks_every).into_iter().chain(uninterruptible.map(hang::looks_every)).min();
        let interpreter = settings.interpreter.as_ref().map(|interpreter| interpreter.program.as_os_str());
        let looker = Looker {
            shared: Arc::clone(&shared),
            observer: observer.clone(),
            every: every.unwrap_or_default(),
            traces: workers.iter().map(traces).collect(),
            hang: hang.map(|limits| HangWatch::new(limits, workers.len())),
            sleep: uninterruptible.map(|limit| SleepWatch::new(limit, workers.len())),
            folder: attempt.folder.clone(),
            py_spy: stacks::py_spy(interpreter, settings.environment.get("PATH")),
        };
        let (tell, done) = sync_channel(1);
        thread::Builder::new().name("zenith-watch".into()).spawn(move || {
            looker.run();
            drop(tell);
        })?;
        Ok(Some(Self { shared, done }))
    }

    /// To be called when no rank runs any more.
    pub(crate) fn finish(self) -> Option<GivenUp> {
        let _ = rustix::io::write(&self.shared.finish, &1u64.to_ne_bytes());
        // It sends nothing; its end is what is waited for.
        let _ = self.done.recv_timeout(PATIENCE);
        self.shared.verdict.get().cloned()
    }
}

struct Looker {
    shared: Arc<Shared>,
    observer: Observer,
    every: Duration,
    /// Of each rank, in their order.
    traces: Vec<Traces>,
    hang: Option<HangWatch>,
    sleep: Option<SleepWatch>,
    /// The attempt's.
    folder: Option<PathBuf>,
    py_spy: Option<PathBuf>,
}

impl Looker {
    fn run(mut self) {
        loop {
            if let Some((stuck, what, may_restart)) = self.look() {
                return self.give_up(&stuck, what, may_restart);
            }
            let mut finish = [PollFd::new(&self.shared.finish, PollFlags::IN)];
            let every = Timespec::try_from(self.every).ok();
            if poll(&mut finish, every.as_ref()).is_ok_and(|ready| ready > 0) {
                return;
            }
        }
    }

    /// Who hangs, what is to be said of it, and whether a restart may help.
    fn look(&mut self) -> Option<(Vec<Running>, String, bool)> {
        let running: BTreeMap<u32, Running> =
            self.observer.running().into_iter().map(|running| (running.local_rank, running)).collect();
        let at = |place: &usize| self.traces.get(*place).and_then(|traces| running.get(&traces.local_rank)).copied();
        let process = |traces: &Traces| running.get(&traces.local_rank);
        if let Some(watch) = &mut self.sleep {
            let sleeps: Vec<_> = self.traces.iter().map(|traces| look::sleep(process(traces)?.pid)).collect();
            if let Some((places, time)) = watch.look(&sleeps, Instant::now()) {
                let stuck: Vec<Running> = places.iter().filter_map(at).collect();
                let what = format!(
                    "{} in an uninterruptible state (D) for {} s: a device or file system does not answer",
                    named(&stuck),
                    time.as_secs_f64().round()
                );
                return Some((stuck, what, false));
            }
        }
        let watch = self.hang.as_mut()?;
        let sight = |traces: &Traces| Sight {
            is_running: process(traces).is_some(),
            beat: traces.beat(),
            output: traces.output(),
        };
        let sights: Vec<Sight> = self.traces.iter().map(sight).collect();
        let hang = watch.look(&sights, self.observer.started() >= self.traces.len(), Instant::now());
        let rank = |place: usize| self.traces.get(place).map(|traces| traces.rank);
        let silences = watch.silences().filter_map(|(place, silence)| Some((rank(place)?, silence)));
        self.observer.silences(silences.collect());
        let hang = hang?;
        let hung: Vec<Running> = hang.ranks.iter().filter_map(at).collect();
        let what = told(&hang, &named(&hung));
        Some((hung, what, true))
    }

    fn give_up(&self, stuck: &[Running], what: String, may_restart: bool) {
        // They have ended between the two looks.
        let Some(&first) = stuck.first() else { return };
        let at = SystemTime::now();
        let saved = self.save_stacks(&what);
        let stacks = saved.iter().map(|path| path.to_string_lossy().into_owned()).collect();
        let ranks = stuck.iter().map(|running| running.rank).collect();
        let event = if may_restart {
            Event::Hang { ranks, what: what.clone(), stacks }
        } else {
            Event::Uninterruptible { ranks, what: what.clone(), stacks }
        };
        self.observer.note(&event);
        let place = match (&self.folder, saved.is_empty()) {
            (Some(folder), false) => {
                format!("; the stacks of all ranks are in {}/<local rank>/{STACKS}", folder.display())
            }
            _ => String::new(),
        };
        crate::console::tell(format!("zenith-run: {what}{place}\n").as_bytes());
        let _ = self.shared.verdict.set(GivenUp { first, may_restart, what, at });
        let _ = rustix::io::write(&self.shared.bell, &1u64.to_ne_bytes());
    }

    fn save_stacks(&self, why: &str) -> Vec<PathBuf> {
        let Some(folder) = &self.folder else { return Vec::new() };
        let subject = |running: Running| {
            let traces = self.traces.iter().find(|traces| traces.local_rank == running.local_rank);
            Subject {
                running,
                heartbeat: traces.and_then(|traces| traces.heartbeat.clone()),
                file: folder.join(running.local_rank.to_string()).join(STACKS),
            }
        };
        let subjects: Vec<Subject> = self.observer.running().into_iter().map(subject).collect();
        stacks::save(&subjects, why, self.py_spy.as_deref(), self.shared.finish.as_fd())
    }
}

const STACKS: &str = "stacks.txt";
/// More than these are not named.
const NAMED_MAX: usize = 8;

/// `rank 3 has been`, `ranks 1, 2 have been`.
fn named(ranks: &[Running]) -> String {
    let names: Vec<String> = ranks.iter().take(NAMED_MAX).map(|running| running.rank.to_string()).collect();
    let more = if ranks.len() > NAMED_MAX { ", .." } else { "" };
    match &names[..] {
        [only] => format!("rank {only} has been"),
        _ => format!("ranks {}{more} have been", names.join(", ")),
    }
}

fn told(hang: &Hang, who: &str) -> String {
    let seconds = (hang.silence.as_secs_f64() * 10.0).round() / 10.0;
    match hang.kind {
        Kind::Heartbeat => format!("hang: {who} without a heartbeat for {seconds} s"),
        Kind::Progress => format!("hang: {who} without progress for {seconds} s"),
        Kind::FirstProgress => format!("hang: {who} without any progress for {seconds} s since the start"),
    }
}

/// A watch beside what else may end a gang.
pub(crate) struct Attended<'a, 'b> {
    watch: &'a Watch,
    others: Option<&'b mut (dyn Summons + 'b)>,
    /// Can be read when one of both can.
    either: OwnedFd,
}

impl<'a, 'b> Attended<'a, 'b> {
    pub(crate) fn new(watch: &'a Watch, others: Option<&'b mut (dyn Summons + 'b)>) -> io::Result<Self> {
        let either = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&either, &watch.shared.bell, EventData::new_u64(0), EventFlags::IN)?;
        if let Some(others) = &others {
            epoll::add(&either, others.descriptor(), EventData::new_u64(1), EventFlags::IN)?;
        }
        Ok(Self { watch, others, either })
    }
}

impl Summons for Attended<'_, '_> {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.either.as_fd()
    }

    fn is_stop(&mut self) -> bool {
        self.others.as_deref_mut().is_some_and(|others| others.is_stop())
    }

    fn gives_up(&mut self) -> bool {
        rustix::io::read(&self.watch.shared.bell, &mut [0; 8]).is_ok()
    }

    fn suspending(&mut self) {
        if let Some(others) = self.others.as_deref_mut() {
            others.suspending();
        }
    }
}
