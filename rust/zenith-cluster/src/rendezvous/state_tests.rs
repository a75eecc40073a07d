use std::collections::VecDeque;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn terms(least: u32, most: u32) -> Terms {
    Terms {
        least,
        most,
        is_static: false,
        elects: false,
        call: Call::After(30 * SECOND),
        join_timeout: 600 * SECOND,
        close_timeout: 30 * SECOND,
        dead_after: 3 * SECOND,
        max_restarts: 1,
    }
}

/// The host, and nodes that do what they are told as soon as it is delivered.
struct World {
    state: State,
    now: Instant,
    nodes: BTreeMap<Node, Simulated>,
    starts: BTreeMap<u64, Vec<Start>>,
    said: Vec<String>,
    next: u64,
    bounds: (u32, u32),
}

#[derive(Default)]
struct Simulated {
    running: Option<u64>,
    /// On their way, in both directions.
    orders: VecDeque<Order>,
    reports: VecDeque<Report>,
    is_silent: bool,
    refused: Option<String>,
    end: Option<Verdict>,
}

impl World {
    fn new(terms: Terms) -> Self {
        let now = Instant::now();
        let bounds = (terms.least, terms.most);
        let state = State::new(terms, "0".into(), 0, now);
        let (nodes, starts) = (BTreeMap::new(), BTreeMap::new());
        Self { state, now, nodes, starts, said: Vec::new(), next: 0, bounds }
    }

    fn join(&mut self, address: &str, node_rank: u32) -> Node {
        let node = Node(self.next);
        self.next += 1;
        self.nodes.insert(node, Simulated::default());
        let facts = Facts {
            name: format!("n{}", node.0),
            address: None,
            topology: None,
            node_rank,
            local_ranks: u32::try_from(node.0).expect("few") + 1,
            nodes: self.bounds,
        };
        let join = Join { launcher: node.0.to_string(), facts, door: None, door_address: None, was: None, promised: 0 };
        self.event(Event::Joined { node, join, address: address.into() });
        node
    }

    fn event(&mut self, event: Event) {
        let mut commands = Vec::new();
        self.state.on_event(event, self.now, &mut commands);
        for command in commands {
            match command {
                Command::Send(node, order) => {
                    if let Some(node) = self.nodes.get_mut(&node) {
                        node.orders.push_back(order);
                    }
                }
                Command::Close(node) => {
                    // The connection carries what is on its way to the node, and nothing back.
                    if let Some(node) = self.nodes.get_mut(&node) {
                        node.reports.clear();
                    }
                }
                Command::Say(what) => self.said.push(what),
                Command::StepDown { why, .. } => panic!("nobody is elected here: {why}"),
            }
        }
        self.check();
    }

    /// RDZV-1, among the nodes that the host knows.
    fn check(&self) {
        let running = self.state.members.keys().filter_map(|node| self.nodes.get(node)?.running);
        let generations: BTreeSet<u64> = running.collect();
        assert!(generations.len() <= 1, "generations {generations:?} run at once");
    }

    fn obey(&mut self, node: Node) -> bool {
        let Some(simulated) = self.nodes.get_mut(&node) else { return false };
        let Some(order) = simulated.orders.pop_front() else { return false };
        match order {
            Order::Beat(_) => {}
            Order::View(_) | Order::InForce(_) | Order::Elsewhere(_) => panic!("nobody is elected here"),
            Order::Decided(Decision::Open { generation, .. }) => {
                let port = u16::try_from(generation).expect("few");
                let coordinator_port = port + 1;
                simulated.reports.push_back(Report::Opened { generation, port, coordinator_port });
            }
            Order::Decided(Decision::Start(start)) => {
                assert_eq!(simulated.running, None, "a start while another generation runs");
                assert_eq!(start.coordinator_port, start.master_port + 1, "both are told as they were reported");
                simulated.running = Some(start.generation);
                self.starts.entry(start.generation).or_default().push(start);
            }
            Order::Decided(Decision::Stop { generation, .. }) => {
                simulated.running = None;
                simulated.reports.push_back(Report::Clean { generation });
            }
            Order::Dismissed(_) => simulated.running = None,
            Order::Refused(why) => simulated.refused = Some(why),
            Order::Decided(Decision::End(verdict)) => {
                simulated.running = None;
                simulated.end = Some(verdict);
            }
        }
        self.check();
        true
    }

