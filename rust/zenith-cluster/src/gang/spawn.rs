//! From a plan to a process: fork, and what the child does until it is the program.
//!
//! SPAWN-1: only a process of one thread forks, so no lock is held by a thread that the child has not, and the child may
//! allocate. It ends by exec or `exit`, never by returning to its caller's caller or unwinding.
//! SPAWN-2: the arrays given to exec end with a null pointer and point to strings that live until it returns.
//! SPAWN-3: a forked child puts a file in the place of its own stdout or stderr; nobody in it owns these numbers.
//! SPAWN-4: setting close-on-exec changes nothing for who uses a descriptor in this process.

#![expect(unsafe_code, reason = "fork and exec have no safe wrapper that leaves the steps between them to the caller")]

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, FdFlags};
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};

use super::cgroup::Cgroup;
use super::messages::{Failure, Step};
use super::signals::{self, Mask};
use crate::placement;
use crate::worker::{Output, Worker};

/// Of linux/sched.h; the constant of `libc` is too narrow for it.
const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// What all ranks are started with.
#[derive(Debug)]
pub(super) struct Conditions<'a> {
    /// As it was before the launcher blocked signals.
    pub(super) mask: Mask,
    pub(super) cgroup: Option<&'a Cgroup>,
    /// Whether ranks die with the process that starts them.
    pub(super) dies_with_parent: bool,
    /// A descriptor that the program gets besides the standard streams, under the number that it has here.
    pub(super) keeps: Option<BorrowedFd<'a>>,
}

/// A process that is on its way to be a rank.
#[derive(Debug)]
pub(super) struct Spawned {
    pub(super) pid: Pid,
    /// Its pidfd, until its end is known.
    pub(super) process: Option<OwnedFd>,
    /// Ends without a word when the program has begun; else it brings a `Failure`. `None` once that is known.
    pub(super) failure: Option<OwnedFd>,
}

/// Which process of a fork this is.
#[derive(Debug)]
pub(crate) enum Forked {
    Parent(Pid),
    Child,
}

/// Forks a process that has one thread; checked, for in the child of several a lock may be held for ever.
pub(crate) fn fork() -> io::Result<Forked> {
    has_one_thread()?;
    // SAFETY: SPAWN-1.
    forked(unsafe { libc::fork() }.into())
}

/// As `fork`, with the child in another control group of version 2 from its first moment. To write a process into a group
/// afterwards makes the kernel wait for all processors, up to tens of milliseconds.
fn fork_into(group: BorrowedFd<'_>) -> io::Result<Forked> {
    has_one_thread()?;
    // SAFETY: all fields are numbers, for which zero says "not asked for".
    let mut wanted: libc::clone_args = unsafe { std::mem::zeroed() };
    wanted.flags = CLONE_INTO_CGROUP;
    wanted.exit_signal = libc::SIGCHLD as u64;
    wanted.cgroup = group.as_raw_fd() as u64;
    // SAFETY: SPAWN-1; without a stack of its own and without shared memory the child goes on as that of a fork does. What libc
    // does around its own fork is for threads and for their number, which nobody asks for before exec.
    forked(unsafe { libc::syscall(libc::SYS_clone3, &raw const wanted, size_of::<libc::clone_args>()) })
}

/// Whether a process that is forked into a group lives.
pub(super) fn is_born_alive(group: BorrowedFd<'_>) -> bool {
    match fork_into(group) {
        Ok(Forked::Child) => exit(0),
        Ok(Forked::Parent(pid)) => {
            let ended = rustix::io::retry_on_intr(|| rustix::process::waitpid(Some(pid), WaitOptions::empty()));
            ended.is_ok_and(|ended| ended.is_some_and(|(_, status)| status.exit_status() == Some(0)))
        }
        Err(_) => false,
    }
}

fn forked(pid: libc::c_long) -> io::Result<Forked> {
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Forked::Child),
        _ => {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            pid.map(Forked::Parent).ok_or_else(|| io::Error::other("fork gave no pid"))
        }
    }
}

fn has_one_thread() -> io::Result<()> {
    let threads = std::fs::read_dir("/proc/self/task")?.count();
    if threads == 1 {
        return Ok(());
    }
    let text = format!("this process has {threads} threads; a gang is made before the first one is started");
    Err(io::Error::other(text))
}

/// Ends the process at once: no destructors, no handlers, which belong to the process it was forked from.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}

