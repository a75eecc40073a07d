//! The decisions, without a process.

use proptest::prelude::*;

use super::super::messages::Step;
use super::*;
use crate::worker::Output;

const GRACE: Duration = Duration::from_secs(10);
const TERM: Command = groups(libc::SIGTERM);
const CONT: Command = groups(libc::SIGCONT);
const KILL: Command = Command::Order(Order::Kill);
const SUCCESS: Status = Status::Code(0);
const FAILURE: Failure = Failure { step: Step::Exec, errno: libc::ENOENT };

const fn groups(signal: i32) -> Command {
    Command::Order(Order::Signal { signal, to: Target::Groups })
}

/// A gang whose time is told by the test.
struct Bench {
    state: State,
    now: Instant,
}

impl Bench {
    fn new(ranks: u32, keeps_background: bool) -> Self {
        let worker = |rank| Worker {
            local_rank: rank,
            rank: rank + 10,
            program: "train".into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            stdout: Output::Inherited,
            stderr: Output::Inherited,
            binding: None,
        };
        let workers: Vec<Worker> = (0..ranks).map(worker).collect();
        let stops = vec![libc::SIGTERM, libc::SIGINT];
        let rules = Rules { grace: GRACE, stops, forwards: vec![libc::SIGUSR1], keeps_background };
        Self { state: State::new(&workers, &rules), now: Instant::now() }
    }

    fn on(&mut self, event: Event) -> Vec<Command> {
        let mut out = Vec::new();
        self.state.on_event(event, self.now, &mut out);
        out.retain(|command| !matches!(command, Command::Tell(_)));
        out
    }

    fn ends(&mut self, index: usize, status: Status) -> Vec<Command> {
        self.on(Event::Ended { index, pid: 100 + index as i32, status, at: SystemTime::UNIX_EPOCH })
    }

    fn after(&mut self, time: Duration) -> Vec<Command> {
        self.now += time;
        self.on(Event::Time)
    }
}

fn exit(rank: u32, status: Status) -> Exit {
    Exit { local_rank: rank, rank: rank + 10, pid: 100 + rank as i32, status, at: SystemTime::UNIX_EPOCH }
}

#[test]
fn success_is_when_all_have_succeeded_and_nothing_is_left() {
    let mut gang = Bench::new(2, false);
    assert_eq!(gang.on(Event::Started { index: 0, pid: 100 }), []);
    assert_eq!(gang.ends(1, SUCCESS), []);
    assert_eq!(gang.on(Event::Empty), []);
    assert_eq!(gang.ends(0, SUCCESS), []);
    let exits = vec![exit(1, SUCCESS), exit(0, SUCCESS)];
    assert_eq!(gang.on(Event::Empty), [Command::Finish(Ok(Outcome::Succeeded(exits)))]);
}

#[test]
fn a_failure_stops_the_others_and_kills_after_the_grace() {
    let mut gang = Bench::new(2, false);
    assert_eq!(gang.ends(0, Status::Code(3)), [TERM, CONT]);
    assert_eq!(gang.after(GRACE - Duration::from_millis(1)), []);
    assert_eq!(gang.after(Duration::from_millis(1)), [KILL]);
    assert_eq!(gang.ends(1, Status::Signal(9)), []);
    let exits = vec![exit(0, Status::Code(3)), exit(1, Status::Signal(9))];
    assert_eq!(gang.on(Event::Empty), [Command::Finish(Ok(Outcome::Failed(exits)))]);
}

#[test]
fn a_gang_that_is_not_wanted_any_more_is_stopped_as_by_a_failure() {
    let mut gang = Bench::new(2, false);
    assert_eq!(gang.on(Event::Withdrawn), [TERM, CONT]);
    assert_eq!(gang.on(Event::Withdrawn), [], "once is enough");
    assert_eq!(gang.ends(1, Status::Code(1)), [], "because it was stopped");
    assert_eq!(gang.after(GRACE), [KILL]);
    gang.ends(0, Status::Signal(9));
    let exits = vec![exit(1, Status::Code(1)), exit(0, Status::Signal(9))];
    assert_eq!(gang.on(Event::Empty), [Command::Finish(Ok(Outcome::Withdrawn(exits)))]);

    let mut failed = Bench::new(1, false);
    failed.ends(0, Status::Code(3));
    assert_eq!(failed.on(Event::Withdrawn), []);
    let exits = vec![exit(0, Status::Code(3))];
    assert_eq!(failed.on(Event::Empty), [Command::Finish(Ok(Outcome::Failed(exits)))], "it failed first");

    let mut signalled = Bench::new(1, false);
    signalled.on(Event::Withdrawn);
    signalled.on(Event::Signal(libc::SIGTERM));
    signalled.ends(0, Status::Signal(15));
    let exits = vec![exit(0, Status::Signal(15))];
    let stopped = Outcome::Stopped { signal: libc::SIGTERM, exits };
    assert_eq!(signalled.on(Event::Empty), [Command::Finish(Ok(stopped))], "a signal is for the launcher");
}

