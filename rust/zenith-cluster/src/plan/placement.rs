//! What follows from the machine's topology: bindings, threads, variables of NCCL.

use std::fmt::Write;

use super::{Environment, Machine, PlanError};
use crate::command_line::Options;
use crate::placement::{self, Level, Mode, Place, Situation, Topology};

/// Where the ranks of this node run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placement {
    pub mode: Option<Mode>,
    /// `None` where nothing asks for it.
    pub topology: Option<Topology>,
    /// By local rank; empty without a topology.
    pub places: Vec<Place>,
    /// `OMP_NUM_THREADS` by local rank, where it depends on the rank's binding.
    pub threads: Vec<u32>,
}

pub(super) fn place(
    options: &Options,
    ranks: u32,
    is_one_node: bool,
    machine: &Machine,
    environment: &mut Environment,
    notices: &mut Vec<String>,
) -> Result<Placement, PlanError> {
    let mode = options.numa_binding.as_deref().and_then(Mode::named);
    let topology = machine.topology.clone();
    let visible = environment.text("CUDA_VISIBLE_DEVICES");
    let gpus = topology.as_ref().map(|topology| placement::visible(&topology.gpus, visible.as_deref()));
    let gpus = gpus.unwrap_or_default();
    let places = match &topology {
        Some(topology) => placement::bind(topology, &gpus, mode, ranks).map_err(PlanError::Runtime)?,
        None => Vec::new(),
    };
    let is_bound = places.iter().any(|place| place.binding.is_some());
    let models = gpus.iter().map(|gpu| &gpu.model).collect::<std::collections::BTreeSet<_>>().len();
    if is_bound && models > 1 && environment.get("CUDA_DEVICE_ORDER").is_none_or(|order| order != "PCI_BUS_ID") {
        notices.push(
            "GPUs of several models: CUDA numbers the fastest first, the binding by PCI address; \
             set CUDA_DEVICE_ORDER=PCI_BUS_ID so that both agree"
                .into(),
        );
    }
    if topology.as_ref().is_some_and(|topology| topology.is_driver_silent) {
        notices.push(
            "NVML does not answer, so the GPU driver may hang (see dmesg, nvidia-smi); GPUs are those of /proc and sysfs"
                .into(),
        );
    }
    let is_refused = |topology: &Topology| !topology.may_prefer_memory && topology.nodes.len() > 1;
    if is_bound && topology.as_ref().is_some_and(is_refused) {
        notices.push(
            "ranks are bound to CPUs alone: set_mempolicy is refused here, as in containers without CAP_SYS_NICE; \
             memory comes from the node of the CPU that first touches it"
                .into(),
        );
    }
    let loaders = Loaders::of(options)?;
    let bound = topology.as_ref().filter(|_| is_bound);
    let threads = set_threads(ranks, machine, bound, &places, loaders, environment, notices);
    let situation = Situation { is_one_node, is_bound, ..machine.nccl.clone() };
    let level = Level::named(&options.nccl_env).unwrap_or_default();
    for variable in placement::variables(level, &situation, |name| environment.get(name).is_some()) {
        notices.push(format!("{}={}: {}", variable.name, variable.value, variable.reason));
        environment.set(variable.name, variable.value);
    }
    Ok(Placement { mode, topology, places, threads })
}

/// Which of a rank's cores compute no more than their share, as loaders' threads run there (TN-6).
#[derive(Debug, Clone, Copy)]
enum Loaders {
    Given(u32),
    /// Who asks for a binding wants its cores to be used well, and threads that wait for each other at every step are not, where
    /// a core of them decodes as well. Without a binding the scheduler moves them.
    AQuarter,
}

impl Loaders {
    fn of(options: &Options) -> Result<Self, PlanError> {
        let refused = |cores| PlanError::Value(format!("--loader-cores must be >= 0, got {cores}"));
        match options.loader_cores {
            None => Ok(Self::AQuarter),
            Some(cores) => u32::try_from(cores).map(Self::Given).map_err(|_| refused(cores)),
        }
    }

    fn text(self) -> String {
        match self {
            Self::Given(cores) => format!("{cores} for loaders"),
            Self::AQuarter => "a quarter for loaders".into(),
        }
    }

    fn leave(self, cores: u32, is_bound: bool) -> u32 {
        let left = match self {
            Self::Given(left) => left,
            Self::AQuarter if is_bound => cores / 4,
            Self::AQuarter => 0,
        };
        cores.saturating_sub(left).max(1)
    }
}

/// Cores are shared by the ranks; one thread each, torchrun's choice, leaves most of them idle (TN-7).
fn set_threads(
    ranks: u32,
    machine: &Machine,
    topology: Option<&Topology>,
    places: &[Place],
    loaders: Loaders,
    environment: &mut Environment,
    notices: &mut Vec<String>,
) -> Vec<u32> {
    const OTHERWISE: &str = "set it yourself to choose another number";
    let is_one = ranks <= 1 && matches!(loaders, Loaders::AQuarter);
    if is_one || environment.get("OMP_NUM_THREADS").is_some() {
        return Vec::new();
    }
    let cores = machine.cpus;
    let whole = (cores / ranks).max(1);
    let share = loaders.leave(whole, false);
    let Some(topology) = topology else {
        environment.set("OMP_NUM_THREADS", share.to_string());
        let left =
            if share < whole { format!(", {} of each rank's left to loaders", whole - share) } else { String::new() };
        notices
            .push(format!("OMP_NUM_THREADS={share} for each rank ({cores} cores, {ranks} ranks{left}); {OTHERWISE}"));
        return Vec::new();
    };
    let of_bindings = placement::threads(topology, places).into_iter();
    let threads: Vec<u32> =
        of_bindings.map(|threads| threads.map_or(share, |threads| loaders.leave(threads, true))).collect();
    let mut text = String::from("OMP_NUM_THREADS=");
    for (index, group) in threads.chunk_by(|a, b| a == b).enumerate() {
        let _ = write!(text, "{}{} for {}", if index == 0 { "" } else { ", " }, group[0], counted(group.len()));
    }
    notices.push(format!(
        "{text}, in order (a rank's share of the cores that it is bound to, less {}); {OTHERWISE}",
        loaders.text()
    ));
    threads
}

fn counted(ranks: usize) -> String {
    if ranks == 1 { "1 rank".into() } else { format!("{ranks} ranks") }
}

#[cfg(test)]
#[path = "placement_tests.rs"]
mod tests;
