//! The ranks of one node, started and stopped together.

use std::time::Duration;

use crate::worker::{Exit, Worker};

/// How a gang is watched and stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Time between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// Signals that stop the gang; each is sent on to it.
    pub stops: Vec<i32>,
    /// Signals that are passed on and stop nothing.
    pub forwards: Vec<i32>,
    /// Whether descendants that outlive a successful gang are left alone.
    pub keeps_background: bool,
}

/// What became of a gang. Exits are in the order in which they were noticed; those that the stop itself caused are among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Succeeded(Vec<Exit>),
    Failed(Vec<Exit>),
    /// A signal to the launcher stopped it.
    Stopped {
        signal: i32,
        exits: Vec<Exit>,
    },
}

/// The processes of an attempt. Dropping it leaves none of their descendants.
#[derive(Debug)]
pub struct Gang;

impl Gang {
    /// Starts all of `workers` or none, and waits until all have ended, or one has failed and the others were stopped.
    pub fn run(&mut self, _workers: &[Worker], _rules: &Rules) -> std::io::Result<Outcome> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
}