    fn hear(&mut self, node: Node) -> bool {
        let Some(report) = self.nodes.get_mut(&node).and_then(|node| node.reports.pop_front()) else { return false };
        self.event(Event::Told { node, report });
        true
    }

    fn deliver_all(&mut self) {
        let nodes: Vec<Node> = self.nodes.keys().copied().collect();
        while nodes.iter().any(|&node| self.obey(node) || self.hear(node)) {}
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        for (node, simulated) in &mut self.nodes {
            if !simulated.is_silent && self.state.members.contains_key(node) {
                simulated.reports.push_back(Report::Beat);
            }
        }
        self.event(Event::Time);
    }

    /// Second by second, as beats come.
    fn pass_slowly(&mut self, seconds: u32) {
        for _ in 0..seconds {
            self.pass(SECOND);
            self.deliver_all();
        }
    }

    /// The end of a gang, if one runs.
    fn finish(&mut self, node: Node, is_success: bool) {
        let Some(simulated) = self.nodes.get_mut(&node) else { return };
        let Some(generation) = simulated.running.take() else { return };
        simulated.reports.push_back(if is_success {
            Report::Succeeded { generation }
        } else {
            Report::Failed { generation, what: "rank 0 failed (exit code 7)".into() }
        });
    }

    fn cut(&mut self, node: Node) {
        self.nodes.remove(&node);
        self.event(Event::Cut(node));
        self.deliver_all();
    }

    /// Nodes by group rank in the newest generation, by what they are told alone.
    fn newest(&self) -> Vec<(u32, Vec<u32>, String, u16)> {
        let starts = self.starts.last_key_value().map(|(_, starts)| starts.clone()).unwrap_or_default();
        let seen = |start: Start| (start.group_rank, start.local_ranks, start.master_address, start.master_port);
        let mut seen: Vec<_> = starts.into_iter().map(seen).collect();
        seen.sort();
        seen
    }

    fn end_of(&self, node: Node) -> Option<&Verdict> {
        self.nodes.get(&node).and_then(|node| node.end.as_ref())
    }

    fn ends_with(&self, text: &str) -> bool {
        self.nodes.values().all(|node| matches!(&node.end, Some(Verdict::Failed(why)) if why.contains(text)))
    }
}

#[test]
fn all_nodes_start_at_once_and_are_told_the_same() {
    let mut world = World::new(terms(1, 2));
    world.join("10.0.0.9", 0);
    world.deliver_all();
    assert!(world.newest().is_empty(), "the last call is not over");
    world.join("10.0.0.8", 0);
    world.deliver_all();
    let ranks = vec![2, 1];
    assert_eq!(
        world.newest(),
        [(0, ranks.clone(), "10.0.0.8".into(), 1), (1, ranks, "10.0.0.8".into(), 1)],
        "ordered by address"
    );
}

#[test]
fn fewer_nodes_start_after_the_last_call_or_at_once_when_no_more_will_come() {
    let mut world = World::new(terms(1, 3));
    world.join("a", 0);
    world.pass_slowly(29);
    assert!(world.newest().is_empty());
    world.pass_slowly(1);
    assert_eq!(world.newest().len(), 1);

    let mut world = World::new(Terms { call: Call::Final(2), ..terms(1, 3) });
    for (address, expected) in [("a", 0), ("b", 2)] {
        world.join(address, 0);
        world.deliver_all();
        assert_eq!(world.newest().len(), expected, "no more than two will come");
    }
}

#[test]
fn a_static_run_takes_every_node_rank_once_and_waits_for_all() {
    let mut world = World::new(Terms { is_static: true, ..terms(3, 3) });
    world.join("10.0.0.1", 2);
    let twin = world.join("10.0.0.2", 2);
    let beyond = world.join("10.0.0.3", 3);
    world.deliver_all();
    let refused = |world: &World, node: Node| world.nodes[&node].refused.clone().expect("refused");
    assert!(refused(&world, twin).contains("--node-rank=2 is taken by n0 (10.0.0.1)"));
    assert!(refused(&world, beyond).contains("--node-rank=3 is out of range"));
    world.join("10.0.0.4", 0);
    world.pass_slowly(40);
    assert!(world.newest().is_empty());
    world.join("10.0.0.5", 1);
    world.deliver_all();
    let order: Vec<_> = world.newest().into_iter().map(|start| start.1).collect();
    assert_eq!(order, [vec![4, 5, 1], vec![4, 5, 1], vec![4, 5, 1]]);
}

