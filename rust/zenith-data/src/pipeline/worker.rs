//! The threads of the pipeline, and the two things they do. A panic in a task becomes that task's error.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

use super::assemble::{self, Assembled, Scratch};
use super::bad_blocks::Losses;
use super::coordinator::{Decoded, StandIn, Task};
use super::making::Making;
use super::{Shared, Work};
use crate::batch::Batch;
use crate::format::guard::panic_text;
use crate::gather::{Brought, decode_block};
use crate::memory::BatchMemory;
use crate::plan::BlockUse;
use crate::rows::Chunk;
use crate::storage::Pending;
use crate::{Error, ErrorKind, Result};

pub(crate) fn spawn<M: BatchMemory>(index: usize, shared: Arc<Shared<M>>) -> Result<std::thread::JoinHandle<()>> {
    let builder = std::thread::Builder::new().name(format!("zenith-decode-{index}"));
    builder
        .spawn(move || {
            run(index, &shared);
            *shared.running() -= 1;
            shared.left.notify_all();
        })
        .map_err(|error| {
            let message =
                format!("cannot start decode thread {index}: {error}. Lower num_workers or raise the limit of threads");
            Error::new(ErrorKind::Io, message)
        })
}

fn run<M: BatchMemory>(index: usize, shared: &Shared<M>) {
    let mut scratch = Scratch::default();
    let mut state = shared.lock();
    loop {
        if state.is_closed() || state.is_over() {
            shared.wake_all();
            return;
        }
        let has_place = state.turns.has_place(&shared.stats);
        if has_place && let Some(task) = state.next_work() {
            state.turns.begin();
            // Whoever finds more to do wakes one other, who does the same.
            shared.wake_one(&mut state);
            drop(state);
            perform(shared, task, &mut scratch);
            state = shared.lock();
            state.turns.end();
        } else {
            let started = shared.job.clock.now_ns();
            state.turns.lie_down(index);
            state = shared.beds[index].wait(state).unwrap_or_else(PoisonError::into_inner);
            state.turns.get_up(index);
            // One who is not let to work because the cores are taken is no sign that the consumer is behind.
            if has_place {
                add_since(shared, &shared.stats.worker_idle_ns, started);
            }
        }
    }
}

/// Does one task and reports it. `false`: a read that it needs goes on, and the task is to be done again.
pub(crate) fn perform<M: BatchMemory>(shared: &Shared<M>, work: Work<M>, scratch: &mut Scratch) -> bool {
    match work {
        Work::Help(making) => help(shared, &making),
        Work::Begin(Task::Decode(used)) => {
            let outcome = caught(|| decode_or_skip(shared, &used));
            if outcome.as_ref().is_err_and(|error| error.kind() == ErrorKind::Interrupted) {
                shared.lock().on_postponed(used);
                return false;
            }
            let garbage = shared.lock().on_decoded(used, outcome);
            drop(garbage);
        }
        Work::Begin(Task::Assemble(ticket)) => {
            let started = shared.job.clock.now_ns();
            let outcome = caught(|| assemble::assemble(shared, ticket, scratch));
            add_since(shared, &shared.stats.assemble_ns, started);
            match outcome {
                Ok(Assembled::Whole(batch, losses)) => hand_in(shared, ticket, Ok((batch, losses))),
                Ok(Assembled::InParts(making)) => {
                    let making = Arc::new(making);
                    let mut state = shared.lock();
                    state.under_way.push_back(making.clone());
                    shared.wake_one(&mut state);
                    drop(state);
                    help(shared, &making);
                }
                Err(error) => hand_in(shared, ticket, Err(error)),
            }
        }
    }
    true
}

/// Makes values of a batch until none is left to begin; whoever makes the last one hands the batch in.
fn help<M: BatchMemory>(shared: &Shared<M>, making: &Making<M::Piece>) {
    let started = shared.job.clock.now_ns();
    let finished = making.work(shared);
    add_since(shared, &shared.stats.assemble_ns, started);
    if let Some(outcome) = finished {
        hand_in(shared, making.ticket, outcome);
    }
}

fn hand_in<M: BatchMemory>(shared: &Shared<M>, ticket: u64, outcome: Result<(Batch<M::Slab>, Losses)>) {
    if let Ok((batch, _)) = &outcome {
        let samples = batch.rows * shared.job.epoch.shards().own().len();
        shared.stats.samples.fetch_add(samples as u64, Ordering::Relaxed);
        shared.stats.batches.fetch_add(1, Ordering::Relaxed);
    }
    let garbage = shared.lock().on_assembled(ticket, outcome);
    shared.ready.notify_one();
    drop(garbage);
}

