//! Facts that Python asks for: the machine, and the defaults of the options.

use pyo3::prelude::*;

use super::dataset::config;
use super::errors::call;

/// What the machine and this build have, as JSON.
#[pyfunction]
pub(super) fn info() -> String {
    serde_json::to_string(&zenith::info::info()).unwrap_or_default()
}

/// Every option of a loader with its default, as JSON.
#[pyfunction]
pub(super) fn loader_defaults() -> String {
    zenith::LoaderConfig::defaults_json()
}

/// Errors for options of a loader, as JSON, that no dataset could make sense of.
#[pyfunction]
pub(super) fn check_options(py: Python<'_>, options: &str) -> PyResult<()> {
    call(py, "check_options", || config(options).map(drop))
}
