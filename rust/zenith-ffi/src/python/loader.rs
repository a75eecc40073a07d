//! `_engine.Loader` and `_engine.Epoch`: a configured loader, and one epoch of it that C++ pulls batches from by id.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;
use zenith::EpochIter;
use zenith::data::batch::{Batch, FieldData};
use zenith::data::state::State;
use zenith::data::{DType, Error, Field, FieldKind, Result};

use super::dataset::{Dataset, config};
use super::errors::call;
use crate::field_memory::{FieldMemory, FieldSlab};
use crate::registry::{BatchSource, Memory, Next, Parts, Registration};
use crate::tensors;

/// A dataset with options; makes epochs.
#[pyclass(module = "zenith._engine", frozen)]
pub(super) struct Loader {
    pub(super) loader: zenith::Loader,
}

#[pymethods]
impl Loader {
    #[new]
    #[pyo3(signature = (dataset, options, state = None))]
    fn new(py: Python<'_>, dataset: &Dataset, options: &str, state: Option<&str>) -> PyResult<Self> {
        let open = dataset.open.clone();
        let loader = call(py, "Loader", || match state {
            Some(state) => zenith::Loader::from_state(open, config(options)?, &State::from_json(state)?),
            None => zenith::Loader::new(open, config(options)?),
        })?;
        Ok(Self { loader })
    }

    /// Lanes and window (in samples) of the order.
    #[getter]
    fn order(&self) -> (u32, u64) {
        self.loader.order()
    }

    /// What the user should be told once.
    #[getter]
    fn notices(&self) -> Vec<String> {
        self.loader.notices()
    }

    /// Batches that this rank gets from a global position (in samples) to the end of an epoch.
    fn batches(&self, py: Python<'_>, position: u64) -> PyResult<u64> {
        call(py, "Loader.batches", || self.loader.batches_from(position))
    }

    /// The checkpoint at a global position of an epoch, as JSON.
    fn state(&self, epoch: u64, position: u64) -> String {
        self.loader.state(epoch, position).to_json()
    }

    /// Sample numbers at the positions `start`, `start + step`, ... of an epoch; positions past the end begin again.
    fn indices(&self, py: Python<'_>, epoch: u64, start: u64, step: u64, count: usize) -> PyResult<Vec<u64>> {
        call(py, "Loader.indices", || {
            let dataset = self.loader.dataset();
            if !self.loader.config().shuffle && dataset.dataset().given_order().is_some() && !dataset.is_empty() {
                // In its own order a position is the number, whatever the blocks.
                let position = |turn: usize| u128::from(start) + u128::from(step) * turn as u128;
                return Ok((0..count).map(|turn| (position(turn) % u128::from(dataset.len())) as u64).collect());
            }
            let plan = self.loader.plan(epoch)?;
            let mut samples = Vec::with_capacity(count);
            plan.resolve(start, step, count, &mut samples);
            Ok(dataset.numbers(&samples))
        })
    }

    /// Starts an epoch at a global position in samples. With `pin`, fields that are one tensor lie in pinned memory of the
    /// framework as far as it has some.
    #[pyo3(signature = (epoch, position, pin = false))]
    fn epoch(&self, py: Python<'_>, epoch: u64, position: u64, pin: bool) -> PyResult<Epoch> {
        call(py, "Loader.epoch", || {
            let fields = self.loader.schema().fields.clone();
            let memory = FieldMemory::new(self.loader.memory().clone(), &fields, pin);
            let source = Arc::new(EpochSource {
                iter: self.loader.epoch_in(memory, epoch, position)?,
                fields,
                position: AtomicU64::new(position),
            });
            let registration = Registration::new(Arc::clone(&source) as Arc<dyn BatchSource>);
            let under_way = Mutex::new(Some(UnderWay { registration, source }));
            Ok(Epoch { under_way, last_position: AtomicU64::new(position) })
        })
    }
}

/// Lets decode threads leave the framework's tensors alone from here on; for the end of the process.
#[pyfunction]
pub(super) fn end_lending(py: Python<'_>) {
    py.detach(tensors::end_lending);
}

