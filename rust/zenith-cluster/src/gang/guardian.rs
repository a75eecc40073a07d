//! The guardian: a process between the launcher and the ranks, whose parent it is. It does what it is told; and when the
//! launcher is gone it leaves nothing behind.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime};

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};

use super::cgroup::Cgroup;
use super::layers::Layers;
use super::leftovers::{Leftovers, Removed};
use super::messages::{self, Failure, LISTED, Order, Report, Step, Target};
use super::signals::{self, Mask};
use super::spawn::{self, Conditions, Spawned};
use super::tree;
use super::warm::{self, News, Warm};
use crate::worker::{Status, Worker};

/// Between two rounds of killing, if no process ends meanwhile.
const ROUND: Duration = Duration::from_millis(5);
/// A guardian without a launcher leaves what cannot be killed after this.
const LAST_WAIT: Duration = Duration::from_secs(60);

/// What the launcher hands to the process that it forks.
#[derive(Debug)]
pub(super) struct Post {
    pub(super) socket: OwnedFd,
    /// The launcher's pidfd.
    pub(super) launcher: OwnedFd,
    /// As it was before the launcher blocked signals.
    pub(super) mask: Mask,
    pub(super) cgroup: Option<Cgroup>,
    pub(super) layers: Layers,
}

#[derive(Debug)]
struct Guardian {
    post: Post,
    epoll: OwnedFd,
    children: OwnedFd,
    ranks: Vec<Rank>,
    /// What ranks are forked from, if there is one.
    warm: Warm,
    /// Ranks were stopped by SIGSTOP, and one that begins is too.
    is_suspended: bool,
    /// Reports that the launcher has not taken yet. This process waits for nobody.
    unsent: VecDeque<Vec<u8>>,
    /// An attempt is under way: its end will be reported.
    is_busy: bool,
    /// Since when everything is being killed.
    killing: Option<Instant>,
    /// Of the attempt that is under way.
    leftovers: Option<Leftovers>,
    leaves: bool,
    launcher_is_gone: bool,
}

#[derive(Debug)]
struct Rank {
    index: u32,
    spawned: Spawned,
    /// How it ended, once it is reaped.
    end: Option<WaitStatus>,
    is_reported: bool,
}

/// What an epoll event is about; ranks count from `RANKS`, their pipes from `PIPES`, and what `warm` waits for follows.
const SOCKET: u64 = 0;
const LAUNCHER: u64 = 1;
const CHILDREN: u64 = 2;
const RANKS: u64 = 1 << 32;
const PIPES: u64 = 2 << 32;

/// The life of a forked guardian.
pub(super) fn stand(post: Post) -> ! {
    // A panic must not come to the caller, which is the launcher's code.
    let stood = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| Guardian::new(post).and_then(Guardian::run)));
    let code = match stood {
        Ok(Ok(())) => 0,
        Ok(Err(_)) | Err(_) => 1,
    };
    // Ranks die with this process, and their orphans come to the launcher, which sees this end.
    spawn::exit(code)
}

impl Guardian {
    fn new(post: Post) -> io::Result<Self> {
        rustix::process::setsid()?;
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        // Only a name in `ps`.
        let _ = rustix::thread::set_name(c"zenith-guardian");
        spawn::close_at_exec()?;
        if let Some(cgroup) = &post.cgroup {
            cgroup.try_birthplace();
        }
        let children = Mask::of(&[libc::SIGCHLD]).descriptor()?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let read = epoll::EventFlags::IN;
        epoll::add(&epoll, &post.socket, epoll::EventData::new_u64(SOCKET), read)?;
        epoll::add(&epoll, &post.launcher, epoll::EventData::new_u64(LAUNCHER), read)?;
        epoll::add(&epoll, &children, epoll::EventData::new_u64(CHILDREN), read)?;
        Ok(Self {
            post,
            epoll,
            children,
            ranks: Vec::new(),
            warm: Warm::default(),
            is_suspended: false,
            unsent: VecDeque::new(),
            is_busy: false,
            killing: None,
            leftovers: None,
            leaves: false,
            launcher_is_gone: false,
        })
    }

