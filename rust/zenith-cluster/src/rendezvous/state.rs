//! The decisions of the host: what happened goes in with its time, orders to nodes come out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::admission::{objection, shown};
use super::handshake::Join;
use super::messages::{Decision, Facts, Order, Progress, Report, Start, Verdict};
use super::places::{self, Newcomer};
use super::terms::{Call, Terms, beat};
use super::view::{Door, Electorate, View};
use crate::backoff::Backoff;

const NAMES_SHOWN: usize = 8;

#[path = "mandate.rs"]
mod mandate;

use mandate::Mandate;

/// A connection to a node. A node that comes back is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Node(pub(super) u64);

#[derive(Debug)]
pub(super) enum Event {
    Joined {
        node: Node,
        join: Join,
        address: String,
    },
    Told {
        node: Node,
        report: Report,
    },
    /// The connection ended.
    Cut(Node),
    /// The host's launcher goes.
    HostLeaves,
    /// Another says that it is the host of this run.
    Claimed {
        term: u64,
        by: String,
    },
    /// A deadline may have passed.
    Time,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command {
    Send(Node, Order),
    /// After all that was sent to it.
    Close(Node),
    Say(String),
    /// This node is the host no more; terms up to this one have been promised elsewhere.
    StepDown {
        why: String,
        seen: u64,
    },
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) terms: Terms,
    pub(super) members: BTreeMap<Node, Member>,
    /// The launcher whose thread this is.
    own: String,
    /// Who had which place in the last attempt; `None` is a hole.
    places: Vec<Option<Node>>,
    phase: Phase,
    mandate: Mandate,
    generation: u64,
    attempts: u32,
    restarts: u32,
    backoff: Backoff<String>,
    last_event: Instant,
    next_beat: Instant,
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) facts: Facts,
    pub(super) address: String,
    launcher: String,
    door: Option<Door>,
    heard: Instant,
}

#[derive(Debug)]
enum Phase {
    /// Nobody runs.
    Gathering {
        not_before: Instant,
        give_up_at: Instant,
        call_ends: Option<Instant>,
    },
    /// Nobody runs; the first of the roster opens the store, and voters accept a view.
    Opening {
        roster: Vec<Node>,
        ports: Option<(u16, u16)>,
    },
    Running {
        roster: Vec<Node>,
        done: BTreeSet<Node>,
    },
    /// These may still run.
    Stopping {
        waits_for: BTreeSet<Node>,
        not_before: Instant,
    },
    Over,
}

impl State {
    /// The host of a run that begins. Later generations than the first are greater; those of another beginning are others.
    pub(super) fn new(terms: Terms, own: String, generation: u64, now: Instant) -> Self {
        let mandate = Mandate { is_established: true, ..Mandate::new(1, Vec::new(), BTreeSet::new()) };
        let phase = Phase::Gathering { not_before: now, give_up_at: now + terms.join_timeout, call_ends: None };
        Self::with(terms, own, mandate, phase, generation, now)
    }

    /// A host that was elected by `voters` to go on from `view`.
    pub(super) fn elected(
        terms: Terms,
        own: String,
        term: u64,
        (view, bases): (&View, Vec<Electorate>),
        awaited: BTreeSet<String>,
        now: Instant,
    ) -> Self {
        let mandate = Mandate::new(term, bases, awaited);
        let until = now + terms.close_timeout;
        let give_up_at = match terms.call {
            Call::Final(_) => until,
            Call::After(_) => now + terms.join_timeout.max(terms.close_timeout),
        };
        let phase = Phase::Gathering { not_before: until, give_up_at, call_ends: None };
        let mut state = Self::with(terms, own, mandate, phase, view.generation, now);
        state.places = vec![None; view.nodes as usize];
        state.attempts = view.attempts;
        state.restarts = view.restarts + 1;
        state
    }

