use super::*;

const STALL: Duration = Duration::from_secs(2);

/// Rounds over batches that are their own numbers; a request is answered under its (device, batch).
struct Desk {
    rounds: Rounds<u64, (i32, u64)>,
    batches: u64,
    now: Duration,
    interrupts: u64,
    served: Vec<(i32, u64, Option<u64>)>,
    failed: Vec<(i32, String)>,
}

impl Desk {
    fn new(devices: usize, batches: u64) -> Self {
        let rounds = Rounds::new(devices, devices, 4);
        let (served, failed) = (Vec::new(), Vec::new());
        Self { rounds, batches, now: Duration::ZERO, interrupts: 0, served, failed }
    }

    fn ask(&mut self, run: i64, device: i32, batch: u64) {
        let ask = Ask { run, batch, shard: device as usize, device };
        let verdicts = self.rounds.ask(ask, (device, batch), self.now, self.interrupts);
        self.note(verdicts);
        self.pull();
    }

    /// Pulls what is wanted, as the thread of a feed does.
    fn pull(&mut self) {
        while self.rounds.wants() {
            let next = self.rounds.next();
            if next < self.batches {
                self.rounds.deliver(next);
            } else {
                self.rounds.finish(Ok(()));
            }
        }
        let verdicts = self.rounds.settle();
        self.note(verdicts);
    }

    fn watch(&mut self) {
        let verdicts = self.rounds.watch(self.now, self.interrupts, STALL);
        self.note(verdicts);
    }

    fn note(&mut self, verdicts: Vec<Verdict<u64, (i32, u64)>>) {
        for verdict in verdicts {
            match verdict {
                Verdict::Serve { to: (device, number), ask, batch } => {
                    assert_eq!((ask.device, ask.batch), (device, number));
                    self.served.push((device, number, batch.as_deref().copied()));
                }
                Verdict::Fail { to: (device, _), error } => self.failed.push((device, error.to_string())),
            }
        }
    }
}

#[test]
fn one_device_gets_batches_by_number_again_and_past_the_end() {
    let mut desk = Desk::new(1, 6);
    for batch in [0, 1, 2, 1, 0, 3, 5, 4, 6, 7, 100] {
        desk.ask(1, 0, batch);
    }
    let numbers: Vec<_> = desk.served.iter().map(|&(_, asked, got)| (asked, got)).collect();
    let expected = [0, 1, 2, 1, 0, 3, 5, 4].map(|batch| (batch, Some(batch)));
    assert_eq!(numbers[..8], expected);
    assert_eq!(numbers[8..], [(6, None), (7, None), (100, None)]);
    assert!(desk.failed.is_empty());
}

#[test]
fn outside_of_the_window_is_an_error_of_the_run() {
    let mut desk = Desk::new(1, 100);
    for batch in 0..10 {
        desk.ask(1, 0, batch);
    }
    desk.ask(1, 0, 5);
    assert!(
        desk.failed[0].1.contains("batch 5 is out of the window") && desk.failed[0].1.contains("from 6 on"),
        "{:?}",
        desk.failed
    );
    desk.ask(2, 0, 14);
    assert!(desk.failed[1].1.contains("batch 14 is out of the window: the next batch is 10"));
    desk.ask(3, 0, 13);
    desk.ask(3, 0, 10);
    assert_eq!(desk.served[10..], [(0, 13, Some(13)), (0, 10, Some(10))]);
    assert!(desk.rounds.held.len() <= 4 + AHEAD as usize);
}

#[test]
fn nobody_is_served_before_everybody_has_asked() {
    let mut desk = Desk::new(3, 10);
    desk.ask(1, 2, 0);
    desk.ask(1, 0, 0);
    // The same call twice in a program.
    desk.ask(1, 0, 0);
    assert!(desk.served.is_empty());
    desk.ask(1, 1, 0);
    assert_eq!(desk.served.len(), 4);
    // Again, in the same run: all of them again.
    desk.ask(1, 1, 0);
    assert_eq!(desk.served.len(), 4);
    desk.ask(1, 0, 0);
    desk.ask(1, 2, 0);
    assert_eq!(desk.served.len(), 7);
}

#[test]
fn a_device_that_does_not_come_fails_the_run_and_no_other() {
    let mut desk = Desk::new(3, 10);
    for device in [0, 2] {
        desk.ask(1, device, 0);
    }
    desk.now = STALL - Duration::from_millis(1);
    desk.watch();
    assert!(desk.failed.is_empty());
    desk.now = STALL;
    desk.watch();
    assert_eq!(desk.failed.len(), 2);
    assert!(desk.failed[0].1.contains("1 of 3 devices did not ask for batch 0 within 2 s"), "{}", desk.failed[0].1);
    // It comes late, and fails too.
    desk.ask(1, 1, 0);
    assert_eq!((desk.failed.len(), desk.served.len()), (3, 0));
    for device in 0..3 {
        desk.ask(2, device, 0);
    }
    assert_eq!(desk.served.len(), 3);
}

#[test]
fn what_is_not_ready_in_time_fails() {
    let mut rounds: Rounds<u64, ()> = Rounds::new(1, 1, 4);
    assert!(rounds.ask(Ask { run: 1, batch: 0, shard: 0, device: 0 }, (), Duration::ZERO, 0).is_empty());
    let verdicts = rounds.watch(STALL, 0, STALL);
    let [Verdict::Fail { error, .. }] = &verdicts[..] else { panic!("{verdicts:?}") };
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(error.to_string().contains("was not ready after 2 s"));
}

#[test]
fn an_interrupt_fails_the_runs_under_way_for_all_devices() {
    let mut desk = Desk::new(2, 10);
    desk.interrupts = 7;
    for device in 0..2 {
        desk.ask(1, device, 0);
    }
    desk.ask(1, 0, 1);
    desk.interrupts = 8;
    desk.watch();
    desk.ask(1, 1, 1);
    assert_eq!(desk.failed.len(), 2);
    assert!(desk.failed.iter().all(|(_, text)| text.contains("SIGINT")));
    for device in 0..2 {
        desk.ask(2, device, 1);
    }
    assert_eq!(desk.served.len(), 4);
}

#[test]
fn what_cannot_be_read_is_told_to_all_devices_and_what_came_before_it_is_served() {
    let mut desk = Desk::new(2, 0);
    desk.rounds.deliver(0);
    desk.rounds.finish(Err(Error::corrupt("page 7 is torn")));
    for batch in 0..2 {
        for device in 0..2 {
            desk.ask(1, device, batch);
        }
    }
    assert_eq!(desk.served.len(), 2);
    assert_eq!(desk.failed.iter().filter(|(_, text)| text.contains("page 7 is torn")).count(), 2);
}

#[test]
fn a_restart_fails_what_waits_and_begins_anew() {
    let mut desk = Desk::new(2, 10);
    desk.ask(1, 0, 0);
    let verdicts = desk.rounds.restart(&Error::invalid("elsewhere"));
    desk.note(verdicts);
    desk.ask(1, 1, 0);
    assert_eq!(desk.failed.len(), 2);
    for device in 0..2 {
        desk.ask(2, device, 0);
    }
    assert_eq!(desk.served.len(), 2);
}

#[test]
fn an_unknown_shard_is_refused() {
    let mut desk = Desk::new(1, 10);
    desk.ask(1, 3, 0);
    assert!(desk.failed[0].1.contains("shard 3 was asked for, but the feed has 1"));
}
