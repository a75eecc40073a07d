//! Nodes that lose each other, vote and go on, in a world where every message may be late and every line may be cut.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::super::handshake::Join;
use super::super::messages::{Decision, Facts, Order, Report, Start};
use super::super::standing::Ask;
use super::super::state::{Command, Event, Node, State};
use super::super::terms::{Call, Terms};
use super::super::view::{Electorate, Stamp};
use super::*;

const SECOND: Duration = Duration::from_secs(1);

struct World {
    now: Instant,
    terms: Terms,
    nodes: Vec<Machine>,
    /// Nodes of different sides do not reach each other.
    sides: Vec<u8>,
    connections: u64,
    /// Who has started which generation, and what its nodes were told.
    starts: BTreeMap<u64, (usize, Start)>,
    ended: bool,
}

struct Machine {
    is_alive: bool,
    standing: Standing,
    state: Option<State>,
    /// The connection to a host, by which that knows this node.
    link: Option<(usize, Node)>,
    lost: Option<usize>,
    orders: VecDeque<Order>,
    reports: VecDeque<Report>,
    running: Option<u64>,
    was: Option<u32>,
    candidacy: Option<Candidacy>,
    round: u32,
}

struct Candidacy {
    term: u64,
    accepted: Stamp,
    electorates: Vec<Electorate>,
    votes: Vec<Answer>,
}

fn door(node: usize) -> Door {
    Door { address: format!("10.0.0.{node}"), port: u16::try_from(node + 1).expect("few") }
}

fn place(door: &Door) -> usize {
    usize::from(door.port) - 1
}

impl World {
    fn new(count: usize, (least, most): (u32, u32)) -> Self {
        let terms = Terms {
            least,
            most,
            is_static: false,
            elects: true,
            call: Call::After(2 * SECOND),
            join_timeout: 600 * SECOND,
            close_timeout: 30 * SECOND,
            dead_after: 3 * SECOND,
            max_restarts: 1_000,
        };
        let (nodes, sides, starts) = (Vec::new(), Vec::new(), BTreeMap::new());
        let mut world = Self { now: Instant::now(), terms, nodes, sides, connections: 0, starts, ended: false };
        for node in 0..count {
            world.add();
            world.join(node, 0);
        }
        world
    }

    /// The first is the host.
    fn add(&mut self) {
        let node = self.nodes.len();
        let mut standing = Standing::new(node.to_string());
        let state = (node == 0).then(|| State::new(self.terms.clone(), "0".into(), 0, self.now));
        standing.preside(state.as_ref().map(|_| door(0)));
        self.nodes.push(Machine {
            is_alive: true,
            standing,
            state,
            link: None,
            lost: None,
            orders: VecDeque::new(),
            reports: VecDeque::new(),
            running: None,
            was: None,
            candidacy: None,
            round: 0,
        });
        self.sides.push(0);
    }

    fn reaches(&self, one: usize, other: usize) -> bool {
        self.nodes[one].is_alive && self.nodes[other].is_alive && self.sides[one] == self.sides[other]
    }

    fn join(&mut self, node: usize, host: usize) {
        if !self.reaches(node, host) || self.nodes[host].state.is_none() || self.nodes[node].link.is_some() {
            return;
        }
        let connection = Node(self.connections);
        self.connections += 1;
        let facts = Facts {
            name: format!("n{node}"),
            address: None,
            topology: None,
            node_rank: 0,
            local_ranks: 1,
            nodes: (self.terms.least, self.terms.most),
        };
        let machine = &mut self.nodes[node];
        machine.link = Some((host, connection));
        (machine.round, machine.candidacy) = (0, None);
        let launcher = machine.standing.launcher.clone();
        let promised = machine.standing.promised();
        let join =
            Join { launcher, facts, door: Some(door(node).port), door_address: None, was: machine.was, promised };
        self.event(host, Event::Joined { node: connection, join, address: door(node).address });
    }

