//! What one sees of a run: the launcher's own program, with real ranks.
#![expect(clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod events;
mod hangs;
mod harness;
mod metrics;
mod nodes;
