//! A batch whose values are made one by one (pictures), cut into parts that whoever has time fills: its samples are made by
//! several workers at once, so that the next batch is ready as soon as may be. A sample that cannot be made is lost alone.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Shared;
use super::assemble::{Scratch, gather_shards};
use super::bad_blocks::Losses;
use super::coordinator::BlockView;
use super::worker::caught;
use crate::batch::Batch;
use crate::gather::RowRef;
use crate::memory::BatchMemory;
use crate::plan::SampleRef;
use crate::rows::RowLayout;
use crate::{Error, ErrorKind, Result};

/// Bytes of the values of one part: few, so that nobody waits long for the last one; one picture, or several small ones.
const PART_BYTES_AIM: usize = 64 << 10;
const PART_ROWS_MAX: usize = 16;

pub(crate) struct Making<P> {
    pub(crate) ticket: u64,
    scratch: Scratch,
    views: Vec<BlockView>,
    /// Which sample each row is.
    samples: Vec<SampleRef>,
    progress: Mutex<Progress<P>>,
}

struct Progress<P> {
    /// Last part first.
    todo: Vec<Part<P>>,
    done: Vec<Part<P>>,
    parts: usize,
    /// Rows that could not be made, the first reason of each.
    failed: BTreeMap<usize, Failure>,
}

/// The values of some rows of one field of one shard.
struct Part<P> {
    shard: usize,
    field: usize,
    rows: Range<usize>,
    memory: P,
}

/// What one hand has read of the file, used again for each value.
#[derive(Default)]
struct Read {
    encoded: Vec<u8>,
    hint: Vec<u8>,
}

enum Failure {
    /// The row is left out or replaced.
    Bad(Error),
    /// The batch cannot be handed out.
    Fatal(Error),
}

impl<P: AsMut<[u8]>> Making<P> {
    /// Of the samples that `scratch` has, of which `rows` are found in `views`.
    pub(crate) fn new<M: BatchMemory<Piece = P>>(
        shared: &Shared<M>,
        ticket: u64,
        scratch: Scratch,
        views: Vec<BlockView>,
        rows: usize,
    ) -> Result<Self> {
        let memory = &shared.job.memory;
        let shards = shared.job.epoch.shards().own().len();
        let rows = rows / shards;
        let mut todo = Vec::new();
        for (shard, (field, width)) in (0..shards).flat_map(|shard| shared.layout.made().map(move |made| (shard, made)))
        {
            let slab = memory.field(field, rows, width * rows)?;
            let count = (PART_BYTES_AIM / width.max(1)).clamp(1, PART_ROWS_MAX);
            let pieces = memory.cut(slab, count * width).into_iter().enumerate();
            let part = |(number, memory): (usize, P)| {
                let first = number * count;
                let rows = shard * rows + first..shard * rows + (first + count).min(rows);
                Part { shard, field, rows, memory }
            };
            todo.extend(pieces.map(part));
        }
        todo.reverse();
        let progress = Progress { parts: todo.len(), todo, done: Vec::new(), failed: BTreeMap::new() };
        let samples = scratch.located(&views);
        Ok(Self { ticket, scratch, views, samples, progress: Mutex::new(progress) })
    }

    /// Whether nothing is left to begin.
    pub(crate) fn is_taken(&self) -> bool {
        self.progress().todo.is_empty()
    }

    fn progress(&self) -> MutexGuard<'_, Progress<P>> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes values until none is left to begin, or the epoch is closed. The batch, if this made the last one of it.
    pub(crate) fn work<M: BatchMemory<Piece = P>>(
        &self,
        shared: &Shared<M>,
    ) -> Option<Result<(Batch<M::Slab>, Losses)>> {
        let mut losses = Losses::default();
        let found = match self.scratch.locate(&self.views, shared.layout.chunk_rows(), &mut losses) {
            Ok(found) => found,
            Err(error) => return Some(Err(error)),
        };
        let mut read = Read::default();
        loop {
            if shared.lock().is_closed() {
                return None;
            }
            let mut part = self.progress().todo.pop()?;
            let failed = self.fill(shared, &found, &mut part, &mut read);
            let mut progress = self.progress();
            for (row, failure) in failed {
                progress.failed.entry(row).or_insert(failure);
            }
            progress.done.push(part);
            if progress.done.len() == progress.parts {
                let (done, failed) = (std::mem::take(&mut progress.done), std::mem::take(&mut progress.failed));
                drop(progress);
                return Some(caught(|| self.finish(shared, found, done, failed, losses)));
            }
        }
    }