    fn event(&mut self, host: usize, event: Event) {
        let Some(state) = &mut self.nodes[host].state else { return };
        let mut commands = Vec::new();
        state.on_event(event, self.now, &mut commands);
        for command in commands {
            match command {
                Command::Send(connection, order) => {
                    if let Order::Decided(Decision::Start(start)) = &order {
                        self.check(host, start);
                    }
                    if let Some(node) = self.node_of(host, connection) {
                        self.nodes[node].orders.push_back(order);
                    }
                }
                Command::Close(connection) => {
                    if let Some(node) = self.node_of(host, connection) {
                        self.nodes[node].reports.clear();
                    }
                }
                Command::Say(_) => {}
                Command::StepDown { seen, .. } => {
                    let machine = &mut self.nodes[host];
                    machine.state = None;
                    machine.standing.see(seen);
                    machine.standing.step_down();
                }
            }
        }
    }

    fn node_of(&self, host: usize, connection: Node) -> Option<usize> {
        self.nodes.iter().position(|node| node.link == Some((host, connection)))
    }

    /// F-46: a generation has one host, one roster and one master.
    fn check(&mut self, host: usize, start: &Start) {
        let (first_host, first) = self.starts.entry(start.generation).or_insert_with(|| (host, start.clone()));
        assert_eq!(*first_host, host, "two hosts have started generation {}", start.generation);
        let same = Start { group_rank: first.group_rank, ..start.clone() };
        assert_eq!(same, *first, "two gangs of generation {}", start.generation);
    }

    fn obey(&mut self, node: usize) -> bool {
        let Some((host, _)) = self.nodes[node].link else { return false };
        if !self.nodes[node].is_alive || !self.reaches(node, host) {
            return false;
        }
        let machine = &mut self.nodes[node];
        let Some(order) = machine.orders.pop_front() else { return false };
        if !machine.standing.is_host() {
            machine.standing.follow(Some(door(host)));
        }
        match order {
            Order::Beat(_) => {}
            Order::View(view) => {
                let serial = view.stamp.serial;
                if machine.standing.accept(view) {
                    machine.reports.push_back(Report::Accepted { serial });
                } else {
                    self.cut(node);
                }
            }
            Order::InForce(stamp) => machine.standing.is_in_force(stamp),
            Order::Decided(Decision::Open { generation, .. }) => {
                machine.reports.push_back(Report::Opened { generation, port: 1, coordinator_port: 2 });
            }
            Order::Decided(Decision::Start(start)) => {
                assert_eq!(machine.running, None, "a start while another generation runs here");
                (machine.running, machine.was) = (Some(start.generation), Some(start.group_rank));
            }
            Order::Decided(Decision::Stop { generation, .. }) => {
                machine.running = None;
                machine.reports.push_back(Report::Clean { generation });
            }
            // Nodes were waited for too long.
            Order::Decided(Decision::End(_)) => self.ended = true,
            Order::Dismissed(_) => self.cut(node),
            Order::Refused(_) => self.ended = true,
            Order::Elsewhere(_) => unreachable!("nodes join hosts alone"),
        }
        true
    }

    fn hear(&mut self, node: usize) -> bool {
        let Some((host, connection)) = self.nodes[node].link else { return false };
        if !self.reaches(node, host) {
            return false;
        }
        let Some(report) = self.nodes[node].reports.pop_front() else { return false };
        self.event(host, Event::Told { node: connection, report });
        true
    }

    /// The node sees the end of its connection, and stops its ranks.
    fn cut(&mut self, node: usize) {
        let machine = &mut self.nodes[node];
        machine.lost = machine.link.take().map(|(host, _)| host);
        machine.orders.clear();
        machine.reports.clear();
        machine.running = None;
        if !machine.standing.is_host() {
            machine.standing.follow(None);
        }
    }

