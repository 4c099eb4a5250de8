//! Files of training data under paths, and what their names say of them.

use std::fmt;
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::problem::DataError;

/// The endings that are read, for messages.
pub(super) const KNOWN: &str =
    ".txt, .md, .jsonl, .ndjson and .json, each also as .gz and .zst, and .parquet";

/// How records lie in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Text, with lines between its documents.
    Text,
    /// An object a line.
    JsonLines,
    /// An array of objects, or objects one after another.
    Json,
    /// A table with a record a row.
    Parquet,
}

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip (RFC 1952), any number of members.
    Gzip,
    /// Zstandard (RFC 8878), any number of frames.
    Zstd,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Compression::None => "plain",
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
        })
    }
}

/// A file of training data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataFile {
    /// Where it is.
    pub path: Arc<Path>,
    /// How its records lie in it.
    pub format: Format,
    /// How it is compressed.
    pub compression: Compression,
    /// Its size on disk, in bytes.
    pub bytes: u64,
}

/// What [`find`] found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Files of training data, in the order in which they are to be read.
    pub files: Vec<DataFile>,
    /// What was left out of folders: files with other endings, links to folders, pipes and the like. Not hidden files.
    pub skipped: Vec<PathBuf>,
}

/// What the end of a name says.
enum Ending {
    Known(Format, Compression),
    Refused { form: &'static str, remedy: &'static str },
    Unknown,
}

fn ending(path: &Path) -> Ending {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let (rest, last) = name.rsplit_once('.').unwrap_or((&name, ""));
    let compression = match last {
        "gz" => Compression::Gzip,
        "zst" => Compression::Zstd,
        "xz" => {
            return Ending::Refused {
                form: "xz",
                remedy: "decompress it with xz -d, and compress it with zstd if need be",
            };
        }
        "bz2" => {
            return Ending::Refused {
                form: "bzip2",
                remedy: "decompress it with bzip2 -d, and compress it with zstd if need be",
            };
        }
        _ => Compression::None,
    };
    let format = match compression {
        Compression::None => last,
        _ => rest.rsplit_once('.').map_or("", |(_, inner)| inner),
    };
    match format {
        "txt" | "md" => Ending::Known(Format::Text, compression),
        "jsonl" | "ndjson" => Ending::Known(Format::JsonLines, compression),
        // It is compressed inside.
        "parquet" if compression == Compression::None => Ending::Known(Format::Parquet, compression),
        "json" => Ending::Known(Format::Json, compression),
        _ => Ending::Unknown,
    }
}

/// Refuses what is no regular file, by what it is.
pub(super) fn regular(path: &Path, metadata: &Metadata) -> Result<(), DataError> {
    if metadata.is_file() {
        return Ok(());
    }
    let found = if metadata.is_dir() { "a folder" } else { "a pipe, a socket or a device" };
    Err(DataError::NotAFile { path: path.to_path_buf(), found })
}

/// Finds the files of training data under `paths`: files by name, and folders with all that is in them.
///
/// The order of `paths` is kept, so a path that is given twice is read twice; within a folder it is the order of the names'
/// bytes. Hidden files and folders are left out, and links to folders are not followed.
///
/// # Errors
///
/// A path cannot be read, a file that is given by name has an ending that is not read, or there is nothing at all.
pub fn find(paths: &[PathBuf]) -> Result<Found, DataError> {
    let mut found = Found::default();
    for path in paths {
        let metadata = metadata(path)?;
        if metadata.is_dir() {
            walk(path, &mut found)?;
            continue;
        }
        regular(path, &metadata)?;
        match ending(path) {
            Ending::Known(format, compression) => {
                let (path, bytes) = (Arc::from(path.as_path()), metadata.len());
                found.files.push(DataFile { path, format, compression, bytes });
            }
            Ending::Refused { form, remedy } => {
                return Err(DataError::Refused { path: path.clone(), form, remedy });
            }
            Ending::Unknown => return Err(DataError::UnknownEnding { path: path.clone() }),
        }
    }
    if found.files.is_empty() {
        return Err(DataError::Nothing { paths: paths.to_vec(), skipped: found.skipped });
    }
    Ok(found)
}

fn metadata(path: &Path) -> Result<Metadata, DataError> {
    fs::metadata(path).map_err(|source| DataError::Io { path: path.to_path_buf(), source })
}

/// Adds what is under `folder`, without recursion: a path is as deep as it likes.
fn walk(folder: &Path, found: &mut Found) -> Result<(), DataError> {
    // The next path to visit is the last one.
    let mut stack = vec![folder.to_path_buf()];
    while let Some(path) = stack.pop() {
        let io = |source| DataError::Io { path: path.clone(), source };
        // A link to nowhere is what its name says as little as one to a folder.
        let Ok(seen) = fs::metadata(&path) else {
            found.skipped.push(path);
            continue;
        };
        let link = fs::symlink_metadata(&path).map_err(io)?.is_symlink();
        if seen.is_dir() && (!link || path == folder) {
            let mut inside = Vec::new();
            for entry in fs::read_dir(&path).map_err(io)? {
                let entry = entry.map_err(io)?;
                if !entry.file_name().as_encoded_bytes().starts_with(b".") {
                    inside.push(entry.path());
                }
            }
            inside.sort_by(|a, b| b.file_name().cmp(&a.file_name()));
            stack.append(&mut inside);
            continue;
        }
        match ending(&path) {
            Ending::Known(format, compression) if seen.is_file() => {
                found.files.push(DataFile { path: path.into(), format, compression, bytes: seen.len() });
            }
            _ => found.skipped.push(path),
        }
    }
    Ok(())
}
