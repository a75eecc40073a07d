//! What holds for every plan: properties over ragged blocks, any world size and any batch size.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;

fn rows() -> impl Strategy<Value = Vec<u64>> {
    prop_oneof![
        3 => prop::collection::vec(prop_oneof![0_u64..3, 0_u64..60], 0..25),
        1 => prop::collection::vec(Just(32_u64), 1..20),
        1 => prop::collection::vec(Just(1_u64), 1..200),
        1 => prop::collection::vec(300_u64..500, 1..3),
    ]
}

fn order() -> impl Strategy<Value = Order> {
    (any::<u64>(), 0_u64..5, 0_u32..7, prop_oneof![1_u64..12, 1_u64..100, Just(u64::MAX)], prop::bool::weighted(0.85))
        .prop_map(|(seed, epoch, bits, window, shuffle)| Order { seed, epoch, lanes: 1 << bits, window, shuffle })
}

fn tail() -> impl Strategy<Value = Tail> {
    prop_oneof![Just(Tail::DropLast), Just(Tail::Pad), Just(Tail::Fill), Just(Tail::Uneven)]
}

fn all(plan: &Plan) -> Vec<SampleRef> {
    (0..plan.len()).filter_map(|position| plan.sample(position)).collect()
}

/// The same order, told sample by sample.
fn given_order(rows: &[u64], order: &Order) -> Plan {
    let plan = Plan::new(rows, order).expect("valid");
    let starts: Vec<u64> = rows.iter().scan(0, |next, rows| Some(std::mem::replace(next, *next + rows))).collect();
    let given: Vec<u64> =
        all(&plan).iter().map(|sample| starts[sample.block as usize] + u64::from(sample.row)).collect();
    Plan::in_given_order(rows, order, given.into()).expect("valid")
}

fn rank_of(rank: u64, world: u64) -> Shards {
    Shards::of_rank(rank, world).expect("valid")
}

