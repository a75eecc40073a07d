//! A node's side: a thread that keeps the connection to the host, and what the launcher has to know of it.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use uuid::Uuid;

use super::handshake::{Answer, Join, Run};
use super::host::Host;
use super::listen;
use super::messages::{Facts, Order, Report, Start, Verdict};
use super::progress::{self, Line};
use super::secret::Secret;
use super::state::{self, State};
use super::wire::{FRAME_BYTES_MAX, Frames, MAGIC, Seal};
use crate::gang::Summons;
use crate::plan::{Nodes, Settings};
use crate::store::Doorkeeper;

const CONNECT: Duration = Duration::from_secs(3);
/// For the host's side of the greeting.
const ANSWER: Duration = Duration::from_secs(3);
const RETRY_FIRST: Duration = Duration::from_millis(10);
const RETRY_LONGEST: Duration = Duration::from_secs(1);
const READ_BYTES: usize = 64 << 10;

/// What the launcher is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Open a store that others reach at this address, and report its port.
    Open {
        generation: u64,
        address: String,
    },
    Start(Start),
    /// Stop the ranks and report when nothing of them is left.
    Stop {
        generation: u64,
        why: String,
    },
    /// There is no host any more: stop everything and call `is_clean`. Then the host is looked for once more.
    Cut(String),
    End(Verdict),
}

/// This node's part in the rendezvous.
#[derive(Debug)]
pub struct Agent {
    shared: Arc<Shared>,
    /// If the host is this node.
    host: Option<Hosted>,
}

#[derive(Debug)]
struct Hosted {
    leaving: OwnedFd,
    thread: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    /// Can be read while there are decisions that nobody has looked at.
    bell: OwnedFd,
    decisions: Mutex<VecDeque<Decision>>,
    connection: Mutex<Option<Connection>>,
    is_clean: Mutex<bool>,
    cleaned: Condvar,
}

/// For sending; the thread reads on its own.
#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    seal: Seal,
}

impl Agent {
    /// Looks for the host, or becomes it. `doorkeeper` is for a store at the host's own port.
    pub fn start(settings: &Settings, nodes: &Nodes, doorkeeper: Option<Doorkeeper>) -> io::Result<Self> {
        let secret = nodes.secret_file.as_deref().map(Secret::read).transpose()?;
        let run = Run { id: settings.run_id.clone(), secret };
        let launcher = Uuid::new_v4().to_string();
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let shared = Arc::new(Shared {
            bell,
            decisions: Mutex::default(),
            connection: Mutex::default(),
            is_clean: Mutex::default(),
            cleaned: Condvar::new(),
        });
        let listener = listen::listen(nodes)?;
        let own = listener.as_ref().map(listen::own_address).transpose()?;
        let host = listener.map(|listener| {
            let local = listener.local_addr()?;
            if !local.ip().is_loopback() && run.secret.is_none() {
                eprintln!(
                    "zenith-run: whoever reaches {local} can take part in this run; --rdzv-conf=secret_file=PATH lets in only who knows a secret"
                );
            }
            listener.set_nonblocking(true)?;
            let leaving = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
            let is_static = nodes.terms.is_static;
            let address = match local.ip() {
                ip if is_static || ip.is_unspecified() => nodes.host.clone(),
                ip => ip.to_string(),
            };
            let host = Host {
                listener,
                leaving: leaving.try_clone()?,
                run: run.clone(),
                own: launcher.clone(),
                address,
                is_static,
                doorkeeper,
                state: State::new(nodes.terms.clone(), Instant::now()),
                close_timeout: nodes.terms.close_timeout,
                peers: std::collections::BTreeMap::new(),
                next: 0,
                strangers: 0,
            };
            let thread = thread::Builder::new().name("zenith-host".into()).spawn(move || host.serve())?;
            io::Result::Ok(Hosted { leaving, thread })
        });
        let join = Join {
            launcher,
            facts: Facts {
                name: crate::report::host_name(),
                address: nodes.local_address.clone(),
                topology: nodes.topology.clone(),
                node_rank: nodes.node_rank,
                local_ranks: settings.ranks,
                nodes: (nodes.terms.least, nodes.terms.most),
            },
        };
        let member = Member {
            shared: Arc::clone(&shared),
            run,
            join,
            own,
            host: (nodes.host.clone(), nodes.port),
            join_timeout: nodes.terms.join_timeout,
            close_timeout: nodes.terms.close_timeout,
            dead_after: nodes.terms.dead_after,
            line: Line::new(),
        };
        let host = host.transpose()?;
        thread::Builder::new().name("zenith-agent".into()).spawn(move || member.take_part())?;
        Ok(Self { shared, host })
    }

