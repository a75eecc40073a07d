//! What nodes of a run share, and how they prove it without saying it.

use std::fmt;
use std::io::{self, Read};
use std::path::Path;

use hmac::digest::Key;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

pub(super) const TAG_BYTES: usize = 32;
const SECRET_BYTES_MAX: u64 = 4096;

type Hash = Hmac<Sha256>;

/// A key for HMAC-SHA256. It is never shown.
#[derive(Clone)]
pub(super) struct Secret(Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Secret(..)")
    }
}

impl Secret {
    /// The bytes of a file, less the line's end that editors add.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        let refused = |kind, what: String| {
            let what = format!("the rendezvous' secret file {}: {what}", path.display());
            io::Error::new(kind, format!("{what}. Make one by `openssl rand -hex 32` and give a copy to every node"))
        };
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path).map_err(|error| refused(error.kind(), error.to_string()))?;
        file.take(SECRET_BYTES_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| refused(error.kind(), error.to_string()))?;
        while bytes.last().is_some_and(u8::is_ascii_whitespace) {
            bytes.pop();
        }
        if bytes.is_empty() || bytes.len() as u64 > SECRET_BYTES_MAX {
            let what = format!("a secret has 1 to {SECRET_BYTES_MAX} bytes, and this has {}", bytes.len());
            return Err(refused(io::ErrorKind::InvalidData, what));
        }
        Ok(Self(bytes))
    }

    /// A key that only who knows this secret can have, for this purpose and these texts.
    pub(super) fn derive(&self, purpose: &str, texts: &[&str]) -> Self {
        let mut lengths_and_texts = Vec::new();
        for text in texts {
            lengths_and_texts.extend((text.len() as u64).to_be_bytes());
            lengths_and_texts.extend(text.bytes());
        }
        Self(self.tag(&[purpose.as_bytes(), &[0], &lengths_and_texts]).to_vec())
    }

    pub(super) fn tag(&self, parts: &[&[u8]]) -> [u8; TAG_BYTES] {
        self.hash(parts).finalize().into_bytes().into()
    }

    /// In a time that does not tell where a wrong tag is wrong.
    pub(super) fn verifies(&self, parts: &[&[u8]], tag: &[u8]) -> bool {
        self.hash(parts).verify_slice(tag).is_ok()
    }

    fn hash(&self, parts: &[&[u8]]) -> Hash {
        // RFC 2104: zeros behind a short key, and the digest of a long one.
        let digest = Sha256::digest(&self.0);
        let mut key = Key::<Hash>::default();
        let bytes = if self.0.len() > key.len() { digest.as_slice() } else { &self.0 };
        for (place, byte) in key.iter_mut().zip(bytes) {
            *place = *byte;
        }
        let mut hash = <Hash as Mac>::new(&key);
        for part in parts {
            hash.update(part);
        }
        hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_those_of_rfc_4231() {
        let text = |key: &[u8], parts: &[&[u8]]| -> String {
            Secret(key.to_vec()).tag(parts).iter().map(|byte| format!("{byte:02x}")).collect()
        };
        let short = text(b"Jefe", &[b"what do ya want ", b"for nothing?"]);
        assert_eq!(short, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        let long = text(&[0xaa; 131], &[b"Test Using Larger Than Block-Size Key - Hash Key First"]);
        assert_eq!(long, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    }

    #[test]
    fn derived_keys_differ_by_purpose_and_by_where_texts_end() {
        let secret = Secret(b"s".to_vec());
        let keys = [("a", ["x", "yz"]), ("a", ["xy", "z"]), ("b", ["x", "yz"])];
        let keys = keys.map(|(purpose, texts)| secret.derive(purpose, &texts).0);
        assert!(keys[0] != keys[1] && keys[0] != keys[2] && keys[1] != keys[2]);
    }

    #[test]
    fn a_secret_comes_from_a_file_of_some_bytes() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secret");
        let missing = Secret::read(&path).expect_err("no file").to_string();
        assert!(missing.contains("secret") && missing.contains("openssl rand"), "{missing}");
        std::fs::write(&path, "\n").expect("a file");
        assert!(Secret::read(&path).is_err(), "nothing is no secret");
        std::fs::write(&path, "abc\r\n").expect("a file");
        let secret = Secret::read(&path).expect("a secret");
        assert_eq!(secret.0, b"abc");
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        std::fs::write(&path, vec![b'x'; 5000]).expect("a file");
        assert!(Secret::read(&path).is_err(), "not a file of any size");
    }
}
