//! How well an epoch mixes data that is sorted by label: the table of docs/shuffling.md.
//! `cargo run --release -p zenith-data --example shuffling`

use zenith_data::dataset::Block;
use zenith_data::plan::{Order, Permutation, Plan, choose_order};

const BLOCKS: usize = 400;
const BLOCK_ROWS: u64 = 2000;
const ROW_BYTES: u64 = 100;
const BATCH: usize = 256;
const SEEDS: u64 = 3;

fn main() -> zenith_data::Result<()> {
    println!(
        "Mean effective number of labels (1 / Σ share²) per batch of {BATCH}, {SEEDS} seeds; {BLOCKS} blocks of {BLOCK_ROWS} rows\n"
    );
    println!(
        "| blocks held | labels | full shuffle | Zenith | shuffle buffer, files in order | shuffle buffer over permuted blocks |"
    );
    println!("|--:|--:|--:|--:|--:|--:|");
    for (held, labels) in [(8, 10), (16, 10), (16, 200), (32, 200), (64, 200)] {
        let mut sums = [0.0; 4];
        for seed in 0..SEEDS {
            let orders = [
                permuted(total(), seed),
                zenith(held, seed)?,
                buffered(&(0..BLOCKS as u64).collect::<Vec<_>>(), held, seed),
                buffered(&permuted(BLOCKS as u64, seed), held, seed),
            ];
            for (sum, order) in sums.iter_mut().zip(orders) {
                *sum += effective_labels(&order, labels) / SEEDS as f64;
            }
        }
        let cells: Vec<String> = sums.iter().map(|mean| format!("{mean:.1}")).collect();
        println!("| {held} | {labels} | {} |", cells.join(" | "));
    }
    Ok(())
}

fn total() -> u64 {
    BLOCKS as u64 * BLOCK_ROWS
}

fn permuted(len: u64, seed: u64) -> Vec<u64> {
    // Distinct keys for distinct uses, so that no two orders of a row of the table are related.
    let permutation = Permutation::new(len, seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ len);
    (0..len as u32).map(|index| u64::from(permutation.map(index))).collect()
}

/// The engine's order when `held` blocks' bytes may be held.
fn zenith(held: u64, seed: u64) -> zenith_data::Result<Vec<u64>> {
    let blocks = [Block { rows: BLOCK_ROWS, decoded_bytes: BLOCK_ROWS * ROW_BYTES }; BLOCKS];
    let chosen = choose_order(&blocks, held * BLOCK_ROWS * ROW_BYTES, None)?;
    let order = Order { seed, epoch: 0, lanes: chosen.lanes, window: chosen.window, shuffle: true };
    let plan = Plan::new(&[BLOCK_ROWS; BLOCKS], &order)?;
    let mut samples = Vec::new();
    plan.resolve(0, 1, total() as usize, &mut samples);
    Ok(samples.iter().map(|sample| u64::from(sample.block) * BLOCK_ROWS + u64::from(sample.row)).collect())
}

/// A shuffle buffer of `held` blocks' rows over `blocks` in this order: each step hands out a random one of those held and
/// puts the next in its place.
fn buffered(blocks: &[u64], held: u64, seed: u64) -> Vec<u64> {
    let mut rows = blocks.iter().flat_map(|block| block * BLOCK_ROWS..(block + 1) * BLOCK_ROWS);
    let mut buffer: Vec<u64> = rows.by_ref().take((held * BLOCK_ROWS) as usize).collect();
    let mut state = seed;
    let mut order = Vec::with_capacity(total() as usize);
    while !buffer.is_empty() {
        let place = (random(&mut state) % buffer.len() as u64) as usize;
        order.push(buffer[place]);
        match rows.next() {
            Some(row) => buffer[place] = row,
            None => drop(buffer.swap_remove(place)),
        }
    }
    order
}

/// splitmix64.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// The mean over batches, the rows being sorted by label and the labels equally frequent.
fn effective_labels(order: &[u64], labels: u64) -> f64 {
    let batches = order.chunks_exact(BATCH);
    let count = batches.len() as f64;
    let effective = |batch: &[u64]| {
        let mut found = vec![0.0; labels as usize];
        batch.iter().for_each(|row| found[(row * labels / total()) as usize] += 1.0 / BATCH as f64);
        1.0 / found.iter().map(|share| share * share).sum::<f64>()
    };
    batches.map(effective).sum::<f64>() / count
}