    /// A node finds that its host does not answer, or a host that one of its nodes does not.
    fn notice(&mut self, node: usize) {
        if let Some((host, connection)) = self.nodes[node].link {
            let is_known = self.nodes[host].state.as_ref().is_some_and(|state| state.members.contains_key(&connection));
            if !self.reaches(node, host) || !is_known && self.nodes[node].orders.is_empty() {
                self.cut(node);
            }
        }
        let gone: Vec<Node> = (0..self.nodes.len())
            .filter_map(|other| self.nodes[other].link.filter(|&(host, _)| host == node && !self.reaches(other, node)))
            .map(|(_, connection)| connection)
            .collect();
        for connection in gone {
            self.event(node, Event::Cut(connection));
        }
        if self.nodes[node].state.is_some() {
            self.forget_the_cut(node);
        }
    }

    /// Connections that a node has given up end at the host too.
    fn forget_the_cut(&mut self, host: usize) {
        let Some(state) = &self.nodes[host].state else { return };
        let gone: Vec<Node> =
            state.members.keys().copied().filter(|&connection| self.node_of(host, connection).is_none()).collect();
        for connection in gone {
            self.event(host, Event::Cut(connection));
        }
    }

    fn is_looking(&self, node: usize) -> bool {
        let machine = &self.nodes[node];
        machine.is_alive && machine.link.is_none() && machine.state.is_none()
    }

    fn stand(&mut self, node: usize, after: u64) {
        let machine = &mut self.nodes[node];
        if machine.standing.electorates().first().is_none_or(|first| !first.has(&machine.standing.launcher)) {
            return;
        }
        let (term, accepted) = machine.standing.stand(after);
        let electorates = machine.standing.electorates();
        machine.candidacy = Some(Candidacy { term, accepted, electorates, votes: Vec::new() });
    }

    fn ask(&mut self, node: usize, other: usize) {
        if node == other || !self.is_looking(node) || !self.reaches(node, other) {
            return;
        }
        let launcher = self.nodes[node].standing.launcher.clone();
        let Some(candidacy) = &self.nodes[node].candidacy else { return };
        let ask = Ask::Vote { launcher, term: candidacy.term, accepted: candidacy.accepted };
        let answer = self.nodes[other].standing.answer(&ask);
        if let Some(candidacy) = &mut self.nodes[node].candidacy {
            candidacy.votes.push(answer);
        }
        self.count(node);
    }

    fn count(&mut self, node: usize) {
        let machine = &mut self.nodes[node];
        let Some(Candidacy { term, electorates, votes, .. }) = &machine.candidacy else { return };
        if !is_elected(&machine.standing, *term, votes) {
            return;
        }
        let granted = votes.iter().filter(|vote| vote.is_granted).map(|vote| vote.launcher.clone());
        let (launcher, view) = (machine.standing.launcher.clone(), machine.standing.view().expect("a view"));
        let awaited = granted.chain([launcher.clone()]).collect();
        let (terms, bases) = (self.terms.clone(), electorates.clone());
        machine.state = Some(State::elected(terms, launcher, *term, (view, bases), awaited, self.now));
        machine.standing.preside(Some(door(node)));
        machine.candidacy = None;
        self.join(node, node);
    }

    /// As `Member::recover` does it, all questions at once.
    fn round(&mut self, node: usize) {
        if !self.is_looking(node) {
            return;
        }
        let others: Vec<usize> =
            (0..self.nodes.len()).filter(|&other| other != node && self.reaches(node, other)).collect();
        let answers: Vec<Answer> =
            others.iter().map(|&other| self.nodes[other].standing.answer(&Ask::Standing)).collect();
        let machine = &mut self.nodes[node];
        machine.round += 1;
        match next(&machine.standing, machine.lost.map(door).as_ref(), &answers, machine.round) {
            Step::Join(host) => self.join(node, place(&host)),
            Step::Stand { after } => {
                self.stand(node, after);
                others.into_iter().for_each(|other| self.ask(node, other));
                self.count(node);
            }
            Step::Wait => {}
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        for node in 0..self.nodes.len() {
            if self.nodes[node].link.is_some() && self.nodes[node].is_alive {
                self.nodes[node].reports.push_back(Report::Beat);
            }
        }
        for node in 0..self.nodes.len() {
            if self.nodes[node].is_alive {
                self.event(node, Event::Time);
            }
        }
    }

    fn kill(&mut self, node: usize) {
        let machine = &mut self.nodes[node];
        (machine.is_alive, machine.state, machine.running) = (false, None, None);
        machine.link = None;
    }

    fn deliver_all(&mut self) {
        while (0..self.nodes.len()).any(|node| self.obey(node) || self.hear(node)) {}
    }

    /// Until nothing changes any more, as it would go without further faults.
    fn settle(&mut self, seconds: u32) {
        for _ in 0..seconds {
            for node in 0..self.nodes.len() {
                self.deliver_all();
                self.notice(node);
                self.round(node);
            }
            self.deliver_all();
            self.pass(SECOND);
        }
        self.deliver_all();
    }

    fn hosts(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|&node| self.nodes[node].state.is_some()).collect()
    }

