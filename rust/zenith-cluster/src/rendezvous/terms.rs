//! What a run demands of its nodes.

use std::time::Duration;

const BEAT: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    pub least: u32,
    pub most: u32,
    /// Every node has the place that its node rank says, and all are needed.
    pub is_static: bool,
    /// Whether the others elect a new host when the host is lost.
    pub elects: bool,
    pub call: Call,
    /// How long too few nodes are waited for.
    pub join_timeout: Duration,
    /// How long the end is told to nodes that do not listen, and a host is looked for that is out of reach.
    pub close_timeout: Duration,
    pub dead_after: Duration,
    pub max_restarts: u32,
}

/// When a first attempt begins with fewer than all nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// So long after there were enough.
    After(Duration),
    /// At once with so many, since no more will come.
    Final(u32),
}

/// Both sides say this often that they live.
pub(super) fn beat(dead_after: Duration) -> Duration {
    BEAT.min(dead_after / 3)
}
