//! Which nodes a host takes in.

use super::messages::Facts;
use super::state::State;

/// Every node is told of every other, so what a start takes grows by their square.
const NODES_MAX: usize = 4_096;
const RANKS_MAX: u32 = 4_096;
/// Of what a node says, as far as it is shown.
const TEXT_MAX: usize = 256;

/// What a node says, fit for a terminal.
pub(super) fn shown(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(TEXT_MAX).collect()
}

/// Why a node that joins cannot take part; the reason does not pass.
pub(super) fn objection(state: &State, facts: &Facts, address: &str) -> Option<String> {
    let Facts { node_rank, nodes, local_ranks, .. } = *facts;
    let (least, most) = (state.terms.least, state.terms.most);
    if state.is_over() {
        return Some("the job has ended".into());
    }
    // It becomes a variable of every rank's environment, and part of messages on every terminal.
    let is_address = |character: char| character.is_alphanumeric() || "_.:-%".contains(character);
    if address.is_empty() || address.len() > TEXT_MAX || !address.chars().all(is_address) {
        return Some("its --local-addr is neither a host name nor an address".into());
    }
    if !(1..=RANKS_MAX).contains(&local_ranks) {
        return Some(format!("{local_ranks} ranks on a node are not between 1 and {RANKS_MAX}"));
    }
    if nodes != (least, most) {
        let (their_least, their_most) = nodes;
        return Some(format!(
            "--nnodes={their_least}:{their_most} here, {least}:{most} at the host; give the same to all nodes"
        ));
    }
    if state.members.len() >= NODES_MAX {
        return Some(format!("{NODES_MAX} nodes have joined already"));
    }
    if !state.terms.is_static {
        return None;
    }
    if node_rank >= most {
        return Some(format!("--node-rank={node_rank} is out of range: there are {most} nodes, counted from 0"));
    }
    let other = state.members.values().find(|other| other.facts.node_rank == node_rank)?;
    Some(format!(
        "--node-rank={node_rank} is taken by {} ({}); give every node another",
        other.facts.name, other.address
    ))
}
