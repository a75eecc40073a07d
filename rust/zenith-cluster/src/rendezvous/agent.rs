//! A node's part in the rendezvous, as its launcher sees it.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::event::{EventfdFlags, eventfd};
use uuid::Uuid;

use super::caller::Caller;
use super::handshake::Run;
use super::host::Host;
use super::link::Link;
use super::listen::{self, Listening};
use super::member::Member;
use super::messages::{Decision, Facts, Report};
use super::office::Office;
use super::secret::Secret;
use super::standing::{Ask, Standing};
use super::state::State;
use super::tls::Tls;
use super::view::Door;
use super::wire::Seal;
use crate::gang::Summons;
use crate::plan::{Nodes, Settings};
use crate::store::Doorkeeper;

/// What the launcher has to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    Decided(Decision),
    /// There is no host any more: stop everything and call `is_clean`. Then a host is looked for, or elected.
    Cut(String),
}

/// This node's part in the rendezvous.
#[derive(Debug)]
pub struct Agent {
    shared: Arc<Shared>,
    office: Arc<Office>,
    /// The thread that answers others, if this node does.
    host: Option<JoinHandle<()>>,
}

/// What the launcher shares with the thread that follows the host.
#[derive(Debug)]
pub(super) struct Shared {
    /// Can be read while there is news that nobody has looked at.
    bell: OwnedFd,
    news: Mutex<VecDeque<News>>,
    pub(super) connection: Mutex<Option<Connection>>,
    is_clean: Mutex<bool>,
    cleaned: Condvar,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) link: Link,
    pub(super) seal: Seal,
}

impl Agent {
    /// Looks for the host, or becomes it. `doorkeeper` is for a store at the host's own port.
    pub fn start(settings: &Settings, nodes: &Nodes, doorkeeper: Option<Doorkeeper>) -> io::Result<Self> {
        let secret = nodes.secret_file.as_deref().map(Secret::read).transpose()?;
        let tls = nodes.tls.as_ref().map(Tls::read).transpose()?;
        let run = Run { id: settings.run_id.clone(), secret, tls };
        let launcher = Uuid::new_v4().to_string();
        let shared = Arc::new(Shared {
            bell: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            news: Mutex::default(),
            connection: Mutex::default(),
            is_clean: Mutex::default(),
            cleaned: Condvar::new(),
        });
        let office = Arc::new(Office::new(Standing::new(launcher.clone()))?);
        let mut caller = Caller { run: run.clone(), own: None, dead_after: nodes.terms.dead_after };
        let listening = listen::listen(nodes)?;
        let own = listening.as_ref().map(|listening| listen::own_address(&listening.listener)).transpose()?;
        let host = match listening {
            Some(listening) => {
                caller.own = listening.endpoint.clone().zip(own);
                Some(answering(listening, &caller, &office, nodes, doorkeeper)?)
            }
            None => None,
        };
        let facts = Facts {
            name: crate::report::host_name(),
            address: nodes.local_address.clone(),
            topology: nodes.topology.clone(),
            node_rank: nodes.node_rank,
            local_ranks: settings.ranks,
            nodes: (nodes.terms.least, nodes.terms.most),
        };
        // Nobody asks a node for its vote that would not stand itself.
        let door = own.filter(|_| nodes.terms.elects);
        let endpoints = listen::endpoints(nodes);
        let member =
            Member::new(Arc::clone(&shared), Arc::clone(&office), caller, facts, door, endpoints, nodes.terms.clone());
        let host = host.map(|host| thread::Builder::new().name("zenith-host".into()).spawn(move || host.serve()));
        let host = host.transpose()?;
        thread::Builder::new().name("zenith-agent".into()).spawn(move || member.take_part())?;
        Ok(Self { shared, office, host })
    }

    /// What has happened next, if anything has.
    pub fn next(&self) -> Option<News> {
        let mut news = self.shared.news();
        let next = news.pop_front();
        if news.is_empty() {
            self.shared.silence();
        }
        next
    }

    /// A report that does not get through is no loss: without a connection the host takes this node for lost.
    pub fn report(&self, report: &Report) {
        let _ = self.shared.send(report);
    }

    /// After `News::Cut`: nothing of this node's ranks is left.
    pub fn is_clean(&self) {
        *lock(&self.shared.is_clean) = true;
        self.shared.cleaned.notify_all();
    }