    /// The next decision, if there is one.
    pub fn next(&self) -> Option<Decision> {
        let mut decisions = self.shared.decisions();
        let next = decisions.pop_front();
        if decisions.is_empty() {
            self.shared.silence();
        }
        next
    }

    /// A report that does not get through is no loss: without a connection the host takes this node for lost.
    pub fn report(&self, report: &Report) {
        let _ = self.shared.send(report);
    }

    /// After `Decision::Cut`: nothing of this node's ranks is left.
    pub fn is_clean(&self) {
        *lock(&self.shared.is_clean) = true;
        self.shared.cleaned.notify_all();
    }

    /// Says why this node goes, if it has not been told to; the host stays until the others know.
    pub fn leave(self, why: Option<String>) {
        if let Some(what) = why {
            self.report(&Report::Left { what });
        }
        if let Some(connection) = lock(&self.shared.connection).take() {
            let _ = connection.stream.shutdown(Shutdown::Write);
        }
        if let Some(host) = self.host {
            let _ = rustix::io::write(&host.leaving, &1u64.to_ne_bytes());
            let _ = host.thread.join();
        }
    }

    /// What ends the gang of `generation`.
    pub fn summons(&self, generation: u64) -> impl Summons + '_ {
        Orders { agent: self, generation: Some(generation) }
    }

    /// What ends a wait for decisions.
    pub fn any(&self) -> impl Summons + '_ {
        Orders { agent: self, generation: None }
    }
}

struct Orders<'a> {
    agent: &'a Agent,
    generation: Option<u64>,
}

impl Summons for Orders<'_> {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.agent.shared.bell.as_fd()
    }

    fn is_stop(&mut self) -> bool {
        let decisions = self.agent.shared.decisions();
        self.agent.shared.silence();
        decisions.iter().any(|decision| match decision {
            Decision::Stop { generation, .. } => self.generation == Some(*generation),
            Decision::Cut(_) | Decision::End(_) => true,
            Decision::Open { .. } | Decision::Start(_) => false,
        })
    }

    fn suspending(&mut self) {
        self.agent.report(&Report::Suspended);
    }
}

impl Shared {
    fn decisions(&self) -> MutexGuard<'_, VecDeque<Decision>> {
        lock(&self.decisions)
    }

    fn silence(&self) {
        let _ = rustix::io::read(&self.bell, &mut [0; 8]);
    }

    fn decide(&self, decision: Decision) {
        let mut decisions = self.decisions();
        decisions.push_back(decision);
        let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
    }

    fn send(&self, report: &Report) -> io::Result<()> {
        match &mut *lock(&self.connection) {
            Some(connection) => {
                let frame = connection.seal.frame(report);
                connection.stream.write_all(&frame)
            }
            None => Err(ErrorKind::NotConnected.into()),
        }
    }
}

fn lock<Value>(mutex: &Mutex<Value>) -> MutexGuard<'_, Value> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the thread knows.
struct Member {
    shared: Arc<Shared>,
    run: Run,
    join: Join,
    /// The host's address, if it is this very process.
    own: Option<SocketAddr>,
    host: (String, u16),
    join_timeout: Duration,
    /// How long a host is looked for that cannot be reached any more.
    close_timeout: Duration,
    dead_after: Duration,
    line: Line,
}

