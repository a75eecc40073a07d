//! The thread that follows the host: it keeps the connection, obeys, and when the host is lost looks for it or for the next.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::agent::{Connection, News, Shared, lock};
use super::caller::{Caller, Greeted, readable};
use super::election::{self, Step};
use super::handshake::{Join, Request};
use super::messages::{Decision, Facts, Order, Report, Verdict};
use super::office::Office;
use super::progress::{self, Line};
use super::standing::Ask;
use super::state::State;
use super::terms::{Terms, beat};
use super::view::Door;
use super::wire::{FRAME_BYTES_MAX, Frames, Seal};

const RETRY_FIRST: Duration = Duration::from_millis(10);
const RETRY_LONGEST: Duration = Duration::from_secs(1);
/// Between two rounds of questions without a host.
const ROUND: Duration = Duration::from_millis(200);
/// Between two claims of an elected host at the endpoints, where new nodes look for it.
const CLAIM: Duration = Duration::from_secs(1);

pub(super) struct Member {
    shared: Arc<Shared>,
    office: Arc<Office>,
    caller: Caller,
    launcher: String,
    facts: Facts,
    /// Where this node answers others, as it gets there itself.
    door: Option<SocketAddr>,
    /// If that is one of the endpoints.
    door_address: Option<String>,
    endpoints: Vec<Door>,
    terms: Terms,
    /// The host that was followed last.
    host: Option<Door>,
    /// This node's place in the last attempt that it took part in.
    was: Option<u32>,
    line: Line,
}

/// How a connection ended.
enum Over {
    /// All is said.
    Ended(Verdict),
    /// It may come again.
    Cut(String),
    /// Whoever listens there is not the host.
    Elsewhere,
}

impl Member {
    pub(super) fn new(
        shared: Arc<Shared>,
        office: Arc<Office>,
        caller: Caller,
        facts: Facts,
        door: Option<SocketAddr>,
        endpoints: Vec<Door>,
        terms: Terms,
    ) -> Self {
        let launcher = office.standing().launcher.clone();
        let door_address = caller.own.as_ref().map(|(own, _)| own.address.clone());
        Self {
            shared,
            office,
            caller,
            launcher,
            facts,
            door,
            door_address,
            endpoints,
            terms,
            host: None,
            was: None,
            line: Line::new(),
        }
    }

    pub(super) fn take_part(mut self) {
        let (mut since, mut lost) = (Instant::now(), None);
        loop {
            let over = match self.join(since, lost.as_deref()) {
                Ok((door, greeted)) => self.listen(door, greeted),
                Err(verdict) => Over::Ended(verdict),
            };
            self.line.clear();
            // What is sent from now on is said to nobody.
            lock(&self.shared.connection).take();
            match over {
                Over::Ended(verdict) => return self.shared.tell(News::Decided(Decision::End(verdict))),
                Over::Cut(why) => {
                    self.let_go();
                    self.shared.cut(&why);
                    lost = Some(why);
                    since = Instant::now();
                }
                Over::Elsewhere => {
                    let patience = if lost.is_some() { self.terms.close_timeout } else { self.terms.join_timeout };
                    if since.elapsed() >= patience {
                        let what = "nobody has become the host where nodes meet. Start the node whose address is the first endpoint";
                        return self.shared.tell(News::Decided(Decision::End(Verdict::Failed(what.into()))));
                    }
                    thread::sleep(ROUND);
                }
            }
        }
    }

    /// From here on others may have its vote.
    fn let_go(&self) {
        let mut standing = self.office.standing();
        if !standing.is_host() {
            standing.follow(None);
        }
    }

    /// `lost` is why there was a connection and is none.
    fn join(&mut self, since: Instant, lost: Option<&str>) -> Result<(Door, Greeted), Verdict> {
        let may_elect = self.office.standing().view().is_some_and(|view| view.restarts < self.terms.max_restarts);
        match lost {
            Some(why) if self.terms.elects && may_elect => self.recover(since, why),
            _ => self.connect(since, lost),
        }
    }

