//! A sequential scan of all components: samples come straight from its bits, one row of MCUs after the other.

use std::ops::Range;

use zenith_data::{Error, Result};

use super::ahead::{Ahead, From};
use super::block::{Meaningless, read_block, read_dc, skip_block};
use super::boundaries::{Boundaries, McuTables};
use super::cursor::Cursor;
use super::frame::{Frame, MCU_BLOCKS_MAX};
use super::huffman::Table;
use super::index::{GROUP_MCUS, Group, Index};
use super::kernels::Kernels;
use super::markers::{Scan, ScanComponent};
use super::plan::Plan;
use super::planes::Planes;
use super::sink::{Sink, Target};

/// A block of an MCU.
#[derive(Clone, Copy)]
pub(super) struct McuBlock<'a> {
    dc: &'a Table,
    ac: &'a Table,
    /// Place in the scan, which numbers the predictors.
    place: usize,
    /// Where its samples go in the first MCU of a row.
    target: Target,
    /// How much further they go in the next MCU.
    step: usize,
}

pub(super) struct Sequential<'a> {
    cursor: Cursor<'a>,
    blocks: Vec<McuBlock<'a>>,
    mcus_wide: usize,
    columns: Range<usize>,
    /// Number of the MCU at which the cursor is.
    at: usize,
    /// The row of MCUs that comes next.
    row: usize,
    ahead: Option<Ahead<'a>>,
    /// Places at which reading can begin, of each row as many; or none.
    groups: &'a [Group],
}