/// How a connection ended.
enum Over {
    /// All is said.
    Ended(Verdict),
    /// It may come again.
    Cut(String),
}

impl Member {
    fn take_part(mut self) {
        let (mut since, mut lost) = (Instant::now(), None);
        loop {
            let over = match self.connect(since, lost.as_deref()) {
                Ok((stream, seal)) => self.listen(&stream, seal),
                Err(verdict) => Over::Ended(verdict),
            };
            self.line.clear();
            // What is sent from now on is said to nobody.
            lock(&self.shared.connection).take();
            match over {
                Over::Ended(verdict) => return self.shared.decide(Decision::End(verdict)),
                Over::Cut(why) => {
                    *lock(&self.shared.is_clean) = false;
                    self.shared.decide(Decision::Cut(why.clone()));
                    lost = Some(why);
                    let is_clean = lock(&self.shared.is_clean);
                    let is_clean = self.shared.cleaned.wait_while(is_clean, |is_clean| !*is_clean);
                    drop(is_clean.unwrap_or_else(PoisonError::into_inner));
                    since = Instant::now();
                }
            }
        }
    }

    /// `lost` is why there was a connection and is none.
    fn connect(&mut self, since: Instant, lost: Option<&str>) -> Result<(TcpStream, Seal), Verdict> {
        let mut pause = RETRY_FIRST;
        loop {
            let error = match self.reach() {
                Ok(stream) => {
                    return self.greet(stream).map_err(|why| {
                        let (host, port) = &self.host;
                        Verdict::Failed(format!("the rendezvous' host at {host} port {port}: {why}"))
                    });
                }
                Err(error) => error,
            };
            let (host, port) = &self.host;
            let patience = match (lost, error.kind()) {
                (None, _) => self.join_timeout,
                // Its machine lives, and says that it does not.
                (Some(_), ErrorKind::ConnectionRefused) => self.dead_after,
                (Some(_), _) => self.close_timeout,
            };
            let (now, give_up_at) = (Instant::now(), since + patience);
            if now >= give_up_at {
                let what = format!("the rendezvous' host at {host} port {port}");
                return Err(Verdict::Failed(match lost {
                    Some(why) => format!(
                        "{what} is lost, and with it the run: {why}; it cannot be reached again: {error}. Look for the \
                         reason at the host"
                    ),
                    None => format!(
                        "{what} cannot be reached: {error}. See whether its zenith-run lives, and whether this node can \
                         connect to that port"
                    ),
                }));
            }
            let left = give_up_at.saturating_duration_since(now);
            self.line.show(
                &format!("waiting for the host at {host} port {port} ({error}), giving up in {} s", left.as_secs()),
                now,
            );
            thread::sleep(pause.min(left));
            pause = (pause * 2).min(RETRY_LONGEST);
        }
    }

