//! Frames: a length of four bytes, big-endian, and a message as JSON, with a tag behind it where there is a secret.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::secret::{Secret, TAG_BYTES};

/// What a node sends first. Its first byte is not the one that torch's store clients begin with.
pub(super) const MAGIC: &[u8; 8] = b"zrdzv/1\n";
/// While it is not known who speaks.
pub(super) const GREETING_BYTES_MAX: usize = 16 << 10;
/// The orders of a start carry a number for every node.
pub(super) const FRAME_BYTES_MAX: usize = 1 << 20;

/// Why what has come is no frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum WireError {
    #[error("a frame of {0} bytes")]
    TooLong(usize),
    #[error("a message that this version does not know: {0}")]
    Unknown(String),
    #[error("a message whose seal is wrong: the secret is another, or it was changed on the way")]
    Seal,
}

/// Bytes as they come, and the frames in them.
#[derive(Debug, Default)]
pub(super) struct Frames {
    bytes: Vec<u8>,
}

impl Frames {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The first bytes, if so many are there.
    pub(super) fn take(&mut self, count: usize) -> Option<Vec<u8>> {
        (self.bytes.len() >= count).then(|| self.bytes.drain(..count).collect())
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn next(&mut self, bytes_max: usize) -> Result<Option<Vec<u8>>, WireError> {
        let Some(length) = self.bytes.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if length > bytes_max {
            return Err(WireError::TooLong(length));
        }
        Ok(self.take(4 + length).map(|mut frame| frame.split_off(4)))
    }
}

/// What makes the messages of a connection whole and its own: a tag over their direction, their number and their bytes.
#[derive(Debug, Clone, Default)]
pub(super) struct Seal {
    /// None without a secret; then nothing is sealed.
    key: Option<Secret>,
    is_host: bool,
    sent: u64,
    received: u64,
}

impl Seal {
    pub(super) fn new(key: Option<Secret>, is_host: bool) -> Self {
        Self { key, is_host, sent: 0, received: 0 }
    }

    pub(super) fn frame(&mut self, message: &impl Serialize) -> Vec<u8> {
        // Our messages are plain data, which always has a JSON form; an empty one is refused by the other side.
        let mut body = serde_json::to_vec(message).unwrap_or_default();
        if let Some(key) = &self.key {
            let tag = key.tag(&[&[u8::from(self.is_host)], &self.sent.to_be_bytes(), &body]);
            body.extend(tag);
            self.sent += 1;
        }
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        [&length.to_be_bytes()[..], &body].concat()
    }

    pub(super) fn open<Message: DeserializeOwned>(&mut self, body: &[u8]) -> Result<Message, WireError> {
        let mut body = body;
        if let Some(key) = &self.key {
            let (rest, tag) = body.split_at_checked(body.len().saturating_sub(TAG_BYTES)).ok_or(WireError::Seal)?;
            if !key.verifies(&[&[u8::from(!self.is_host)], &self.received.to_be_bytes(), rest], tag) {
                return Err(WireError::Seal);
            }
            self.received += 1;
            body = rest;
        }
        serde_json::from_slice(body).map_err(|error| WireError::Unknown(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::messages::Report;
    use super::*;

    fn ends(name: &str) -> (Seal, Seal) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secret");
        std::fs::write(&path, name).expect("a file");
        let key = Secret::read(&path).expect("a secret");
        (Seal::new(Some(key.clone()), false), Seal::new(Some(key), true))
    }

    #[test]
    fn frames_come_out_as_they_went_in_however_they_are_cut() {
        let (mut node, mut host) = ends("one");
        let reports = [Report::Beat, Report::Left { what: "é".repeat(300) }, Report::Clean { generation: 7 }];
        let bytes: Vec<u8> = reports.iter().flat_map(|report| node.frame(report)).collect();
        let mut frames = Frames::default();
        let mut seen = Vec::new();
        for piece in bytes.chunks(5) {
            frames.push(piece);
            while let Some(body) = frames.next(FRAME_BYTES_MAX).expect("frames") {
                seen.push(host.open::<Report>(&body).expect("our own"));
            }
        }
        assert_eq!(seen, reports);
        assert_eq!(frames.take(1), None);
    }

    #[test]
    fn what_was_changed_repeated_or_sent_back_is_refused() {
        let (mut node, mut host) = ends("one");
        let frame = node.frame(&Report::Beat);
        let body = &frame[4..];
        assert_eq!(node.open::<Report>(body), Err(WireError::Seal), "a reflection");
        let mut changed = body.to_vec();
        changed[1] ^= 1;
        assert_eq!(host.open::<Report>(&changed), Err(WireError::Seal));
        assert_eq!(host.open::<Report>(&[]), Err(WireError::Seal));
        assert_eq!(host.open::<Report>(body), Ok(Report::Beat));
        assert_eq!(host.open::<Report>(body), Err(WireError::Seal), "a repetition");
        let (_, mut other) = ends("two");
        assert_eq!(other.open::<Report>(body), Err(WireError::Seal));
    }

    #[test]
    fn an_answer_in_http_is_a_frame_that_is_too_long() {
        let mut frames = Frames::default();
        frames.push(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        assert_eq!(frames.next(FRAME_BYTES_MAX), Err(WireError::TooLong(0x4854_5450)));
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut frames = Frames::default();
            frames.push(&bytes);
            while let Ok(Some(body)) = frames.next(64) {
                prop_assert!(body.len() <= 64);
                let _ = Seal::default().open::<Report>(&body);
            }
        }
    }
}
