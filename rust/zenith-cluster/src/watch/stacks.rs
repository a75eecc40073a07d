//! Where ranks stand: their threads' kernel stacks from /proc, and the Python stacks that py-spy or the ranks themselves write.
//!
//! STACKS-1: a signal goes only to a process of the rank that says it registered a handler, and of which the kernel says that it
//! has one. Everything here has an end: what does not answer is left out, with a line that says so.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal};

use super::look;
use super::py_spy::Asked;
use crate::observe::Running;

const THREADS_MAX: usize = 512;
/// Of one file of /proc.
const PROC_BYTES_MAX: usize = 16 << 10;
/// For all ranks together.
const PY_SPY_PATIENCE: Duration = Duration::from_secs(20);
/// Started at once; each needs a core for a moment.
const PY_SPY_TOGETHER: usize = 8;
const OWN_PATIENCE: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// What ranks write themselves is whole when it has not grown for so long.
const STILL: Duration = Duration::from_millis(100);

/// A rank whose stacks are wanted, and where they go.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) running: Running,
    pub(super) heartbeat: Option<PathBuf>,
    pub(super) file: PathBuf,
}

/// Writes the files; those that could be written come back. Ends early when `finish` can be read.
pub(super) fn save(subjects: &[Subject], why: &str, py_spy: Option<&Path>, finish: BorrowedFd<'_>) -> Vec<PathBuf> {
    // The kernel's first: the others may set ranks in motion.
    let mut open: Vec<(&Subject, File)> = Vec::new();
    for subject in subjects {
        let file = File::options().append(true).create(true).open(&subject.file);
        let head = format!("{why}\n\n== rank {}, process {}\n", subject.running.rank, subject.running.pid);
        if let Ok(mut file) = file
            && file.write_all(format!("{head}{}", kernel(subject.running.pid)).as_bytes()).is_ok()
        {
            open.push((subject, file));
        }
    }
    let shown = py_spy.map_or_else(|| vec![false; open.len()], |program| ask_py_spy(program, &open, finish));
    let without =
        || open.iter().zip(&shown).filter(|(_, is_shown)| !**is_shown).map(|((subject, file), _)| (*subject, file));
    ask_ranks(&without().collect::<Vec<_>>(), py_spy.is_some(), finish);
    open.into_iter().map(|(subject, _)| subject.file.clone()).collect()
}

/// Every thread's name, state, the function it sleeps in, its system call and, where that may be read, its kernel stack.
fn kernel(pid: i32) -> String {
    // Not its command line: that is in its memory, which may be locked by what it hangs in.
    let mut text = String::from("\n-- kernel\n");
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    for thread in threads.take(THREADS_MAX) {
        let of = |name: &str| read(&thread.path().join(name).to_string_lossy());
        let status = of("status");
        let state = look::status(&status, "State").unwrap_or("?");
        let (id, name) = (thread.file_name(), of("comm"));
        text += &format!(
            "thread {} ({}) {state}, waits in {}, system call {}\n",
            id.to_string_lossy(),
            name.trim(),
            of("wchan").trim(),
            of("syscall").trim()
        );
        for line in of("stack").lines() {
            text += &format!("    {line}\n");
        }
    }
    text
}

/// What cannot be read is told in its place.
fn read(path: &str) -> String {
    match std::fs::read(path) {
        Ok(mut bytes) => {
            bytes.truncate(PROC_BYTES_MAX);
            String::from_utf8_lossy(&bytes).into_owned()
        }
        Err(error) => format!("({error})"),
    }
}

/// For which of them it wrote stacks.
fn ask_py_spy(program: &Path, open: &[(&Subject, File)], finish: BorrowedFd<'_>) -> Vec<bool> {
    let end = Instant::now() + PY_SPY_PATIENCE;
    let mut shown = Vec::with_capacity(open.len());
    for group in open.chunks(PY_SPY_TOGETHER) {
        let asked: Vec<io::Result<Asked>> = group.iter().map(|(subject, file)| asked(program, subject, file)).collect();
        for (asked, (subject, mut file)) in asked.into_iter().zip(group.iter().map(|(subject, file)| (subject, file))) {
            let is_over = match asked {
                Ok(asked) => asked.wait(end, finish),
                Err(error) => {
                    let _ = writeln!(file, "{} cannot be started: {error}", program.display());
                    true
                }
            };
            if !is_over {
                let _ = writeln!(file, "py-spy did not end in time");
            }
            let text = std::fs::read(&subject.file).unwrap_or_default();
            shown.push(String::from_utf8_lossy(&text).lines().any(|line| line.starts_with("Thread ")));
        }
    }
    shown
}

