//! What can be wrong with a data file, and with a name that is looked for.

use thiserror::Error;

/// Why a data file cannot be used. Every variant names the file.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
#[allow(missing_docs)] // The fields are named in each variant's message.
pub enum DataError {
    /// The operating system refused, or the file is no file of text.
    #[error("{file}: cannot be read: {reason}")]
    Read { file: String, reason: String },

    /// A field is missing, unknown, of another type, or has a value that cannot be.
    #[error("{file}: {field}: {reason}")]
    Field { file: String, field: String, reason: String },
}

impl DataError {
    pub(crate) fn field(file: &str, field: impl Into<String>, reason: impl Into<String>) -> DataError {
        DataError::Field { file: file.to_owned(), field: field.into(), reason: reason.into() }
    }

    pub(crate) fn read(file: &str, reason: impl Into<String>) -> DataError {
        DataError::Read { file: file.to_owned(), reason: reason.into() }
    }
}

/// Why a name stands for no chip.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs)] // The fields are named in each variant's message.
pub enum FindError {
    /// No chip has the name. `nearest` are ids, best first.
    #[error("no chip {asked:?} is known; nearest: {}", nearest.join(", "))]
    Unknown { asked: String, nearest: Vec<String> },

    /// The name is a part of several chips' names. `candidates` are ids.
    #[error("{asked:?} may be any of {}; give one of these", candidates.join(", "))]
    Ambiguous { asked: String, candidates: Vec<String> },
}

/// Why nothing can be predicted.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
#[allow(missing_docs)] // The messages say it.
pub enum Error {
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Find(#[from] FindError),
    #[error(
        "the fitted efficiencies are unreadable or fit no runs: make data/fit.json anew with `cargo xtask fit-plan`"
    )]
    Fit,
}