fn positions(batch: BatchPlan, world: u64) -> impl Iterator<Item = u64> {
    (0..batch.count).map(move |turn| batch.start + turn * world)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn a_plan_is_a_permutation(rows in rows(), order in order()) {
        let plan = Plan::new(&rows, &order).expect("valid");
        let mut samples = all(&plan);
        if order.shuffle {
            samples.sort_unstable();
        }
        let expected: Vec<_> = (0_u32..).zip(&rows)
            .flat_map(|(block, rows)| (0..*rows as u32).map(move |row| SampleRef { block, row })).collect();
        prop_assert_eq!(samples, expected);
        prop_assert_eq!(plan.sample(plan.len()), plan.sample(0));
    }

    #[test]
    fn resolving_many_equals_one_by_one(
        rows in rows(), order in order(), start in 0_u64..1200, step in 1_u64..70, count in 0_usize..600,
    ) {
        let plan = Plan::new(&rows, &order).expect("valid");
        let mut out = vec![SampleRef { block: 7, row: 7 }];
        plan.resolve(start, step, count, &mut out);
        let expected: Vec<_> = (0..count as u64).filter_map(|turn| plan.sample(start + turn * step)).collect();
        prop_assert_eq!(&out[1..], expected);
    }

    /// Batches of any size at any number of ranks tile the positions, and so does what is left after any of them.
    #[test]
    fn ranks_share_out_every_position_and_any_state_resumes(
        plan_len in 0_u64..700, tail in tail(), first in (1_u64..40, 1_u64..18), then in (1_u64..40, 1_u64..18), k in 0_u64..6,
    ) {
        let from = Epoch::new(plan_len, 0, first.0, first.1, 0, Tail::Uneven).expect("valid").position_after(k);
        let (batch_size, world) = then;
        let mut seen = HashMap::new();
        let mut samples = HashSet::new();
        for rank in 0..world {
            let epoch = Epoch::new(plan_len, from, batch_size, world, rank, tail).expect("valid");
            for index in 0..epoch.batches() {
                let batch = epoch.batch(index);
                prop_assert!(batch.count >= 1 && batch.count <= batch_size);
                prop_assert!(batch.count == batch_size || index + 1 == epoch.batches());
                let global = from + index * batch_size * world;
                for position in positions(batch, world) {
                    prop_assert_eq!(position % world, rank);
                    prop_assert!((global..global + batch_size * world).contains(&position));
                    prop_assert!(position < epoch.end());
                    prop_assert_eq!(seen.insert(position, rank), None);
                }
            }
            samples.insert(epoch.samples());
        }
        let left = plan_len - from;
        let expected = match tail {
            Tail::DropLast => left / (batch_size * world) * batch_size * world,
            Tail::Pad => left.div_ceil(world) * world,
            Tail::Fill => left.div_ceil(batch_size * world) * batch_size * world,
            Tail::Uneven => left,
        };
        prop_assert_eq!(seen.len() as u64, expected);
        prop_assert!((from..from + expected).all(|position| seen.contains_key(&position)));
        prop_assert!(tail == Tail::Uneven || samples.len() == 1);
    }

    #[test]
    fn a_schedule_has_every_row_when_it_is_needed(
        rows in rows(), order in order(), given in prop::bool::weighted(0.2), world in 1_u64..18,
        own in prop::collection::hash_set(0_u64..18, 1..5), from in 0_u64..400, batch_size in 1_u64..20,
    ) {
        let plan = if given { given_order(&rows, &order) } else { Plan::new(&rows, &order).expect("valid") };
        let own: HashSet<u64> = own.into_iter().map(|shard| shard % world).collect();
        let shards = Shards::new(world, &own.iter().copied().collect::<Vec<_>>()).expect("valid");
        let from = from.min(plan.len());
        let epoch = Epoch::of_shards(plan.len(), from, batch_size, shards.clone(), Tail::Pad).expect("valid");
        let uses: Vec<_> = epoch.schedule(&plan).collect();
        prop_assert!(uses.is_sorted_by_key(|one| one.first));
        let regular: HashMap<_, _> =
            uses.iter().filter(|one| one.first < plan.len()).map(|one| (one.block, one)).collect();
        prop_assert_eq!(regular.len(), uses.iter().filter(|one| one.first < plan.len()).count(), "a block twice");
        prop_assert_eq!(plan.schedule(from, plan.len(), &shards).count(), regular.len());
        let late: HashMap<_, _> = uses.iter().filter(|one| one.first >= plan.len()).map(|one| (one.first, one)).collect();
        for one in &uses {
            prop_assert!(one.first >= from && own.contains(&(one.first % world)));
            prop_assert!(one.releases.is_sorted_by_key(|release| release.after));
            let mut ranges: Vec<_> = one.releases.iter().map(|release| release.rows.clone()).collect();
            ranges.sort_unstable_by_key(|range| range.start);
            let end = ranges.iter().try_fold(0, |end, range| (range.start == end && range.end > end).then_some(range.end));
            prop_assert_eq!(end.map(u64::from), Some(rows[one.block as usize]), "releases tile the block");
        }
        let mut needed = HashSet::new();
        for position in (from..epoch.end()).filter(|position| own.contains(&(position % world))) {
            let sample = plan.sample(position).expect("not empty");
            let one = if position < plan.len() { regular.get(&sample.block) } else { late.get(&position) };
            let Some(one) = one else { return Err(TestCaseError::fail(format!("no use for position {position}"))) };
            prop_assert_eq!(one.block, sample.block);
            prop_assert!(one.first <= position);
            let release = one.releases.iter().find(|release| release.rows.contains(&sample.row)).expect("tiled");
            prop_assert!(release.after > position);
            needed.insert(sample.block);
        }
        // Elsewhere a window of the rank may touch a block none of whose samples it draws.
        if world == 1 && from == 0 {
            prop_assert_eq!(needed.len(), regular.len());
        }
    }

    /// One rank decodes nothing twice; several do so only where a cut between ranks falls inside a block.
    #[test]
    fn ranks_that_divide_the_lanes_read_their_own_blocks(rows in rows(), order in order(), bits in 0_u32..7) {
        let order = Order { shuffle: true, ..order };
        let plan = Plan::new(&rows, &order).expect("valid");
        let world = 1_u64 << bits.min(plan.lane_bits);
        let uses: Vec<u32> =
            (0..world).flat_map(|rank| plan.schedule(0, plan.len(), &rank_of(rank, world)).map(|one| one.block)).collect();
        let distinct: HashSet<_> = uses.iter().copied().collect();
        prop_assert!(uses.len() - distinct.len() < world as usize);
    }
}

