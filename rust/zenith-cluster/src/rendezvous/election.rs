//! Who becomes the host when the host is lost: a node that a quorum of its last attempt has elected, the one of the lowest group
//! rank if it can.
//!
//! What is to be avoided is not that nobody goes on, but that two parts of a run go on each for itself. Rules, for the tests:
//! ELECT-1: two quorums of an electorate have a node in common; an electorate that is split into equal halves has one, with its host.
//! ELECT-2: a host is elected by a quorum of the newest view that it has accepted and, while it does not know that one in force,
//! of every view on which that is based.
//! ELECT-3: a voter votes once in a term, for nobody who knows an older view than itself, and accepts nothing of older terms.
//! ELECT-4: a view is in force, and its attempt begins, when all of its voters and a quorum of its bases have accepted it.
//! So the views in force are a line, each after the one before it. It is dynamic-linear voting (Jajodia and Mutchler, 1990), with
//! the terms of Raft.

use std::collections::BTreeSet;

use super::standing::{Answer, Standing};
use super::view::Door;

/// Rounds in which a node lets one of lower group rank stand.
const ROUNDS_PER_RANK: u32 = 3;

/// What a node without a host does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// There is a host.
    Join(Door),
    /// It asks for votes in a term later than this one.
    Stand {
        after: u64,
    },
    Wait,
}

/// What follows from what others say of themselves in the `round`th round, after the host at `lost` was lost.
pub(super) fn next(standing: &Standing, lost: Option<&Door>, answers: &[Answer], round: u32) -> Step {
    // Others may not have noticed yet that it is lost.
    let leads = |answer: &&Answer| answer.is_host || answer.host.is_some() && answer.host.as_ref() != lost;
    if let Some(host) = answers.iter().filter(leads).max_by_key(|answer| answer.term).and_then(|all| all.host.clone()) {
        return Step::Join(host);
    }
    let electorates = standing.electorates();
    let Some(electorate) = electorates.first().filter(|electorate| electorate.has(&standing.launcher)) else {
        return Step::Wait;
    };
    let mut willing: BTreeSet<String> =
        answers.iter().filter(|answer| answer.host.is_none()).map(|answer| answer.launcher.clone()).collect();
    willing.insert(standing.launcher.clone());
    // Without hope for a quorum terms are not counted up: that would only disturb others when this node comes back.
    if !electorates.iter().all(|electorate| electorate.is_quorum(&willing)) {
        return Step::Wait;
    }
    let before = electorate.voters.iter().take_while(|voter| voter.launcher != standing.launcher);
    let ahead = before.filter(|voter| willing.contains(&voter.launcher)).count();
    let turn = u32::try_from(ahead).unwrap_or(u32::MAX).saturating_mul(ROUNDS_PER_RANK);
    if round < turn {
        return Step::Wait;
    }
    let after = answers.iter().map(|answer| answer.term).max().unwrap_or_default();
    Step::Stand { after }
}

/// Whether these votes make this node the host.
pub(super) fn is_elected(standing: &Standing, term: u64, votes: &[Answer]) -> bool {
    let mut granted: BTreeSet<String> =
        votes.iter().filter(|vote| vote.is_granted && vote.term == term).map(|vote| vote.launcher.clone()).collect();
    granted.insert(standing.launcher.clone());
    let electorates = standing.electorates();
    // In the meantime it may have voted for another.
    standing.promised() == term && !electorates.is_empty() && electorates.iter().all(|all| all.is_quorum(&granted))
}

#[cfg(test)]
#[path = "election_tests.rs"]
mod tests;
