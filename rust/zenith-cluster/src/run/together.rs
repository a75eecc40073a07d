//! The launcher as one of several: attempts begin and end when the rendezvous says so.

use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::time::Duration;

use super::{FAILED, Launch, described, say};
use crate::command_line::StoreOwner;
use crate::folders;
use crate::gang::{Outcome, Pause};
use crate::observe::Event;
use crate::plan::{self, Attempt, Group, Nodes};
use crate::rendezvous::{Agent, Decision, News, Report, Start, Verdict, bind_literally};
use crate::report::RunOutcome;
use crate::store::{Doorkeeper, StoreServer};
use crate::worker::{Exit, Worker};

/// Decisions end the wait for them; this is only how long one call of it lasts.
const LONG: Duration = Duration::from_secs(3600);

/// What the report of a failure needs.
struct Failed {
    attempt: Attempt,
    workers: Vec<Worker>,
    exits: Vec<Exit>,
}

/// How this node's part ends.
enum Leaving {
    /// As the rendezvous has decided.
    Told(u8),
    /// A signal to this launcher.
    Signal(i32),
    /// A rank of this node cannot be ended, or was not for too long: there is no attempt here any more.
    Stuck(String),
}

impl Launch {
    /// Takes part until the rendezvous says that it is over.
    pub(super) fn together(mut self, nodes: &Nodes) -> io::Result<u8> {
        let mut store = SharedStore::new(nodes, self.settings.store)?;
        let agent = Agent::start(&self.settings, nodes, store.doorkeeper())?;
        self.observer.note(&Event::RendezvousJoined { host: nodes.host.clone(), port: nodes.port });
        let left = self.take_part(&agent, &mut store);
        match &left {
            Ok(Leaving::Told(_)) => agent.leave(None),
            Ok(Leaving::Signal(signal)) => agent.leave(Some(format!("it was stopped by signal {signal}"))),
            Ok(Leaving::Stuck(what)) => agent.leave(Some(what.clone())),
            Err(error) => agent.leave(Some(error.to_string())),
        }
        Ok(match left? {
            Leaving::Told(code) => code,
            Leaving::Signal(signal) => self.stopped(signal),
            Leaving::Stuck(_) => FAILED,
        })
    }

    fn take_part(&mut self, agent: &Agent, store: &mut SharedStore) -> io::Result<Leaving> {
        let mut failed = None;
        loop {
            let Some(news) = agent.next() else {
                match self.gang.pause_unless(LONG, &self.settings.rules, Some(&agent.any()))? {
                    Pause::Signal(signal) => return Ok(Leaving::Signal(signal)),
                    Pause::Over | Pause::Summoned => continue,
                }
            };
            let decision = match news {
                News::Decided(decision) => decision,
                News::Cut(why) => {
                    say(&why);
                    agent.is_clean();
                    continue;
                }
            };
            match decision {
                Decision::Open { generation, address } => {
                    let port = store.open(&address)?;
                    let coordinator_port = self.coordinator.renew(port)?;
                    agent.report(&Report::Opened { generation, port, coordinator_port });
                }
                Decision::Start(start) => {
                    failed = None;
                    if let Some(signal) = self.generation(agent, &start, &mut failed)? {
                        return Ok(Leaving::Signal(signal));
                    }
                    if self.is_stuck() {
                        let what = self.given_up.as_ref().map(|given_up| given_up.what.clone()).unwrap_or_default();
                        if let Some(Failed { attempt, workers, exits }) = failed {
                            self.failed(&attempt, &workers, &exits);
                        }
                        return Ok(Leaving::Stuck(what));
                    }
                }
                Decision::Stop { generation, .. } => agent.report(&Report::Clean { generation }),
                Decision::End(Verdict::Succeeded) => return Ok(Leaving::Told(0)),
                Decision::End(Verdict::Failed(why)) => {
                    let Some(Failed { attempt, workers, exits }) = failed else {
                        self.caller.tell(&RunOutcome::ended_by_others(&why), &format!("zenith-run: {why}\n"));
                        return Ok(Leaving::Told(FAILED));
                    };
                    say(&why);
                    return Ok(Leaving::Told(self.failed(&attempt, &workers, &exits)));
                }
            }
        }
    }

