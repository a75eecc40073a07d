//! What PAX records say of members.

use crate::{Error, Result};

/// What is known of the members that follow, besides what their own headers say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Extended {
    pub name: Option<Vec<u8>>,
    pub size: Option<u64>,
}

impl Extended {
    /// Takes the records `LENGTH KEY=VALUE\n`, of which the later ones count.
    pub(super) fn read(&mut self, mut records: &[u8]) -> Result<()> {
        while !records.is_empty() && records[0] != 0 {
            let (record, rest) = split_record(records)
                .ok_or_else(|| Error::corrupt("a PAX header holds something that is no record. Restore the shard"))?;
            records = rest;
            let Some(equals) = memchr::memchr(b'=', record) else {
                return Err(Error::corrupt("a PAX record has no value. Restore the shard"));
            };
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            match key {
                b"path" => self.name = Some(without_slashes(value).to_vec()),
                b"size" => self.size = Some(size(value)?),
                _ if key.starts_with(b"GNU.sparse.") => return Err(sparse()),
                _ => {}
            }
        }
        Ok(())
    }

    /// What is said of one member wins over what is said of all.
    pub(super) fn over(self, globals: &Self) -> Self {
        Self { name: self.name.or_else(|| globals.name.clone()), size: self.size.or(globals.size) }
    }
}

pub(super) fn sparse() -> Error {
    Error::unsupported("a member is a sparse file. Write the shard without holes (tar without --sparse)")
}

/// The content of the first record, and what follows it.
fn split_record(records: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = records.iter().take(20).position(|&byte| byte == b' ')?;
    let len: usize = std::str::from_utf8(&records[..space]).ok()?.parse().ok()?;
    let record = records.get(space + 1..len)?;
    Some((record.strip_suffix(b"\n")?, &records[len..]))
}

/// Python's tarfile, by which the library reads, takes names in records like this.
fn without_slashes(name: &[u8]) -> &[u8] {
    let len = name.iter().rposition(|&byte| byte != b'/').map_or(0, |last| last + 1);
    &name[..len]
}

fn size(value: &[u8]) -> Result<u64> {
    let text = String::from_utf8_lossy(value);
    text.parse().map_err(|_| Error::corrupt(format!("the size of a member is {text:?}. Restore the shard")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn records_give_names_and_sizes() {
        let mut found = Extended::default();
        found.read(b"13 path=a/b.c\n12 size=345\n16 comment=x=y=\n12 size=346\n\0\0").unwrap_err();
        let mut found = Extended::default();
        found.read(b"14 path=a/b.c\n12 size=345\n17 comment=x=y=z\n12 size=346\n\0\0").unwrap();
        assert_eq!(found, Extended { name: Some(b"a/b.c".to_vec()), size: Some(346) });
        let globals = Extended { name: None, size: Some(1) };
        assert_eq!(Extended::default().over(&globals), globals);
        assert_eq!(found.clone().over(&globals), found);
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for records in [&b"x"[..], b"5 a=b", b"0 ", b"1 ", b"99999999999999999999 a=b\n", b"6 abc\n", b"10 size=-1\n"] {
            assert_eq!(Extended::default().read(records).unwrap_err().kind(), ErrorKind::Corrupt, "{records:?}");
        }
        let sparse = Extended::default().read(b"22 GNU.sparse.major=1\n").unwrap_err();
        assert_eq!(sparse.kind(), ErrorKind::Unsupported);
    }
}
