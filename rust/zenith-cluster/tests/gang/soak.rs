//! Kills at random moments: `ZENITH_SOAK` says how many (20 by default).

use std::time::{Duration, SystemTime};

use rustix::process::{Pid, Signal};

use crate::harness::{Launched, children, launch_with, name, python, start};

/// What a rank leads: the shapes of a tree that have escaped from one launcher or another.
const SHAPES: [(&str, &str); 6] = [
    ("alone", "exec sleep 1000"),
    ("ignores signals", "trap '' TERM INT HUP; while :; do sleep 0.3; done"),
    ("daemons", "for i in 1 2 3; do (setsid sh -c 'trap \"\" TERM; sleep 1000 & sleep 1000' &); done; exec sleep 1000"),
    ("a deep chain", "n() { if [ $1 = 0 ]; then exec sleep 1000; else (n $(($1 - 1))) & wait; fi; }; n 12"),
    ("short-lived children", "while :; do (sleep 0.01 &) ; done"),
    (
        "one that moves on",
        "h='sleep 0.02; setsid sh -c \"$H\" & exit'; export H=\"$h\"; setsid sh -c \"$H\" & exec sleep 1000",
    ),
];
const LAYERS: [&str; 4] = ["", "cgroup-v2", "cgroup-v2,cgroup-v1", "cgroup-v1,death-signal"];
/// Until when the kill comes: while processes start, while they run, within the grace after a failure, around restarts.
const PHASES: [(&str, u64); 4] = [("start", 8), ("run", 150), ("grace", 250), ("restart", 400)];

/// xorshift: the same numbers for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

#[test]
fn nothing_survives_kills_at_random_moments() {
    let count =
        std::env::vars().find(|(name, _)| name == "ZENITH_SOAK").map_or(20, |(_, value)| value.parse().unwrap());
    let seed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64 | 1;
    println!("seed {seed}");
    // Ranks that have a template are Python's for a moment.
    let folder = tempfile::tempdir().unwrap();
    let shell = folder.path().join("shell.py");
    std::fs::write(&shell, "import os, sys; os.execvp('sh', ['sh', '-c', sys.argv[1]])").unwrap();
    let python = python();
    let mut random = Random(seed);
    let mut slowest = Duration::ZERO;
    for turn in 0..count {
        let (shape, script) = random.of(&SHAPES);
        let (phase, until) = random.of(&PHASES);
        let layers = random.of(&LAYERS);
        let is_warm = random.below(3) == 0;
        let target = random.of(&["launcher", "guardian", "rank", if is_warm { "template" } else { "rank" }]);
        let is_root = rustix::process::geteuid().is_root();
        // The interpreter may lie where nobody else comes.
        let user = (is_root && !is_warm && random.below(3) == 0).then_some(65534);
        println!("{turn}: {target} in {phase}, {shape}, without {layers:?}, user {user:?}, warm {is_warm}");
        let script = match phase {
            "grace" => format!("[ $RANK = 0 ] && {{ sleep 0.05; exit 1; }}; {script}"),
            "restart" => format!("[ $RANK = 0 ] && {{ ({script}) & sleep 0.05; exit 1; }}; {script}"),
            _ => script.to_owned(),
        };
        let options: &[&str] = if phase == "restart" { &["grace=0.05", "attempts=100"] } else { &["grace=0.3"] };
        let environment = [("ZENITH_GANG_WITHOUT", layers)];
        let mut gang = if is_warm {
            let command = ["warm=json", "3", &python, "-u", shell.to_str().unwrap(), &script];
            start(&environment, None, &[options, &command].concat())
        } else {
            launch_with(&environment, user, options, 3, &script)
        };
        // A template takes its time; after that restarts are forks of it.
        let until = if is_warm { until * 4 } else { until };
        std::thread::sleep(Duration::from_micros(random.below(until * 1000)));
        kill(&gang, target, &mut random);
        slowest = slowest.max(if target == "launcher" {
            gang.wait_until_none_survives()
        } else {
            // The launcher lives: it ends by the failure, or is asked to.
            std::thread::sleep(Duration::from_millis(50));
            let _ = rustix::process::kill_process(gang.pid(), Signal::TERM);
            gang.wait();
            let survivors = gang.survivors();
            assert!(survivors.is_empty(), "{survivors:?}");
            Duration::ZERO
        });
    }
    println!("{count} kills; after the launcher's the slowest tree was empty in {slowest:?}");
}

/// A target that does not exist yet, or any more, is passed over.
fn kill(gang: &Launched, target: &str, random: &mut Random) {
    let victim = match target {
        "launcher" => Some(gang.pid()),
        "guardian" => gang.guardian(),
        "template" => {
            let is_one = |pid: &Pid| ["zenith-template", "python"].iter().any(|known| name(*pid).starts_with(known));
            gang.guardian().map(children).unwrap_or_default().into_iter().find(is_one)
        }
        _ => {
            let ranks = gang.guardian().map(children).unwrap_or_default();
            (!ranks.is_empty()).then(|| random.of(&ranks))
        }
    };
    if let Some(victim) = victim {
        let _ = rustix::process::kill_process(victim, Signal::KILL);
    }
}