impl<'a> Sequential<'a> {
    pub(super) fn new(
        frame: &Frame,
        plan: &Plan,
        scan: &Scan,
        planes: &Planes,
        (dc, ac): (&'a mut [Table; 4], &'a mut [Table; 4]),
        mut cursor: Cursor<'a>,
        (boundaries, groups, index): (&'a mut Boundaries, &'a mut Vec<Group>, Option<Index<'a>>),
    ) -> Result<Self> {
        let skips = plan.columns != (0..frame.mcus_wide) || plan.rows.start > 0;
        let only_dc = |known: &ScanComponent| plan.components[known.index].block == 1;
        for known in &scan.components {
            if skips || only_dc(known) {
                ac[known.ac_table].prepare_skip(false);
            }
        }
        let index = index.filter(|_| cursor.interval == 0);
        index.map(|index| index.groups(groups)).unwrap_or_else(|| groups.clear());
        if groups.len() != frame.mcus_wide.div_ceil(GROUP_MCUS) * frame.mcus_high {
            groups.clear();
        }
        // Blocks of which little is wanted are found ahead; others are found as fast by reading them.
        let rows_ahead = if scan.components.iter().any(only_dc) { plan.rows.end } else { plan.rows.start };
        let known = match index {
            Some(Index::Blocks(lengths)) => Some(lengths),
            _ => None,
        };
        let search = known.is_none() && groups.is_empty() && Ahead::is_worth(&cursor);
        let ahead = cursor.interval == 0 && rows_ahead > 0 && (known.is_some() || search);
        if ahead && search {
            for known in &scan.components {
                dc[known.dc_table].prepare_skip(true);
                ac[known.ac_table].prepare_skip(false);
            }
        }
        let (dc, ac) = (&*dc, &*ac);
        let mut blocks = Vec::with_capacity(MCU_BLOCKS_MAX);
        for (place, known) in scan.components.iter().enumerate() {
            let (component, scaled) = (&frame.components[known.index], &plan.components[known.index]);
            let plane = &planes.components[known.index];
            for (down, across) in (0..component.vertical).flat_map(|v| (0..component.horizontal).map(move |h| (v, h))) {
                blocks.push(McuBlock {
                    dc: &dc[known.dc_table],
                    ac: &ac[known.ac_table],
                    place,
                    target: Target {
                        at: (down * plane.stride + across) * scaled.block,
                        stride: plane.stride,
                        size: scaled.block,
                        component: known.index,
                    },
                    step: plane.mcu_width,
                });
            }
        }
        if blocks.len() > MCU_BLOCKS_MAX {
            let message = format!("damaged JPEG: an MCU of {} blocks; there may be {MCU_BLOCKS_MAX}", blocks.len());
            return Err(Error::corrupt(message).at_offset(scan.data as u64));
        }
        let tables = || McuTables::new(blocks.iter().map(|block: &McuBlock<'_>| (block.dc, block.ac)));
        let from = match known {
            Some(lengths) => Some(From::Known(lengths)),
            None => ahead.then(tables).flatten().map(From::Search),
        };
        let counts = (blocks.len(), frame.mcus_wide * frame.mcus_high, frame.mcus_wide * rows_ahead);
        let ahead = from.filter(|_| ahead).map(|from| Ahead::new(boundaries, from, counts, &cursor));
        let first = cursor.jump(plan.rows.start * frame.mcus_wide + plan.columns.start)?;
        Ok(Self {
            cursor,
            blocks,
            mcus_wide: frame.mcus_wide,
            columns: plan.columns.clone(),
            at: first,
            row: plan.rows.start,
            ahead,
            groups,
        })
    }

    /// The samples of the next row of MCUs that is wanted; the rows above it are passed over.
    #[inline(always)]
    pub(super) fn read_row<K: Kernels>(&mut self, planes: &Planes, sink: &mut Sink<'_, K>) -> Result<()> {
        self.skip_to(self.row * self.mcus_wide + self.columns.start)?;
        self.read(planes, sink)?;
        sink.finish();
        self.at += self.columns.len();
        self.row += 1;
        Ok(())
    }

    #[inline(always)]
    fn read<K: Kernels>(&mut self, planes: &Planes, sink: &mut Sink<'_, K>) -> Result<()> {
        let mut cursor = self.cursor.clone();
        let mut targets = [Target::default(); MCU_BLOCKS_MAX];
        for (target, block) in targets.iter_mut().zip(&self.blocks) {
            *target = block.target;
            target.at += planes.components[block.target.component].mcu_row(self.row);
        }
        for _ in self.columns.clone() {
            cursor.next_mcu()?;
            let starts = self.ahead.as_mut().and_then(|ahead| ahead.mcu(&cursor));
            for (number, (target, block)) in targets.iter_mut().zip(&self.blocks).enumerate() {
                let predictor = &mut cursor.carried.predictors[block.place & 3];
                if let Some(starts) = &starts {
                    cursor.bits.seek(starts.of(number));
                }
                let read = if target.size == 1 {
                    let read = match starts {
                        Some(_) => read_dc(&mut cursor.bits, block.dc, predictor),
                        None => skip_block(&mut cursor.bits, block.dc, block.ac, predictor),
                    };
                    read.map(|()| {
                        sink.block()[0] = *predictor as i16;
                        1
                    })
                } else {
                    read_block(&mut cursor.bits, block.dc, block.ac, predictor, sink.block())
                };
                match read {
                    Ok(end) => sink.push(*target, end),
                    Err(Meaningless) => return Err(cursor.error()),
                }
                target.at += block.step;
            }
            if let Some(starts) = &starts {
                cursor.bits.seek(starts.of(self.blocks.len()));
            }
        }
        cursor.check()?;
        self.cursor = cursor;
        Ok(())
    }

    /// Passes over the MCUs before `wanted`, from the last known place on.
    #[inline(always)]
    fn skip_to(&mut self, wanted: usize) -> Result<()> {
        if self.at >= wanted {
            return Ok(());
        }
        let mut cursor = self.cursor.clone();
        let (row, column) = (wanted / self.mcus_wide, wanted % self.mcus_wide / GROUP_MCUS);
        let known = row * self.mcus_wide + column * GROUP_MCUS;
        if let Some(group) = self.groups.get(row * self.mcus_wide.div_ceil(GROUP_MCUS) + column)
            && known > self.at
        {
            cursor.seek(group.bit, group.predictors);
            self.at = known;
        }
        for _ in self.at..wanted {
            cursor.next_mcu()?;
            let starts = self.ahead.as_mut().and_then(|ahead| ahead.mcu(&cursor));
            for (number, block) in self.blocks.iter().enumerate() {
                let predictor = &mut cursor.carried.predictors[block.place & 3];
                let passed = match &starts {
                    Some(starts) => {
                        cursor.bits.seek(starts.of(number));
                        read_dc(&mut cursor.bits, block.dc, predictor)
                    }
                    None => skip_block(&mut cursor.bits, block.dc, block.ac, predictor),
                };
                if let Err(Meaningless) = passed {
                    return Err(cursor.error());
                }
            }
            if let Some(starts) = &starts {
                cursor.bits.seek(starts.of(self.blocks.len()));
            }
        }
        cursor.check()?;
        (self.cursor, self.at) = (cursor, wanted);
        Ok(())
    }
}
