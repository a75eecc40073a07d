//! Host memory that devices read by DMA: page-locking it, and knowing when no device reads it any more.
//! Start at `PinnedMemory` (slabs), `Registration` (a mapping that exists) and `Quarantine` (what was dropped while a copy
//! may still read it). All work over the `Driver` port: `CudaDriver` opens libcuda at run time, `testing` has a fake one.
//! Invariants: CUDA-1 memory that was page-locked is reused or unlocked only once a fence made after it was dropped has
//! passed; CUDA-2 a forked child makes no call of the driver; CUDA-3 no call of the driver under a lock that a deleter takes.
//! Refuses to: link CUDA, be needed where there is no GPU, wait for a device longer than half a second, at the end.
//! Tests: in each module, `tests/lifetime.rs`, `tests/loaded.rs`.

mod driver;
mod error;

mod context;
mod fence;
mod quarantine;
mod registration;

mod pinned;

mod loaded;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use context::Contexts;
pub use driver::{Context, Device, Driver, Event};
pub use error::{CudaError, Result};
pub use loaded::CudaDriver;
pub use pinned::{PinnedMemory, PinnedSlab, Usage};
pub use quarantine::Quarantine;
pub use registration::Registration;
