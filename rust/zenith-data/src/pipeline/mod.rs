//! From a plan to finished batches: decode what is needed soon, assemble by ticket, hand out in order.
//!
//! `Coordinator` decides (pure, one lock), `worker` does (threads, or the caller's own thread without workers),
//! `assemble` copies rows, `making` makes values (pictures) by many hands, `stats` counts. PIPE-1: batches leave in
//! position order. PIPE-2: nothing waits for the consumer's references (a `BatchMemory` may wait for less than a millisecond
//! for a large slab that is about to come back). PIPE-3: every queue is bounded by bytes.

mod assemble;
mod bad_blocks;
mod coordinator;
mod making;
#[cfg(test)]
mod making_tests;
mod stats;
#[cfg(test)]
mod tests;
mod turns;
mod worker;

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use bad_blocks::{OnError, Quarantine};
pub use coordinator::Limits;
pub use stats::{Snapshot, Stats};

use crate::batch::Batch;
use crate::dataset::Dataset;
use crate::deliver::Delivery;
use crate::memory::BatchMemory;
use crate::plan::{Epoch, Plan};
use crate::rows::{RowLayout, RowPool};
use crate::storage::Storage;
use crate::{Error, Result};
use coordinator::{Coordinator, Task};
use making::Making;
use turns::Turns;

/// Monotonic time for the statistics, brought from outside.
pub trait Clock: Send + Sync {
    /// Nanoseconds since some fixed moment.
    fn now_ns(&self) -> u64;
}

/// Everything one epoch (or the rest of one) needs.
pub struct Job<M> {
    pub dataset: Arc<dyn Dataset>,
    pub storage: Arc<dyn Storage>,
    pub memory: M,
    pub clock: Arc<dyn Clock>,
    pub plan: Arc<Plan>,
    pub epoch: Epoch,
    /// Types in which fields are delivered that are others than the dataset's.
    pub delivery: Delivery,
    pub limits: Limits,
    /// Decode threads; 0 decodes in the thread that asks for batches.
    pub workers: usize,
    /// Cores that they may use: how many of them compute at once.
    pub cores: usize,
    pub row_pool: Arc<RowPool>,
    /// Where bad blocks are listed, for `OnError::Quarantine`.
    pub quarantine: Option<Arc<dyn Quarantine>>,
}

impl<M> std::fmt::Debug for Job<M> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Job").field("dataset", &self.dataset).field("workers", &self.workers).finish_non_exhaustive()
    }
}

/// What `Pipeline::next` found.
#[derive(Debug)]
pub enum Next<S> {
    Batch(Batch<S>),
    /// Nothing within the time given; ask again.
    Pending,
    End,
}

/// Something for a worker to do.
pub(crate) enum Work<M: BatchMemory> {
    Begin(Task),
    /// To work on a batch that somebody has begun.
    Help(Arc<Making<M::Piece>>),
}

/// What the pipeline's lock guards.
pub(crate) struct State<M: BatchMemory> {
    coordinator: Coordinator<M::Slab>,
    /// Batches whose values are being made, oldest first.
    pub(crate) under_way: VecDeque<Arc<Making<M::Piece>>>,
    pub(crate) turns: Turns,
}

impl<M: BatchMemory> State<M> {
    /// Something to do now, if there is anything: what is needed soonest first.
    pub(crate) fn next_work(&mut self) -> Option<Work<M>> {
        self.forget_what_is_made();
        match self.under_way.front() {
            Some(making) => Some(Work::Help(making.clone())),
            None => self.coordinator.next_task().map(Work::Begin),
        }
    }

    pub(crate) fn has_work(&mut self) -> bool {
        self.forget_what_is_made();
        !self.under_way.is_empty() || self.coordinator.has_task()
    }

    fn forget_what_is_made(&mut self) {
        while self.under_way.front().is_some_and(|making| making.is_taken()) {
            self.under_way.pop_front();
        }
    }
}

impl<M: BatchMemory> std::ops::Deref for State<M> {
    type Target = Coordinator<M::Slab>;

    fn deref(&self) -> &Self::Target {
        &self.coordinator
    }
}

impl<M: BatchMemory> std::ops::DerefMut for State<M> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.coordinator
    }
}

pub(crate) struct Shared<M: BatchMemory> {
    pub(crate) job: Job<M>,
    pub(crate) layout: Arc<RowLayout>,
    pub(crate) stats: Stats,
    state: Mutex<State<M>>,
    /// Each worker waits at its own for something to do.
    beds: Vec<Condvar>,
    /// The consumer waits here for the next batch.
    ready: Condvar,
    /// Worker threads that have not ended yet.
    running: Mutex<usize>,
    /// Whoever closes the pipeline waits here for them.
    left: Condvar,
}

/// How long the workers get to leave before they are left to themselves: Ctrl-C answers within a second whatever the disk
/// does.
const LEAVE_WAIT: Duration = Duration::from_millis(500);

impl<M: BatchMemory> Shared<M> {
    fn running(&self) -> MutexGuard<'_, usize> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, State<M>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes a worker if there is something for it to do.
    pub(crate) fn wake_one(&self, state: &mut State<M>) {
        if state.has_work()
            && let Some(worker) = state.turns.wake(&self.stats)
        {
            self.beds[worker].notify_one();
        }
    }