#[test]
fn a_failure_stops_all_restarts_all_and_then_ends_all() {
    let mut world = World::new(terms(2, 2));
    let nodes = [world.join("a", 0), world.join("b", 0)];
    world.deliver_all();
    world.finish(nodes[1], false);
    world.deliver_all();
    assert_eq!(world.starts[&2].iter().map(|start| start.restarts).collect::<Vec<_>>(), [1, 1], "TW over T-37");
    assert!(world.said[0].contains("rank 0 failed (exit code 7) on node n1 (b): restart 1 of 1"), "{:?}", world.said);
    // Of the first generation: nobody listens (RDZV-2).
    world.event(Event::Told { node: nodes[0], report: Report::Failed { generation: 1, what: "old".into() } });
    assert_eq!(world.said.len(), 1);
    world.finish(nodes[0], false);
    world.deliver_all();
    assert!(world.ends_with("on node n0 (a)"), "TW-15");
}

#[test]
fn a_start_waits_until_the_last_node_is_clean() {
    let mut world = World::new(terms(2, 2));
    let nodes = [world.join("a", 0), world.join("b", 0)];
    world.deliver_all();
    world.finish(nodes[0], false);
    while world.hear(nodes[0]) {}
    while world.obey(nodes[0]) || world.hear(nodes[0]) {}
    assert_eq!(world.state.generation, 1, "the second has not been told to stop yet");
    world.deliver_all();
    assert_eq!(world.state.generation, 2);
}

#[test]
fn a_late_word_of_an_older_generation_makes_nobody_clean() {
    let mut world = World::new(Terms { max_restarts: 9, ..terms(2, 2) });
    let nodes = [world.join("a", 0), world.join("b", 0)];
    world.deliver_all();
    // Both fail at once: the second is told to stop what it has reported gone already.
    world.finish(nodes[0], false);
    world.finish(nodes[1], false);
    assert!(world.hear(nodes[0]) && world.hear(nodes[1]));
    assert!(world.obey(nodes[0]) && world.hear(nodes[0]) && world.obey(nodes[0]), "the first opens and runs");
    assert!(world.obey(nodes[1]) && world.obey(nodes[1]), "the second stops nothing, and runs");
    assert_eq!(world.nodes[&nodes[1]].running, Some(2));
    world.finish(nodes[0], false);
    assert!(world.hear(nodes[0]) && world.hear(nodes[1]), "what it hears last is of the first generation");
    assert_eq!(world.state.generation, 2, "the second node still runs");
    // The same failure again has to wait.
    world.pass_slowly(2);
    assert_eq!(world.state.generation, 3);
}

#[test]
fn who_joins_takes_part_at_once_without_a_restart_being_consumed() {
    let mut world = World::new(Terms { call: Call::Final(1), ..terms(1, 3) });
    world.join("b", 0);
    world.deliver_all();
    world.join("a", 0);
    world.deliver_all();
    let start = world.starts[&2].clone();
    assert_eq!(start.iter().map(|start| (start.attempt, start.restarts)).collect::<Vec<_>>(), [(1, 0); 2]);
    assert_eq!(start[0].master_address, "b", "places are kept: no rank moves because of a join (T-25)");
    assert!(start.iter().all(|start| start.master_address == "b"), "TW-7");
}

#[test]
fn a_lost_node_restarts_the_others_with_a_master_that_lives() {
    let mut world = World::new(terms(2, 3));
    let nodes = [world.join("c", 0), world.join("a", 0), world.join("b", 0)];
    world.deliver_all();
    assert_eq!(world.newest()[0].2, "a");
    world.cut(nodes[1]);
    world.pass_slowly(29);
    assert_eq!(world.starts.len(), 1, "another may come in time");
    world.pass_slowly(2);
    assert_eq!(world.newest(), [(0, vec![3, 1], "b".into(), 2), (1, vec![3, 1], "b".into(), 2)], "TW-8");
    world.cut(nodes[2]);
    assert!(world.end_of(nodes[0]).is_some(), "no restart is left");
    assert!(world.ends_with("node n2 (b) is lost: its connection ended"));
}

