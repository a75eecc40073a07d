//! How the launchers of several nodes agree on who runs what, when and with whom.
//!
//! One of them is the host: its thread (`host`) does what `state` decides, which is pure. Every launcher, the host's own too,
//! has an agent (`agent`), which speaks to the host over TCP (`wire`, `secret`) and hands its orders to the launcher.
//! Rules, numbered for the tests:
//! RDZV-1: a gang is started only when every node that the host still knows has reported the one before it gone.
//! RDZV-2: all nodes of an attempt are told the same nodes, master and generation; nobody of another generation is listened to.
//! RDZV-3: a side that has heard nothing of the other for `dead_after` takes it for dead, and a node without its host runs no gang.
//! RDZV-4: what has not proven that it belongs to the run is held for seconds, with bounded memory.

mod agent;
mod handshake;
mod host;
mod listen;
mod messages;
mod peer;
mod places;
mod progress;
mod secret;
mod state;
mod wire;

pub use agent::{Agent, Decision};
pub(crate) use listen::bind_literally;
pub use messages::{Report, Start, Verdict};
pub use state::{Call, Terms};
