//! `RandomHorizontalFlip` and `RandomVerticalFlip`.

use serde::{Deserialize, Serialize};
use zenith_data::Result;

use super::arguments::check_probability;

pub(super) fn half() -> f64 {
    0.5
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomFlip {
    #[serde(default = "half")]
    pub p: f64,
}

impl RandomFlip {
    pub fn check(&self, name: &str) -> Result<()> {
        check_probability(&format!("{name}: p"), self.p)
    }
}
