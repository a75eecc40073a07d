//! Takes blocks of coefficients and leaves samples.

use super::block::Block;
use super::idct::{self, Factors};
use super::kernels::Kernels;

/// Where the samples of a block go, and how they are made.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Target {
    pub(super) at: usize,
    pub(super) stride: usize,
    /// Samples across.
    pub(super) size: usize,
    /// Which component's factors.
    pub(super) component: usize,
}

/// Blocks of 8 × 8 samples are transformed two at a time, because vectors hold two rows: the first waits for the second.
#[derive(Debug)]
pub(super) struct Sink<'a, K> {
    kernels: K,
    factors: &'a [Factors; 4],
    samples: &'a mut [u8],
    slots: [Block; 2],
    waiting: Option<Target>,
}

impl<'a, K: Kernels> Sink<'a, K> {
    pub(super) fn new(kernels: K, factors: &'a [Factors; 4], samples: &'a mut [u8]) -> Self {
        Self { kernels, factors, samples, slots: [[0; 64]; 2], waiting: None }
    }

    /// Zeros for the coefficients of the next block.
    #[inline(always)]
    pub(super) fn block(&mut self) -> &mut Block {
        &mut self.slots[usize::from(self.waiting.is_some())]
    }

    /// Takes what was written to `block`; `end` is the place behind the last coefficient, in frequency order.
    #[inline(always)]
    pub(super) fn push(&mut self, target: Target, end: usize) {
        let factors = &self.factors[target.component & 3];
        let place = usize::from(self.waiting.is_some());
        if target.size != 8 {
            let block = &mut self.slots[place];
            let area = &mut self.samples[target.at..];
            match target.size {
                1 => {
                    area[0] = idct::flat(block[0], factors[0]);
                    block[0] = 0;
                    return;
                }
                2 => {
                    let [upper, lower] = self.kernels.sixteenth(block, factors);
                    area[..2].copy_from_slice(&upper);
                    area[target.stride..][..2].copy_from_slice(&lower);
                }
                _ => idct::reduced(block, factors, target.size, area, target.stride),
            }
            *block = [0; 64];
        } else if end <= 1 {
            let block = &mut self.slots[place];
            let sample = idct::flat(block[0], factors[0]);
            block[0] = 0;
            let area = &mut self.samples[target.at..][..7 * target.stride + 8];
            for row in 0..8 {
                area[row * target.stride..][..8].fill(sample);
            }
        } else if let Some(first) = self.waiting.take() {
            let factors = [&self.factors[first.component & 3], factors];
            self.kernels.transform_pair(&self.slots, factors, self.samples, [first, target]);
            self.slots = [[0; 64]; 2];
        } else {
            self.waiting = Some(target);
        }
    }

    /// Transforms a block that still waits.
    pub(super) fn finish(&mut self) {
        if let Some(target) = self.waiting.take() {
            let factors = &self.factors[target.component & 3];
            idct::full(&self.slots[0], factors, &mut self.samples[target.at..], target.stride);
            self.slots[0] = [0; 64];
        }
    }
}