    fn fill<M: BatchMemory<Piece = P>>(
        &self,
        shared: &Shared<M>,
        found: &[RowRef<'_>],
        part: &mut Part<P>,
        read: &mut Read,
    ) -> Vec<(usize, Failure)> {
        let rows = part.rows.clone();
        let width = part.memory.as_mut().len() / rows.len().max(1);
        let mut failed = Vec::new();
        for (row, into) in rows.zip(part.memory.as_mut().chunks_exact_mut(width.max(1))) {
            if let Err(failure) = self.make(shared, found, (row, part.field), into, read) {
                failed.push((row, failure));
            }
        }
        failed
    }

    fn make<M: BatchMemory>(
        &self,
        shared: &Shared<M>,
        found: &[RowRef<'_>],
        (row, field): (usize, usize),
        into: &mut [u8],
        Read { encoded, hint }: &mut Read,
    ) -> std::result::Result<(), Failure> {
        let (job, sample) = (&shared.job, self.samples[row]);
        if let Some(bad) = job.quarantine.as_ref().and_then(|quarantine| quarantine.listed_sample(sample)) {
            return Err(Failure::Bad(bad));
        }
        let (block, in_block) = (sample.block as usize, u64::from(sample.row));
        let made = caught(|| {
            job.dataset.hint(block, in_block, field, hint);
            found[row].make(&shared.layout, field, into, hint, || {
                let Some(range) = job.dataset.encoded_at(block, in_block, field) else { return Ok(&[]) };
                job.storage.read_into(job.dataset.sources(), range, encoded)?;
                Ok(encoded)
            })
        });
        let Err(error) = made else { return Ok(()) };
        let error = error.in_value(job.dataset.place(block, in_block, field));
        if !job.limits.on_error.skips(error.kind()) {
            return Err(Failure::Fatal(error));
        }
        if let Some(quarantine) = &job.quarantine {
            quarantine.add_sample(sample, &error).map_err(Failure::Fatal)?;
        }
        Err(Failure::Bad(error))
    }

    /// Puts the batch together. Rows that could not be made are left out, or with several ranks repeat another.
    fn finish<M: BatchMemory<Piece = P>>(
        &self,
        shared: &Shared<M>,
        mut found: Vec<RowRef<'_>>,
        mut done: Vec<Part<P>>,
        failed: BTreeMap<usize, Failure>,
        mut losses: Losses,
    ) -> Result<(Batch<M::Slab>, Losses)> {
        let memory = &shared.job.memory;
        let mut bad = Vec::with_capacity(failed.len());
        for (row, failure) in failed {
            match failure {
                Failure::Bad(error) => losses.one(&error),
                Failure::Fatal(error) => return Err(error),
            }
            bad.push(row);
        }
        let epoch = &shared.job.epoch;
        let shards = epoch.shards().own().len();
        let rows = if epoch.world() > 1 { replaced(found.len(), &bad, &losses)? } else { left(found.len(), &bad) };
        done.sort_by_key(|part| (part.shard, part.field, part.rows.start));
        let mut parts = done.into_iter().peekable();
        let mut made = Vec::new();
        for (shard, (field, _)) in (0..shards).flat_map(|shard| shared.layout.made().map(move |made| (shard, made))) {
            let mut pieces = Vec::new();
            while let Some(part) = parts.next_if(|part| (part.shard, part.field) == (shard, field)) {
                pieces.push(part.memory);
            }
            made.push(memory.join(pieces)?);
        }
        if !bad.is_empty() {
            made = picked(memory, &shared.layout, &made, shards, found.len() / shards, &rows)?;
            found = rows.iter().map(|&row| found[row]).collect();
        }
        let located = || rows.iter().map(|&row| self.samples[row]).collect();
        let (rows, fields) = gather_shards(shared, &found, located, made)?;
        Ok((Batch { rows, fields, position_after: epoch.position_after(self.ticket) }, losses))
    }
}

/// The rows that are not bad.
fn left(count: usize, bad: &[usize]) -> Vec<usize> {
    (0..count).filter(|row| bad.binary_search(row).is_err()).collect()
}

/// Each row, or for a bad one the last good one before it (the first good one, if there is none before).
fn replaced(count: usize, bad: &[usize], losses: &Losses) -> Result<Vec<usize>> {
    let Some(mut good) = (0..count).find(|row| bad.binary_search(row).is_err()) else {
        if count == 0 {
            return Ok(Vec::new());
        }
        let why = losses.why.clone().unwrap_or_else(|| Error::new(ErrorKind::Corrupt, "no sample can be had"));
        let message = format!(
            "{} And so are all samples of the batch: no good one could take the places that several ranks must fill. Repair \
             the files, or read them at one rank",
            why.message()
        );
        return Err(why.with_message(message));
    };
    Ok((0..count)
        .map(|row| {
            if bad.binary_search(&row).is_err() {
                good = row;
            }
            good
        })
        .collect())
}

/// The made fields of `rows`, shard by shard; `slabs` has those of all rows, `count` to a shard.
fn picked<M: BatchMemory>(
    memory: &M,
    layout: &RowLayout,
    slabs: &[M::Slab],
    shards: usize,
    count: usize,
    rows: &[usize],
) -> Result<Vec<M::Slab>> {
    let fields: Vec<(usize, usize)> = layout.made().collect();
    let rows_of_shard = rows.len() / shards;
    let mut picked = Vec::with_capacity(slabs.len());
    for shard in 0..shards {
        let rows = &rows[shard * rows_of_shard..(shard + 1) * rows_of_shard];
        for (place, &(field, width)) in fields.iter().enumerate() {
            let mut others = memory.field(field, rows.len(), width * rows.len())?;
            for (&row, into) in rows.iter().zip(others.as_mut().chunks_exact_mut(width.max(1))) {
                let (from, row) = (&slabs[row / count * fields.len() + place], row % count);
                into.copy_from_slice(&from.as_ref()[row * width..(row + 1) * width]);
            }
            picked.push(others);
        }
    }
    Ok(picked)
}
