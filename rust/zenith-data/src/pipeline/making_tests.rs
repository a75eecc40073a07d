//! Values that are made when a batch is put together: by however many hands, and when some cannot be made.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::batch::FieldData;
use crate::dataset::Block;
use crate::field::{DType, Field, FieldKind, Schema};
use crate::plan::{Order, SampleRef, Shards, Tail};
use crate::rows::{Column, Rows, Slot};
use crate::storage::{Range, Source};
use crate::testing::{FaultyMemory, MemoryStorage};
use crate::transform::{self, DrawKey, Transform};
use crate::{Error, ErrorKind};

const COUNT: u64 = 120;
const BLOCK: u64 = 30;
const BATCH: u64 = 16;

/// Sample `i` lies in the file as eight bytes, and is delivered as `[i, its key]` and as `i`.
#[derive(Debug)]
struct Encoded {
    schema: Schema,
    sources: Vec<Source>,
    blocks: Vec<Block>,
    transform: Arc<dyn Transform>,
}

/// Refuses these numbers; panics at the last of them if asked to.
#[derive(Debug)]
struct Pair {
    refused: Vec<u64>,
    panics: bool,
}

impl Transform for Pair {
    fn kind(&self) -> FieldKind {
        FieldKind::Dense { dtype: DType::U64, shape: vec![2] }
    }

    fn is_random(&self) -> bool {
        true
    }

    fn describe(&self) -> String {
        "pair".into()
    }

    fn apply(
        &self,
        transform::Encoded { bytes, .. }: transform::Encoded<'_>,
        key: DrawKey,
        into: &mut [u8],
    ) -> Result<()> {
        let number = u64::from_le_bytes(bytes.try_into().map_err(|_| Error::corrupt("not eight bytes"))?);
        into[..8].copy_from_slice(bytes);
        if self.refused.contains(&number) {
            assert!(!self.panics, "a bug");
            return Err(Error::corrupt("not a pair").at_offset(3));
        }
        into[8..].copy_from_slice(&key.0.to_le_bytes());
        Ok(())
    }
}

impl Dataset for Encoded {
    fn format(&self) -> &'static str {
        "Encoded"
    }

    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn sources(&self) -> &[Source] {
        &self.sources
    }

    fn layout(&self) -> RowLayout {
        RowLayout::with_transforms(&self.schema, &[Some(self.transform.clone()), None])
    }

    fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    fn fingerprint(&self) -> &'static str {
        "0123456789abcdef0123456789abcdef"
    }

    fn ranges(&self, block: usize) -> Vec<Range> {
        vec![Range { source: 0, offset: 8 * BLOCK * block as u64, len: 8 * BLOCK }]
    }

    fn decode(&self, block: usize, bytes: &[Bytes], rows: &mut Rows) -> Result<()> {
        let first = BLOCK * block as u64;
        let numbers: Vec<u64> = (first..first + BLOCK).collect();
        let keys: Vec<u64> = numbers.iter().map(|number| number ^ 0xabc).collect();
        let key = rows.layout().key().unwrap();
        let Slot::Dense { offset, .. } = rows.layout().slots()[1] else { panic!("the number is dense") };
        rows.append_columns(&[(key, Column::W8(&keys)), (offset, Column::W8(&numbers))])?;
        let keeps = rows.keeps_encoded();
        bytes[0].chunks(8).for_each(|value| rows.push_varying(0, if keeps { value } else { &[] }));
        Ok(())
    }

    fn encoded_at(&self, block: usize, row: u64, field: usize) -> Option<Range> {
        (field == 0).then_some(Range { source: 0, offset: 8 * (BLOCK * block as u64 + row), len: 8 })
    }
}

struct Still;

impl Clock for Still {
    fn now_ns(&self) -> u64 {
        0
    }
}

/// Lists in memory.
#[derive(Default)]
struct Listed(Mutex<Vec<(SampleRef, Error)>>);

impl Quarantine for Listed {
    fn listed(&self, _: u32) -> Option<Error> {
        None
    }

    fn add(&self, _: u32, _: &Error) -> Result<()> {
        Err(Error::internal("no block is bad"))
    }

    fn listed_sample(&self, sample: SampleRef) -> Option<Error> {
        let listed = self.0.lock().unwrap();
        listed.iter().find(|(other, _)| *other == sample).map(|(_, error)| error.clone())
    }

    fn add_sample(&self, sample: SampleRef, why: &Error) -> Result<()> {
        self.0.lock().unwrap().push((sample, why.clone()));
        Ok(())
    }
}

struct Case {
    refused: Vec<u64>,
    panics: bool,
    on_error: OnError,
    workers: usize,
    world: u64,
    shards: Vec<u64>,
    quarantine: Option<Arc<Listed>>,
}

impl Case {
    fn new(refused: &[u64], on_error: OnError, workers: usize) -> Self {
        Self {
            refused: refused.to_vec(),
            panics: false,
            on_error,
            workers,
            world: 1,
            shards: vec![0],
            quarantine: None,
        }
    }

