//! Pictures: decoders that decode what a crop needs and no more, and the transforms of torchvision.
//! Start at `decode::decode` (bytes to pixels) and `transforms::Pipeline` (what a dataset does with them).
//! Invariants: IMAGE-1 decoding a region gives the pixels that the whole picture has there; IMAGE-2 the same bytes and the
//! same key give the same value, in whichever thread.
//! Refuses to: do I/O, know Python. Tests: in each module; against PIL and torchvision in tests/image.

pub mod decode;
mod jpeg;
pub mod normalize;
mod orientation;
mod picture;
mod png;
pub mod resize;
pub mod transforms;
mod webp;
mod whole;

pub use picture::{Picture, Rect};
