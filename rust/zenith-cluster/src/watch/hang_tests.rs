//! Hangs, without a process.

use super::*;

const FIRST: Duration = Duration::from_secs(100);
const SILENCE: Duration = Duration::from_secs(10);
const STEP: Duration = Duration::from_millis(500);
const LIMITS: HangLimits = HangLimits { silence: SILENCE, first: Some(FIRST) };

/// A gang that is looked at in time.
struct Bench {
    watch: HangWatch,
    sights: Vec<Sight>,
    now: Instant,
    beats: u64,
}

impl Bench {
    /// All ranks run, and write files unless `output` says otherwise.
    fn new(limits: HangLimits, ranks: usize, output: Option<u64>) -> Self {
        let sight = Sight { is_running: true, beat: None, output };
        let watch = HangWatch::new(limits, ranks);
        let mut bench = Self { watch, sights: vec![sight; ranks], now: Instant::now(), beats: 0 };
        assert_eq!(bench.look(), None);
        bench
    }

    fn look(&mut self) -> Option<Hang> {
        let all_started = self.sights.iter().any(|sight| sight.is_running);
        self.watch.look(&self.sights, all_started, self.now)
    }

    fn beat(&mut self, rank: usize) {
        self.beats += 1;
        self.sights[rank].beat = Some((SystemTime::UNIX_EPOCH, self.beats));
    }

    fn write(&mut self, rank: usize) {
        *self.sights[rank].output.as_mut().expect("a file") += 1;
    }

    /// Looks on; gives the first hang and when it was seen.
    fn pass(&mut self, time: Duration, mut each: impl FnMut(&mut Self)) -> Option<(Duration, Hang)> {
        let start = self.now;
        while self.now - start < time {
            self.now += STEP;
            each(self);
            if let Some(hang) = self.look() {
                return Some((self.now - start, hang));
            }
        }
        None
    }

    fn idle(&mut self, time: Duration) -> Option<(Duration, Hang)> {
        self.pass(time, |_| {})
    }
}

/// At the first look behind the limit, and not before.
fn fires(seen: Option<(Duration, Hang)>, limit: Duration, kind: Kind, ranks: &[usize]) {
    let (at, hang) = seen.expect("a hang");
    assert!(at >= limit && at <= limit + 2 * STEP, "{at:?}");
    assert_eq!((hang.kind, &hang.ranks[..]), (kind, ranks));
}

#[test]
fn output_of_one_rank_is_progress_of_all() {
    let mut gang = Bench::new(LIMITS, 2, Some(0));
    assert_eq!(gang.pass(SILENCE * 5, |gang| gang.write(1)), None);
    fires(gang.idle(FIRST), SILENCE, Kind::Progress, &[0, 1]);
}

#[test]
fn the_first_progress_has_a_time_of_its_own() {
    let mut gang = Bench::new(LIMITS, 2, Some(0));
    fires(gang.idle(FIRST * 2), FIRST, Kind::FirstProgress, &[0, 1]);
    let mut gang = Bench::new(LIMITS, 2, Some(0));
    assert_eq!(gang.idle(FIRST / 2), None);
    gang.write(0);
    fires(gang.idle(FIRST), SILENCE, Kind::Progress, &[1, 0]);
}

#[test]
fn a_rank_with_heartbeats_is_judged_alone_and_by_them() {
    let mut gang = Bench::new(LIMITS, 3, Some(0));
    gang.beat(1);
    assert_eq!(gang.look(), None);
    // Its output is no sign of life any more, and that of the others does not help it.
    let seen = gang.pass(FIRST, |gang| (0..3).for_each(|rank| gang.write(rank)));
    fires(seen, SILENCE, Kind::Heartbeat, &[1]);
}

