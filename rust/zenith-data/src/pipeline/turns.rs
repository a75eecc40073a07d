//! How many workers are at work at once. More than there are cores only where they wait for reads: otherwise they take the
//! cores away from each other and from the consumer, and hold more in the caches than fits.

use std::sync::atomic::Ordering;

use super::Stats;

/// Who works and who sleeps; kept under the pipeline's lock.
#[derive(Debug)]
pub(crate) struct Turns {
    cores: usize,
    at_work: usize,
    /// The one that lay down last gets up first: its caches are warmest, and those who are not needed touch no memory.
    sleepers: Vec<usize>,
    /// The consumer has waited for the first batch for long, so the reads that go on are slow ones.
    in_need: bool,
}

impl Turns {
    pub(crate) fn new(cores: usize) -> Self {
        Self { cores: cores.max(1), at_work: 0, sleepers: Vec::new(), in_need: false }
    }

    /// Whether one more may work.
    pub(crate) fn has_place(&self, stats: &Stats) -> bool {
        match useful(self.cores, stats) {
            Some(most) => self.at_work < most,
            None => self.in_need || self.at_work < self.cores,
        }
    }

    /// The consumer has waited in vain for some time.
    pub(crate) fn need(&mut self) {
        self.in_need = true;
    }

    /// Somebody to wake, where there is a place and somebody sleeps.
    pub(crate) fn wake(&mut self, stats: &Stats) -> Option<usize> {
        if self.has_place(stats) { self.sleepers.pop() } else { None }
    }

    pub(crate) fn begin(&mut self) {
        self.at_work += 1;
    }

    pub(crate) fn end(&mut self) {
        self.at_work -= 1;
    }

    pub(crate) fn lie_down(&mut self, worker: usize) {
        self.sleepers.push(worker);
    }

    /// Needed too where nobody woke the worker: a thread may wake by itself.
    pub(crate) fn get_up(&mut self, worker: usize) {
        self.sleepers.retain(|&sleeper| sleeper != worker);
    }
}

/// Workers that keep `cores` cores busy: `cores × (1 + waiting / computing)` in the epoch so far, the quotient rounded down,
/// because what is cached takes some time to read as well. `None` as long as nothing is known.
fn useful(cores: usize, stats: &Stats) -> Option<usize> {
    let waiting = stats.fetch_ns.load(Ordering::Relaxed);
    let computing = stats.decode_ns.load(Ordering::Relaxed) + stats.assemble_ns.load(Ordering::Relaxed);
    let quotient = usize::try_from(waiting.checked_div(computing)?).unwrap_or(usize::MAX);
    Some(cores.saturating_mul(quotient.saturating_add(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(fetch_ns: u64, decode_ns: u64) -> Stats {
        let stats = Stats::default();
        stats.fetch_ns.store(fetch_ns, Ordering::Relaxed);
        stats.decode_ns.store(decode_ns, Ordering::Relaxed);
        stats
    }

    #[test]
    fn what_waits_for_reads_leaves_its_core_to_others() {
        assert_eq!(useful(2, &after(0, 0)), None);
        assert_eq!(useful(2, &after(0, 100)), Some(2));
        assert_eq!(useful(2, &after(70, 100)), Some(2));
        assert_eq!(useful(2, &after(300, 100)), Some(8));
        assert_eq!(useful(4, &after(u64::MAX, 1)), Some(usize::MAX));
    }

    #[test]
    fn slow_first_reads_call_everybody() {
        let (mut turns, stats) = (Turns::new(1), Stats::default());
        assert!(turns.has_place(&stats));
        turns.begin();
        assert!(!turns.has_place(&stats));
        turns.need();
        assert!(turns.has_place(&stats));
        assert!(!turns.has_place(&after(0, 100)));
    }
}
