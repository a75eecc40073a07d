//! `_engine.Feed`: batches that device programs ask for by number.

use std::sync::Arc;
use std::time::Duration;

use pyo3::prelude::*;
use zenith::data::Error;
use zenith::feed::{Feed as EngineFeed, FeedOptions, Layout};

use super::errors::{call, to_py_err};
use super::loader::Loader;
use crate::xla::FeedRegistration;

/// Serves the batches of an epoch to `zenith_jax.next_batch`, by its number.
#[pyclass(module = "zenith._engine")]
pub(super) struct Feed {
    feed: Option<Arc<EngineFeed>>,
    registration: Option<FeedRegistration>,
    layout: Layout,
}

#[pymethods]
impl Feed {
    /// With `narrow`, values of 64 bits are served with 32.
    #[new]
    #[pyo3(signature = (loader, shards, devices, epoch, position, narrow, window, stall_ms))]
    #[expect(clippy::too_many_arguments, reason = "as Python passes them")]
    fn new(
        py: Python<'_>,
        loader: &Loader,
        shards: usize,
        devices: usize,
        epoch: u64,
        position: u64,
        narrow: bool,
        window: u64,
        stall_ms: u64,
    ) -> PyResult<Self> {
        let loader = &loader.loader;
        call(py, "Feed", || {
            let fields = &loader.dataset().dataset().schema().fields;
            let layout = Layout::new(fields, loader.config().batch_size, shards, narrow)?;
            let options = FeedOptions { devices, window, stall: Duration::from_millis(stall_ms) };
            let supply = Box::new(loader.epoch(epoch, position)?);
            let feed = Arc::new(EngineFeed::new(layout.clone(), options, supply, loader.memory().clone())?);
            let registration = FeedRegistration::new(feed.clone());
            Ok(Self { feed: Some(feed), registration: Some(registration), layout })
        })
    }

    /// The number that programs hold; 0 once closed.
    #[getter]
    fn id(&self) -> u64 {
        self.registration.as_ref().map_or(0, FeedRegistration::id)
    }

    /// What a shard is served, as JSON: name, dtype and shape (rows first) of each field.
    #[getter]
    fn fields(&self, py: Python<'_>) -> PyResult<String> {
        let describe = |field: &zenith::feed::FieldLayout| {
            let shape: Vec<usize> = [self.layout.rows].into_iter().chain(field.shape.iter().copied()).collect();
            serde_json::json!({ "name": field.name, "dtype": field.dtype.name(), "shape": shape })
        };
        let fields: Vec<_> = self.layout.fields.iter().map(describe).collect();
        serde_json::to_string(&fields).map_err(|error| to_py_err(py, &Error::internal(error.to_string())))
    }

    /// Begins an epoch of the loader at a global position; batch 0 is the first from there.
    fn restart(&self, py: Python<'_>, loader: &Loader, epoch: u64, position: u64) -> PyResult<()> {
        let (feed, loader) = (self.feed.clone(), &loader.loader);
        call(py, "Feed.restart", || {
            let feed = feed.ok_or_else(|| Error::invalid("the feed is closed"))?;
            feed.restart(Box::new(loader.epoch(epoch, position)?));
            Ok(())
        })
    }

    /// Ends its thread and makes the number stale: programs that ask for it fail.
    fn close(&mut self, py: Python<'_>) {
        let (feed, registration) = (self.feed.take(), self.registration.take());
        py.detach(|| end(feed, registration));
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let (feed, registration) = (self.feed.take(), self.registration.take());
        if feed.is_none() {
            return;
        }
        Python::attach(|py| py.detach(|| end(feed, registration)));
    }
}

fn end(feed: Option<Arc<EngineFeed>>, registration: Option<FeedRegistration>) {
    drop(registration);
    // A program that waits has hold of it too.
    if let Some(feed) = feed {
        feed.close();
    }
}
