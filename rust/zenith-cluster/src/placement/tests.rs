//! Machines as text (`topologies/`), and what `torch.numa.binding` makes of them (`topologies/torch.json`, which
//! `tests/cluster/test_numa_binding.py` holds against torch).

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

pub(crate) const NAMES: [&str; 8] =
    ["dual-socket", "container", "across", "nvlink", "chiplets", "vm", "memory-node", "g4dn-metal"];

/// Reads a machine through files that are written as its text says: `PATH = CONTENT`, a list in braces stands for each of its
/// numbers, and a path that comes again gets a further line.
pub(crate) fn recorded(name: &str) -> Topology {
    static MACHINES: LazyLock<BTreeMap<&str, Topology>> =
        LazyLock::new(|| NAMES.into_iter().map(|name| (name, read(name))).collect());
    MACHINES[name].clone()
}

fn read(name: &str) -> Topology {
    let folder = tempfile::tempdir().expect("a folder");
    let text = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/placement/topologies/{name}.txt"));
    for line in fs::read_to_string(text).expect(name).lines().filter(|line| !line.starts_with('#')) {
        let (path, content) = line.split_once(" = ").expect(line);
        for path in expanded(path) {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            let mut file = fs::File::options().append(true).create(true).open(path).expect("a file");
            writeln!(file, "{content}").expect("written");
        }
    }
    Topology::read(folder.path())
}

fn expanded(path: &str) -> Vec<String> {
    let Some((head, rest)) = path.split_once('{') else { return vec![path.into()] };
    let (numbers, tail) = rest.split_once('}').expect(path);
    let numbers = CpuSet::parse(numbers).expect(path);
    let paths = numbers.iter().map(|number| format!("{head}{number}{tail}"));
    paths.flat_map(|path| expanded(&path)).collect()
}

#[test]
fn machines_are_read() {
    let shape = |name: &str| {
        let found = recorded(name);
        let cpus: CpuSet = found.cpus.keys().copied().collect();
        let caches: std::collections::BTreeSet<_> = found.cpus.values().map(|cpu| cpu.cache).collect();
        let (sockets, cores) = (found.sockets().len(), found.cores(&cpus).len());
        (sockets, found.nodes.len(), cores, cpus.len(), found.allowed.len(), caches.len(), found.gpus.len())
    };
    for (name, expected) in [
        ("dual-socket", (2, 2, 16, 32, 32, 2, 2)),
        ("container", (2, 2, 16, 32, 15, 2, 2)),
        ("across", (2, 2, 16, 32, 3, 2, 3)),
        ("nvlink", (2, 4, 56, 112, 112, 2, 8)),
        ("chiplets", (1, 1, 24, 48, 46, 4, 5)),
        ("vm", (1, 1, 2, 2, 2, 1, 1)),
        ("memory-node", (1, 2, 8, 8, 8, 8, 2)),
        ("g4dn-metal", (2, 2, 48, 96, 96, 2, 8)),
    ] {
        assert_eq!(shape(name), expected, "{name}");
    }
    let gpu = &recorded("nvlink").gpus[2];
    assert_eq!((gpu.address.as_str(), gpu.node), ("0000:52:00.0", Some(0)));
    assert_eq!(gpu.model.as_deref(), Some("NVIDIA H100 80GB HBM3"));
    assert_eq!(gpu.uuid.as_deref(), Some("GPU-00000012-1111-2222-3333-444455556666"));
    let machine = recorded("vm");
    assert_eq!((machine.gpu_source, machine.gpus[0].node), (GpuSource::Pci, None));
    assert_eq!(Topology::read(Path::new("/no/such/folder")).allowed, CpuSet::default());
}

/// Where torch fails and a binding can be had: it asks every node of the machine for an allowed CPU, also those of other sockets.
const TORCH_FAILS: [(&str, &str); 2] = [("container", "socket"), ("memory-node", "socket")];

