//! A pipeline as the user wrote it: the transforms with their arguments, and how pictures are decoded and delivered.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use zenith_data::{Error, Result};

use super::auto::{AutoAugment, RandAugment, TrivialAugmentWide};
use super::blurred::GaussianBlur;
use super::color::{ColorJitter, RandomGrayscale};
use super::crops::{CenterCrop, Pad, RandomCrop};
use super::erasing::RandomErasing;
use super::flips::RandomFlip;
use super::numbers::{Normalize, ToDtype};
use super::output::Layout;
use super::random_resized_crop::RandomResizedCrop;
use super::resized::Resize;
use crate::decode::Mode;

/// One transform.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name")]
pub enum Spec {
    Resize(Resize),
    CenterCrop(CenterCrop),
    RandomCrop(RandomCrop),
    RandomResizedCrop(RandomResizedCrop),
    RandomHorizontalFlip(RandomFlip),
    RandomVerticalFlip(RandomFlip),
    Pad(Pad),
    ColorJitter(ColorJitter),
    RandomGrayscale(RandomGrayscale),
    GaussianBlur(GaussianBlur),
    RandomErasing(RandomErasing),
    AutoAugment(AutoAugment),
    RandAugment(RandAugment),
    TrivialAugmentWide(TrivialAugmentWide),
    Normalize(Normalize),
    ToDtype(ToDtype),
}

impl Spec {
    /// Errors name the argument and what it may be.
    pub fn check(&self, channels: usize) -> Result<()> {
        match self {
            Self::Resize(it) => it.check(),
            Self::CenterCrop(it) => it.check(),
            Self::RandomCrop(it) => it.check(channels),
            Self::RandomResizedCrop(it) => it.check(),
            Self::RandomHorizontalFlip(it) => it.check("RandomHorizontalFlip"),
            Self::RandomVerticalFlip(it) => it.check("RandomVerticalFlip"),
            Self::Pad(it) => it.check(channels),
            Self::ColorJitter(it) => it.check(),
            Self::RandomGrayscale(it) => it.check(),
            Self::GaussianBlur(it) => it.check(),
            Self::RandomErasing(it) => it.check(channels),
            Self::AutoAugment(it) => it.check(channels),
            Self::RandAugment(it) => it.check(channels),
            Self::TrivialAugmentWide(it) => it.check(channels),
            Self::Normalize(it) => it.check(channels),
            Self::ToDtype(it) => it.dtype().map(|_| ()),
        }
    }

    /// By torchvision's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Resize(_) => "Resize",
            Self::CenterCrop(_) => "CenterCrop",
            Self::RandomCrop(_) => "RandomCrop",
            Self::RandomResizedCrop(_) => "RandomResizedCrop",
            Self::RandomHorizontalFlip(_) => "RandomHorizontalFlip",
            Self::RandomVerticalFlip(_) => "RandomVerticalFlip",
            Self::Pad(_) => "Pad",
            Self::ColorJitter(_) => "ColorJitter",
            Self::RandomGrayscale(_) => "RandomGrayscale",
            Self::GaussianBlur(_) => "GaussianBlur",
            Self::RandomErasing(_) => "RandomErasing",
            Self::AutoAugment(_) => "AutoAugment",
            Self::RandAugment(_) => "RandAugment",
            Self::TrivialAugmentWide(_) => "TrivialAugmentWide",
            Self::Normalize(_) => "Normalize",
            Self::ToDtype(_) => "ToDtype",
        }
    }

    pub fn is_random(&self) -> bool {
        use Spec::*;
        !matches!(self, Resize(_) | CenterCrop(_) | Pad(_) | Normalize(_) | ToDtype(_))
    }
}

/// How much of a JPEG is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DecodeMode {
    /// The pixels that every decoder gives.
    #[default]
    Exact,
    /// By smaller inverse transforms, where what is made of the picture is at most half as large.
    Fast,
}

/// The channels that transforms see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum PictureMode {
    #[default]
    #[serde(rename = "RGB")]
    Rgb,
    #[serde(rename = "L")]
    Grey,
}

impl PictureMode {
    pub fn channels(self) -> usize {
        match self {
            Self::Rgb => 3,
            Self::Grey => 1,
        }
    }

    pub fn decoded(self) -> Mode {
        match self {
            Self::Rgb => Mode::Rgb,
            Self::Grey => Mode::Grey,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Compose {
    pub transforms: Vec<Spec>,
    pub decode: DecodeMode,
    pub mode: PictureMode,
    pub layout: Layout,
    /// Turn pictures as their EXIF orientation says.
    pub exif: bool,
}

/// The same before the transforms are known to be some, so that an error can say which one is not.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    transforms: Vec<Json>,
    #[serde(default)]
    decode: DecodeMode,
    #[serde(default)]
    mode: PictureMode,
    #[serde(default)]
    layout: Layout,
    #[serde(default)]
    exif: bool,
}

/// More are a mistake.
const TRANSFORMS_MAX: usize = 1000;

impl Compose {
    pub fn from_json(json: &str) -> Result<Self> {
        let written: Written = serde_json::from_str(json)
            .map_err(|error| Error::invalid(format!("transforms cannot be read: {error}")))?;
        if written.transforms.len() > TRANSFORMS_MAX {
            let count = written.transforms.len();
            return Err(Error::invalid(format!("transforms must be at most {TRANSFORMS_MAX}, got {count}")));
        }
        let channels = written.mode.channels();
        let read = |(place, json): (usize, Json)| {
            let name = json.get("name").and_then(Json::as_str).unwrap_or("without a name").to_owned();
            let spec: Spec = serde_json::from_value(json)
                .map_err(|error| Error::invalid(format!("{name} (transform {place}): {error}")))?;
            spec.check(channels)?;
            Ok(spec)
        };
        let transforms = written.transforms.into_iter().enumerate().map(read).collect::<Result<_>>()?;
        let Written { decode, mode, layout, exif, .. } = written;
        Ok(Self { transforms, decode, mode, layout, exif })
    }

    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|error| Error::internal(format!("transforms cannot be written: {error}")))
    }
}
