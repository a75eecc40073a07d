//! What a template has in common with the ranks that are forked from it, and which ranks have too little.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};

use crate::worker::{Output, Worker};

/// Variables that differ from rank to rank or from attempt to attempt. A template has none of them.
const OF_RANKS: [&str; 13] = [
    "RANK",
    "LOCAL_RANK",
    "GROUP_RANK",
    "ROLE_RANK",
    "WORLD_SIZE",
    "GROUP_WORLD_SIZE",
    "ROLE_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
    "TORCHELASTIC_RESTART_COUNT",
    "TORCHELASTIC_ERROR_FILE",
    "JAX_COORDINATOR_ADDRESS",
    "ZENITH_HEARTBEAT_FILE",
];
/// It may be one rank's alone. Read when a device is first used, which no template has done.
const DEVICES: &str = "CUDA_VISIBLE_DEVICES";

const ENTER: &str = include_str!("enter.py");
const TEMPLATE: &str = include_str!("template.py");
/// In front of the ranks' own arguments: `-u -c`, the first code, the program, the second code, the modules.
const OWN_ARGUMENTS: usize = 6;

/// The process that ranks like these can be forked from, once it has imported `modules`.
pub(in crate::gang) fn template(workers: &[Worker], modules: &[String]) -> Option<Worker> {
    let first = workers.first()?;
    let variable = |worker: &Worker, name: &str| {
        worker.environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    };
    let devices = variable(first, DEVICES);
    let is_one = workers.iter().all(|worker| variable(worker, DEVICES) == devices);
    let left_out: Vec<&str> = OF_RANKS.into_iter().chain((!is_one).then_some(DEVICES)).collect();
    let code = TEMPLATE.replace("@OF_RANKS@", &left_out.join("\", \""));
    let own = ["-u".into(), "-c".into(), ENTER.into(), first.program.clone(), code.into(), modules.join(",").into()];
    // Libraries count their CPUs when they are loaded. Ranks with CPUs of their own have OMP_NUM_THREADS instead.
    let binding = first.binding.clone().filter(|_| workers.iter().all(|worker| worker.binding == first.binding));
    Some(Worker {
        arguments: own.into_iter().chain(first.arguments.iter().cloned()).collect(),
        environment: first
            .environment
            .iter()
            .filter(|(name, _)| !left_out.iter().any(|known| name == known))
            .cloned()
            .collect(),
        stdout: Output::Discarded,
        stderr: Output::Discarded,
        binding,
        ..first.clone()
    })
}

/// Why a rank cannot be forked from `template`; else its arguments behind the script.
pub(super) fn arguments<'a>(template: &Worker, worker: &'a Worker) -> Result<&'a [OsString], String> {
    let command = template.arguments.get(OWN_ARGUMENTS..).unwrap_or_default();
    let head = if command.get(1).is_some_and(|argument| argument == "-m") { 3 } else { 2 };
    let is_same = template.program == worker.program
        && command.len() >= head
        && worker.arguments.get(..head) == command.get(..head);
    if !is_same {
        return Err(format!("rank {} runs another script than the template is made for", worker.rank));
    }
    if let Some(name) = difference(&template.environment, &worker.environment) {
        return Err(format!("{} of rank {} is not what the template has", name.display(), worker.rank));
    }
    Ok(worker.arguments.get(head..).unwrap_or_default())
}

/// A variable that libraries may have read when they were loaded.
fn difference<'a>(template: &'a [(OsString, OsString)], rank: &'a [(OsString, OsString)]) -> Option<&'a OsStr> {
    let table = |variables: &'a [(OsString, OsString)]| -> HashMap<&'a OsStr, &'a OsStr> {
        // Of one that stands twice the first counts.
        variables.iter().rev().map(|(name, value)| (name.as_os_str(), value.as_os_str())).collect()
    };
    let (of_template, of_rank) = (table(template), table(rank));
    let names = template.iter().chain(rank).map(|(name, _)| name.as_os_str());
    let is_free = |name: &OsStr| {
        OF_RANKS.iter().any(|known| name == *known) || name == DEVICES && !of_template.contains_key(name)
    };
    names.into_iter().find(|name| of_template.get(name) != of_rank.get(name) && !is_free(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(rank: u32, arguments: &[&str], environment: &[(&str, &str)]) -> Worker {
        let own = [("RANK".to_owned(), rank.to_string()), ("MASTER_PORT".to_owned(), (rank + 1).to_string())];
        let given = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Worker {
            local_rank: rank,
            rank,
            program: "python".into(),
            arguments: arguments.iter().map(OsString::from).collect(),
            environment: given.chain(own).map(|(name, value)| (name.into(), value.into())).collect(),
            stdout: Output::Inherited,
            stderr: Output::Inherited,
            binding: None,
        }
    }

    fn refusal(template: &Worker, worker: &Worker) -> String {
        arguments(template, worker).err().unwrap_or_default()
    }

    #[test]
    fn ranks_of_one_program_have_a_template() {
        let workers = [0, 1].map(|rank| worker(rank, &["-u", "train.py", "-m"], &[("OMP_NUM_THREADS", "2")]));
        let template = template(&workers, &["torch".into(), "numpy".into()]).expect("there are ranks");
        let names: Vec<_> = template.environment.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["OMP_NUM_THREADS"]);
        assert_eq!(template.arguments[5], "torch,numpy");
        assert_eq!(template.arguments[OWN_ARGUMENTS..], ["-u", "train.py", "-m"]);
        for argument in ["a", "b"] {
            let later = worker(7, &["-u", "train.py", argument], &[("OMP_NUM_THREADS", "2")]);
            assert_eq!(arguments(&template, &later), Ok(&[argument.into()][..]));
        }
    }

    #[test]
    fn what_libraries_may_have_read_is_the_same_or_the_start_is_cold() {
        let template = template(&[worker(0, &["-u", "-m", "a.b"], &[("OMP_NUM_THREADS", "2")])], &[]).expect("a rank");
        let other =
            |arguments: &[&str], environment: &[(&str, &str)]| refusal(&template, &worker(3, arguments, environment));
        let module = &["-u", "-m", "a.b"];
        assert_eq!(other(module, &[("OMP_NUM_THREADS", "2")]), "");
        for environment in [&[("OMP_NUM_THREADS", "3")][..], &[], &[("OMP_NUM_THREADS", "2"), ("MKL_CBWR", "AVX2")]] {
            let name = environment.last().map_or("OMP_NUM_THREADS", |(name, _)| name);
            assert_eq!(other(module, environment), format!("{name} of rank 3 is not what the template has"));
        }
        for arguments in [&["-u", "-m", "a.c"][..], &["-u", "a.py"], &[]] {
            let text = "rank 3 runs another script than the template is made for";
            assert_eq!(other(arguments, &[("OMP_NUM_THREADS", "2")]), text);
        }
    }

    #[test]
    fn devices_may_differ_where_the_template_has_none() {
        let ranks =
            |devices: [&str; 2]| [0, 1].map(|rank| worker(rank, &["-u", "a.py"], &[(DEVICES, devices[rank as usize])]));
        let own = ranks(["0", "1"]);
        let of_own = template(&own, &[]).expect("ranks");
        assert!(of_own.environment.is_empty());
        assert_eq!(refusal(&of_own, &own[1]), "");
        let of_common = template(&ranks(["0,1", "0,1"]), &[]).expect("ranks");
        assert_eq!(of_common.environment, [(DEVICES.into(), "0,1".into())]);
        assert_eq!(refusal(&of_common, &own[1]), "CUDA_VISIBLE_DEVICES of rank 1 is not what the template has");
    }
}
