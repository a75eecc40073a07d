//! What is to be started: options, environment and facts of the machine in, ranks out. Nothing here looks at the world.

mod counts;
mod dry_run;
mod environment;
mod error;
mod grace;
mod interpreter;
mod logs;
mod nodes;
mod observing;
mod outline;
mod placement;
mod rendezvous;
mod settings;
mod slurm;
mod streams;
mod template;
mod warm;
mod workers;

pub use dry_run::table;
pub use environment::Environment;
pub use error::PlanError;
pub(crate) use grace::asks_for_kill_wait;
pub use interpreter::{Interpreter, interpreter};
pub use logs::{Duplicate, Tail, TailedStream};
pub use nodes::{Hosting, Nodes, TlsFiles};
pub use observing::{HangLimits, Observing};
pub use outline::Outline;
pub use placement::Placement;
pub use rendezvous::Meeting;
pub use settings::{Decision, LogFolder, Machine, Settings, decide};
pub use streams::{Streams, StreamsOfRanks};
pub use workers::{Attempt, Group, workers};
