//! Where a store's connections come from: its own port, or somebody who shares a port with it.

use std::collections::VecDeque;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use rustix::net::SocketFlags;

/// Beyond what any system lets wait for being accepted.
const WAITING_MAX: usize = 4096;

#[derive(Debug)]
pub(super) enum Source {
    Port(TcpListener),
    Handed(Doorkeeper),
}

impl Source {
    pub(super) fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Port(listener) => listener.try_clone().map(Self::Port),
            Self::Handed(doorkeeper) => Ok(Self::Handed(doorkeeper.clone())),
        }
    }

    /// `AGAIN` if nobody waits; then the descriptor cannot be read.
    pub(super) fn accept(&self) -> Result<TcpStream, Errno> {
        match self {
            Self::Port(listener) => {
                rustix::net::accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK).map(Into::into)
            }
            Self::Handed(doorkeeper) => doorkeeper.next().ok_or(Errno::AGAIN),
        }
    }
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Port(listener) => listener.as_fd(),
            Self::Handed(doorkeeper) => doorkeeper.0.bell.as_fd(),
        }
    }
}

/// Hands connections to a store whose port it listens at itself.
#[derive(Debug, Clone)]
pub struct Doorkeeper(Arc<Waiting>);

#[derive(Debug)]
struct Waiting {
    bell: OwnedFd,
    connections: Mutex<VecDeque<TcpStream>>,
}

impl Doorkeeper {
    /// # Errors
    /// If the system has no descriptor.
    pub fn new() -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self(Arc::new(Waiting { bell, connections: Mutex::default() })))
    }

    /// Lets a client in, of which nothing has been read. Without a store it waits for one; too many are turned away.
    pub fn hand(&self, connection: TcpStream) {
        if connection.set_nonblocking(true).is_err() {
            return;
        }
        let mut connections = self.connections();
        if connections.len() < WAITING_MAX {
            connections.push_back(connection);
            let _ = rustix::io::write(&self.0.bell, &1u64.to_ne_bytes());
        }
    }

    fn next(&self) -> Option<TcpStream> {
        let mut connections = self.connections();
        if connections.is_empty() {
            // The lock is held, so nobody is added between this look and the bell's silence.
            let _ = rustix::io::read(&self.0.bell, &mut [0; 8]);
        }
        connections.pop_front()
    }

    fn connections(&self) -> MutexGuard<'_, VecDeque<TcpStream>> {
        self.0.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::super::StoreServer;
    use super::*;

    /// VALIDATE and PING, as torch's clients begin.
    const GREETING: [u8; 10] = [0, 0xce, 0xf7, 0x85, 0x3c, 13, 7, 0, 0, 0];

    #[test]
    fn handed_connections_are_served_until_the_store_is_renewed() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let doorkeeper = Doorkeeper::new().expect("a bell");
        let mut store = StoreServer::behind(&doorkeeper).expect("a store");
        for _ in 0..2 {
            let mut client = TcpStream::connect(listener.local_addr().expect("an address")).expect("a client");
            doorkeeper.hand(listener.accept().expect("a connection").0);
            client.write_all(&GREETING).expect("sent");
            let mut answer = [0; 4];
            client.read_exact(&mut answer).expect("an answer");
            assert_eq!(answer, [7, 0, 0, 0]);
            store.renew().expect("a new namespace");
            assert_eq!(client.read(&mut answer).unwrap_or(0), 0, "it is cut off");
        }
    }
}
