//! The launcher's side of a gang: it waits for the guardian, for signals and for deadlines, and asks `State` what to do.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, WaitStatus};

use super::cgroup::Cgroup;
use super::guardian::{self, Post};
use super::layers::Layers;
use super::messages::{self, Failure, Order, Report, Step};
use super::signals::{self, Mask};
use super::spawn::{self, Forked};
use super::state::{AGE, Command, Event, State, Trouble};
use super::tree::{self, Process};
use super::{Notice, Outcome, Pause, Rules, Summons, warm};
use crate::worker::{Output, Worker};

/// How long the launcher tries to end what a dead guardian has left.
const LAST_WAIT: Duration = Duration::from_secs(5);
const ROUND: Duration = Duration::from_millis(5);

/// The processes of an attempt. Dropping it leaves none of their descendants, unless a gang that succeeded was to keep them.
///
/// While it lives the process has no children of its own making: it reaps all that come to it.
pub struct Gang {
    socket: OwnedFd,
    guardian: Pid,
    guardian_process: OwnedFd,
    /// How the guardian ended, once it has.
    guardian_end: Option<WaitStatus>,
    cgroup: Option<Cgroup>,
    layers: Layers,
    /// The signals that were blocked before.
    mask: Mask,
    /// Children from before, of a shell that became this process by exec. They are not the gang's.
    foreign: Vec<Pid>,
    hears: Box<dyn FnMut(&Notice)>,
}

impl std::fmt::Debug for Gang {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gang").field("guardian", &self.guardian).field("cgroup", &self.cgroup).finish_non_exhaustive()
    }
}

impl Gang {
    /// Forks the guardian and blocks the signals. Comes first in `main`: it refuses if there is a second thread, which would
    /// also take the signals. From here on no signal is lost; those that stop wait for `run`.
    pub fn start() -> io::Result<Self> {
        let foreign = tree::own_children();
        // Ignored, it would leave nothing to wait for.
        signals::reset(libc::SIGCHLD);
        let before = Mask::full().set()?;
        let mask = signals::held().unwrap_or(before);
        Self::fork(mask, foreign).inspect_err(|_| {
            // The error that is on its way tells more than one of this.
            let _ = mask.set();
        })
    }

    fn fork(mask: Mask, foreign: Vec<Pid>) -> io::Result<Self> {
        let own = rustix::process::getpid();
        rustix::process::set_child_subreaper(Some(own))?;
        let layers = Layers::from_environment();
        let cgroup = layers.make_cgroup();
        let flags = SocketFlags::CLOEXEC;
        let (socket, theirs) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        let launcher = rustix::process::pidfd_open(own, PidfdFlags::empty())?;
        match spawn::fork()? {
            Forked::Child => {
                drop(socket);
                guardian::stand(Post { socket: theirs, launcher, mask, cgroup, layers })
            }
            Forked::Parent(guardian) => {
                let guardian_process = rustix::process::pidfd_open(guardian, PidfdFlags::empty())?;
                let hears = Box::new(|notice: &Notice| {
                    if matches!(notice, Notice::Outlived { .. }) {
                        // A terminal that is gone is no reason to end.
                        let _ = writeln!(io::stderr(), "zenith-run: {notice}");
                    }
                });
                Ok(Self {
                    socket,
                    guardian,
                    guardian_process,
                    guardian_end: None,
                    cgroup,
                    layers,
                    mask,
                    foreign,
                    hears,
                })
            }
        }
    }

    /// Calls `hears` with everything that happens from now on, in place of a line on stderr about processes that outlive a gang.
    pub fn tell(&mut self, hears: impl FnMut(&Notice) + 'static) {
        self.hears = Box::new(hears);
    }

