//! What can be wrong with a file, grouped by cause.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Where something is wrong: which file, how far into it, and which field of the format.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The file, or `None` when the bytes came from memory.
    pub file: Option<PathBuf>,
    /// Bytes from the start of the file, where the trouble has one place.
    pub offset: Option<u64>,
    /// The field, key or tensor, in the format's own words.
    pub field: String,
}

impl Place {
    pub(crate) fn new(file: Option<&Path>, offset: Option<usize>, field: impl fmt::Display) -> Box<Place> {
        Box::new(Place {
            file: file.map(Path::to_path_buf),
            offset: offset.map(|o| o as u64),
            field: field.to_string(),
        })
    }

    /// A place that is a whole file.
    pub(crate) fn file(path: &Path) -> Box<Place> {
        Place::new(Some(path), None, "file")
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => write!(f, "{}", file.display())?,
            None => f.write_str("bytes in memory")?,
        }
        if let Some(offset) = self.offset {
            write!(f, ", byte {offset}")?;
        }
        write!(f, ", {}", self.field)
    }
}

/// Why a file could not be read or written. Every variant says where, and its message says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // The fields are named in each variant's message.
pub enum Error {
    /// The operating system refused.
    #[error("{place}: cannot {action}: {source}; check the path, its permissions and the disk")]
    Io { place: Box<Place>, action: &'static str, source: io::Error },

    /// The path leads to a directory, a pipe, a socket or a device.
    #[error("{place}: this is {found}, not a regular file; give the path of the model file itself")]
    NotAFile { place: Box<Place>, found: &'static str },

    /// The bytes are of some other format.
    #[error("{place}: not {expected}, it has {found}; check that the path is right and the download whole")]
    WrongFormat { place: Box<Place>, expected: &'static str, found: String },

    /// The file means something real that this version does not read or write.
    #[error("{place}: {what} is not supported; {advice}")]
    Unsupported { place: Box<Place>, what: String, advice: &'static str },

    /// A field says that more bytes follow than do.
    #[error(
        "{place}: needs {needed} bytes where {available} are left; the file is cut short or damaged, fetch it again"
    )]
    Truncated { place: Box<Place>, needed: u64, available: u64 },

    /// A field is above a limit that no honest file reaches.
    #[error(
        "{place}: {value} is above the limit of {limit}; no model needs this, so take the file as damaged"
    )]
    TooLarge { place: Box<Place>, value: u64, limit: u64 },

    /// A field contradicts the format or another field.
    #[error("{place}: {problem}; the file is damaged or badly written, fetch or convert it again")]
    Invalid { place: Box<Place>, problem: String },

    /// A key or a tensor occurs twice.
    #[error("{place}: occurs a second time; names must be unique, fetch or convert the file again")]
    Duplicate { place: Box<Place> },

    /// A key or a tensor that the caller needs is absent.
    #[error("{place}: this {what} is missing; the model is incomplete or of another kind, convert it again")]
    Missing { place: Box<Place>, what: &'static str },

    /// A key is there with another type, or a value outside the type asked for.
    #[error("{place}: expected {expected}, found {found}; convert the model again with a current converter")]
    WrongType { place: Box<Place>, expected: &'static str, found: String },

    /// The file changed while it was being read.
    #[error(
        "{place}: the file was {before} bytes long and is now {after}; wait until nothing writes it, then load it again"
    )]
    Changed { place: Box<Place>, before: u64, after: u64 },

    /// The caller of a writer broke the declaration that it made.
    #[error("{place}: {problem}")]
    Misuse { place: Box<Place>, problem: String },
}

impl Error {
    /// Where it is wrong.
    pub fn place(&self) -> &Place {
        match self {
            Error::Io { place, .. }
            | Error::NotAFile { place, .. }
            | Error::WrongFormat { place, .. }
            | Error::Unsupported { place, .. }
            | Error::Truncated { place, .. }
            | Error::TooLarge { place, .. }
            | Error::Invalid { place, .. }
            | Error::Duplicate { place }
            | Error::Missing { place, .. }
            | Error::WrongType { place, .. }
            | Error::Changed { place, .. }
            | Error::Misuse { place, .. } => place,
        }
    }

    pub(crate) fn io(path: &Path, action: &'static str, source: io::Error) -> Error {
        Error::Io { place: Place::file(path), action, source }
    }
}