#[test]
fn ranks_that_are_given_up_have_failed_however_they_end() {
    let mut gang = Bench::new(2, false);
    assert_eq!(gang.on(Event::GivenUp), [TERM, CONT]);
    assert_eq!(gang.on(Event::GivenUp), [], "once is enough");
    gang.ends(1, SUCCESS);
    assert_eq!(gang.after(GRACE), [KILL]);
    gang.ends(0, Status::Signal(9));
    let exits = vec![exit(1, SUCCESS), exit(0, Status::Signal(9))];
    assert_eq!(gang.on(Event::Empty), [Command::Finish(Ok(Outcome::Failed(exits)))]);

    let mut over = Bench::new(1, false);
    over.ends(0, SUCCESS);
    assert_eq!(over.on(Event::GivenUp), [], "it had succeeded");
}

#[test]
fn orphans_are_asked_to_end_when_the_last_rank_has() {
    let mut gang = Bench::new(2, false);
    gang.ends(0, Status::Code(1));
    assert_eq!(gang.ends(1, Status::Signal(15)), [TERM, CONT]);
    assert_eq!(gang.after(GRACE), [KILL]);
}

#[test]
fn a_rank_that_cannot_be_started_ends_the_others_at_once() {
    let mut gang = Bench::new(2, false);
    assert_eq!(gang.on(Event::NotStarted { index: 1, failure: FAILURE }), [KILL]);
    gang.ends(0, Status::Signal(9));
    let trouble = Trouble::NotStarted { index: 1, failure: FAILURE };
    assert_eq!(gang.on(Event::Empty), [Command::Finish(Err(trouble))]);
}

#[test]
fn a_second_interrupt_kills_at_once_and_a_second_termination_does_not() {
    let mut gang = Bench::new(1, false);
    assert_eq!(gang.on(Event::Signal(libc::SIGTERM)), [TERM, CONT]);
    assert_eq!(gang.on(Event::Signal(libc::SIGTERM)), []);
    assert_eq!(gang.on(Event::Signal(libc::SIGINT)), []);
    assert_eq!(gang.on(Event::Signal(libc::SIGINT)), [KILL]);
    gang.ends(0, Status::Signal(9));
    let outcome = Outcome::Stopped { signal: libc::SIGINT, exits: vec![exit(0, Status::Signal(9))] };
    assert_eq!(gang.on(Event::Empty), [Command::Finish(Ok(outcome))]);
}

#[test]
fn a_gang_that_fails_and_is_then_stopped_was_stopped() {
    let mut gang = Bench::new(2, false);
    gang.ends(0, Status::Code(1));
    assert_eq!(gang.on(Event::Signal(libc::SIGINT)), [groups(libc::SIGINT), CONT]);
    gang.ends(1, SUCCESS);
    let exits = vec![exit(0, Status::Code(1)), exit(1, SUCCESS)];
    let outcome = Outcome::Stopped { signal: libc::SIGINT, exits };
    assert_eq!(gang.on(Event::Empty), [Command::Finish(Ok(outcome))]);
}

#[test]
fn a_forwarded_signal_goes_to_the_ranks_alone() {
    let mut gang = Bench::new(1, false);
    let order = Order::Signal { signal: libc::SIGUSR1, to: Target::Ranks };
    assert_eq!(gang.on(Event::Signal(libc::SIGUSR1)), [Command::Order(order)]);
    assert_eq!(gang.on(Event::Signal(libc::SIGUSR2)), []);
}

#[test]
fn what_outlives_a_success_is_named_then_asked_then_killed() {
    let mut gang = Bench::new(1, false);
    gang.ends(0, SUCCESS);
    assert_eq!(gang.after(NAME_AFTER), [Command::Order(Order::List)]);
    let process = Process { pid: 7, name: "upload".to_owned(), state: b'S' };
    let mut out = Vec::new();
    gang.state.on_event(Event::Descendants { count: 1, first: vec![process.clone()] }, gang.now, &mut out);
    assert_eq!(out, [Command::Tell(Notice::Outlived { count: 1, first: vec![process] })]);
    assert_eq!(gang.after(GRACE - NAME_AFTER), [TERM, CONT]);
    assert_eq!(gang.after(GRACE), [KILL]);
    let outcome = Outcome::Succeeded(vec![exit(0, SUCCESS)]);
    assert_eq!(gang.on(Event::Empty), [Command::Finish(Ok(outcome))]);
}

