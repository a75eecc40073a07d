//! The whole plan as `--dry-run` shows it: words and numbers only, for people and programs.

use std::ffi::{OsStr, OsString};

use serde::Serialize;
use serde_json::{Map, Value};

use super::{Meeting, Settings};
use crate::command_line::StoreOwner;
use crate::placement::{CpuSet, Gpu, GpuSource, Place, Topology};
use crate::worker::{Output, Worker};

/// Parts of the names of variables whose values are nobody's business.
const SECRETS: [&str; 9] =
    ["TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "CREDENTIAL", "API_KEY", "ACCESS_KEY", "PRIVATE_KEY"];

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outline {
    pub run_id: String,
    pub ranks: u32,
    pub max_restarts: u32,
    pub shutdown_timeout_s: u64,
    /// `None`: the script is a program itself.
    pub interpreter: Option<String>,
    pub store: Store,
    /// `None`: there is one.
    pub nodes: Option<ShownNodes>,
    pub machine: Machine,
    pub numa_binding: Option<&'static str>,
    pub workers: Vec<Rank>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Store {
    pub served_by: &'static str,
    pub host: String,
    /// `None`: one that is free.
    pub port: Option<u16>,
}

/// How many there are, and where they meet.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ShownNodes {
    pub least: u32,
    pub most: u32,
    pub host: String,
    pub port: u16,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Machine {
    pub sockets: usize,
    pub memory_nodes: usize,
    pub cores: usize,
    pub cpus: String,
    pub allowed_cpus: String,
    pub gpus: Vec<ShownGpu>,
    /// Who told of the GPUs.
    pub gpus_from: Option<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ShownGpu {
    pub address: String,
    pub model: Option<String>,
    pub uuid: Option<String>,
    pub memory_node: Option<u32>,
    pub mig_instances: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rank {
    pub rank: u32,
    pub local_rank: u32,
    pub command: Vec<String>,
    pub stdout: String,
    pub stderr: String,
    pub is_bound: bool,
    pub cpus: String,
    /// Physical cores that `cpus` are of.
    pub cores: usize,
    pub memory_node: Option<u32>,
    pub gpu: Option<ShownGpu>,
    pub reason: String,
    pub threads: Option<String>,
    /// What the rank has and the launcher has not, or otherwise.
    pub environment: Map<String, Value>,
}

impl Outline {
    /// `workers` as they would be started; what is `inherited` is left out of their environments.
    pub fn of(settings: &Settings, workers: &[Worker], inherited: &[(OsString, OsString)]) -> Self {
        let topology = settings.placement.topology.clone().unwrap_or_default();
        let rank = |worker| rank(worker, settings, &topology, inherited);
        Self {
            run_id: settings.run_id.clone(),
            ranks: settings.ranks,
            max_restarts: settings.max_restarts,
            shutdown_timeout_s: settings.rules.grace.as_secs(),
            interpreter: settings.interpreter.as_ref().map(|python| text(&python.program)),
            store: store(settings),
            nodes: settings.nodes.as_ref().map(|nodes| ShownNodes {
                least: nodes.terms.least,
                most: nodes.terms.most,
                host: nodes.host.clone(),
                port: nodes.port,
            }),
            machine: machine(&topology),
            numa_binding: settings.placement.mode.map(|mode| mode.name()),
            workers: workers.iter().map(rank).collect(),
        }
    }

    pub fn json(&self) -> String {
        // Nothing in it can fail to be written.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}

fn store(settings: &Settings) -> Store {
    let (host, port) = match (&settings.nodes, &settings.meeting) {
        (Some(nodes), _) if nodes.terms.is_static => (nodes.host.clone(), Some(nodes.port)),
        (Some(_), _) => ("the first node".into(), None),
        (None, Meeting::FreePort) => ("127.0.0.1".into(), None),
        (None, Meeting::At { host, port }) => (host.clone(), Some(*port)),
    };
    Store { served_by: if settings.store == StoreOwner::Launcher { "launcher" } else { "rank 0" }, host, port }
}

fn machine(topology: &Topology) -> Machine {
    let cpus: CpuSet = topology.cpus.keys().copied().collect();
    Machine {
        sockets: topology.sockets().len(),
        memory_nodes: topology.nodes.len(),
        cores: topology.cores(&cpus).len(),
        cpus: cpus.to_string(),
        allowed_cpus: topology.allowed.to_string(),
        gpus: topology.gpus.iter().map(shown).collect(),
        gpus_from: match topology.gpu_source {
            GpuSource::Nvml => Some("NVML"),
            GpuSource::Driver => Some("the driver"),
            GpuSource::Pci => Some("PCI devices"),
            GpuSource::None => None,
        },
    }
}

fn shown(gpu: &Gpu) -> ShownGpu {
    ShownGpu {
        address: gpu.address.clone(),
        model: gpu.model.clone(),
        uuid: gpu.uuid.clone(),
        memory_node: gpu.node,
        mig_instances: gpu.instances.clone(),
    }
}

fn rank(worker: &Worker, settings: &Settings, topology: &Topology, inherited: &[(OsString, OsString)]) -> Rank {
    let place = settings.placement.places.get(worker.local_rank as usize).cloned();
    let Place { gpu, reason, .. } = place.unwrap_or_default();
    let cpus = worker.binding.as_ref().map_or(&topology.allowed, |binding| &binding.cpus);
    let own = worker.environment.iter().filter(|variable| !inherited.contains(variable));
    Rank {
        rank: worker.rank,
        local_rank: worker.local_rank,
        command: std::iter::once(&worker.program).chain(&worker.arguments).map(|word| text(word)).collect(),
        stdout: target(&worker.stdout),
        stderr: target(&worker.stderr),
        is_bound: worker.binding.is_some(),
        cpus: cpus.to_string(),
        cores: topology.cores(cpus).len(),
        memory_node: worker.binding.as_ref().and_then(|binding| binding.memory_node),
        gpu: gpu.as_ref().map(shown),
        reason,
        threads: worker.environment.iter().find(|(name, _)| name == "OMP_NUM_THREADS").map(|(_, value)| text(value)),
        environment: own.map(|(name, value)| (text(name), Value::String(open(&text(name), text(value))))).collect(),
    }
}

fn target(output: &Output) -> String {
    match output {
        Output::Inherited => "the console".into(),
        Output::Discarded => "/dev/null".into(),
        Output::File(path) => path.display().to_string(),
    }
}

fn text(text: &OsStr) -> String {
    text.to_string_lossy().into_owned()
}

/// The value, unless the name says that it is a secret.
fn open(name: &str, value: String) -> String {
    let name = name.to_uppercase();
    if SECRETS.iter().any(|part| name.contains(part)) { "(hidden)".into() } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_their_names() {
        for name in ["HF_TOKEN", "aws_secret_access_key", "WANDB_API_KEY", "PGPASSWORD"] {
            assert_eq!(open(name, "x".into()), "(hidden)", "{name}");
        }
        assert_eq!(open("MASTER_PORT", "x".into()), "x");
    }
}
