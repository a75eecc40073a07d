//! Our own JPEG decoder, because crops are most of what is decoded for training, and no library decodes a part of a picture
//! without the rest of it and is exact.
//!
//! Pixel for pixel what libjpeg-turbo gives by default. In the order of the work: `markers` reads headers, `plan` says which
//! MCUs a region needs, `bits` takes the scan's bytes apart, `sequential` or `progressive` decode blocks of coefficients
//! (`boundaries` finds them faster where few are wanted, an `index` knows them), `sink` transforms them into the samples of `planes`, `strip` makes
//! pixels of these while they are in the cache.

mod ahead;
#[cfg(target_arch = "x86_64")]
mod avx2;
mod bits;
mod block;
mod boundaries;
mod coefficients;
pub(crate) mod colour;
mod cursor;
mod decoder;
mod frame;
mod huffman;
mod idct;
mod index;
mod kernels;
mod markers;
mod plan;
mod planes;
mod progressive;
mod sequential;
mod sink;
mod strip;
mod upsample;

pub(crate) use decoder::{decode, index, probe};
