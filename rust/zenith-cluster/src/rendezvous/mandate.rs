//! On whose consent a host decides: views that are proposed and come into force, and the end of its term (ELECT-4).

use std::collections::BTreeSet;
use std::time::Instant;

use super::super::messages::Order;
use super::super::view::{Electorate, Stamp, VOTERS_MAX, View, Voter};
use super::{Command, NAMES_SHOWN, Node, Phase, State};

/// On whose consent this host's decisions rest.
#[derive(Debug)]
pub(super) struct Mandate {
    pub(super) term: u64,
    pub(super) serial: u64,
    /// A quorum of each has to accept the next view; none for the first host.
    pub(super) bases: Vec<Electorate>,
    /// They have left by themselves, so they will never vote for another.
    pub(super) left: BTreeSet<String>,
    /// Since the election, until they have come: who has voted for this host, and may still be stopping its ranks.
    pub(super) awaited: BTreeSet<String>,
    /// Whether it has had a quorum with it since the election.
    pub(super) is_established: bool,
    /// The view that is not in force yet.
    pub(super) proposal: Option<Proposal>,
}

#[derive(Debug)]
pub(super) struct Proposal {
    pub(super) electorate: Electorate,
    /// Who has not accepted it.
    pub(super) waits_for: BTreeSet<Node>,
    pub(super) accepted: BTreeSet<String>,
}

impl Mandate {
    pub(super) fn new(term: u64, bases: Vec<Electorate>, awaited: BTreeSet<String>) -> Self {
        let left = BTreeSet::new();
        Self { term, serial: 0, bases, left, awaited, is_established: false, proposal: None }
    }
}

impl State {
    /// Asks all voters, old and new, to go on from those that are here now (ELECT-4).
    pub(super) fn propose(&mut self, out: &mut Vec<Command>) {
        self.mandate.serial += 1;
        let electorate = self.electorate();
        let is_beginning = matches!(self.phase, Phase::Opening { .. });
        let view = View {
            stamp: Stamp { term: self.mandate.term, serial: self.mandate.serial },
            electorate: electorate.clone(),
            bases: self.mandate.bases.clone(),
            generation: self.generation,
            nodes: u32::try_from(self.places.len()).unwrap_or(u32::MAX),
            attempts: self.attempts + u32::from(is_beginning),
            restarts: self.restarts,
        };
        let mut waits_for = BTreeSet::new();
        for (&node, member) in &self.members {
            out.push(Command::Send(node, Order::View(view.clone())));
            let is_voter = |electorate: &Electorate| electorate.has(&member.launcher);
            if is_voter(&electorate) || self.mandate.bases.iter().any(is_voter) {
                waits_for.insert(node);
            }
        }
        self.mandate.proposal = Some(Proposal { electorate, waits_for, accepted: BTreeSet::new() });
    }

    /// Those with a place first, then spares; this host among them in any case.
    fn electorate(&self) -> Electorate {
        let places = self.places.iter().flatten();
        let placed: BTreeSet<&Node> = places.clone().collect();
        let spares = self.members.keys().filter(|node| !placed.contains(node));
        let voter = |node: &Node| {
            let member = self.members.get(node)?;
            let (launcher, name) = (member.launcher.clone(), member.facts.name.clone());
            Some(Voter { launcher, name, door: member.door.clone()? })
        };
        let mut voters: Vec<Voter> = places.chain(spares).filter_map(voter).collect();
        if let Some(own) = voters.iter().skip(VOTERS_MAX).position(|voter| voter.launcher == self.own) {
            voters.swap(VOTERS_MAX - 1, VOTERS_MAX + own);
        }
        voters.truncate(VOTERS_MAX);
        Electorate { voters, host: self.own.clone() }
    }

    pub(super) fn on_accepted(&mut self, node: Node, out: &mut Vec<Command>) {
        let Mandate { proposal: Some(proposal), bases, left, .. } = &mut self.mandate else { return };
        let Some(member) = self.members.get(&node) else { return };
        proposal.waits_for.remove(&node);
        proposal.accepted.insert(member.launcher.clone());
        // Who has joined since the proposal is here and has not accepted it.
        let consenting: BTreeSet<String> = proposal.accepted.union(left).cloned().collect();
        if !proposal.waits_for.is_empty() || !bases.iter().all(|base| base.is_quorum(&consenting)) {
            return;
        }
        if let Some(Proposal { electorate, .. }) = self.mandate.proposal.take() {
            self.mandate.left.retain(|launcher| electorate.has(launcher));
            self.mandate.bases = vec![electorate];
            let stamp = Stamp { term: self.mandate.term, serial: self.mandate.serial };
            for &node in self.members.keys() {
                out.push(Command::Send(node, Order::InForce(stamp)));
            }
        }
        self.start(out);
    }

    /// Once a second, so that votes follow who is here: spares that came later, and those that were lost.
    pub(super) fn renew(&mut self, out: &mut Vec<Command>) {
        let is_new = match (&self.mandate.proposal, self.mandate.bases.as_slice()) {
            (_, []) => false,
            (Some(proposal), _) => !self.electorate().is_of_the_same(&proposal.electorate),
            (None, [base]) => !self.electorate().is_of_the_same(base),
            (None, _) => true,
        };
        let may = self.mandate.is_established && self.has_quorum();
        if is_new && may && !matches!(self.phase, Phase::Opening { .. } | Phase::Over) {
            self.propose(out);
        }
    }

    /// Who is here, or has left in a way that leaves no doubt.
    fn present(&self) -> BTreeSet<String> {
        let here = self.members.values().map(|member| member.launcher.clone());
        here.chain(self.mandate.left.iter().cloned()).collect()
    }

    pub(super) fn has_quorum(&self) -> bool {
        let present = self.present();
        self.mandate.bases.iter().all(|base| base.is_quorum(&present))
    }

    /// A host without a quorum is none: those that it cannot hear may have elected another (ELECT-1).
    pub(super) fn keep_mandate(&mut self, now: Instant, out: &mut Vec<Command>) {
        if self.is_over() {
            return;
        }
        let has_quorum = self.has_quorum();
        let is_early = match &self.phase {
            Phase::Gathering { not_before, .. } => !self.mandate.is_established && now < *not_before,
            _ => false,
        };
        if has_quorum || is_early {
            self.mandate.is_established |= has_quorum;
            return;
        }
        let present = self.present();
        let lost = self.mandate.bases.iter().flat_map(|base| &base.voters);
        let lost: BTreeSet<&str> =
            lost.filter(|voter| !present.contains(&voter.launcher)).map(|voter| voter.name.as_str()).collect();
        let names: Vec<&str> = lost.iter().copied().take(NAMES_SHOWN).collect();
        let why = format!(
            "the host has lost too many nodes at once to go on ({}): they may have gone on without it",
            names.join(", ")
        );
        self.step_down(&why, self.mandate.term, out);
    }

    pub(super) fn step_down(&mut self, why: &str, seen: u64, out: &mut Vec<Command>) {
        for &node in self.members.keys() {
            out.push(Command::Send(node, Order::Dismissed(why.into())));
            out.push(Command::Close(node));
        }
        out.push(Command::StepDown { why: why.into(), seen });
        self.members.clear();
        self.phase = Phase::Over;
    }
}
