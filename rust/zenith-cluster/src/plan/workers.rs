//! The ranks of an attempt.

use std::ffi::OsString;
use std::path::PathBuf;

use super::observing::HEARTBEAT_FILE;
use super::template::substitute;
use super::{Environment, Settings};
use crate::command_line::StoreOwner;
use crate::worker::Worker;

/// What differs from one attempt to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Restarts before it.
    pub number: u32,
    pub group: Group,
    pub master_address: String,
    pub master_port: u16,
    /// Where rank 0 serves JAX's coordinator, at the master's address.
    pub coordinator_port: u16,
    /// Where its logs lie; `None` without files.
    pub folder: Option<PathBuf>,
}

/// This node among those of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Of this node.
    pub rank: u32,
    pub nodes: u32,
    /// The rank of this node's first.
    pub first_rank: u32,
    /// On all nodes.
    pub ranks: u32,
}

impl Group {
    pub fn alone(ranks: u32) -> Self {
        Self { rank: 0, nodes: 1, first_rank: 0, ranks }
    }

    /// From the ranks of each node, by group rank (T-24).
    pub fn of(rank: u32, local_ranks: &[u32]) -> Self {
        let sum = |nodes: &[u32]| nodes.iter().fold(0u32, |sum, ranks| sum.saturating_add(*ranks));
        let before = local_ranks.get(..rank as usize).unwrap_or_default();
        let nodes = u32::try_from(local_ranks.len()).unwrap_or(u32::MAX);
        Self { rank, nodes, first_rank: sum(before), ranks: sum(local_ranks) }
    }
}

pub fn workers(settings: &Settings, attempt: &Attempt) -> Vec<Worker> {
    (0..settings.ranks).map(|local_rank| worker(settings, attempt, local_rank)).collect()
}

fn worker(settings: &Settings, attempt: &Attempt, local_rank: u32) -> Worker {
    let files = settings.files(attempt.folder.as_deref(), local_rank);
    let (program, arguments) = settings.command(local_rank);
    let mut environment = environment(settings, attempt, local_rank);
    environment.set("TORCHELASTIC_ERROR_FILE", files.error.map(OsString::from).unwrap_or_default());
    if let Some(file) = settings.heartbeat_file(attempt.folder.as_deref(), local_rank) {
        environment.set(HEARTBEAT_FILE, file);
    }
    Worker {
        local_rank,
        rank: attempt.group.first_rank + local_rank,
        program,
        arguments,
        environment: environment.into_variables(),
        stdout: files.stdout,
        stderr: files.stderr,
        binding: settings.placement.places.get(local_rank as usize).and_then(|place| place.binding.clone()),
    }
}

/// What torchrun gives every worker (T-16, T-19), and what JAX needs besides.
fn environment(settings: &Settings, attempt: &Attempt, local_rank: u32) -> Environment {
    let mut environment = settings.environment.clone();
    let (local_rank_text, local_ranks) = (local_rank.to_string(), settings.ranks.to_string());
    let group = &attempt.group;
    let (rank, ranks) = ((group.first_rank + local_rank).to_string(), group.ranks.to_string());
    let (group_rank, nodes) = (group.rank.to_string(), group.nodes.to_string());
    let is_virtual = settings.gpus.is_some();
    let agents_store = if settings.store == StoreOwner::Launcher { "True" } else { "False" };
    let (port, number, limit) =
        (attempt.master_port.to_string(), attempt.number.to_string(), settings.max_restarts.to_string());
    if !is_users_coordinator(&environment) {
        environment.set("JAX_COORDINATOR_ADDRESS", attempt.coordinator());
    }
    for (name, value) in [
        ("RANK", rank.as_str()),
        ("LOCAL_RANK", if is_virtual { "0" } else { &local_rank_text }),
        ("GROUP_RANK", &group_rank),
        ("ROLE_RANK", &rank),
        ("ROLE_NAME", &settings.role),
        ("LOCAL_WORLD_SIZE", &local_ranks),
        ("WORLD_SIZE", &ranks),
        ("GROUP_WORLD_SIZE", &nodes),
        ("ROLE_WORLD_SIZE", &ranks),
        ("MASTER_ADDR", &attempt.master_address),
        ("MASTER_PORT", &port),
        ("TORCHELASTIC_RESTART_COUNT", &number),
        ("TORCHELASTIC_MAX_RESTARTS", &limit),
        ("TORCHELASTIC_RUN_ID", &settings.run_id),
        ("TORCHELASTIC_USE_AGENT_STORE", agents_store),
    ] {
        environment.set(name, value);
    }
    if let Some(threads) = settings.placement.threads.get(local_rank as usize) {
        environment.set("OMP_NUM_THREADS", threads.to_string());
    }
    if environment.get("TORCH_NCCL_ASYNC_ERROR_HANDLING").is_none() {
        environment.set("TORCH_NCCL_ASYNC_ERROR_HANDLING", "1");
    }
    if let Some(gpu) = settings.gpus.iter().flatten().nth(local_rank as usize) {
        environment.set("CUDA_VISIBLE_DEVICES", gpu.as_str());
    }
    environment
}

/// One that the user has set stays: programs that are started once per node may bring it along with ids of their own. That of a
/// launcher around this one is another job's.
fn is_users_coordinator(environment: &Environment) -> bool {
    environment.get("JAX_COORDINATOR_ADDRESS").is_some() && environment.get("TORCHELASTIC_RUN_ID").is_none()
}

impl Attempt {
    fn coordinator(&self) -> String {
        let Self { master_address: host, coordinator_port: port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

impl Settings {
    /// Program and arguments (T-12, T-13). All that follows the program may hold `${local_rank}` (T-15).
    fn command(&self, local_rank: u32) -> (OsString, Vec<OsString>) {
        let number = local_rank.to_string();
        let filled = |text: &OsString| substitute(text, &[("local_rank", &number)]);
        let Some(interpreter) = &self.interpreter else {
            return (self.script.clone(), self.arguments.iter().map(filled).collect());
        };
        let flags = ["-u", "-m"].into_iter().take(1 + usize::from(self.module)).map(OsString::from);
        let script = std::iter::once(&self.script).chain(&self.arguments).map(filled);
        (interpreter.program.clone(), flags.chain(script).collect())
    }

    /// What failures are called after (TB-9).
    pub fn entry(&self) -> String {
        let entry = match &self.interpreter {
            Some(interpreter) if interpreter.is_foreign() => &interpreter.program,
            _ => &self.script,
        };
        entry.to_string_lossy().into_owned()
    }
}

#[cfg(test)]
#[path = "workers_tests.rs"]
mod tests;
