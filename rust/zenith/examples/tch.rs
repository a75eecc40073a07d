//! Trains a small network with libtorch from Rust, on tensors that alias the engine's memory: `make tch-example`.
//! TCH-1: tensors over a batch, and what autograd keeps of them, are gone when the function that borrows the batch returns.
#![expect(unsafe_code, reason = "tch makes tensors over foreign memory by an unsafe function only")]

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float32Array};
use arrow::record_batch::RecordBatch;
use tch::nn::{self, Module, Optimizer, OptimizerConfig};
use tch::{Device, Kind, Reduction, Tensor};
use zenith::data::format::{ColumnOptions, ParquetOptions, StackSource};
use zenith::{Batch, DataLoader, DataLoaderConfig, DatasetSpec};

const ROWS: usize = 100_000;
const INPUTS: usize = 8;
const EPOCHS: usize = 3;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("table.parquet");
    write_table(&path)?;
    let loader = open(&path)?;

    tch::manual_seed(0);
    let variables = nn::VarStore::new(Device::Cpu);
    let root = variables.root();
    let network = nn::seq()
        .add(nn::linear(&root / "first", INPUTS as i64, 32, nn::LinearConfig::default()))
        .add_fn(Tensor::tanh)
        .add(nn::linear(&root / "second", 32, 1, nn::LinearConfig::default()));
    let mut optimizer = nn::Adam::default().build(&variables, 1e-2)?;
    let mut losses = Vec::new();
    for epoch in 1..=EPOCHS {
        let (mut sum, mut batches) = (0.0, 0);
        for batch in &loader {
            sum += step(&batch?, &network, &mut optimizer)?;
            batches += 1;
        }
        losses.push(sum / f64::from(batches));
        println!("epoch {epoch}: {batches} batches, mean loss {:.5}", losses[epoch - 1]);
    }
    if losses[EPOCHS - 1] > 0.5 * losses[0] {
        return Err(format!("the loss did not fall by half: {losses:?}").into());
    }
    Ok(())
}

/// One step of training on a batch. What it returns is a number, so that nothing outlives the batch's memory (TCH-1).
fn step(batch: &Batch, network: &impl Module, optimizer: &mut Optimizer) -> Outcome<f64> {
    let (x, y) = (tensor(batch, "x")?, tensor(batch, "y")?);
    let loss = network.forward(&x).mse_loss(&y, Reduction::Mean);
    optimizer.backward_step(&loss);
    Ok(loss.double_value(&[]))
}

/// A field as a tensor over the batch's own memory, `[rows, width]`. It must be gone before the batch (TCH-1).
fn tensor(batch: &Batch, name: &str) -> Outcome<Tensor> {
    let values = batch.values::<f32>(name)?;
    let size = [batch.rows() as i64, (values.len() / batch.rows()) as i64];
    // SAFETY: TCH-1: the caller drops the tensor and its graph before the batch; nothing writes to it; `size` counts no
    // more values than there are.
    let tensor = unsafe { Tensor::from_blob(values.as_ptr().cast(), &size, &[], Kind::Float, Device::Cpu) };
    if tensor.data_ptr().cast_const() != values.as_ptr().cast() {
        return Err("the tensor is a copy of the batch".into());
    }
    Ok(tensor)
}

/// A shuffled loader of batches of `x: [8]` and `y: [1]`.
fn open(path: &Path) -> Outcome<DataLoader> {
    let names = (0..INPUTS).map(|index| format!("x{index}")).collect();
    let stack = vec![("x".into(), StackSource::Many(names)), ("y".into(), StackSource::Many(vec!["y".into()]))];
    let select = ColumnOptions { stack, ..ColumnOptions::default() };
    let options = ParquetOptions { select, ..ParquetOptions::default() };
    let spec = DatasetSpec::Parquet { paths: vec![path.to_str().ok_or("a path that is not text")?.into()], options };
    let config = DataLoaderConfig::default().with_batch_size(512).with_shuffle(0).with_workers(1);
    Ok(DataLoader::new(spec.into(), config)?)
}

/// Inputs in [-1, 1), and a target that is not linear in them.
fn write_table(path: &Path) -> Outcome<()> {
    let value = |row: usize, column: usize| {
        let mixed = ((row * INPUTS + column) as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        ((mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    let column = |of: &dyn Fn(usize) -> f32| Arc::new(Float32Array::from_iter_values((0..ROWS).map(of))) as ArrayRef;
    let mut columns: Vec<(String, ArrayRef)> =
        (0..INPUTS).map(|index| (format!("x{index}"), column(&|row| value(row, index)))).collect();
    columns.push(("y".into(), column(&|row| (3.0 * value(row, 0)).sin() + value(row, 1) * value(row, 2))));
    let rows = RecordBatch::try_from_iter(columns)?;
    let mut writer = parquet::arrow::ArrowWriter::try_new(std::fs::File::create(path)?, rows.schema(), None)?;
    writer.write(&rows)?;
    writer.close()?;
    Ok(())
}