#[test]
fn what_is_kept_is_left_alone() {
    let mut gang = Bench::new(1, true);
    let outcome = Outcome::Succeeded(vec![exit(0, SUCCESS)]);
    assert_eq!(gang.ends(0, SUCCESS), [Command::Order(Order::Leave), Command::Finish(Ok(outcome))]);
}

#[test]
fn time_stands_still_while_the_launcher_is_stopped() {
    let mut gang = Bench::new(2, false);
    gang.ends(0, Status::Code(1));
    assert_eq!(gang.on(Event::Signal(libc::SIGTSTP)), [groups(libc::SIGSTOP), Command::Suspend]);
    assert_eq!(gang.state.deadline(), None);
    assert_eq!(gang.after(2 * GRACE), []);
    assert_eq!(gang.on(Event::Signal(libc::SIGCONT)), [CONT]);
    assert_eq!(gang.after(GRACE - Duration::from_millis(1)), []);
    assert_eq!(gang.after(Duration::from_millis(1)), [KILL]);
}

#[test]
fn what_cannot_be_killed_is_given_up() {
    let mut gang = Bench::new(1, false);
    gang.on(Event::Signal(libc::SIGTERM));
    gang.after(GRACE);
    assert_eq!(gang.after(GIVE_UP_AFTER), [Command::Finish(Err(Trouble::Stuck))]);
}

#[test]
fn a_grace_without_bound_is_a_grace() {
    let mut gang = Bench::new(2, false);
    gang.state = State::new(&[], &Rules { grace: Duration::MAX, ..gang.state.rules.clone() });
    assert_eq!(gang.on(Event::Signal(libc::SIGTERM)), [TERM, CONT]);
    assert_eq!(gang.after(GRACE), []);
}

/// What a guardian, a user and a clock may do, in an order that nobody controls.
fn happening(ranks: usize) -> impl Strategy<Value = (u8, usize, i32)> {
    let signals = vec![0, 1, 9, libc::SIGTERM, libc::SIGINT, libc::SIGTSTP, libc::SIGCONT, libc::SIGUSR1];
    (0..7_u8, 0..ranks + 1, prop::sample::select(signals))
}

/// A gang whose commands are judged as they come.
struct Judged {
    gang: Bench,
    keeps: bool,
    over: [bool; 3],
    signalled: bool,
    killed: Option<Instant>,
    ends: usize,
}

impl Judged {
    fn on(&mut self, event: Event) -> Result<(), TestCaseError> {
        let is_empty = matches!(event, Event::Empty);
        self.signalled |= matches!(event, Event::Signal(_));
        if let Event::Ended { index, .. } | Event::NotStarted { index, .. } = event
            && let Some(over) = self.over.get_mut(index)
        {
            *over = true;
        }
        for command in self.gang.on(event) {
            prop_assert_eq!(self.ends, 0, "{:?} after the end", command);
            match command {
                Command::Order(Order::Kill) => self.killed = Some(self.gang.now),
                Command::Finish(end) => {
                    self.ends += 1;
                    let is_left = !is_empty || self.over.contains(&false);
                    let allowed = match &end {
                        Err(Trouble::Stuck) => self.killed.is_some_and(|at| self.gang.now - at >= GIVE_UP_AFTER),
                        Ok(Outcome::Succeeded(_)) if self.keeps => self.over == [true; 3],
                        Ok(Outcome::Stopped { .. }) => !is_left && self.signalled,
                        _ => !is_left,
                    };
                    prop_assert!(allowed, "{:?} with {:?} over, empty: {}", end, self.over, is_empty);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

proptest! {
    /// Whatever the order: one end, none before all ranks are over and the tree is empty (or given up), and always an end.
    #[test]
    fn any_order_of_events_ends_once_with_no_rank_left(
        keeps in any::<bool>(),
        happenings in prop::collection::vec(happening(3), 0..60),
    ) {
        let gang = Bench::new(3, keeps);
        let mut judged = Judged { gang, keeps, over: [false; 3], signalled: false, killed: None, ends: 0 };
        for (what, index, number) in happenings {
            let event = match what {
                0 => Event::Started { index, pid: 5 },
                1 => Event::NotStarted { index, failure: FAILURE },
                2 => Event::Ended { index, pid: 5, status: Status::Code(number), at: SystemTime::UNIX_EPOCH },
                3 => Event::Empty,
                4 => Event::Signal(number),
                5 => Event::Descendants { count: index, first: Vec::new() },
                _ => {
                    judged.gang.now += Duration::from_secs(number as u64);
                    Event::Time
                }
            };
            judged.on(event)?;
        }
        // It comes to an end when the guardian does what it is told.
        for index in 0..3 {
            judged.on(Event::Ended { index, pid: 5, status: Status::Signal(9), at: SystemTime::UNIX_EPOCH })?;
        }
        judged.on(Event::Empty)?;
        prop_assert_eq!(judged.ends, 1);
    }
}
