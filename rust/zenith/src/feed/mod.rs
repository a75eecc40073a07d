//! Batches for device programs that ask for them by number: a feed holds a window of ready batches and answers requests for the
//! rows of a shard, in whichever order and from whichever thread they come.
//!
//! A request waits in its own thread, as a collective does, for it is there that the program goes on: what completes a request
//! elsewhere runs the rest of that device's program, up to a collective that waits for requests not yet completed. The feed's
//! own thread pulls batches and looks for interrupts and stalls, so that every wait ends.

mod rounds;
mod rows;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use zenith_data::format::guard::panic_text;
use zenith_data::pipeline::Next;
use zenith_data::{Error, ErrorKind, Result};
use zenith_host::{Slab, fork, interrupts};

pub use rounds::Ask;
use rounds::{Rounds, Verdict};
pub use rows::{Arranged, FieldLayout, Layout};

use crate::loader::EpochIter;
use crate::memory::HostMemory;

/// How long the feed's thread is busy or asleep before it looks for interrupts and stalls.
const SLICE: Duration = Duration::from_millis(50);

/// Where the batches of an epoch come from, in order.
pub trait Supply: Send + 'static {
    /// The next batch, or `Pending` when none is ready after `wait`.
    fn next(&mut self, wait: Duration) -> Result<Next<Slab>>;
}

impl Supply for EpochIter {
    fn next(&mut self, wait: Duration) -> Result<Next<Slab>> {
        EpochIter::next(self, wait)
    }
}

/// The answer to a request.
#[derive(Debug, Clone)]
pub struct Served {
    batch: Option<Arc<Arranged>>,
    /// What was asked for.
    pub ask: Ask,
}

impl Served {
    /// The shard's rows of a field; `None` past the end of the epoch, where zeros are to be served.
    pub fn field(&self, index: usize) -> Option<&[u8]> {
        self.batch.as_ref()?.field(index, self.ask.shard)
    }

    /// Rows of the whole batch, over all shards, that are samples; 0 past the end.
    pub fn valid(&self) -> usize {
        self.batch.as_ref().map_or(0, |batch| batch.valid())
    }

    /// Whether the epoch had ended before.
    pub fn is_past_the_end(&self) -> bool {
        self.batch.is_none()
    }
}

/// Options of a feed.
#[derive(Debug, Clone, Copy)]
pub struct FeedOptions {
    /// Devices of the programs that ask; each of them asks for every batch.
    pub devices: usize,
    /// Batches that can be asked for again after they were given, and that can be asked for ahead; at least 2.
    pub window: u64,
    /// Until a request fails that cannot be served.
    pub stall: Duration,
}

impl FeedOptions {
    fn check(self) -> Result<Self> {
        if self.window < 2 {
            return Err(Error::invalid(format!("window must be >= 2, got {}", self.window)));
        }
        if self.stall < 2 * SLICE {
            let message = format!("stall_timeout must be at least {:?}, got {:?}", 2 * SLICE, self.stall);
            return Err(Error::invalid(message));
        }
        Ok(self)
    }
}

type Answers = Vec<Verdict<Arranged, Arc<Slot>>>;

/// Where a request waits for its answer.
#[derive(Default)]
struct Slot {
    answer: Mutex<Option<Result<Served>>>,
    is_there: Condvar,
}

impl Slot {
    fn fill(&self, answer: Result<Served>) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        self.is_there.notify_one();
    }

    fn wait(&self) -> Result<Served> {
        let mut answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match answer.take() {
                Some(answer) => return answer,
                None => answer = self.is_there.wait(answer).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

/// Serves the batches of one epoch after the other. Dropping it fails what waits and ends its thread.
pub struct Feed {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    generation: u64,
}

struct Shared {
    state: Mutex<State>,
    /// Something was asked for, taken, restarted or closed.
    changed: Condvar,
    layout: Layout,
    options: FeedOptions,
    started: Instant,
}

struct State {
    rounds: Rounds<Arranged, Arc<Slot>>,
    /// Taken out while the feed's thread pulls.
    supply: Option<Box<dyn Supply>>,
    memory: HostMemory,
    /// Counts restarts: what is pulled across one is of no use.
    restarts: u64,
    is_closed: bool,
}

impl Feed {
    /// Serves what comes from `supply`, whose batches have the rows of all shards; `memory` is where they are rearranged.
    pub fn new(layout: Layout, options: FeedOptions, supply: Box<dyn Supply>, memory: HostMemory) -> Result<Self> {
        let options = options.check()?;
        interrupts::watch();
        let rounds = Rounds::new(layout.shards, options.devices, options.window);
        let state = State { rounds, supply: Some(supply), memory, restarts: 0, is_closed: false };
        let (state, changed, started) = (Mutex::new(state), Condvar::new(), Instant::now());
        let shared = Arc::new(Shared { state, changed, layout, options, started });
        let worker = shared.clone();
        let thread = std::thread::Builder::new().name("zenith-feed".into()).spawn(move || worker.run());
        let thread = thread.map_err(|error| {
            Error::new(
                ErrorKind::Io,
                format!("cannot start a thread for the feed: {error}. Raise the limit of processes"),
            )
        })?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)), generation: fork::generation() })
    }

    /// How batches are served.
    pub fn layout(&self) -> &Layout {
        &self.shared.layout
    }

    /// The rows that a device asks for. Waits until they are ready and all devices have asked for that batch, at most for as long as
    /// `FeedOptions::stall`.
    pub fn ask(&self, ask: Ask) -> Result<Served> {
        if self.generation != fork::generation() {
            let message = "this feed belongs to the parent process: its threads do not exist after a fork. \
                           Make a new one in the child";
            return Err(Error::new(ErrorKind::Forked, message));
        }
        // Whoever set the handler anew since, it is ours that counts while a program runs.
        interrupts::watch();
        let slot = Arc::new(Slot::default());
        let mut state = self.shared.lock();
        if state.is_closed {
            return Err(closed());
        }
        let answers = state.rounds.ask(ask, slot.clone(), self.shared.now(), interrupts::count());
        let has_work = state.rounds.wants() || state.rounds.is_waiting();
        drop(state);
        if has_work {
            self.shared.changed.notify_all();
        }
        carry_out(answers);
        slot.wait()
    }

    /// Begins another epoch, or the same elsewhere: batch 0 is the next that `supply` gives. What waits fails.
    pub fn restart(&self, supply: Box<dyn Supply>) {
        let error = Error::new(
            ErrorKind::Interrupted,
            "the feed was set to another place while a program was asking for batches",
        );
        let mut state = self.shared.lock();
        let answers = state.rounds.restart(&error);
        let before = state.supply.replace(supply);
        state.restarts += 1;
        drop(state);
        self.shared.changed.notify_all();
        carry_out(answers);
        // It may join threads.
        drop(before);
    }
}

