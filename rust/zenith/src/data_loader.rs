//! The loader that programs use: epochs counted, its place remembered, batches by iteration.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use zenith_data::state::State;
use zenith_data::{Error, Field, Result};

use crate::batch::Batch;
use crate::config::LoaderConfig;
use crate::loader::{EpochIter, Loader};
use crate::source::DataSource;
use crate::{Next, OpenDataset};

/// How long one wait for a batch is; it is repeated until the batch is there.
const WAIT: Duration = Duration::from_secs(3600);

/// Reads a dataset epoch by epoch. Iterating over a reference yields the rest of the current epoch; the next iteration is
/// of the next epoch.
///
/// ```
/// use zenith::{DataLoader, DataLoaderConfig, DataSource};
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("data.parquet").to_str().unwrap().to_owned();
/// # let column: arrow::array::ArrayRef = std::sync::Arc::new(arrow::array::Float32Array::from(vec![0.5; 3000]));
/// # let rows = arrow::record_batch::RecordBatch::try_from_iter([("x", column)]).unwrap();
/// # let mut writer =
/// #     parquet::arrow::ArrowWriter::try_new(std::fs::File::create(&path).unwrap(), rows.schema(), None).unwrap();
/// # writer.write(&rows).unwrap();
/// # writer.close().unwrap();
/// let config = DataLoaderConfig::default().with_batch_size(1024).with_prefetch_batches(4);
/// let loader = DataLoader::new(DataSource::from_path(path), config)?;
/// let mut sum = 0.0;
/// for batch in &loader {
///     let batch = batch?;
///     sum += batch.values::<f32>("x")?.iter().sum::<f32>();
///     let _arrow = batch.to_record_batch()?;
/// }
/// assert_eq!((sum, loader.state().epoch), (1500.0, 1));
/// # Ok::<(), zenith::Error>(())
/// ```
#[derive(Debug)]
pub struct DataLoader {
    loader: Loader,
    fields: Arc<[Field]>,
    place: Mutex<Place>,
}

/// What comes next: an epoch, and a global position in it, in samples.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    epoch: u64,
    position: u64,
}

impl DataLoader {
    /// Opens `source`. Errors: what opening finds wrong, options out of range, several shards (use [`Loader`], whose
    /// batches keep them apart).
    pub fn new(source: DataSource, config: LoaderConfig) -> Result<Self> {
        Self::at(Loader::new(source.open()?, config)?, Place::default())
    }

    /// Opens `source` to continue where `state` was taken, in its order, whatever the workers, the ranks or the size of
    /// batches. Errors: as of `new`; the state is of another dataset or of a newer engine.
    pub fn from_state(source: DataSource, config: LoaderConfig, state: &State) -> Result<Self> {
        let loader = Loader::from_state(source.open()?, config, state)?;
        Self::at(loader, Place { epoch: state.epoch, position: state.position })
    }

    fn at(loader: Loader, place: Place) -> Result<Self> {
        if loader.config().resolved_shards()?.own().len() > 1 {
            return Err(Error::invalid("a DataLoader reads one shard. Use Loader, whose batches keep several apart"));
        }
        let fields = loader.schema().fields.clone().into();
        Ok(Self { loader, fields, place: Mutex::new(place) })
    }

    /// Where the loader stands after the batches that were handed out.
    pub fn state(&self) -> State {
        let place = *self.place();
        self.loader.state(place.epoch, place.position)
    }

    /// Names, element types and shapes of the fields.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The options, with what a state replaced.
    pub fn config(&self) -> &LoaderConfig {
        self.loader.config()
    }

    /// What is read.
    pub fn dataset(&self) -> &Arc<OpenDataset> {
        self.loader.dataset()
    }

    /// Starts reading the rest of the current epoch. Errors: threads that cannot be started, an order that this dataset
    /// cannot be read in.
    pub fn iter(&self) -> Result<Batches<'_>> {
        let place = *self.place();
        Ok(Batches { loader: self, epoch: Ok(Some(self.loader.epoch(place.epoch, place.position)?)) })
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> IntoIterator for &'a DataLoader {
    type Item = Result<Batch>;
    type IntoIter = Batches<'a>;

    /// As `iter`, but what goes wrong at the start is the first item.
    fn into_iter(self) -> Batches<'a> {
        self.iter().unwrap_or_else(|error| Batches { loader: self, epoch: Err(Some(error)) })
    }
}

/// The rest of an epoch. After an error nothing more comes. Dropping it stops its threads.
#[derive(Debug)]
pub struct Batches<'a> {
    loader: &'a DataLoader,
    /// The epoch until its end, or what went wrong at its start until that is told.
    epoch: std::result::Result<Option<EpochIter>, Option<zenith_data::Error>>,
}

impl Iterator for Batches<'_> {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        let epoch = match &mut self.epoch {
            Ok(epoch) => epoch,
            Err(error) => return error.take().map(Err),
        };
        loop {
            match epoch.as_ref()?.next(WAIT) {
                Ok(Next::Batch(batch)) => {
                    self.loader.place().position = batch.position_after;
                    return Some(Ok(Batch::new(batch, self.loader.fields.clone())));
                }
                Ok(Next::Pending) => {}
                Ok(Next::End) => {
                    let mut place = self.loader.place();
                    *place = Place { epoch: place.epoch + 1, position: 0 };
                    *epoch = None;
                    return None;
                }
                Err(error) => {
                    *epoch = None;
                    return Some(Err(error));
                }
            }
        }
    }
}
