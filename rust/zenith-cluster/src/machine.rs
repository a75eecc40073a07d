//! A look at this machine, once, for the plan.

use std::path::{Path, PathBuf};

use crate::command_line::Options;
use crate::kill_wait::kill_wait;
use crate::placement::{self, Situation, Topology};
use crate::plan::{self, Environment, Machine};

/// Looks closely at no more than `options` ask for: it takes milliseconds, where there is a driver more.
pub(crate) fn look(environment: &Environment, options: &Options) -> Machine {
    Machine {
        cpus: rustix::thread::sched_getaffinity(None).map_or(1, |set| set.count()),
        gpus: gpus(),
        topology: options.asks_for_topology().then(topology),
        nccl: if options.nccl_env == "off" { Situation::default() } else { nccl(environment) },
        program_folder: std::env::current_exe().ok().and_then(|path| path.parent().map(Into::into)),
        temporary_folder: temporary_folder(environment),
        slurm_kill_wait: plan::asks_for_kill_wait(options, environment)
            .then(|| kill_wait(environment, Path::new("/")))
            .flatten(),
        host: rustix::system::uname().nodename().to_string_lossy().split('.').next().unwrap_or_default().into(),
    }
}

fn topology() -> Topology {
    Topology { may_prefer_memory: placement::may_prefer_memory(), ..Topology::read(Path::new("/")) }
}

/// What NCCL would find itself in its files, and what a provider has left for it.
fn nccl(environment: &Environment) -> Situation {
    let own = environment.get("NCCL_CONF_FILE").map(PathBuf::from);
    let of_user = own.or_else(|| environment.get("HOME").map(|home| Path::new(home).join(".nccl.conf")));
    let texts =
        of_user.into_iter().chain(["/etc/nccl.conf".into()]).filter_map(|path| std::fs::read_to_string(path).ok());
    let configured = texts.flat_map(|text| placement::configured(&text)).collect();
    let of_provider = std::fs::read_dir("/opt/microsoft").into_iter().flatten().flatten().map(|entry| entry.path());
    let is_topology = |path: &PathBuf| path.to_str().is_some_and(|path| path.ends_with("topo.xml"));
    Situation { configured, topology_files: of_provider.filter(is_topology).collect(), ..Situation::default() }
}

/// Device files of the NVIDIA driver: `/dev/nvidia0` and so on.
fn gpus() -> u32 {
    let is_gpu = |name: &str| {
        name.strip_prefix("nvidia")
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let devices = std::fs::read_dir("/dev").into_iter().flatten().flatten();
    devices.filter(|entry| entry.file_name().to_str().is_some_and(is_gpu)).count().try_into().unwrap_or(u32::MAX)
}

/// As Python's `tempfile` chooses it.
fn temporary_folder(environment: &Environment) -> PathBuf {
    let named = ["TMPDIR", "TEMP", "TMP"].into_iter().filter_map(|name| environment.get(name));
    named.map(PathBuf::from).find(|folder| folder.is_dir()).unwrap_or_else(|| "/tmp".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_what_the_system_says() {
        let folder = tempfile::tempdir().expect("a folder");
        let variables = [("TMPDIR", "/no/such/folder"), ("TMP", folder.path().to_str().expect("text"))];
        let options = Options { numa_binding: Some("auto".into()), ..Options::default() };
        let machine = look(&variables.into_iter().collect(), &options);
        let cpus = std::thread::available_parallelism().expect("cores").get();
        assert!(machine.cpus as usize >= cpus, "affinity, without quotas: {} cores of {cpus}", machine.cpus);
        assert_eq!(machine.topology.map(|topology| topology.allowed.len()), Some(machine.cpus as usize));
        assert_eq!(look(&Environment::default(), &Options::default()).topology, None);
        assert_eq!(machine.temporary_folder, folder.path());
        assert_eq!(temporary_folder(&Environment::default()), PathBuf::from("/tmp"));
    }
}
