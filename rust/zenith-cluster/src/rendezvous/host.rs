//! The thread that answers other nodes: connections in; while this node is the host, decisions of `State` out.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::handshake::{Join, Run};
use super::messages::Order;
use super::office::Office;
use super::peer::{End, Peer, Said};
use super::standing::Ask;
use super::state::{Command, Event, Node, State};
use crate::store::Doorkeeper;

/// Connections that have not proven anything yet; the oldest makes room.
const UNKNOWN_MAX: usize = 256;
const STRANGERS_NAMED_MAX: u32 = 8;
const ACCEPTS_PER_TURN: usize = 64;
/// Where nothing is due; events end the wait.
const LONG: Duration = Duration::from_secs(3600);
/// While somebody's patience may end.
const SHORT: Duration = Duration::from_millis(250);
/// When the system has no descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct Host {
    pub(super) listener: TcpListener,
    pub(super) office: Arc<Office>,
    pub(super) run: Run,
    /// Which of the launchers is this one.
    pub(super) own: String,
    /// The address by which nodes reach the host.
    pub(super) address: String,
    /// A static master's address is what was given, whatever a node says.
    pub(super) is_static: bool,
    /// Who gets clients of the store that come to the same port.
    pub(super) doorkeeper: Option<Doorkeeper>,
    /// What it decides, if this node is the host.
    pub(super) state: Option<State>,
    pub(super) close_timeout: Duration,
    pub(super) peers: BTreeMap<Node, Peer>,
    pub(super) next: u64,
    pub(super) strangers: u32,
}

/// What can be done without waiting.
struct Ready {
    listener: bool,
    bell: bool,
    readable: Vec<Node>,
    writable: Vec<Node>,
}

impl Host {
    /// Ends when the job has, and every node knows it or does not listen.
    pub(super) fn serve(mut self) {
        let mut close_at = None;
        loop {
            let ready = match self.wait() {
                Ok(ready) => ready,
                // Only a descriptor that somebody else closed can cause it.
                Err(error) => {
                    eprintln!("zenith-run: the host of the rendezvous cannot wait: {error}");
                    return;
                }
            };
            let now = Instant::now();
            if ready.listener {
                self.accept(now);
            }
            for node in ready.writable {
                self.attend(node, now, Peer::flush);
            }
            for node in ready.readable {
                self.read(node, now);
            }
            if ready.bell {
                self.office.silence();
                if let Some(state) = self.office.appointed() {
                    self.state = Some(state);
                }
            }
            if self.office.is_leaving() {
                if self.state.is_none() {
                    return;
                }
                self.decide(Event::HostLeaves, now);
            }
            // After all that has come, so that nobody is taken for dead whose heartbeat waits to be read.
            self.decide(Event::Time, Instant::now());
            self.drop_late(now);
            if self.is_over() {
                let close_at = *close_at.get_or_insert(now + self.close_timeout);
                if now >= close_at || !self.peers.values().any(Peer::is_member) {
                    return;
                }
            }
        }
    }

    fn is_over(&self) -> bool {
        self.state.as_ref().is_some_and(State::is_over)
    }

    fn wait(&self) -> io::Result<Ready> {
        let is_short = self.is_over() || self.peers.values().any(|peer| !peer.is_known());
        let deadline = self.state.as_ref().map(State::deadline);
        let until = deadline.map_or(LONG, |deadline| deadline.saturating_duration_since(Instant::now()));
        let until = if is_short { until.min(SHORT) } else { until };
        let mut awaited = Vec::with_capacity(self.peers.len() + 2);
        awaited.push(PollFd::from_borrowed_fd(self.listener.as_fd(), PollFlags::IN));
        // Once the end is decided, its reason is of no interest.
        let bell = if self.is_over() { PollFlags::empty() } else { PollFlags::IN };
        awaited.push(PollFd::from_borrowed_fd(self.office.bell.as_fd(), bell));
        awaited.extend(self.peers.values().map(|peer| PollFd::new(peer.stream(), peer.interest())));
        match rustix::event::poll(&mut awaited, Timespec::try_from(until).ok().as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let is_ready = |at: usize| awaited.get(at).is_some_and(|fd| fd.revents().contains(PollFlags::IN));
        let which = |flags: PollFlags| {
            let ready = self.peers.keys().zip(awaited.iter().skip(2));
            ready.filter(|(_, fd)| fd.revents().intersects(flags)).map(|(node, _)| *node).collect()
        };
        Ok(Ready {
            listener: is_ready(0),
            bell: is_ready(1),
            readable: which(PollFlags::IN | PollFlags::ERR | PollFlags::HUP),
            writable: which(PollFlags::OUT),
        })
    }

    fn accept(&mut self, now: Instant) {
        for _ in 0..ACCEPTS_PER_TURN {
            match self.listener.accept() {
                Ok((stream, address)) => {
                    let unknown: Vec<Node> =
                        self.peers.iter().filter(|(_, peer)| !peer.is_known()).map(|(&node, _)| node).collect();
                    if let (true, Some(oldest)) = (unknown.len() >= UNKNOWN_MAX, unknown.first()) {
                        self.peers.remove(oldest);
                    }
                    if let Ok(peer) = Peer::new(stream, address, now) {
                        self.peers.insert(Node(self.next), peer);
                        self.next += 1;
                    }
                }
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => return thread::sleep(ACCEPT_PAUSE),
            }
        }
    }

    fn read(&mut self, node: Node, now: Instant) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        let mut said = Vec::new();
        let end = peer.on_readable(&self.run, &mut said).and_then(|()| peer.flush());
        for said in said {
            match said {
                Said::Join(join) => self.join(node, join, now),
                Said::Ask(ask) => self.answer(node, &ask, now),
                Said::Nonsense(what) => {
                    if let Some(address) = self.peers.get(&node).map(|peer| peer.address) {
                        self.name_stranger(address, &what);
                    }
                }
                Said::Report(report) => self.decide(Event::Told { node, report }, now),
            }
        }
        if let Err(end) = end {
            self.end(node, end, now);
        }
    }

