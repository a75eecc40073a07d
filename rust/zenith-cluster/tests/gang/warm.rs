//! Ranks that are forked from a template.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Ended, Launched, children, name, python, start, wait_for_end};

const DUMP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gang/dump.py");
/// Says that it has begun, and stays.
const STAYS: &str = "import sys, time; print('begun', file=sys.stderr); time.sleep(1000)";
/// Fails when the template is ready, which is said on stderr; the launcher's next attempt begins at once.
const FAILS: &str = "import os, sys, time
siblings = f'/proc/{os.getppid()}/task/{os.getppid()}/children'
def ready(pid):
    try: return open(f'/proc/{pid}/comm').read() == 'zenith-template\\n'
    except OSError: return False
while not any(map(ready, open(siblings).read().split())): time.sleep(0.01)
";

/// A script, and what it can import: `torch` is a module of the given text.
struct Program {
    folder: TempDir,
    python: String,
}

impl Program {
    fn new(script: &str, torch: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("script.py"), script).unwrap();
        std::fs::write(folder.path().join("torch.py"), torch).unwrap();
        Self { folder, python: python() }
    }

    fn start(&self, options: &[&str], count: u32) -> Launched {
        self.start_with(&[], options, count)
    }

    fn start_with(&self, environment: &[(&str, &str)], options: &[&str], count: u32) -> Launched {
        let (script, count) = (self.folder.path().join("script.py"), count.to_string());
        let command = [&count, &self.python, "-u", script.to_str().unwrap()];
        start(environment, None, &[options, &command].concat())
    }
}

/// The template, once it can be forked.
fn template(gang: &mut Launched) -> Pid {
    let line = gang.wait_for("can be forked from process");
    Pid::from_raw(line.rsplit_once(' ').unwrap().1.parse().unwrap()).unwrap()
}

fn count(ended: &Ended, text: &str) -> usize {
    ended.lines.iter().filter(|line| line.contains(text)).count()
}

fn cold(script: &str, torch: &str, options: &[&str]) -> String {
    println!("with {torch}");
    let program = Program::new(script, torch);
    let mut gang = program.start(&[&["warm=torch"], options].concat(), 1);
    let line = gang.wait_for("no warm start");
    gang.signal(Signal::TERM);
    assert_eq!(gang.wait().status.code(), Some(2));
    assert_eq!(gang.survivors(), []);
    line
}

#[test]
fn replacements_are_forked_from_one_template() {
    let script = format!("{FAILS}import torch; os.write(2, b'with %s\\n' % torch.KEY); sys.exit(1)");
    // What it draws is the same in all its forks and different in every other process.
    let program = Program::new(&script, "import os; KEY = os.urandom(8).hex().encode()");
    let ended = program.start(&["warm=torch", "attempts=4", "grace=5"], 2).wait();
    assert_eq!(ended.status.code(), Some(1));
    assert_eq!(count(&ended, "can be forked"), 1, "{:?}", ended.lines);
    assert_eq!(count(&ended, "no warm start"), 0, "{:?}", ended.lines);
    let mut keys: BTreeMap<&str, usize> = BTreeMap::new();
    for line in ended.lines.iter().filter(|line| line.starts_with("with")) {
        *keys.entry(line).or_default() += 1;
    }
    // One of two ranks may be stopped before it has said it, or before it begins. Two processes of the first attempt alone have
    // keys of their own.
    assert!(keys.len() <= 3 && *keys.values().max().unwrap() >= 3, "{keys:?}");
}

#[test]
fn a_warm_start_is_a_cold_start_byte_for_byte() {
    let program = Program::new("", "print('imported'); import multiprocessing.process");
    let log = program.folder.path().join("log");
    std::fs::create_dir(&log).unwrap();
    is_cold_byte_for_byte(&program, &[&format!("log={}", log.display())]);
    for rank in ["0", "1"] {
        let text = std::fs::read_to_string(log.join(rank)).unwrap();
        assert_eq!(
            text, "imported\nto stdout\nto stderr\n",
            "a log of a rank is what it writes, its imports' words too"
        );
    }
}

