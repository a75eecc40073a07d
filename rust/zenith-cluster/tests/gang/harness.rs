//! A launcher under test, and what can be seen of it from outside.

use std::fs::Permissions;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use tempfile::TempDir;

const MARK: &str = "ZENITH_GANG_TEST";
/// Longer than anything that is waited for takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(20);
static MARKS: AtomicU32 = AtomicU32::new(0);

/// A shell that never ends and takes SIGTERM, SIGINT and SIGHUP for nothing.
pub(crate) const STUBBORN: &str = "trap '' TERM INT HUP; while :; do sleep 1; done";

pub(crate) struct Launched {
    child: Child,
    mark: String,
    lines: Receiver<String>,
    seen: Vec<String>,
    _program: Option<TempDir>,
}

pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) lines: Vec<String>,
}

/// Runs `gang OPTIONS COUNT sh -c SCRIPT`.
pub(crate) fn launch(options: &[&str], count: u32, script: &str) -> Launched {
    launch_with(&[], None, options, count, script)
}

pub(crate) fn launch_with(
    environment: &[(&str, &str)],
    user: Option<u32>,
    options: &[&str],
    count: u32,
    script: &str,
) -> Launched {
    let count = count.to_string();
    let arguments = [options, &[&count, "sh", "-c", script]].concat();
    start(environment, user, &arguments)
}

pub(crate) fn start(environment: &[(&str, &str)], user: Option<u32>, arguments: &[&str]) -> Launched {
    let mark = format!("{}-{}", std::process::id(), MARKS.fetch_add(1, Ordering::Relaxed));
    // Another user need not be let through to where programs are built.
    let reachable = user.map(|_| reachable(&example()));
    let program = reachable.as_ref().map_or_else(example, |folder| folder.path().join("gang"));
    let mut command = Command::new(&program);
    command.args(arguments).env("PROGRAM", &program).env(MARK, &mark).envs(environment.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    let mut child = command.spawn().unwrap();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    let (sender, lines) = mpsc::channel();
    // Not joined: a survivor would hold the pipe, and the test shall say so rather than hang.
    std::thread::Builder::new()
        .name("stderr".to_owned())
        .spawn(move || stderr.lines().map_while(Result::ok).for_each(|line| drop(sender.send(line))))
        .unwrap();
    Launched { child, mark, lines, seen: Vec::new(), _program: reachable }
}

/// A folder with a copy of `program` that everybody may run.
fn reachable(program: &Path) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let copy = folder.path().join(program.file_name().unwrap());
    std::fs::copy(program, &copy).unwrap();
    std::fs::set_permissions(copy, Permissions::from_mode(0o755)).unwrap();
    folder
}

pub(crate) fn example() -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.join("examples/gang")
}

/// The `python3` of `PATH` itself, not a wrapper of it.
pub(crate) fn python() -> String {
    let told = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().unwrap();
    String::from_utf8(told.stdout).unwrap().trim().to_owned()
}

impl Launched {
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        rustix::process::kill_process(self.pid(), signal).unwrap();
    }

    /// Waits for a line of the launcher or a rank that contains `text`.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(_) => panic!("no line with {text:?} among {:?}", self.seen),
            }
        }
    }

    pub(crate) fn wait_for_ranks(&mut self, count: usize) -> Vec<Pid> {
        let pid = |line: String| Pid::from_raw(line.rsplit_once(' ').unwrap().1.parse().unwrap()).unwrap();
        (0..count).map(|_| pid(self.wait_for("runs as process"))).collect()
    }

    /// The guardian, once there is one.
    pub(crate) fn guardian(&self) -> Option<Pid> {
        children(self.pid()).into_iter().find(|&pid| name(pid) == "zenith-guardian")
    }

    /// Waits for the launcher alone.
    pub(crate) fn wait(&mut self) -> Ended {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                // What ranks still write comes until the pipe ends, if it does.
                while let Ok(line) = self.lines.recv_timeout(Duration::from_millis(200)) {
                    self.seen.push(line);
                }
                return Ended { status, lines: std::mem::take(&mut self.seen) };
            }
            assert!(Instant::now() < end, "the launcher does not end; {:?}", self.survivors());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// All processes of this test that have not ended: launcher, guardian, ranks and what they have started.
    pub(crate) fn survivors(&self) -> Vec<(Pid, String)> {
        let mark = format!("{MARK}={}", self.mark);
        let pids = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
            let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
            let mut environment = Vec::new();
            std::fs::File::open(entry.path().join("environ")).ok()?.read_to_end(&mut environment).ok()?;
            environment.split(|&byte| byte == 0).any(|entry| entry == mark.as_bytes()).then(|| (pid, name(pid)))
        });
        pids.collect()
    }

    /// How long it takes until nothing is left; fails after two seconds.
    pub(crate) fn wait_until_none_survives(&mut self) -> Duration {
        let start = Instant::now();
        loop {
            // The launcher is this process's child: a dead one that is not reaped has no environment.
            let survivors = self.survivors();
            if survivors.is_empty() {
                let _ = self.child.try_wait();
                return start.elapsed();
            }
            if start.elapsed() > Duration::from_secs(2) {
                for (pid, _) in &survivors {
                    let _ = rustix::process::kill_process(*pid, Signal::KILL);
                }
                panic!("survivors: {survivors:?}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !std::thread::panicking() {
            self.wait_until_none_survives();
        }
    }
}

pub(crate) fn children(pid: Pid) -> Vec<Pid> {
    let threads = std::fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())).into_iter().flatten().flatten();
    let lists = threads.map(|thread| std::fs::read_to_string(thread.path().join("children")).unwrap_or_default());
    lists
        .flat_map(|list| {
            list.split_ascii_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect::<Vec<_>>()
        })
        .collect()
}

pub(crate) fn name(pid: Pid) -> String {
    std::fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero())).unwrap_or_default().trim().to_owned()
}

/// The letter of a process's state.
pub(crate) fn state(pid: Pid) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Waits until a condition holds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until a process that was killed has let go of everything.
pub(crate) fn wait_for_end(pid: Pid) {
    let end = Instant::now() + PATIENCE;
    while state(pid).is_some_and(|letter| letter != 'Z') {
        assert!(Instant::now() < end, "process {pid:?} does not end");
        std::thread::sleep(Duration::from_millis(1));
    }
}
