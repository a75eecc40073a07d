//! Ranks of a real `zenith-run` on GPUs that a stub of NVML tells of: what was planned is what they have.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod forbidden;

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

const TWO: &str = "ffff:01:00 GPU-aa NVIDIA-A\nffff:02:00 GPU-bb NVIDIA-A MIG-b1,MIG-b2";

/// Runs `zenith-run ARGUMENTS`.
fn zenith_run(nvml: &str, variables: &[(&str, &str)], arguments: &[&str]) -> Output {
    zenith_run_as(|_| {}, nvml, variables, arguments)
}

fn zenith_run_as(
    change: impl FnOnce(&mut Command),
    nvml: &str,
    variables: &[(&str, &str)],
    arguments: &[&str],
) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let built: PathBuf = std::env::current_exe().unwrap().parent().unwrap().with_file_name("examples");
    symlink(built.join("libstub_nvml.so"), folder.path().join("libnvidia-ml.so.1")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_zenith-run"));
    command.env_remove("OMP_NUM_THREADS").env_remove("CUDA_VISIBLE_DEVICES");
    command.env("LD_LIBRARY_PATH", folder.path()).env("STUB_NVML", nvml).envs(variables.iter().copied());
    change(&mut command);
    command.args(arguments).output().unwrap()
}

fn planned(nvml: &str, variables: &[(&str, &str)], arguments: &[&str]) -> Value {
    let output = zenith_run(nvml, variables, &[&["--dry-run", "--json"], arguments, &["s.py"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn cpus_of_this_process() -> usize {
    rustix::thread::sched_getaffinity(None).unwrap().count() as usize
}

#[test]
fn ranks_have_the_cpus_and_the_memory_that_were_planned() {
    if cpus_of_this_process() < 2 {
        eprintln!("skipped: two ranks cannot have cores of their own on one CPU");
        return;
    }
    let flags = ["--numa-binding=exclusive", "--nproc-per-node=2"];
    let plan = planned(TWO, &[], &flags);
    let ranks = plan["workers"].as_array().unwrap();
    let mut expected: BTreeSet<String> = BTreeSet::new();
    for rank in ranks {
        let memory = if rank["memory_node"].is_null() { "default" } else { "prefer" };
        let (number, cpus, threads) =
            (&rank["rank"], rank["cpus"].as_str().unwrap(), rank["threads"].as_str().unwrap());
        expected.insert(format!("rank {number} cpus {cpus} memory {memory} threads {threads}"));
    }
    assert_eq!(expected.len(), 2);
    assert!(ranks[0]["cpus"] != ranks[1]["cpus"], "{expected:?}");
    let script = "cpus=$(sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/self/status); \
                  case $(cat /proc/self/numa_maps 2>/dev/null) in *prefer*) memory=prefer;; *) memory=default;; esac; \
                  echo rank $RANK cpus $cpus memory $memory threads $OMP_NUM_THREADS";
    let output = zenith_run(TWO, &[], &[&flags[..], &["--no-python", "sh", "-c", script]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said: BTreeSet<String> = String::from_utf8(output.stdout).unwrap().lines().map(String::from).collect();
    assert_eq!(said, expected);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(told.matches("OMP_NUM_THREADS=").count(), 1, "{told}");
}

#[test]
fn ranks_are_bound_to_cpus_alone_where_memory_policies_are_forbidden() {
    let script = "grep -q prefer /proc/self/numa_maps && exit 3; sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/self/status";
    let flags = ["--numa-binding=exclusive", "--no-python", "sh", "-c", script];
    let output = zenith_run_as(forbidden::without_memory_policies, TWO, &[], &flags);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let plan = planned(TWO, &[], &flags[..1]);
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), plan["workers"][0]["cpus"]);
}

#[test]
fn nvml_tells_of_gpus_and_their_instances() {
    let plan = planned(TWO, &[("CUDA_VISIBLE_DEVICES", "MIG-b2,MIG-b1")], &["--nproc-per-node=3"]);
    assert_eq!(plan["machine"]["gpus_from"], "NVML");
    let gpus = plan["machine"]["gpus"].as_array().unwrap();
    let addresses: Vec<_> = gpus.iter().map(|gpu| gpu["address"].as_str().unwrap()).collect();
    assert_eq!(addresses, ["ffff:01:00.0", "ffff:02:00.0"]);
    assert_eq!(gpus[0]["model"], "NVIDIA-A");
    let of_ranks: Vec<_> = plan["workers"].as_array().unwrap().iter().map(|rank| &rank["gpu"]["uuid"]).collect();
    assert_eq!(of_ranks, [&Value::from("GPU-bb"), &Value::from("GPU-bb"), &Value::Null]);
}

#[test]
fn a_driver_that_crashes_or_refuses_is_done_without() {
    for nvml in ["crash", "refuse"] {
        let plan = planned(nvml, &[], &["--numa-binding=auto"]);
        assert_ne!(plan["machine"]["gpus_from"], "NVML", "{nvml}");
    }
}

#[test]
fn a_rank_without_a_gpu_is_an_error_where_binding_is_asked_for() {
    let output = zenith_run(TWO, &[], &["--numa-binding=node", "--nproc-per-node=3", "s.py"]);
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("--numa-binding=node: rank 2: it has no GPU; 2 can be seen"), "{told}");
}

#[test]
fn the_environment_is_shown_and_the_picture_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let picture = folder.path().join("a.svg");
    let arguments = ["--plot", picture.to_str().unwrap(), "--nccl-env=safe", "--dry-run", "s.py"];
    let output = zenith_run(TWO, &[], &arguments);
    let shown = String::from_utf8(output.stdout).unwrap();
    for part in
        ["\nrank  CPUs", "\n0     any of ", "ffff:01:00.0 NVIDIA-A", "\n  NCCL_SOCKET_IFNAME==lo\n", "\n  RANK=0\n"]
    {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(!shown.contains("STUB_NVML"), "it is inherited: {shown}");
    assert!(std::fs::read_to_string(&picture).unwrap().contains("ffff:01:00.0: rank 0"));
    let output = zenith_run(TWO, &[], &["--plot", "/no/such/folder/a.svg", "--dry-run", "s.py"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("--plot: /no/such/folder/a.svg cannot be written"));
}
