//! Why something could not be stored or found.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

/// Why the store could not do what it was asked. Every message says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // The fields are named in each variant's message.
pub enum StoreError {
    /// The operating system refused.
    #[error("{path}: cannot {action}: {source}; check the path, its permissions and the disk", path = .path.display())]
    Io { path: PathBuf, action: &'static str, source: io::Error },
    /// The path leads to something else.
    #[error("{path}: this is no store of autarky; give another path, or move the file away", path = .path.display())]
    NotAStore { path: PathBuf },
    /// A later release wrote it.
    #[error(
        "{path}: the store has schema {found}, and this release knows up to {known}; run the release that wrote \
         it, or a later one",
        path = .path.display()
    )]
    Newer { path: PathBuf, found: i64, known: i64 },
    /// The bytes are not what SQLite left there.
    #[error(
        "{path}: the store is damaged ({source}); stop the server, keep a copy of the file and of its -wal beside \
         it, and restore a backup, or save what is left with `sqlite3 FILE .recover`",
        path = .path.display()
    )]
    Damaged { path: PathBuf, source: rusqlite::Error },
    /// Another process holds it.
    #[error("{path}: another process has been writing for too long; try again, or end it", path = .path.display())]
    Busy { path: PathBuf },
    /// The disk is full.
    #[error("{path}: the disk is full; free some space, and try again", path = .path.display())]
    DiskFull { path: PathBuf },
    /// Anything else that SQLite says.
    #[error("{path}: {source}; check its permissions and the disk", path = .path.display())]
    Sql { path: PathBuf, source: rusqlite::Error },
    /// An argument is outside of its limits.
    #[error("{what} {why}")]
    Invalid { what: &'static str, why: String },
    /// There is a key of that name.
    #[error("a key named `{name}` exists; choose another name, or revoke that one first")]
    NameTaken { name: String },
    /// No key has that id or name.
    #[error("no key that is valid has the id or name `{which}`; list the keys to see which there are")]
    NoSuchKey { which: String },
    /// A bound is reached.
    #[error("there are {limit} {what} already, which is the limit; delete some first")]
    TooMany { what: &'static str, limit: u64 },
    /// The operating system gives no random bytes.
    #[error(
        "the operating system gave no random bytes; try again, and check /dev/urandom where there is one"
    )]
    Random,
    /// The thread that did the work ended early.
    #[error("the work on the store was cut off; try again")]
    CutOff,
}

/// What ends a transaction: SQLite's error, or one of ours.
#[derive(Debug)]
pub(super) enum Fault {
    Sql(rusqlite::Error),
    Refused(StoreError),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Fault {
        Fault::Sql(error)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Fault {
        Fault::Refused(error)
    }
}

impl Fault {
    /// The error that callers see, with the place.
    pub(super) fn at(self, path: &Path) -> StoreError {
        let source = match self {
            Fault::Refused(error) => return error,
            Fault::Sql(source) => source,
        };
        let path = path.to_path_buf();
        match source.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => StoreError::NotAStore { path },
            Some(ErrorCode::DatabaseCorrupt) => StoreError::Damaged { path, source },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy { path },
            Some(ErrorCode::DiskFull) => StoreError::DiskFull { path },
            Some(_) => StoreError::Sql { path, source },
            // Not SQLite but a value of a type or size that nothing here writes.
            None => StoreError::Damaged { path, source },
        }
    }
}
