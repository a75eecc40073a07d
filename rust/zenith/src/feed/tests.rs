use std::sync::atomic::{AtomicBool, Ordering};

use zenith_data::batch::{Batch, FieldData};
use zenith_data::memory::BatchMemory;
use zenith_data::{DType, Field, FieldKind};

use super::*;

const OPTIONS: FeedOptions = FeedOptions { devices: 2, window: 4, stall: Duration::from_secs(20) };

/// Batches of two rows that hold their number; the gate stops them.
struct Numbers {
    next: i32,
    end: i32,
    memory: HostMemory,
    gate: Arc<AtomicBool>,
}

impl Supply for Numbers {
    fn next(&mut self, wait: Duration) -> Result<Next<Slab>> {
        if self.gate.load(Ordering::SeqCst) {
            std::thread::sleep(wait.min(Duration::from_millis(5)));
            return Ok(Next::Pending);
        }
        if self.next == self.end {
            return Ok(Next::End);
        }
        let mut slab = self.memory.slab(8)?;
        slab.as_mut()[..4].copy_from_slice(&self.next.to_ne_bytes());
        slab.as_mut()[4..].copy_from_slice(&(-self.next).to_ne_bytes());
        self.next += 1;
        Ok(Next::Batch(Batch { rows: 2, fields: vec![FieldData::Dense(slab)], position_after: 0 }))
    }
}

fn supply(end: i32, gate: &Arc<AtomicBool>) -> Box<Numbers> {
    Box::new(Numbers { next: 0, end, memory: HostMemory::new(0), gate: gate.clone() })
}

fn feed(options: FeedOptions, end: i32, gate: &Arc<AtomicBool>) -> Feed {
    let field = Field { name: "x".into(), kind: FieldKind::Dense { dtype: DType::I32, shape: vec![] }, unit: None };
    let layout = Layout::new(&[field], 2, 2, true).unwrap();
    Feed::new(layout, options, supply(end, gate), HostMemory::new(0)).unwrap()
}

/// What each of two devices gets of the batches `0..count`, asked for at the same time.
fn ask_all(feed: &Feed, run: i64, count: u64) -> [Vec<Result<Option<i32>>>; 2] {
    std::thread::scope(|scope| {
        [0, 1]
            .map(|device: i32| {
                scope.spawn(move || {
                    let ask = |batch| feed.ask(Ask { run, batch, shard: device as usize, device });
                    let value = |rows: Served| rows.field(0).map(|bytes| i32::from_ne_bytes(bytes.try_into().unwrap()));
                    (0..count).map(|batch| ask(batch).map(value)).collect()
                })
            })
            .map(|thread| thread.join().unwrap())
    })
}

#[test]
fn devices_get_their_rows_and_nothing_past_the_end_epoch_after_epoch() {
    let open = Arc::default();
    let feed = feed(OPTIONS, 50, &open);
    for run in 0..3 {
        let [first, second] = ask_all(&feed, run, 52);
        for batch in 0..52 {
            let expected = (batch < 50).then_some(batch as i32);
            assert_eq!(first[batch].as_ref().unwrap(), &expected);
            assert_eq!(second[batch].as_ref().unwrap(), &expected.map(|value| -value));
        }
        feed.restart(supply(50, &open));
    }
}

#[test]
fn a_supply_that_stalls_is_an_error_in_time_and_can_be_asked_again() {
    let gate = Arc::new(AtomicBool::new(true));
    let feed = feed(FeedOptions { stall: Duration::from_millis(200), ..OPTIONS }, 5, &gate);
    for answers in ask_all(&feed, 1, 1) {
        assert_eq!(answers[0].as_ref().unwrap_err().kind(), ErrorKind::TimedOut);
    }
    gate.store(false, Ordering::SeqCst);
    let slow = FeedOptions { stall: Duration::from_millis(200), ..OPTIONS };
    assert!(slow.check().is_ok());
    let mut run = 2;
    // The thread may take longer than that to come by on a machine that is busy.
    while ask_all(&feed, run, 1).iter().any(|answers| answers[0].is_err()) {
        run += 1;
        assert!(run < 100);
    }
}

#[test]
fn closing_ends_every_wait() {
    let gate = Arc::new(AtomicBool::new(true));
    let feed = feed(OPTIONS, 5, &gate);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| ask_all(&feed, 1, 2));
        std::thread::sleep(Duration::from_millis(20));
        feed.close();
        for answers in asked.join().unwrap() {
            assert!(answers.iter().all(|answer| answer.as_ref().unwrap_err().to_string().contains("closed")));
        }
    });
}

#[test]
fn options_are_checked() {
    assert!(FeedOptions { window: 1, ..OPTIONS }.check().is_err());
    assert!(FeedOptions { stall: Duration::ZERO, ..OPTIONS }.check().is_err());
}
