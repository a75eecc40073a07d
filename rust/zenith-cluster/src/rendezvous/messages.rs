//! What host and nodes tell each other.

use serde::{Deserialize, Serialize};

use super::view::{Door, Stamp, View};

/// What a node says of itself when it joins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Facts {
    /// The name of its machine, for messages.
    pub(super) name: String,
    /// How other nodes reach it, where the user has said so.
    pub(super) address: Option<String>,
    /// Where it lies, compared as text: nodes that lie together get neighbouring ranks.
    pub(super) topology: Option<String>,
    /// Its place among the nodes, where one was given.
    pub(super) node_rank: u32,
    pub(super) local_ranks: u32,
    /// The bounds on nodes in its command line, which must be the host's.
    pub(super) nodes: (u32, u32),
}

/// From a node to the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// I live.
    Beat,
    /// The view is what this node would go on from.
    Accepted { serial: u64 },
    /// The store of the attempt listens; the port of JAX's coordinator is held.
    Opened { generation: u64, port: u16, coordinator_port: u16 },
    /// My ranks have ended well.
    Succeeded { generation: u64 },
    /// My ranks have failed, and nothing of them is left.
    Failed { generation: u64, what: String },
    /// Nothing of my ranks is left.
    Clean { generation: u64 },
    /// I stand still until SIGCONT.
    Suspended,
    /// I go.
    Left { what: String },
}

/// From the host to a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Order {
    /// I live, and this is what all wait for.
    Beat(Option<Progress>),
    /// What to go on from if the host is lost; to be accepted.
    View(View),
    /// The view that was told last is what everybody goes on from.
    InForce(Stamp),
    Decided(Decision),
    /// You are no longer listened to; stop everything, and join again.
    Dismissed(String),
    /// This is not the host; it is there, as far as this node knows.
    Elsewhere(Option<Door>),
    /// You cannot take part, for a reason that does not pass.
    Refused(String),
}

/// What the launcher of a node is to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Decision {
    /// Open a store for the attempt, which others reach at this address of yours, and report its port.
    Open {
        generation: u64,
        address: String,
    },
    Start(Start),
    /// Stop the ranks and report when nothing of them is left.
    Stop {
        generation: u64,
        why: String,
    },
    End(Verdict),
}

/// An attempt, as one of its nodes is told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    pub generation: u64,
    /// Counts starts; `restarts` counts failures.
    pub attempt: u32,
    pub restarts: u32,
    /// This node's place among the nodes.
    pub group_rank: u32,
    /// Ranks of each node, by group rank.
    pub local_ranks: Vec<u32>,
    pub master_address: String,
    pub master_port: u16,
    /// Of JAX's coordinator, at the same address.
    pub coordinator_port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    Succeeded,
    Failed(String),
}

/// What a node waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Progress {
    /// Its ranks are not needed unless a node is lost.
    Spare,
    Gathering {
        here: Vec<String>,
        wanted: (u32, u32),
        seconds_left: u64,
        has_enough: bool,
    },
}
