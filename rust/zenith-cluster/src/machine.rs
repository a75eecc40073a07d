//! A look at this machine, once, for the plan.

use std::path::PathBuf;

use crate::plan::{Environment, Machine};

pub(crate) fn look(environment: &Environment) -> Machine {
    Machine {
        cpus: rustix::thread::sched_getaffinity(None).map_or(1, |set| set.count()),
        gpus: gpus(),
        program_folder: std::env::current_exe().ok().and_then(|path| path.parent().map(Into::into)),
        temporary_folder: temporary_folder(environment),
    }
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
        let machine = look(&variables.into_iter().collect());
        let cpus = std::thread::available_parallelism().expect("cores").get();
        assert!(machine.cpus as usize >= cpus, "affinity, without quotas: {} cores of {cpus}", machine.cpus);
        assert_eq!(machine.temporary_folder, folder.path());
        assert_eq!(temporary_folder(&Environment::default()), PathBuf::from("/tmp"));
    }
}
