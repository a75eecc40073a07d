//! Serves `/metrics` and `/healthz` to this machine, in one thread that waits for all connections at once.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Observer;
use super::http::{self, Request, Status};

/// When one more comes, the oldest goes: clients that say nothing must not keep out one that asks.
const CONNECTIONS_MAX: usize = 32;
/// From the connection to the last byte of the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Where the process has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const READ_BYTES: usize = 2 << 10;
const TEXT: &str = "text/plain; charset=utf-8";

/// Gives back the port that was taken. The thread ends with the process.
pub(super) fn start(port: u16, observer: Observer) -> io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|error| {
        let what = format!("--metrics-port: cannot listen at 127.0.0.1 port {port}: {error}. 0 takes a free port");
        io::Error::new(error.kind(), what)
    })?;
    listener.set_nonblocking(true)?;
    let port = listener.local_addr()?.port();
    let server = Server { listener, observer, connections: Vec::new(), accepts_at: None };
    thread::Builder::new().name("zenith-metrics".into()).spawn(move || server.serve())?;
    Ok(port)
}

struct Server {
    listener: TcpListener,
    observer: Observer,
    /// The oldest first.
    connections: Vec<Connection>,
    /// When new connections are looked at again, if not now.
    accepts_at: Option<Instant>,
}

struct Connection {
    stream: TcpStream,
    since: Instant,
    request: Vec<u8>,
    /// What of it is not sent yet; nothing until the request is whole.
    answer: Vec<u8>,
    is_answered: bool,
}

/// What becomes of a connection after a turn.
#[derive(PartialEq)]
enum Turn {
    Waits,
    Over,
}

impl Server {
    fn serve(mut self) {
        loop {
            self.wait();
            let now = Instant::now();
            let observer = &self.observer;
            self.connections.retain_mut(|connection| {
                now.saturating_duration_since(connection.since) < PATIENCE && connection.turn(observer) == Turn::Waits
            });
            if self.accepts_at.is_none_or(|at| at <= now) {
                self.accepts_at = None;
                self.accept(now);
            }
        }
    }

    fn wait(&self) {
        let now = Instant::now();
        let accepts = if self.accepts_at.is_none() { PollFlags::IN } else { PollFlags::empty() };
        let mut awaited = vec![PollFd::new(&self.listener, accepts)];
        awaited.extend(self.connections.iter().map(|connection| {
            let flags = if connection.answer.is_empty() { PollFlags::IN } else { PollFlags::OUT };
            PollFd::new(&connection.stream, flags)
        }));
        let oldest = self.connections.first().map(|connection| connection.since + PATIENCE);
        let next = oldest.into_iter().chain(self.accepts_at).min();
        let time = next.map(|at| at.saturating_duration_since(now));
        let time = time.and_then(|time| Timespec::try_from(time).ok());
        // A wait that is refused is followed by a turn that finds nothing; memory is short then, and a pause is in order.
        if poll(&mut awaited, time.as_ref()).is_err_and(|error| error != rustix::io::Errno::INTR) {
            thread::sleep(ACCEPT_PAUSE);
        }
    }

    fn accept(&mut self, now: Instant) {
        // No more at once than there is room for, so that those that are here get their turn.
        for _ in 0..CONNECTIONS_MAX {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    if stream.set_nonblocking(true).is_err() {
                        continue;
                    }
                    if self.connections.len() == CONNECTIONS_MAX {
                        self.connections.remove(0);
                    }
                    let connection =
                        Connection { stream, since: now, request: Vec::new(), answer: Vec::new(), is_answered: false };
                    self.connections.push(connection);
                }
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.accepts_at = Some(now + ACCEPT_PAUSE);
                    return;
                }
            }
        }
    }
}

impl Connection {
    fn turn(&mut self, observer: &Observer) -> Turn {
        if self.is_answered {
            return self.drain();
        }
        if self.answer.is_empty() {
            match self.read() {
                Ok(true) => self.answer = answer(&self.request, observer),
                Ok(false) => return Turn::Waits,
                Err(_) => return Turn::Over,
            }
        }
        self.write()
    }

    /// Whether there is something to answer.
    fn read(&mut self) -> io::Result<bool> {
        let mut bytes = [0; READ_BYTES];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.request.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if http::read(&self.request) != Request::Unfinished {
                return Ok(true);
            }
        }
    }

    fn write(&mut self) -> Turn {
        while !self.answer.is_empty() {
            match self.stream.write(&self.answer) {
                Ok(written) => drop(self.answer.drain(..written)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Turn::Waits,
                Err(_) => return Turn::Over,
            }
        }
        let _ = self.stream.shutdown(Shutdown::Write);
        self.is_answered = true;
        self.drain()
    }

    /// Waits for the client's end. One that still sends would be cut off before it has read the answer.
    fn drain(&mut self) -> Turn {
        match self.stream.read(&mut [0; READ_BYTES]) {
            Ok(1..) => Turn::Waits,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Turn::Waits,
            Ok(0) | Err(_) => Turn::Over,
        }
    }
}

fn answer(request: &[u8], observer: &Observer) -> Vec<u8> {
    match http::read(request) {
        Request::Get { path: "/metrics", is_head } => {
            http::answer(Status::Ok, "text/plain; version=0.0.4; charset=utf-8", &observer.exposition(), is_head)
        }
        Request::Get { path: "/healthz", is_head } => {
            let (is_well, text) = observer.health();
            let status = if is_well { Status::Ok } else { Status::Unavailable };
            http::answer(status, "application/json", &text, is_head)
        }
        Request::Get { is_head, .. } => http::answer(Status::NotFound, TEXT, "/metrics or /healthz\n", is_head),
        Request::Refused(status) => http::answer(status, TEXT, "", false),
        // The caller has seen that it is whole.
        Request::Unfinished => http::answer(Status::BadRequest, TEXT, "", false),
    }
}
