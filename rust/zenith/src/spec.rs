//! How a dataset is described: what Python pickles and `OpenDataset` opens.

use std::collections::HashSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use zenith_data::dataset::{Dataset, Ports};
use zenith_data::format::tokens::{Tokens, TokensOptions};
use zenith_data::format::webdataset::{Decode, refuse_urls};
use zenith_data::format::{ArrowIpc, ArrowIpcOptions, Csv, CsvOptions, Parquet, ParquetOptions};
use zenith_data::format::{ImageFolder, ImageFolderOptions, WebDataset, WebDatasetOptions};
use zenith_data::hints::Hints;
use zenith_data::storage::{Source, Storage};
use zenith_data::transform::Transform;
use zenith_data::view::{Hinted, Made, View};
use zenith_data::{Error, Result};

use crate::{env, pictures};

/// A dataset as the user wrote it: paths and options, nothing looked at yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "format", deny_unknown_fields)]
pub enum DatasetSpec {
    /// Rows of Parquet files.
    Parquet {
        /// Files, directories or globs.
        paths: Vec<String>,
        /// Which columns, and how.
        #[serde(default)]
        options: ParquetOptions,
    },
    /// Rows of Arrow IPC files and streams.
    ArrowIpc {
        /// Files, directories or globs.
        paths: Vec<String>,
        /// Which columns, and how.
        #[serde(default)]
        options: ArrowIpcOptions,
    },
    /// Rows of CSV files.
    Csv {
        /// Files, directories or globs.
        paths: Vec<String>,
        /// How the text is taken apart, and which columns are delivered.
        #[serde(default)]
        options: CsvOptions,
    },
    /// Windows over token files.
    Tokens {
        /// Files, directories or globs.
        paths: Vec<String>,
        /// How windows are cut.
        #[serde(default)]
        options: TokensOptions,
    },
    /// Samples in tar shards.
    WebDataset {
        /// Files, directories or globs.
        paths: Vec<String>,
        /// Which members are delivered, and as what.
        #[serde(default)]
        options: WebDatasetOptions,
    },
    /// Pictures in folders, one folder a class.
    ImageFolder {
        /// The folder that holds those of the classes.
        root: String,
        /// What pictures go through.
        #[serde(default)]
        options: ImageFolderOptions,
    },
    /// A dataset of which some fields of bytes are pictures.
    Pictures {
        /// The dataset.
        of: Box<DatasetSpec>,
        /// What the pictures of each of these fields go through.
        fields: Vec<(String, serde_json::Value)>,
        /// Seed of the transforms that draw.
        #[serde(default)]
        seed: u64,
    },
    /// A dataset of pictures with an index that lets parts of them be decoded sooner.
    EntropyIndex {
        /// The dataset.
        of: Box<DatasetSpec>,
    },
    /// A selection, a split, or one dataset after another.
    View {
        /// What is done to the datasets below.
        view: View,
        /// The datasets below.
        of: Vec<DatasetSpec>,
    },
}

impl DatasetSpec {
    /// Reads a description from JSON. Errors name the unknown or ill-typed option.
    pub fn from_json(text: &str) -> Result<Self> {
        serde_json::from_str(text).map_err(|error| Error::invalid(format!("bad dataset options: {error}")))
    }

    /// Opens it.
    pub fn open(&self, ports: Ports<'_>) -> Result<Arc<dyn Dataset>> {
        let storage = ports.storage;
        Ok(match self {
            Self::Parquet { paths, options } => Parquet::open(ports, list(storage, paths)?, options)?,
            Self::ArrowIpc { paths, options } => {
                Arc::new(ArrowIpc::open(storage, list(storage, paths)?, options.clone())?)
            }
            Self::Csv { paths, options } => Arc::new(Csv::open(ports, list(storage, paths)?, options)?),
            Self::Tokens { paths, options } => Arc::new(Tokens::open(storage, list(storage, paths)?, options.clone())?),
            Self::WebDataset { paths, options } => {
                refuse_urls(paths)?;
                let transforms = member_transforms(options)?;
                Arc::new(WebDataset::open(ports, list(storage, paths)?, options, transforms)?)
            }
            Self::ImageFolder { root, options } => {
                let transform = options.transform.as_ref().map(pictures::transform).transpose()?;
                Arc::new(ImageFolder::open(storage, root, options, transform)?)
            }
            Self::Pictures { of, fields, seed } => {
                let transform = |(name, description): &(String, serde_json::Value)| {
                    let made = pictures::transform(description).map_err(|error| error.in_field(name))?;
                    Ok((name.clone(), made))
                };
                let transforms = fields.iter().map(transform).collect::<Result<Vec<_>>>()?;
                Arc::new(Made::new(of.open(ports)?, transforms, *seed)?)
            }
            Self::EntropyIndex { of } => {
                let dataset = of.open(ports)?;
                match Hints::open(&*dataset, ports, env::processors())? {
                    Some(hints) => Arc::new(Hinted::new(dataset, hints)),
                    None => dataset,
                }
            }
            Self::View { view, of } => {
                let of = of.iter().map(|spec| spec.open(ports)).collect::<Result<Vec<_>>>()?;
                return view.over(&of);
            }
        })
    }
}

