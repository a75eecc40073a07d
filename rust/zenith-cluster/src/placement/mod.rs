//! Where ranks run: which cores, near which memory, beside which GPU.
//!
//! `Topology::read` looks at the machine once; `bind`, `nccl` and `picture` are pure; `apply` is what a rank does to itself
//! between fork and exec.

mod apply;
mod binding;
mod cpu_set;
mod gpus;
mod nccl;
mod nvml;
mod picture;
mod sysfs;
#[cfg(test)]
pub(crate) mod tests;
mod topology;

pub(crate) use apply::{apply, may_prefer_memory};
pub use binding::{Mode, Place, bind, threads};
pub use cpu_set::CpuSet;
pub use gpus::{Gpu, GpuSource, visible};
pub use nccl::{Level, Situation, Variable, configured, variables};
pub use picture::picture;
pub use topology::{Cpu, Node, Topology};
