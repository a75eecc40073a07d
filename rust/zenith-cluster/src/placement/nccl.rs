//! Variables for NCCL and Gloo (TE-1, TE-2). None steers what NCCL measures for itself: no algorithm, no protocol.

use std::path::PathBuf;

/// `--nccl-env`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Level {
    /// Nothing: interfaces are not ambiguous on one node.
    #[default]
    Off,
    /// What follows from the plan itself.
    Safe,
    /// And what the machine's provider says of it.
    Full,
}

impl Level {
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "off" => Some(Self::Off),
            "safe" => Some(Self::Safe),
            "full" => Some(Self::Full),
            _ => None,
        }
    }
}

/// What the variables depend on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Situation {
    pub is_one_node: bool,
    /// Whether any rank is bound.
    pub is_bound: bool,
    /// Descriptions of its wiring that the provider of a virtual machine left in it.
    pub topology_files: Vec<PathBuf>,
    /// Names in NCCL's own files, which variables would overrule.
    pub configured: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    pub name: &'static str,
    pub value: String,
    pub reason: &'static str,
}

/// What is to be set, and what it is for. A name that `is_set`, or stands in NCCL's files, is the user's own.
pub fn variables(level: Level, situation: &Situation, is_set: impl Fn(&str) -> bool) -> Vec<Variable> {
    let mut all = Vec::new();
    let mut add = |name, value: &str, reason| all.push(Variable { name, value: value.into(), reason });
    if level != Level::Off && situation.is_one_node {
        let reason = "all ranks are on this node, so the loopback interface reaches them whatever the network is";
        add("NCCL_SOCKET_IFNAME", "=lo", reason);
        add("GLOO_SOCKET_IFNAME", "lo", reason);
    }
    if level != Level::Off && situation.is_bound {
        let reason = "NCCL's threads stay on the cores of their rank, where these are near its GPU";
        add("NCCL_IGNORE_CPU_AFFINITY", "0", reason);
    }
    if let (Level::Full, [file]) = (level, &situation.topology_files[..])
        && let Some(file) = file.to_str()
    {
        let reason = "the provider of this virtual machine tells how it is wired, which its PCI devices do not";
        add("NCCL_TOPO_FILE", file, reason);
    }
    all.retain(|variable| !is_set(variable.name) && !situation.configured.iter().any(|name| name == variable.name));
    all
}

/// The names in a file such as /etc/nccl.conf, whose lines are `NAME=value`.
pub fn configured(text: &str) -> Vec<String> {
    let names = text.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name.trim().to_owned());
    names.filter(|name| !name.starts_with('#')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_add_up_and_users_variables_stay() {
        let wired: Situation = Situation {
            is_one_node: true,
            is_bound: true,
            topology_files: vec!["/opt/microsoft/ndv5-topo.xml".into()],
            configured: Vec::new(),
        };
        let several = Situation { is_one_node: false, is_bound: false, ..wired.clone() };
        let unclear = Situation { topology_files: vec!["a".into(), "b".into()], ..several.clone() };
        let names = configured("# NCCL_A=1\n NCCL_TOPO_FILE = /a.xml\n\nx");
        let configured = Situation { configured: names, ..several.clone() };
        let (interfaces, affinity) = ("NCCL_SOCKET_IFNAME==lo GLOO_SOCKET_IFNAME=lo", "NCCL_IGNORE_CPU_AFFINITY=0");
        let file = "NCCL_TOPO_FILE=/opt/microsoft/ndv5-topo.xml";
        for (level, situation, set, expected) in [
            ("off", &wired, "", String::new()),
            ("safe", &wired, "", format!("{interfaces} {affinity}")),
            ("full", &wired, "", format!("{interfaces} {affinity} {file}")),
            ("full", &wired, "NCCL_SOCKET_IFNAME", format!("GLOO_SOCKET_IFNAME=lo {affinity} {file}")),
            ("safe", &several, "", String::new()),
            ("full", &several, "", file.into()),
            ("full", &unclear, "", String::new()),
            ("full", &configured, "", String::new()),
        ] {
            let variables = variables(Level::named(level).expect(level), situation, |name| name == set);
            let shown: Vec<_> = variables.iter().map(|one| format!("{}={}", one.name, one.value)).collect();
            assert_eq!(shown.join(" "), expected, "{level} {situation:?} {set}");
        }
        assert_eq!(Level::named("all"), None);
    }
}
