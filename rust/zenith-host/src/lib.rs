//! Memory and machine: slabs that batches are written into, what the machine has, and whether we are in a forked child.
//! Start at `SlabPool`; `arena` is memory that a worker process shares with its parent; `fork::generation` tells a child process from its parent.
//! Invariants: SLAB-1 a slab's memory is initialised, exclusively owned and aligned to 64; SLAB-2 memory goes back to a
//! pool only of the process that made it; PIECE-1 pieces of a slab are disjoint; PAGES-1 a mapping has one owner, who unmaps it; PREFETCH-1 a prefetch is a hint; INTERRUPT-1
//! a signal handler touches atomics and the handler it took the place of.
//! Refuses to: open sockets, link CUDA, read the environment. Tests: in each module.

pub mod arena;
pub mod fork;
pub mod idle;
pub mod interrupts;
mod mapping;
pub mod pieces;
mod prefetch;
pub mod slab;
pub mod topology;

pub use mapping::Mapping;
pub use pieces::Piece;
pub use prefetch::prefetch;
pub use slab::{SLAB_ALIGNMENT, Slab, SlabPool};
