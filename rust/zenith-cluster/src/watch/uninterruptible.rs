//! Ranks that are stuck in the kernel (TW-5): states go in with their time, a verdict comes out.
//!
//! State `D` alone is not enough: whoever reads much from a slow disk is in it whenever somebody looks. A rank is stuck if it has
//! not run in between, by the kernel's own count of its switches.

use std::time::{Duration, Instant};

use super::hang::Watched;

/// What /proc says of a rank's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sleep {
    pub(super) is_uninterruptible: bool,
    /// How often it was taken from a processor.
    pub(super) switches: u64,
}

#[derive(Debug)]
pub(super) struct SleepWatch {
    limit: Duration,
    watched: Watched,
    /// Since when, and at which count.
    asleep: Vec<Option<(Duration, u64)>>,
}

impl SleepWatch {
    pub(super) fn new(limit: Duration, ranks: usize) -> Self {
        let watched = Watched::new(super::hang::looks_every(limit));
        Self { limit, watched, asleep: vec![None; ranks] }
    }

    /// The ranks that have been stuck for too long, and for how long. `None` is a rank that does not run.
    pub(super) fn look(&mut self, sleeps: &[Option<Sleep>], now: Instant) -> Option<(Vec<usize>, Duration)> {
        let now = self.watched.at(now);
        for (asleep, sleep) in self.asleep.iter_mut().zip(sleeps) {
            let stuck = sleep.filter(|sleep| sleep.is_uninterruptible).map(|sleep| sleep.switches);
            *asleep = stuck.map(|switches| asleep.filter(|(_, known)| *known == switches).unwrap_or((now, switches)));
        }
        let stuck = |(at, asleep): (usize, &Option<(Duration, u64)>)| {
            let time = now.saturating_sub((*asleep)?.0);
            (time >= self.limit).then_some((at, time))
        };
        let stuck: Vec<(usize, Duration)> = self.asleep.iter().enumerate().filter_map(stuck).collect();
        let longest = stuck.iter().map(|(_, time)| *time).max()?;
        Some((stuck.into_iter().map(|(at, _)| at).collect(), longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);
    const STEP: Duration = Duration::from_millis(500);
    const AWAKE: Option<Sleep> = Some(Sleep { is_uninterruptible: false, switches: 7 });

    fn stuck(switches: u64) -> Option<Sleep> {
        Some(Sleep { is_uninterruptible: true, switches })
    }

    /// When it is seen, if `state` tells the second rank's at every look.
    fn seen(state: impl Fn(u32) -> Option<Sleep>) -> Option<Duration> {
        let (mut watch, start) = (SleepWatch::new(LIMIT, 2), Instant::now());
        (0..40).find_map(|look| {
            let verdict = watch.look(&[AWAKE, state(look)], start + STEP * look)?;
            assert_eq!(verdict.0, [1]);
            Some(STEP * look)
        })
    }

    #[test]
    fn a_rank_that_does_not_come_back_is_seen_when_its_time_is_over() {
        assert_eq!(seen(|_| stuck(3)), Some(LIMIT));
        assert_eq!(seen(|look| if look < 4 { AWAKE } else { stuck(3) }), Some(LIMIT + 4 * STEP));
    }

    #[test]
    fn a_rank_that_runs_in_between_is_not_stuck() {
        assert_eq!(seen(|look| stuck(u64::from(look))), None, "it reads");
        assert_eq!(seen(|look| if look % 9 == 8 { AWAKE } else { stuck(3) }), None);
        assert_eq!(seen(|look| if look % 9 == 8 { None } else { stuck(3) }), None);
        assert_eq!(seen(|_| AWAKE), None);
    }
}