    /// The numbers of each batch, those of one shard after those of another, or the error that came in place of one: whether encoded values are kept or read again.
    fn epoch(&self) -> Vec<Result<Vec<u64>>> {
        let (kept, again) = (self.run(false), self.run(true));
        let texts = |found: &[Result<Vec<u64>>]| {
            found.iter().map(|batch| batch.clone().map_err(|error| error.to_string())).collect::<Vec<_>>()
        };
        assert_eq!(texts(&kept), texts(&again));
        kept
    }

    fn run(&self, again: bool) -> Vec<Result<Vec<u64>>> {
        self.run_with(again, Arc::new(Pair { refused: self.refused.clone(), panics: self.panics }))
    }

    fn run_with(&self, again: bool, transform: Arc<dyn Transform>) -> Vec<Result<Vec<u64>>> {
        let mut storage = MemoryStorage::new().with("f", (0..COUNT).flat_map(u64::to_le_bytes).collect::<Vec<u8>>());
        storage.again = again;
        let number = Field::dense("n", DType::U64, vec![]);
        let dataset = Encoded {
            schema: Schema::new(vec![Field { name: "pair".into(), kind: transform.kind(), unit: None }, number]),
            sources: storage.sources(),
            blocks: vec![Block { rows: BLOCK, decoded_bytes: 32 * BLOCK }; (COUNT / BLOCK) as usize],
            transform,
        };
        let sizes: Vec<u64> = dataset.blocks.iter().map(|block| block.rows).collect();
        let order = Order { seed: 0, epoch: 0, lanes: 1, window: 1, shuffle: false };
        let shards = Shards::new(self.world, &self.shards).unwrap();
        let tail = if self.shards.len() > 1 { Tail::Pad } else { Tail::Uneven };
        let job = Job {
            storage: Arc::new(storage),
            dataset: Arc::new(dataset),
            memory: FaultyMemory::new(usize::MAX),
            clock: Arc::new(Still),
            plan: Arc::new(Plan::new(&sizes, &order).unwrap()),
            epoch: Epoch::of_shards(COUNT, 0, BATCH, shards, tail).unwrap(),
            delivery: Delivery::default(),
            limits: Limits {
                prefetch_bytes: 100,
                prefetch_batches: None,
                ahead_bytes: 1000,
                on_error: self.on_error,
                skip_max: 1000,
            },
            workers: self.workers,
            cores: 4,
            row_pool: RowPool::new(0),
            quarantine: self.quarantine.clone().map(|listed| listed as Arc<dyn Quarantine>),
        };
        let pipeline = Pipeline::start(job).unwrap();
        let mut found = Vec::new();
        for _ in 0..1000 {
            match pipeline.next(Duration::from_secs(10)) {
                Ok(Next::Batch(batch)) => found.push(Ok(numbers(&batch))),
                Ok(Next::End) => return found,
                Ok(Next::Pending) => panic!("the pipeline hangs"),
                Err(error) => found.push(Err(error)),
            }
        }
        panic!("the epoch has no end")
    }
}

/// The numbers of a batch, whose fields must agree.
fn numbers(batch: &Batch<Vec<u8>>) -> Vec<u64> {
    batch.fields.chunks(2).flat_map(|fields| numbers_of_shard(fields, batch.rows)).collect()
}

fn numbers_of_shard(fields: &[FieldData<Vec<u8>>], rows: usize) -> Vec<u64> {
    let [FieldData::Dense(pairs), FieldData::Dense(plain)] = fields else { panic!("two dense fields") };
    let (plain, _) = plain.as_chunks::<8>();
    assert_eq!((pairs.len() % rows, plain.len()), (0, rows));
    let read = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
    pairs.chunks(pairs.len() / rows).zip(plain).for_each(|(pair, plain)| {
        assert_eq!(read(&pair[..8]), read(plain));
        assert_eq!(read(&pair[8..16]), read(plain) ^ 0xabc);
    });
    plain.iter().map(|plain| read(plain)).collect()
}

fn all(found: &[Result<Vec<u64>>]) -> Vec<u64> {
    found.iter().flat_map(|batch| batch.clone().unwrap()).collect()
}

#[test]
fn many_hands_make_the_same_batches() {
    for workers in [0, 1, 2, 7] {
        let found = Case::new(&[], OnError::Raise, workers).epoch();
        assert_eq!(found.len(), 8);
        assert_eq!(all(&found), (0..COUNT).collect::<Vec<_>>());
    }
}

/// As `Pair`; the samples of the last batch wait a while for each other.
#[derive(Debug)]
struct Company {
    pair: Pair,
    /// How many are being made now, and were at most.
    hands: Mutex<(usize, usize)>,
    came: Condvar,
}

impl Transform for Company {
    /// So large that each value is a part of its own; it begins with the pair.
    fn kind(&self) -> FieldKind {
        FieldKind::Dense { dtype: DType::U64, shape: vec![10_000] }
    }