/// Other blocks that are tried for a bad one's places before giving up.
const STAND_INS_MAX: usize = 64;

fn decode_or_skip<M: BatchMemory>(shared: &Shared<M>, used: &BlockUse) -> Result<Decoded> {
    let bad = match read(shared, used.block)? {
        Ok(chunks) => return Ok(Decoded::Rows(chunks)),
        Err(bad) => bad,
    };
    let several = shared.job.epoch.world() > 1;
    let stand_in = if several { Some(stand_in(shared, used.block, &bad)?) } else { None };
    Ok(Decoded::Skipped(bad, stand_in))
}

/// The next good block in the order of the epoch, whose samples are those of the same window where the window reaches
/// beyond the bad block. A function of the plan and of which blocks are bad, so that neither the batch size nor the
/// number of ranks nor a resume changes what is repeated.
fn stand_in<M: BatchMemory>(shared: &Shared<M>, block: u32, why: &Error) -> Result<StandIn> {
    let job = &shared.job;
    for other in job.plan.blocks_after(block).take(STAND_INS_MAX) {
        if let Ok(chunks) = read(shared, other)? {
            return Ok(StandIn {
                block: other,
                chunks: chunks.into(),
                rows: job.dataset.blocks()[other as usize].rows as u32,
            });
        }
    }
    let message = format!(
        "{} And so are the blocks after it: no good sample could take the places that several ranks must fill. Repair \
         the files, or read them at one rank",
        why.message()
    );
    Err(why.clone().with_message(message))
}

/// The rows of a block. The outer error is raised; the inner one is passed over. A block that is quarantined is not
/// read, and one that turns out bad is quarantined, where that is asked for.
fn read<M: BatchMemory>(shared: &Shared<M>, block: u32) -> Result<Result<Vec<Chunk>>> {
    let job = &shared.job;
    if let Some(bad) = job.quarantine.as_ref().and_then(|quarantine| quarantine.listed(block)) {
        return Ok(Err(bad));
    }
    let bad = match caught(|| decode(shared, block)) {
        Ok(chunks) => return Ok(Ok(chunks)),
        Err(error) if job.limits.on_error.skips(error.kind()) => error,
        Err(error) => return Err(error),
    };
    // What hung today may be read tomorrow: it is passed over, and not listed for later runs.
    if let Some(quarantine) = job.quarantine.as_ref().filter(|_| bad.kind() != ErrorKind::TimedOut) {
        quarantine.add(block, &bad)?;
    }
    Ok(Err(bad))
}

fn decode<M: BatchMemory>(shared: &Shared<M>, block: u32) -> Result<Vec<Chunk>> {
    let job = &shared.job;
    let block = block as usize;
    let started = job.clock.now_ns();
    let mut fetching = 0;
    let chunks = decode_block(&*job.dataset, block, &shared.layout, &job.row_pool, |ranges| {
        let started = job.clock.now_ns();
        let read = job.storage.submit(job.dataset.sources(), ranges).and_then(Pending::wait);
        if read.as_ref().is_err_and(|error| error.kind() == ErrorKind::TimedOut) {
            shared.stats.timed_out_reads.fetch_add(1, Ordering::Relaxed);
        }
        let bytes = read?;
        fetching += job.clock.now_ns().saturating_sub(started);
        shared.stats.read_bytes.fetch_add(bytes.iter().map(|part| part.len() as u64).sum(), Ordering::Relaxed);
        Ok(Brought { bytes, again: job.storage.reads_again_at_once() })
    })?;
    shared.stats.fetch_ns.fetch_add(fetching, Ordering::Relaxed);
    add_since(shared, &shared.stats.decode_ns, started + fetching);
    shared.stats.blocks.fetch_add(1, Ordering::Relaxed);
    shared.stats.decoded_samples.fetch_add(job.dataset.blocks()[block].rows, Ordering::Relaxed);
    Ok(chunks)
}

fn add_since<M: BatchMemory>(shared: &Shared<M>, counter: &AtomicU64, started: u64) {
    counter.fetch_add(shared.job.clock.now_ns().saturating_sub(started), Ordering::Relaxed);
}

/// Runs `task`; a panic in it (a bug here or in a decoder) becomes an error instead of a lost thread.
pub(crate) fn caught<T>(task: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(task)).unwrap_or_else(|panic| {
        Err(Error::internal(format!("the engine panicked: {}. Please report this", panic_text(&*panic))))
    })
}