    fn join(&mut self, node: Node, join: Join, now: Instant) {
        let Some(peer) = self.peers.get(&node) else { return };
        if self.state.is_none() {
            let hint = self.office.standing().hint().cloned();
            self.send(node, &Order::Elsewhere(hint), now);
            return self.attend(node, now, |peer| peer.leave(now));
        }
        let is_own = join.launcher == self.own;
        let address = match (&join.facts.address, is_own) {
            (_, true) if self.is_static => self.address.clone(),
            (Some(address), _) => address.clone(),
            (None, true) => self.address.clone(),
            (None, false) => peer.address.ip().to_canonical().to_string(),
        };
        self.decide(Event::Joined { node, join, address }, now);
    }

    /// Whoever asks gets one answer, and is no member.
    fn answer(&mut self, node: Node, ask: &Ask, now: Instant) {
        if let Ask::Claim { term, door } = ask {
            self.office.standing().hear_of(door.clone());
            self.decide(Event::Claimed { term: *term, by: format!("{} port {}", door.address, door.port) }, now);
        }
        let answer = self.office.standing().answer(ask);
        self.attend(node, now, |peer| peer.send(&answer));
        self.attend(node, now, |peer| peer.leave(now));
    }

    fn attend(&mut self, node: Node, now: Instant, what: impl FnOnce(&mut Peer) -> Result<(), End>) {
        if let Some(Err(end)) = self.peers.get_mut(&node).map(what) {
            self.end(node, end, now);
        }
    }

    fn end(&mut self, node: Node, end: End, now: Instant) {
        let Some(peer) = self.peers.remove(&node) else { return };
        let was_member = peer.is_member();
        match (end, &self.doorkeeper) {
            (End::Store, Some(doorkeeper)) => doorkeeper.hand(peer.into_stream()),
            (End::Store, None) => self.name_stranger(
                peer.address,
                "it speaks as a client of torch's store, so as torchrun does; start all nodes of a run by zenith-run",
            ),
            (End::Stranger(what), _) => self.name_stranger(peer.address, &what),
            (End::Gone, _) => {}
        }
        if was_member {
            self.decide(Event::Cut(node), now);
        }
    }

    fn name_stranger(&mut self, address: SocketAddr, what: &str) {
        self.strangers += 1;
        if self.strangers <= STRANGERS_NAMED_MAX {
            eprintln!("zenith-run: the rendezvous closed a connection from {address}: {what}");
        }
    }

    fn drop_late(&mut self, now: Instant) {
        self.peers.retain(|_, peer| !peer.is_late(now));
    }

    fn decide(&mut self, event: Event, now: Instant) {
        let Some(state) = &mut self.state else { return };
        let mut commands = Vec::new();
        state.on_event(event, now, &mut commands);
        for command in commands {
            match command {
                Command::Send(node, order) => self.send(node, &order, now),
                Command::Close(node) => self.attend(node, now, |peer| peer.leave(now)),
                Command::Say(what) => eprintln!("zenith-run: {what}"),
                Command::StepDown { why, seen } => {
                    eprintln!("zenith-run: {why}");
                    let mut standing = self.office.standing();
                    standing.see(seen);
                    standing.step_down();
                    drop(standing);
                    self.state = None;
                }
            }
        }
    }

    fn send(&mut self, node: Node, order: &Order, now: Instant) {
        self.attend(node, now, |peer| peer.send(order));
    }
}
