//! The launcher: starts the ranks of a node as a gang, alone or with those of other nodes, and leaves nothing behind.
//!
//! Deciding is apart from doing: `command_line` and `plan` are pure, `gang` does what they say, `rendezvous` agrees with others. Which processes there are,
//! and who waits for whom: docs/architecture.md, "zenith-run".

pub mod alias;
mod backoff;
pub mod command_line;
pub mod console;
mod coordinator;
pub mod folders;
pub mod gang;
mod handing_over;
mod kill_wait;
mod listening;
mod machine;
mod meeting_point;
mod observe;
pub mod placement;
pub mod plan;
pub mod rendezvous;
pub mod report;
pub mod run;
pub mod signals;
pub mod store;
mod watch;
pub mod worker;