    fn reach(&self) -> io::Result<TcpStream> {
        let addresses: Vec<SocketAddr> = match self.own {
            Some(address) => vec![address],
            None => (self.host.0.as_str(), self.host.1).to_socket_addrs()?.collect(),
        };
        let mut last = io::Error::new(ErrorKind::NotFound, "the name has no address");
        for address in addresses {
            match TcpStream::connect_timeout(&address, CONNECT) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    // A host that takes nothing does not live.
                    stream.set_write_timeout(Some(self.dead_after))?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Proves to each other that this is the same run (handshake.rs), and joins.
    fn greet(&self, mut stream: TcpStream) -> Result<(TcpStream, Seal), String> {
        let broken = |error: io::Error| match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => format!(
                "it has not answered within {} s as zenith-run does. If it is torchrun's: both do not meet, start all \
                 nodes by zenith-run",
                ANSWER.as_secs()
            ),
            _ => format!("it ended the greeting ({error}). Is it zenith-run that listens there?"),
        };
        let hello = self.run.hello();
        let greeting = [&MAGIC[..], &Seal::default().frame(&hello)].concat();
        stream.write_all(&greeting).map_err(broken)?;
        let deadline = Instant::now() + ANSWER;
        let mut frames = Frames::default();
        let body = loop {
            match frames.next(FRAME_BYTES_MAX) {
                Ok(Some(body)) => break body,
                Ok(None) => {}
                Err(error) => return Err(format!("it answers by something that is not zenith-run's: {error}")),
            }
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            stream.set_read_timeout(Some(left)).map_err(broken)?;
            let mut bytes = [0; 4096];
            match stream.read(&mut bytes).map_err(broken)? {
                0 => return Err("it ended the greeting. Is it zenith-run that listens there?".into()),
                count => frames.push(bytes.get(..count).unwrap_or_default()),
            }
        };
        let answer: Answer = Seal::default()
            .open(&body)
            .map_err(|error| format!("it answers by something that is not zenith-run's: {error}"))?;
        let mut seal = self.run.accept(&hello, answer)?;
        stream.write_all(&seal.frame(&self.join)).map_err(broken)?;
        Ok((stream, seal))
    }

    /// Until the end of the connection. The host speaks every second, and so does this side (RDZV-3).
    fn listen(&mut self, stream: &TcpStream, mut seal: Seal) -> Over {
        let cut = |error: io::Error| Over::Cut(format!("the connection to the rendezvous' host broke: {error}"));
        match stream.try_clone() {
            Ok(stream) => *lock(&self.shared.connection) = Some(Connection { stream, seal: seal.clone() }),
            Err(error) => return cut(error),
        }
        let mut frames = Frames::default();
        let mut heard = Instant::now();
        let mut next_beat = heard;
        let mut bytes = vec![0; READ_BYTES];
        loop {
            if Instant::now() >= next_beat {
                if let Err(error) = self.shared.send(&Report::Beat) {
                    // What the host said last may tell why.
                    if error.kind() == ErrorKind::NotConnected {
                        return cut(error);
                    }
                }
                next_beat = Instant::now() + state::beat(self.dead_after);
            }
            let wait = next_beat.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            if let Err(error) = stream.set_read_timeout(Some(wait)) {
                return cut(error);
            }
            match (&*stream).read(&mut bytes) {
                Ok(0) => return Over::Cut("the rendezvous' host has ended the connection".into()),
                Ok(count) => {
                    heard = Instant::now();
                    frames.push(bytes.get(..count).unwrap_or_default());
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    if heard.elapsed() >= self.dead_after {
                        let silence = self.dead_after.as_secs_f64();
                        return Over::Cut(format!("the rendezvous' host was silent for {silence:.1} s"));
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return cut(error),
            }
            loop {
                let order = match frames.next(FRAME_BYTES_MAX) {
                    Ok(None) => break,
                    Ok(Some(body)) => seal.open::<Order>(&body),
                    Err(error) => Err(error),
                };
                match order {
                    Ok(order) => {
                        if let Some(over) = self.obey(order) {
                            return over;
                        }
                    }
                    Err(error) => return Over::Cut(format!("the rendezvous' host sent {error}")),
                }
            }
        }
    }

    fn obey(&mut self, order: Order) -> Option<Over> {
        let decision = match order {
            Order::Beat(None) => {
                self.line.clear();
                return None;
            }
            Order::Beat(Some(progress)) => {
                self.line.show(&progress::text(&progress), Instant::now());
                return None;
            }
            Order::Open { generation, address } => Decision::Open { generation, address },
            Order::Start(start) => Decision::Start(start),
            Order::Stop { generation, why } => Decision::Stop { generation, why },
            Order::Dismissed(why) => {
                return Some(Over::Cut(format!("the rendezvous' host took this node for dead: {why}")));
            }
            Order::Refused(why) => {
                let (host, port) = &self.host;
                let what = format!("the rendezvous' host at {host} port {port} refuses this node: {why}");
                return Some(Over::Ended(Verdict::Failed(what)));
            }
            Order::End(verdict) => return Some(Over::Ended(verdict)),
        };
        self.line.clear();
        self.shared.decide(decision);
        None
    }
}
