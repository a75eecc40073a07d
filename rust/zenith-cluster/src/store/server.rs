//! The thread of a store: waits for all connections at once, and lets each serve what it brought.
//!
//! Level-triggered, so that one read per turn is enough when it takes all there is. SERVER-1: the place of a connection
//! that closes is given to another only after the turn, so that no event reaches a stranger.

use std::collections::VecDeque;
use std::io;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fs::Timespec;
use rustix::io::Errno;

use super::connection::{Client, End, Store};
use super::keys::{Connection, Keys};
use super::refusals::Refusals;
use super::source::Source;

const EVENTS_PER_TURN: usize = 256;
const ACCEPTS_PER_TURN: usize = 64;
/// How long new connections wait when the process has no descriptor left; sooner if a connection closes.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Beyond what any system lets wait for being accepted.
const BACKLOG_MAX: usize = 1 << 16;

// What epoll calls the descriptors that are not clients.
const STOP: u64 = u64::MAX;
const LISTENER: u64 = u64::MAX - 1;

#[derive(Debug)]
pub(super) struct Server {
    epoll: OwnedFd,
    source: Source,
    refusals: Refusals,
    /// By `Connection`.
    clients: Vec<Option<Client>>,
    free: Vec<Connection>,
    /// Closed in this turn (SERVER-1).
    closed: Vec<Connection>,
    store: Store,
    /// When new connections are looked at again, if not now.
    accepts_again: Option<Instant>,
}

impl Server {
    /// `stop` ends `run` as soon as it can be read; it stays open until then.
    pub(super) fn new(source: Source, stop: &OwnedFd, refusals: Refusals) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, stop, EventData::new_u64(STOP), EventFlags::IN)?;
        epoll::add(&epoll, &source, EventData::new_u64(LISTENER), EventFlags::IN)?;
        Ok(Self {
            epoll,
            source,
            refusals,
            clients: Vec::new(),
            free: Vec::new(),
            closed: Vec::new(),
            store: Store { keys: Keys::default(), released: VecDeque::new(), scratch: Vec::new() },
            accepts_again: None,
        })
    }

    pub(super) fn run(mut self) {
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS_PER_TURN);
        loop {
            events.clear();
            let pause = self.accepts_again.and_then(|_| Timespec::try_from(ACCEPT_PAUSE).ok());
            match epoll::wait(&self.epoll, spare_capacity(&mut events), pause.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                // Only a descriptor that somebody else closed can cause it; then nothing can be served any more.
                Err(_) => return,
            }
            if self.accepts_again.is_some_and(|time| time <= Instant::now()) {
                self.accept_again();
            }
            for event in &events {
                match event.data.u64() {
                    STOP => return,
                    LISTENER => self.accept(),
                    id => self.on_event(Connection(id as u32), event.flags),
                }
            }
            while let Some(id) = self.store.released.pop_front() {
                self.attend(id, Client::release);
            }
            self.free.append(&mut self.closed);
        }
    }

    fn on_event(&mut self, id: Connection, flags: EventFlags) {
        if flags.contains(EventFlags::OUT) {
            self.attend(id, Client::on_writable);
        }
        // Also an error or a hang-up is found by reading, after what arrived before it.
        if flags.intersects(EventFlags::IN | EventFlags::ERR | EventFlags::HUP) {
            self.attend(id, Client::on_readable);
        }
    }

    /// Lets a client do something, and watches or closes it as that went.
    fn attend(&mut self, id: Connection, what: fn(&mut Client, Connection, &mut Store) -> Result<(), End>) {
        let Some(client) = self.clients.get_mut(id.0 as usize).and_then(Option::as_mut) else { return };
        let end = what(client, id, &mut self.store).err().or_else(|| {
            let interest = client.interest()?;
            epoll::modify(&self.epoll, client.socket(), EventData::new_u64(id.0.into()), interest)
                .err()
                .map(|_| End::Gone)
        });
        match end {
            None => {}
            Some(End::Gone) => self.close(id),
            Some(End::Refused(violation)) => {
                client.send_last();
                self.refusals.add(client.socket().peer_addr().ok(), violation);
                self.close(id);
            }
        }
    }

    fn close(&mut self, id: Connection) {
        if let Some(client) = self.clients.get_mut(id.0 as usize).and_then(Option::take) {
            drop(client); // With its descriptor goes what epoll knows of it.
            self.closed.push(id);
            self.store.keys.forget(id, &mut self.store.released);
            if self.accepts_again.is_some() {
                self.accept_again();
            }
        }
    }

    fn accept(&mut self) {
        for _ in 0..ACCEPTS_PER_TURN {
            match self.source.accept() {
                Ok(socket) => self.add(socket),
                // The peer gave up meanwhile.
                Err(Errno::CONNABORTED | Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                // No descriptors, no memory. Those who wait in the backlog are served later.
                Err(_) => return self.accept_later(),
            }
        }
    }

    fn add(&mut self, socket: TcpStream) {
        // Answers are small and waited for; without the option they only come later.
        let _ = socket.set_nodelay(true);
        let id = self.free.pop().unwrap_or_else(|| {
            self.clients.push(None);
            Connection((self.clients.len() - 1) as u32)
        });
        match epoll::add(&self.epoll, &socket, EventData::new_u64(id.0.into()), EventFlags::IN) {
            Ok(()) => self.clients[id.0 as usize] = Some(Client::new(socket)),
            Err(_) => self.free.push(id),
        }
    }

    fn accept_later(&mut self) {
        if self.watch_listener(EventFlags::empty()) {
            self.accepts_again = Some(Instant::now() + ACCEPT_PAUSE);
        }
    }

    fn accept_again(&mut self) {
        if self.watch_listener(EventFlags::IN) {
            self.accepts_again = None;
        }
    }

    fn watch_listener(&self, flags: EventFlags) -> bool {
        epoll::modify(&self.epoll, &self.source, EventData::new_u64(LISTENER), flags).is_ok()
    }
}

/// Closes the connections that wait to be accepted.
pub(super) fn refuse_waiting(source: &Source) {
    for _ in 0..BACKLOG_MAX {
        match source.accept() {
            Ok(_) | Err(Errno::CONNABORTED | Errno::INTR) => {}
            Err(_) => return,
        }
    }
}
