//! How long a gang waits before it is started anew.

use std::time::Duration;

use crate::worker::{Exit, Status};

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

/// Failures at the same point (the same rank with the same status) become patient; any other starts at once.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    point: Option<(u32, Status)>,
    repeats: u32,
}

impl Backoff {
    /// The wait after a failure with this root cause.
    pub(crate) fn after(&mut self, root: Exit) -> Duration {
        let point = Some((root.rank, root.status));
        self.repeats = if self.point == point { self.repeats.saturating_add(1) } else { 0 };
        self.point = point;
        match self.repeats {
            0 => Duration::ZERO,
            repeats => FIRST.saturating_mul(1 << (repeats - 1).min(16)).min(LONGEST),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn repeated_failures_wait_longer_and_others_do_not() {
        let root = |rank, status| Exit { local_rank: rank, rank, pid: 1, status, at: SystemTime::UNIX_EPOCH };
        let mut backoff = Backoff::default();
        let mut seconds = |rank, status| backoff.after(root(rank, status)).as_secs();
        let same = Status::Code(1);
        assert_eq!([0; 8].map(|rank| seconds(rank, same)), [0, 1, 2, 4, 8, 16, 30, 30]);
        assert_eq!([seconds(1, same), seconds(1, Status::Signal(1)), seconds(1, Status::Signal(1))], [0, 0, 1]);
    }
}
