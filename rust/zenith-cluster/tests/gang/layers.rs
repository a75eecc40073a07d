//! Each way to leave nothing behind, alone.

use rustix::process::Signal;

use crate::harness::{Launched, STUBBORN, launch_with, wait_for_end};

const VARIABLE: &str = "ZENITH_GANG_WITHOUT";
const ALONE: [(&str, &str); 3] = [
    ("cgroup.kill", "cgroup-v1,tree,death-signal"),
    ("freezer", "cgroup-v2,tree,death-signal"),
    ("the tree and the death signal", "cgroup-v2,cgroup-v1"),
];

/// Ranks with daemons; `None` (and a line that says so) where the layer is not to be had.
fn launched(layer: &str, without: &str) -> Option<Launched> {
    let script = format!("(setsid sh -c \"{STUBBORN}\" &); sleep 0.2; echo ready >&2; {STUBBORN}");
    let mut gang = launch_with(&[(VARIABLE, without)], None, &["grace=0.3"], 2, &script);
    let ranks = gang.wait_for_ranks(2);
    gang.wait_for("ready");
    gang.wait_for("ready");
    let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", ranks[0].as_raw_nonzero())).unwrap();
    let (has_two, has_one) = groups
        .lines()
        .filter(|line| line.contains("/zenith-run."))
        .fold((false, false), |has, line| if line.starts_with("0::") { (true, has.1) } else { (has.0, true) });
    let wanted = (!without.contains("cgroup-v2"), !without.contains("cgroup-v1"));
    if (has_two, has_one) == wanted {
        return Some(gang);
    }
    eprintln!("skipped: {layer}, no such control group can be made here");
    // Without any layer its processes are this test's to end.
    for (pid, _) in gang.survivors() {
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
    None
}

#[test]
fn each_layer_alone_ends_what_a_killed_launcher_leaves() {
    for (layer, without) in ALONE {
        let Some(mut gang) = launched(layer, without) else { continue };
        gang.signal(Signal::KILL);
        gang.wait_until_none_survives();
    }
}

#[test]
fn each_layer_alone_ends_what_a_killed_guardian_leaves() {
    for (layer, without) in ALONE {
        let Some(mut gang) = launched(layer, without) else { continue };
        rustix::process::kill_process(gang.guardian().unwrap(), Signal::KILL).unwrap();
        assert_eq!(gang.wait().status.code(), Some(3), "{layer}");
        assert_eq!(gang.survivors(), [], "{layer}");
    }
}

#[test]
fn each_layer_alone_stops_a_gang() {
    for (layer, without) in ALONE {
        let Some(mut gang) = launched(layer, without) else { continue };
        gang.signal(Signal::TERM);
        assert_eq!(gang.wait().status.code(), Some(2), "{layer}");
        assert_eq!(gang.survivors(), [], "{layer}");
    }
}

#[test]
fn a_later_launcher_ends_what_launcher_and_guardian_have_left() {
    let (layer, without) = ALONE[0];
    let Some(gang) = launched(layer, without) else { return };
    let both = [gang.pid(), gang.guardian().unwrap()];
    both.iter().for_each(|pid| rustix::process::kill_process(*pid, Signal::KILL).unwrap());
    // As long as one of them is dying, what they have left is not anybody's.
    both.into_iter().for_each(wait_for_end);
    assert_eq!(launch_with(&[(VARIABLE, without)], None, &[], 1, "exit 0").wait().status.code(), Some(0));
    // Dropped: it fails if anything survives.
}

#[test]
fn the_death_signal_alone_ends_ranks_whose_guardian_is_killed() {
    let without = [(VARIABLE, "cgroup-v2,cgroup-v1,tree")];
    let mut gang = launch_with(&without, None, &[], 4, "exec sleep 1000");
    gang.wait_for_ranks(4);
    rustix::process::kill_process(gang.guardian().unwrap(), Signal::KILL).unwrap();
    assert_eq!(gang.wait().status.code(), Some(3));
    assert_eq!(gang.survivors(), []);
}
