//! A step of Slurm with a launcher on each of several nodes: it says all that rendezvous flags would say.

use super::Environment;
use crate::command_line::Options;

/// Below the ports that systems give to clients.
const PORTS: std::ops::Range<u64> = 20_000..30_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) nodes: u32,
    pub(super) node_rank: u32,
    /// The first of its nodes.
    pub(super) host: String,
    /// The same on all nodes, and rarely another step's.
    pub(super) port: u16,
    pub(super) run_id: String,
}

/// `None` where flags say how to meet, or where the step is not of that shape.
pub(super) fn step(options: &Options, environment: &Environment) -> Option<Step> {
    let is_silent = options.nnodes == "1:1"
        && !options.standalone
        && options.rdzv_backend == "static"
        && options.rdzv_endpoint.is_empty()
        && options.master_port.is_none();
    if !is_silent {
        return None;
    }
    let number = |name: &str| environment.text(name)?.parse::<u64>().ok();
    let nodes = number("SLURM_STEP_NUM_NODES").filter(|&nodes| nodes > 1)?;
    // More tasks than nodes are ranks that were started by Slurm itself.
    if number("SLURM_STEP_NUM_TASKS") != Some(nodes) {
        return None;
    }
    let (job, step) = (number("SLURM_JOB_ID")?, number("SLURM_STEP_ID")?);
    let range = PORTS.end - PORTS.start;
    let port = PORTS.start + job.wrapping_mul(31).wrapping_add(step) % range;
    Some(Step {
        nodes: nodes.try_into().ok()?,
        node_rank: number("SLURM_NODEID")?.try_into().ok()?,
        host: first_host(&environment.text("SLURM_STEP_NODELIST")?)?,
        port: port.try_into().ok()?,
        run_id: format!("slurm.{job}.{step}"),
    })
}

/// `n001` of `n[001-003,7],x`, `r1n3` of `r[1-2]n[3-4]`.
fn first_host(list: &str) -> Option<String> {
    let mut host = String::new();
    let mut rest = list;
    while let Some(end) = rest.find(['[', ',']) {
        host.push_str(&rest[..end]);
        if rest[end..].starts_with(',') {
            return Some(host).filter(|host| !host.is_empty());
        }
        let (numbers, after) = rest[end + 1..].split_once(']')?;
        host.extend(numbers.chars().take_while(|character| character.is_ascii_digit()));
        rest = after;
    }
    host.push_str(rest);
    Some(host).filter(|host| !host.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: [(&str, &str); 6] = [
        ("SLURM_STEP_NUM_NODES", "3"),
        ("SLURM_STEP_NUM_TASKS", "3"),
        ("SLURM_JOB_ID", "700"),
        ("SLURM_STEP_ID", "2"),
        ("SLURM_NODEID", "1"),
        ("SLURM_STEP_NODELIST", "gpu[07-09]"),
    ];

    #[test]
    fn the_first_host_of_a_list() {
        for (list, host) in [
            ("n1", Some("n1")),
            ("n1,n2", Some("n1")),
            ("n[001-003,7],x", Some("n001")),
            ("n[4,7-9]", Some("n4")),
            ("r[1-2]n[3-4]-ib,x", Some("r1n3-ib")),
            ("", None),
            (",x", None),
            ("n[1", None),
        ] {
            assert_eq!(first_host(list).as_deref(), host, "{list:?}");
        }
    }

    #[test]
    fn a_step_with_a_launcher_on_each_node_needs_no_flags() {
        let step =
            |options: &Options, variables: &[(&str, &str)]| super::step(options, &variables.iter().copied().collect());
        let options = Options::default();
        let expected =
            Step { nodes: 3, node_rank: 1, host: "gpu07".into(), port: 21_702, run_id: "slurm.700.2".into() };
        assert_eq!(step(&options, &STEP), Some(expected));
        for name in STEP.map(|(name, _)| name) {
            let without: Vec<_> = STEP.into_iter().filter(|(other, _)| *other != name).collect();
            assert_eq!(step(&options, &without), None, "{name}");
        }
        let mut ranks = STEP;
        ranks[1].1 = "24";
        assert_eq!(step(&options, &ranks), None, "a task for every rank");
        for given in [
            Options { standalone: true, ..Options::default() },
            Options { nnodes: "3".into(), ..Options::default() },
            Options { master_port: Some(1), ..Options::default() },
        ] {
            assert_eq!(step(&given, &STEP), None);
        }
    }
}
