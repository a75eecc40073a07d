//! What a dataset does with its pictures: a chain whose output has the same shape for every picture.

use zenith_data::field::FieldKind;
use zenith_data::transform::{DrawKey, Encoded, Transform};
use zenith_data::{Error, Result};

use super::chain::Chain;
use super::compose::{Compose, DecodeMode, Spec};
use super::render::check_pixels;

#[derive(Debug)]
pub struct Pipeline {
    chain: Chain,
    /// (height, width) of every picture.
    size: [usize; 2],
}

impl Pipeline {
    /// Errors: an argument, an order that makes no sense, or a shape that would depend on the picture.
    pub fn from_json(json: &str) -> Result<Self> {
        Self::compile(Compose::from_json(json)?)
    }

    pub fn compile(compose: Compose) -> Result<Self> {
        let chain = Chain::compile(compose)?;
        let size = fixed_size(chain.compose())?;
        check_pixels(size[1], size[0])?;
        Ok(Self { chain, size })
    }
}

impl Transform for Pipeline {
    fn kind(&self) -> FieldKind {
        FieldKind::Dense { dtype: self.chain.dtype(), shape: self.chain.shape(self.size).to_vec() }
    }

    fn is_random(&self) -> bool {
        self.chain.is_random()
    }

    fn describe(&self) -> String {
        // A description that could be read can be written.
        self.chain.compose().to_json().unwrap_or_default()
    }

    fn hints(&self) -> Option<&'static str> {
        Some(if self.chain.compose().decode == DecodeMode::Fast { "jpeg-1 fast" } else { "jpeg-1" })
    }

    fn hint(&self, bytes: &[u8]) -> Vec<u8> {
        self.chain.hint(bytes)
    }

    fn apply(&self, encoded: Encoded<'_>, key: DrawKey, into: &mut [u8]) -> Result<()> {
        self.chain.apply_into(encoded, key, self.size, into)
    }
}

/// (height, width) of whatever comes in.
fn fixed_size(compose: &Compose) -> Result<[usize; 2]> {
    let mut size = None;
    let mut last = None;
    for spec in &compose.transforms {
        let before = size;
        size = match spec {
            Spec::Resize(resize) => match (before, resize.size) {
                (Some(size), _) => Some(resize.size_of(size)),
                (None, Some(super::arguments::Size::Pair(sides))) => Some(sides.map(|side| side as usize)),
                (None, _) => None,
            },
            Spec::CenterCrop(crop) => Some(crop.size.pair()),
            Spec::RandomCrop(crop) => Some(crop.size.pair()),
            Spec::RandomResizedCrop(crop) => Some(crop.size.pair()),
            Spec::Pad(pad) => before.map(|size| pad.size_of(size)),
            _ => before,
        };
        if matches!(spec, Spec::Resize(_) | Spec::Pad(_)) {
            last = Some(spec.name());
        }
    }
    let what = match last {
        Some(name) => format!("the transforms end with {name}, whose output depends on the picture"),
        None => "the transforms keep each picture's own size".to_owned(),
    };
    size.ok_or_else(|| {
        Error::invalid(format!(
            "{what}, but all pictures of a batch must have one shape; end with a crop (CenterCrop, RandomCrop, \
             RandomResizedCrop) or a Resize to a pair (height, width)"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compose(transforms: &str) -> String {
        format!(r#"{{"transforms": [{transforms}]}}"#)
    }

    fn message(transforms: &str) -> String {
        match Pipeline::from_json(&compose(transforms)) {
            Ok(pipeline) => panic!("{pipeline:?} was accepted"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_shape_is_known_before_a_picture_is() {
        let crop = r#"{"name": "RandomResizedCrop", "size": 224}"#;
        let pipeline = Pipeline::from_json(&compose(crop)).unwrap();
        assert_eq!(pipeline.kind(), FieldKind::Dense { dtype: zenith_data::DType::U8, shape: vec![3, 224, 224] });
        assert!(pipeline.is_random());
        let steps = r#"{"name": "Resize", "size": [32, 48]}, {"name": "Pad", "padding": [1, 2]}"#;
        let json = format!(r#"{{"transforms": [{steps}], "layout": "NHWC", "mode": "L"}}"#);
        let pipeline = Pipeline::from_json(&json).unwrap();
        assert_eq!(pipeline.kind(), FieldKind::Dense { dtype: zenith_data::DType::U8, shape: vec![36, 50, 1] });
        assert!(!pipeline.is_random());
        assert_eq!(Pipeline::from_json(&pipeline.describe()).unwrap().describe(), pipeline.describe());
    }

    #[test]
    fn what_makes_no_sense_is_said_at_once() {
        assert!(message(r#"{"name": "Resize", "size": 256}"#).contains("end with a crop"));
        assert!(message("").contains("keep each picture's own size"));
        assert!(message(r#"{"name": "CenterCrop", "size": 0}"#).contains("CenterCrop: size must be in 1..="));
        assert!(
            message(r#"{"name": "CenterCrop", "size": "a"}"#).contains("CenterCrop (transform 0): an int or a pair")
        );
        assert!(message(r#"{"name": "CentreCrop", "size": 3}"#).contains("unknown variant `CentreCrop`"));
        assert!(message(r#"{"name": "CenterCrop", "size": 3, "pad": 1}"#).contains("unknown field `pad`"));
        let crop = r#"{"name": "CenterCrop", "size": 3}"#;
        let normalize = r#"{"name": "Normalize", "mean": 0.5, "std": 0.5}"#;
        let float = r#"{"name": "ToDtype", "dtype": "float32", "scale": true}"#;
        assert!(message(&format!("{crop}, {normalize}")).contains("put ToDtype"));
        assert!(message(&format!("{float}, {crop}")).contains("CenterCrop works on uint8"));
        let erase = r#"{"name": "RandomErasing", "value": "random"}"#;
        assert!(message(&format!("{crop}, {erase}")).contains("behind ToDtype"));
        assert!(Pipeline::from_json(&compose(&format!("{crop}, {float}, {normalize}, {erase}"))).is_ok());
    }
}
