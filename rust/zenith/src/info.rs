//! What this machine and this build have, and why something is off.

use std::path::Path;

use serde::Serialize;
use zenith_host::topology::{NumaNode, numa_nodes};

/// A report for people, bug reports and tests.
#[derive(Debug, Clone, Serialize)]
pub struct Info {
    /// Version of the engine.
    pub version: &'static str,
    /// Processor architecture the engine was built for.
    pub architecture: &'static str,
    /// Processors this process may run on.
    pub processors: usize,
    /// NUMA nodes: id, processors, bytes of memory.
    pub numa: Vec<(u32, Vec<u32>, u64)>,
    /// Kernel release.
    pub kernel: String,
    /// How files are read.
    pub storage: &'static str,
    /// Where indexes of files are kept, or why they are not.
    pub index_folder: String,
    /// Whether an NVIDIA driver is visible, or why not.
    pub cuda: String,
    /// io_uring, or why it is off.
    pub io_uring: String,
}

/// Looks at the machine.
pub fn info() -> Info {
    let nodes = numa_nodes(Path::new("/sys/devices/system/node"));
    Info {
        version: env!("CARGO_PKG_VERSION"),
        architecture: std::env::consts::ARCH,
        processors: crate::env::processors(),
        numa: nodes
            .into_iter()
            .map(|NumaNode { id, processors, memory_bytes }| (id, processors, memory_bytes))
            .collect(),
        kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
        storage: "pread with read-ahead hints",
        index_folder: crate::env::cache_folder().map_or_else(
            || "off: ZENITH_CACHE_DIR is empty, or there is no home directory".into(),
            |folder| folder.join("index").display().to_string(),
        ),
        cuda: cuda(),
        io_uring: io_uring(),
    }
}

fn cuda() -> String {
    match std::fs::read_to_string("/proc/driver/nvidia/version") {
        Ok(text) => text.lines().next().unwrap_or("present").to_owned(),
        Err(_) => "off: no NVIDIA driver on this machine (/proc/driver/nvidia is missing)".into(),
    }
}

fn io_uring() -> String {
    let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    let kernel = match disabled.trim() {
        "0" => "the kernel allows it",
        "1" | "2" => "the kernel forbids it (kernel.io_uring_disabled)",
        _ => "the kernel does not tell",
    };
    format!("off: local files are read by pread in this version; {kernel}")
}
