//! Ranks that make no progress (F-38), and ranks that are only slow (F-39).

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{Ended, eventually, launch, run};

const BEAT: &str = "touch $ZENITH_HEARTBEAT_FILE";

/// It was ended as a hang, and says so where one looks.
fn hung(ended: &Ended, rank: u32, what: &str) {
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let hang = ended.all("hang")[0];
    assert_eq!(hang["ranks"][0], rank, "{hang}");
    assert!(hang["what"].as_str().is_some_and(|told| told.contains(what)), "{hang}");
    let record = ended.log(hang["attempt"].as_u64().unwrap_or_default() as u32, rank, "error.json");
    assert!(record.contains("hang: ") && ended.stderr.contains("traceback : hang: "), "{record} {}", ended.stderr);
    assert!(
        ended.stderr.contains(&format!("rank      : {rank} ")) && ended.stderr.contains("stacks.txt"),
        "{}",
        ended.stderr
    );
    for stacks in hang["stacks"].as_array().expect("files") {
        let text = std::fs::read_to_string(stacks.as_str().expect("a path")).expect("stacks");
        assert!(text.contains("-- kernel\n") && text.contains("thread "), "{text}");
    }
}

#[test]
fn ranks_that_write_nothing_more_hang() {
    for (what, silent) in [("it sleeps", "exec sleep 1000"), ("it is busy", "while :; do :; done")] {
        let ended = run(&["--nproc-per-node=2", "-r", "3", "--hang-timeout=1"], &format!("echo begun; {silent}"));
        let hang = ended.all("hang")[0];
        // Whoever was silent first.
        hung(&ended, hang["ranks"][0].as_u64().expect("a rank") as u32, "without progress for 1");
        assert_eq!(hang["stacks"].as_array().map(Vec::len), Some(2), "{what}");
        // The starts of ranks may be heard of later than what they write.
        let written = (0..2).map(|rank| ended.written(0, rank, "stdout.log")).fold(0.0, f64::max);
        let seen = hang["time_s"].as_f64().expect("a time");
        assert!(seen - written >= 1.0, "not before its time: {seen}, {written}");
    }
}

#[test]
fn a_rank_that_ended_at_once_does_not_hide_one_that_hangs() {
    let options = ["--nproc-per-node=2", "-r", "3", "--hang-timeout=1", "--hang-first-timeout=1"];
    let ended = run(&options, "[ $RANK = 0 ] && exit 0; exec sleep 1000");
    hung(&ended, 1, "without any progress for 1");
}

#[test]
fn ranks_that_are_being_stopped_may_be_silent() {
    let script = "[ $RANK = 1 ] && { while [ ! -e $FOLDER/ready ]; do sleep 0.01; done; exit 7; }; \
                  trap '' TERM; touch $FOLDER/ready; echo begun; exec sleep 1000";
    let ended = run(&["--nproc-per-node=2", "-r", "3", "--hang-timeout=2", "--shutdown-timeout=5"], script);
    assert_eq!((ended.code, ended.all("hang").len()), (Some(1), 0), "{}", ended.stderr);
    assert!(ended.stderr.contains("exitcode  : 7 "), "{}", ended.stderr);
    assert_eq!(ended.all("kill_sent").len(), 1, "{:?}", ended.names());
}

#[test]
fn output_of_one_rank_keeps_all_alive() {
    let script = "[ $RANK = 0 ] && exec sleep 5; for i in $(seq 20); do echo $i; sleep 0.25; done";
    let ended = run(&["--nproc-per-node=2", "-r", "1", "--hang-timeout=2.5"], script);
    assert_eq!((ended.code, ended.all("hang").len()), (Some(0), 0), "{}", ended.stderr);
}

#[test]
fn the_first_progress_may_take_longer() {
    let options = ["-r", "1", "--hang-timeout=2", "--hang-first-timeout=30"];
    let ended = run(&options, "sleep 4; echo begun");
    assert_eq!((ended.code, ended.all("hang").len()), (Some(0), 0), "{}", ended.stderr);
    let ended = run(&["-r", "1", "--hang-timeout=0.5", "--hang-first-timeout=1"], "exec sleep 1000");
    hung(&ended, 0, "without any progress for 1");
}

