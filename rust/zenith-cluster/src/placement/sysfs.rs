//! Reads a `Topology` from /sys and /proc, or from a copy of them elsewhere.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Cpu, CpuSet, Node, Topology, gpus};

impl Topology {
    /// What can be read below `root`; what cannot is left out, as on kernels without NUMA.
    pub fn read(root: &Path) -> Self {
        let devices = root.join("sys/devices/system");
        let status = fs::read_to_string(root.join("proc/self/status")).unwrap_or_default();
        let listed = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).and_then(CpuSet::parse);
        let online = set(&devices.join("cpu/online")).unwrap_or_default();
        let allowed = match listed("Cpus_allowed_list:") {
            // The kernel lists CPUs that are offline too.
            Some(allowed) if !online.is_empty() => allowed.and(&online),
            Some(allowed) => allowed,
            None => online.clone(),
        };
        let known = if online.is_empty() { &allowed } else { &online };
        let cpus =
            known.iter().map(|number| (number, cpu(&devices.join(format!("cpu/cpu{number}")), number))).collect();
        let nodes = nodes(&devices.join("node"));
        let allowed_memory = listed("Mems_allowed_list:").unwrap_or_else(|| nodes.keys().copied().collect());
        let (gpus, gpu_source, is_driver_silent) = gpus::installed(root);
        Self { cpus, nodes, allowed, allowed_memory, gpus, gpu_source, is_driver_silent, may_prefer_memory: true }
    }
}

fn text(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn set(path: &Path) -> Option<CpuSet> {
    CpuSet::parse(&text(path)?)
}

fn cpu(folder: &Path, number: u32) -> Cpu {
    let topology = folder.join("topology");
    Cpu {
        // -1 where the firmware does not tell.
        socket: text(&topology.join("physical_package_id")).and_then(|id| id.parse().ok()),
        core: set(&topology.join("thread_siblings_list")).and_then(|siblings| siblings.first()).unwrap_or(number),
        cache: largest_cache(&folder.join("cache")).and_then(|sharing| sharing.first()),
    }
}

/// Who shares the cache of the highest level that holds data.
fn largest_cache(folder: &Path) -> Option<CpuSet> {
    let level = |index: &Path| {
        let holds_data = matches!(text(&index.join("type")).as_deref(), Some("Unified" | "Data"));
        text(&index.join("level"))?.parse::<u32>().ok().filter(|_| holds_data)
    };
    let (_, largest) = numbered(folder, "index")
        .into_iter()
        .filter_map(|(_, index)| Some((level(&index)?, index)))
        .reduce(|best, next| if next.0 > best.0 { next } else { best })?;
    set(&largest.join("shared_cpu_list"))
}

fn nodes(folder: &Path) -> std::collections::BTreeMap<u32, Node> {
    let with_memory = set(&folder.join("has_memory"));
    let node = |(number, path): (u32, PathBuf)| {
        let cpus = set(&path.join("cpulist"))?;
        let has_memory = with_memory.as_ref().is_none_or(|nodes| nodes.contains(number));
        Some((number, Node { cpus, has_memory }))
    };
    numbered(folder, "node").into_iter().filter_map(node).collect()
}

/// Entries such as `node0`, by number.
fn numbered(folder: &Path, prefix: &str) -> Vec<(u32, PathBuf)> {
    let number = |name: &str| name.strip_prefix(prefix)?.parse().ok();
    let mut found: Vec<_> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((number(entry.file_name().to_str()?)?, entry.path())))
        .collect();
    found.sort();
    found
}