#[test]
fn a_warm_start_has_its_own_streams_and_binding_and_the_machines_customizations() {
    // Their stderr is a pipe here.
    let program =
        Program::new("", "import multiprocessing.process, os; os.environ['OF_TORCH'] = os.environ.pop('OF_SITE')");
    let site = "import sys, os; os.environ['OF_SITE'] = str('torch' in sys.modules)";
    std::fs::write(program.folder.path().join("sitecustomize.py"), site).unwrap();
    let all = is_cold_byte_for_byte(&program, &["pins=1"]);
    let cpus = |seen: &Value| seen["process"]["status"]["Cpus_allowed_list"].clone();
    let first = std::thread::available_parallelism().unwrap().get() > 1;
    assert_eq!(cpus(&all[2]) != cpus(&all[3]), first);
}

/// Gives back what was seen: by both ranks cold, then warm.
fn is_cold_byte_for_byte(program: &Program, options: &[&str]) -> [Value; 4] {
    let folder = program.folder.path().join("seen");
    std::fs::create_dir(&folder).unwrap();
    let (own, seen) = (program.folder.path().to_str().unwrap(), folder.to_str().unwrap());
    let command =
        ["warm=torch", "attempts=2", "grace=20", "2", &program.python, "-u", DUMP, seen, "torch", "--and", "more"];
    let variables =
        [("PYTHONPATH", own), ("PYTHONHASHSEED", "7"), ("PYTHONDONTWRITEBYTECODE", "1"), ("WORLD_SIZE", "2")];
    let ended = start(&variables, None, &[options, &command].concat()).wait();
    assert_eq!(ended.status.code(), Some(0), "{:?}", ended.lines);
    assert_eq!(count(&ended, "no warm start"), 0, "{:?}", ended.lines);
    let read = |name: &str| -> Value { serde_json::from_slice(&std::fs::read(folder.join(name)).unwrap()).unwrap() };
    let all = ["0.0", "1.0", "0.1", "1.1"].map(read);
    for rank in [0, 1] {
        // Where an environment begins is the kernel's to know: that of the template. All else that can be asked for is the rank's.
        let allowed = ["/draws/random", "/draws/key", "/process/block"];
        let mut found = differences("", &all[rank], &all[rank + 2]);
        found.retain(|(path, ..)| !allowed.contains(&path.as_str()));
        assert!(found.is_empty(), "{found:#?}");
    }
    for name in ["random", "key"] {
        let mut draws = all.each_ref().map(|seen| seen["draws"][name].to_string()).to_vec();
        draws.sort();
        draws.dedup();
        assert_eq!(draws.len(), 4, "{name}: {draws:?}");
    }
    all
}

/// Where two values are different, and how.
fn differences(path: &str, one: &Value, other: &Value) -> Vec<(String, Value, Value)> {
    match (one, other) {
        (Value::Object(ones), Value::Object(others)) => {
            let names: std::collections::BTreeSet<&String> = ones.keys().chain(others.keys()).collect();
            let of = |name: &String| differences(&format!("{path}/{name}"), &one[name.as_str()], &other[name.as_str()]);
            names.into_iter().flat_map(of).collect()
        }
        _ if one == other => Vec::new(),
        _ => vec![(path.to_owned(), one.clone(), other.clone())],
    }
}

#[test]
fn the_end_of_a_forked_program_is_its_own() {
    for (end, code) in [("sys.exit(7)", "Code(7)"), ("1/0", "Code(1)"), ("os.kill(os.getpid(), 9)", "Signal(9)")] {
        let script = format!("{FAILS}{end}");
        let program = Program::new(&script, "");
        let ended = program.start(&["warm=torch", "attempts=2"], 1).wait();
        assert_eq!(count(&ended, code), 2, "{:?}", ended.lines);
        let frames = count(&ended, "  File ");
        assert_eq!(frames, if code == "Code(1)" { 2 } else { 0 }, "{:?}", ended.lines);
    }
}