/// The transforms of the fields that are pictures.
fn member_transforms(options: &WebDatasetOptions) -> Result<Vec<Option<Arc<dyn Transform>>>> {
    let fields = options.fields.iter().flatten();
    let transform = |decode: &Decode| match decode {
        Decode::Image(description) => pictures::transform(description).map(Some),
        _ => Ok(None),
    };
    fields.map(|field| transform(&field.decode).map_err(|error| error.in_field(&field.name))).collect()
}

/// Reads the description of a view from JSON.
pub fn view_from_json(text: &str) -> Result<View> {
    serde_json::from_str(text).map_err(|error| Error::invalid(format!("bad options of a view: {error}")))
}

/// Every pattern's files, in the order of the patterns; a file named twice is an error.
fn list(storage: &dyn Storage, patterns: &[String]) -> Result<Vec<Source>> {
    let mut sources: Vec<Source> = Vec::new();
    let mut known = HashSet::new();
    for pattern in patterns {
        for source in storage.list(pattern)? {
            if !known.insert(source.location.clone()) {
                return Err(
                    Error::invalid("the file is named twice. Each file may be listed once").in_file(&source.location)
                );
            }
            sources.push(source);
        }
    }
    if sources.is_empty() {
        return Err(Error::invalid("no paths were given: pass a file, a directory, a glob or a list of them"));
    }
    Ok(sources)
}

#[cfg(test)]
mod tests {
    use super::*;
    use zenith_data::view::Indices;

    /// The written form is kept: datasets that were pickled today are opened by the engines of tomorrow.
    #[test]
    fn golden_form_of_views() {
        let tokens = DatasetSpec::Tokens { paths: vec!["a.bin".into()], options: TokensOptions::default() };
        let over = |view, of: &DatasetSpec| DatasetSpec::View { view, of: vec![of.clone()] };
        let split = over(View::Split { fraction: 0.9, seed: 1, part: 0 }, &tokens);
        let picked = over(View::Select(Indices::Runs(vec![(0, 5)])), &split);
        let spec = over(View::Concat, &over(View::Select(Indices::List(vec![3, 1])), &picked));
        let base = r#"{"format":"Tokens","paths":["a.bin"]}"#;
        let split =
            format!(r#"{{"format":"View","view":{{"split":{{"fraction":0.9,"seed":1,"part":0}}}},"of":[{base}]}}"#);
        let runs = format!(r#"{{"format":"View","view":{{"select":{{"runs":[[0,5]]}}}},"of":[{split}]}}"#);
        let list = format!(r#"{{"format":"View","view":{{"select":{{"list":[3,1]}}}},"of":[{runs}]}}"#);
        let text = format!(r#"{{"format":"View","view":"concat","of":[{list}]}}"#);
        assert_eq!(DatasetSpec::from_json(&text).unwrap(), spec);
        let written = serde_json::to_string(&spec).unwrap();
        assert_eq!(DatasetSpec::from_json(&written).unwrap(), spec);
        assert!(DatasetSpec::from_json(&text.replace("runs", "spans")).is_err());
    }

    #[test]
    fn golden_form_of_samples_in_files() {
        let field = |decode: &str| format!(r#"{{"name":"x","members":["jpg","png"],"decode":{decode}}}"#);
        let shards = format!(
            r#"{{"format":"WebDataset","paths":["a.tar"],"options":{{"fields":[{},{}],"seed":1,"duplicate":"first","missing":"skip","truncated":"error"}}}}"#,
            field("\"int\""),
            field(r#"{"image":{"resize":2}}"#)
        );
        let folder = r#"{"format":"ImageFolder","root":"a","options":{"transform":null,"seed":1,"allow_empty":true}}"#
            .to_owned();
        let pictures = format!(r#"{{"format":"Pictures","of":{folder},"fields":[["image",{{"resize":2}}]],"seed":1}}"#);
        for text in [shards, folder, pictures] {
            let spec = DatasetSpec::from_json(&text).unwrap();
            assert_eq!(serde_json::to_string(&spec).unwrap(), text);
            assert!(DatasetSpec::from_json(&text.replace("\"seed\"", "\"sead\"")).is_err());
        }
    }
}
