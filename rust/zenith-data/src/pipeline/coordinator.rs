//! The decisions of the pipeline: which block to decode next, which batch may be assembled, what may be forgotten.
//! No threads and no time in here; `worker` asks under one lock and reports back.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;

use super::bad_blocks::{Losses, OnError};
use super::stats::Usage;
use crate::batch::{Batch, FieldData};
use crate::dataset::{Block, Dataset};
use crate::plan::{BlockUse, Epoch, Plan, Release, Schedule};
use crate::rows::{Chunk, RowLayout};
use crate::{Error, Result};

/// Bounds of what the pipeline holds.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of finished batches that may wait for the consumer (at least one batch always may).
    pub prefetch_bytes: u64,
    /// Finished batches that may wait, where the user gave a number.
    pub prefetch_batches: Option<u64>,
    /// Decoded bytes of blocks that no batch needs yet.
    pub ahead_bytes: u64,
    pub on_error: OnError,
    /// Bad samples that may be passed over before they become an error.
    pub skip_max: u64,
}

/// Samples of one worker in a batch that all make together, below which the next batch is begun before the consumer has taken the
/// last: while the last few samples are made, and while the batch changes hands, all but their makers would wait, which is not worth
/// a further batch's memory where each has many.
const SHARED_ROWS_MIN: u64 = 48;

pub(crate) enum Task {
    Decode(BlockUse),
    Assemble(u64),
}

/// What is to be done next.
enum Choice {
    Postponed,
    Assemble,
    Decode { bytes: u64 },
}

/// The chunks of one block that are still needed. Batches share the list; it is copied when a chunk goes while one of them
/// is being assembled.
type Chunks = Arc<Vec<Option<Arc<Chunk>>>>;

/// Chunks that nobody needs any more: giving their memory back takes too long to be done under the lock.
#[must_use]
#[derive(Debug, Default)]
pub(crate) struct Garbage(Vec<Arc<Chunk>>);

/// A decoded block that later positions still need.
struct Live {
    chunks: Chunks,
    /// Rows of each chunk that are still needed; the chunk goes when none is.
    needed: Vec<u32>,
    releases: VecDeque<Release>,
    bad: Option<Bad>,
}

/// What came of reading a block.
pub(crate) enum Decoded {
    Rows(Vec<Chunk>),
    /// It cannot be read and is passed over; with several ranks, other samples take the places of its own.
    Skipped(Error, Option<StandIn>),
}

/// Good samples that take the places of those of a bad block.
#[derive(Debug, Clone)]
pub(crate) struct StandIn {
    pub(crate) block: u32,
    pub(crate) chunks: Arc<[Chunk]>,
    pub(crate) rows: u32,
}

#[derive(Debug, Clone)]
enum Bad {
    Raised(Error),
    Skipped(Error, Option<StandIn>),
}

/// What a batch may copy from: the chunks of one block, or what stands in for it.
#[derive(Debug)]
pub(crate) enum BlockView {
    Rows(Chunks),
    Skipped(Error, Option<StandIn>),
}

pub(crate) struct Coordinator<S> {
    epoch: Epoch,
    limits: Limits,
    /// Bytes of each block while its samples wait, and of a whole batch when it leaves.
    block_bytes: Vec<u64>,
    batch_bytes: u64,
    /// Batches that may always be under way.
    unbounded: u64,
    chunk_rows: u32,
    block_rows: Vec<u32>,
    schedule: std::iter::Peekable<Schedule>,
    /// `first` of the blocks being decoded now.
    decoding: BTreeSet<(u64, u32)>,
    /// Those of them whose reads go on while nobody waits; only without workers.
    postponed: Vec<BlockUse>,
    /// Blocks decoded or being decoded that no assembled batch has reached: (first position, bytes).
    ahead: VecDeque<(u64, u64)>,
    ahead_bytes: u64,
    /// A block may be live twice at the end of a padded epoch, which begins again.
    live: HashMap<u32, Vec<Live>>,
    live_bytes: u64,
    due: BinaryHeap<Reverse<(u64, u32)>>,
    batches: u64,
    next_ticket: u64,
    assembling: BTreeSet<u64>,
    next_out: u64,
    ready: HashMap<u64, Result<(Batch<S>, Losses)>>,
    ready_bytes: u64,
    losses: Losses,
    bad_blocks: u64,
    closed: bool,
}

