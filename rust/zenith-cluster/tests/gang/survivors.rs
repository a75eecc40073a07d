//! What is left of a gang: nothing, however it ends.

use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{STUBBORN, children, eventually, example, launch, start};

/// Starts processes in sessions of their own, whose parents end at once, and stays.
const DAEMONS: &str = "for i in 1 2 3; do (setsid sh -c 'trap \"\" TERM HUP; sleep 1000 & sleep 1000' &) ; done";

fn daemons(then: &str) -> String {
    format!("{DAEMONS}; sleep 0.3; echo ready >&2; {then}")
}

#[test]
fn a_failed_gang_leaves_no_daemon() {
    let mut gang = launch(&["grace=0.3"], 2, &daemons("exit 1"));
    assert_eq!(gang.wait().status.code(), Some(1));
    assert_eq!(gang.survivors(), []);
}

#[test]
fn descendants_of_the_rank_that_failed_are_ended_with_it() {
    let script = "[ $RANK = 0 ] || exec sleep 1000; sleep 1000 & sleep 0.1; exit 1";
    let mut gang = launch(&["grace=20"], 2, script);
    assert_eq!(gang.wait().status.code(), Some(1));
    assert_eq!(gang.survivors(), []);
}

#[test]
fn a_stopped_gang_leaves_no_daemon() {
    let mut gang = launch(&["grace=0.3"], 2, &daemons(STUBBORN));
    gang.wait_for("ready");
    gang.wait_for("ready");
    gang.signal(Signal::TERM);
    assert_eq!(gang.wait().status.code(), Some(2));
    assert_eq!(gang.survivors(), []);
}

#[test]
fn nothing_survives_a_launcher_that_is_killed() {
    let mut gang = launch(&[], 2, &daemons(STUBBORN));
    gang.wait_for("ready");
    gang.wait_for("ready");
    gang.signal(Signal::KILL);
    gang.wait_until_none_survives();
}

#[test]
fn nothing_survives_a_guardian_that_is_killed() {
    let mut gang = launch(&[], 2, &daemons(STUBBORN));
    gang.wait_for("ready");
    gang.wait_for("ready");
    rustix::process::kill_process(gang.guardian().unwrap(), Signal::KILL).unwrap();
    let ended = gang.wait();
    assert_eq!(gang.survivors(), []);
    assert_eq!(ended.status.code(), Some(3));
    let error = ended.lines.iter().find(|line| line.starts_with("error")).unwrap();
    assert!(error.contains("was killed by signal 9; all that it had started was killed"), "{error}");
}

#[test]
fn a_guardian_that_is_stopped_still_ends_its_ranks() {
    let mut gang = launch(&["grace=0.2"], 1, STUBBORN);
    gang.wait_for_ranks(1);
    rustix::process::kill_process(gang.guardian().unwrap(), Signal::STOP).unwrap();
    gang.signal(Signal::TERM);
    assert_eq!(gang.wait().status.code(), Some(2));
}

#[test]
fn what_outlives_a_success_is_named_and_stopped_after_the_grace() {
    let mut gang = launch(&["grace=0.6"], 1, "setsid sleep 1000 & exit 0");
    let named = gang.wait_for("still run");
    assert!(named.contains("1 of their processes") && named.contains("(sleep, state S)"), "{named}");
    gang.wait_for("stopping");
    assert_eq!(gang.wait().status.code(), Some(0));
    assert_eq!(gang.survivors(), []);
}

#[test]
fn what_outlives_a_success_may_finish() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("saved");
    let script = format!("(sleep 0.4; echo saved > {}) & exit 0", file.display());
    let ended = launch(&["grace=20"], 1, &script).wait();
    assert_eq!(ended.status.code(), Some(0));
    assert!(!ended.lines.iter().any(|line| line.contains("stopping")), "{:?}", ended.lines);
    assert_eq!(std::fs::read_to_string(file).unwrap(), "saved\n");
}

#[test]
fn what_is_to_be_kept_outlives_the_launcher() {
    let mut gang = launch(&["keeps=1"], 1, "setsid sleep 1000 & exit 0");
    assert_eq!(gang.wait().status.code(), Some(0));
    std::thread::sleep(Duration::from_millis(100));
    // A launcher that comes later takes it for nobody's leftover.
    start(&[], None, &["1", "true"]).wait();
    let survivors = gang.survivors();
    assert_eq!(survivors.len(), 1, "{survivors:?}");
    assert_eq!(survivors[0].1, "sleep");
    rustix::process::kill_process(survivors[0].0, Signal::KILL).unwrap();
}

#[test]
fn ten_thousand_grandchildren_are_reaped() {
    // Each is an orphan as soon as it lives: it comes to the guardian, which has no zombies in the end.
    let script = "i=0; while [ $i -lt 5000 ]; do (:&); i=$((i+1)); done; echo done >&2; exec sleep 1000";
    let mut gang = launch(&[], 2, script);
    gang.wait_for("done");
    gang.wait_for("done");
    let guardian = gang.guardian().unwrap();
    eventually("only the ranks are left", || children(guardian).len() == 2);
}

#[test]
fn no_other_process_is_hit_where_numbers_are_used_again_at_once() {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let version: Vec<u32> = release.split(['.', '-']).map_while(|part| part.parse().ok()).take(2).collect();
    // Older kernels have one limit for all namespaces; it shall not be touched.
    if version < vec![6, 14] || !rustix::process::geteuid().is_root() {
        eprintln!("skipped: no pid namespace with a limit of its own can be made here");
        return;
    }
    // Bystanders come and go through all 400 numbers while gangs with many orphans are stopped beside them.
    let script = r#"echo 400 > /proc/sys/kernel/pid_max || exit 9
        for i in 1 2 3; do (while :; do sleep 0.002 || echo hit >&2; done) & done
        ZENITH_GANG_WITHOUT=cgroup-v2,cgroup-v1 "$0" grace=0.1 attempts=6 3 sh -c '
            for i in 1 2 3 4 5 6 7 8 9; do (setsid sh -c "trap : TERM; while :; do sleep 0.005; done" &); done
            sleep 0.05; exit 1'
        echo gang ended with $? >&2"#;
    let gang = example().display().to_string();
    let mut namespace = Command::new("unshare");
    namespace.args(["--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script, &gang]);
    let output = namespace.stdin(Stdio::null()).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("gang ended with 1"), "{told}");
    assert!(!told.contains("hit"), "{told}");
}
