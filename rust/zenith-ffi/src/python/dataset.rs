//! `_engine.Dataset`: an opened dataset, described by JSON and indexed by sample number.

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyList};
use zenith::data::batch::FieldData;
use zenith::data::{Error, Result};
use zenith::{DatasetSpec, Interrupt, OpenDataset};

use super::errors::{call, to_py_err};

/// An opened dataset; immutable, shared by every loader over it.
#[pyclass(module = "zenith._engine", frozen)]
pub(super) struct Dataset {
    pub(super) open: Arc<OpenDataset>,
}

#[pymethods]
impl Dataset {
    #[new]
    fn new(py: Python<'_>, spec: &str) -> PyResult<Self> {
        // Opening may index whole files.
        let open = interruptible(py, "Dataset", |interrupt| {
            OpenDataset::open_interruptible(&DatasetSpec::from_json(spec)?, interrupt)
        })?;
        Ok(Self { open })
    }

    /// The view that `spec` describes (JSON) of datasets that are open already.
    #[staticmethod]
    fn view(py: Python<'_>, spec: &str, of: Vec<PyRef<'_, Dataset>>) -> PyResult<Self> {
        let of: Vec<_> = of.iter().map(|dataset| dataset.open.clone()).collect();
        let open = call(py, "Dataset.view", || OpenDataset::view(&zenith::spec::view_from_json(spec)?, &of))?;
        Ok(Self { open })
    }

    fn __len__(&self) -> usize {
        usize::try_from(self.open.len()).unwrap_or(usize::MAX)
    }

    /// The same dataset as it is in `epoch`.
    fn at_epoch(&self, epoch: u64) -> Self {
        Self { open: self.open.at_epoch(epoch) }
    }

    /// The fields of a sample, as JSON.
    #[getter]
    fn schema(&self, py: Python<'_>) -> PyResult<String> {
        let schema = self.open.dataset().schema();
        let fields: Vec<_> = schema.fields.iter().map(describe).collect();
        serde_json::to_string(&fields).map_err(|error| to_py_err(py, &Error::internal(error.to_string())))
    }

    /// Identity of the content: 32 hexadecimal digits.
    #[getter]
    fn fingerprint(&self) -> &str {
        self.open.dataset().fingerprint()
    }

    /// Whether the samples are counted in another order than that of the blocks.
    #[getter]
    fn jumps(&self) -> bool {
        self.open.dataset().given_order().is_some()
    }

    /// Whether the samples can be read block by block in the order in which they are counted, holding at most `bytes`.
    fn readable_in_order(&self, bytes: u64) -> bool {
        self.open.is_readable_in_order(bytes)
    }

    /// Samples in each block, in file order.
    #[getter]
    fn block_rows(&self) -> Vec<u64> {
        self.open.dataset().blocks().iter().map(|block| block.rows).collect()
    }

    /// Names of the classes that labels are numbers of.
    #[getter]
    fn classes(&self) -> Vec<String> {
        self.open.dataset().classes().to_vec()
    }

    /// What the user should be told once.
    #[getter]
    fn notices(&self) -> Vec<String> {
        self.open.dataset().notices()
    }

    /// Where its bytes are: absolute paths, in order.
    #[getter]
    fn files(&self) -> Vec<String> {
        self.open.dataset().sources().iter().map(|source| source.location.clone()).collect()
    }

    /// The samples at `indices`: for each field a bytearray (dense) or a pair of bytearrays (offsets as int64, bytes).
    fn get<'py>(&self, py: Python<'py>, indices: Vec<u64>) -> PyResult<Bound<'py, PyList>> {
        let batch = interruptible(py, "Dataset.get", |interrupt| self.open.get_interruptible(&indices, interrupt))?;
        let fields = PyList::empty(py);
        for field in batch.fields {
            match field {
                FieldData::Dense(slab) => fields.append(PyByteArray::new(py, slab.as_ref()))?,
                FieldData::Varying { offsets, bytes } => {
                    let offsets: Vec<u8> = offsets.iter().flat_map(|offset| offset.to_ne_bytes()).collect();
                    fields.append((PyByteArray::new(py, &offsets), PyByteArray::new(py, &bytes)))?;
                }
            }
        }
        Ok(fields)
    }
}

/// Work that looks for signals on its way; what their handlers raise (Ctrl-C) is raised in its place.
fn interruptible<T: Send>(
    py: Python<'_>,
    door: &str,
    work: impl FnOnce(&Interrupt) -> Result<T> + Send,
) -> PyResult<T> {
    let raised = Arc::new(Mutex::new(None));
    let stash = raised.clone();
    let interrupt: Interrupt = Arc::new(move || {
        let Err(error) = Python::attach(|py| py.check_signals()) else { return false };
        *stash.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        true
    });
    let outcome = call(py, door, || work(&interrupt));
    let raised = raised.lock().unwrap_or_else(PoisonError::into_inner).take();
    outcome.map_err(|error| raised.unwrap_or(error))
}

fn describe(field: &zenith::data::Field) -> serde_json::Value {
    use zenith::data::FieldKind;
    let (kind, dtype, shape) = match &field.kind {
        FieldKind::Dense { dtype, shape } => ("dense", Some(dtype.name()), Some(shape)),
        FieldKind::Ragged { dtype, jagged: false } => ("ragged", Some(dtype.name()), None),
        FieldKind::Ragged { dtype, jagged: true } => ("jagged", Some(dtype.name()), None),
        FieldKind::Text => ("text", None, None),
        FieldKind::Binary => ("binary", None, None),
        FieldKind::Json => ("json", None, None),
    };
    serde_json::json!({ "name": field.name, "kind": kind, "dtype": dtype, "shape": shape, "unit": field.unit })
}

/// Reads the options of a loader.
pub(super) fn config(text: &str) -> Result<zenith::LoaderConfig> {
    zenith::LoaderConfig::from_json(text)
}
