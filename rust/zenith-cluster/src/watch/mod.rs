//! Looks after the ranks of an attempt: whether they make progress (`--hang-timeout`), whether one is stuck in the kernel (TW-5).
//!
//! `hang` and `uninterruptible` decide, without a clock; `look` reads files and /proc for them; `stacks` saves where ranks stand, with
//! the help of `py_spy`.
//! Threads of their own do all of this, because a file system that does not answer would hold up whoever asks it; the launcher
//! hears by a bell (`Attended`), and then does what it does after a failure.

mod hang;
mod look;
mod py_spy;
mod stacks;
mod uninterruptible;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
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

/// How long the end of an attempt waits for threads that a file system may hold.
const PATIENCE: Duration = Duration::from_secs(1);
/// More than `stacks` takes where everything answers or is given up.
const SAVE_PATIENCE: Duration = Duration::from_secs(30);

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

/// The threads that look.
#[derive(Debug)]
pub(crate) struct Watch {
    shared: Arc<Shared>,
    /// Ends when they do.
    done: Receiver<()>,
}

#[derive(Debug)]
struct Shared {
    /// Can be read when there is a verdict.
    bell: OwnedFd,
    finish: OwnedFd,
    /// One of the threads has a verdict.
    is_taken: AtomicBool,
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
        let shared = Arc::new(Shared {
            bell: eventfd(0, flags)?,
            finish: eventfd(0, flags)?,
            is_taken: AtomicBool::new(false),
            verdict: OnceLock::new(),
        });
        let folder = attempt.folder.as_deref();
        let traces = |worker: &Worker| Traces::of(worker, settings.heartbeat_file(folder, worker.local_rank));
        let interpreter = settings.interpreter.as_ref().map(|interpreter| interpreter.program.as_os_str());
        let post = Post {
            shared: Arc::clone(&shared),
            observer: observer.clone(),
            traces: workers.iter().map(traces).collect(),
            folder: attempt.folder.clone(),
            py_spy: py_spy::find(interpreter, settings.environment.get("PATH")),
        };
        let ranks = workers.len();
        let hang =
            hang.map(|limits| (HangWatch::looks_every(limits), Eye::Progress(Box::new(HangWatch::new(limits, ranks)))));
        let sleep = uninterruptible.map(|limit| (hang::looks_every(limit), Eye::Sleep(SleepWatch::new(limit, ranks))));
        let (tell, done) = sync_channel(1);
        // A thread each: /proc answers where the file system of the logs does not.
        for (every, eye) in hang.into_iter().chain(sleep) {
            let (post, tell) = (post.clone(), tell.clone());
            thread::Builder::new().name("zenith-watch".into()).spawn(move || {
                post.stand(eye, every);
                drop(tell);
            })?;
        }
        Ok(Some(Self { shared, done }))
    }

    /// To be called when no rank runs any more.
    pub(crate) fn finish(self) -> Option<GivenUp> {
        let _ = rustix::io::write(&self.shared.finish, &1u64.to_ne_bytes());
        // They send nothing; their end is what is waited for.
        let _ = self.done.recv_timeout(PATIENCE);
        self.shared.verdict.get().cloned()
    }
}

/// What a thread looks for.
enum Eye {
    Progress(Box<HangWatch>),
    Sleep(SleepWatch),
}

/// Who hangs, what is to be said of it, and whether a restart may help.
type Verdict = (Vec<Running>, String, bool);

/// From where the threads look.
#[derive(Clone)]
struct Post {
    shared: Arc<Shared>,
    observer: Observer,
    /// Of each rank, in their order.
    traces: Vec<Traces>,
    /// The attempt's.
    folder: Option<PathBuf>,
    py_spy: Option<PathBuf>,
}

impl Post {
    fn stand(self, mut eye: Eye, every: Duration) {
        while !self.is_over(every) {
            let verdict = match &mut eye {
                Eye::Progress(watch) => self.look_for_progress(watch),
                Eye::Sleep(watch) => self.look_for_sleep(watch),
            };
            if let Some((stuck, what, may_restart)) = verdict {
                return self.give_up(&stuck, what, may_restart);
            }
        }
    }

    /// Waits, and says whether there is nobody to look after any more: ranks that are being stopped may be silent.
    fn is_over(&self, time: Duration) -> bool {
        let mut finish = [PollFd::new(&self.shared.finish, PollFlags::IN)];
        let time = Timespec::try_from(time).ok();
        poll(&mut finish, time.as_ref()).is_ok_and(|ready| ready > 0) || self.observer.is_stopping()
    }

    fn running(&self) -> BTreeMap<u32, Running> {
        self.observer.running().into_iter().map(|running| (running.local_rank, running)).collect()
    }

    fn at(&self, places: &[usize], running: &BTreeMap<u32, Running>) -> Vec<Running> {
        let at = |place: &usize| running.get(&self.traces.get(*place)?.local_rank).copied();
        places.iter().filter_map(at).collect()
    }

    fn look_for_sleep(&self, watch: &mut SleepWatch) -> Option<Verdict> {
        let running = self.running();
        let sleep = |traces: &Traces| look::sleep(running.get(&traces.local_rank)?.pid);
        let sleeps: Vec<_> = self.traces.iter().map(sleep).collect();
        let (places, time) = watch.look(&sleeps, Instant::now())?;
        let stuck = self.at(&places, &running);
        let what = format!(
            "{} in an uninterruptible state (D) for {} s: a device or file system does not answer",
            named(&stuck),
            time.as_secs_f64().round()
        );
        Some((stuck, what, false))
    }

    fn look_for_progress(&self, watch: &mut HangWatch) -> Option<Verdict> {
        let running = self.running();
        let sight = |traces: &Traces| Sight {
            is_running: running.contains_key(&traces.local_rank),
            beat: traces.beat(),
            output: traces.output(),
        };
        let sights: Vec<Sight> = self.traces.iter().map(sight).collect();
        let all_started = self.observer.started() >= self.traces.len();
        let hang = watch.look(&sights, all_started, Instant::now());
        let rank = |place: usize| self.traces.get(place).map(|traces| traces.rank);
        let silences = watch.silences().filter_map(|(place, silence)| Some((rank(place)?, silence)));
        self.observer.silences(silences.collect());
        let hang = hang?;
        let hung = self.at(&hang.ranks, &running);
        let what = told(&hang, &named(&hung));
        Some((hung, what, true))
    }

    fn give_up(&self, stuck: &[Running], what: String, may_restart: bool) {
        // They have ended meanwhile.
        let Some(&first) = stuck.first() else { return };
        if self.shared.is_taken.swap(true, Ordering::Relaxed) {
            return;
        }
        let at = SystemTime::now();
        let saved = self.save_stacks(&what);
        // Something else has ended them meanwhile, which is then the cause.
        if self.is_over(Duration::ZERO) {
            return;
        }
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
        let (shared, why, py_spy) = (Arc::clone(&self.shared), why.to_owned(), self.py_spy.clone());
        let (tell, saved) = sync_channel(1);
        let save = move || {
            let _ = tell.send(stacks::save(&subjects, &why, py_spy.as_deref(), shared.finish.as_fd()));
        };
        // What a rank hangs in may hold whoever looks at it, or the disk of the stacks. The verdict does not wait for ever.
        let is_begun = thread::Builder::new().name("zenith-stacks".into()).spawn(save).is_ok();
        let saved = is_begun.then(|| saved.recv_timeout(SAVE_PATIENCE).ok()).flatten();
        saved.unwrap_or_default()
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
