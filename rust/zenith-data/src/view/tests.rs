//! Views of numbers: sample `i` of the files is the number `i`, and again as text.

use std::sync::Arc;

use super::{Indices, View};
use crate::ErrorKind;
use crate::dataset::{Block, Dataset};
use crate::field::{DType, Field, FieldKind, Schema};
use crate::gather::decode_block;
use crate::rows::{Column, RowPool, Rows};
use crate::storage::{Range, Source, Storage};
use crate::testing::MemoryStorage;

/// Blocks are read in parts of 64 numbers.
const PART_BYTES: u64 = 512;

/// Numbers from 0 on in blocks of given sizes, each also as text; the number is kept in the file.
#[derive(Debug)]
struct Numbers {
    schema: Schema,
    sources: Vec<Source>,
    blocks: Vec<Block>,
    epoch: u64,
}

pub(crate) fn storage(count: u64) -> MemoryStorage {
    MemoryStorage::new().with("numbers", (0..count).flat_map(u64::to_le_bytes).collect::<Vec<u8>>())
}

pub(crate) fn numbers(sizes: &[u64]) -> Arc<dyn Dataset> {
    let schema = Schema::new(vec![
        Field::dense("n", DType::I64, vec![]),
        Field { name: "text".into(), kind: FieldKind::Text, unit: None },
    ]);
    let blocks = sizes.iter().map(|&rows| Block { rows, decoded_bytes: 50 * rows }).collect();
    Arc::new(Numbers { schema, sources: storage(sizes.iter().sum()).sources(), blocks, epoch: 0 })
}

impl Dataset for Numbers {
    fn format(&self) -> &'static str {
        "Numbers"
    }

    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn sources(&self) -> &[Source] {
        &self.sources
    }

    fn at_epoch(&self, epoch: u64) -> Option<Arc<dyn Dataset>> {
        let (schema, sources, blocks) = (self.schema.clone(), self.sources.clone(), self.blocks.clone());
        (epoch != self.epoch).then(|| Arc::new(Self { schema, sources, blocks, epoch }) as Arc<dyn Dataset>)
    }

    fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    fn fingerprint(&self) -> &'static str {
        "0123456789abcdef0123456789abcdef"
    }

    fn ranges(&self, block: usize) -> Vec<Range> {
        let first: u64 = self.blocks[..block].iter().map(|block| block.rows).sum();
        vec![Range { source: 0, offset: 8 * first, len: 8 * self.blocks[block].rows }]
    }

    fn parts(&self, block: usize) -> Vec<Vec<Range>> {
        let whole = self.ranges(block)[0];
        let part = |start| Range { offset: whole.offset + start, len: PART_BYTES.min(whole.len - start), ..whole };
        (0..whole.len).step_by(PART_BYTES as usize).map(|start| vec![part(start)]).collect()
    }

    fn decode_part(&self, block: usize, _part: usize, bytes: &[bytes::Bytes], rows: &mut Rows) -> crate::Result<()> {
        self.decode(block, bytes, rows)
    }

    fn decode(&self, _block: usize, bytes: &[bytes::Bytes], rows: &mut Rows) -> crate::Result<()> {
        let numbers: Vec<u64> =
            bytes[0].chunks(8).map(|part| bytemuck::pod_read_unaligned::<u64>(part) + 1_000_000 * self.epoch).collect();
        rows.append_columns(&[(0, Column::W8(&numbers))])?;
        numbers.iter().for_each(|number| rows.push_varying(0, number.to_string().as_bytes()));
        Ok(())
    }
}

/// All samples as they stand in the blocks.
fn in_blocks(dataset: &dyn Dataset) -> Vec<u64> {
    let storage = storage(1 << 17);
    let layout = Arc::new(dataset.layout());
    let pool = RowPool::new(4);
    let mut found = Vec::new();
    for block in 0..dataset.blocks().len() {
        let sources: Vec<Source> =
            dataset.sources().iter().map(|source| Source { len: 8 << 17, ..source.clone() }).collect();
        let chunks = decode_block(dataset, block, &layout, &pool, |ranges| storage.submit(&sources, ranges)?.wait());
        let chunks = chunks.unwrap();
        for row in 0..dataset.blocks()[block].rows as usize {
            let (chunk, row) = (&chunks[row / layout.chunk_rows()], row % layout.chunk_rows());
            let number: u64 = bytemuck::pod_read_unaligned(&chunk.dense()[row * layout.stride()..][..8]);
            assert_eq!(chunk.varying(0).get(row), number.to_string().as_bytes());
            found.push(number);
        }
    }
    found
}

/// All samples as users count them.
fn all(dataset: &dyn Dataset) -> Vec<u64> {
    let found = in_blocks(dataset);
    match dataset.given_order() {
        Some(order) => {
            assert_eq!(order.len(), found.len());
            order.iter().map(|&place| found[place as usize]).collect()
        }
        None => found,
    }
}

