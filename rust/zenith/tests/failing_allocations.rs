//! Every allocation of opening a dataset and of one batch is let fail once: the outcome is an error of the engine, or the
//! end of the process with Rust's own message, which docs/datasets.md names; never a hang, a crash or a wrong batch.
#![expect(unsafe_code, reason = "an allocator that fails is an allocator")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![expect(clippy::disallowed_methods, reason = "the child is told by its environment what to do")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{ArrayRef, Float32Array, Int64Array, StringArray};
use arrow::record_batch::RecordBatch;
use zenith::{DataLoader, DataLoaderConfig, DataSource, Result};

const ROWS: i64 = 100;
const FAIL_AT: &str = "ZENITH_TEST_FAIL_AT";
const FILE: &str = "ZENITH_TEST_FILE";
/// Every how many-th allocation `make test` lets fail; `ZENITH_SOAK` asks for all of them.
const STEP: usize = 23;
const NEVER: u64 = u64::MAX;

struct Failing;

/// Allocations left until the one that fails.
static LEFT: AtomicU64 = AtomicU64::new(NEVER);

#[global_allocator]
static ALLOCATOR: Failing = Failing;

fn fails() -> bool {
    LEFT.load(Ordering::Relaxed) != NEVER && LEFT.fetch_sub(1, Ordering::Relaxed) == 0
}

// SAFETY: TEST-1: every call goes to the system's allocator as it is, or answers null, which any call may.
unsafe impl GlobalAlloc for Failing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if fails() {
            return std::ptr::null_mut();
        }
        // SAFETY: TEST-1.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if fails() {
            return std::ptr::null_mut();
        }
        // SAFETY: TEST-1.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        if fails() {
            return std::ptr::null_mut();
        }
        // SAFETY: TEST-1.
        unsafe { System.realloc(at, layout, bytes) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: TEST-1.
        unsafe { System.dealloc(at, layout) }
    }
}

/// Opens the file and adds up its first batch, which is all of it.
fn one_batch(path: &str) -> Result<i64> {
    let config = DataLoaderConfig::default().with_batch_size(ROWS as u64).with_workers(0);
    let loader = DataLoader::new(DataSource::from_path(path), config)?;
    let mut sum = 0;
    for batch in &loader {
        sum += batch?.values::<i64>("id")?.iter().sum::<i64>();
    }
    Ok(sum)
}

/// What the child process does; nothing without its variables.
#[test]
fn child() {
    let Ok(path) = std::env::var(FILE) else { return };
    let fail_at = std::env::var(FAIL_AT).unwrap().parse().unwrap();
    LEFT.store(fail_at, Ordering::Relaxed);
    let outcome = one_batch(&path);
    let left = LEFT.swap(NEVER, Ordering::Relaxed);
    match outcome {
        Ok(sum) if sum == (0..ROWS).sum::<i64>() => println!("right, {left} left"),
        Ok(sum) => println!("wrong: {sum}"),
        Err(error) => println!("error: {error}"),
    }
}

fn run(path: &Path, fail_at: u64) -> Output {
    let program = std::env::current_exe().unwrap();
    let arguments = ["--exact", "child", "--nocapture", "--test-threads=1"];
    Command::new(program).args(arguments).env(FILE, path).env(FAIL_AT, fail_at.to_string()).output().unwrap()
}

fn written(folder: &Path, name: &str) -> std::path::PathBuf {
    let path = folder.join(name);
    let columns: [(&str, ArrayRef); 3] = [
        ("id", Arc::new(Int64Array::from_iter_values(0..ROWS))),
        ("x", Arc::new(Float32Array::from_iter_values((0..ROWS).map(|id| id as f32)))),
        ("name", Arc::new(StringArray::from_iter_values((0..ROWS).map(|id| format!("n{id}"))))),
    ];
    let rows = RecordBatch::try_from_iter(columns).unwrap();
    let file = std::fs::File::create(&path).unwrap();
    if name.ends_with("parquet") {
        let mut writer = parquet::arrow::ArrowWriter::try_new(file, rows.schema(), None).unwrap();
        writer.write(&rows).unwrap();
        writer.close().unwrap();
    } else {
        let mut writer = arrow::ipc::writer::FileWriter::try_new(file, &rows.schema()).unwrap();
        writer.write(&rows).unwrap();
        writer.finish().unwrap();
    }
    path
}

/// A shard of a number and a text a sample.
fn shard(folder: &Path) -> std::path::PathBuf {
    let mut archive = Vec::new();
    for (id, (extension, filling)) in (0..ROWS).flat_map(|id| [("id", ""), ("txt", "x")].map(|member| (id, member))) {
        let content = format!("{id}{filling}");
        let mut block = [0; 1024];
        block[..4].copy_from_slice(format!("{id:04}").as_bytes());
        block[4] = b'.';
        block[5..5 + extension.len()].copy_from_slice(extension.as_bytes());
        block[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..154].copy_from_slice(format!("{sum:06o}").as_bytes());
        block[512..512 + content.len()].copy_from_slice(content.as_bytes());
        archive.extend_from_slice(&block);
    }
    archive.extend_from_slice(&[0; 1024]);
    let path = folder.join("a.tar");
    std::fs::write(&path, archive).unwrap();
    path
}

fn every_allocation_may_fail(name: &str) {
    const PLENTY: u64 = 1 << 40;
    let folder = tempfile::tempdir().unwrap();
    let path = if name.ends_with("tar") { shard(folder.path()) } else { written(folder.path(), name) };
    let text = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
    let whole = text(&run(&path, PLENTY));
    let left: u64 = whole.split("right, ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    let step = if std::env::var_os("ZENITH_SOAK").is_some() { 1 } else { STEP };
    let (mut errors, mut ends) = (0, 0);
    for fail_at in (0..PLENTY - left).step_by(step) {
        let output = run(&path, fail_at);
        let (said, complaint) = (text(&output), String::from_utf8_lossy(&output.stderr).into_owned());
        if output.status.success() && said.contains("error: ") {
            errors += 1;
        } else if output.status.signal() == Some(6) && complaint.contains("memory allocation of ") {
            ends += 1;
        } else {
            // An optional allocation, such as that of a cache, may fail without harm.
            assert!(said.contains("right, "), "allocation {fail_at}: {:?}\n{said}\n{complaint}", output.status);
        }
    }
    println!("{name}: {errors} errors, {ends} ends with a message");
    assert!(errors + ends > 0);
}

#[test]
fn parquet() {
    every_allocation_may_fail("a.parquet");
}

#[test]
fn webdataset() {
    every_allocation_may_fail("a.tar");
}

#[test]
fn arrow_ipc() {
    every_allocation_may_fail("a.arrow");
}
