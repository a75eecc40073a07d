//! Which CPUs a rank gets (TN-2 to TN-4). The sets are those of `torch.numa.binding`, to which tests compare them; the rank's GPU
//! is `cuda:<local rank>`, as there.

use std::collections::BTreeMap;

use super::{CpuSet, Gpu, Topology};
use crate::worker::Binding;

/// `--numa-binding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Node,
    Socket,
    Exclusive,
    CoreComplex,
    /// As `Node` where a GPU and its node are known; elsewhere ranks are left as they are. Not torchrun's.
    Auto,
}

impl Mode {
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Socket => "socket",
            Self::Exclusive => "exclusive",
            Self::CoreComplex => "core-complex",
            Self::Auto => "auto",
        }
    }

    const ALL: [Self; 5] = [Self::Node, Self::Socket, Self::Exclusive, Self::CoreComplex, Self::Auto];
}

/// Where a rank runs, and why there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    pub gpu: Option<Gpu>,
    /// `None`: wherever the launcher may.
    pub binding: Option<Binding>,
    pub reason: String,
}

/// A place for each of `ranks`; `gpus` are the visible ones in CUDA's order. Every mode but `Auto` binds all ranks or says which
/// one it cannot bind, what is missing, and what to do.
pub fn bind(topology: &Topology, gpus: &[Gpu], mode: Option<Mode>, ranks: u32) -> Result<Vec<Place>, String> {
    let unbound = |rank: usize, reason: &str| Place {
        gpu: gpus.get(rank).cloned(),
        binding: None,
        reason: format!("not bound: {reason}"),
    };
    (0..ranks as usize)
        .map(|rank| match mode {
            None => Ok(unbound(rank, "--numa-binding is not given")),
            Some(Mode::Auto) => {
                Ok(Request { topology, gpus, rank }.automatic().unwrap_or_else(|why| unbound(rank, &why)))
            }
            Some(mode) => bind_one(topology, gpus, mode, rank),
        })
        .collect()
}

/// For every mode but `Auto`.
pub(super) fn bind_one(topology: &Topology, gpus: &[Gpu], mode: Mode, rank: usize) -> Result<Place, String> {
    Request { topology, gpus, rank }.strict(mode).map_err(|why| {
        let device = gpus.get(rank).map(|gpu| format!(", GPU {rank} ({})", gpu.address)).unwrap_or_default();
        format!("--numa-binding={}: rank {rank}{device}: {why}", mode.name())
    })
}

/// One rank that is to be bound.
struct Request<'a> {
    topology: &'a Topology,
    gpus: &'a [Gpu],
    rank: usize,
}

