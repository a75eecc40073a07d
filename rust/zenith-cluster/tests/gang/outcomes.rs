//! How gangs end by themselves.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{STUBBORN, eventually, example, launch, start, state};

fn count(lines: &[String], text: &str) -> usize {
    lines.iter().filter(|line| line.contains(text)).count()
}

#[test]
fn a_gang_succeeds_when_all_ranks_do() {
    let mut gang = launch(&[], 4, "exit 0");
    let ended = gang.wait();
    assert_eq!(ended.status.code(), Some(0));
    assert_eq!(count(&ended.lines, "Code(0)"), 4, "{:?}", ended.lines);
}

#[test]
fn a_rank_that_fails_ends_the_others() {
    let mut gang = launch(&["grace=20"], 3, "[ $RANK = 1 ] && exit 7; exec sleep 100");
    let start = Instant::now();
    let ended = gang.wait();
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!(ended.status.code(), Some(1));
    let first = ended.lines.iter().find(|line| line.contains("ended")).unwrap();
    assert!(first.starts_with("rank 1") && first.contains("Code(7)"), "{:?}", ended.lines);
    assert_eq!(count(&ended.lines, "Signal(15)"), 2);
}

#[test]
fn a_rank_that_dies_by_a_signal_is_told_so() {
    let ended = launch(&[], 1, "kill -SEGV $$").wait();
    assert_eq!(ended.status.code(), Some(1));
    assert_eq!(count(&ended.lines, "Signal(11)"), 1, "{:?}", ended.lines);
}

#[test]
fn exits_come_in_the_order_of_the_kernel() {
    let mut gang = launch(&[], 3, "exec sleep 1000");
    let mut ranks: Vec<(String, Pid)> = Vec::new();
    for _ in 0..3 {
        let line = gang.wait_for("runs as process");
        ranks.push((line[..6].to_owned(), Pid::from_raw(line.rsplit_once(' ').unwrap().1.parse().unwrap()).unwrap()));
    }
    ranks.sort_by(|(one, _), (other, _)| other.cmp(one));
    // All have ended before the guardian, which has not been able to look, sees the first.
    let guardian = gang.guardian().unwrap();
    kill_process(guardian, Signal::STOP).unwrap();
    eventually("the guardian is stopped", || state(guardian) == Some('T'));
    for &(_, rank) in &ranks {
        kill_process(rank, Signal::KILL).unwrap();
        eventually("the rank has ended", || state(rank) == Some('Z'));
    }
    kill_process(guardian, Signal::CONT).unwrap();
    let ended = gang.wait();
    let order: Vec<&str> = ended.lines.iter().filter(|line| line.contains("ended")).map(|line| &line[..6]).collect();
    assert_eq!(order, ["rank 2", "rank 1", "rank 0"], "{:?}", ended.lines);
}

#[test]
fn a_program_that_is_missing_starts_none() {
    let mut gang = launch(&["broken=1"], 3, STUBBORN);
    let ended = gang.wait();
    assert_eq!(ended.status.code(), Some(3));
    let error = ended.lines.iter().find(|line| line.starts_with("error")).unwrap();
    assert_eq!(
        error,
        "error: rank 1 (local rank 1): cannot start /nonexistent/program: No such file or directory (os error 2)"
    );
}

#[test]
fn a_process_or_a_descriptor_too_few_starts_none() {
    // Nobody else is this user, whose processes are counted.
    let user = rustix::process::geteuid().is_root().then_some(54321);
    // Shells do not agree on the letter for processes.
    let processes = ("ulimit -p 20 2>/dev/null || ulimit -u 20", "Resource temporarily unavailable");
    let descriptors = ("ulimit -n 40", "Too many open files");
    for (limit, cause) in user.map(|_| processes).into_iter().chain([descriptors]) {
        let outer = format!("{limit}; exec \"$PROGRAM\" 64 sleep 1000");
        let mut gang = start(&[], user, &["1", "sh", "-c", &outer]);
        let error = gang.wait_for("error");
        assert!(error.contains("cannot fork a process") && error.contains(cause), "{error}");
        assert_eq!(gang.wait().status.code(), Some(1));
        assert_eq!(gang.survivors(), []);
    }
}

#[test]
fn a_log_that_cannot_be_written_is_named() {
    let ended = launch(&["log=/nonexistent"], 1, "exit 0").wait();
    assert_eq!(ended.status.code(), Some(3));
    assert_eq!(count(&ended.lines, "cannot open /nonexistent/0 for its stdout: No such file"), 1, "{:?}", ended.lines);
}

#[test]
fn ranks_write_their_logs_themselves() {
    let folder = tempfile::tempdir().unwrap();
    let option = format!("log={}", folder.path().display());
    let ended = launch(&[&option], 2, "echo out $RANK; echo err $RANK >&2").wait();
    assert_eq!(ended.status.code(), Some(0));
    for rank in 0..2 {
        let text = std::fs::read_to_string(folder.path().join(rank.to_string())).unwrap();
        assert_eq!(text, format!("out {rank}\nerr {rank}\n"));
    }
}