    fn running(&self, node: usize) -> Option<u64> {
        self.nodes[node].running
    }
}

#[test]
fn the_lowest_rank_that_lives_hosts_after_the_host() {
    let mut world = World::new(3, (2, 3));
    world.settle(3);
    assert!(world.running(0).is_some() && world.running(2) == world.running(0));
    world.kill(0);
    world.settle(8);
    assert_eq!(world.hosts(), [1]);
    assert!(world.running(1).is_some() && world.running(1) == world.running(2));
    assert_eq!(world.starts.len(), 2, "one restart");
    let (_, last) = world.starts.last_key_value().map(|(_, start)| start.clone()).expect("a start");
    assert_eq!((last.attempt, last.restarts, last.local_ranks.len()), (1, 1, 2));
    assert_eq!(last.master_address, door(1).address, "TW-8");
}

#[test]
fn a_side_without_a_quorum_stands_still_and_is_taken_in_again() {
    let mut world = World::new(5, (1, 5));
    world.settle(3);
    // The host with one other, and three.
    world.sides = vec![0, 0, 1, 1, 1];
    world.settle(10);
    assert_eq!(world.hosts(), [2]);
    assert_eq!((world.running(0), world.running(1)), (None, None), "the old host knows that it is none");
    assert_eq!(world.starts.last_key_value().map(|(_, (_, start))| start.local_ranks.len()), Some(3));
    world.sides = vec![0; 5];
    world.settle(10);
    assert_eq!(world.hosts(), [2]);
    assert!(world.nodes.iter().all(|node| node.running == world.running(2) && node.running.is_some()));
}

#[test]
fn of_two_nodes_the_host_goes_on_and_the_other_does_not() {
    for killed in 0..2 {
        let mut world = World::new(2, (1, 2));
        world.settle(3);
        world.kill(killed);
        world.settle(40);
        assert_eq!(world.running(1 - killed).is_some(), killed == 1, "{killed} was killed");
    }
}

#[test]
fn a_spare_that_came_late_has_a_vote_as_well() {
    let mut world = World::new(2, (1, 2));
    world.settle(3);
    world.add();
    world.join(2, 0);
    world.settle(3);
    assert_eq!(world.starts.len(), 1, "it is a spare");
    world.kill(0);
    world.settle(10);
    assert_eq!(world.hosts(), [1]);
    assert!(world.running(1).is_some() && world.running(1) == world.running(2));
}

#[test]
fn nodes_that_are_lost_one_after_another_leave_the_last_two_enough() {
    let mut world = World::new(5, (1, 5));
    world.settle(3);
    for killed in [4, 3, 2, 1] {
        world.kill(killed);
        world.settle(2);
    }
    world.settle(5);
    assert!(world.running(0).is_some(), "each time a quorum of those before was left");
    let mut world = World::new(5, (1, 5));
    world.settle(3);
    for killed in [4, 3, 2, 1] {
        world.kill(killed);
    }
    world.settle(40);
    assert_eq!(world.running(0), None, "four of five at once may be the network's doing");
}

