//! One batch: which samples, where they lie, and what to do about bad ones.

use std::sync::Arc;

use super::Shared;
use super::coordinator::BlockView;
use crate::batch::Batch;
use crate::gather::{RowRef, gather};
use crate::memory::BatchMemory;
use crate::plan::SampleRef;
use crate::rows::Chunk;
use crate::{Error, Result};

/// Buffers that a worker keeps from batch to batch.
#[derive(Default)]
pub(crate) struct Scratch {
    samples: Vec<SampleRef>,
    /// Index into `blocks` by block number, valid where `blocks` confirms it.
    slot_of_block: Vec<u32>,
    blocks: Vec<u32>,
}

pub(crate) fn assemble<M: BatchMemory>(
    shared: &Shared<M>,
    ticket: u64,
    scratch: &mut Scratch,
) -> Result<Batch<M::Slab>> {
    let epoch = &shared.job.epoch;
    scratch.samples.clear();
    epoch.resolve(&shared.job.plan, ticket, &mut scratch.samples);
    scratch.find_blocks();
    let (views, skips) = {
        let state = shared.lock();
        (state.view(&scratch.blocks), state.skips())
    };
    let found = scratch.locate(&views, shared.layout.chunk_rows(), skips, epoch.world() > 1)?;
    let fields = gather(&shared.layout, &found, &shared.job.memory)?;
    Ok(Batch { rows: found.len(), fields, position_after: epoch.position_after(ticket) })
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

    /// Finds every sample's chunk. Samples of a failed block raise, are left out, or (with several ranks, whose
    /// batches must stay equal) give their place to the nearest good sample of the batch.
    fn locate<'a>(
        &self,
        views: &'a [BlockView],
        chunk_rows: usize,
        skips: bool,
        fill: bool,
    ) -> Result<Vec<RowRef<'a>>> {
        let mut found = Vec::with_capacity(self.samples.len());
        let mut holes = 0;
        for sample in &self.samples {
            match &views[self.slot_of_block[sample.block as usize] as usize] {
                Ok(chunks) => {
                    let row = sample.row as usize;
                    let chunk = chunks.get(row / chunk_rows).and_then(Option::<Arc<Chunk>>::as_ref);
                    let chunk = chunk.ok_or_else(|| {
                        Error::internal(format!("row {row} of block {} was dropped too early", sample.block))
                    })?;
                    let here = RowRef { chunk, row: row % chunk_rows };
                    if fill {
                        found.extend(std::iter::repeat_n(here, holes));
                        holes = 0;
                    }
                    found.push(here);
                }
                Err(error) if !skips => return Err(error.clone()),
                Err(_) if fill => match found.last().copied() {
                    Some(previous) => found.push(previous),
                    None => holes += 1,
                },
                Err(_) => {}
            }
        }
        if fill && holes > 0 {
            let message = "every sample of a batch was bad, so no good one could take their place on this rank. \
                           Repair the files or lower world_size";
            return Err(Error::corrupt(message));
        }
        Ok(found)
    }
}
