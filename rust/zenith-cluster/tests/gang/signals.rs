//! Signals to the launcher, in every phase.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{STUBBORN, children, eventually, example, launch, start, state};

/// Ends with 0 on the signal.
fn obedient(signal: &str) -> String {
    format!("trap 'echo took it >&2; exit 0' {signal}; echo ready >&2; while :; do sleep 0.05; done")
}

#[test]
fn each_stopping_signal_reaches_the_ranks_as_it_is() {
    for (name, signal) in [("TERM", Signal::TERM), ("INT", Signal::INT), ("HUP", Signal::HUP), ("QUIT", Signal::QUIT)] {
        let mut gang = launch(&[], 2, &obedient(name));
        gang.wait_for("ready");
        gang.wait_for("ready");
        gang.signal(signal);
        gang.wait_for("took it");
        gang.wait_for("took it");
        let ended = gang.wait();
        assert_eq!(ended.status.code(), Some(2), "{name}: {:?}", ended.lines);
    }
}

#[test]
fn a_signal_while_ranks_start_is_not_lost() {
    for delay in [0, 1, 2, 4, 8] {
        let mut gang = launch(&["grace=0.2"], 16, STUBBORN);
        std::thread::sleep(Duration::from_millis(delay));
        gang.signal(Signal::TERM);
        let code = gang.wait().status;
        // Before the first line of its main, to which a busy machine takes its time, the launcher is a process like any other.
        assert!(code.code() == Some(2) || std::os::unix::process::ExitStatusExt::signal(&code) == Some(15), "{code}");
    }
}

#[test]
fn a_signal_between_attempts_ends_the_wait() {
    let mut gang = launch(&["attempts=1000"], 1, "exit 1");
    gang.wait_for("ended");
    gang.wait_for("ended");
    gang.signal(Signal::INT);
    assert_eq!(gang.wait().status.code(), Some(2));
}

#[test]
fn a_second_interrupt_kills_at_once() {
    let mut gang = launch(&["grace=100"], 2, &format!("echo ready >&2; {STUBBORN}"));
    gang.wait_for("ready");
    gang.wait_for("ready");
    gang.signal(Signal::INT);
    gang.wait_for("stopping");
    gang.signal(Signal::INT);
    gang.wait_for("killing");
    assert_eq!(gang.wait().status.code(), Some(2));
}

#[test]
fn a_forwarded_signal_stops_nothing() {
    let script = "trap 'echo got usr1 >&2' USR1; sleep 100 & echo ready >&2; wait; wait";
    let usr1 = format!("forwards={}", Signal::USR1.as_raw());
    let mut gang = launch(&[&usr1], 1, script);
    gang.wait_for("ready");
    gang.signal(Signal::USR1);
    gang.wait_for("got usr1");
    gang.signal(Signal::TERM);
    assert_eq!(gang.wait().status.code(), Some(2));
}

#[test]
fn suspension_stops_the_ranks_and_their_children_and_goes_on() {
    let mut gang = launch(&[], 2, "sleep 100 & echo ready >&2; wait");
    let ranks = gang.wait_for_ranks(2);
    // A shell that is stopped while it forks may show another state.
    eventually("the ranks have children", || {
        ranks.iter().all(|&rank| state(rank) == Some('S') && children(rank).len() == 1)
    });
    let all: Vec<_> = ranks.iter().flat_map(|&rank| [vec![rank], children(rank)].concat()).collect();
    gang.signal(Signal::TSTP);
    eventually("all are stopped", || all.iter().chain([&gang.pid()]).all(|&pid| state(pid) == Some('T')));
    gang.signal(Signal::CONT);
    eventually("all go on", || all.iter().chain([&gang.pid()]).all(|&pid| state(pid) == Some('S')));
    gang.signal(Signal::TERM);
    assert_eq!(gang.wait().status.code(), Some(2));
}

#[test]
fn a_stopped_rank_is_ended_too() {
    let mut gang = launch(&["grace=20"], 1, "exec sleep 100");
    let ranks = gang.wait_for_ranks(1);
    rustix::process::kill_process(ranks[0], Signal::STOP).unwrap();
    eventually("the rank is stopped", || state(ranks[0]) == Some('T'));
    let start = Instant::now();
    gang.signal(Signal::TERM);
    gang.wait();
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_hangup_that_was_ignored_stays_ignored() {
    let example = example().display().to_string();
    let mut gang = start(&[], None, &["1", "sh", "-c", "trap '' HUP; exec \"$0\" 1 sh -c 'sleep 0.7'", &example]);
    let outer = gang.wait_for_ranks(1)[0];
    gang.wait_for("runs as process");
    rustix::process::kill_process(outer, Signal::HUP).unwrap();
    assert_eq!(gang.wait().status.code(), Some(0));
}