    fn run(mut self) -> io::Result<()> {
        let mut ready = Vec::with_capacity(128);
        loop {
            let timeout = self.timeout();
            ready.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut ready), timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let tokens: Vec<u64> = ready.iter().map(|event: &epoll::Event| event.data.u64()).collect();
            if let Some(leftovers) = self.leftovers.as_mut().filter(|_| tokens.iter().any(|&token| token >= CHILDREN)) {
                leftovers.on_ends();
            }
            // Ranks first: a signal that comes with their end finds them gone.
            for &token in tokens.iter().filter(|&&token| (RANKS..warm::BIRTHS).contains(&token)) {
                self.on_rank(token)?;
            }
            for &token in tokens.iter().filter(|&&token| token >= warm::BIRTHS) {
                let news = self.warm.on_birth(token, &self.epoll);
                self.on_news(news)?;
            }
            if tokens.contains(&warm::TEMPLATE) {
                let news = self.warm.on_template(&self.epoll);
                self.on_news(news)?;
            }
            if tokens.contains(&LAUNCHER) {
                self.on_launcher_gone()?;
            } else if tokens.contains(&SOCKET) {
                self.on_socket()?;
            }
            if tokens.contains(&CHILDREN) {
                while signals::next(self.children.as_fd())?.is_some() {}
            }
            let has_children = self.reap()?;
            let news = self.warm.on_time(Instant::now());
            self.on_news(news)?;
            self.settle(has_children);
            if self.launcher_is_gone && self.may_go(has_children) {
                if let Some(cgroup) = &self.post.cgroup {
                    cgroup.remove();
                }
                return Ok(());
            }
            self.send_unsent()?;
        }
    }

    fn timeout(&self) -> Option<Timespec> {
        let round = self.killing.map(|_| ROUND);
        let warm = self.warm.deadline().map(|at| at.saturating_duration_since(Instant::now()));
        round.into_iter().chain(warm).min().and_then(|time| Timespec::try_from(time).ok())
    }

    /// Kills if that is due, and reports when nothing is left.
    fn settle(&mut self, has_children: bool) {
        if self.launcher_is_gone && !self.leaves && self.killing.is_none() {
            self.start_killing();
        }
        if !has_children {
            if !self.launcher_is_gone {
                self.killing = None;
            }
            // An end that is not reported yet comes with the next events.
            if self.is_busy && !self.warm.has_births() && self.ranks.iter().all(|rank| rank.is_reported) {
                self.is_busy = false;
                self.ranks.clear();
                let removed = self.leftovers.take().map(Leftovers::remove).unwrap_or_default();
                if removed != Removed::default() {
                    self.report(&Report::Removed(removed));
                }
                self.report(&Report::Empty);
            }
        } else if self.killing.is_some() {
            self.kill();
        }
    }

    fn may_go(&self, has_children: bool) -> bool {
        !has_children || self.leaves || self.killing.is_some_and(|since| since.elapsed() > LAST_WAIT)
    }

    /// What it had still asked for is asked by nobody now. Both descriptors would be ready for ever.
    fn on_launcher_gone(&mut self) -> io::Result<()> {
        self.launcher_is_gone = true;
        self.warm.cancel();
        self.warm.kill();
        epoll::delete(&self.epoll, &self.post.socket)?;
        epoll::delete(&self.epoll, &self.post.launcher)?;
        Ok(())
    }

    fn on_socket(&mut self) -> io::Result<()> {
        loop {
            match messages::receive_order(self.post.socket.as_fd()) {
                Ok(Some((order, workers))) => self.obey(order, workers)?,
                Ok(None) => return self.on_launcher_gone(),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Ok(()),
                    io::ErrorKind::Interrupted => {}
                    // A launcher that died with reports unread resets the connection.
                    io::ErrorKind::ConnectionReset => return self.on_launcher_gone(),
                    _ => return Err(error),
                },
            }
        }
    }

    fn obey(&mut self, order: Order, workers: Option<OwnedFd>) -> io::Result<()> {
        match order {
            Order::Start => match workers {
                Some(memory) => self.start(&messages::read_workers(memory)?)?,
                None => return Err(io::ErrorKind::InvalidData.into()),
            },
            Order::Signal { signal, to } => {
                if to == Target::Groups {
                    match signal {
                        libc::SIGSTOP => self.is_suspended = true,
                        libc::SIGCONT => self.is_suspended = false,
                        // Who is asked to end has not begun.
                        _ => self.cancel_births(),
                    }
                }
                if let Some(signal) = Signal::from_named_raw(signal) {
                    let is_stop = to == Target::Groups && ![Signal::CONT, Signal::STOP].contains(&signal);
                    if let Some(leftovers) = self.leftovers.as_mut().filter(|_| is_stop) {
                        leftovers.on_stop();
                    }
                    self.signal(signal, to);
                }
            }
            // Done at the end of this turn, and of each until nothing is left.
            Order::Kill => {
                self.cancel_births();
                self.start_killing();
            }
            Order::List => {
                let template = self.warm.pid();
                let mut first = tree::list(|pid| Some(pid) == template);
                let count = first.len() as u32;
                first.truncate(LISTED);
                self.report(&Report::Descendants { count, first });
            }
            Order::Leave => {
                self.leaves = true;
                self.is_busy = false;
                self.leftovers = None;
                if let Some(cgroup) = &self.post.cgroup {
                    cgroup.release();
                }
            }
            Order::Warm { limit_ms } => {
                let template = workers.map(messages::read_workers).transpose()?.unwrap_or_default();
                for worker in template {
                    self.warm.order(worker, Duration::from_millis(limit_ms.into()));
                }
            }
        }
        Ok(())
    }

    fn start(&mut self, workers: &[Worker]) -> io::Result<()> {
        self.is_busy = true;
        self.killing = None;
        self.leftovers = Some(Leftovers::before());
        self.leaves = false;
        self.is_suspended = false;
        let (mut failed, mut told) = (false, None);
        for (index, worker) in (0..).zip(workers) {
            if failed {
                self.not_started_together(index);
                continue;
            }
            let conditions = conditions(&self.post);
            match self.warm.ask(index, worker, &self.epoll, &conditions) {
                Ok(true) => continue,
                Ok(false) => {}
                Err(reason) => told = told.or(Some(reason)),
            }
            failed = !self.start_cold(index, worker)?;
        }
        if let Some(reason) = told {
            self.report(&Report::Cold { reason });
        }
        // Not before the first ranks, which need the cores more.
        let news = self.warm.begin(&self.epoll, &conditions(&self.post));
        self.on_news(news)
    }

    /// Says whether there is a process.
    fn start_cold(&mut self, index: u32, worker: &Worker) -> io::Result<bool> {
        match spawn::spawn(worker, &conditions(&self.post)) {
            Ok(spawned) => {
                let place = self.ranks.len() as u64;
                if let Some(pipe) = &spawned.failure {
                    epoll::add(&self.epoll, pipe, epoll::EventData::new_u64(PIPES + place), epoll::EventFlags::IN)?;
                }
                self.enroll(index, spawned)?;
                Ok(true)
            }
            Err(failure) => {
                self.report(&Report::NotStarted { index, failure });
                Ok(false)
            }
        }
    }

    fn enroll(&mut self, index: u32, spawned: Spawned) -> io::Result<()> {
        let place = self.ranks.len() as u64;
        if let Some(process) = &spawned.process {
            epoll::add(&self.epoll, process, epoll::EventData::new_u64(RANKS + place), epoll::EventFlags::IN)?;
        }
        self.ranks.push(Rank { index, spawned, end: None, is_reported: false });
        Ok(())
    }

    fn on_news(&mut self, news: Option<News>) -> io::Result<()> {
        match news {
            None => {}
            Some(News::Ready(pid)) => self.report(&Report::Warm { pid: pid.as_raw_nonzero().get() }),
            Some(News::Lost { reason, unborn }) => {
                self.report(&Report::Cold { reason });
                for (index, worker) in unborn {
                    self.start_instead(index, &worker)?;
                }
            }
            Some(News::Unborn { index, worker, reason }) => {
                self.report(&Report::Cold { reason });
                self.start_instead(index, &worker)?;
            }
            Some(News::Born { index, spawned }) => {
                let place = self.ranks.len() as u64;
                if let Some(channel) = &spawned.failure {
                    let token = epoll::EventData::new_u64(PIPES + place);
                    epoll::modify(&self.epoll, channel, token, epoll::EventFlags::IN)?;
                }
                self.enroll(index, spawned)?;
                self.suspend_last();
            }
        }
        Ok(())
    }

    /// In the place of a fork.
    fn start_instead(&mut self, index: u32, worker: &Worker) -> io::Result<()> {
        if self.start_cold(index, worker)? {
            self.suspend_last();
        }
        Ok(())
    }

    fn suspend_last(&self) {
        let last = self.ranks.last().and_then(|rank| rank.spawned.process.as_ref());
        if let Some(process) = last.filter(|_| self.is_suspended) {
            let _ = rustix::process::pidfd_send_signal(process, Signal::STOP);
        }
    }

    /// Ranks that were asked for and have not begun do not begin.
    fn cancel_births(&mut self) {
        for index in self.warm.cancel() {
            self.not_started_together(index);
        }
    }

    fn not_started_together(&mut self, index: u32) {
        self.report(&Report::NotStarted { index, failure: Failure { step: Step::Together, errno: libc::ECANCELED } });
    }

    fn on_rank(&mut self, token: u64) -> io::Result<()> {
        let place = (token & (RANKS - 1)) as usize;
        self.on_begun(place)?;
        if token >= PIPES {
            return Ok(());
        }
        self.on_end(place)
    }

    /// The pipe of a rank has ended, or brings the reason why there is no rank.
    fn on_begun(&mut self, place: usize) -> io::Result<()> {
        let Some(rank) = self.ranks.get_mut(place) else { return Ok(()) };
        let Some(pipe) = rank.spawned.failure.take() else { return Ok(()) };
        epoll::delete(&self.epoll, &pipe)?;
        let report = match spawn::read_failure(pipe.as_fd()) {
            Some(failure) => Report::NotStarted { index: rank.index, failure },
            None => Report::Started { index: rank.index, pid: rank.spawned.pid.as_raw_nonzero().get() },
        };
        self.report(&report);
        Ok(())
    }

    /// The only place that reports an end: epoll lists its events in the order in which they happened, `wait` does not.
    fn on_end(&mut self, place: usize) -> io::Result<()> {
        let Some(rank) = self.ranks.get_mut(place).filter(|rank| !rank.is_reported) else { return Ok(()) };
        if rank.end.is_none() {
            let pid = Some(rank.spawned.pid);
            let waited = rustix::io::retry_on_intr(|| rustix::process::waitpid(pid, WaitOptions::NOHANG))?;
            rank.end = waited.map(|(_, status)| status);
        }
        let Some(end) = rank.end else { return Ok(()) };
        rank.is_reported = true;
        if let Some(process) = rank.spawned.process.take() {
            epoll::delete(&self.epoll, &process)?;
        }
        let status = match end.terminating_signal() {
            Some(signal) => Status::Signal(signal),
            None => Status::Code(end.exit_status().unwrap_or(-1)),
        };
        let (index, pid) = (rank.index, rank.spawned.pid.as_raw_nonzero().get());
        if let Some(leftovers) = self.leftovers.as_mut().filter(|_| !status.is_success()) {
            leftovers.on_failure();
        }
        self.report(&Report::Ended { index, pid, status, at: SystemTime::now() });
        Ok(())
    }

    /// Reaps all that has ended; says whether there are children, and so descendants, left besides the template.
    fn reap(&mut self) -> io::Result<bool> {
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    let news = self.warm.on_reaped(pid, status);
                    self.on_news(news)?;
                    let mut unreaped = self.ranks.iter_mut().filter(|rank| rank.end.is_none());
                    if let Some(rank) = unreaped.find(|rank| rank.spawned.pid == pid) {
                        rank.end = Some(status);
                    }
                }
                Ok(None) => return Ok(self.launcher_is_gone || self.has_others()),
                Err(Errno::CHILD) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether there is a child that is not the template. Nobody but this process takes one off the kernel's list, and orphans are put
    /// on it before their parent, which is on it, can be reaped: so who has a descendant finds a child.
    fn has_others(&self) -> bool {
        let template = self.warm.pid();
        template.is_none() || tree::own_children().into_iter().any(|pid| Some(pid) != template)
    }

    /// Invariant: a number is used only for a child that this process has not reaped, which nobody else can have.
    fn signal(&self, signal: Signal, to: Target) {
        let running = || self.ranks.iter().filter(|rank| rank.end.is_none());
        for rank in running() {
            let Some(process) = &rank.spawned.process else { continue };
            let alone = || rustix::process::pidfd_send_signal(process, signal);
            // Before it has a group of its own it is reached alone. That it has just ended is no error.
            let _ = match to {
                Target::Ranks => alone(),
                Target::Groups => rustix::process::kill_process_group(rank.spawned.pid, signal).or_else(|_| alone()),
            };
        }
        if to == Target::Groups {
            let template = self.warm.pid();
            let is_spared = |pid: Pid| Some(pid) == template || running().any(|rank| rank.spawned.pid == pid);
            tree::visit(is_spared, |_, process, _| {
                let _ = rustix::process::pidfd_send_signal(process, signal);
            });
        }
    }

    fn start_killing(&mut self) {
        if let Some(leftovers) = &mut self.leftovers {
            leftovers.on_stop();
        }
        self.killing = Some(Instant::now());
    }

    fn kill(&self) {
        // First what needs no descriptor: there may be none left, and each end gives one back.
        self.signal(Signal::KILL, Target::Ranks);
        if let Some(cgroup) = &self.post.cgroup {
            cgroup.kill();
        }
        if self.post.layers.walks_tree {
            let template = self.warm.pid().filter(|_| !self.launcher_is_gone);
            tree::kill(|pid| Some(pid) == template);
        }
    }

    fn report(&mut self, report: &Report) {
        self.unsent.push_back(report.encode());
    }

    fn send_unsent(&mut self) -> io::Result<()> {
        while let Some(packet) = self.unsent.front() {
            match messages::try_send(&self.post.socket, packet) {
                Ok(true) => {
                    self.unsent.pop_front();
                }
                Ok(false) => break,
                // Nobody is there to read; the launcher's end is seen by itself.
                Err(_) => self.unsent.clear(),
            }
        }
        if !self.launcher_is_gone {
            let wanted = if self.unsent.is_empty() {
                epoll::EventFlags::IN
            } else {
                epoll::EventFlags::IN | epoll::EventFlags::OUT
            };
            epoll::modify(&self.epoll, &self.post.socket, epoll::EventData::new_u64(SOCKET), wanted)?;
        }
        Ok(())
    }
}

/// What all processes of a gang are started with.
fn conditions(post: &Post) -> Conditions<'_> {
    Conditions {
        mask: post.mask,
        cgroup: post.cgroup.as_ref(),
        dies_with_parent: post.layers.dies_with_parent,
        keeps: None,
    }
}
