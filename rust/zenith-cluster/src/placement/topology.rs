//! What a machine is made of, as plain data.

use std::collections::BTreeMap;

use super::{CpuSet, Gpu, GpuSource};

/// CPUs are what the kernel schedules on: a core with hyperthreads has several.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topology {
    pub cpus: BTreeMap<u32, Cpu>,
    pub nodes: BTreeMap<u32, Node>,
    /// CPUs that this process may use.
    pub allowed: CpuSet,
    /// Nodes whose memory it may use.
    pub allowed_memory: CpuSet,
    /// All that are installed and can be seen, in the order of their PCI addresses.
    pub gpus: Vec<Gpu>,
    pub gpu_source: GpuSource,
    /// NVML was asked and did not answer: what is told of GPUs may be less than there is.
    pub is_driver_silent: bool,
    /// Whether ranks may be given a preferred memory node; seccomp filters of containers often forbid it.
    pub may_prefer_memory: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cpu {
    pub socket: Option<u32>,
    /// All CPUs of its core, named by the lowest.
    pub core: u32,
    /// All that share its largest cache, named by the lowest; `None` where the kernel does not tell.
    pub cache: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub cpus: CpuSet,
    pub has_memory: bool,
}

impl Topology {
    /// CPUs of a node that this process may use.
    pub fn allowed_of(&self, node: u32) -> CpuSet {
        self.nodes.get(&node).map(|node| node.cpus.and(&self.allowed)).unwrap_or_default()
    }

    /// That of its first allowed CPU, or of its first if none is allowed.
    pub fn socket_of(&self, node: u32) -> Option<u32> {
        let cpu = self.allowed_of(node).first().or_else(|| self.nodes.get(&node)?.cpus.first())?;
        self.cpus.get(&cpu)?.socket
    }

    pub fn nodes_of(&self, socket: u32) -> impl Iterator<Item = u32> {
        self.nodes.keys().copied().filter(move |&node| self.socket_of(node) == Some(socket))
    }

    /// The core that a CPU belongs to; one that the kernel tells nothing of is its own.
    pub fn core_of(&self, cpu: u32) -> u32 {
        self.cpus.get(&cpu).map_or(cpu, |known| known.core)
    }

    /// Cores that have a CPU in `cpus`, with these CPUs, in ascending order.
    pub fn cores(&self, cpus: &CpuSet) -> BTreeMap<u32, CpuSet> {
        let mut cores: BTreeMap<u32, CpuSet> = BTreeMap::new();
        for cpu in cpus.iter() {
            cores.entry(self.core_of(cpu)).or_default().insert(cpu);
        }
        cores
    }

    pub fn sockets(&self) -> CpuSet {
        self.cpus.values().filter_map(|cpu| cpu.socket).collect()
    }
}
