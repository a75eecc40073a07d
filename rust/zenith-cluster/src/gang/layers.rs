//! Which of the ways to leave nothing behind are used. All of them, but for tests, which try each alone.

use super::cgroup::{Cgroup, Version};

/// Ways that are not to be used, with commas between them: `cgroup-v2`, `cgroup-v1`, `tree`, `death-signal`.
const VARIABLE: &str = "ZENITH_GANG_WITHOUT";

#[derive(Debug, Clone, Copy)]
pub(super) struct Layers {
    cgroup_v2: bool,
    cgroup_v1: bool,
    /// Descendants are looked for in /proc.
    pub(super) walks_tree: bool,
    /// Ranks die with the guardian.
    pub(super) dies_with_parent: bool,
}

impl Layers {
    #[expect(
        clippy::disallowed_methods,
        reason = "zenith::env belongs to the data plane, which this crate does not know"
    )]
    pub(super) fn from_environment() -> Self {
        Self::without(&std::env::var(VARIABLE).unwrap_or_default())
    }

    fn without(names: &str) -> Self {
        let has = |name| !names.split(',').any(|without| without == name);
        Self {
            cgroup_v2: has("cgroup-v2"),
            cgroup_v1: has("cgroup-v1"),
            walks_tree: has("tree"),
            dies_with_parent: has("death-signal"),
        }
    }

    pub(super) fn make_cgroup(&self) -> Option<Cgroup> {
        let two = || self.cgroup_v2.then(|| Cgroup::make(Version::Two)).flatten();
        let one = || self.cgroup_v1.then(|| Cgroup::make(Version::One)).flatten();
        two().or_else(one)
    }
}
