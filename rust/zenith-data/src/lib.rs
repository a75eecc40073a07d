//! What to read and in what order: formats without I/O, the shuffled plan, the pipeline, the checkpointable state.
//! Start at `plan::Plan` (the order), `dataset::Dataset` (a format), `pipeline::Pipeline` (batches).
//! Invariants: PLAN-1 order is a pure function of (seed, epoch, lanes, window, position); DATA-1 a block decodes to the
//! same samples whoever asks; PIPE-1 batches leave in position order; PIPE-2 nothing waits for the consumer's references.
//! Refuses to: do I/O, read the environment or a clock, use unsafe code. Tests: in each module.
#![forbid(unsafe_code)]

pub mod field;

pub mod plan;

pub mod dataset;
pub mod deliver;
pub mod format;
pub mod rows;
pub mod view;
mod widen;

pub mod batch;
pub mod gather;
pub mod pipeline;
pub mod state;

pub mod hints;
pub mod memory;
pub mod sidecar;
pub mod storage;
pub mod transform;

pub mod error;

#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use error::{Error, ErrorKind, Result};
pub use field::{DType, Field, FieldKind, Schema};
