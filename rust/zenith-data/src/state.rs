//! The checkpoint of a loader: where an epoch stands, as JSON of well under a kilobyte.

use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, Result};

/// Raised when the meaning of a field changes; an older engine refuses a newer state.
pub const STATE_VERSION: u32 = 1;
/// A state is a few hundred bytes; more is not one of ours.
const STATE_BYTES_MAX: usize = 4096;

/// Everything that decides the rest of an epoch, the same on every rank.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    pub version: u32,
    /// Identity of the dataset's content.
    pub fingerprint: String,
    pub shuffle: bool,
    pub seed: u64,
    pub epoch: u64,
    pub lanes: u32,
    pub window: u64,
    pub tail: String,
    /// Samples of the epoch handed out so far, over all ranks.
    pub position: u64,
    /// Samples in the epoch.
    pub samples: u64,
}

impl State {
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads a state and checks that it is one: version, ranges. Nothing in it is executed or trusted.
    pub fn from_json(text: &str) -> Result<Self> {
        let refuse = |message: String| Error::new(ErrorKind::State, message);
        if text.len() > STATE_BYTES_MAX {
            return Err(refuse(format!(
                "a state of {} bytes is not one of Zenith's (at most {STATE_BYTES_MAX})",
                text.len()
            )));
        }
        let value: serde_json::Value =
            serde_json::from_str(text).map_err(|error| refuse(format!("the state is not JSON: {error}")))?;
        match value.get("version").and_then(serde_json::Value::as_u64) {
            Some(version) if version == u64::from(STATE_VERSION) => {}
            Some(version) => {
                let message =
                    format!("the state has version {version}, this engine reads {STATE_VERSION}. Update zenith");
                return Err(refuse(message));
            }
            None => return Err(refuse("the state has no version: it was not written by Zenith".into())),
        }
        let state: State =
            serde_json::from_value(value).map_err(|error| refuse(format!("the state is damaged: {error}")))?;
        if state.position > state.samples {
            let message = format!("the state is at position {} of {} samples", state.position, state.samples);
            return Err(refuse(message));
        }
        if state.window == 0 {
            return Err(refuse("the state has a window of 0 samples".into()));
        }
        crate::plan::check_lanes(state.lanes).map_err(|error| refuse(error.message().to_owned()))?;
        Ok(state)
    }

    /// Errors unless the dataset is the one that the state was taken of.
    pub fn check(&self, fingerprint: &str, samples: u64) -> Result<()> {
        if self.fingerprint == fingerprint && self.samples == samples {
            return Ok(());
        }
        let message = format!(
            "the state was taken of a dataset with fingerprint {} and {} samples; this one has {fingerprint} and {samples}. \
             Files, columns, filters or options differ: open the dataset as it was then",
            self.fingerprint, self.samples
        );
        Err(Error::new(ErrorKind::State, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        State {
            version: STATE_VERSION,
            fingerprint: "0123456789abcdef0123456789abcdef".into(),
            shuffle: true,
            seed: u64::MAX,
            epoch: 3,
            lanes: 16,
            window: 131_072,
            tail: "pad".into(),
            position: 4096,
            samples: 4_000_000,
        }
    }

    /// The written form is kept: checkpoints of today are read by the engines of tomorrow.
    #[test]
    fn golden_form() {
        let text = r#"{"version":1,"fingerprint":"0123456789abcdef0123456789abcdef","shuffle":true,"seed":18446744073709551615,"epoch":3,"lanes":16,"window":131072,"tail":"pad","position":4096,"samples":4000000}"#;
        assert_eq!(state().to_json(), text);
        assert_eq!(State::from_json(text).unwrap(), state());
        assert!(text.len() < 1024);
    }

    #[test]
    fn hostile_states_are_refused() {
        let good = state().to_json();
        for cut in 0..good.len() {
            assert!(State::from_json(&good[..cut]).is_err());
        }
        for (from, to) in [
            ("\"version\":1", "\"version\":2"),
            ("\"position\":4096", "\"position\":4000001"),
            ("\"lanes\":16", "\"lanes\":3"),
            ("\"window\":131072", "\"window\":0"),
            ("\"seed\":18446744073709551615", "\"seed\":-1"),
        ] {
            let error = State::from_json(&good.replace(from, to)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::State, "{error}");
        }
        assert!(state().check("other", 4_000_000).is_err());
        assert!(state().check("0123456789abcdef0123456789abcdef", 4_000_000).is_ok());
    }
}
