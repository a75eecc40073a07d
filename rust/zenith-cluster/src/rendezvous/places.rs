//! Which node gets which group rank (TE-3; T-25 and T-26 are intended differences).

use super::messages::Facts;
use super::state::Node;

/// A node that has no place yet.
pub(super) struct Newcomer<'a> {
    pub(super) node: Node,
    pub(super) facts: &'a Facts,
    pub(super) address: &'a str,
}

/// Nodes keep their places; newcomers, in their order, take those that are free, then further ones; holes that are left close.
pub(super) fn fill(before: &[Option<Node>], mut newcomers: Vec<Newcomer<'_>>) -> Vec<Node> {
    newcomers.sort_by_key(|newcomer| {
        (newcomer.facts.topology.as_deref(), newcomer.facts.node_rank, numeric(newcomer.address), newcomer.node)
    });
    let mut newcomers = newcomers.into_iter().map(|newcomer| newcomer.node);
    let mut places: Vec<Node> = Vec::new();
    for place in before {
        places.extend(place.or_else(|| newcomers.next()));
    }
    places.extend(newcomers);
    places
}

/// So that node 9 comes before node 10, in names and in addresses.
fn numeric(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let is_digit = first.is_ascii_digit();
        let end = rest.find(|character: char| character.is_ascii_digit() != is_digit).unwrap_or(rest.len());
        let (piece, after) = rest.split_at(end);
        pieces.push(match piece.parse() {
            Ok(number) => Piece::Number(number),
            Err(_) => Piece::Text(piece),
        });
        rest = after;
    }
    pieces
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Piece<'a> {
    Number(u64),
    Text(&'a str),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Places of nodes 0, 1, .. that come with these facts, all new.
    fn order(nodes: &[(Option<&str>, u32, &str)]) -> Vec<u64> {
        let facts: Vec<Facts> = nodes
            .iter()
            .map(|&(topology, node_rank, _)| Facts {
                name: String::new(),
                address: None,
                topology: topology.map(Into::into),
                node_rank,
                local_ranks: 1,
                nodes: (1, 9),
            })
            .collect();
        let newcomers = facts
            .iter()
            .zip(nodes)
            .zip(0..)
            .map(|((facts, (.., address)), node)| Newcomer { node: Node(node), facts, address })
            .collect();
        fill(&[], newcomers).into_iter().map(|node| node.0).collect()
    }

    #[test]
    fn topology_comes_before_node_rank_before_address() {
        assert_eq!(order(&[(None, 0, "10.0.0.10"), (None, 0, "10.0.0.9")]), [1, 0]);
        assert_eq!(order(&[(None, 1, "10.0.0.1"), (None, 0, "10.0.0.2")]), [1, 0]);
        assert_eq!(
            order(&[(Some("s2.leaf1"), 0, "a"), (Some("s1.leaf7"), 1, "b"), (Some("s1.leaf7"), 0, "c")]),
            [2, 1, 0]
        );
    }

    #[test]
    fn places_are_kept_and_holes_filled_or_closed() {
        let facts = |topology: &str| Facts {
            name: String::new(),
            address: None,
            topology: Some(topology.into()),
            node_rank: 0,
            local_ranks: 1,
            nodes: (1, 9),
        };
        let (late, early) = (facts("b"), facts("a"));
        let before = [None, Some(Node(1)), None, Some(Node(3))];
        let newcomer = |node, facts| Newcomer { node: Node(node), facts, address: "" };
        assert_eq!(fill(&before, vec![]), [Node(1), Node(3)]);
        assert_eq!(fill(&before, vec![newcomer(8, &late)]), [Node(8), Node(1), Node(3)]);
        let both = vec![newcomer(8, &late), newcomer(9, &early), newcomer(10, &late)];
        assert_eq!(fill(&before, both), [Node(9), Node(1), Node(8), Node(3), Node(10)]);
    }
}
