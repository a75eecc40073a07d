//! What the machine has, as plain data read from sysfs.

use std::fs;
use std::path::Path;

/// A NUMA node and the processors near it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumaNode {
    pub id: u32,
    pub processors: Vec<u32>,
    /// Bytes of memory on the node.
    pub memory_bytes: u64,
}

/// The NUMA nodes under `root` (`/sys/devices/system/node`); empty where the kernel shows none.
pub fn numa_nodes(root: &Path) -> Vec<NumaNode> {
    let Ok(entries) = fs::read_dir(root) else { return Vec::new() };
    let mut nodes: Vec<NumaNode> = entries
        .flatten()
        .filter_map(|entry| {
            let id = entry.file_name().to_str()?.strip_prefix("node")?.parse().ok()?;
            let list = fs::read_to_string(entry.path().join("cpulist")).ok()?;
            let info = fs::read_to_string(entry.path().join("meminfo")).unwrap_or_default();
            Some(NumaNode { id, processors: parse_cpu_list(list.trim()), memory_bytes: memory_total(&info) })
        })
        .collect();
    nodes.sort_by_key(|node| node.id);
    nodes
}

/// Parses the kernel's list format, such as `0-3,8,10-11`. Parts that are not numbers are left out.
pub fn parse_cpu_list(list: &str) -> Vec<u32> {
    let mut processors = Vec::new();
    for part in list.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>()) {
            processors.extend(first..=last.min(first.saturating_add(1 << 16)));
        }
    }
    processors
}

fn memory_total(meminfo: &str) -> u64 {
    let line = meminfo.lines().find(|line| line.contains("MemTotal:"));
    let kib = line.and_then(|line| line.split_whitespace().rev().nth(1)).and_then(|number| number.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_are_parsed() {
        assert_eq!(parse_cpu_list("0-3,8,10-11"), [0, 1, 2, 3, 8, 10, 11]);
        assert_eq!(parse_cpu_list(""), [] as [u32; 0]);
        assert_eq!(parse_cpu_list("x-2,5"), [5]);
    }

    #[test]
    fn this_machine_has_processors_on_its_nodes() {
        for node in numa_nodes(Path::new("/sys/devices/system/node")) {
            assert!(node.memory_bytes > 0 || node.processors.is_empty());
        }
    }
}