/// One epoch under way. Several threads may ask it, and one may close it meanwhile.
#[pyclass(module = "zenith._engine", frozen)]
pub(super) struct Epoch {
    /// Locked for moments in which the interpreter is held, so that no fork meets it locked.
    under_way: Mutex<Option<UnderWay>>,
    last_position: AtomicU64,
}

/// Dropped in this order: first nobody finds it any more.
struct UnderWay {
    registration: Registration,
    source: Arc<EpochSource>,
}

impl Epoch {
    fn under_way(&self) -> MutexGuard<'_, Option<UnderWay>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Epoch {
    /// The number that `torch.ops.zenith.next_batch` takes; 0 once closed.
    #[getter]
    fn id(&self) -> u64 {
        self.under_way().as_ref().map_or(0, |under_way| under_way.registration.id())
    }

    /// Global position in samples after the batches handed out so far.
    #[getter]
    fn position(&self) -> u64 {
        match &*self.under_way() {
            Some(under_way) => under_way.source.position.load(Ordering::Acquire),
            None => self.last_position.load(Ordering::Acquire),
        }
    }

    /// Counters so far, as JSON.
    fn stats(&self) -> String {
        let source = self.under_way().as_ref().map(|under_way| under_way.source.clone());
        let snapshot = source.map(|source| source.iter.stats()).unwrap_or_default();
        serde_json::to_string(&snapshot).unwrap_or_default()
    }

    /// Stops the threads and makes the id stale. Tensors stay valid.
    fn close(&self, py: Python<'_>) {
        let mut under_way = self.under_way();
        if let Some(under_way) = &*under_way {
            self.last_position.store(under_way.source.position.load(Ordering::Acquire), Ordering::Release);
        }
        let closed = under_way.take();
        drop(under_way);
        py.detach(|| drop(closed));
    }
}

impl Drop for Epoch {
    fn drop(&mut self) {
        let Some(under_way) = self.under_way().take() else {
            // Nothing to join: the interpreter, which may be ending, is left alone.
            return;
        };
        // Joining decode threads takes milliseconds; other Python threads go on meanwhile.
        Python::attach(|py| py.detach(|| drop(under_way)));
    }
}

struct EpochSource {
    iter: EpochIter<FieldMemory>,
    fields: Vec<Field>,
    position: AtomicU64,
}

impl BatchSource for EpochSource {
    fn next(&self, wait_ms: u32) -> Result<Next> {
        match self.iter.next(Duration::from_millis(u64::from(wait_ms)))? {
            zenith::Next::Batch(batch) => {
                let position = batch.position_after;
                let parts = parts(batch, &self.fields)?;
                self.position.store(position, Ordering::Release);
                Ok(Next::Batch(parts))
            }
            zenith::Next::Pending => Ok(Next::Pending),
            zenith::Next::End => Ok(Next::End),
        }
    }
}

/// A dense field is one part; a varying one is two: int64 offsets `[rows + 1]` and its bytes. The fields of one shard come
/// after those of another.
fn parts(batch: Batch<FieldSlab>, fields: &[Field]) -> Result<Parts> {
    let mut parts = Parts::with_capacity(fields.len());
    for (field, data) in fields.iter().cycle().zip(batch.fields) {
        match (data, &field.kind) {
            (FieldData::Dense(slab), FieldKind::Dense { dtype, shape }) => {
                parts.push(slab.into(), batch.rows, shape, *dtype)?;
            }
            (FieldData::Varying { offsets, bytes }, _) => {
                let (count, length) = (offsets.len(), bytes.len());
                let offsets: Vec<u8> = offsets.iter().flat_map(|offset| offset.to_ne_bytes()).collect();
                parts.push(Memory::Bytes(offsets), count, &[], DType::I64)?;
                parts.push(Memory::Bytes(bytes), length, &[], DType::U8)?;
            }
            _ => {
                return Err(Error::internal(format!("field {:?} came in a form its schema does not have", field.name)));
            }
        }
    }
    Ok(parts)
}
