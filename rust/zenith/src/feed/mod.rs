//! Batches for device programs that ask for them by number: a feed holds a window of ready batches and answers requests for the
//! rows of a shard, in whichever order and from whichever thread they come.
//!
//! A request never blocks its thread: one that cannot be served at once is answered by the feed's own thread, which also
//! pulls batches and looks for interrupts and stalls. Programs of several devices share few threads; one that
//! blocked in a request could keep the device from running that everybody waits for.

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

/// What a request wants done with its answer; called once, from any thread.
pub trait Reply: Send + 'static {
    /// The rows are there.
    fn serve(self: Box<Self>, rows: Served<'_>);
    /// There are none, and why.
    fn fail(self: Box<Self>, error: &Error);
}

/// The answer to a request.
#[derive(Debug, Clone, Copy)]
pub struct Served<'a> {
    batch: Option<&'a Arranged>,
    /// What was asked for.
    pub ask: Ask,
}

impl Served<'_> {
    /// The shard's rows of a field; `None` past the end of the epoch, where zeros are to be served.
    pub fn field(&self, index: usize) -> Option<&[u8]> {
        self.batch?.field(index, self.ask.shard)
    }

    /// Rows of the whole batch, over all shards, that are samples; 0 past the end.
    pub fn valid(&self) -> usize {
        self.batch.map_or(0, Arranged::valid)
    }

    /// Whether the epoch had ended before.
    pub fn is_past_the_end(&self) -> bool {
        self.batch.is_none()
    }
}

/// Options of a feed.
#[derive(Debug, Clone, Copy)]
pub struct FeedOptions {
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

type Answers = Vec<Verdict<Arranged, Box<dyn Reply>>>;

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
    rounds: Rounds<Arranged, Box<dyn Reply>>,
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
        let rounds = Rounds::new(layout.shards, options.window);
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

    /// Answers a request, at once where its batch is ready and all shards have asked for it.
    pub fn ask(&self, ask: Ask, to: Box<dyn Reply>) {
        if self.generation != fork::generation() {
            let message = "this feed belongs to the parent process: its threads do not exist after a fork. \
                           Make a new one in the child";
            to.fail(&Error::new(ErrorKind::Forked, message));
            return;
        }
        // Whoever set the handler anew since, it is ours that counts while a program runs.
        interrupts::watch();
        let mut state = self.shared.lock();
        let answers = state.rounds.ask(ask, to, self.shared.now(), interrupts::count());
        let has_work = state.rounds.wants() || state.rounds.is_waiting();
        drop(state);
        if has_work {
            self.shared.changed.notify_all();
        }
        carry_out(answers);
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
            Verdict::Serve { to, ask, batch } => to.serve(Served { batch: batch.as_deref(), ask }),
            Verdict::Fail { to, error } => to.fail(&error),
        }
    }
}

#[cfg(test)]
mod tests;
