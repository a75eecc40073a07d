//! How fast a loader reads the benchmark's table, and where its threads spend their time.
//! `cargo run --release -p zenith --example loader_speed -- FILE [WORKERS] [EPOCHS] [shuffled|file]`

use std::process::ExitCode;
use std::time::{Duration, Instant};

use zenith::data::format::{ArrowIpcOptions, ColumnOptions, ParquetOptions, StackSource};
use zenith::{DatasetSpec, Loader, LoaderConfig, Next, OpenDataset};

const USAGE: &str = "usage: loader_speed FILE [WORKERS] [EPOCHS] [shuffled|file]\n\
    FILE is Parquet or Arrow IPC with the columns f00 to f27 and label. Defaults: 2 workers, 5 epochs, shuffled.";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().filter(|path| !path.starts_with('-')).ok_or(USAGE)?;
    let workers: usize = arguments.next().map_or(Ok(2), |text| text.parse()).map_err(|_| USAGE)?;
    let epochs: u64 = arguments.next().map_or(Ok(5), |text| text.parse()).map_err(|_| USAGE)?;
    let shuffle = match arguments.next().as_deref() {
        None | Some("shuffled") => true,
        Some("file") => false,
        Some(_) => return Err(USAGE.into()),
    };
    let features = (0..28).map(|index| format!("f{index:02}")).collect();
    let stack = vec![("x".into(), StackSource::Many(features)), ("y".into(), StackSource::One("label".into()))];
    let select = ColumnOptions { stack, ..ColumnOptions::default() };
    let paths = vec![path.clone()];
    let spec = if path.ends_with(".parquet") {
        DatasetSpec::Parquet { paths, options: ParquetOptions { select, ..ParquetOptions::default() } }
    } else {
        DatasetSpec::ArrowIpc { paths, options: ArrowIpcOptions { select, ..ArrowIpcOptions::default() } }
    };
    let config = LoaderConfig { batch_size: 4096, num_workers: workers, shuffle, ..LoaderConfig::default() };
    let loader = Loader::new(OpenDataset::open(&spec)?, config)?;
    for epoch in 0..epochs {
        let started = Instant::now();
        let iter = loader.epoch(epoch, 0)?;
        let mut rows = 0;
        loop {
            match iter.next(Duration::from_secs(1))? {
                Next::Batch(batch) => rows += batch.rows,
                Next::Pending => {}
                Next::End => break,
            }
        }
        let seconds = started.elapsed().as_secs_f64();
        let stats = iter.stats();
        let per_row = |ns: u64| ns as f64 / rows as f64;
        println!(
            "{:.2} M rows/s; ns a row: fetch {:.1}, decode {:.1}, assemble {:.1}, idle {:.1}",
            rows as f64 / seconds / 1e6,
            per_row(stats.fetch_ns),
            per_row(stats.decode_ns),
            per_row(stats.assemble_ns),
            per_row(stats.worker_idle_ns)
        );
    }
    Ok(())
}