    fn is_random(&self) -> bool {
        true
    }

    fn describe(&self) -> String {
        "company".into()
    }

    fn apply(&self, encoded: transform::Encoded<'_>, key: DrawKey, into: &mut [u8]) -> Result<()> {
        if encoded.bytes[0] as u64 >= COUNT - COUNT % BATCH {
            let mut hands = self.hands.lock().unwrap();
            hands.0 += 1;
            hands.1 = hands.1.max(hands.0);
            self.came.notify_all();
            let alone = |hands: &mut (usize, usize)| hands.1 < 2;
            let (mut hands, _) = self.came.wait_timeout_while(hands, Duration::from_millis(500), alone).unwrap();
            hands.0 -= 1;
        }
        self.pair.apply(encoded, key, &mut into[..16])
    }
}

#[test]
fn nobody_leaves_before_the_last_batch_is_made() {
    let pair = Pair { refused: vec![], panics: false };
    let company = Arc::new(Company { pair, hands: Mutex::default(), came: Condvar::new() });
    let case = Case::new(&[], OnError::Raise, 2);
    assert_eq!(all(&case.run_with(false, company.clone())), (0..COUNT).collect::<Vec<_>>());
    assert_eq!(company.hands.lock().unwrap().1, 2);
}

#[test]
fn a_sample_that_cannot_be_made_is_lost_alone() {
    let bad = [0, 17, 18, 31, 119];
    for workers in [0, 1, 2, 7] {
        let found = Case::new(&bad, OnError::Skip, workers).epoch();
        assert_eq!(all(&found), (0..COUNT).filter(|number| !bad.contains(number)).collect::<Vec<_>>());
        let raised = Case::new(&bad, OnError::Raise, workers).epoch();
        let errors: Vec<_> = raised.iter().filter_map(|batch| batch.as_ref().err()).collect();
        assert_eq!(errors.len(), 3);
        assert_eq!(errors[1].to_string(), "f, byte 3, row 17, field \"pair\": not a pair");
    }
    let whole: Vec<u64> = (0..BATCH).collect();
    let found = Case::new(&whole, OnError::Skip, 2).epoch();
    assert_eq!(all(&found), (BATCH..COUNT).collect::<Vec<_>>());
}

#[test]
fn several_ranks_repeat_a_good_sample() {
    let case = Case { world: 2, ..Case::new(&[0, 2, 34, 36, 38], OnError::Skip, 2) };
    let found = all(&case.epoch());
    let expected: Vec<u64> = (0..COUNT / 2)
        .map(|k| match 2 * k {
            0 | 2 => 4,
            34 | 36 | 38 => 32,
            number => number,
        })
        .collect();
    assert_eq!(found, expected);
    let whole: Vec<u64> = (0..2 * BATCH).collect();
    let found = Case { world: 2, ..Case::new(&whole, OnError::Skip, 2) }.epoch();
    assert!(found[0].as_ref().unwrap_err().message().contains("all samples of the batch"));
}

#[test]
fn shards_of_one_process_are_made_apart_and_repeat_good_samples_of_any() {
    for workers in [0, 2, 7] {
        for bad in [&[][..], &[0, 50, 3 * BATCH + 2, 119]] {
            let case = Case { world: 3, shards: vec![0, 2], ..Case::new(bad, OnError::Skip, workers) };
            let found = case.epoch();
            assert_eq!(found.len(), 3);
            for (index, batch) in found.iter().enumerate() {
                let first = index as u64 * 3 * BATCH;
                let rows = BATCH.min((COUNT - first) / 3);
                let mut expected: Vec<u64> =
                    [0, 2].into_iter().flat_map(|shard| (0..rows).map(move |row| first + 3 * row + shard)).collect();
                let mut good = *expected.iter().find(|number| !bad.contains(number)).unwrap();
                for number in &mut expected {
                    if !bad.contains(number) {
                        good = *number;
                    }
                    *number = good;
                }
                assert_eq!(batch.as_ref().unwrap(), &expected, "{workers} workers, batch {index}");
            }
        }
    }
}

#[test]
fn what_is_listed_is_not_made_again() {
    let listed = Arc::new(Listed::default());
    let case = Case { quarantine: Some(listed.clone()), ..Case::new(&[5, 70], OnError::Quarantine, 2) };
    let first = all(&case.epoch());
    assert_eq!(listed.0.lock().unwrap().len(), 2);
    let again = Case { refused: vec![], ..case };
    assert_eq!(all(&again.epoch()), first);
}

#[test]
fn a_panic_is_never_passed_over() {
    let found = Case { panics: true, ..Case::new(&[20], OnError::Skip, 2) }.epoch();
    let errors: Vec<_> = found.iter().filter_map(|batch| batch.as_ref().err()).collect();
    assert_eq!((errors.len(), errors[0].kind()), (1, ErrorKind::Internal));
}