fn list(numbers: &[u64]) -> View {
    View::Select(Indices::List(numbers.to_vec()))
}

fn split(fraction: f64, seed: u64, part: u32) -> View {
    View::Split { fraction, seed, part }
}

#[test]
fn a_selection_is_the_samples_in_the_order_given() {
    let base = numbers(&[10, 0, 1, 40_000, 30]);
    let scattered: Vec<u64> = (0..2000).map(|i| i * 27_143 % 40_041).collect();
    let backwards: Vec<u64> = (0..40_041).rev().collect();
    for given in [&[5, 1, 9][..], &[], &[40_040, 0, 40_040, 40_040], &scattered, &backwards, &[10, 11, 12, 3, 4]] {
        let view = list(given).over(std::slice::from_ref(&base)).unwrap();
        assert_eq!(all(&*view), given);
    }
    let runs = View::Select(Indices::Runs(vec![(5, 20), (9, 0), (0, 40_041)]));
    let expected: Vec<u64> = (5..25).chain(0..40_041).collect();
    assert_eq!(all(&*runs.over(&[base]).unwrap()), expected);
}

#[test]
fn blocks_follow_the_order_given_unless_that_decodes_too_often() {
    let base = numbers(&[100, 100, 100]);
    let of = |given: &[u64]| list(given).over(std::slice::from_ref(&base)).unwrap();
    for native in [vec![5, 1, 9], (0..300).collect(), (0..300).rev().collect(), vec![250, 251, 7, 3], vec![0; 1000]] {
        let view = of(&native);
        assert!(view.given_order().is_none(), "{native:?}");
        assert!(view.blocks().iter().all(|block| block.rows <= 100));
    }
    let mixed: Vec<u64> = (0..300).map(|i| i * 101 % 300).collect();
    let view = of(&mixed);
    assert!(view.given_order().is_some());
    assert_eq!(view.blocks().len(), 3);
    assert_eq!(in_blocks(&*view), (0..300).collect::<Vec<_>>());
    // Three times over is three times the samples, so decoding three times is no waste.
    let thrice: Vec<u64> = (0..300).cycle().take(900).collect();
    assert!(of(&thrice).given_order().is_none());
}

#[test]
fn what_does_not_exist_is_refused() {
    let base = numbers(&[10]);
    let refused = |view: View| view.over(std::slice::from_ref(&base)).unwrap_err();
    for view in [
        list(&[3, 10]),
        View::Select(Indices::Runs(vec![(3, u64::MAX)])),
        View::Select(Indices::Runs(vec![(3, 8)])),
        split(1.5, 0, 0),
        split(f64::NAN, 0, 0),
        split(0.5, 0, 2),
    ] {
        assert_eq!(refused(view).kind(), ErrorKind::InvalidArgument);
    }
    assert!(refused(list(&[3, 10])).message().contains("index 10"));
    assert!(View::Concat.over(&[]).is_err());
    assert!(list(&[0]).over(&[base.clone(), base.clone()]).is_err());
}