    /// Starts a template beside the next ranks, which are to be like `workers`: a process of their interpreter that imports `modules`
    /// and that ranks of later attempts are forked from. They are Python's, with arguments that begin with `-u`. Whatever goes
    /// wrong with it is told, and ranks are started without it. So they are if it has not imported all within `limit`.
    pub fn warm(&mut self, workers: &[Worker], modules: &[String], limit: Duration) -> io::Result<()> {
        let Some(template) = warm::template(workers, modules) else { return Ok(()) };
        let memory = messages::write_workers(std::slice::from_ref(&template))?;
        let limit_ms = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX);
        self.order(&Order::Warm { limit_ms }, Some(memory.as_fd()))
    }

    /// Starts all of `workers` or none, and waits until all have ended, or one has failed and the others were stopped. None of
    /// their descendants is left when it returns, unless `rules` keep them.
    ///
    /// An error names the rank that cannot be started, or says that processes could not be ended or the guardian is dead;
    /// after the latter two there is no further attempt.
    pub fn run(&mut self, workers: &[Worker], rules: &Rules) -> io::Result<Outcome> {
        self.run_unless(workers, rules, None)
    }

    /// As `run`, and stops the gang when `summons` says so.
    pub fn run_unless(
        &mut self,
        workers: &[Worker],
        rules: &Rules,
        mut summons: Option<&mut dyn Summons>,
    ) -> io::Result<Outcome> {
        if workers.is_empty() {
            return Ok(Outcome::Succeeded(Vec::new()));
        }
        // Asked to stop before there is anything to stop.
        if let Some(signal) = self.pause(Duration::ZERO, rules)? {
            return Ok(Outcome::Stopped { signal, exits: Vec::new() });
        }
        let signals = self.listen(rules)?;
        let memory = messages::write_workers(workers)?;
        self.order(&Order::Start, Some(memory.as_fd()))?;
        let mut state = State::new(workers, rules);
        let mut commands = Vec::new();
        loop {
            let until = state.deadline().map(|at| at.saturating_duration_since(Instant::now()));
            self.wait(signals.as_fd(), summons.as_deref(), until)?;
            let now = Instant::now();
            // Before the reports, one of which may end the attempt: a signal that is read behind its end would be lost.
            while let Some(signal) = signals::next(signals.as_fd())? {
                state.on_event(Event::Signal(signal), now, &mut commands);
            }
            while let Some(report) = self.report()? {
                match event(report) {
                    Ok(event) => state.on_event(event, now, &mut commands),
                    Err(notice) => (self.hears)(&notice),
                }
            }
            if summons.as_deref_mut().is_some_and(|summons| summons.is_stop()) {
                state.on_event(Event::Withdrawn, now, &mut commands);
            }
            if summons.as_deref_mut().is_some_and(|summons| summons.gives_up()) {
                state.on_event(Event::GivenUp, now, &mut commands);
            }
            state.on_event(Event::Time, now, &mut commands);
            for command in commands.drain(..) {
                match command {
                    Command::Order(order) => self.order(&order, None)?,
                    Command::Tell(notice) => (self.hears)(&notice),
                    Command::Suspend => {
                        if let Some(summons) = summons.as_deref_mut() {
                            summons.suspending();
                        }
                        suspend()?;
                    }
                    Command::Finish(Ok(outcome)) => return Ok(outcome),
                    Command::Finish(Err(Trouble::NotStarted { index, failure })) => {
                        return Err(not_started(workers.get(index), failure));
                    }
                    Command::Finish(Err(Trouble::Stuck)) => return Err(self.give_up()),
                }
            }
            self.reap();
            if self.guardian_end.is_some() {
                return Err(self.guardian_died());
            }
        }
    }

    /// Waits between two attempts, or for something that another thread does. A signal of `rules.stops` ends the wait and is
    /// given back; one to be forwarded is dropped, for there is nobody to take it.
    pub fn pause(&mut self, time: Duration, rules: &Rules) -> io::Result<Option<i32>> {
        Ok(match self.pause_unless(time, rules, None)? {
            Pause::Signal(signal) => Some(signal),
            Pause::Over | Pause::Summoned => None,
        })
    }

    /// As `pause`, and ends when there is something for `summons` to look at, which is left to the caller.
    pub fn pause_unless(&mut self, time: Duration, rules: &Rules, summons: Option<&dyn Summons>) -> io::Result<Pause> {
        let signals = self.listen(rules)?;
        let end = Instant::now() + time.min(AGE);
        loop {
            while let Some(signal) = signals::next(signals.as_fd())? {
                match signal {
                    _ if rules.stops.contains(&signal) => return Ok(Pause::Signal(signal)),
                    libc::SIGTSTP if !rules.forwards.contains(&signal) => suspend()?,
                    _ => {}
                }
            }
            // Between attempts there is nothing but the template to hear of.
            while let Some(report) = self.report()? {
                if let Err(notice) = event(report) {
                    (self.hears)(&notice);
                }
            }
            self.reap();
            if self.guardian_end.is_some() {
                return Err(self.guardian_died());
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Pause::Over);
            }
            if self.wait(signals.as_fd(), summons, Some(left))? {
                return Ok(Pause::Summoned);
            }
        }
    }

    /// Takes the signals that matter here, and lets the others do what they do by default.
    fn listen(&self, rules: &Rules) -> io::Result<OwnedFd> {
        let ranks = rules.stops.iter().chain(&rules.forwards).copied();
        if let Some(signal) = ranks.clone().find(|&signal| !signals::is_usable(signal)) {
            let text = format!("signal {signal} can neither stop a gang nor be forwarded to it; leave it out");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let wanted = ranks.chain([libc::SIGTSTP, libc::SIGCONT, libc::SIGCHLD]);
        let keeps_ignored = [libc::SIGHUP, libc::SIGTSTP];
        let wanted: Vec<i32> =
            wanted.filter(|signal| !(keeps_ignored.contains(signal) && signals::is_ignored(*signal))).collect();
        let wanted = Mask::of(&wanted);
        // First, so that a signal that came before is not lost between the two.
        let descriptor = wanted.descriptor()?;
        self.mask.and(wanted).set()?;
        Ok(descriptor)
    }

    /// Says whether there is something for `summons` to look at.
    fn wait(&self, signals: BorrowedFd<'_>, summons: Option<&dyn Summons>, time: Option<Duration>) -> io::Result<bool> {
        let summons = summons.map(Summons::descriptor);
        let others = [self.socket.as_fd(), signals, self.guardian_process.as_fd()];
        let mut awaited: Vec<PollFd<'_>> =
            summons.into_iter().chain(others).map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        let time = time.and_then(|time| Timespec::try_from(time).ok());
        match rustix::event::poll(&mut awaited, time.as_ref()) {
            Ok(_) => Ok(summons.is_some() && awaited.first().is_some_and(|first| !first.revents().is_empty())),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn report(&self) -> io::Result<Option<Report>> {
        match messages::receive_report(self.socket.as_fd()) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(error),
            // Nothing yet; or the end of the guardian, of which its pidfd tells.
            Err(_) => Ok(None),
            Ok(report) => Ok(report),
        }
    }

    fn order(&self, order: &Order, workers: Option<BorrowedFd<'_>>) -> io::Result<()> {
        // A guardian that somebody has stopped would hear of nothing.
        let _ = rustix::process::pidfd_send_signal(&self.guardian_process, Signal::CONT);
        match messages::send_order(self.socket.as_fd(), order, workers) {
            // Its death is seen by its pidfd.
            Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => Ok(()),
            sent => sent,
        }
    }

    /// Reaps the guardian, if it has ended, and whatever has come to this process.
    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            if pid == self.guardian {
                self.guardian_end = Some(status);
            }
        }
    }

    /// Ends what a guardian that is dead has left; names what does not end.
    fn take_over(&mut self) -> Vec<Process> {
        let start = Instant::now();
        let is_foreign = |pid| self.foreign.contains(&pid) || pid == self.guardian && self.guardian_end.is_none();
        let mut quiet = 0;
        while quiet < 2 && start.elapsed() < LAST_WAIT {
            if let Some(cgroup) = &self.cgroup {
                cgroup.kill();
            }
            let killed = if self.layers.walks_tree { tree::kill(is_foreign) } else { tree::list(is_foreign).len() };
            // Twice: children that change their parent while it looks are missed.
            quiet = if killed == 0 { quiet + 1 } else { 0 };
            while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
            if killed > 0 {
                std::thread::sleep(ROUND);
            }
        }
        tree::list(is_foreign)
    }

    fn guardian_died(&mut self) -> io::Error {
        let left = self.take_over();
        let end = match self.guardian_end.and_then(WaitStatus::terminating_signal) {
            Some(signal) => format!("was killed by signal {signal}"),
            None => "ended by itself".to_owned(),
        };
        let guardian = self.guardian.as_raw_nonzero();
        let text = format!("the guardian of the ranks (process {guardian}) {end}; {}", said(&left));
        io::Error::other(text)
    }

    fn give_up(&mut self) -> io::Error {
        let _ = rustix::process::pidfd_send_signal(&self.guardian_process, Signal::KILL);
        let _ = self.wait_for_guardian(LAST_WAIT);
        let left = self.take_over();
        io::Error::other(format!("SIGKILL did not end the gang in time; {}", said(&left)))
    }

    fn wait_for_guardian(&mut self, time: Duration) -> io::Result<()> {
        let mut awaited = [PollFd::new(&self.guardian_process, PollFlags::IN)];
        let time = Timespec::try_from(time).ok();
        rustix::io::retry_on_intr(|| rustix::event::poll(&mut awaited, time.as_ref()))?;
        self.reap();
        Ok(())
    }
}

