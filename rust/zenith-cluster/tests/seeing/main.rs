//! What one sees of a run: the launcher's own program, with real ranks.

mod events;
mod hangs;
mod harness;
mod metrics;
mod nodes;