pub(super) fn spawn(worker: &Worker, conditions: &Conditions<'_>) -> Result<Spawned, Failure> {
    let failed = |errno: Errno| Failure { step: Step::Fork, errno: errno.raw_os_error() };
    let program = Program::of(worker).map_err(|errno| Failure { step: Step::Exec, errno: errno.raw_os_error() })?;
    let (failure, told) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).map_err(failed)?;
    let guardian = rustix::process::getpid();
    let fork_failed =
        |error: io::Error| Failure { step: Step::Fork, errno: error.raw_os_error().unwrap_or(libc::EAGAIN) };
    // A kernel or a sandbox that does not know the call refuses it; the child then goes to the group by itself.
    let into = conditions.cgroup.and_then(Cgroup::birthplace).and_then(|group| fork_into(group).ok());
    let is_inside = into.is_some();
    match into.map_or_else(fork, Ok).map_err(fork_failed)? {
        Forked::Child => {
            let become_it = std::panic::AssertUnwindSafe(|| program.become_it(worker, conditions, guardian, is_inside));
            let panicked = Failure { step: Step::Session, errno: libc::EFAULT };
            let Failure { step, errno } = std::panic::catch_unwind(become_it).unwrap_or(panicked);
            let mut message = [step.number(), 0, 0, 0, 0];
            message[1..].copy_from_slice(&errno.to_le_bytes());
            let _ = rustix::io::write(&told, &message);
            exit(127)
        }
        Forked::Parent(pid) => {
            // Nobody but this process can reap its child, so the number is still the child's.
            let process = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
                Ok(process) => process,
                Err(errno) => {
                    let _ = rustix::process::kill_process(pid, Signal::KILL);
                    return Err(failed(errno));
                }
            };
            Ok(Spawned { pid, process: Some(process), failure: Some(failure) })
        }
    }
}

/// What a child said before it ended, if it said anything.
pub(super) fn read_failure(from: BorrowedFd<'_>) -> Option<Failure> {
    let mut message = [0; 5];
    match rustix::io::read(from, &mut message) {
        Ok(5) => {
            let [number, errno @ ..] = message;
            Some(Failure { step: Step::from_number(number)?, errno: i32::from_le_bytes(errno) })
        }
        _ => None,
    }
}

/// All that exec needs, made before the fork.
struct Program {
    /// Where the program may be, in the order in which they are tried.
    paths: Vec<CString>,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

impl Program {
    fn of(worker: &Worker) -> Result<Self, Errno> {
        let c_string = |text: &OsStr| CString::new(text.as_bytes()).map_err(|_| Errno::INVAL);
        let named = std::iter::once(&worker.program).chain(&worker.arguments);
        let arguments = named.map(|text| c_string(text)).collect::<Result<_, _>>()?;
        let mut environment = Vec::with_capacity(worker.environment.len());
        for (name, value) in &worker.environment {
            let mut entry = name.clone();
            entry.push("=");
            entry.push(value);
            environment.push(c_string(&entry)?);
        }
        let paths = places(worker).into_iter().map(|path| c_string(&path)).collect::<Result<_, _>>()?;
        Ok(Self { paths, arguments, environment })
    }

    /// In the child. Comes back only if something failed.
    fn become_it(&self, worker: &Worker, conditions: &Conditions<'_>, guardian: Pid, is_inside: bool) -> Failure {
        match prepare(worker, conditions, guardian, is_inside) {
            Err(failure) => failure,
            Ok(()) => Failure { step: Step::Exec, errno: self.exec().raw_os_error() },
        }
    }

    fn exec(&self) -> Errno {
        let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
            strings.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
        };
        let (arguments, environment) = (pointers(&self.arguments), pointers(&self.environment));
        let mut refused = None;
        for path in &self.paths {
            // SAFETY: SPAWN-2.
            unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
            match Errno::from_io_error(&io::Error::last_os_error()) {
                Some(Errno::NOENT | Errno::NOTDIR) | None => {}
                Some(Errno::ACCESS) => refused = Some(Errno::ACCESS),
                Some(other) => return other,
            }
        }
        refused.unwrap_or(Errno::NOENT)
    }
}

/// Where a program may be: a name with a slash is a path; another is looked for in the worker's own `PATH`.
fn places(worker: &Worker) -> Vec<OsString> {
    if worker.program.as_bytes().contains(&b'/') {
        return vec![worker.program.clone()];
    }
    if worker.program.is_empty() {
        return Vec::new();
    }
    let path = worker.environment.iter().rev().find(|(name, _)| name == "PATH");
    let folders = path.map_or(OsStr::new("/bin:/usr/bin"), |(_, value)| value);
    let place = |folder: &[u8]| {
        let folder = if folder.is_empty() { b".".as_slice() } else { folder };
        OsString::from_vec([folder, worker.program.as_bytes()].join(&b'/'))
    };
    folders.as_bytes().split(|&byte| byte == b':').map(place).collect()
}

