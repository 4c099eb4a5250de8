//! Training data as tokens on disk: written once, then read in place, whatever its size.
//!
//! A folder holds, for each set of data, `NAME.tokens` (32-bit little-endian numbers; the highest bit says that the
//! token's prediction is not learned), `NAME.ends` (64-bit: where every document ends) and `NAME.json`, which comes last
//! and says what both were made from.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use autarky_format::Map;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::encode::GIVEN;
use crate::files::{FileError, io_error};
use crate::trainer::Example;

/// Why tokens cannot be written or read.
#[derive(Debug, Error)]
pub enum TokensError {
    /// The system does not give or take the bytes.
    #[error(transparent)]
    Io(#[from] FileError),
    /// The tokens cannot be mapped.
    #[error(transparent)]
    Map(#[from] autarky_format::Error),
    /// A file is not what was written.
    #[error("{path} is damaged ({what}): delete the folder it is in, and the data is read again")]
    Damaged {
        /// Which.
        path: PathBuf,
        /// How it shows.
        what: String,
    },
}

/// What the tokens are of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Contents {
    /// What they were made from, to know when they must be made again.
    pub from: Json,
    /// Tokens.
    pub tokens: u64,
    /// Bytes of text that they stand for.
    pub bytes: u64,
    /// Records that are conversations.
    pub conversations: u64,
    /// Documents of each file, in the order in which they were read.
    pub documents: Vec<u64>,
    /// SHA-256 of the tokens and of the ends.
    pub hash: String,
}

/// Tokens that are written.
#[derive(Debug)]
pub struct TokensWriter {
    folder: PathBuf,
    name: String,
    tokens: Hashed,
    ends: Hashed,
    contents: Contents,
    open: bool,
}

/// A file and the hash of what was written to it.
#[derive(Debug)]
struct Hashed {
    path: PathBuf,
    file: BufWriter<File>,
    hash: Sha256,
}

impl Hashed {
    fn create(path: PathBuf) -> Result<Hashed, TokensError> {
        let file = File::create(&path).map_err(io_error("create", &path))?;
        Ok(Hashed { path, file: BufWriter::with_capacity(1 << 20, file), hash: Sha256::new() })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), TokensError> {
        self.hash.update(bytes);
        Ok(self.file.write_all(bytes).map_err(io_error("write", &self.path))?)
    }

    fn finish(mut self) -> Result<[u8; 32], TokensError> {
        let synced = self.file.flush().and_then(|()| self.file.get_ref().sync_all());
        synced.map_err(io_error("write", &self.path))?;
        Ok(self.hash.finalize().into())
    }
}

fn paths(folder: &Path, name: &str) -> [PathBuf; 3] {
    ["tokens", "ends", "json"].map(|ending| folder.join(format!("{name}.{ending}")))
}

impl TokensWriter {
    /// Begins a set. What the folder has of one with this name is no longer used from here on.
    ///
    /// # Errors
    /// When files cannot be made.
    pub fn create(folder: &Path, name: &str, from: Json) -> Result<TokensWriter, TokensError> {
        fs::create_dir_all(folder).map_err(io_error("create", folder))?;
        let [tokens, ends, about] = paths(folder, name);
        if about.exists() {
            fs::remove_file(&about).map_err(io_error("remove", &about))?;
        }
        let contents = Contents {
            from,
            tokens: 0,
            bytes: 0,
            conversations: 0,
            documents: Vec::new(),
            hash: String::new(),
        };
        let (tokens, ends) = (Hashed::create(tokens)?, Hashed::create(ends)?);
        let (folder, name) = (folder.to_owned(), name.to_owned());
        Ok(TokensWriter { folder, name, tokens, ends, contents, open: false })
    }

    /// The documents that follow are of another file.
    pub fn begin_file(&mut self) {
        self.contents.documents.push(0);
    }

    /// Counts a record.
    pub(crate) fn count_record(&mut self, is_conversation: bool) {
        self.contents.conversations += u64::from(is_conversation);
    }