#[test]
fn a_slow_rank_is_not_a_hung_one() {
    let mut gang = Bench::new(LIMITS, 2, None);
    let mut looks = 0;
    // A beat every 9.5 seconds, and one in each half second.
    let seen = gang.pass(FIRST * 3, |gang| {
        looks += 1;
        gang.beat(0);
        if looks % 19 == 0 {
            gang.beat(1);
        }
    });
    assert_eq!(seen, None);
}

#[test]
fn without_files_and_heartbeats_nothing_is_seen() {
    let blind = HangLimits { silence: SILENCE, first: None };
    let mut gang = Bench::new(blind, 2, None);
    assert_eq!(gang.idle(FIRST * 3), None);
    gang.beat(0);
    fires(gang.idle(FIRST), SILENCE, Kind::Progress, &[1, 0]);
    let mut asked = Bench::new(LIMITS, 2, None);
    fires(asked.idle(FIRST * 2), FIRST, Kind::FirstProgress, &[0, 1]);
}

#[test]
fn time_in_which_nobody_looked_does_not_count() {
    let mut gang = Bench::new(LIMITS, 1, Some(0));
    gang.write(0);
    assert_eq!(gang.idle(SILENCE / 2), None);
    // Suspended, all of it.
    gang.now += Duration::from_secs(86_400);
    assert_eq!(gang.look(), None);
    let (at, hang) = gang.idle(FIRST).expect("a hang");
    assert!(at > Duration::from_secs(2) && hang.silence < SILENCE * 2, "{at:?} {hang:?}");
}

#[test]
fn ranks_that_have_ended_do_not_hang_and_the_others_have_their_time() {
    let mut gang = Bench::new(LIMITS, 2, Some(0));
    gang.beat(0);
    let seen = gang.pass(SILENCE * 3, |gang| {
        gang.beat(0);
        gang.write(1);
    });
    assert_eq!(seen, None);
    gang.sights[0].is_running = false;
    fires(gang.idle(FIRST), SILENCE, Kind::Progress, &[1]);
    gang.sights[1].is_running = false;
    assert_eq!(gang.idle(FIRST), None, "nobody is left");

    let mut gang = Bench::new(LIMITS, 2, Some(0));
    assert_eq!(gang.idle(SILENCE), None);
    gang.sights[0].is_running = false;
    fires(gang.idle(FIRST), FIRST - SILENCE, Kind::FirstProgress, &[1]);
}

#[test]
fn nobody_is_judged_before_all_have_started() {
    let mut gang = Bench::new(LIMITS, 1, Some(0));
    gang.watch = HangWatch::new(LIMITS, 1);
    gang.sights[0].is_running = false;
    assert_eq!(gang.idle(FIRST * 2), None);
    gang.sights[0].is_running = true;
    fires(gang.idle(FIRST * 2), FIRST, Kind::FirstProgress, &[0]);
}

#[test]
fn silences_are_told() {
    let mut gang = Bench::new(LIMITS, 2, Some(0));
    gang.write(0);
    assert_eq!(gang.idle(SILENCE / 2), None);
    let silences: Vec<u128> = gang.watch.silences().map(|(_, silence)| silence.as_millis()).collect();
    assert_eq!(silences, [4500, 5000]);
}

proptest::proptest! {
    /// HANG-1, and nobody is forgotten: whatever happens, a hang is seen exactly when the last progress lies that far back.
    #[test]
    fn a_hang_is_seen_neither_early_nor_much_later(moves in proptest::collection::vec((0usize..3, 0u8..3), 1..60)) {
        let mut gang = Bench::new(LIMITS, 3, Some(0));
        let mut last = gang.now;
        let mut has_progressed = false;
        for (rank, what) in moves {
            gang.now += STEP * 3;
            if what == 0 {
                gang.write(rank);
                (last, has_progressed) = (gang.now, true);
            }
            let limit = if has_progressed { SILENCE + BEATS_EVERY } else { FIRST };
            let silence = gang.now - last;
            proptest::prop_assert_eq!(gang.look().is_some(), silence >= limit, "{:?}", silence);
        }
    }
}