    fn with(terms: Terms, own: String, mandate: Mandate, phase: Phase, generation: u64, now: Instant) -> Self {
        let next_beat = now + beat(terms.dead_after);
        Self {
            terms,
            members: BTreeMap::new(),
            own,
            places: Vec::new(),
            phase,
            mandate,
            generation,
            attempts: 0,
            restarts: 0,
            backoff: Backoff::default(),
            last_event: now,
            next_beat,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    /// When `Event::Time` is due.
    pub(super) fn deadline(&self) -> Instant {
        match &self.phase {
            Phase::Gathering { not_before, .. } if *not_before > self.last_event => self.next_beat.min(*not_before),
            Phase::Gathering { give_up_at, call_ends, .. } => self.next_beat.min(call_ends.unwrap_or(*give_up_at)),
            _ => self.next_beat,
        }
    }

    pub(super) fn on_event(&mut self, event: Event, now: Instant, out: &mut Vec<Command>) {
        self.forgive_own_pause(now);
        match event {
            Event::Joined { node, join, address } => self.on_join(node, join, address, now, out),
            Event::Told { node, report } => {
                if let Some(member) = self.members.get_mut(&node) {
                    member.heard = now;
                    self.on_report(node, report, now, out);
                }
            }
            Event::Cut(node) => self.lose(node, "its connection ended", now, out),
            Event::HostLeaves if !self.is_over() => {
                self.end(&Verdict::Failed("the host of the rendezvous was stopped".into()), out);
            }
            Event::HostLeaves => {}
            Event::Claimed { term, by } => {
                if !self.is_over() && term > self.mandate.term {
                    self.step_down(&format!("the run has another host already, at {}", shown(&by)), term, out);
                }
            }
            Event::Time => self.on_time(now, out),
        }
        self.keep_mandate(now, out);
        self.gather(now, out);
    }

    /// Who was not heard because the host itself stood still is not dead.
    fn forgive_own_pause(&mut self, now: Instant) {
        let pause = now.saturating_duration_since(self.last_event);
        self.last_event = self.last_event.max(now);
        // `deadline` is never further away than a beat.
        if pause > beat(self.terms.dead_after) * 3 / 2 {
            for member in self.members.values_mut() {
                member.heard += pause;
            }
        }
    }

    fn on_join(&mut self, node: Node, join: Join, address: String, now: Instant, out: &mut Vec<Command>) {
        let Join { launcher, mut facts, door, door_address, was, promised } = join;
        facts.name = shown(&facts.name);
        if let Some(why) = objection(self, &facts, &address) {
            out.push(Command::Send(node, Order::Refused(why)));
            out.push(Command::Close(node));
            return;
        }
        if self.terms.elects && promised > self.mandate.term {
            let why = format!("node {} ({address}) knows of a later election", facts.name);
            out.push(Command::Send(node, Order::Dismissed(why.clone())));
            out.push(Command::Close(node));
            return self.step_down(&why, promised, out);
        }
        if !self.mandate.is_established
            && let Some(place) = was.and_then(|was| self.places.get_mut(was as usize))
            && place.is_none()
        {
            *place = Some(node);
        }
        let is_last = self.mandate.awaited.remove(&launcher) && self.mandate.awaited.is_empty();
        if let (true, Phase::Gathering { not_before, .. }) = (is_last, &mut self.phase) {
            *not_before = now;
        }
        // It knows that its connection has ended before this host does.
        let before = self.members.iter().find(|(_, member)| member.launcher == launcher).map(|(&before, _)| before);
        let door_address = door_address.map_or_else(|| address.clone(), |address| shown(&address));
        let door = door.map(|port| Door { address: door_address, port });
        self.members.insert(node, Member { facts, address, launcher, door, heard: now });
        if let Some(before) = before {
            self.lose(before, "it joins anew", now, out);
        }
        let room = self.terms.most as usize;
        match &self.phase {
            Phase::Opening { roster, .. } if roster.len() < room => self.meet_again(now),
            Phase::Running { roster, done } if roster.len() < room && done.is_empty() => {
                let why = format!("node {} joins", self.name(node));
                let roster = roster.clone();
                self.stop(&roster, &why, now, out);
            }
            _ => {}
        }
    }

    fn on_report(&mut self, node: Node, report: Report, now: Instant, out: &mut Vec<Command>) {
        match report {
            Report::Beat => {}
            Report::Suspended => {
                let (name, time) = (self.name(node), self.terms.dead_after.as_secs_f64());
                out.push(Command::Say(format!(
                    "node {name} is suspended (SIGTSTP); it is lost unless it goes on within {time:.1} s"
                )));
            }
            Report::Left { what } => {
                if let Some(member) = self.members.get(&node) {
                    self.mandate.left.insert(member.launcher.clone());
                }
                self.lose(node, &shown(&what), now, out);
            }
            Report::Accepted { serial } if serial == self.mandate.serial => self.on_accepted(node, out),
            Report::Opened { generation, port, coordinator_port } if generation == self.generation => {
                if let Phase::Opening { roster, ports, .. } = &mut self.phase
                    && roster.first() == Some(&node)
                {
                    *ports = Some((port, coordinator_port));
                }
                self.start(out);
            }
            Report::Succeeded { generation } if generation == self.generation => self.on_success(node, now, out),
            Report::Failed { generation, what } if generation == self.generation => {
                self.on_failure(node, &shown(&what), now, out);
            }
            Report::Clean { generation } if generation == self.generation => self.on_clean(node, now),
            // Of a generation that is no more.
            Report::Accepted { .. }
            | Report::Opened { .. }
            | Report::Succeeded { .. }
            | Report::Failed { .. }
            | Report::Clean { .. } => {}
        }
    }

    fn on_success(&mut self, node: Node, now: Instant, out: &mut Vec<Command>) {
        match &mut self.phase {
            Phase::Running { roster, done } if roster.contains(&node) => {
                done.insert(node);
                if done.len() == roster.len() {
                    self.end(&Verdict::Succeeded, out);
                }
            }
            _ => self.on_clean(node, now),
        }
    }

    fn on_failure(&mut self, node: Node, what: &str, now: Instant, out: &mut Vec<Command>) {
        match &mut self.phase {
            Phase::Running { roster, done } if roster.contains(&node) => {
                done.insert(node);
                let what = format!("{what} on node {}", self.name(node));
                self.set_back(&what, now, out);
            }
            _ => self.on_clean(node, now),
        }
    }

    fn on_clean(&mut self, node: Node, now: Instant) {
        if let Phase::Stopping { waits_for, not_before } = &mut self.phase {
            waits_for.remove(&node);
            if waits_for.is_empty() {
                let not_before = *not_before;
                self.meet_again(now.max(not_before));
            }
        }
    }

    /// A node that goes, or is taken for gone. From here on it is not listened to (RDZV-2).
    fn lose(&mut self, node: Node, why: &str, now: Instant, out: &mut Vec<Command>) {
        let Some(member) = self.members.remove(&node) else { return };
        out.push(Command::Close(node));
        for place in self.places.iter_mut().filter(|place| **place == Some(node)) {
            *place = None;
        }
        // What it has not accepted, it may have; another is proposed.
        self.mandate.proposal.take_if(|proposal| proposal.waits_for.contains(&node));
        let what = format!("node {} ({}) is lost: {why}", member.facts.name, member.address);
        if self.is_over() {
            return;
        }
        if member.launcher == self.own {
            if !self.mandate.bases.is_empty() && !self.mandate.left.contains(&self.own) {
                return self.step_down(&what, self.mandate.term, out);
            }
            return self.end(&Verdict::Failed(format!("{what}; it was the host of the rendezvous")), out);
        }
        if !self.has_quorum() && self.restarts < self.terms.max_restarts {
            // It is no host any more, as `keep_mandate` will say.
            return;
        }
        match &self.phase {
            Phase::Opening { .. } => self.meet_again(now),
            Phase::Running { roster, .. } if roster.contains(&node) => self.set_back(&what, now, out),
            Phase::Stopping { .. } => self.on_clean(node, now),
            _ => {}
        }
    }

    /// A restart is due, or the end.
    fn set_back(&mut self, what: &str, now: Instant, out: &mut Vec<Command>) {
        if self.restarts >= self.terms.max_restarts {
            return self.end(&Verdict::Failed(what.into()), out);
        }
        self.restarts += 1;
        let pause = self.backoff.after(what.into());
        let after = if pause.is_zero() { String::new() } else { format!(", in {} s", pause.as_secs()) };
        out.push(Command::Say(format!("{what}: restart {} of {}{after}", self.restarts, self.terms.max_restarts)));
        if let Phase::Running { roster, done } = &self.phase {
            let still_run: Vec<Node> = roster.iter().copied().filter(|node| !done.contains(node)).collect();
            self.stop(&still_run, what, now + pause, out);
        }
    }

    fn stop(&mut self, nodes: &[Node], why: &str, not_before: Instant, out: &mut Vec<Command>) {
        let waits_for: BTreeSet<Node> = nodes.iter().copied().filter(|node| self.members.contains_key(node)).collect();
        for &node in &waits_for {
            out.push(Command::Send(
                node,
                Order::Decided(Decision::Stop { generation: self.generation, why: why.into() }),
            ));
        }
        if waits_for.is_empty() {
            self.meet_again(not_before);
        } else {
            self.phase = Phase::Stopping { waits_for, not_before };
        }
    }

    fn meet_again(&mut self, not_before: Instant) {
        let give_up_at = not_before + self.terms.join_timeout;
        self.phase = Phase::Gathering { not_before, give_up_at, call_ends: None };
    }

    /// Begins an attempt if enough nodes are there, and gives up if they do not come.
    fn gather(&mut self, now: Instant, out: &mut Vec<Command>) {
        let (here, before) = (self.members.len(), self.places.len());
        let (least, most) = (self.terms.least as usize, self.terms.most as usize);
        let has_quorum = self.has_quorum();
        let Phase::Gathering { not_before, give_up_at, call_ends } = &mut self.phase else { return };
        if here < least {
            *call_ends = None;
            if now >= *give_up_at {
                let what = self.too_few();
                self.end(&Verdict::Failed(what), out);
            }
            return;
        }
        if !has_quorum {
            return;
        }
        let is_complete = here >= most
            || before > 0 && here >= before
            || match self.terms.call {
                // Who is lost of a final membership does not come back.
                Call::Final(all) => before > 0 || here >= (all as usize).clamp(least, most),
                Call::After(time) => now >= *call_ends.get_or_insert(now + time),
            };
        if is_complete && now >= *not_before {
            self.open(out);
        } else if now >= *give_up_at && call_ends.is_none() {
            let what = self.too_few();
            self.end(&Verdict::Failed(what), out);
        }
    }

    fn too_few(&self) -> String {
        let missing = if self.terms.is_static {
            let is_here = |rank: &u32| self.members.values().any(|member| member.facts.node_rank == *rank);
            let missing: Vec<String> = (0..self.terms.most)
                .filter(|rank| !is_here(rank))
                .take(NAMES_SHOWN)
                .map(|rank| rank.to_string())
                .collect();
            format!("; missing node ranks: {}", missing.join(", "))
        } else {
            String::new()
        };
        format!(
            "{} of at least {} nodes have come within {} s ({}){missing}. Start the others, or give more time by \
             --rdzv-conf=join_timeout=SECONDS",
            self.members.len(),
            self.terms.least,
            self.terms.join_timeout.as_secs(),
            self.names().join(", "),
        )
    }

    fn open(&mut self, out: &mut Vec<Command>) {
        let roster = if self.terms.is_static { self.by_node_rank() } else { self.by_place() };
        self.places = roster.iter().copied().map(Some).collect();
        self.generation += 1;
        self.phase = Phase::Opening { roster: roster.clone(), ports: None };
        if self.terms.elects {
            self.propose(out);
        }
        if let Some((&first, member)) = roster.first().and_then(|first| self.members.get_key_value(first)) {
            let open = Decision::Open { generation: self.generation, address: member.address.clone() };
            out.push(Command::Send(first, Order::Decided(open)));
        }
    }

    fn by_node_rank(&self) -> Vec<Node> {
        let mut nodes: Vec<Node> = self.members.keys().copied().collect();
        nodes.sort_by_key(|node| self.members.get(node).map(|member| member.facts.node_rank));
        nodes
    }

    /// Who was there stays; who came first comes first among the others.
    fn by_place(&self) -> Vec<Node> {
        let kept = self.places.iter().flatten().count();
        let newcomers = self.members.iter().filter(|(node, _)| !self.places.contains(&Some(**node)));
        let newcomers = newcomers
            .map(|(&node, member)| Newcomer { node, facts: &member.facts, address: &member.address })
            .take((self.terms.most as usize).saturating_sub(kept))
            .collect();
        places::fill(&self.places, newcomers)
    }

    /// The ports are the master's: of the store, and of JAX's coordinator. Once the store listens and the view is in force (ELECT-4).
    fn start(&mut self, out: &mut Vec<Command>) {
        let Phase::Opening { roster, ports: Some(ports) } = &self.phase else { return };
        let Some(master) = roster.first().and_then(|first| self.members.get(first)) else { return };
        if self.mandate.proposal.is_some() {
            return;
        }
        let (roster, (master_port, coordinator_port)) = (roster.clone(), *ports);
        let ranks = |node: &Node| self.members.get(node).map_or(0, |member| member.facts.local_ranks);
        let local_ranks: Vec<u32> = roster.iter().map(ranks).collect();
        for (group_rank, &node) in (0..).zip(&roster) {
            let start = Start {
                generation: self.generation,
                attempt: self.attempts,
                restarts: self.restarts,
                group_rank,
                local_ranks: local_ranks.clone(),
                master_address: master.address.clone(),
                master_port,
                coordinator_port,
            };
            out.push(Command::Send(node, Order::Decided(Decision::Start(start))));
        }
        self.attempts += 1;
        self.phase = Phase::Running { roster, done: BTreeSet::new() };
    }

    fn end(&mut self, verdict: &Verdict, out: &mut Vec<Command>) {
        for &node in self.members.keys() {
            out.push(Command::Send(node, Order::Decided(Decision::End(verdict.clone()))));
        }
        self.phase = Phase::Over;
    }

    fn on_time(&mut self, now: Instant, out: &mut Vec<Command>) {
        let silent: Vec<Node> = self
            .members
            .iter()
            .filter(|(_, member)| now.saturating_duration_since(member.heard) >= self.terms.dead_after)
            .map(|(&node, _)| node)
            .collect();
        for node in silent {
            let why = format!("no heartbeat for {:.1} s", self.terms.dead_after.as_secs_f64());
            // If it still hears, it need not find out by itself.
            out.push(Command::Send(node, Order::Dismissed(why.clone())));
            self.lose(node, &why, now, out);
        }
        if now >= self.next_beat {
            self.next_beat = now + beat(self.terms.dead_after);
            self.renew(out);
            let gathering = self.progress(now);
            for &node in self.members.keys() {
                out.push(Command::Send(node, Order::Beat(self.spare(node).or_else(|| gathering.clone()))));
            }
        }
    }

    fn progress(&self, now: Instant) -> Option<Progress> {
        let Phase::Gathering { not_before, give_up_at, call_ends } = &self.phase else { return None };
        let until = call_ends.unwrap_or(if now < *not_before { *not_before } else { *give_up_at });
        Some(Progress::Gathering {
            here: self.names(),
            wanted: (self.terms.least, self.terms.most),
            seconds_left: until.saturating_duration_since(now).as_secs(),
            has_enough: call_ends.is_some(),
        })
    }

    fn spare(&self, node: Node) -> Option<Progress> {
        match &self.phase {
            Phase::Opening { roster, .. } | Phase::Running { roster, .. } if !roster.contains(&node) => {
                Some(Progress::Spare)
            }
            _ => None,
        }
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.members.keys().take(NAMES_SHOWN).map(|&node| self.name(node)).collect();
        if self.members.len() > NAMES_SHOWN {
            names.push(format!("and {} more", self.members.len() - NAMES_SHOWN));
        }
        names
    }

    fn name(&self, node: Node) -> String {
        self.members
            .get(&node)
            .map_or_else(|| "unknown".into(), |member| format!("{} ({})", member.facts.name, member.address))
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
