//! Gangs of real processes, by the example `gang`. What is left of them is counted by a mark in their environments.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod harness;
mod layers;
mod outcomes;
mod signals;
mod soak;
mod survivors;
mod warm;