    /// One attempt on this node. Gives back the signal that stopped it.
    fn generation(&mut self, agent: &Agent, start: &Start, failed: &mut Option<Failed>) -> io::Result<Option<i32>> {
        let generation = start.generation;
        let run = self.folder.as_deref();
        let folder = run.map(|run| folders::of_attempt(run, start.attempt, self.settings.ranks)).transpose()?;
        let attempt = Attempt {
            number: start.restarts,
            group: Group::of(start.group_rank, &start.local_ranks),
            master_address: start.master_address.clone(),
            master_port: start.master_port,
            coordinator_port: start.coordinator_port,
            folder,
        };
        let workers = plan::workers(&self.settings, &attempt);
        self.observer.begin_attempt(attempt.number);
        self.observer.note(&Event::RendezvousDecided {
            generation,
            group_rank: attempt.group.rank,
            nodes: attempt.group.nodes,
            ranks: attempt.group.ranks,
            master_addr: attempt.master_address.clone(),
            master_port: attempt.master_port,
        });
        match self.attempt(&attempt, &workers, Some(&mut agent.summons(generation)))? {
            Outcome::Succeeded(_) => agent.report(&Report::Succeeded { generation }),
            Outcome::Withdrawn(_) => agent.report(&Report::Clean { generation }),
            Outcome::Stopped { signal, .. } => return Ok(Some(signal)),
            Outcome::Failed(exits) => {
                let root = exits.iter().find(|exit| !exit.status.is_success());
                let what = root.map_or_else(
                    || "the ranks failed".into(),
                    |root| format!("rank {} failed ({})", root.rank, described(root.status)),
                );
                let what = self.given_up.as_ref().map_or(what, |given_up| given_up.what.clone());
                if !self.is_stuck() {
                    agent.report(&Report::Failed { generation, what });
                }
                *failed = Some(Failed { attempt, workers, exits });
            }
        }
        Ok(None)
    }
}

/// The store of all nodes' ranks, if this node has it.
enum SharedStore {
    /// At the port of the rendezvous, which is given (T-34).
    Static { port: u16, doorkeeper: Doorkeeper, server: Option<StoreServer> },
    /// At a new port for every attempt (T-33).
    Fresh { owner: StoreOwner, server: Option<StoreServer> },
}

impl SharedStore {
    fn new(nodes: &Nodes, owner: StoreOwner) -> io::Result<Self> {
        if nodes.terms.is_static {
            return Ok(Self::Static { port: nodes.port, doorkeeper: Doorkeeper::new()?, server: None });
        }
        Ok(Self::Fresh { owner, server: None })
    }

    fn doorkeeper(&self) -> Option<Doorkeeper> {
        match self {
            Self::Static { doorkeeper, .. } => Some(doorkeeper.clone()),
            Self::Fresh { .. } => None,
        }
    }

    /// An empty store with no clients, reached by others at this address of ours. Gives back its port.
    fn open(&mut self, address: &str) -> io::Result<u16> {
        match self {
            Self::Static { port, server: Some(server), .. } => {
                server.renew()?;
                Ok(*port)
            }
            Self::Static { port, doorkeeper, server } => {
                // Who has come before the first attempt is not of this run.
                server.insert(StoreServer::behind(doorkeeper)?).renew()?;
                Ok(*port)
            }
            // Rank 0 binds it again; until then it is anybody's, as under torchrun (TP-3).
            Self::Fresh { owner: StoreOwner::Rank0, .. } => Ok(bind(address)?.local_addr()?.port()),
            Self::Fresh { owner: StoreOwner::Launcher, server } => {
                Ok(server.insert(StoreServer::start(bind(address)?)?).port())
            }
        }
    }
}

fn bind(address: &str) -> io::Result<TcpListener> {
    let bound = bind_literally(address, 0).or_else(|error| match error.kind() {
        // Others reach this node by an address that is not its own.
        ErrorKind::AddrNotAvailable => bind_literally("::", 0).or_else(|_| bind_literally("0.0.0.0", 0)),
        _ => Err(error),
    });
    bound.map_err(|error| {
        io::Error::new(error.kind(), format!("the store of the ranks cannot listen at {address}: {error}"))
    })
}