/// Makes a forked process what a rank is to be, but for its program.
fn prepare(worker: &Worker, conditions: &Conditions<'_>, guardian: Pid, is_inside: bool) -> Result<(), Failure> {
    let at = |step| move |errno: Errno| Failure { step, errno: errno.raw_os_error() };
    rustix::process::setsid().map_err(at(Step::Session))?;
    if conditions.dies_with_parent {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(at(Step::Session))?;
    }
    // The parent that died before that sends nothing any more.
    if rustix::process::getppid() != Some(guardian) {
        return Err(at(Step::Session)(Errno::SRCH));
    }
    if let Some(cgroup) = conditions.cgroup.filter(|_| !is_inside) {
        // Outside it the rank is still found by its parents.
        let _ = rustix::io::write(cgroup.members(), b"0");
    }
    if let Some(binding) = &worker.binding {
        placement::apply(binding).map_err(at(Step::Binding))?;
    }
    if let Some(kept) = conditions.keeps {
        rustix::io::fcntl_setfd(kept, FdFlags::empty()).map_err(at(Step::Session))?;
    }
    redirect(&worker.stdout, 1).map_err(at(Step::Stdout))?;
    redirect(&worker.stderr, 2).map_err(at(Step::Stderr))?;
    // A launcher in the background of a script ignores these and so would its ranks, which could not be stopped by them.
    // A hangup that is ignored stays so: that is what nohup is for. The runtime of Rust ignores SIGPIPE.
    for signal in
        [libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGUSR1, libc::SIGUSR2, libc::SIGPIPE, libc::SIGXFSZ]
    {
        signals::reset(signal);
    }
    // Last: what was sent to the group meanwhile arrives now.
    let errno = |error: io::Error| Errno::from_io_error(&error).unwrap_or(Errno::INVAL);
    conditions.mask.set().map_err(errno).map_err(at(Step::Session))?;
    Ok(())
}

/// The file that a stream is to be, unless it is inherited.
pub(super) fn opened(output: &Output) -> Result<Option<OwnedFd>, Errno> {
    Ok(match output {
        Output::Inherited => None,
        Output::Discarded => Some(rustix::fs::open("/dev/null", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?),
        Output::File(path) => {
            // Appending, so that two streams may share a file and one that is cut from outside starts at its beginning.
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::APPEND | OFlags::CLOEXEC;
            Some(rustix::fs::open(path, flags, Mode::from_raw_mode(0o666))?)
        }
    })
}

fn redirect(output: &Output, stream: i32) -> Result<(), Errno> {
    let Some(file) = opened(output)? else { return Ok(()) };
    // SAFETY: SPAWN-3.
    let done = unsafe { libc::dup2(file.as_fd().as_raw_fd(), stream) };
    if done < 0 { Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::BADF)) } else { Ok(()) }
}

/// Marks every descriptor but the standard streams to be closed by exec, those that the launcher was given too.
pub(super) fn close_at_exec() -> io::Result<()> {
    // SAFETY: SPAWN-4.
    let done = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if done == 0 {
        return Ok(());
    }
    // Before Linux 5.11.
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let Some(fd) = entry?.file_name().to_str().and_then(|name| name.parse().ok()).filter(|&fd: &i32| fd > 2) else {
            continue;
        };
        // SAFETY: SPAWN-4.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(program: &str, path: Option<&str>) -> Worker {
        Worker {
            local_rank: 0,
            rank: 0,
            program: program.into(),
            arguments: Vec::new(),
            environment: path.map(|path| ("PATH".into(), path.into())).into_iter().collect(),
            stdout: Output::Inherited,
            stderr: Output::Inherited,
            binding: None,
        }
    }

    #[test]
    fn a_name_is_looked_for_in_the_workers_path() {
        assert_eq!(places(&worker("a", Some("/x::/y"))), ["/x/a", "./a", "/y/a"]);
        assert_eq!(places(&worker("a", None)), ["/bin/a", "/usr/bin/a"]);
        assert_eq!(places(&worker("./a", Some("/x"))), ["./a"]);
        assert!(places(&worker("", Some("/x"))).is_empty());
    }

    #[test]
    fn a_zero_byte_in_an_argument_is_refused() {
        let mut worker = worker("a", None);
        worker.arguments.push("b\0c".into());
        assert_eq!(Program::of(&worker).err(), Some(Errno::INVAL));
    }

    #[test]
    fn a_process_with_threads_is_not_forked() {
        let text = fork().err().map(|error| error.to_string()).unwrap_or_default();
        assert!(text.contains("threads"), "{text}");
    }
}
