//! `zenith-run` under test, and the events that it writes.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, Signal};
use serde_json::Value;
use tempfile::TempDir;

/// Longer than anything that is waited for takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Launched {
    child: Child,
    folder: TempDir,
}

pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stderr: String,
    pub(crate) events: Vec<Value>,
    pub(crate) folder: TempDir,
}

/// Runs `zenith-run OPTIONS --no-python bash -c SCRIPT` with events and logs in a folder of its own, `$FOLDER`.
pub(crate) fn launch(options: &[&str], script: &str) -> Launched {
    launch_in(tempfile::tempdir().expect("a folder"), options, script)
}

pub(crate) fn launch_in(folder: TempDir, options: &[&str], script: &str) -> Launched {
    let file = |name: &str| std::fs::File::create(folder.path().join(name)).expect("a file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_zenith-run"));
    command.arg("--events-file").arg(folder.path().join("events"));
    command.arg("--log-dir").arg(folder.path().join("logs"));
    // A dollar stands for two in arguments.
    command.args(options).args(["--no-python", "bash", "-c", &script.replace('$', "$$")]);
    command.env("FOLDER", folder.path()).env("OMP_NUM_THREADS", "1").env_remove("ZENITH_HEARTBEAT_FILE");
    let child = command.stdin(Stdio::null()).stdout(file("stdout")).stderr(file("stderr")).spawn().expect("a launcher");
    Launched { child, folder }
}

pub(crate) fn run(options: &[&str], script: &str) -> Ended {
    launch(options, script).wait()
}

impl Launched {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.child), signal).expect("a launcher");
    }

    pub(crate) fn stderr(&self) -> String {
        std::fs::read_to_string(self.path("stderr")).unwrap_or_default()
    }

    pub(crate) fn events(&self) -> Vec<Value> {
        events(self.folder.path())
    }

    /// Waits until there is such an event.
    pub(crate) fn wait_for(&self, name: &str) -> Value {
        let found = || self.events().into_iter().find(|event| event["event"] == name);
        eventually(name, || found().is_some());
        found().expect("it was seen")
    }

    pub(crate) fn wait(mut self) -> Ended {
        let end = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                break status;
            }
            if Instant::now() > end {
                self.signal(Signal::KILL);
                panic!("it does not end: {}", self.stderr());
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let Self { folder, .. } = self;
        let stderr = std::fs::read_to_string(folder.path().join("stderr")).unwrap_or_default();
        Ended { code: status.code(), stderr, events: events(folder.path()), folder }
    }
}

impl Ended {
    /// The names of the events, in their order.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.events.iter().map(|event| event["event"].as_str().expect("a name")).collect()
    }

    pub(crate) fn all(&self, name: &str) -> Vec<&Value> {
        self.events.iter().filter(|event| event["event"] == name).collect()
    }

    fn file(&self, attempt: u32, local_rank: u32, name: &str) -> PathBuf {
        let logs = std::fs::read_dir(self.folder.path().join("logs")).expect("logs");
        let run = logs.flatten().next().expect("a run").path();
        run.join(format!("attempt_{attempt}/{local_rank}/{name}"))
    }

    /// When a file of an attempt's rank was last written to, in seconds since 1970.
    pub(crate) fn written(&self, attempt: u32, local_rank: u32, name: &str) -> f64 {
        let time = self.file(attempt, local_rank, name).metadata().and_then(|found| found.modified()).expect("a file");
        time.duration_since(SystemTime::UNIX_EPOCH).expect("a time after 1970").as_secs_f64()
    }

    /// A file of an attempt's rank.
    pub(crate) fn log(&self, attempt: u32, local_rank: u32, name: &str) -> String {
        let file = self.file(attempt, local_rank, name);
        std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}; {}", file.display(), self.stderr))
    }
}

/// A line that is being written has no end yet.
fn events(folder: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join("events")).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn seconds(event: &Value) -> f64 {
    event["monotonic_s"].as_f64().expect("a time")
}