impl<S: AsRef<[u8]>> Coordinator<S> {
    pub(crate) fn new(
        dataset: &Arc<dyn Dataset>,
        layout: &RowLayout,
        plan: &Plan,
        epoch: Epoch,
        limits: Limits,
        hands: u64,
    ) -> Self {
        let stride = layout.stride().max(1) as u64;
        let waiting_bytes = |block: &Block| match layout.key() {
            Some(_) => block.decoded_bytes,
            None => block.rows * stride,
        };
        let delivered = dataset.schema().fields.iter().map(|field| field.kind.width().unwrap_or(64)).sum::<usize>();
        Self {
            schedule: epoch.schedule(plan).peekable(),
            batches: epoch.batches(),
            limits,
            block_bytes: dataset.blocks().iter().map(waiting_bytes).collect(),
            unbounded: if layout.key().is_some() && epoch.rows() < SHARED_ROWS_MIN * hands { 2 } else { 1 },
            batch_bytes: epoch.rows() * delivered as u64,
            chunk_rows: layout.chunk_rows() as u32,
            block_rows: dataset.blocks().iter().map(|block| block.rows as u32).collect(),
            decoding: BTreeSet::new(),
            postponed: Vec::new(),
            ahead: VecDeque::new(),
            ahead_bytes: 0,
            live: HashMap::new(),
            live_bytes: 0,
            due: BinaryHeap::new(),
            next_ticket: 0,
            assembling: BTreeSet::new(),
            next_out: 0,
            ready: HashMap::new(),
            ready_bytes: 0,
            losses: Losses::default(),
            bad_blocks: 0,
            closed: false,
            epoch,
        }
    }

    /// Something to do now, if there is anything.
    pub(crate) fn next_task(&mut self) -> Option<Task> {
        match self.choose()? {
            Choice::Postponed => self.postponed.pop().map(Task::Decode),
            Choice::Assemble => {
                let ticket = self.next_ticket;
                self.next_ticket += 1;
                self.assembling.insert(ticket);
                Some(Task::Assemble(ticket))
            }
            Choice::Decode { bytes } => {
                let next = self.schedule.next()?;
                self.decoding.insert((next.first, next.block));
                self.ahead.push_back((next.first, bytes));
                self.ahead_bytes += bytes;
                Some(Task::Decode(next))
            }
        }
    }

    /// Whether `next_task` would give one.
    pub(crate) fn has_task(&mut self) -> bool {
        self.choose().is_some()
    }

    fn choose(&mut self) -> Option<Choice> {
        if self.closed || self.next_ticket >= self.batches {
            return None;
        }
        if !self.postponed.is_empty() {
            return Some(Choice::Postponed);
        }
        let end = self.epoch.last_position(self.next_ticket);
        if self.may_prefetch() && self.decoded_up_to() > end {
            return Some(Choice::Assemble);
        }
        let next = self.schedule.peek()?;
        let bytes = self.block_bytes[next.block as usize];
        let needed_now = next.first <= end && self.may_prefetch();
        if !needed_now && self.ahead_bytes + bytes > self.limits.ahead_bytes && self.ahead_bytes > 0 {
            return None;
        }
        Some(Choice::Decode { bytes })
    }

    /// Whether closing is under way, so that workers leave.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether nothing is left to do: until the last batch is made, there may be something to help with.
    pub(crate) fn is_over(&self) -> bool {
        self.next_ticket >= self.batches && !self.is_busy()
    }

    /// Whether somebody is at work on a task.
    pub(crate) fn is_busy(&self) -> bool {
        !(self.decoding.is_empty() && self.assembling.is_empty())
    }

