//! Which samples a random split draws, as a function: no list of them is kept.

use std::ops::Range;

use crate::plan::permute::LEN_MAX;
use crate::plan::{Permutation, Purpose, absorb, epoch_key};
use crate::{Error, Result};

/// Samples that are decided together.
const CHUNK: usize = 256;

/// Part 0 or 1 of a split.
#[derive(Debug)]
pub(super) struct Draw {
    /// One for every `LEN_MAX` samples.
    segments: Vec<Segment>,
    part: u32,
}

/// Sample `i` of a segment is of part 0 if and only if `permutation.map(i) < drawn`, so that exactly `drawn` are.
#[derive(Debug)]
struct Segment {
    permutation: Permutation,
    drawn: u32,
}

impl Draw {
    pub(super) fn new(samples: u64, fraction: f64, seed: u64, part: u32) -> Result<Self> {
        if !(0.0..=1.0).contains(&fraction) {
            return Err(Error::invalid(format!("the fraction of a split must be from 0 to 1, got {fraction}")));
        }
        if part > 1 {
            return Err(Error::invalid(format!("a split has parts 0 and 1, got {part}")));
        }
        let key = epoch_key(seed, 0, Purpose::Split);
        let drawn_below = |sample: u64| (fraction * sample as f64).round() as u64;
        let segments = (0..samples.div_ceil(LEN_MAX)).map(|number| {
            let (start, end) = (number * LEN_MAX, samples.min((number + 1) * LEN_MAX));
            let drawn = drawn_below(end).saturating_sub(drawn_below(start)).min(end - start);
            Segment { permutation: Permutation::new(end - start, absorb(key, number)), drawn: drawn as u32 }
        });
        Ok(Self { segments: segments.collect(), part })
    }

    /// Calls `each` with the runs of chosen samples among `count` samples from `first` on, counted from `first`.
    pub(super) fn for_each_run(
        &self,
        first: u64,
        count: u32,
        mut each: impl FnMut(Range<u32>) -> Result<()>,
    ) -> Result<()> {
        let mut places = [0; CHUNK];
        let mut run = 0..0;
        let mut done = 0;
        while done < count {
            let sample = first + u64::from(done);
            let (number, start) = (sample / LEN_MAX, (sample % LEN_MAX) as u32);
            let Some(segment) = self.segments.get(number as usize) else {
                return Err(Error::internal("a split was asked for a sample that it does not have"));
            };
            let step = (count - done).min(CHUNK as u32).min((LEN_MAX - u64::from(start)) as u32);
            let places = &mut places[..step as usize];
            segment.permutation.map_range(start, places);
            for (row, place) in (done..).zip(places.iter()) {
                if (*place < segment.drawn) != (self.part == 0) {
                    continue;
                }
                if run.end != row {
                    let before = std::mem::replace(&mut run, row..row);
                    if !before.is_empty() {
                        each(before)?;
                    }
                }
                run.end = row + 1;
            }
            done += step;
        }
        if run.is_empty() { Ok(()) } else { each(run) }
    }
}