fn asked(program: &Path, subject: &Subject, mut file: &File) -> io::Result<Asked> {
    // What has registered itself is Python; the rank's first process may be a shell.
    let registered = subject.heartbeat.as_deref().and_then(look::registered).map(|known| known.pid);
    let pid = registered.filter(|pid| look::is_within(*pid, subject.running.pid)).unwrap_or(subject.running.pid);
    writeln!(file, "\n-- Python, by py-spy")?;
    Asked::new(program, pid, file)
}

/// The signal that makes a rank write its Python stacks, to those that can take it.
fn ask_ranks(subjects: &[(&Subject, &File)], had_py_spy: bool, finish: BorrowedFd<'_>) {
    let mut asked = Vec::new();
    for (subject, file) in subjects {
        let mut file: &File = file;
        match ask(subject) {
            Ok(stacks) => asked.push((file, stacks)),
            Err(why) => {
                let other = if had_py_spy { "py-spy showed nothing" } else { "there is no py-spy" };
                let _ = writeln!(file, "\n-- Python\nno stacks: {other}, and {why}");
            }
        }
    }
    let end = Instant::now() + OWN_PATIENCE;
    let length = |path: &Path| std::fs::metadata(path).map_or(0, |found| found.len());
    let (mut lengths, mut still) = (Vec::new(), Instant::now());
    while !asked.is_empty() && Instant::now() < end && still.elapsed() < STILL {
        let now: Vec<u64> = asked.iter().map(|(_, stacks)| length(stacks)).collect();
        if now != lengths || now.contains(&0) {
            (lengths, still) = (now, Instant::now());
        }
        let pause = Timespec::try_from(LOOK_EVERY).ok();
        if poll(&mut [PollFd::from_borrowed_fd(finish, PollFlags::IN)], pause.as_ref()).is_ok_and(|ready| ready > 0) {
            break;
        }
    }
    for (mut file, stacks) in asked {
        let text = match std::fs::read(&stacks) {
            Ok(text) if !text.is_empty() => text,
            _ => b"no stacks: the rank did not write them\n".to_vec(),
        };
        let _ = file.write_all(&[b"\n-- Python, by the rank itself\n", &text[..]].concat());
    }
}