#[test]
fn bindings_are_torchs() {
    let text = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/placement/topologies/torch.json");
    type Recorded = BTreeMap<String, BTreeMap<String, Vec<Result<String, String>>>>;
    let recorded_by_torch: Recorded = serde_json::from_str(&fs::read_to_string(text).expect("a file")).expect("JSON");
    assert_eq!(recorded_by_torch.len(), NAMES.len());
    for name in NAMES {
        let topology = recorded(name);
        for (mode, expected) in &recorded_by_torch[name] {
            let gpus = &topology.gpus;
            for (rank, torchs) in expected.iter().enumerate() {
                // One rank alone, so that an error of another does not hide it.
                let ours = binding::bind_one(&topology, gpus, Mode::named(mode).expect(mode), rank);
                let ours = ours.map(|place| place.binding.expect("a strict mode binds").cpus.to_string());
                match torchs {
                    Ok(cpus) => assert_eq!(ours.as_ref(), Ok(cpus), "{name} {mode} {rank}"),
                    Err(_) if TORCH_FAILS.contains(&(name, mode)) && ours.is_ok() => {}
                    Err(error) => assert!(ours.is_err(), "{name} {mode} {rank}: {ours:?}, torch: {error}"),
                }
            }
        }
    }
}

#[test]
fn sockets_are_found_where_torch_fails() {
    for (name, rank, cpus) in [("container", 0, "0-7,16-22"), ("memory-node", 0, "0-7")] {
        let topology = recorded(name);
        let place = binding::bind_one(&topology, &topology.gpus, Mode::Socket, rank).expect(name);
        assert_eq!(place.binding.expect("bound").cpus.to_string(), cpus, "{name}");
    }
}

#[test]
fn automatic_binding_takes_what_is_certain() {
    for (name, ranks, expected) in [
        (
            "dual-socket",
            3,
            &["CPUs 0-7,16-23, memory of node 0", "CPUs 8-15,24-31, memory of node 1", "it has no GPU"][..],
        ),
        ("container", 2, &["CPUs 0-7,16-22, memory of node 0", "node 1, where 0000:af:00.0 is, has no CPU"]),
        ("vm", 2, &["the firmware does not tell at which node 0000:00:05.0 is", "it has no GPU"]),
        ("memory-node", 2, &["CPUs 0-7, memory of node 0", "node 1, where 0009:01:00.0 is, has no CPU"]),
    ] {
        let topology = recorded(name);
        let places = bind(&topology, &topology.gpus, Some(Mode::Auto), ranks).expect(name);
        for (place, expected) in places.iter().zip(expected) {
            let shown = place.binding.as_ref().map_or_else(|| place.reason.clone(), ToString::to_string);
            assert!(shown.contains(expected), "{name}: {shown}, expected {expected}");
        }
        assert_eq!(places.len(), expected.len(), "{name}");
    }
}