#[test]
fn a_program_that_is_interrupted_ends_by_the_signal() {
    let script = format!("{FAILS}import torch, signal; os.kill(os.getpid(), signal.SIGINT); time.sleep(100)");
    let ended = Program::new(&script, "").start(&["warm=torch", "attempts=2"], 1).wait();
    assert_eq!(count(&ended, "Signal(2)"), 2, "{:?}", ended.lines);
}

#[test]
fn what_cannot_be_a_template_is_told_and_changes_nothing() {
    for (torch, reason) in [
        ("import missing_module", "ModuleNotFoundError: No module named 'missing_module'"),
        ("def", "SyntaxError: invalid syntax"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("import os; os._exit(5)", "the template ended with exit code 5"),
        ("import os; os.kill(os.getpid(), 11)", "the template was killed by signal 11"),
        (
            "import threading, time; threading.Thread(target=time.sleep, args=(99,), daemon=True).start()",
            "threads (2 run",
        ),
        ("import subprocess; subprocess.Popen(['sleep', '99'])", "have started processes"),
        ("class cuda:\n is_initialized = lambda: True", "have initialized CUDA"),
        ("import os; os.environ.get('LOCAL_RANK')", "asks for LOCAL_RANK, which only a rank has"),
        ("import random; random.seed(0)", "seeds `random`, or draws from it"),
    ] {
        let line = cold(STAYS, torch, &[]);
        assert!(line.contains(reason), "{torch}: {line}");
    }
}

#[test]
fn modules_that_take_too_long_are_given_up() {
    let line = cold(STAYS, "import time; time.sleep(1000)", &["limit=0.5"]);
    assert!(line.contains("was to have imported its modules in 0.5 s, and was killed"), "{line}");
}

#[test]
fn an_interpreter_that_cannot_be_a_template_is_told() {
    let program = Program::new(STAYS, "");
    let wrapper = program.folder.path().join("wrapper");
    for (script, reason) in [
        (format!("exec {} \"$@\"", program.python), "is a wrapper of"),
        (format!("exec -a \"$0\" {} -E \"$@\"", program.python), "is run with -E"),
        (format!("exec -a \"$0\" {} -S \"$@\"", program.python), "is run with -S"),
        ("[ \"$2\" = -c ] && exit 4; exec sleep 100".to_owned(), "ended with exit code 4"),
    ] {
        std::fs::write(&wrapper, format!("#!/bin/bash\n{script}\n")).unwrap();
        std::fs::set_permissions(&wrapper, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let script = program.folder.path().join("script.py");
        let (wrapper, script) = (wrapper.to_str().unwrap(), script.to_str().unwrap());
        let mut gang = start(&[], None, &["warm=torch", "1", wrapper, "-u", script]);
        let line = gang.wait_for("no warm start");
        assert!(line.contains(reason), "{line}");
        gang.signal(Signal::TERM);
        gang.wait();
    }
}

#[test]
fn a_template_that_is_killed_is_told_and_later_starts_are_cold() {
    let program = Program::new(STAYS, "");
    let mut gang = program.start(&["warm=torch", "attempts=2"], 1);
    let ranks = gang.wait_for_ranks(1);
    kill_process(template(&mut gang), Signal::KILL).unwrap();
    gang.wait_for("no warm start: the template was killed by signal 9");
    kill_process(ranks[0], Signal::KILL).unwrap();
    gang.wait_for_ranks(1);
    gang.wait_for("begun");
}

#[test]
fn a_template_that_does_not_fork_is_given_up() {
    let program = Program::new(STAYS, "");
    let mut gang = program.start(&["warm=torch", "attempts=2", "limit=8"], 1);
    let ranks = gang.wait_for_ranks(1);
    let template = template(&mut gang);
    kill_process(template, Signal::STOP).unwrap();
    kill_process(ranks[0], Signal::KILL).unwrap();
    gang.wait_for("no warm start: the template does not fork, and was killed");
    gang.wait_for_ranks(1);
    wait_for_end(template);
}

#[test]
fn ranks_that_were_asked_for_are_not_started_behind_a_signal() {
    let program = Program::new(STAYS, "");
    let mut gang = program.start(&["warm=torch", "attempts=2", "limit=60"], 2);
    let ranks = gang.wait_for_ranks(2);
    let template = template(&mut gang);
    kill_process(template, Signal::STOP).unwrap();
    for rank in ranks {
        kill_process(rank, Signal::KILL).unwrap();
    }
    // The pause between attempts is a tenth of a second; after it the template is asked, and does not answer.
    std::thread::sleep(Duration::from_millis(600));
    gang.signal(Signal::TERM);
    let start = Instant::now();
    let ended = gang.wait();
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!(ended.status.code(), Some(2));
    assert_eq!(gang.survivors(), []);
}

#[test]
fn a_template_is_beside_the_ranks_and_outlives_attempts() {
    let program = Program::new(STAYS, "");
    let mut gang = program.start(&["warm=torch", "attempts=3", "grace=20"], 2);
    let mut ranks = gang.wait_for_ranks(2);
    let guardian = gang.guardian().unwrap();
    let template = template(&mut gang);
    assert_eq!(name(template), "zenith-template");
    for _ in 0..2 {
        kill_process(ranks[0], Signal::KILL).unwrap();
        ranks = gang.wait_for_ranks(2);
        let siblings = children(guardian);
        assert!(ranks.iter().chain([&template]).all(|pid| siblings.contains(pid)), "{siblings:?}");
        for rank in &ranks {
            assert_eq!(rustix::process::getsid(Some(*rank)).unwrap(), *rank);
            assert_ne!(rustix::process::getpgid(Some(template)).unwrap(), *rank);
        }
    }
    gang.signal(Signal::TERM);
    assert_eq!(gang.wait().status.code(), Some(2));
    assert_eq!(gang.survivors(), []);
}

#[test]
fn a_template_ends_with_its_gang_however_that_ends() {
    for modules in ["", "import time; time.sleep(1000)"] {
        for target in ["launcher", "guardian", "nobody"] {
            let program = Program::new(STAYS, modules);
            let mut gang = program.start(&["warm=torch", "grace=0.3"], 2);
            gang.wait_for("begun");
            if modules.is_empty() {
                template(&mut gang);
            }
            match target {
                "launcher" => gang.signal(Signal::KILL),
                "guardian" => kill_process(gang.guardian().unwrap(), Signal::KILL).unwrap(),
                _ => gang.signal(Signal::TERM),
            }
            gang.wait_until_none_survives();
        }
    }
}

#[test]
fn success_is_not_held_up_by_a_template() {
    for options in [&["warm=torch"][..], &["warm=torch", "keeps=1"]] {
        let script = format!("{FAILS}sys.exit(0)");
        let program = Program::new(&script, "");
        let mut gang = program.start(options, 2);
        template(&mut gang);
        let ended = gang.wait();
        assert_eq!(ended.status.code(), Some(0), "{:?}", ended.lines);
        assert_eq!(count(&ended, "still run"), 0, "{:?}", ended.lines);
        gang.wait_until_none_survives();
    }
}

#[test]
fn what_a_forked_rank_leaves_is_ended_before_the_next_attempt() {
    let script = format!(
        "{FAILS}import subprocess
subprocess.Popen(['setsid', 'sleep', '1000'])
print('left', open('/proc/self/environ').read().count('RANK='), file=sys.stderr)
sys.exit(1)"
    );
    let program = Program::new(&script, "");
    let mut gang = program.start(&["warm=torch", "attempts=3", "grace=0.3"], 1);
    let ended = gang.wait();
    assert_eq!(count(&ended, "left"), 3, "{:?}", ended.lines);
    assert_eq!(gang.survivors(), []);
}

#[test]
fn a_missing_interpreter_is_an_error_of_the_rank() {
    let missing = Path::new("/nonexistent/python");
    let mut gang = start(&[], None, &["warm=torch", "1", missing.to_str().unwrap(), "-u", "script.py"]);
    let ended = gang.wait();
    assert_eq!(ended.status.code(), Some(3));
    assert!(ended.lines.iter().any(|line| line.contains("cannot start /nonexistent/python")), "{:?}", ended.lines);
}
