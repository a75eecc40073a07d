//! `_engine.Transforms`: transforms of pictures, one picture at a time.

use pyo3::prelude::*;
use pyo3::types::PyByteArray;

use zenith::data::transform::{DrawKey, Transform};
use zenith::data::{Error, FieldKind};
use zenith::image::resize::Pixels;
use zenith::image::transforms::{Chain, Compose, Made, Pipeline, mix};

use super::errors::{call, to_py_err};

/// What was made, the name of its dtype, its shape.
type Result<'py> = (Bound<'py, PyByteArray>, &'static str, [usize; 3]);

#[pyclass(module = "zenith._engine", frozen)]
pub(super) struct Transforms {
    chain: Chain,
}

#[pymethods]
impl Transforms {
    #[new]
    fn new(py: Python<'_>, json: &str) -> PyResult<Self> {
        Ok(Self { chain: call(py, "Transforms", || Chain::from_json(json))? })
    }

    /// Of the bytes of a file.
    fn apply<'py>(&self, py: Python<'py>, encoded: &[u8], key: u64) -> PyResult<Result<'py>> {
        let made = call(py, "Transforms.apply", || self.chain.apply(encoded, DrawKey(key)))?;
        Ok(given(py, &made))
    }

    /// Of levels, [height, width, channels].
    fn apply_pixels<'py>(
        &self,
        py: Python<'py>,
        pixels: &[u8],
        height: usize,
        width: usize,
        key: u64,
    ) -> PyResult<Result<'py>> {
        let made = call(py, "Transforms.apply_pixels", || {
            let channels = self.chain.compose().mode.channels();
            let stride = width.saturating_mul(channels);
            if pixels.len() != height.saturating_mul(stride) {
                let bytes = pixels.len();
                let text = format!(
                    "a picture of {height} × {width} × {channels} (height × width × channels) got {bytes} bytes"
                );
                return Err(Error::invalid(text));
            }
            self.chain.apply_pixels(Pixels { bytes: pixels, width, height, channels, stride }, DrawKey(key))
        })?;
        Ok(given(py, &made))
    }

    /// What the transforms take of a picture before they read a pixel, as JSON.
    fn view(&self, py: Python<'_>, height: usize, width: usize, key: u64) -> PyResult<String> {
        call(py, "Transforms.view", || self.chain.view_json(width, height, DrawKey(key)))
    }

    /// The dtype and shape that all pictures become; an error where they depend on the picture.
    #[getter]
    fn output(&self, py: Python<'_>) -> PyResult<(&'static str, Vec<usize>)> {
        match call(py, "Transforms.output", || Ok(Pipeline::compile(self.chain.compose().clone())?.kind()))? {
            FieldKind::Dense { dtype, shape } => Ok((dtype.name(), shape)),
            _ => Err(to_py_err(py, &Error::internal("pictures became something else"))),
        }
    }

    #[getter]
    fn is_random(&self) -> bool {
        self.chain.is_random()
    }
}

fn given<'py>(py: Python<'py>, made: &Made) -> Result<'py> {
    (PyByteArray::new(py, &made.bytes), made.dtype.name(), made.shape)
}

/// Raises where an argument of a transform is not what it may be, whatever comes before or behind it.
#[pyfunction]
pub(super) fn check_transforms(py: Python<'_>, json: &str) -> PyResult<()> {
    call(py, "check_transforms", || Compose::from_json(json).map(|_| ()))
}

/// How much of each sample stays its own.
#[pyfunction]
pub(super) fn draw_mix_up(py: Python<'_>, alpha: f64, key: u64) -> PyResult<f64> {
    call(py, "draw_mix_up", || mix::draw_mix_up(alpha, DrawKey(key)))
}

/// The part (x, y, width, height) that comes from the sample before, and how much of each sample stays its own.
#[pyfunction]
pub(super) fn draw_cut_mix(
    py: Python<'_>,
    alpha: f64,
    height: usize,
    width: usize,
    key: u64,
) -> PyResult<((usize, usize, usize, usize), f64)> {
    let (part, own) = call(py, "draw_cut_mix", || mix::draw_cut_mix(alpha, width, height, DrawKey(key)))?;
    Ok(((part.x, part.y, part.width, part.height), own))
}

/// The key of a batch.
#[pyfunction]
pub(super) fn batch_key(seed: u64, epoch: u64, batch: u64) -> u64 {
    mix::batch_key(seed, epoch, batch).0
}
