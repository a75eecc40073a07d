//! py-spy, which shows the Python stacks of another process.
//!
//! PYSPY-1: between fork and exec nothing is done but two system calls, which neither allocate nor take a lock.

#![expect(unsafe_code, reason = "what is asked to die with the launcher is asked between fork and exec")]

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal};

use super::look;

/// `py-spy` beside the interpreter, else in `PATH`.
pub(super) fn find(interpreter: Option<&OsStr>, path: Option<&OsStr>) -> Option<PathBuf> {
    let beside = interpreter.and_then(|program| Path::new(program).parent()).filter(|folder| folder.is_absolute());
    let named = path
        .unwrap_or_default()
        .as_bytes()
        .split(|byte| *byte == b':')
        .map(|folder| Path::new(OsStr::from_bytes(folder)));
    let folders = beside.into_iter().chain(named.filter(|folder| folder.is_absolute()));
    let is_program = |path: &PathBuf| {
        std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    folders.map(|folder| folder.join("py-spy")).find(is_program)
}

/// A py-spy that is at work. The launcher reaps whatever ends, so that only a pidfd tells of its end.
pub(super) struct Asked(Option<OwnedFd>);

impl Asked {
    pub(super) fn new(program: &Path, pid: i32, file: &File) -> io::Result<Self> {
        // By a shell, which can always be started: a spawn that fails waits for its child, and the launcher may have reaped it.
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "exec \"$0\" \"$@\""]).arg(program).args(["dump", "--pid", &pid.to_string()]);
        if std::fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| look::is_stopped(&status)) {
            // py-spy stops what it looks at, and fails where somebody else has.
            command.arg("--nonblocking");
        }
        let launcher = rustix::process::getpid();
        let dies_with_launcher = move || {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            // A launcher that died before that sends nothing any more.
            if rustix::process::getppid() == Some(launcher) { Ok(()) } else { Err(rustix::io::Errno::SRCH.into()) }
        };
        // SAFETY: PYSPY-1.
        unsafe { command.pre_exec(dies_with_launcher) };
        let child = command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file.try_clone()?).spawn()?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let process = pid.and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok());
        // Reaped meanwhile, its number may be another's.
        let is_ours = look::is_within(child.id() as i32, std::process::id() as i32);
        Ok(Self(process.filter(|_| is_ours)))
    }

    /// Whether it has ended; it does not go on behind that.
    pub(super) fn wait(&self, end: Instant, finish: BorrowedFd<'_>) -> bool {
        let Some(process) = &self.0 else { return true };
        let left = Timespec::try_from(end.saturating_duration_since(Instant::now())).ok();
        let mut awaited = [PollFd::new(process, PollFlags::IN), PollFd::from_borrowed_fd(finish, PollFlags::IN)];
        let _ = rustix::io::retry_on_intr(|| poll(&mut awaited, left.as_ref()));
        let has_ended = !awaited[0].revents().is_empty();
        if !has_ended {
            let _ = rustix::process::pidfd_send_signal(process, Signal::KILL);
        }
        has_ended
    }
}