fn golden(plan: &Plan) -> Vec<(u32, u32)> {
    all(plan).iter().map(|sample| (sample.block, sample.row)).collect()
}

/// The order is part of every checkpoint: a change here is a new version of the state, never an edit of these numbers.
#[test]
fn a_given_order_is_kept_and_checked() {
    let (rows, order) = ([7, 0, 5], Order { seed: 3, epoch: 1, lanes: 2, window: 4, shuffle: true });
    let (shuffled, told) = (Plan::new(&rows, &order).unwrap(), given_order(&rows, &order));
    assert_eq!(all(&told), all(&shuffled));
    let (mut one, mut other) = (Vec::new(), Vec::new());
    told.resolve(5, 3, 9, &mut one);
    shuffled.resolve(5, 3, 9, &mut other);
    assert_eq!(one, other);
    for wrong in [vec![0; 11], vec![12; 12]] {
        assert!(Plan::in_given_order(&rows, &order, wrong.into()).is_err());
    }
}

#[test]
fn the_order_never_changes() {
    let order = Order { seed: 1, epoch: 2, lanes: 4, window: 5, shuffle: true };
    let plan = Plan::new(&[7, 0, 5, 9, 2], &order).expect("valid");
    let expected = [
        [(2, 0), (3, 1), (0, 6), (3, 8)],
        [(2, 4), (3, 2), (0, 5), (4, 1)],
        [(2, 1), (3, 0), (0, 3), (3, 6)],
        [(2, 3), (3, 5), (0, 4), (4, 0)],
        [(0, 0), (3, 4), (0, 1), (3, 7)],
    ];
    let all = golden(&plan);
    assert_eq!(all[..20], *expected.as_flattened());
    assert_eq!(all[20..], [(2, 2), (3, 3), (0, 2)]);
    let plan = Plan::new(&[1000; 1000], &Order { lanes: 16, window: 900, ..order }).expect("valid");
    let mut samples = Vec::new();
    plan.resolve(0, 1, 1_000_000, &mut samples);
    let folded =
        samples.iter().fold(0, |key, sample| key::absorb(key, u64::from(sample.block) << 32 | u64::from(sample.row)));
    assert_eq!(folded, 13_792_573_360_119_635_051);
}

#[test]
fn file_order_is_file_order() {
    let order = Order { seed: 1, epoch: 2, lanes: 3, window: 0, shuffle: false };
    let plan = Plan::new(&[2, 0, 20_000], &order).expect("lanes and window mean nothing");
    assert_eq!(plan.sample(2), Some(SampleRef { block: 2, row: 0 }));
    let uses: Vec<_> = plan.schedule(1, plan.len(), &rank_of(0, 1)).collect();
    assert_eq!(uses.len(), 2);
    assert_eq!(
        uses[0],
        BlockUse {
            block: 0,
            first: 1,
            releases: vec![Release { rows: 0..1, after: 1 }, Release { rows: 1..2, after: 2 }],
        }
    );
    let after: Vec<_> = uses[1].releases.iter().map(|release| release.after).collect();
    assert_eq!(after, [8194, 16386, 20_002]);
}

#[test]
fn wrong_orders_are_refused() {
    let order = Order { seed: 0, epoch: 0, lanes: 12, window: 5, shuffle: true };
    assert!(Plan::new(&[1], &order).is_err_and(|error| error.message().contains("lanes=16")));
    assert!(
        Plan::new(&[1], &Order { lanes: 4, window: 0, ..order }).is_err_and(|error| error.message().contains("window"))
    );
}

#[test]
fn epochs_and_seeds_differ() {
    let order = Order { seed: 0, epoch: 0, lanes: 4, window: 64, shuffle: true };
    let samples = |order| all(&Plan::new(&[50; 20], &order).expect("valid"));
    let base = samples(order);
    for other in [Order { epoch: 1, ..order }, Order { seed: 1, ..order }] {
        let same = samples(other).iter().zip(&base).filter(|(one, two)| one == two).count();
        assert!(same < 12, "{same} of 1000 samples at the same position");
    }
}