impl Feed {
    /// Fails what waits, and everything from here on. Its thread is joined when the last user has let go of it.
    pub fn close(&self) {
        let mut state = self.shared.lock();
        state.is_closed = true;
        let answers = state.rounds.restart(&closed());
        drop(state);
        self.shared.changed.notify_all();
        carry_out(answers);
    }
}

fn closed() -> Error {
    Error::invalid("the feed was closed while a program was asking for batches. Keep it as long as programs run")
}

impl Drop for Feed {
    fn drop(&mut self) {
        if self.generation != fork::generation() {
            return;
        }
        let error = Error::invalid(
            "the feed was closed while a program was asking for batches. Keep it as long as programs run",
        );
        let mut state = self.shared.lock();
        state.is_closed = true;
        let answers = state.rounds.restart(&error);
        drop(state);
        self.shared.changed.notify_all();
        carry_out(answers);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic there was caught and told already.
            drop(thread.join());
        }
    }
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Feed").field("layout", &self.shared.layout).finish_non_exhaustive()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// The feed's thread: pulls batches while some are wanted, and watches what waits.
    fn run(&self) {
        let mut state = self.lock();
        while !state.is_closed {
            let answers = state.rounds.watch(self.now(), interrupts::count(), self.options.stall);
            if !answers.is_empty() {
                drop(state);
                carry_out(answers);
                state = self.lock();
            } else if state.rounds.wants() && state.supply.is_some() {
                state = self.pull(state);
            } else if state.rounds.is_waiting() {
                state = self.changed.wait_timeout(state, SLICE).unwrap_or_else(PoisonError::into_inner).0;
            } else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
        let supply = state.supply.take();
        drop(state);
        drop(supply);
    }

    /// Asks for the next batch, without the lock.
    fn pull<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let Some(mut supply) = state.supply.take() else { return state };
        let (restarts, memory) = (state.restarts, state.memory.clone());
        drop(state);
        let pulled = catch_unwind(AssertUnwindSafe(|| match supply.next(SLICE)? {
            Next::Batch(batch) => self.layout.arrange(batch, &memory).map(Pulled::Batch),
            Next::Pending => Ok(Pulled::Nothing),
            Next::End => Ok(Pulled::End),
        }));
        let pulled = pulled.unwrap_or_else(|payload| {
            let text = panic_text(payload.as_ref());
            Err(Error::internal(format!(
                "the feed panicked: {text}. This is a fault of Zenith; please report it with this text"
            )))
        });
        let mut state = self.lock();
        if state.restarts != restarts || state.is_closed {
            drop(state);
            drop(supply);
            return self.lock();
        }
        state.supply = Some(supply);
        match pulled {
            Ok(Pulled::Batch(batch)) => state.rounds.deliver(batch),
            Ok(Pulled::Nothing) => return state,
            Ok(Pulled::End) => state.rounds.finish(Ok(())),
            // What read files may be asked to wait again; nothing is lost.
            Err(error) if error.kind() == ErrorKind::Interrupted => return state,
            Err(error) => state.rounds.finish(Err(error)),
        }
        let answers = state.rounds.settle();
        drop(state);
        carry_out(answers);
        self.lock()
    }
}

enum Pulled {
    Batch(Arranged),
    Nothing,
    End,
}

fn carry_out(answers: Answers) {
    for answer in answers {
        match answer {
            Verdict::Serve { to, ask, batch } => to.fill(Ok(Served { batch, ask })),
            Verdict::Fail { to, error } => to.fill(Err(error)),
        }
    }
}

#[cfg(test)]
mod tests;
