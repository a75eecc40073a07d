//! The pipeline when the disk or the memory fails: every call once.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::ErrorKind;
use crate::batch::FieldData;
use crate::plan::{Order, Tail};
use crate::testing::{FaultyMemory, FaultyStorage};
use crate::view::tests::{numbers, storage};

const SIZES: [u64; 6] = [7, 30, 1, 16, 25, 3];
const BATCH: u64 = 5;
const NEVER: usize = usize::MAX;

struct Still;

impl Clock for Still {
    fn now_ns(&self) -> u64 {
        0
    }
}

/// The batches of an epoch in file order, or the error that came in place of one.
fn epoch(read_fails: usize, slab_fails: usize, on_error: OnError, workers: usize) -> Vec<Result<Vec<i64>>> {
    let dataset = numbers(&SIZES);
    let count: u64 = SIZES.iter().sum();
    let order = Order { seed: 0, epoch: 0, lanes: 1, window: 1, shuffle: false };
    let job = Job {
        storage: Arc::new(FaultyStorage::new(storage(count), read_fails)),
        dataset,
        memory: FaultyMemory::new(slab_fails),
        clock: Arc::new(Still),
        plan: Arc::new(Plan::new(&SIZES, &order).unwrap()),
        epoch: Epoch::new(count, 0, BATCH, 1, 0, Tail::Uneven).unwrap(),
        delivery: Delivery::default(),
        limits: Limits {
            prefetch_bytes: 1000,
            prefetch_batches: None,
            ahead_bytes: 1000,
            on_error,
            skip_max: u64::MAX,
        },
        workers,
        cores: 2,
        row_pool: RowPool::new(0),
        quarantine: None,
    };
    let pipeline = Pipeline::start(job).unwrap();
    let mut found = Vec::new();
    for _ in 0..1000 {
        match pipeline.next(Duration::from_secs(10)) {
            Ok(Next::Batch(batch)) => found.push(Ok(values(&batch))),
            Ok(Next::End) => return found,
            Ok(Next::Pending) => panic!("the pipeline hangs"),
            Err(error) => found.push(Err(error)),
        }
    }
    panic!("the epoch has no end")
}

fn values(batch: &Batch<Vec<u8>>) -> Vec<i64> {
    let FieldData::Dense(slab) = &batch.fields[0] else { return Vec::new() };
    slab.chunks(8).map(|bytes| i64::from_ne_bytes(bytes.try_into().unwrap())).collect()
}

#[test]
fn a_read_that_fails_costs_the_batches_that_need_it_or_its_samples() {
    let whole = epoch(NEVER, NEVER, OnError::Raise, 0);
    assert_eq!(whole.iter().flatten().flatten().copied().collect::<Vec<_>>(), (0..82).collect::<Vec<_>>());
    for workers in [0, 1, 3] {
        for fails in 0..SIZES.len() {
            let raised = epoch(fails, NEVER, OnError::Raise, workers);
            assert_eq!(raised.len(), whole.len());
            let errors: Vec<_> = raised.iter().filter_map(|batch| batch.as_ref().err()).collect();
            assert!(!errors.is_empty() && errors.iter().all(|error| error.kind() == ErrorKind::Io), "{errors:?}");
            for (batch, good) in raised.iter().zip(&whole) {
                assert!(batch.is_err() || batch.as_ref().unwrap() == good.as_ref().unwrap());
            }
            let skipped = epoch(fails, NEVER, OnError::Skip, workers);
            let kept: Vec<i64> = skipped.into_iter().flat_map(Result::unwrap).collect();
            let lost: Vec<i64> = (0..82).filter(|number| !kept.contains(number)).collect();
            assert!(kept.is_sorted());
            // With several threads the failing call may be for another block than in file order.
            let start = lost[0] as u64;
            let block = SIZES.iter().scan(0, |at, rows| Some(std::mem::replace(at, *at + rows)));
            let (_, rows) = block.zip(SIZES).find(|(at, _)| *at == start).unwrap();
            assert_eq!(lost, (start as i64..(start + rows) as i64).collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_slab_that_is_refused_costs_its_batch_alone() {
    let whole = epoch(NEVER, NEVER, OnError::Raise, 0);
    for workers in [0, 1, 3] {
        for fails in 0..whole.len() {
            // Memory that is short says nothing about the files, so nothing is skipped.
            let found = epoch(NEVER, fails, OnError::Skip, workers);
            assert_eq!(found.len(), whole.len());
            let errors: Vec<_> = found.iter().filter_map(|batch| batch.as_ref().err()).collect();
            assert_eq!(errors.len(), 1);
            assert_eq!(errors[0].kind(), ErrorKind::Budget);
            for (batch, good) in found.iter().zip(&whole) {
                assert!(batch.is_err() || batch.as_ref().unwrap() == good.as_ref().unwrap());
            }
        }
    }
}