/// How many equally frequent labels would meet each other as rarely as those in batches of 256 do.
fn effective_labels(labels: &[u64]) -> f64 {
    let mut meetings = 0;
    for batch in labels.chunks_exact(256) {
        let mut counts = HashMap::new();
        batch.iter().for_each(|label| *counts.entry(label).or_insert(0_u64) += 1);
        meetings += counts.values().map(|count| count * (count - 1)).sum::<u64>();
    }
    (labels.len() / 256 * 256 * 255) as f64 / meetings as f64
}

/// A shuffle buffer of `size` over the blocks in the order `blocks`, as WebDataset and tf.data have it.
fn through_buffer(blocks: &[u64], block_rows: u64, size: usize, label: impl Fn(u64) -> u64) -> Vec<u64> {
    let mut stream = key::Stream::new(1);
    let (mut buffer, mut out) = (Vec::new(), Vec::new());
    for sample in blocks.iter().flat_map(|block| block * block_rows..(block + 1) * block_rows) {
        buffer.push(label(sample));
        if buffer.len() > size {
            out.push(buffer.swap_remove(stream.below(buffer.len() as u64) as usize));
        }
    }
    while !buffer.is_empty() {
        out.push(buffer.swap_remove(stream.below(buffer.len() as u64) as usize));
    }
    out
}

/// Sorted data, blocks of equal size, a budget of `budget` blocks: effective labels in a batch against those of a shuffle
/// buffer of the same bytes. A buffer also has blocks in decoding that its size leaves out; ours counts them.
///
/// | budget in blocks, labels | ours | buffer in file order | buffer over permuted blocks |
/// |---|---|---|---|
/// | 8, 10   | 5.0  | 1.2  | 6.4  |
/// | 16, 10  | 6.9  | 1.5  | 7.8  |
/// | 16, 200 | 18.1 | 16.4 | 30.3 |
/// | 32, 200 | 36.0 | 31.5 | 55.4 |
/// | 64, 200 | 70.6 | 59.8 | 94.6 |
#[test]
fn sorted_data_is_mixed_within_the_budget() {
    for (budget, label_count) in [(8, 10), (16, 10), (16, 200), (32, 200), (64, 200)] {
        let (block_rows, count) = (256_u64, 400_u64);
        let (total, buffer_rows) = (block_rows * count, budget * block_rows);
        let blocks = vec![crate::dataset::Block { rows: block_rows, decoded_bytes: block_rows * 100 }; count as usize];
        let chosen = choose_order(&blocks, buffer_rows * 100, None).expect("valid");
        let order = Order { seed: 3, epoch: 0, lanes: chosen.lanes, window: chosen.window, shuffle: true };
        let plan = Plan::new(&vec![block_rows; count as usize], &order).expect("valid");
        let label = |sample: u64| sample * label_count / total;
        let ours: Vec<_> =
            all(&plan).iter().map(|s| label(u64::from(s.block) * block_rows + u64::from(s.row))).collect();
        let in_file_order: Vec<_> = (0..count).collect();
        let mut permuted = in_file_order.clone();
        let mut stream = key::Stream::new(9);
        (1..permuted.len()).rev().for_each(|last| permuted.swap(last, stream.below(last as u64 + 1) as usize));
        let ours = effective_labels(&ours);
        let [in_file_order, permuted] = [in_file_order, permuted]
            .map(|blocks| effective_labels(&through_buffer(&blocks, block_rows, buffer_rows as usize, label)));
        let estimate = choose::resident_bytes(chosen.lanes, block_rows as f64, chosen.window as f64);
        let held = held_rows(&plan) + 3.0 * block_rows as f64;
        let case = format!(
            "{budget}, {label_count}: {ours:.1}, {in_file_order:.1}, {permuted:.1}; {held:.0} of {estimate:.0}"
        );
        assert!(ours >= 1.05 * in_file_order, "{case}");
        assert!(ours >= 0.55 * permuted, "{case}");
        assert!((0.9..1.1).contains(&(held / estimate)), "{case}");
    }
}

/// Rows that one rank holds on average if it decodes blocks as late as it may.
fn held_rows(plan: &Plan) -> f64 {
    let rows = |release: &Release| f64::from(release.rows.end - release.rows.start);
    let held = |one: &BlockUse| -> f64 {
        one.releases.iter().map(|release| rows(release) * (release.after - one.first) as f64).sum()
    };
    plan.schedule(0, plan.len(), &rank_of(0, 1)).map(|one| held(&one)).sum::<f64>() / plan.len() as f64
}
