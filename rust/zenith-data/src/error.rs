//! The one error of this crate: a kind that callers may match, and where it happened.

use std::fmt;

pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, as a closed list that crosses language boundaries by its explicit number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u32)]
pub enum ErrorKind {
    /// An argument is out of range or contradicts another. Retrying cannot help.
    InvalidArgument = 1,
    /// A path, glob or column does not exist.
    NotFound = 2,
    /// The operating system refused or failed a read. `EIO` was already retried.
    Io = 3,
    /// The bytes are not what the format demands.
    Corrupt = 4,
    /// The file is sound but uses something that is not supported.
    Unsupported = 5,
    /// The file would need more memory than the budget allows.
    Budget = 6,
    /// A file was replaced, truncated or grown while it was being read.
    DatasetChanged = 7,
    /// A checkpoint does not belong to this dataset or version.
    State = 8,
    /// A fault of the engine itself; please report it.
    Internal = 9,
    /// An iterator of the parent process was used after a fork. Create a new one.
    Forked = 10,
    /// The caller asked for long work to be given up, or to be told that a read goes on (then asking again continues it).
    Interrupted = 11,
    /// A read took longer than it may. What hung may work again later.
    TimedOut = 12,
}

impl ErrorKind {
    /// Every kind, so that documents and tests can walk the list.
    pub const ALL: [ErrorKind; 12] = [
        ErrorKind::InvalidArgument,
        ErrorKind::NotFound,
        ErrorKind::Io,
        ErrorKind::Corrupt,
        ErrorKind::Unsupported,
        ErrorKind::Budget,
        ErrorKind::DatasetChanged,
        ErrorKind::State,
        ErrorKind::Internal,
        ErrorKind::Forked,
        ErrorKind::Interrupted,
        ErrorKind::TimedOut,
    ];
}

/// Where an error happened; each part that is known is filled in on the way up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    pub file: Option<String>,
    /// Byte offset in the file.
    pub offset: Option<u64>,
    /// Row group, record batch or other independently readable unit of the file.
    pub block: Option<u64>,
    /// Row in the file (or line, for CSV).
    pub row: Option<u64>,
    /// Name of the member, where the file is an archive.
    pub member: Option<String>,
    pub field: Option<String>,
}

#[derive(Debug, Clone)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    place: Box<Place>,
}

impl Error {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), place: Box::default() }
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidArgument, message)
    }

    pub fn corrupt(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, message)
    }

    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// The same error in other words.
    #[must_use]
    pub fn with_message(mut self, message: impl Into<String>) -> Self {
        self.message = message.into();
        self
    }

    /// Names the file, unless a deeper layer already did.
    #[must_use]
    pub fn in_file(mut self, file: &str) -> Self {
        self.place.file.get_or_insert_with(|| file.to_owned());
        self
    }

    #[must_use]
    pub fn at_offset(mut self, offset: u64) -> Self {
        self.place.offset.get_or_insert(offset);
        self
    }

    #[must_use]
    pub fn in_block(mut self, block: u64) -> Self {
        self.place.block.get_or_insert(block);
        self
    }

    #[must_use]
    pub fn at_row(mut self, row: u64) -> Self {
        self.place.row.get_or_insert(row);
        self
    }

    #[must_use]
    pub fn in_field(mut self, field: &str) -> Self {
        self.place.field.get_or_insert_with(|| field.to_owned());
        self
    }

    /// Names whatever is known of the place and was not named by a deeper layer.
    #[must_use]
    pub fn at(mut self, place: Place) -> Self {
        let known = *self.place;
        self.place = Box::new(Place {
            file: known.file.or(place.file),
            offset: known.offset.or(place.offset),
            block: known.block.or(place.block),
            row: known.row.or(place.row),
            member: known.member.or(place.member),
            field: known.field.or(place.field),
        });
        self
    }

    /// As `at`, for an error about a value alone, whose offset counts from the beginning of it.
    #[must_use]
    pub fn in_value(mut self, place: Place) -> Self {
        self.place.offset = match (self.place.offset, place.offset) {
            (Some(within), Some(start)) => Some(start.saturating_add(within)),
            (within, start) => within.or(start),
        };
        self.at(place)
    }

    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The message without the place.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = &self.place;
        let mut parts = Vec::new();
        if let Some(file) = &place.file {
            parts.push(file.clone());
        }
        if let Some(offset) = place.offset {
            parts.push(format!("byte {offset}"));
        }
        if let Some(block) = place.block {
            parts.push(format!("block {block}"));
        }
        if let Some(row) = place.row {
            parts.push(format!("row {row}"));
        }
        if let Some(member) = &place.member {
            parts.push(format!("member {member:?}"));
        }
        if let Some(field) = &place.field {
            parts.push(format!("field {field:?}"));
        }
        if parts.is_empty() {
            write!(out, "{}", self.message)
        } else {
            write!(out, "{}: {}", parts.join(", "), self.message)
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_names_the_place_and_inner_layers_win() {
        let error = Error::corrupt("page ends early. Restore the file")
            .in_file("a.parquet")
            .in_block(3)
            .in_file("outer")
            .in_field("x");
        assert_eq!(error.to_string(), "a.parquet, block 3, field \"x\": page ends early. Restore the file");
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
}