    fn may_prefetch(&self) -> bool {
        let waiting = self.next_ticket - self.next_out;
        let within_bytes = (waiting + 1) * self.batch_bytes <= self.limits.prefetch_bytes;
        let within_count = self.limits.prefetch_batches.is_none_or(|most| waiting < most);
        waiting < self.unbounded || (within_count && (within_bytes || self.limits.prefetch_batches.is_some()))
    }

    /// Every block whose first use lies before this position is decoded.
    fn decoded_up_to(&mut self) -> u64 {
        let scheduled = self.schedule.peek().map_or(u64::MAX, |next| next.first);
        self.decoding.first().map_or(scheduled, |&(first, _)| first.min(scheduled))
    }

    pub(crate) fn on_postponed(&mut self, used: BlockUse) {
        self.postponed.push(used);
    }

    pub(crate) fn on_decoded(&mut self, used: BlockUse, outcome: Result<Decoded>) -> Garbage {
        self.decoding.remove(&(used.first, used.block));
        if self.closed {
            return Garbage::default();
        }
        let rows = self.block_rows[used.block as usize];
        let (chunks, bad) = match outcome {
            Ok(Decoded::Rows(chunks)) => (chunks.into_iter().map(|chunk| Some(Arc::new(chunk))).collect(), None),
            Ok(Decoded::Skipped(error, stand_in)) => (Vec::new(), Some(Bad::Skipped(error, stand_in))),
            Err(error) => (Vec::new(), Some(Bad::Raised(error))),
        };
        self.bad_blocks += u64::from(bad.is_some());
        let chunks: Chunks = Arc::new(chunks);
        self.live_bytes += chunks.iter().flatten().map(|chunk| chunk.heap_bytes() as u64).sum::<u64>();
        let needed =
            (0..chunks.len() as u32).map(|index| self.chunk_rows.min(rows - index * self.chunk_rows)).collect();
        let releases: VecDeque<Release> = used.releases.into();
        if let Some(first) = releases.front() {
            self.due.push(Reverse((first.after, used.block)));
        }
        self.live.entry(used.block).or_default().push(Live { chunks, needed, releases, bad });
        self.forget_what_is_past()
    }

    /// What there is of `blocks`, newest use first where a block is live twice. Errors: one that cannot be read, where
    /// that is not passed over.
    pub(crate) fn view(&self, blocks: &[u32]) -> Result<Vec<BlockView>> {
        blocks.iter().map(|block| self.view_one(*block)).collect()
    }

    fn view_one(&self, block: u32) -> Result<BlockView> {
        let uses = self.live.get(&block).map_or(&[][..], Vec::as_slice);
        let Some(newest) = uses.last() else {
            return Err(Error::internal(format!("block {block} is needed but was not kept")));
        };
        match uses.iter().find_map(|live| live.bad.as_ref()) {
            Some(Bad::Raised(error)) => return Err(error.clone()),
            Some(Bad::Skipped(error, stand_in)) => return Ok(BlockView::Skipped(error.clone(), stand_in.clone())),
            None => {}
        }
        let mut chunks = newest.chunks.clone();
        for older in &uses[..uses.len() - 1] {
            for (chunk, fallback) in Arc::make_mut(&mut chunks).iter_mut().zip(older.chunks.iter()) {
                if chunk.is_none() {
                    chunk.clone_from(fallback);
                }
            }
        }
        Ok(BlockView::Rows(chunks))
    }

    pub(crate) fn on_assembled(&mut self, ticket: u64, outcome: Result<(Batch<S>, Losses)>) -> Garbage {
        self.assembling.remove(&ticket);
        if self.closed {
            return Garbage::default();
        }
        if let Ok((batch, _)) = &outcome {
            self.ready_bytes += bytes_of(batch);
        }
        self.ready.insert(ticket, outcome);
        let reached = self.epoch.batch(self.assembling.first().copied().unwrap_or(self.next_ticket)).start;
        while let Some(&(first, bytes)) = self.ahead.front() {
            if first > reached {
                break;
            }
            self.ahead.pop_front();
            self.ahead_bytes -= bytes;
        }
        self.forget_what_is_past()
    }