impl Request<'_> {
    fn automatic(&self) -> Result<Place, String> {
        let gpu = self.gpus.get(self.rank).ok_or("it has no GPU")?;
        let node = gpu.node.ok_or_else(|| format!("the firmware does not tell at which node {} is", gpu.address))?;
        if self.topology.allowed_of(node).is_empty() {
            return Err(format!("node {node}, where {} is, has no CPU that may be used", gpu.address));
        }
        self.strict(Mode::Node)
    }

    fn strict(&self, mode: Mode) -> Result<Place, String> {
        const OTHERWISE: &str = "Use --numa-binding=auto, which binds only where it can, or none";
        let Some(gpu) = self.gpus.get(self.rank) else {
            let count = self.gpus.len();
            return Err(format!("it has no GPU; {count} can be seen (see CUDA_VISIBLE_DEVICES). {OTHERWISE}"));
        };
        let node = node_of(gpu);
        let cpus = match mode {
            Mode::Node | Mode::Auto => self.topology.allowed_of(node),
            Mode::Socket => self.socket(node)?,
            Mode::Exclusive => self.exclusive(node)?,
            Mode::CoreComplex => self.core_complex(node)?,
        };
        if cpus.is_empty() {
            let allowed = &self.topology.allowed;
            return Err(format!("node {node} has no CPU that may be used (allowed: {allowed}). {OTHERWISE}"));
        }
        let whose = match gpu.node {
            Some(node) => format!("node {node} is the GPU's"),
            None => "node 0, as the firmware does not tell the GPU's".into(),
        };
        let what = match mode {
            Mode::Node | Mode::Auto => "all allowed CPUs of the node",
            Mode::Socket => "all allowed CPUs of the node's socket",
            Mode::Exclusive => "its part of the cores, shared out among the GPUs at the node",
            Mode::CoreComplex => "one of the groups of cores that share a cache",
        };
        let memory_node = Some(node).filter(|&node| self.topology.can_prefer(node));
        Ok(Place {
            gpu: Some(gpu.clone()),
            binding: Some(Binding { cpus, memory_node }),
            reason: format!("{whose}; {what}"),
        })
    }

    /// Visible GPUs at a node, whether or not a rank uses them.
    fn peers(&self, node: u32) -> Vec<usize> {
        (0..self.gpus.len()).filter(|&index| node_of(&self.gpus[index]) == node).collect()
    }

    /// The place of this rank's GPU among those of its node.
    fn position(&self, peers: &[usize]) -> usize {
        peers.iter().position(|&peer| peer == self.rank).unwrap_or(0)
    }

    fn socket(&self, node: u32) -> Result<CpuSet, String> {
        let unknown = || format!("the socket of node {node} is not known. Use --numa-binding=node");
        let socket = self.topology.socket_of(node).ok_or_else(unknown)?;
        let cpus = self.topology.nodes_of(socket).map(|node| self.topology.allowed_of(node));
        Ok(cpus.flat_map(|cpus| cpus.iter().collect::<Vec<_>>()).collect())
    }

    /// Cores are split evenly; the lowest GPUs get one of the remainder each.
    fn exclusive(&self, node: u32) -> Result<CpuSet, String> {
        let peers = self.peers(node);
        let cores = self.topology.cores(&self.topology.allowed_of(node));
        let (each, left) = (cores.len() / peers.len(), cores.len() % peers.len());
        if each == 0 {
            return Err(format!(
                "node {node} has {} cores that may be used and {} GPUs. Allow more CPUs, hide GPUs by CUDA_VISIBLE_DEVICES, \
                 or use --numa-binding=node",
                cores.len(),
                peers.len()
            ));
        }
        let position = self.position(&peers);
        let first = position * each + position.min(left);
        let count = each + usize::from(position < left);
        Ok(cores.values().skip(first).take(count).flat_map(CpuSet::iter).collect())
    }

    /// The largest groups first, in turn.
    fn core_complex(&self, node: u32) -> Result<CpuSet, String> {
        let mut groups: BTreeMap<u32, CpuSet> = BTreeMap::new();
        for cpu in self.topology.allowed_of(node).iter() {
            let cache = self.topology.cpus.get(&cpu).and_then(|known| known.cache);
            let unknown =
                || format!("the kernel does not tell the caches of CPU {cpu}. Use --numa-binding=exclusive or node");
            groups.entry(cache.ok_or_else(unknown)?).or_default().insert(cpu);
        }
        let mut groups: Vec<_> = groups.into_iter().collect();
        groups.sort_by_key(|(lowest, cpus)| (std::cmp::Reverse(cpus.len()), *lowest));
        let position = self.position(&self.peers(node));
        let group = position.checked_rem(groups.len()).map(|index| groups.swap_remove(index).1);
        Ok(group.unwrap_or_default())
    }
}

/// torch takes what is not told for node 0, which machines with one node do not tell.
fn node_of(gpu: &Gpu) -> u32 {
    gpu.node.unwrap_or(0)
}

impl Topology {
    fn can_prefer(&self, node: u32) -> bool {
        self.may_prefer_memory
            && self.allowed_memory.contains(node)
            && self.nodes.get(&node).is_some_and(|node| node.has_memory)
    }
}

/// Threads for each rank: the cores of its binding, those that ranks share divided among them (TN-7). `None` for one that is not
/// bound.
pub fn threads(topology: &Topology, places: &[Place]) -> Vec<Option<u32>> {
    let cores: Vec<Option<Vec<u32>>> =
        places.iter().map(|place| Some(topology.cores(&place.binding.as_ref()?.cpus).into_keys().collect())).collect();
    let mut users: BTreeMap<u32, u32> = BTreeMap::new();
    for core in cores.iter().flatten().flatten() {
        *users.entry(*core).or_default() += 1;
    }
    let share = |cores: &Vec<u32>| {
        let mut shared_by: BTreeMap<u32, u32> = BTreeMap::new();
        for core in cores {
            *shared_by.entry(users.get(core).copied().unwrap_or(1)).or_default() += 1;
        }
        let whole: f64 = shared_by.iter().map(|(users, cores)| f64::from(*cores) / f64::from(*users)).sum();
        (whole as u32).max(1)
    };
    cores.iter().map(|cores| cores.as_ref().map(share)).collect()
}