#[test]
fn a_rank_whose_heart_has_beaten_is_judged_alone() {
    let script = format!("{BEAT}; while :; do echo output; [ $RANK = 1 ] || {BEAT}; sleep 0.1; done");
    let ended = run(&["--nproc-per-node=3", "-r", "1", "--hang-timeout=3"], &script);
    hung(&ended, 1, "rank 1 has been without a heartbeat for 3");
    assert_eq!(ended.all("hang")[0]["ranks"].as_array().map(Vec::len), Some(1));
    assert_eq!(ended.all("hang")[0]["stacks"].as_array().map(Vec::len), Some(3), "of all ranks");
}

#[test]
fn a_rank_that_was_stopped_hangs_and_one_that_goes_on_does_not() {
    let script = format!("{BEAT}; echo $$ >> $FOLDER/pids; for i in $(seq 40); do {BEAT}; sleep 0.1; done");
    for (pause, is_hang) in [(Duration::from_millis(500), false), (Duration::from_secs(30), true)] {
        let launched = launch(&["--hang-timeout=3"], &script);
        let pid = || std::fs::read_to_string(launched.path("pids")).ok()?.trim().parse().ok();
        eventually("a rank", || pid().is_some());
        let pid = rustix::process::Pid::from_raw(pid().expect("a rank")).expect("a process");
        rustix::process::kill_process(pid, Signal::STOP).expect("a rank");
        let start = Instant::now();
        eventually("a hang, or the end of the pause", || {
            start.elapsed() > pause || launched.events().iter().any(|event| event["event"] == "hang")
        });
        let _ = rustix::process::kill_process(pid, Signal::CONT);
        let ended = launched.wait();
        if is_hang {
            hung(&ended, 0, "without progress for 3");
            assert!(ended.log(0, 0, "stacks.txt").contains("T (stopped)"));
        } else {
            assert_eq!((ended.code, ended.all("hang").len()), (Some(0), 0), "{}", ended.stderr);
        }
    }
}

#[test]
fn ranks_that_stop_with_their_launcher_do_not_hang() {
    let launched = launch(&["--hang-timeout=2"], &format!("for i in $(seq 30); do {BEAT}; sleep 0.1; done"));
    launched.wait_for("rank_started");
    std::thread::sleep(Duration::from_millis(300));
    launched.signal(Signal::TSTP);
    std::thread::sleep(Duration::from_secs(5));
    launched.signal(Signal::CONT);
    let ended = launched.wait();
    assert_eq!((ended.code, ended.all("hang").len()), (Some(0), 0), "{}", ended.stderr);
}

#[test]
fn after_a_hang_the_ranks_start_anew() {
    let script =
        format!("{BEAT}; [ $TORCHELASTIC_RESTART_COUNT = 1 ] && exit 0; trap 'exit 0' TERM; sleep 1000 & wait");
    let ended = run(&["--nproc-per-node=2", "--max-restarts=1", "--hang-timeout=1"], &script);
    assert_eq!(
        ended.code,
        Some(0),
        "ranks that end well when they are stopped have hung all the same: {}",
        ended.stderr
    );
    let names = ended.names();
    let place = |name| names.iter().position(|known| *known == name).unwrap_or_else(|| panic!("{name}: {names:?}"));
    assert!(place("hang") < place("stop_sent") && place("stop_sent") < place("tree_empty"), "{names:?}");
    assert!(place("tree_empty") < place("restart"), "{names:?}");
    assert!(ended.all("rank_ended")[0]["exit_code"] == 0, "{:?}", ended.events);
}

#[test]
fn a_slow_rank_is_left_alone() {
    let script = format!("for i in 1 2 3 4; do {BEAT}; sleep $((1 + $RANK)).5; done");
    let ended = run(&["--nproc-per-node=2", "--hang-timeout=6"], &script);
    assert_eq!((ended.code, ended.all("hang").len()), (Some(0), 0), "{}", ended.stderr);
}

#[test]
fn who_asks_for_a_watch_hears_what_it_can_see() {
    let ended = run(&["--hang-timeout=1"], "sleep 3");
    assert_eq!((ended.code, ended.all("hang").len()), (Some(0), 0), "nothing can be seen of it");
    assert!(ended.stderr.contains("zenith.heartbeat() alone counts as progress"), "{}", ended.stderr);
    let ended = run(&[], "[ -z \"$ZENITH_HEARTBEAT_FILE\" ]");
    assert_eq!(ended.code, Some(0));
}