    fn forget_what_is_past(&mut self) -> Garbage {
        let mut garbage = Garbage::default();
        let oldest = self.assembling.first().copied().unwrap_or(self.next_ticket);
        let reached = if oldest >= self.batches { u64::MAX } else { self.epoch.batch(oldest).start };
        while let Some(&Reverse((after, block))) = self.due.peek() {
            if after > reached {
                break;
            }
            self.due.pop();
            self.release(block, reached, &mut garbage);
        }
        garbage
    }

    fn release(&mut self, block: u32, reached: u64, garbage: &mut Garbage) {
        let Some(uses) = self.live.get_mut(&block) else { return };
        for live in uses.iter_mut() {
            let mut progressed = false;
            while live.releases.front().is_some_and(|release| release.after <= reached) {
                let Some(release) = live.releases.pop_front() else { break };
                progressed = true;
                let mut row = release.rows.start;
                while row < release.rows.end && !live.chunks.is_empty() {
                    let index = (row / self.chunk_rows) as usize;
                    let end = release.rows.end.min((index as u32 + 1) * self.chunk_rows);
                    live.needed[index] = live.needed[index].saturating_sub(end - row);
                    if live.needed[index] == 0
                        && let Some(chunk) = Arc::make_mut(&mut live.chunks)[index].take()
                    {
                        self.live_bytes -= chunk.heap_bytes() as u64;
                        garbage.0.push(chunk);
                    }
                    row = end;
                }
            }
            if let (true, Some(next)) = (progressed, live.releases.front()) {
                self.due.push(Reverse((next.after, block)));
            }
        }
        uses.retain(|live| !live.releases.is_empty());
        if uses.is_empty() {
            self.live.remove(&block);
        }
    }

    /// The next batch in order if it is there; batches emptied by skipping are passed over. What was lost is counted here,
    /// in order, so that the batch at which it becomes too much does not depend on the workers.
    pub(crate) fn take_ready(&mut self) -> Option<Result<Batch<S>>> {
        while let Some(outcome) = self.ready.remove(&self.next_out) {
            self.next_out += 1;
            match outcome {
                Ok((batch, losses)) => {
                    self.ready_bytes -= bytes_of(&batch);
                    if let Err(error) = self.losses.add(losses, batch.rows, self.limits.skip_max) {
                        return Some(Err(error));
                    }
                    if batch.rows > 0 {
                        return Some(Ok(batch));
                    }
                }
                Err(error) => return Some(Err(error)),
            }
        }
        None
    }

    pub(crate) fn has_outcome(&self) -> bool {
        self.ready.contains_key(&self.next_out) || self.is_finished()
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.next_out >= self.batches
    }

    /// Whether so few batches wait that sleeping workers are to be woken. Waking one costs the consumer several
    /// microseconds, so that it is not done for every batch taken; what waits meanwhile is half of what may.
    pub(crate) fn has_room(&self) -> bool {
        let waiting = self.next_ticket - self.next_out;
        let few_bytes = 2 * waiting * self.batch_bytes <= self.limits.prefetch_bytes;
        waiting < self.unbounded || self.limits.prefetch_batches.map_or(few_bytes, |most| 2 * waiting <= most)
    }

    pub(crate) fn usage(&self) -> Usage {
        Usage {
            live_bytes: self.live_bytes,
            ready_bytes: self.ready_bytes,
            skipped_samples: self.losses.samples,
            skipped_batches: self.losses.batches,
            skipped_blocks: self.bad_blocks,
        }
    }

    pub(crate) fn close(&mut self) {
        self.closed = true;
        self.live.clear();
        self.ready.clear();
    }
}

fn bytes_of<S: AsRef<[u8]>>(batch: &Batch<S>) -> u64 {
    let sizes = batch.fields.iter().map(|field| match field {
        FieldData::Dense(slab) => slab.as_ref().len(),
        FieldData::Varying { offsets, bytes } => 8 * offsets.len() + bytes.len(),
    });
    sizes.sum::<usize>() as u64
}