/// ELECT-2: newcomers have accepted a view that was never in force, and are a quorum of it.
#[test]
fn newcomers_go_on_only_with_those_before_them() {
    let mut world = World::new(2, (1, 6));
    world.settle(3);
    for newcomer in 2..5 {
        world.add();
        world.join(newcomer, 0);
    }
    while world.obey(0) || world.hear(0) || world.obey(1) || world.hear(1) {}
    for newcomer in 2..5 {
        while world.obey(newcomer) {}
        assert_eq!(world.nodes[newcomer].standing.view().map(|view| view.electorate.voters.len()), Some(5));
    }
    world.sides = vec![0, 0, 1, 1, 1];
    world.settle(20);
    assert_eq!(world.hosts(), [0]);
    assert!(world.running(0).is_some() && world.running(0) == world.running(1));
    world.sides = vec![0; 5];
    world.settle(20);
    assert!(world.nodes.iter().all(|node| node.running == world.running(0)));
}

#[derive(Debug, Clone)]
enum Act {
    Obey(usize),
    Hear(usize),
    Notice(usize),
    Round(usize),
    Stand(usize),
    Ask(usize, usize),
    Join(usize, usize),
    Kill(usize),
    Split(Vec<u8>),
    Heal,
    Add,
    Fail(usize),
    Pass(u64),
}

fn act() -> impl Strategy<Value = Act> {
    let node = || 0..9usize;
    prop_oneof![
        14 => node().prop_map(Act::Obey),
        14 => node().prop_map(Act::Hear),
        8 => node().prop_map(Act::Notice),
        5 => node().prop_map(Act::Round),
        3 => node().prop_map(Act::Stand),
        8 => (node(), node()).prop_map(|(one, other)| Act::Ask(one, other)),
        4 => (node(), node()).prop_map(|(one, other)| Act::Join(one, other)),
        1 => node().prop_map(Act::Kill),
        2 => proptest::collection::vec(0u8..2, 9).prop_map(Act::Split),
        1 => Just(Act::Heal),
        1 => Just(Act::Add),
        1 => node().prop_map(Act::Fail),
        4 => (1u64..2_500).prop_map(Act::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// F-46 is checked at every start. At last, healed, all nodes follow one host, if none of them has died.
    #[test]
    fn whatever_is_lost_no_two_gangs_have_the_same_generation(
        acts in proptest::collection::vec(act(), 0..400),
        count in 1usize..7,
        (least, more) in (1u32..3, 0u32..5),
    ) {
        let mut world = World::new(count, (least, least + more));
        world.settle(3);
        for act in acts {
            let all = world.nodes.len();
            match act {
                Act::Obey(node) => { world.obey(node % all); }
                Act::Hear(node) => { world.hear(node % all); }
                Act::Notice(node) => world.notice(node % all),
                Act::Round(node) => world.round(node % all),
                Act::Stand(node) if world.is_looking(node % all) => world.stand(node % all, 0),
                Act::Ask(one, other) => world.ask(one % all, other % all),
                Act::Join(one, other) => world.join(one % all, other % all),
                Act::Kill(node) => world.kill(node % all),
                Act::Split(sides) => world.sides = (0..all).map(|node| sides[node % sides.len()]).collect(),
                Act::Heal => world.sides = vec![0; all],
                Act::Add if all < 9 => world.add(),
                Act::Fail(node) => {
                    let machine = &mut world.nodes[node % all];
                    if let Some(generation) = machine.running.take() {
                        machine.reports.push_back(Report::Failed { generation, what: "rank 0".into() });
                    }
                }
                Act::Pass(milliseconds) => world.pass(Duration::from_millis(milliseconds)),
                Act::Stand(_) | Act::Add => {}
            }
        }
        world.sides = vec![0; world.nodes.len()];
        let is_whole = world.nodes.iter().all(|node| node.is_alive);
        world.settle(120);
        let is_over = world.nodes.iter().any(|node| node.state.as_ref().is_some_and(State::is_over));
        if is_whole && !world.ended && !is_over {
            prop_assert_eq!(world.hosts().len(), 1, "everybody lives");
            let host = world.hosts()[0];
            prop_assert!(world.nodes.iter().all(|node| node.link.is_some_and(|(followed, _)| followed == host)));
        }
    }
}
