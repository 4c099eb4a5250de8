//! What can be wrong with training data, and where.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use super::find::{Compression, KNOWN};
use super::shapes::KNOWN_SHAPES;

/// Why files cannot be found or opened.
#[derive(Debug, Error)]
#[non_exhaustive]
#[allow(missing_docs)] // The fields are named in each variant's message.
pub enum DataError {
    /// The operating system refused.
    #[error("{}: cannot be read: {source}; check the path and its permissions", .path.display())]
    Io { path: PathBuf, source: io::Error },
    /// The path leads to a pipe, a socket or a device.
    #[error("{}: this is {found}, not a regular file; write the data to a file first", .path.display())]
    NotAFile { path: PathBuf, found: &'static str },
    /// The name does not say what is in the file.
    #[error("{}: the ending of the name is not a known one; training data is {KNOWN}", .path.display())]
    UnknownEnding { path: PathBuf },
    /// The file has a form that is known but not read.
    #[error("{}: {form} is not read; {remedy}", .path.display())]
    Refused { path: PathBuf, form: &'static str, remedy: &'static str },
    /// There is no file of training data.
    #[error(
        "no training data under {}; known are {KNOWN}{}", Paths(.paths), Skipped(.skipped)
    )]
    Nothing { paths: Vec<PathBuf>, skipped: Vec<PathBuf> },
}

struct Paths<'a>(&'a [PathBuf]);

impl fmt::Display for Paths<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, path) in self.0.iter().enumerate() {
            write!(f, "{}{}", if i == 0 { "" } else { ", " }, path.display())?;
        }
        Ok(())
    }
}

struct Skipped<'a>(&'a [PathBuf]);

impl fmt::Display for Skipped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.first() {
            None => Ok(()),
            Some(first) => write!(f, "; {} other files there, as {}", self.0.len(), first.display()),
        }
    }
}

/// How far into a file. Both count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum At {
    /// The file as a whole.
    File,
    /// A line of what the file has once it is decompressed.
    Line(u64),
    /// A row of a table.
    Row(u64),
}

/// Where something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: Arc<Path>,
    /// How far into it.
    pub at: At,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        match self.at {
            At::File => write!(f, "{file}"),
            At::Line(line) => write!(f, "{file}:{line}"),
            At::Row(row) => write!(f, "{file}, row {row}"),
        }
    }
}

/// A record that could not be read, or the reason why a file ends before its time.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{place}: {what}")]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What is wrong, and what to do.
    pub what: Fault,
}

/// What is wrong with a record or a file.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs)] // The fields are named in each variant's message.
pub enum Fault {
    /// Bytes that are no UTF-8. The line is left out. `offset` counts from 0 in the decompressed file.
    #[error("not UTF-8 at byte {offset} of the text; convert the file, for example with iconv")]
    NotUtf8 { offset: u64 },
    /// The file begins with the byte-order mark of UTF-16. Ends the file.
    #[error("the file is UTF-16; convert it to UTF-8, for example with iconv -f UTF-16 -t UTF-8")]
    Utf16,
    /// A line or an element of JSON exceeds the limit.
    #[error("longer than {limit} bytes; split the record, or raise the limit on lines")]
    TooLong { limit: usize },
    /// Not JSON. The place has the line of the fault; `column` counts bytes from 1.
    #[error("broken JSON at column {column}: {reason}")]
    Json { column: u64, reason: String },
    /// A record is JSON, but no object.
    #[error(
        "the record is {found} and not an object with fields; an array of records goes into a .json file"
    )]
    NotAnObject { found: &'static str },
    /// No known shape of record has these fields.
    #[error(
        "the fields ({fields}) make no known record; known are {KNOWN_SHAPES}, or name the field of the text"
    )]
    UnknownShape { fields: String },
    /// A field holds something else than it should.
    #[error("{field} is {found}; it should be {wanted}")]
    WrongType { field: String, found: &'static str, wanted: &'static str },
    /// Nobody known speaks in a conversation of the ShareGPT form.
    #[error("{field} is {found}; known are human, user, gpt, assistant, system and tool")]
    UnknownSpeaker { field: String, found: String },
    /// A field has nothing to learn from.
    #[error("{field} is empty; fill it or leave the record out")]
    Empty { field: String },
    /// A conversation has nothing to learn from.
    #[error("{field} has no message of the assistant: there is nothing to learn")]
    NoAnswer { field: &'static str },
    /// The file holds no record and no text.
    #[error("the file is empty; remove it from the training data")]
    EmptyFile,
    /// The file cannot be decompressed from here on. Ends the file.
    #[error("the {compression} data breaks here: {reason}; get the file again")]
    Corrupt { compression: Compression, reason: String },
    /// The table cannot be read from here on. Ends the file.
    #[error("the Parquet data cannot be read: {reason}; get the file again, or write it as JSON Lines")]
    Parquet { reason: String },
    /// The operating system could not read on. Ends the file.
    #[error("cannot be read on: {reason}; check the disk")]
    Io { reason: String },
}

impl Fault {
    /// The kind of fault in a few words, the same for all faults of that kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Fault::NotUtf8 { .. } => "not UTF-8",
            Fault::Utf16 => "UTF-16",
            Fault::TooLong { .. } => "too long",
            Fault::Json { .. } => "broken JSON",
            Fault::NotAnObject { .. } => "not an object",
            Fault::UnknownShape { .. } => "unknown fields",
            Fault::WrongType { .. } => "wrong type of a field",
            Fault::UnknownSpeaker { .. } => "unknown speaker",
            Fault::Empty { .. } => "empty field",
            Fault::NoAnswer { .. } => "no assistant message",
            Fault::EmptyFile => "empty file",
            Fault::Corrupt { .. } => "corrupt compressed data",
            Fault::Parquet { .. } => "unreadable Parquet",
            Fault::Io { .. } => "unreadable",
        }
    }
}

/// Problems counted by kind, and the first of them.
#[derive(Clone, Debug)]
pub struct Problems {
    keep: usize,
    counts: BTreeMap<&'static str, u64>,
    first: Vec<Problem>,
}

impl Problems {
    /// Counts any number of problems, and keeps the first `keep`.
    pub fn new(keep: usize) -> Problems {
        Problems { keep, counts: BTreeMap::new(), first: Vec::new() }
    }

    /// Counts a problem.
    pub fn add(&mut self, problem: Problem) {
        *self.counts.entry(problem.what.kind()).or_default() += 1;
        if self.first.len() < self.keep {
            self.first.push(problem);
        }
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.counts.values().sum()
    }

    /// How many there were of each [`Fault::kind`].
    pub fn counts(&self) -> &BTreeMap<&'static str, u64> {
        &self.counts
    }

    /// The first of them, in the order in which they came.
    pub fn first(&self) -> &[Problem] {
        &self.first
    }
}

impl fmt::Display for Problems {
    /// A line with the counts, and one for each of the first problems.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.count();
        write!(f, "{count} problem{}", if count == 1 { "" } else { "s" })?;
        for (i, (kind, count)) in self.counts.iter().enumerate() {
            write!(f, "{}{count} {kind}", if i == 0 { ": " } else { ", " })?;
        }
        for problem in &self.first {
            write!(f, "\n{problem}")?;
        }
        Ok(())
    }
}