    /// Says why this node goes, if it has not been told to; the host stays until the others know.
    pub fn leave(self, why: Option<String>) {
        // The host counts on it that who has said so votes for nobody else.
        self.office.standing().retire();
        if let Some(what) = why {
            self.report(&Report::Left { what });
        }
        if let Some(connection) = &mut *lock(&self.shared.connection) {
            connection.link.finish();
        }
        self.office.leave();
        if let Some(host) = self.host {
            let _ = host.join();
        }
    }

    /// What ends the gang of `generation`.
    pub fn summons(&self, generation: u64) -> impl Summons + '_ {
        Orders { agent: self, generation: Some(generation) }
    }

    /// What ends a wait for news.
    pub fn any(&self) -> impl Summons + '_ {
        Orders { agent: self, generation: None }
    }
}

/// The side that answers others: the first host of the run, unless there is one already.
fn answering(
    listening: Listening,
    caller: &Caller,
    office: &Arc<Office>,
    nodes: &Nodes,
    doorkeeper: Option<Doorkeeper>,
) -> io::Result<Host> {
    let Listening { listener, is_host, .. } = listening;
    let local = listener.local_addr()?;
    listener.set_nonblocking(true)?;
    let others: Vec<Door> = listen::endpoints(nodes).into_iter().filter(|door| !caller.is_own(door)).collect();
    // A node that is started again where the first host was may be late.
    let found = if is_host && !others.is_empty() { caller.ask_all(&others, &Ask::Standing) } else { Vec::new() };
    let elsewhere = found.into_iter().find_map(|answer| answer.host);
    let is_host = is_host && elsewhere.is_none();
    if let Some(host) = elsewhere {
        office.standing().hear_of(host);
    }
    if is_host && !local.ip().is_loopback() && caller.run.secret.is_none() && caller.run.tls.is_none() {
        eprintln!(
            "zenith-run: whoever reaches {local} can take part in this run; --rdzv-conf=secret_file=PATH lets in only who knows a secret"
        );
    }
    let is_static = nodes.terms.is_static;
    let address = match local.ip() {
        ip if is_static || ip.is_unspecified() => nodes.host.clone(),
        ip => ip.to_string(),
    };
    let own = office.standing().launcher.clone();
    let state = is_host.then(|| State::new(nodes.terms.clone(), own.clone(), first_generation(), Instant::now()));
    if let (true, Some((door, _))) = (is_host, &caller.own) {
        office.standing().preside(Some(door.clone()));
    }
    Ok(Host {
        listener,
        office: Arc::clone(office),
        run: caller.run.clone(),
        own,
        address,
        is_static,
        doorkeeper,
        state,
        close_timeout: nodes.terms.close_timeout,
        peers: BTreeMap::new(),
        next: 0,
        strangers: 0,
    })
}

/// Never that of another host of this run: one that was started again knows nothing of what was before it.
fn first_generation() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_micros()).unwrap_or_default()
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
        let news = self.agent.shared.news();
        self.agent.shared.silence();
        news.iter().any(|news| match news {
            News::Decided(Decision::Stop { generation, .. }) => self.generation == Some(*generation),
            News::Cut(_) | News::Decided(Decision::End(_)) => true,
            News::Decided(Decision::Open { .. } | Decision::Start(_)) => false,
        })
    }

    fn suspending(&mut self) {
        self.agent.report(&Report::Suspended);
    }
}

impl Shared {
    fn news(&self) -> MutexGuard<'_, VecDeque<News>> {
        lock(&self.news)
    }

    fn silence(&self) {
        let _ = rustix::io::read(&self.bell, &mut [0; 8]);
    }

    pub(super) fn tell(&self, news: News) {
        self.news().push_back(news);
        let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
    }

    pub(super) fn send(&self, report: &Report) -> io::Result<()> {
        match &mut *lock(&self.connection) {
            Some(Connection { link, seal }) => link.flush(&mut seal.frame(report)),
            None => Err(ErrorKind::NotConnected.into()),
        }
    }

    /// Tells that the host is lost, and waits until nothing runs here.
    pub(super) fn cut(&self, why: &str) {
        *lock(&self.is_clean) = false;
        self.tell(News::Cut(why.into()));
        let is_clean = lock(&self.is_clean);
        let is_clean = self.cleaned.wait_while(is_clean, |is_clean| !*is_clean);
        drop(is_clean.unwrap_or_else(PoisonError::into_inner));
    }
}

pub(super) fn lock<Value>(mutex: &Mutex<Value>) -> MutexGuard<'_, Value> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