impl Drop for Gang {
    fn drop(&mut self) {
        // The end of the connection is the guardian's sign to leave nothing and go.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
        let _ = rustix::process::pidfd_send_signal(&self.guardian_process, Signal::CONT);
        let _ = self.wait_for_guardian(LAST_WAIT);
        if let Some(cgroup) = &self.cgroup {
            // Nothing to do unless the guardian was killed.
            cgroup.remove();
        }
    }
}

fn suspend() -> io::Result<()> {
    Ok(rustix::process::kill_process(rustix::process::getpid(), Signal::STOP)?)
}

fn said(left: &[Process]) -> String {
    if left.is_empty() {
        return "all that it had started was killed".to_owned();
    }
    let names: Vec<String> = left.iter().map(Process::to_string).collect();
    format!("these processes do not end: {}; a device or file system may hold them", names.join(", "))
}

/// What a report is for the attempt; or what is only to be told.
fn event(report: Report) -> Result<Event, Notice> {
    Ok(match report {
        Report::Started { index, pid } => Event::Started { index: index as usize, pid },
        Report::NotStarted { index, failure } => Event::NotStarted { index: index as usize, failure },
        Report::Ended { index, pid, status, at } => Event::Ended { index: index as usize, pid, status, at },
        Report::Descendants { count, first } => Event::Descendants { count: count as usize, first },
        Report::Removed(removed) => Event::Removed(removed),
        Report::Empty => Event::Empty,
        Report::Warm { pid } => return Err(Notice::Warm { pid }),
        Report::Cold { reason } => return Err(Notice::Cold { reason }),
    })
}