#[test]
fn a_split_is_disjoint_complete_and_of_the_size_asked_for() {
    for sizes in [&[][..], &[1], &[2, 0, 3], &[1000, 1, 7000, 333]] {
        let base = numbers(sizes);
        let total: u64 = sizes.iter().sum();
        for fraction in [0.0, 0.1, 0.5, 0.9, 1.0] {
            let [first, second] =
                [0, 1].map(|part| all(&*split(fraction, 3, part).over(std::slice::from_ref(&base)).unwrap()));
            assert_eq!(first.len() as u64, (fraction * total as f64).round() as u64);
            assert!(first.is_sorted() && second.is_sorted());
            let mut both = [first, second].concat();
            both.sort_unstable();
            assert_eq!(both, (0..total).collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_split_is_stable_and_grows_with_its_fraction() {
    let base = numbers(&[20]);
    let of = |fraction, seed| all(&*split(fraction, seed, 0).over(std::slice::from_ref(&base)).unwrap());
    assert_eq!(of(0.5, 0), of(0.5, 0));
    assert_ne!(of(0.5, 0), of(0.5, 1));
    let larger = of(0.8, 0);
    assert!(of(0.5, 0).iter().all(|sample| larger.contains(sample)));
}

#[test]
fn concat_is_one_after_another_and_views_nest() {
    let (one, two) = (numbers(&[10, 20]), numbers(&[5]));
    let empty = numbers(&[]);
    let both = View::Concat.over(&[empty.clone(), one.clone(), empty.clone(), two.clone(), empty]).unwrap();
    let expected: Vec<u64> = (0..30).chain(0..5).collect();
    assert_eq!(all(&*both), expected);
    assert_eq!(both.sources().len(), 5);

    let mixed: Vec<u64> = (0..35).map(|i| i * 11 % 35).collect();
    let picked = list(&mixed).over(&[both]).unwrap();
    assert!(picked.given_order().is_some());
    let values: Vec<u64> = mixed.iter().map(|&i| expected[i as usize]).collect();
    assert_eq!(all(&*picked), values);
    let again = list(&[34, 3, 3, 20]).over(std::slice::from_ref(&picked)).unwrap();
    assert_eq!(all(&*again), [34, 3, 3, 20].map(|i: usize| values[i]));
    let parts = [0, 1].map(|part| split(0.4, 1, part).over(std::slice::from_ref(&picked)).unwrap());
    let mut joined = all(&*View::Concat.over(&parts).unwrap());
    joined.sort_unstable();
    let mut sorted = values.clone();
    sorted.sort_unstable();
    assert_eq!(joined, sorted);
    let beside = View::Concat.over(&[two, picked]).unwrap();
    assert_eq!(all(&*beside), [(0..5).collect(), values].concat());
}

#[test]
fn a_block_that_is_taken_whole_is_read_in_the_parts_of_the_block_below() {
    let (one, two) = (numbers(&[10, 200]), numbers(&[130]));
    let both = View::Concat.over(&[one.clone(), two]).unwrap();
    let parts = |dataset: &dyn Dataset| -> Vec<usize> {
        (0..dataset.blocks().len()).map(|block| dataset.parts(block).len()).collect()
    };
    assert_eq!(parts(&*both), [1, 4, 3]);
    assert!(both.parts(2).iter().flatten().all(|range| range.source == 1));
    // All of the second block, some of the third, and a part of the first.
    let picked = View::Select(Indices::Runs(vec![(5, 205), (210, 129)])).over(std::slice::from_ref(&both)).unwrap();
    assert_eq!(parts(&*picked), [1, 4, 1]);
    assert_eq!(all(&*picked), (5..210).chain(0..129).collect::<Vec<_>>());
    let beside = View::Concat.over(&[picked, one]).unwrap();
    assert_eq!(parts(&*beside), [1, 4, 1, 1, 4]);
    assert_eq!(all(&*beside), (5..210).chain(0..129).chain(0..210).collect::<Vec<_>>());
}

#[test]
fn concat_names_the_field_that_differs() {
    let tokens = |seq_len, dtype: &str| -> Arc<dyn Dataset> {
        let storage = MemoryStorage::new().with("a", vec![0; 64]);
        let options = crate::format::tokens::TokensOptions { seq_len, dtype: dtype.into(), ..Default::default() };
        Arc::new(crate::format::tokens::Tokens::open(&storage, storage.sources(), options).unwrap())
    };
    let error = View::Concat.over(&[tokens(2, "uint16"), tokens(3, "uint16")]).unwrap_err();
    assert_eq!((error.kind(), error.place().field.as_deref()), (ErrorKind::InvalidArgument, Some("x")));
    let error = View::Concat.over(&[tokens(2, "uint16"), tokens(2, "uint32")]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(View::Concat.over(&[numbers(&[1]), tokens(2, "uint16")]).is_err());
}

#[test]
fn fingerprints_change_with_the_selection_and_not_with_its_spelling() {
    let base = numbers(&[10, 10]);
    let of = |view: View| view.over(std::slice::from_ref(&base)).unwrap().fingerprint().to_owned();
    assert_eq!(of(list(&[3, 4, 5, 9])), of(View::Select(Indices::Runs(vec![(3, 1), (4, 2), (9, 1)]))));
    let views = [
        list(&[]),
        list(&[3]),
        list(&[3, 5, 4]),
        list(&[3, 4, 5]),
        split(0.5, 0, 0),
        split(0.5, 0, 1),
        split(0.5, 1, 0),
        split(0.6, 0, 0),
        View::Concat,
    ];
    let mut found: Vec<String> = views.map(of).into();
    assert!(found.iter().all(|text| text.len() == 32));
    found.push(base.fingerprint().to_owned());
    found.sort_unstable();
    found.dedup();
    assert_eq!(found.len(), 10);
}

#[test]
fn the_epoch_reaches_the_datasets_below() {
    let base = numbers(&[10]);
    let picked = list(&[7, 2]).over(std::slice::from_ref(&base)).unwrap();
    let both = View::Concat.over(&[picked, split(0.2, 0, 0).over(&[base]).unwrap()]).unwrap();
    assert!(both.at_epoch(0).is_none());
    let moved = both.at_epoch(3).unwrap();
    assert_eq!(moved.fingerprint(), both.fingerprint());
    assert_eq!(all(&*moved), all(&*both).iter().map(|number| number + 3_000_000).collect::<Vec<_>>());
}

/// Which samples a split draws is part of what users keep: it must not change between versions.
#[test]
fn a_split_never_changes() {
    let base = numbers(&[20]);
    let part = all(&*split(0.25, 7, 0).over(&[base]).unwrap());
    assert_eq!(part, [7, 9, 11, 16, 19]);
}
