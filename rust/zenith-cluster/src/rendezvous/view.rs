//! Who may decide about a run: the nodes that take part in it, spares too, each of which knows of the others.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// More would not make the loss of half of them less likely, and every node is told of all.
pub(super) const VOTERS_MAX: usize = 63;

/// What an agent listens at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Door {
    pub(super) address: String,
    pub(super) port: u16,
}

/// The later one is greater: a term has one host, which counts the views that it proposes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Stamp {
    pub(super) term: u64,
    pub(super) serial: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Voter {
    pub(super) launcher: String,
    pub(super) name: String,
    pub(super) door: Door,
}

/// Nodes that decide together, those of low group ranks first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Electorate {
    pub(super) voters: Vec<Voter>,
    /// Whose voice counts where they are split into equal halves.
    pub(super) host: String,
}

impl Electorate {
    /// Any two quorums have a node in common (ELECT-1).
    pub(super) fn is_quorum(&self, willing: &BTreeSet<String>) -> bool {
        let count = self.voters.iter().filter(|voter| willing.contains(&voter.launcher)).count();
        let all = self.voters.len();
        2 * count > all || 2 * count == all && willing.contains(&self.host)
    }

    pub(super) fn is_of_the_same(&self, other: &Self) -> bool {
        let all =
            |electorate: &Self| electorate.voters.iter().map(|voter| voter.launcher.clone()).collect::<BTreeSet<_>>();
        self.host == other.host && all(self) == all(other)
    }

    pub(super) fn has(&self, launcher: &str) -> bool {
        self.voters.iter().any(|voter| voter.launcher == launcher)
    }
}

/// What a node has to know to go on after its host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct View {
    pub(super) stamp: Stamp,
    pub(super) electorate: Electorate,
    /// Those without whose consent it is not in force: of the view before it, and of views before that one which may not have
    /// been in force either.
    pub(super) bases: Vec<Electorate>,
    /// Of the newest attempt.
    pub(super) generation: u64,
    pub(super) nodes: u32,
    /// How many have begun, or may have.
    pub(super) attempts: u32,
    pub(super) restarts: u32,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn electorate(count: usize) -> Electorate {
        let voter = |number: usize| Voter {
            launcher: number.to_string(),
            name: String::new(),
            door: Door { address: String::new(), port: 1 },
        };
        Electorate { voters: (0..count).map(voter).collect(), host: "0".into() }
    }

    fn set(numbers: &[usize]) -> BTreeSet<String> {
        numbers.iter().map(usize::to_string).collect()
    }

    #[test]
    fn a_quorum_is_more_than_half_or_half_with_the_host() {
        for (count, willing, is_quorum) in [
            (1, &[0][..], true),
            (2, &[0], true),
            (2, &[1], false),
            (3, &[0], false),
            (3, &[1, 2], true),
            (4, &[0, 3], true),
            (4, &[1, 2], false),
            (4, &[1, 2, 3], true),
            (3, &[1, 7, 8], false),
        ] {
            assert_eq!(electorate(count).is_quorum(&set(willing)), is_quorum, "{willing:?} of {count}");
        }
    }

    proptest! {
        /// ELECT-1.
        #[test]
        fn of_two_parties_without_a_common_node_at_most_one_is_a_quorum(sides in proptest::collection::vec(0..3, 1..8)) {
            let party = |side| set(&(0..sides.len()).filter(|&at| sides[at] == side).collect::<Vec<_>>());
            let electorate = electorate(sides.len());
            prop_assert!(!(electorate.is_quorum(&party(0)) && electorate.is_quorum(&party(1))));
        }
    }
}
