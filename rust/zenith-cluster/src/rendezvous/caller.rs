//! Connecting to another agent, as the one who asks.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::de::DeserializeOwned;

use super::handshake::{Challenge, Request, Run};
use super::link::Link;
use super::standing::{Answer, Ask};
use super::tls;
use super::view::Door;
use super::wire::{FRAME_BYTES_MAX, Frames, MAGIC, Seal};

const CONNECT: Duration = Duration::from_secs(3);
/// For the other side of the greeting.
const ANSWER: Duration = Duration::from_secs(3);
/// For a question that others are asked as well: a round is as long as its slowest answer.
const QUESTION: Duration = Duration::from_secs(1);

#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) run: Run,
    /// This node's own door, and how it reaches that itself.
    pub(super) own: Option<(Door, SocketAddr)>,
    /// A side that takes nothing for so long does not live.
    pub(super) dead_after: Duration,
}

/// A connection on which both sides have proven themselves.
#[derive(Debug)]
pub(super) struct Greeted {
    pub(super) link: Link,
    pub(super) seal: Seal,
    pub(super) frames: Frames,
}

impl Caller {
    pub(super) fn is_own(&self, door: &Door) -> bool {
        self.own.as_ref().is_some_and(|(own, _)| own == door)
    }

    pub(super) fn reach(&self, door: &Door) -> io::Result<TcpStream> {
        self.reach_within(door, CONNECT)
    }

    fn reach_within(&self, door: &Door, patience: Duration) -> io::Result<TcpStream> {
        let addresses: Vec<SocketAddr> = match &self.own {
            Some((own, address)) if own == door => vec![*address],
            _ => (door.address.as_str(), door.port).to_socket_addrs()?.collect(),
        };
        let mut last = io::Error::new(ErrorKind::NotFound, "the name has no address");
        for address in addresses {
            match TcpStream::connect_timeout(&address, patience) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    stream.set_write_timeout(Some(self.dead_after))?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Proves to each other that this is the same run (handshake.rs), and says what this node comes for.
    pub(super) fn greet(&self, stream: TcpStream, door: &Door, request: &Request) -> Result<Greeted, String> {
        self.greet_within(stream, door, request, ANSWER)
    }

    fn greet_within(
        &self,
        stream: TcpStream,
        door: &Door,
        request: &Request,
        patience: Duration,
    ) -> Result<Greeted, String> {
        let broken = |error: io::Error| match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => format!(
                "it has not answered within {} s as zenith-run does. If it is torchrun's: both do not meet, start all \
                 nodes by zenith-run",
                patience.as_secs()
            ),
            ErrorKind::InvalidData => tls::explained(&error),
            ErrorKind::UnexpectedEof if self.run.tls.is_some() => {
                "it ended the greeting. Is it zenith-run that listens there, and has it tls_cert, tls_key and tls_ca?"
                    .into()
            }
            ErrorKind::UnexpectedEof => "it ended the greeting. Is it zenith-run that listens there?".into(),
            _ => format!("it ended the greeting ({error}). Is it zenith-run that listens there?"),
        };
        let mut link = Link::plain(stream);
        if let Some(tls) = &self.run.tls {
            link.secure(tls.node(&door.address)?);
        }
        let hello = self.run.hello();
        let mut greeting = [&MAGIC[..], &Seal::default().frame(&hello)].concat();
        let (mut frames, deadline) = (Frames::default(), Instant::now() + patience);
        link.flush(&mut greeting).map_err(broken)?;
        let challenge: Challenge =
            receive(&mut link, &mut frames, &mut Seal::default(), deadline).map_err(|error| error.told(broken))?;
        let mut seal = self.run.accept(&hello, challenge)?;
        link.flush(&mut seal.frame(request)).map_err(broken)?;
        Ok(Greeted { link, seal, frames })
    }

    pub(super) fn ask(&self, door: &Door, ask: &Ask) -> Option<Answer> {
        let stream = self.reach_within(door, QUESTION).ok()?;
        let greeted = self.greet_within(stream, door, &Request::Ask(ask.clone()), QUESTION);
        let Greeted { mut link, mut seal, mut frames } = greeted.ok()?;
        receive(&mut link, &mut frames, &mut seal, Instant::now() + QUESTION).ok()
    }

    /// The answers of those that answer, all asked at once.
    pub(super) fn ask_all(&self, doors: &[Door], ask: &Ask) -> Vec<Answer> {
        thread::scope(|scope| {
            let one = |door| {
                let thread = thread::Builder::new().name("zenith-ask".into());
                thread.spawn_scoped(scope, move || self.ask(door, ask)).ok()
            };
            let threads: Vec<_> = doors.iter().filter_map(one).collect();
            threads.into_iter().filter_map(|thread| thread.join().ok()?).collect()
        })
    }
}

enum Unheard {
    Broken(io::Error),
    Strange(String),
}

impl Unheard {
    fn told(self, broken: impl FnOnce(io::Error) -> String) -> String {
        match self {
            Self::Broken(error) => broken(error),
            Self::Strange(what) => format!("it answers by something that is not zenith-run's: {what}"),
        }
    }
}

fn receive<Message: DeserializeOwned>(
    link: &mut Link,
    frames: &mut Frames,
    seal: &mut Seal,
    deadline: Instant,
) -> Result<Message, Unheard> {
    let strange = |error: super::wire::WireError| Unheard::Strange(error.to_string());
    loop {
        if let Some(body) = frames.next(FRAME_BYTES_MAX).map_err(strange)? {
            return seal.open(&body).map_err(strange);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Unheard::Broken(ErrorKind::TimedOut.into()));
        }
        readable(link.stream(), left).map_err(Unheard::Broken)?;
        match link.receive(frames) {
            Ok(true) => {}
            Ok(false) => return Err(Unheard::Broken(ErrorKind::UnexpectedEof.into())),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(Unheard::Broken(error)),
        }
    }
}

/// Waits until something can be read, or for so long.
pub(super) fn readable(stream: &TcpStream, patience: Duration) -> io::Result<()> {
    let mut awaited = [PollFd::new(stream, PollFlags::IN)];
    match poll(&mut awaited, Timespec::try_from(patience).ok().as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