    /// Where the host is, or was.
    fn connect(&mut self, since: Instant, lost: Option<&str>) -> Result<(Door, Greeted), Verdict> {
        let mut pause = RETRY_FIRST;
        loop {
            let mut last = None;
            let hint = self.office.standing().hint().filter(|hint| !self.endpoints.contains(hint)).cloned();
            for door in hint.iter().chain(&self.endpoints) {
                match self.caller.reach(door) {
                    Ok(stream) => match self.caller.greet(stream, door, &self.request()) {
                        Ok(greeted) => return Ok((door.clone(), greeted)),
                        Err(why) if self.endpoints.len() == 1 && hint.is_none() => {
                            return Err(Verdict::Failed(format!("{}: {why}", named(door))));
                        }
                        Err(why) => last = Some((door.clone(), io::Error::other(why))),
                    },
                    Err(error) => last = Some((door.clone(), error)),
                }
            }
            let Some((door, error)) = last else {
                return Err(Verdict::Failed("the rendezvous has no endpoint".into()));
            };
            let patience = match (lost, error.kind()) {
                (None, _) => self.terms.join_timeout,
                // Its machine lives, and says that it does not.
                (Some(_), ErrorKind::ConnectionRefused) => self.terms.dead_after,
                (Some(_), _) => self.terms.close_timeout,
            };
            let (now, give_up_at, what) = (Instant::now(), since + patience, named(&door));
            if now >= give_up_at {
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
            let (host, port) = (&door.address, door.port);
            self.line.show(
                &format!("waiting for the host at {host} port {port} ({error}), giving up in {} s", left.as_secs()),
                now,
            );
            thread::sleep(pause.min(left));
            pause = (pause * 2).min(RETRY_LONGEST);
        }
    }

    /// After the host was lost: the old one again, or the next, which may be this node.
    fn recover(&mut self, since: Instant, why: &str) -> Result<(Door, Greeted), Verdict> {
        let lost = self.host.clone();
        for round in 0.. {
            let answers = self.caller.ask_all(&self.doors(), &Ask::Standing);
            let step = election::next(&self.office.standing(), lost.as_ref(), &answers, round);
            let joined = match step {
                Step::Join(door) => self.visit(door),
                Step::Stand { after } => self.stand(after).and_then(|own| self.visit(own)),
                Step::Wait => None,
            };
            if let Some(joined) = joined {
                return Ok(joined);
            }
            let (now, give_up_at) = (Instant::now(), since + self.terms.close_timeout);
            let answering = answers.len() + 1;
            if now >= give_up_at {
                return Err(Verdict::Failed(self.unelected(why, answering)));
            }
            let left = give_up_at.saturating_duration_since(now).as_secs();
            self.line
                .show(&format!("the host is lost; {answering} nodes look for another, giving up in {left} s"), now);
            thread::sleep(ROUND);
        }
        Err(Verdict::Failed(self.unelected(why, 0)))
    }

    fn unelected(&self, why: &str, answering: usize) -> String {
        let standing = self.office.standing();
        let voters = standing.view().map_or(0, |view| view.electorate.voters.len());
        let spare = if voters == 2 {
            " Of two nodes the one without the host cannot know whether the other is dead or out of reach; a spare node, \
             which votes as well, makes three of them"
        } else {
            ""
        };
        format!(
            "the host is lost, and no other was elected: {why}; {answering} of the {voters} nodes that had a vote in the last \
             attempt answer here, and more than half are needed.{spare}"
        )
    }

    /// Whoever may know of a host: voters, where nodes meet, whom others have named.
    fn doors(&self) -> Vec<Door> {
        let standing = self.office.standing();
        let electorates = standing.electorates();
        let voters = electorates.iter().flat_map(|electorate| &electorate.voters);
        let others = voters.filter(|voter| voter.launcher != self.launcher).map(|voter| voter.door.clone());
        let known = others.chain(self.endpoints.iter().cloned()).chain(standing.hint().cloned());
        let doors: BTreeSet<Door> = known.filter(|door| !self.caller.is_own(door)).collect();
        doors.into_iter().collect()
    }

    fn visit(&self, door: Door) -> Option<(Door, Greeted)> {
        let stream = self.caller.reach(&door).ok()?;
        let greeted = self.caller.greet(stream, &door, &self.request()).ok()?;
        Some((door, greeted))
    }

    fn request(&self) -> Request {
        let promised = self.office.standing().promised();
        let (launcher, facts) = (self.launcher.clone(), self.facts.clone());
        let (door, door_address) = (self.door.map(|door| door.port()), self.door_address.clone());
        Request::Join(Join { launcher, facts, door, door_address, was: self.was, promised })
    }

    /// Asks for votes. With a quorum of them this node is the host, at the door that is given back.
    fn stand(&mut self, after: u64) -> Option<Door> {
        let (term, accepted, electorates) = {
            let mut standing = self.office.standing();
            let (term, accepted) = standing.stand(after);
            (term, accepted, standing.electorates())
        };
        let voters = electorates.iter().flat_map(|electorate| &electorate.voters);
        let own = voters.clone().find(|voter| voter.launcher == self.launcher)?.door.clone();
        let others: BTreeSet<Door> =
            voters.filter(|voter| voter.launcher != self.launcher).map(|voter| voter.door.clone()).collect();
        let others: Vec<Door> = others.into_iter().collect();
        let ask = Ask::Vote { launcher: self.launcher.clone(), term, accepted };
        let votes = self.caller.ask_all(&others, &ask);
        let mut standing = self.office.standing();
        if !election::is_elected(&standing, term, &votes) {
            return None;
        }
        standing.preside(Some(own.clone()));
        let granted = votes.iter().filter(|vote| vote.is_granted).map(|vote| vote.launcher.clone());
        let awaited: BTreeSet<String> = granted.chain([self.launcher.clone()]).collect();
        let view = standing.view()?;
        eprintln!("zenith-run: this node is the host now, elected by {} nodes", awaited.len());
        let (launcher, terms) = (self.launcher.clone(), self.terms.clone());
        self.office.appoint(State::elected(terms, launcher, term, (view, electorates), awaited, Instant::now()));
        drop(standing);
        self.caller.own = self.door.map(|door| (own.clone(), door));
        self.claim(term, &own);
        Some(own)
    }

    /// So that nodes which look for the run where it began find it.
    fn claim(&self, term: u64, own: &Door) {
        let doors: Vec<Door> =
            self.endpoints.iter().filter(|door| *door != own && !self.caller.is_own(door)).cloned().collect();
        let (caller, office) = (self.caller.clone(), Arc::clone(&self.office));
        let claim = Ask::Claim { term, door: own.clone() };
        let thread = thread::Builder::new().name("zenith-claim".into());
        // Without it the run goes on; only new nodes do not find it.
        let _ = thread.spawn(move || {
            while office.standing().is_host() && !office.is_leaving() {
                caller.ask_all(&doors, &claim);
                thread::sleep(CLAIM);
            }
        });
    }

    /// Until the end of the connection. The host speaks every second, and so does this side (RDZV-3).
    fn listen(&mut self, door: Door, greeted: Greeted) -> Over {
        let cut = |error: io::Error| Over::Cut(format!("the connection to the rendezvous' host broke: {error}"));
        let Greeted { link, mut seal, mut frames } = greeted;
        let stream = match link.stream().try_clone() {
            Ok(stream) => stream,
            Err(error) => return cut(error),
        };
        *lock(&self.shared.connection) = Some(Connection { link, seal: seal.clone() });
        let mut heard = Instant::now();
        let mut next_beat = heard;
        loop {
            if let Some(over) = self.understand(&door, &mut frames, &mut seal) {
                return over;
            }
            if Instant::now() >= next_beat {
                // Another error than this comes with what the host said last, which may tell why.
                if let Err(error) = self.shared.send(&Report::Beat)
                    && error.kind() == ErrorKind::NotConnected
                {
                    return cut(error);
                }
                next_beat = Instant::now() + beat(self.terms.dead_after);
            }
            let wait = next_beat.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            if let Err(error) = readable(&stream, wait) {
                return cut(error);
            }
            let received = match &mut *lock(&self.shared.connection) {
                Some(connection) => connection.link.receive(&mut frames),
                None => Err(ErrorKind::NotConnected.into()),
            };
            match received {
                Ok(true) => heard = Instant::now(),
                // What came with the end is still to be understood.
                Ok(false) => {
                    let over = self.understand(&door, &mut frames, &mut seal);
                    return over.unwrap_or(Over::Cut("the rendezvous' host has ended the connection".into()));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if heard.elapsed() >= self.terms.dead_after {
                        let silence = self.terms.dead_after.as_secs_f64();
                        return Over::Cut(format!("the rendezvous' host was silent for {silence:.1} s"));
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return cut(error),
            }
        }
    }

    fn understand(&mut self, door: &Door, frames: &mut Frames, seal: &mut Seal) -> Option<Over> {
        loop {
            let order = match frames.next(FRAME_BYTES_MAX) {
                Ok(None) => return None,
                Ok(Some(body)) => seal.open::<Order>(&body),
                Err(error) => Err(error),
            };
            let over = match order {
                Ok(order) => self.obey(door, order),
                Err(error) => Some(Over::Cut(format!("the rendezvous' host sent {error}"))),
            };
            if over.is_some() {
                return over;
            }
        }
    }

    fn obey(&mut self, door: &Door, order: Order) -> Option<Over> {
        match order {
            Order::Elsewhere(hint) => {
                let mut standing = self.office.standing();
                match hint.filter(|hint| hint != door) {
                    Some(hint) => standing.hear_of(hint),
                    None => {
                        standing.forget(door);
                        if self.endpoints.first() == Some(door) {
                            self.endpoints.rotate_left(1);
                        }
                    }
                }
                return Some(Over::Elsewhere);
            }
            Order::Refused(why) => {
                return Some(Over::Ended(Verdict::Failed(format!("{} refuses this node: {why}", named(door)))));
            }
            Order::Dismissed(why) => {
                return Some(Over::Cut(format!("the rendezvous' host dismissed this node: {why}")));
            }
            Order::Beat(None) => self.line.clear(),
            Order::Beat(Some(progress)) => self.line.show(&progress::text(&progress), Instant::now()),
            Order::View(view) => {
                let serial = view.stamp.serial;
                if !self.office.standing().accept(view) {
                    return Some(Over::Cut("this node has promised its vote to another host".into()));
                }
                let _ = self.shared.send(&Report::Accepted { serial });
            }
            Order::InForce(stamp) => self.office.standing().is_in_force(stamp),
            Order::Decided(Decision::End(verdict)) => return Some(Over::Ended(verdict)),
            Order::Decided(decision) => {
                if let Decision::Start(start) = &decision {
                    self.was = Some(start.group_rank);
                }
                self.line.clear();
                self.shared.tell(News::Decided(decision));
            }
        }
        self.follow(door);
        None
    }

    fn follow(&mut self, door: &Door) {
        if self.host.as_ref() != Some(door) {
            self.host = Some(door.clone());
        }
        let mut standing = self.office.standing();
        if !standing.is_host() {
            standing.follow(Some(door.clone()));
        }
    }
}

fn named(door: &Door) -> String {
    format!("the rendezvous' host at {} port {}", door.address, door.port)
}
