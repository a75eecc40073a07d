//! How long a gang waits before it is started anew.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

/// Failures at the same point (as the same rank with the same status) become patient; any other starts at once.
#[derive(Debug)]
pub(crate) struct Backoff<Point> {
    point: Option<Point>,
    repeats: u32,
}

impl<Point> Default for Backoff<Point> {
    fn default() -> Self {
        Self { point: None, repeats: 0 }
    }
}

impl<Point: PartialEq> Backoff<Point> {
    /// The wait after a failure at this point.
    pub(crate) fn after(&mut self, point: Point) -> Duration {
        let point = Some(point);
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
    use super::*;

    #[test]
    fn repeated_failures_wait_longer_and_others_do_not() {
        let mut backoff = Backoff::default();
        let mut seconds = |rank: u32, code: i32| backoff.after((rank, code)).as_secs();
        assert_eq!([0; 8].map(|rank| seconds(rank, 1)), [0, 1, 2, 4, 8, 16, 30, 30]);
        assert_eq!([seconds(1, 1), seconds(1, 9), seconds(1, 9)], [0, 0, 1]);
    }
}
