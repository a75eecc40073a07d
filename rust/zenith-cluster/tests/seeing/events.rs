//! The file of events.

use rustix::process::Signal;
use serde_json::json;

use crate::harness::{eventually, launch, launch_in, run, seconds};

#[test]
fn a_run_with_a_restart_is_told_in_order() {
    let ended = run(
        &["--nproc-per-node=2", "--max-restarts=1"],
        "[ $TORCHELASTIC_RESTART_COUNT = 0 ] && [ $RANK = 1 ] && exit 7; [ $TORCHELASTIC_RESTART_COUNT = 1 ] && exit 0; exec sleep 100",
    );
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let mut names = ended.names();
    // Ranks start beside each other, and the first may end before the second is seen to begin.
    let spawns: Vec<usize> = (0..names.len()).filter(|at| names[*at] == "spawn").collect();
    for spawn in spawns {
        let end = names[spawn..].iter().position(|name| *name == "tree_empty").expect("an end") + spawn;
        names[spawn + 1..end].sort_unstable();
    }
    let expected = "start spawn failure_seen rank_ended rank_ended rank_started rank_started stop_sent tree_empty restart \
                    spawn rank_ended rank_ended rank_started rank_started tree_empty end";
    assert_eq!(names.join(" "), expected);
    let failed = ended.all("rank_ended")[0];
    assert_eq!((&failed["rank"], &failed["exit_code"], &failed["signal"]), (&json!(1), &json!(7), &json!(null)));
    assert_eq!(ended.all("rank_ended")[1]["signal"], "SIGTERM");
    assert_eq!(ended.all("failure_seen")[0]["what"], "rank 1 failed (exit code 7)");
    assert_eq!(
        ended.all("tree_empty").iter().map(|event| &event["outcome"]).collect::<Vec<_>>(),
        ["failed", "succeeded"]
    );
    assert_eq!(ended.all("spawn").iter().map(|event| &event["attempt"]).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(ended.all("end")[0]["exit_code"], 0);
    assert!(ended.events.iter().all(|event| event["version"] == 1 && event["run_id"] == ended.events[0]["run_id"]));
    assert!(ended.events.is_sorted_by_key(seconds), "{:?}", ended.events);
}

#[test]
fn a_backoff_a_stop_and_a_kill_are_told() {
    let launched = launch(&["--max-restarts=5"], "exit 3");
    let pause = launched.wait_for("backoff");
    assert_eq!(pause["seconds"], 1.0);
    launched.signal(Signal::TERM);
    let ended = launched.wait();
    assert_eq!((ended.code, ended.names().last()), (Some(1), Some(&"end")));

    let launched = launch(&["--shutdown-timeout=0"], "trap '' TERM; touch $FOLDER/ready; while :; do sleep 0.1; done");
    eventually("a trap", || launched.path("ready").exists());
    launched.signal(Signal::TERM);
    let ended = launched.wait();
    assert_eq!(ended.all("stop_sent")[0]["signal"], "SIGTERM");
    assert_eq!(ended.all("kill_sent").len(), 1, "{:?}", ended.names());
    assert_eq!(ended.all("tree_empty")[0]["outcome"], "stopped");
    assert_eq!(ended.all("failure_seen").len(), 0);
}

#[test]
fn a_file_is_appended_to_and_one_that_cannot_be_is_an_error() {
    let first = run(&[], "exit 0");
    let second = launch_in(first.folder, &[], "exit 0").wait();
    assert_eq!(second.all("start").len(), 2);
    assert_ne!(second.all("start")[0]["run_id"], second.all("start")[1]["run_id"]);
    let ended = run(&["--events-file=/nonexistent/events"], "exit 0");
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("--events-file: /nonexistent/events cannot be opened"), "{}", ended.stderr);
    // Nothing waits for a disk.
    let ended = run(&["--events-file=/dev/full"], "exit 0");
    assert_eq!(ended.code, Some(0));
    assert!(ended.stderr.contains("events are missing in /dev/full: No space left"), "{}", ended.stderr);
}

#[test]
fn an_error_without_an_attempt_is_the_end() {
    let ended = run(
        &["--nproc-per-node=2", "-r", "1", "--store=launcher", "--master-port=1", "--master-addr=192.0.2.1"],
        "exit 0",
    );
    assert_eq!(ended.code, Some(1));
    assert_eq!(ended.names(), ["start", "end"]);
    assert!(ended.events[1]["error"].as_str().is_some_and(|error| error.contains("192.0.2.1")), "{:?}", ended.events);
}
