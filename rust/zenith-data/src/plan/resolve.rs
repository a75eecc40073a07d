//! Positions to samples, many at a time: the hot path of the plan.

use super::{Plan, SampleRef};

/// How many samples of a window are mapped at once.
const CHUNK: usize = 256;

impl Plan {
    /// Appends the samples at `start`, `start + step`, ... (`count` of them; a step of 0 counts as 1). Positions from
    /// `len` on begin again at position 0. Appends nothing if there is no sample.
    pub fn resolve(&self, start: u64, step: u64, count: usize, out: &mut Vec<SampleRef>) {
        if self.is_empty() {
            return;
        }
        let step = step.max(1);
        let inside = self.len().saturating_sub(start).div_ceil(step).min(count as u64) as usize;
        let begin = out.len();
        out.resize(begin + inside, SampleRef::default());
        if let Some(given) = &self.given {
            let places = given[(start as usize).min(given.len())..].iter().step_by(step as usize);
            for (sample, &place) in out[begin..].iter_mut().zip(places) {
                *sample = self.sequence.sample_at(place);
            }
        } else if self.order.shuffle {
            self.resolve_lanes(start, step, &mut out[begin..]);
        } else {
            self.resolve_in_file_order(start, step, &mut out[begin..]);
        }
        for turn in inside..count {
            let position = (u128::from(start) + u128::from(step) * turn as u128) % u128::from(self.len());
            out.extend(self.sample(position as u64));
        }
    }

    fn resolve_in_file_order(&self, start: u64, step: u64, out: &mut [SampleRef]) {
        let (mut block, mut span) = (0, 0..0);
        let mut place = start;
        for sample in out {
            if !span.contains(&place) {
                let index = self.sequence.index_at(place);
                (block, span) = (self.sequence.block(index), self.sequence.span(index));
            }
            *sample = SampleRef { block, row: (place - span.start) as u32 };
            place = place.saturating_add(step);
        }
    }

    /// Every `period`-th position is of the same lane, and there the offset grows by `stride`.
    fn resolve_lanes(&self, start: u64, step: u64, out: &mut [SampleRef]) {
        let shared_bits = step.trailing_zeros().min(self.lane_bits);
        let period = self.lanes.len() >> shared_bits;
        let stride = step >> shared_bits;
        let mut mapped = [0; CHUNK];
        for first in 0..period.min(out.len()) {
            let position = start + step * first as u64;
            let lane = position & (self.lanes.len() as u64 - 1);
            self.resolve_lane(lane, position >> self.lane_bits, stride, &mut out[first..], period, &mut mapped);
        }
    }

    /// Fills every `period`-th of `out` with the samples of one lane at `offset`, `offset + stride`, ...
    fn resolve_lane(
        &self,
        number: u64,
        mut offset: u64,
        stride: u64,
        out: &mut [SampleRef],
        period: usize,
        mapped: &mut [u32; CHUNK],
    ) {
        let lane = &self.lanes[number as usize];
        let mut slots = out.iter_mut().step_by(period);
        while slots.len() > 0 {
            let window = lane.window_at(offset);
            let range = lane.window(window);
            let (base, places) = (lane.place(range.start), lane.places_of(range.clone()));
            let index = self.sequence.index_at(places.start);
            let span = self.sequence.span(index);
            let permutation = self.permutation(number, window, range.end - range.start);
            let mut run = ((range.end - offset).div_ceil(stride)).min(slots.len() as u64);
            // A stride beyond the window means a run of one, so its value does not matter.
            let narrow_stride = u32::try_from(stride).unwrap_or(0);
            while run > 0 {
                let part = run.min(CHUNK as u64) as usize;
                permutation.map_strided((offset - range.start) as u32, narrow_stride, &mut mapped[..part]);
                if places.end <= span.end {
                    let (block, base_row) = (self.sequence.block(index), (base - span.start) as u32);
                    locate_in_block(block, base_row, lane.backward, &mapped[..part], slots.by_ref());
                } else {
                    self.locate(base, lane.backward, &mapped[..part], slots.by_ref());
                }
                offset = offset.saturating_add(stride.saturating_mul(part as u64));
                run -= part as u64;
            }
        }
    }

    /// `mapped` counts from the place `base` of the window's first offset, in the lane's direction.
    #[inline]
    fn locate<'a>(&self, base: u64, backward: bool, mapped: &[u32], slots: impl Iterator<Item = &'a mut SampleRef>) {
        if backward {
            for (step, slot) in mapped.iter().zip(slots) {
                *slot = self.sequence.sample_at(base - u64::from(*step));
            }
        } else {
            for (step, slot) in mapped.iter().zip(slots) {
                *slot = self.sequence.sample_at(base + u64::from(*step));
            }
        }
    }
}

/// The same for a window that lies in one block, where no search is needed; its first offset is at `base_row`.
#[inline]
fn locate_in_block<'a>(
    block: u32,
    base_row: u32,
    backward: bool,
    mapped: &[u32],
    slots: impl Iterator<Item = &'a mut SampleRef>,
) {
    for (step, slot) in mapped.iter().zip(slots) {
        let row = if backward { base_row.wrapping_sub(*step) } else { base_row.wrapping_add(*step) };
        *slot = SampleRef { block, row };
    }
}