#[test]
fn ranks_that_ignore_the_signal_are_killed_after_the_grace() {
    let mut gang = launch(&["grace=0.5"], 2, &format!("[ $RANK = 0 ] && {{ sleep 0.3; exit 1; }}; {STUBBORN}"));
    gang.wait_for("stopping");
    let start = Instant::now();
    gang.wait_for("killing");
    let waited = start.elapsed();
    assert!(waited >= Duration::from_millis(400), "{waited:?}");
    let ended = gang.wait();
    assert_eq!(count(&ended.lines, "Signal(9)"), 1, "{:?}", ended.lines);
}

#[test]
fn an_attempt_begins_when_the_one_before_is_gone() {
    // A setsid descendant of the first attempt holds a lock that the second one needs.
    let folder = tempfile::tempdir().unwrap();
    let lock = folder.path().join("lock");
    let script = format!("exec 9>{0}; flock -n 9 || exit 99; setsid sleep 100 & sleep 0.1; exit 1", lock.display());
    let ended = launch(&["attempts=3"], 1, &script).wait();
    assert_eq!(ended.status.code(), Some(1));
    assert_eq!(count(&ended.lines, "Code(1)"), 3, "{:?}", ended.lines);
}

#[test]
fn sixty_four_ranks_run_together() {
    let ended = launch(&[], 64, "exec sleep 0.2").wait();
    assert_eq!(ended.status.code(), Some(0));
    assert_eq!(count(&ended.lines, "Code(0)"), 64);
}

#[test]
fn more_reports_than_a_socket_holds_arrive() {
    let mut gang = start(&[], None, &["300", "true"]);
    let ended = gang.wait();
    assert_eq!(ended.status.code(), Some(0));
    assert_eq!(count(&ended.lines, "Code(0)"), 300);
}

#[test]
fn large_environments_and_arguments_arrive() {
    let large = "x".repeat(100_000);
    let environment = [("LARGE", large.as_str())];
    let script = "[ ${#LARGE} = 100000 ] && [ ${#1} = 100000 ] && exit 0; exit 1";
    let ended = start(&environment, None, &["2", "sh", "-c", script, "sh", &large]).wait();
    assert_eq!(ended.status.code(), Some(0));
}

#[test]
fn a_rank_has_a_session_and_no_descriptor_that_was_left_open() {
    let script = "for fd in 3 4 5 6 7 8 9 10 11 12; do [ -e /proc/$$/fd/$fd ] && exit $fd; done
        set -- $(cat /proc/$$/stat); [ $5 = $$ ] && [ $6 = $$ ]";
    // The launcher itself was given one too many.
    let outer = "exec 7</dev/null; exec \"$0\" 2 sh -c \"$1\"";
    let ended = start(&[], None, &["1", "sh", "-c", outer, &example().display().to_string(), script]).wait();
    assert_eq!(ended.status.code(), Some(0), "{:?}", ended.lines);
}

#[test]
fn a_rank_has_the_signals_of_a_fresh_process() {
    let script = "grep -e SigBlk -e SigIgn /proc/self/status >&2";
    // Ignored by whoever starts the launcher, as in the background of a script.
    let outer = "trap '' INT QUIT PIPE; exec \"$0\" 1 sh -c \"$1\"";
    let ended = start(&[], None, &["1", "sh", "-c", outer, &example().display().to_string(), script]).wait();
    for name in ["SigBlk:\t", "SigIgn:\t"] {
        let set = ended.lines.iter().find_map(|line| line.strip_prefix(name)).unwrap();
        // posix_spawn of glibc, by which this test starts the launcher, ignores glibc's own two.
        let theirs = 0b11 << 31;
        assert_eq!(u64::from_str_radix(set, 16).unwrap() & !theirs, 0, "{:?}", ended.lines);
    }
}

#[test]
fn an_attempt_after_a_kill_lives_and_so_does_a_gang_within_it() {
    let folder = tempfile::tempdir().unwrap();
    // The first attempt ends by SIGKILL, all of its control group at once; the second is a gang of its own in that group.
    let script = format!(
        "if mkdir {0}/$RANK; then [ $RANK = 0 ] && {{ sleep 0.2; exit 1; }}; {STUBBORN}; fi; exec {1} 1 true",
        folder.path().display(),
        example().display()
    );
    let ended = launch(&["grace=0.2", "attempts=2"], 2, &script).wait();
    assert_eq!(count(&ended.lines, "killing"), 1, "{:?}", ended.lines);
    assert_eq!(ended.status.code(), Some(0), "{:?}", ended.lines);
}
