//! What a node has promised and accepted, which is all that its votes follow from. It lives as long as its process: a launcher
//! that is started again is another node, and no voter.

use serde::{Deserialize, Serialize};

use super::view::{Door, Electorate, Stamp, View};

/// A question to another node, whoever that follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Ask {
    /// How do you stand?
    Standing,
    /// May I be the host from `term` on? The newest view that I have accepted is of this stamp.
    Vote { launcher: String, term: u64, accepted: Stamp },
    /// I am the host of your run, at this door.
    Claim { term: u64, door: Door },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answer {
    pub(super) launcher: String,
    /// The highest term that it knows of.
    pub(super) term: u64,
    /// Where its host is, which may be itself; `None` if it has none.
    pub(super) host: Option<Door>,
    pub(super) is_host: bool,
    /// Whether it has given its vote.
    pub(super) is_granted: bool,
}

#[derive(Debug)]
pub(super) struct Standing {
    pub(super) launcher: String,
    promised: u64,
    accepted: Option<View>,
    /// Whether the view that was accepted is known to be in force.
    is_in_force: bool,
    /// The same of what was accepted before the views of this term, or the newest of them that is in force.
    fallback: Option<(View, bool)>,
    host: Option<Door>,
    is_host: bool,
    /// Whoever said last that it is the host, where this node has not found out itself.
    hint: Option<Door>,
}

impl Standing {
    pub(super) fn new(launcher: String) -> Self {
        Self {
            launcher,
            promised: 0,
            accepted: None,
            is_in_force: false,
            fallback: None,
            host: None,
            is_host: false,
            hint: None,
        }
    }

    pub(super) fn promised(&self) -> u64 {
        self.promised
    }

    pub(super) fn view(&self) -> Option<&View> {
        self.accepted.as_ref()
    }

    /// The electorates of which a quorum must vote for this node so that it can be the host (ELECT-2).
    pub(super) fn electorates(&self) -> Vec<Electorate> {
        let Some(view) = &self.accepted else { return Vec::new() };
        let mut electorates = vec![view.electorate.clone()];
        if !self.is_in_force {
            electorates.extend(view.bases.iter().filter(|&base| *base != view.electorate).cloned());
        }
        electorates
    }

    /// From a host that lives. Nothing of an older term is accepted once a later one is promised.
    pub(super) fn accept(&mut self, view: View) -> bool {
        let newest = self.accepted.as_ref().map(|view| view.stamp);
        if view.stamp.term < self.promised || newest.is_some_and(|newest| view.stamp <= newest) {
            return false;
        }
        self.promised = view.stamp.term;
        let before = self.accepted.replace(view);
        if newest.is_none_or(|newest| newest.term < self.promised) {
            self.fallback = before.map(|before| (before, self.is_in_force));
        }
        self.is_in_force = false;
        true
    }

    /// The host says that enough others have accepted the view as well.
    pub(super) fn is_in_force(&mut self, stamp: Stamp) {
        if let Some(view) = self.accepted.as_ref().filter(|view| view.stamp == stamp) {
            self.is_in_force = true;
            self.fallback = Some((view.clone(), true));
        }
    }

    /// This node was the host, and is none any more: what it has proposed will never be in force, since nobody else says so.
    pub(super) fn step_down(&mut self) {
        self.preside(None);
        if !self.is_in_force && self.accepted.as_ref().is_some_and(|view| view.electorate.host == self.launcher) {
            let (view, is_in_force) = self.fallback.take().unzip();
            (self.accepted, self.is_in_force) = (view, is_in_force.unwrap_or_default());
        }
    }

    pub(super) fn follow(&mut self, host: Option<Door>) {
        self.host = host;
    }

    /// This node is the host from now on, at this door, or is none any more.
    pub(super) fn preside(&mut self, door: Option<Door>) {
        self.is_host = door.is_some();
        self.host = door;
    }

    /// Another has promised this term; the next election goes beyond it.
    pub(super) fn see(&mut self, term: u64) {
        self.promised = self.promised.max(term);
    }

    /// It votes for nobody any more, and accepts nothing.
    pub(super) fn retire(&mut self) {
        self.promised = u64::MAX;
    }

    /// Where to look for the host.
    pub(super) fn hint(&self) -> Option<&Door> {
        self.host.as_ref().or(self.hint.as_ref())
    }

    pub(super) fn hear_of(&mut self, host: Door) {
        self.hint = Some(host);
    }

    /// It is not at this door.
    pub(super) fn forget(&mut self, door: &Door) {
        self.hint.take_if(|hint| hint == door);
    }

    pub(super) fn is_host(&self) -> bool {
        self.is_host
    }

    /// The next term, in which this node has voted for itself.
    pub(super) fn stand(&mut self, after: u64) -> (u64, Stamp) {
        self.promised = self.promised.max(after) + 1;
        (self.promised, self.accepted.as_ref().map(|view| view.stamp).unwrap_or_default())
    }

    /// Who has a host votes for nobody: a node that was cut off alone disturbs no run when it comes back.
    pub(super) fn answer(&mut self, ask: &Ask) -> Answer {
        let is_granted = match ask {
            Ask::Vote { term, accepted, .. } => {
                let own = self.accepted.as_ref().map(|view| view.stamp).unwrap_or_default();
                let is_granted = self.host.is_none() && *term > self.promised && *accepted >= own;
                if is_granted {
                    self.promised = *term;
                }
                is_granted
            }
            Ask::Standing | Ask::Claim { .. } => false,
        };
        let (launcher, host) = (self.launcher.clone(), self.host.clone());
        Answer { launcher, term: self.promised, host, is_host: self.is_host, is_granted }
    }
}