    /// Lets every worker look whether the epoch is over.
    pub(crate) fn wake_all(&self) {
        self.beds.iter().for_each(Condvar::notify_one);
    }
}

/// One epoch under way. Dropping it stops and joins its threads.
pub struct Pipeline<M: BatchMemory> {
    shared: Arc<Shared<M>>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl<M: BatchMemory> std::fmt::Debug for Pipeline<M> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Pipeline").field("workers", &self.threads.len()).finish_non_exhaustive()
    }
}

impl<M: BatchMemory> Pipeline<M> {
    pub fn start(job: Job<M>) -> Result<Self> {
        let layout = Arc::new(job.dataset.layout());
        let workers = job.workers;
        let hands = workers.min(job.cores).max(1) as u64;
        let coordinator = Coordinator::new(&job.dataset, &layout, &job.plan, job.epoch.clone(), job.limits, hands);
        let turns = Turns::new(job.cores);
        let shared = Arc::new(Shared {
            job,
            layout,
            stats: Stats::default(),
            state: Mutex::new(State { coordinator, under_way: VecDeque::new(), turns }),
            beds: (0..workers).map(|_| Condvar::new()).collect(),
            ready: Condvar::new(),
            running: Mutex::new(workers),
            left: Condvar::new(),
        });
        let mut pipeline = Self { shared, threads: Vec::with_capacity(workers) };
        for index in 0..workers {
            match worker::spawn(index, pipeline.shared.clone()) {
                Ok(thread) => pipeline.threads.push(thread),
                Err(error) => {
                    *pipeline.shared.running() -= workers - index;
                    return Err(error);
                }
            }
        }
        Ok(pipeline)
    }

    /// The next batch in order, waiting at most `wait` for it (without workers: computing it, however long that takes, unless
    /// the storage says that a read goes on: then it is `Pending`).
    pub fn next(&self, wait: Duration) -> Result<Next<M::Slab>> {
        self.shared.job.memory.on_batch_asked();
        if self.threads.is_empty() {
            return self.next_inline(wait);
        }
        let mut state = self.shared.lock();
        let mut waited = false;
        let started = self.shared.job.clock.now_ns();
        loop {
            if let Some(outcome) = state.take_ready() {
                if state.has_room() {
                    self.shared.wake_one(&mut state);
                }
                drop(state);
                self.count_wait(started);
                return outcome.map(Next::Batch);
            }
            if state.is_finished() {
                return Ok(Next::End);
            }
            if waited {
                state.turns.need();
                self.shared.wake_one(&mut state);
                drop(state);
                self.count_wait(started);
                return Ok(Next::Pending);
            }
            // Batches that skipping emptied were passed over, which may have made room for more.
            self.shared.wake_one(&mut state);
            let waiting = self.shared.ready.wait_timeout_while(state, wait, |state| !state.has_outcome());
            let (after, timeout) = waiting.unwrap_or_else(PoisonError::into_inner);
            (state, waited) = (after, timeout.timed_out());
        }
    }

    fn next_inline(&self, wait: Duration) -> Result<Next<M::Slab>> {
        let mut scratch = assemble::Scratch::default();
        loop {
            let mut state = self.shared.lock();
            if let Some(outcome) = state.take_ready() {
                return outcome.map(Next::Batch);
            }
            if state.is_finished() {
                return Ok(Next::End);
            }
            match state.next_work() {
                Some(task) => {
                    drop(state);
                    if !worker::perform(&self.shared, task, &mut scratch) {
                        return Ok(Next::Pending);
                    }
                    self.shared.ready.notify_all();
                }
                // Another thread that shares the iterator is at it.
                None if state.is_busy() => {
                    let waited = self.shared.ready.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner);
                    if waited.1.timed_out() {
                        return Ok(Next::Pending);
                    }
                }
                None => return Err(Error::internal("the pipeline has nothing to do and no batch")),
            }
        }
    }

    fn count_wait(&self, started: u64) {
        let waited = self.shared.job.clock.now_ns().saturating_sub(started);
        self.shared.stats.consumer_wait_ns.fetch_add(waited, Ordering::Relaxed);
    }

    pub fn stats(&self) -> Snapshot {
        let usage = self.shared.lock().usage();
        self.shared.stats.snapshot(usage)
    }

    /// Leaves the threads alone: in a forked child they do not exist and must not be joined.
    pub fn forget(self) {
        std::mem::forget(self);
    }
}

impl<M: BatchMemory> Drop for Pipeline<M> {
    fn drop(&mut self) {
        self.shared.lock().close();
        self.shared.wake_all();
        let running = self.shared.left.wait_timeout_while(self.shared.running(), LEAVE_WAIT, |running| *running > 0);
        if *running.unwrap_or_else(PoisonError::into_inner).0 > 0 {
            // Somebody is stuck in a read (a mount that hangs). It holds what it needs and leaves when the read returns.
            return;
        }
        for thread in self.threads.drain(..) {
            // A worker never unwinds: its tasks are caught, so there is nothing to learn from the result.
            drop(thread.join());
        }
    }
}
