//! One batch: which samples, where they lie, and what to do about bad ones.

use super::Shared;
use super::bad_blocks::Losses;
use super::coordinator::BlockView;
use super::making::Making;
use crate::batch::{Batch, FieldData};
use crate::error::Place;
use crate::gather::{RowRef, gather_others};
use crate::memory::BatchMemory;
use crate::plan::SampleRef;
use crate::{Error, Result};

/// Buffers that a worker keeps from batch to batch.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scratch {
    samples: Vec<SampleRef>,
    /// Index into `blocks` by block number, valid where `blocks` confirms it.
    slot_of_block: Vec<u32>,
    blocks: Vec<u32>,
}

/// A batch, or one that several may work on.
pub(crate) enum Assembled<M: BatchMemory> {
    Whole(Batch<M::Slab>, Losses),
    InParts(Making<M::Piece>),
}

pub(crate) fn assemble<M: BatchMemory>(shared: &Shared<M>, ticket: u64, scratch: &mut Scratch) -> Result<Assembled<M>> {
    let epoch = &shared.job.epoch;
    scratch.samples.clear();
    epoch.resolve(&shared.job.plan, ticket, &mut scratch.samples);
    scratch.find_blocks();
    let views = shared.lock().view(&scratch.blocks)?;
    let mut losses = Losses::default();
    let found = scratch.locate(&views, shared.layout.chunk_rows(), &mut losses)?;
    if shared.layout.key().is_some() {
        let rows = found.len();
        drop(found);
        return Making::new(shared, ticket, scratch.clone(), views, rows).map(Assembled::InParts);
    }
    let located = || scratch.located(&views);
    let (rows, fields) = gather_shards(shared, &found, located, Vec::new())?;
    Ok(Assembled::Whole(Batch { rows, fields, position_after: epoch.position_after(ticket) }, losses))
}

/// The samples of each shard, and their fields shard by shard. `made` has what transforms made, in the same order; `located`
/// says which samples `found` are.
pub(crate) fn gather_shards<M: BatchMemory>(
    shared: &Shared<M>,
    found: &[RowRef<'_>],
    located: impl Fn() -> Vec<SampleRef>,
    made: Vec<M::Slab>,
) -> Result<(usize, Vec<FieldData<M::Slab>>)> {
    let job = &shared.job;
    let shards = job.epoch.shards().own().len();
    let rows = found.len() / shards;
    let mut made = made.into_iter();
    let mut fields = Vec::with_capacity(shards * shared.layout.slots().len());
    for shard in 0..shards {
        let first = shard * rows;
        let place = |row: usize, field: usize| match located().get(first + row) {
            Some(sample) => job.dataset.place(sample.block as usize, u64::from(sample.row), field),
            None => Place::default(),
        };
        let part = &found[first..first + rows];
        fields.extend(gather_others(&shared.layout, &job.delivery, part, &job.memory, &mut made, place)?);
    }
    Ok((rows, fields))
}

impl Scratch {
    /// Collects the distinct blocks of the batch and numbers them.
    fn find_blocks(&mut self) {
        self.blocks.clear();
        for sample in &self.samples {
            let block = sample.block as usize;
            if block >= self.slot_of_block.len() {
                self.slot_of_block.resize(block + 1, u32::MAX);
            }
            let slot = self.slot_of_block[block] as usize;
            if self.blocks.get(slot) != Some(&sample.block) {
                self.slot_of_block[block] = self.blocks.len() as u32;
                self.blocks.push(sample.block);
            }
        }
    }

    /// Finds every sample's chunk. Samples of a bad block are left out, or give their place to one that stands in.
    pub(crate) fn locate<'a>(
        &self,
        views: &'a [BlockView],
        chunk_rows: usize,
        losses: &mut Losses,
    ) -> Result<Vec<RowRef<'a>>> {
        // Full chunks hold a power of two of rows.
        let (shift, mask) = (chunk_rows.trailing_zeros(), chunk_rows - 1);
        let mut found = Vec::with_capacity(self.samples.len());
        for sample in &self.samples {
            let row = sample.row as usize;
            match &views[self.slot_of_block[sample.block as usize] as usize] {
                BlockView::Rows(chunks) => {
                    let chunk = chunks.get(row >> shift).and_then(Option::as_deref).ok_or_else(|| {
                        Error::internal(format!("row {row} of block {} was dropped too early", sample.block))
                    })?;
                    found.push(RowRef { chunk, row: row & mask });
                }
                BlockView::Skipped(why, stand_in) => {
                    losses.one(why);
                    if let Some(other) = stand_in {
                        let row = row % other.rows as usize;
                        found.push(RowRef { chunk: &other.chunks[row / chunk_rows], row: row % chunk_rows });
                    }
                }
            }
        }
        Ok(found)
    }

    /// Which sample each of those is that `locate` finds.
    pub(crate) fn located(&self, views: &[BlockView]) -> Vec<SampleRef> {
        let found = |sample: &SampleRef| match &views[self.slot_of_block[sample.block as usize] as usize] {
            BlockView::Rows(_) => Some(*sample),
            BlockView::Skipped(_, other) => {
                other.as_ref().map(|other| SampleRef { block: other.block, row: sample.row % other.rows })
            }
        };
        self.samples.iter().filter_map(found).collect()
    }
}
