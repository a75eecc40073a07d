//! Where a `DataLoader` reads from: a path whose name tells the format, or a description of a dataset.

use std::sync::Arc;

use zenith_data::format::tokens::TokensOptions;
use zenith_data::format::{ArrowIpcOptions, CsvOptions, ParquetOptions, WebDatasetOptions};
use zenith_data::storage::Storage;
use zenith_data::{Error, Result};
use zenith_io::LocalFiles;

use crate::dataset::OpenDataset;
use crate::file_format::FileFormat;
use crate::spec::DatasetSpec;

/// What a loader reads. Nothing is looked at before the loader is made.
#[derive(Debug, Clone)]
pub struct DataSource(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Paths(Vec<String>),
    Spec(Box<DatasetSpec>),
    Open(Arc<OpenDataset>),
}

impl DataSource {
    /// A file, a directory or a glob, read by the format that the name of its first file tells (see [`FileFormat`]). For
    /// options of the format make a source from a [`DatasetSpec`].
    pub fn from_path(path: impl Into<String>) -> Self {
        Self(Kind::Paths(vec![path.into()]))
    }

    /// The same for several paths, read one after another.
    pub fn from_paths<P: Into<String>>(paths: impl IntoIterator<Item = P>) -> Self {
        Self(Kind::Paths(paths.into_iter().map(Into::into).collect()))
    }

    /// Opens it. Errors: no such file, a name that tells no format, and what the format finds wrong.
    pub fn open(self) -> Result<Arc<OpenDataset>> {
        match self.0 {
            Kind::Paths(paths) => OpenDataset::open(&spec_of(paths)?),
            Kind::Spec(spec) => OpenDataset::open(&spec),
            Kind::Open(dataset) => Ok(dataset),
        }
    }
}

impl From<DatasetSpec> for DataSource {
    fn from(spec: DatasetSpec) -> Self {
        Self(Kind::Spec(Box::new(spec)))
    }
}

impl From<Arc<OpenDataset>> for DataSource {
    fn from(dataset: Arc<OpenDataset>) -> Self {
        Self(Kind::Open(dataset))
    }
}

fn spec_of(paths: Vec<String>) -> Result<DatasetSpec> {
    let Some(first) = paths.first() else {
        return Err(Error::invalid("no paths were given: pass a file, a directory, a glob or several of them"));
    };
    let listed = LocalFiles::new().list(first)?;
    let name = listed.first().map_or(first.as_str(), |source| source.location.as_str());
    Ok(match FileFormat::of_name(name) {
        Some(FileFormat::Parquet) => DatasetSpec::Parquet { paths, options: ParquetOptions::default() },
        Some(FileFormat::ArrowIpc) => DatasetSpec::ArrowIpc { paths, options: ArrowIpcOptions::default() },
        Some(FileFormat::Csv { delimiter }) => {
            DatasetSpec::Csv { paths, options: CsvOptions { delimiter, ..CsvOptions::default() } }
        }
        Some(FileFormat::Tokens) => DatasetSpec::Tokens { paths, options: TokensOptions::default() },
        Some(FileFormat::WebDataset) => DatasetSpec::WebDataset { paths, options: WebDatasetOptions::default() },
        None => {
            let why = format!("the name tells no format ({}). Give a DatasetSpec", FileFormat::SUFFIXES);
            return Err(Error::invalid(why).in_file(name));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_first_file_tells_the_format() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name).to_str().unwrap().to_owned();
        for (name, text) in [("d.csv", "n,m\n1,2\n"), ("e.TSV", "n\tm\n3\t4\n5\t6\n")] {
            std::fs::write(path(name), text).unwrap();
        }
        for name in ["b.parquet", "a.txt", "c.bin"] {
            std::fs::write(path(name), [0; 8194]).unwrap();
        }
        let refused = |name: &str| DataSource::from_path(path(name)).open().unwrap_err().to_string();
        assert!(refused("b.parquet").contains("Parquet"), "{}", refused("b.parquet"));
        assert!(refused("a.txt").contains("tells no format"));
        assert!(refused("missing.parquet").contains("missing.parquet"));
        assert!(DataSource::from_paths(Vec::<String>::new()).open().is_err());
        assert_eq!(DataSource::from_path(path("c.bin")).open().unwrap().len(), 4);
        for (name, samples) in [("d.csv", 1), ("e.TSV", 2)] {
            let opened = DataSource::from_path(path(name)).open().unwrap();
            let names: Vec<&str> = opened.dataset().schema().fields.iter().map(|field| field.name.as_str()).collect();
            assert_eq!((opened.len(), names), (samples, vec!["n", "m"]), "{name}");
        }
    }
}