/// Says which rank, what was tried, and why it failed; keeps the kind.
fn not_started(worker: Option<&Worker>, failure: Failure) -> io::Error {
    let Some(worker) = worker else { return io::ErrorKind::InvalidData.into() };
    let cause = io::Error::from_raw_os_error(failure.errno);
    let file = |output: &Output| match output {
        Output::File(path) => path.display().to_string(),
        _ => "/dev/null".to_owned(),
    };
    let program = worker.program.to_string_lossy();
    let tried = match failure.step {
        Step::Fork => "cannot fork a process".to_owned(),
        Step::Session => "cannot set up its process".to_owned(),
        Step::Stdout => format!("cannot open {} for its stdout", file(&worker.stdout)),
        Step::Stderr => format!("cannot open {} for its stderr", file(&worker.stderr)),
        Step::Binding => format!(
            "cannot be bound to {}; these CPUs or this memory node may not be used any more",
            worker.binding.as_ref().map(ToString::to_string).unwrap_or_default()
        ),
        Step::Exec => format!("cannot start {program}"),
        Step::Together => format!("{program} was not started, as another rank could not be"),
    };
    let text = format!("rank {} (local rank {}): {tried}: {cause}", worker.rank, worker.local_rank);
    io::Error::new(cause.kind(), text)
}
