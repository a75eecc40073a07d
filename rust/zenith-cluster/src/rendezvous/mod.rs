//! How the launchers of several nodes agree on who runs what, when and with whom.
//!
//! One of them is the host: its thread (`host`) does what `state` decides, which is pure. Every launcher, the host's own too,
//! has an agent (`agent`), whose thread (`member`) speaks to the host over TCP (`link`, `wire`, `secret`, `tls`) and hands its
//! decisions to the launcher. If the host is lost, the others elect one (`election`, `standing`, `view`: pure as well).
//! Rules, numbered for the tests:
//! RDZV-1: a gang is started only when every node that the host still knows has reported the one before it gone.
//! RDZV-2: all nodes of an attempt are told the same nodes, master and generation; nobody of another generation is listened to.
//! RDZV-3: a side that has heard nothing of the other for `dead_after` takes it for dead, and a node without its host runs no gang.
//! RDZV-4: what has not proven that it belongs to the run is held for seconds, with bounded memory.

mod admission;
mod agent;
mod caller;
mod election;
mod handshake;
mod host;
mod link;
mod listen;
mod member;
mod messages;
mod office;
mod peer;
mod places;
mod progress;
mod secret;
mod standing;
mod state;
mod terms;
mod tls;
mod view;
mod wire;

pub use agent::{Agent, News};
pub(crate) use listen::bind_literally;
pub use messages::{Decision, Report, Start, Verdict};
pub use terms::{Call, Terms};
