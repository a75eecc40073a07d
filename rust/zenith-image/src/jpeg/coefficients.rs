//! All coefficients of a picture that comes in several scans.

use zenith_data::Result;

use super::block::Block;
use super::frame::Frame;
use super::kernels::Kernels;
use super::plan::Plan;
use super::planes::Planes;
use super::sink::{Sink, Target};

/// Blocks of all columns, for a refinement is read by what is known of each block; of rows only those down to the last that
/// is wanted.
#[derive(Debug, Default)]
pub(super) struct Coefficients {
    blocks: Vec<Block>,
    /// Whether a block has more than its DC value. Runs of blocks that have not are passed over by looking here, so that a
    /// small file cannot make long work of a large picture.
    busy: Vec<bool>,
    components: Vec<Stored>,
    row: usize,
}

/// Where the blocks of a component are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stored {
    start: usize,
    /// Blocks across, with those that only fill MCUs.
    stride: usize,
    /// Rows that are kept.
    pub(super) rows: usize,
}

impl Coefficients {
    pub(super) fn prepare(&mut self, frame: &Frame, plan: &Plan) {
        self.components.clear();
        self.row = plan.rows.start;
        let mut start = 0;
        for component in &frame.components {
            let stride = frame.mcus_wide * component.horizontal;
            let rows = plan.rows.end * component.vertical;
            self.components.push(Stored { start, stride, rows });
            start += stride * rows;
        }
        self.blocks.clear();
        self.blocks.resize(start, [0; 64]);
        self.busy.clear();
        self.busy.resize(start, false);
    }

    /// Bytes that are kept for the next picture.
    pub(super) fn capacity(&self) -> usize {
        self.blocks.capacity() * size_of::<Block>()
    }

    pub(super) fn component(&self, index: usize) -> Stored {
        self.components[index]
    }

    #[inline(always)]
    pub(super) fn block(&mut self, stored: Stored, across: usize, down: usize) -> (&mut Block, &mut bool) {
        let place = stored.start + down * stored.stride + across;
        (&mut self.blocks[place], &mut self.busy[place])
    }

    /// The samples of the next row of MCUs that is wanted.
    #[inline(always)]
    pub(super) fn read_row<K: Kernels>(
        &mut self,
        frame: &Frame,
        plan: &Plan,
        planes: &Planes,
        sink: &mut Sink<'_, K>,
    ) -> Result<()> {
        for (index, component) in frame.components.iter().enumerate() {
            let (stored, plane, size) =
                (self.components[index], planes.components[index], plan.components[index].block);
            for down in 0..component.vertical {
                let first = plan.columns.start * component.horizontal;
                let from = stored.start + (self.row * component.vertical + down) * stored.stride + first;
                let count = plan.columns.len() * component.horizontal;
                let mut target = Target {
                    at: plane.mcu_row(self.row) + down * size * plane.stride,
                    stride: plane.stride,
                    size,
                    component: index,
                };
                for (block, busy) in self.blocks[from..from + count].iter().zip(&self.busy[from..from + count]) {
                    sink.block().copy_from_slice(block);
                    sink.push(target, if *busy { 64 } else { 1 });
                    target.at += size;
                }
            }
        }
        sink.finish();
        self.row += 1;
        Ok(())
    }
}
