//! Which format a file has, as its name tells: the one list of suffixes.

/// A format that a name can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    /// `.parquet`, `.pq`
    Parquet,
    /// `.arrow`, `.arrows`, `.feather`, `.ipc`
    ArrowIpc,
    /// `.csv`, `.tsv`, also with `.gz` or `.zst` behind
    Csv {
        /// What separates fields in such files.
        delimiter: char,
    },
    /// `.bin`, `.npy`
    Tokens,
    /// `.tar`
    WebDataset,
}

impl FileFormat {
    /// What names can end in, for messages.
    pub const SUFFIXES: &str =
        ".parquet, .pq, .arrow, .arrows, .feather, .ipc, .csv, .tsv (also .gz, .zst), .bin, .npy, .tar";

    /// The format of a file of this name; `None` where the name does not tell. Case does not matter.
    pub fn of_name(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        let plain = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst"));
        let suffix = |name: &str| name.rsplit_once('.').map(|(_, suffix)| suffix.to_owned()).unwrap_or_default();
        match (suffix(plain.unwrap_or(&name)).as_str(), plain.is_some()) {
            ("csv", _) => Some(Self::Csv { delimiter: ',' }),
            ("tsv", _) => Some(Self::Csv { delimiter: '\t' }),
            ("parquet" | "pq", false) => Some(Self::Parquet),
            ("arrow" | "arrows" | "feather" | "ipc", false) => Some(Self::ArrowIpc),
            ("bin" | "npy", false) => Some(Self::Tokens),
            ("tar", false) => Some(Self::WebDataset),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_formats() {
        let of = FileFormat::of_name;
        assert_eq!(of("a/b.PARQUET"), Some(FileFormat::Parquet));
        assert_eq!(of("b.tsv.gz"), Some(FileFormat::Csv { delimiter: '\t' }));
        assert_eq!(of("b.csv.zst"), Some(FileFormat::Csv { delimiter: ',' }));
        assert_eq!(of("c.feather"), Some(FileFormat::ArrowIpc));
        assert_eq!(of("c.npy"), Some(FileFormat::Tokens));
        assert_eq!(of("d-000.tar"), Some(FileFormat::WebDataset));
        assert_eq!((of("c.npy.gz"), of("c"), of("csv"), of("")), (None, None, None, None));
    }
}