    /// Adds tokens to the document that is written, which stand for so many bytes of text.
    ///
    /// # Errors
    /// When they cannot be written.
    pub(crate) fn add(&mut self, tokens: &[u32], bytes: usize) -> Result<(), TokensError> {
        self.open |= !tokens.is_empty();
        self.contents.tokens += tokens.len() as u64;
        self.contents.bytes += bytes as u64;
        let little: Vec<u8> = tokens.iter().flat_map(|t| t.to_le_bytes()).collect();
        self.tokens.write(&little)
    }

    /// Ends the document, if it has tokens.
    ///
    /// # Errors
    /// When its end cannot be written.
    pub fn end_document(&mut self) -> Result<(), TokensError> {
        if !std::mem::take(&mut self.open) {
            return Ok(());
        }
        if let Some(documents) = self.contents.documents.last_mut() {
            *documents += 1;
        }
        self.ends.write(&self.contents.tokens.to_le_bytes())
    }

    /// Puts everything in place.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(mut self) -> Result<Tokens, TokensError> {
        self.end_document()?;
        let mut hash = Sha256::new();
        hash.update(self.tokens.finish()?);
        hash.update(self.ends.finish()?);
        self.contents.hash = hex(&hash.finalize());
        let [_, _, about] = paths(&self.folder, &self.name);
        let text = serde_json::to_string_pretty(&self.contents).unwrap_or_default();
        crate::files::write(&about, text.as_bytes()).map_err(io_error("write", &about))?;
        Tokens::open(&self.folder, &self.name)
    }
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// A set of documents.
#[derive(Debug)]
pub struct Tokens {
    contents: Contents,
    /// None where there are no tokens: nothing cannot be mapped.
    tokens: Option<Map>,
    ends: Vec<usize>,
}

impl Tokens {
    /// What the set in the folder was made from, when there is one.
    pub fn contents(folder: &Path, name: &str) -> Option<Contents> {
        let [_, _, about] = paths(folder, name);
        serde_json::from_slice(&fs::read(about).ok()?).ok()
    }

    /// Opens a set. Its files must stay as they are while it is open.
    ///
    /// # Errors
    /// When it cannot be read, or is not what was written.
    pub fn open(folder: &Path, name: &str) -> Result<Tokens, TokensError> {
        let [path, ends_path, about] = paths(folder, name);
        let damaged =
            |path: &Path, what: &str| TokensError::Damaged { path: path.to_owned(), what: what.into() };
        let contents =
            Tokens::contents(folder, name).ok_or_else(|| damaged(&about, "it is not JSON of a set"))?;
        let length = fs::metadata(&path).map_err(io_error("read the length of", &path))?.len();
        if Some(length) != contents.tokens.checked_mul(4) {
            return Err(damaged(&path, &format!("{length} bytes are not {} tokens", contents.tokens)));
        }
        let tokens = if length == 0 { None } else { Some(Map::open(&path)?) };
        let bytes = fs::read(&ends_path).map_err(io_error("read", &ends_path))?;
        let (numbers, rest) = bytes.as_chunks::<8>();
        let ends: Vec<usize> = numbers.iter().map(|b| u64::from_le_bytes(*b) as usize).collect();
        let rises = ends.windows(2).all(|w| w[0] < w[1]);
        let last = ends.last().copied().unwrap_or(0) as u64;
        let documents: u64 = contents.documents.iter().sum();
        if !rest.is_empty() || !rises || last != contents.tokens || documents != ends.len() as u64 {
            return Err(damaged(&ends_path, "the ends of documents are not those that were written"));
        }
        Ok(Tokens { contents, tokens, ends })
    }

    /// What it was made from.
    pub fn about(&self) -> &Contents {
        &self.contents
    }

    /// Where the documents are.
    pub fn documents(&self) -> Vec<Range<usize>> {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        begins.zip(&self.ends).map(|(begin, &end)| begin..end).collect()
    }

    /// The tokens of a range, as one text.
    pub fn example(&self, range: Range<usize>) -> Example {
        let all: &[[u8; 4]] = self.tokens.as_ref().map_or(&[], |map| map.bytes().as_chunks().0);
        let stored = all[range].iter().map(|b| u32::from_le_bytes(*b));
        let tokens = stored.clone().map(|t| t & !GIVEN).collect();
        let learned: Vec<bool> = stored.map(|t| t & GIVEN == 0).collect();
        let learned = if learned.iter().all(|&l| l) { Vec::new() } else { learned };
        Example { tokens, learned }
    }
}