/// Where the rank writes its stacks now.
fn ask(subject: &Subject) -> Result<PathBuf, String> {
    let heartbeat = subject.heartbeat.as_deref().ok_or("the rank has no heartbeat file")?;
    let known = look::registered(heartbeat).ok_or("the rank never called zenith.heartbeat()")?;
    let signal = Signal::from_named_raw(known.signal).filter(|signal| *signal != Signal::KILL);
    let signal = signal.ok_or_else(|| format!("it named no usable signal, but {}", known.signal))?;
    let gone = |error: rustix::io::Errno| format!("process {} cannot be reached: {error}", known.pid);
    let pid = Pid::from_raw(known.pid).ok_or("it named no process")?;
    let process = rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(gone)?;
    let status = read(&format!("/proc/{}/status", known.pid));
    // STACKS-1: what is held by the pidfd was seen behind it.
    if !look::is_within(known.pid, subject.running.pid) || !look::catches(&status, known.signal) {
        return Err(format!("process {} has no handler for signal {} any more", known.pid, known.signal));
    }
    let mut stacks = heartbeat.as_os_str().to_owned();
    stacks.push(".stacks");
    rustix::process::pidfd_send_signal(process.as_fd(), signal).map_err(gone)?;
    if look::is_stopped(&status) {
        // Stopped, it would not take it. It is about to be ended.
        let _ = rustix::process::pidfd_send_signal(process.as_fd(), Signal::CONT);
    }
    Ok(stacks.into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use rustix::event::{EventfdFlags, eventfd};

    use super::*;
    use crate::watch::py_spy;

    /// A folder with a file of stacks for `pid`, and a heartbeat with this in it.
    fn saved(pid: i32, heartbeat: &str, py_spy: Option<&Path>) -> String {
        let folder = tempfile::tempdir().expect("a folder");
        let beats = folder.path().join("heartbeat");
        std::fs::write(&beats, heartbeat).expect("a file");
        let running = Running { local_rank: 0, rank: 4, pid };
        let subject = Subject { running, heartbeat: Some(beats), file: folder.path().join("stacks.txt") };
        let finish = eventfd(0, EventfdFlags::CLOEXEC).expect("an eventfd");
        let written = save(&[subject], "why", py_spy, finish.as_fd());
        assert_eq!(written.len(), 1);
        std::fs::read_to_string(&written[0]).expect("stacks")
    }

    /// A child that sleeps, once it does.
    fn sleeper() -> (std::process::Child, i32) {
        let child = Command::new("sleep").arg("100").spawn().expect("a child");
        let pid = child.id() as i32;
        let has_begun = || {
            let text = read(&format!("/proc/{pid}/status"));
            look::status(&text, "Name") == Some("sleep") && text.contains("S (sleeping)")
        };
        while !has_begun() {
            std::thread::sleep(Duration::from_millis(1));
        }
        (child, pid)
    }

    #[test]
    fn kernel_stacks_are_there_without_anybodys_help() {
        let (mut child, pid) = sleeper();
        let text = saved(pid, "", None);
        assert!(text.starts_with(&format!("why\n\n== rank 4, process {pid}\n")), "{text}");
        assert!(text.contains("thread ") && text.contains("(sleep) S (sleeping)"), "{text}");
        assert!(text.contains("no stacks: there is no py-spy, and the rank never called"), "{text}");
        child.kill().expect("a kill");
        child.wait().expect("an end");
    }

    #[test]
    fn nobody_is_sent_a_signal_that_would_end_it() {
        let (mut child, pid) = sleeper();
        // It says so, and has none; and another that is not of the rank.
        for heartbeat in [format!("1 {pid} {}", libc::SIGUSR1), format!("1 {} {}", std::process::id(), libc::SIGUSR1)] {
            let text = saved(pid, &heartbeat, None);
            assert!(text.contains("has no handler for signal 10 any more"), "{text}");
        }
        for signal in [libc::SIGKILL, 99] {
            assert!(saved(pid, &format!("1 {pid} {signal}"), None).contains("no usable signal"));
        }
        assert_eq!(child.try_wait().expect("a state"), None, "it lives");
        child.kill().expect("a kill");
        assert_eq!(child.wait().expect("an end").signal(), Some(libc::SIGKILL));
    }

    #[test]
    fn py_spy_is_asked_and_found_beside_the_interpreter() {
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("py-spy");
        assert_eq!(py_spy::find(Some(folder.path().join("python3").as_os_str()), None), None);
        // Written by another process: a child that is forked meanwhile would hold a file of ours open, and none is run that is written to.
        let write = format!("printf '#!/bin/sh\\necho \"Thread 1 (idle): $*\"\\n' > {}", program.display());
        assert!(Command::new("sh").args(["-c", &write]).status().expect("a shell").success());
        assert_eq!(py_spy::find(None, Some(folder.path().as_os_str())), None, "it cannot be run");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("a mode");
        assert_eq!(py_spy::find(None, Some(folder.path().as_os_str())), Some(program.clone()));
        assert_eq!(py_spy::find(Some(folder.path().join("python3").as_os_str()), None), Some(program.clone()));
        let own = std::process::id() as i32;
        let text = saved(own, "", Some(&program));
        assert!(text.contains(&format!("-- Python, by py-spy\nThread 1 (idle): dump --pid {own}\n")), "{text}");
        assert!(!text.contains("no stacks"), "{text}");
    }
}
