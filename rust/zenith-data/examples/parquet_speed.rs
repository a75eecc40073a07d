//! How fast one thread turns Parquet that is already in memory into rows.
//! `cargo run --release --features testing --example parquet_speed -- FILE [REPEATS]`

use std::sync::Arc;
use std::time::Instant;

use zenith_data::dataset::{Dataset, Ports};
use zenith_data::format::{Parquet, ParquetOptions};
use zenith_data::rows::{RowLayout, RowPool, Rows};
use zenith_data::sidecar::NoSidecar;
use zenith_data::storage::Storage;
use zenith_data::testing::MemoryStorage;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("which file?")?;
    let repeats: usize = arguments.next().map_or(Ok(5), |text| text.parse())?;
    let storage = MemoryStorage::new().with("speed.parquet", std::fs::read(path)?);
    let opened = Instant::now();
    let dataset =
        Parquet::open(Ports { storage: &storage, sidecar: &NoSidecar }, storage.sources(), &ParquetOptions::default())?;
    println!("opened in {:?}: {} blocks", opened.elapsed(), dataset.blocks().len());
    let layout = Arc::new(RowLayout::new(dataset.schema()));
    let pool = RowPool::new(64);
    for _ in 0..repeats {
        let (started, mut rows_total, mut bytes_total) = (Instant::now(), 0u64, 0u64);
        for block in 0..dataset.blocks().len() {
            let bytes = storage.submit(dataset.sources(), &dataset.ranges(block))?.wait()?;
            bytes_total += bytes.iter().map(|part| part.len() as u64).sum::<u64>();
            let mut rows = Rows::new(layout.clone(), pool.clone());
            dataset.decode(block, &bytes, &mut rows)?;
            rows_total += rows.complete_rows()? as u64;
        }
        let seconds = started.elapsed().as_secs_f64();
        let per_row = seconds * 1e9 / rows_total as f64;
        let millions = rows_total as f64 / seconds / 1e6;
        println!(
            "{millions:.2} M rows/s, {per_row:.1} ns a row of {} bytes, {} MB read",
            layout.stride(),
            bytes_total >> 20
        );
    }
    Ok(())
}