#[test]
fn a_spare_takes_the_place_of_a_lost_node_or_ends_well_with_the_job() {
    let mut world = World::new(terms(2, 2));
    let nodes = [world.join("a", 0), world.join("b", 0), world.join("c", 0), world.join("d", 0)];
    world.deliver_all();
    world.pass_slowly(1);
    assert_eq!((world.nodes[&nodes[2]].running, world.newest().len()), (None, 2));
    world.cut(nodes[1]);
    assert_eq!(world.newest()[0].1, [1, 3], "the first spare, in the free place, at once");
    for node in [nodes[0], nodes[2]] {
        world.finish(node, true);
        world.deliver_all();
    }
    for node in [nodes[0], nodes[2], nodes[3]] {
        assert_eq!(world.end_of(node), Some(&Verdict::Succeeded), "TW-9");
    }
}

#[test]
fn nobody_leaves_before_all_have_ended_well() {
    let mut world = World::new(terms(2, 2));
    let nodes = [world.join("a", 0), world.join("b", 0)];
    world.deliver_all();
    world.finish(nodes[0], true);
    world.pass_slowly(500);
    assert_eq!(world.end_of(nodes[0]), None);
    world.finish(nodes[1], true);
    world.deliver_all();
    assert_eq!(world.end_of(nodes[0]), Some(&Verdict::Succeeded));
    let late = world.join("c", 0);
    world.deliver_all();
    assert_eq!(world.nodes[&late].refused.as_deref(), Some("the job has ended"));
}

#[test]
fn a_silent_node_is_dead_after_three_seconds_unless_it_was_the_host_that_slept() {
    let mut world = World::new(Terms { max_restarts: 0, ..terms(2, 2) });
    let nodes = [world.join("a", 0), world.join("b", 0)];
    world.deliver_all();
    // The beats of that time are read only after the clock was.
    world.pass(60 * SECOND);
    world.deliver_all();
    assert_eq!(world.end_of(nodes[0]), None);
    world.event(Event::Told { node: nodes[1], report: Report::Suspended });
    assert_eq!(world.said, ["node n1 (b) is suspended (SIGTSTP); it is lost unless it goes on within 3.0 s"]);
    world.nodes.get_mut(&nodes[1]).expect("a node").is_silent = true;
    world.pass_slowly(2);
    assert_eq!(world.end_of(nodes[0]), None);
    world.pass_slowly(1);
    assert!(matches!(world.end_of(nodes[0]), Some(Verdict::Failed(why)) if why.contains("no heartbeat for 3.0 s")));
    assert_eq!(world.nodes[&nodes[1]].running, None, "it was dismissed");
}

#[test]
fn too_few_nodes_are_an_error_that_names_those_that_came() {
    let mut world = World::new(Terms { join_timeout: 5 * SECOND, ..terms(2, 4) });
    world.join("a", 0);
    world.pass_slowly(4);
    assert!(!world.state.is_over());
    world.pass_slowly(1);
    assert!(world.ends_with("1 of at least 2 nodes have come within 5 s (n0 (a))"));

    let mut world = World::new(Terms { join_timeout: 5 * SECOND, is_static: true, ..terms(3, 3) });
    world.join("a", 1);
    world.pass_slowly(5);
    assert!(world.ends_with("missing node ranks: 0, 2"));
}

#[test]
fn the_end_of_the_host_is_the_end_of_the_job() {
    let mut world = World::new(terms(2, 2));
    let nodes = [world.join("a", 0), world.join("b", 0)];
    world.deliver_all();
    world.event(Event::Told { node: nodes[0], report: Report::Left { what: "it was stopped by signal 15".into() } });
    world.deliver_all();
    let end = world.end_of(nodes[1]).expect("an end");
    let text = "node n0 (a) is lost: it was stopped by signal 15; it was the host of the rendezvous";
    assert_eq!(*end, Verdict::Failed(text.into()));
}

#[test]
fn other_bounds_on_nodes_are_refused() {
    let mut world = World::new(terms(1, 2));
    world.bounds = (1, 3);
    let node = world.join("a", 0);
    world.deliver_all();
    let why = world.nodes[&node].refused.clone().expect("refused");
    assert_eq!(why, "--nnodes=1:3 here, 1:2 at the host; give the same to all nodes");
}