#[test]
fn errors_name_rank_gpu_what_is_missing_and_what_to_do() {
    for (name, mode, ranks, expected) in [
        ("dual-socket", "node", 3, "--numa-binding=node: rank 2: it has no GPU; 2 can be seen"),
        ("across", "exclusive", 1, "--numa-binding=exclusive: rank 0, GPU 0 (0000:3b:00.0): node 0 has 1 cores"),
        (
            "container",
            "node",
            2,
            "rank 1, GPU 1 (0000:af:00.0): node 1 has no CPU that may be used (allowed: 0-7,16-22)",
        ),
    ] {
        let topology = recorded(name);
        let error = bind(&topology, &topology.gpus, Mode::named(mode), ranks).expect_err(name);
        assert!(error.contains(expected) && error.contains("se --numa-binding="), "{error}");
    }
    let mut blind = recorded("chiplets");
    blind.cpus.values_mut().for_each(|cpu| (cpu.cache, cpu.socket) = (None, None));
    for (mode, expected) in [("core-complex", "the caches of CPU 1"), ("socket", "the socket of node 0")] {
        let error = bind(&blind, &blind.gpus, Mode::named(mode), 1).expect_err(mode);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn threads_are_the_cores_of_the_binding_shared_by_its_ranks() {
    for (name, mode, ranks, expected) in [
        ("dual-socket", "node", 2, &[Some(8), Some(8)][..]),
        ("nvlink", "node", 4, &[Some(4), Some(4), Some(4), Some(14)]),
        ("nvlink", "exclusive", 4, &[Some(5), Some(5), Some(4), Some(14)]),
        ("nvlink", "socket", 8, &[Some(7); 8]),
        ("chiplets", "core-complex", 5, &[Some(3), Some(6), Some(6), Some(6), Some(3)]),
        ("across", "node", 2, &[Some(1), Some(1)]),
        ("vm", "auto", 2, &[None, None]),
    ] {
        let topology = recorded(name);
        let places = bind(&topology, &topology.gpus, Mode::named(mode), ranks).expect(name);
        assert_eq!(threads(&topology, &places), expected, "{name} {mode}");
    }
}

/// A machine with anything on it, and what of it may be used.
fn machine() -> impl Strategy<Value = (Topology, u32)> {
    let gpu_nodes = prop::collection::vec(prop::option::of(0..5_u32), 1..9);
    let allowed = prop::collection::vec(any::<bool>(), 48);
    (1..4_u32, 1..13_u32, 1..3_u32, 1..4_u32, gpu_nodes, allowed, 1..9_u32).prop_map(
        |(nodes, cores, threads, cores_in_group, gpu_nodes, allowed, ranks)| {
            let mut topology = Topology { may_prefer_memory: true, ..Topology::default() };
            for node in 0..nodes {
                let first = node * cores;
                let own = (first..first + cores).flat_map(|core| (0..threads).map(move |t| core + t * nodes * cores));
                for cpu in own.clone() {
                    let core = cpu % (nodes * cores);
                    let group = first + (core - first) / cores_in_group * cores_in_group;
                    topology.cpus.insert(cpu, Cpu { socket: Some(node / 2), core, cache: Some(group) });
                }
                topology.nodes.insert(node, Node { cpus: own.collect(), has_memory: node != 2 });
                topology.allowed_memory.insert(node);
            }
            let usable = |cpu: &u32| allowed[*cpu as usize % allowed.len()];
            topology.allowed = topology.cpus.keys().copied().filter(usable).collect();
            topology.gpus = gpu_nodes.into_iter().map(|node| Gpu { node, ..Gpu::default() }).collect();
            (topology, ranks)
        },
    )
}

proptest! {
    #[test]
    fn ranks_get_cpus_that_they_may_use_and_exclusive_ones_are_nobody_elses((topology, ranks) in machine()) {
        for mode in ["node", "socket", "exclusive", "core-complex", "auto"] {
            let Ok(places) = bind(&topology, &topology.gpus, Mode::named(mode), ranks) else {
                prop_assert!(mode != "auto", "auto never fails");
                continue;
            };
            prop_assert_eq!(places.len(), ranks as usize);
            let mut taken = CpuSet::default();
            for binding in places.iter().filter_map(|place| place.binding.as_ref()) {
                prop_assert!(!binding.cpus.is_empty());
                prop_assert!(binding.cpus.is_subset(&topology.allowed));
                prop_assert!(binding.memory_node.is_none_or(|node| topology.nodes[&node].has_memory));
                if mode == "exclusive" {
                    for core in topology.cores(&binding.cpus).into_keys() {
                        prop_assert!(!taken.contains(core), "core {} twice", core);
                        taken.insert(core);
                    }
                }
            }
            prop_assert!(mode == "auto" || places.iter().all(|place| place.binding.is_some()));
            let threads = threads(&topology, &places).into_iter().flatten().sum::<u32>() as usize;
            prop_assert!(threads <= topology.cores(&topology.allowed).len() + ranks as usize, "{}", mode);
        }
    }
}