#[test]
fn what_nodes_say_does_no_harm_where_it_is_shown() {
    let mut world = World::new(Terms { max_restarts: 0, ..terms(1, 2) });
    for address in ["", "a\0b", "a b", "x=\u{1b}[2J"] {
        let node = world.join(address, 0);
        world.deliver_all();
        let why = world.nodes[&node].refused.clone().expect("refused");
        assert!(why.contains("--local-addr"), "{why}");
    }
    let node = world.join("fe80::1%eth0", 0);
    world.join("n2", 0);
    world.deliver_all();
    world.event(Event::Told { node, report: Report::Left { what: format!("\u{1b}[2J{}", "x".repeat(9_999)) } });
    world.deliver_all();
    assert!(world.state.is_over());
    let Some(Verdict::Failed(why)) = world.nodes.values().find_map(|node| node.end.clone()) else { panic!("an end") };
    assert!(why.contains("[2Jxxx") && why.len() < 400 && !why.contains('\u{1b}'), "{why}");
}

#[derive(Debug, Clone)]
enum Step {
    Join,
    Obey(usize),
    Hear(usize),
    Finish(usize, bool),
    Cut(usize),
    Silence(usize),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Join),
        8 => any::<usize>().prop_map(Step::Obey),
        8 => any::<usize>().prop_map(Step::Hear),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(node, is_success)| Step::Finish(node, is_success)),
        1 => any::<usize>().prop_map(Step::Cut),
        1 => any::<usize>().prop_map(Step::Silence),
        3 => (1u64..1_400).prop_map(Step::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// RDZV-1 is checked by the world after every event, RDZV-2 by what nodes were told; at last the job ends.
    #[test]
    fn whatever_happens_nodes_agree_and_the_job_ends(
        steps in proptest::collection::vec(step(), 0..150),
        (least, more) in (1u32..3, 0u32..3),
        is_static in any::<bool>(),
        max_restarts in 0u32..6,
    ) {
        let least = if is_static { least + more } else { least };
        let most = least.max(least + if is_static { 0 } else { more });
        let mut world = World::new(Terms { is_static, max_restarts, call: Call::After(2 * SECOND), ..terms(least, most) });
        world.join("10.0.0.1", 0);
        for step in steps {
            let nodes: Vec<Node> = world.nodes.keys().copied().collect();
            // The host's own node stays; without it there is nothing to check.
            let pick = |at: usize| nodes[at % nodes.len()];
            match step {
                Step::Join => { world.join(&format!("10.0.{}.1", world.next), u32::try_from(world.next).expect("few") % most); }
                Step::Obey(at) => { world.obey(pick(at)); }
                Step::Hear(at) => { world.hear(pick(at)); }
                Step::Finish(at, is_success) => world.finish(pick(at), is_success),
                Step::Cut(at) if pick(at).0 > 0 => {
                    world.nodes.remove(&pick(at));
                    world.event(Event::Cut(pick(at)));
                }
                Step::Silence(at) if pick(at).0 > 0 => world.nodes.get_mut(&pick(at)).expect("picked").is_silent = true,
                Step::Cut(_) | Step::Silence(_) => {}
                Step::Pass(milliseconds) => world.pass(Duration::from_millis(milliseconds)),
            }
        }
        for _ in 0..700 {
            world.deliver_all();
            let nodes: Vec<Node> = world.nodes.keys().copied().collect();
            nodes.iter().for_each(|&node| world.finish(node, true));
            world.deliver_all();
            if world.state.is_over() {
                break;
            }
            world.pass(SECOND);
        }
        prop_assert!(world.state.is_over(), "no end: {:?}", world.state.phase);
        for starts in world.starts.values() {
            let ranks: BTreeSet<u32> = starts.iter().map(|start| start.group_rank).collect();
            prop_assert_eq!(ranks.len(), starts.len(), "a group rank twice");
            let first = &starts[0];
            prop_assert!((least as usize..=most as usize).contains(&first.local_ranks.len()));
            for start in starts {
                let same = Start { group_rank: first.group_rank, ..start.clone() };
                prop_assert_eq!(&same, first);
                prop_assert!((start.group_rank as usize) < start.local_ranks.len());
            }
        }
        prop_assert!(world.state.restarts <= max_restarts);
    }
}
