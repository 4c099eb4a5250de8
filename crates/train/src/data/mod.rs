//! Training data, read from files: text, JSON Lines, JSON and Parquet, compressed or not.
//!
//! Module map: `find` files under paths, and what their names say of them · `source` bytes of a file, decompressed, line
//! by line · `text` documents, in pieces · `json` records of JSON files · `parquet` rows of Parquet files ·
//! `shapes` what the fields of a record mean · `problem` what can be wrong, and where.
//!
//! Files are taken as hostile and as large as they like: they are read as a stream, and what is in memory at any time is
//! bounded by [`ReadOptions::longest_line`] (for Parquet, by a page of each column that is read), and not by a size that a
//! file states. A broken record is a [`Problem`] that
//! names its place; the records behind it are read all the same where the format allows that.

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod find;
mod json;
mod parquet;
mod problem;
mod shapes;
mod source;
mod text;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

pub use find::{Compression, DataFile, Format, Found, find};
pub use problem::{At, DataError, Fault, Place, Problem, Problems};
pub use shapes::Shape;

use json::{JsonElements, JsonLines};
use parquet::Rows;
use source::Lines;
use text::{Documents, PIECE, piece_end};

/// What one record of a file says.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Text to be learned as it stands. A document longer than 1 MiB comes in several records, cut behind a line where
    /// that is possible and never within a character; joined, they are the document.
    Text {
        /// The piece, at most 1 MiB of UTF-8.
        text: String,
        /// Whether the document ends with this piece.
        ends: bool,
    },
    /// A conversation, ready for a chat template. At least one message is the assistant's.
    Messages {
        /// Messages in OpenAI's form: objects with `role`, `content` and whatever else the file gives them.
        messages: Vec<Value>,
        /// The tools that the assistant may call, in OpenAI's form.
        tools: Option<Vec<Value>>,
    },
    /// Two ways on from the same prompt, of which one is preferred. All three are messages, none of them is empty.
    Preference {
        /// What both go on from.
        prompt: Vec<Value>,
        /// The preferred messages.
        chosen: Vec<Value>,
        /// The other messages.
        rejected: Vec<Value>,
    },
    /// Something to answer ([`ReadOptions::prompts`]).
    Prompt {
        /// The messages to answer; the last is not the assistant's.
        messages: Vec<Value>,
        /// The tools that the assistant may call, in OpenAI's form.
        tools: Option<Vec<Value>>,
        /// All fields of the record, for what judges the answers. Of tables these are the columns that records are made of.
        record: serde_json::Map<String, Value>,
    },
}

/// One record, and where it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// What it says.
    pub content: Content,
    /// Its file, and the line or row that it begins at.
    pub place: Place,
}

/// How files are read.
#[derive(Clone, Debug)]
pub struct ReadOptions {
    /// The field that holds the text of a record. `None`: `text` or `content`, where no conversation is recognised.
    pub text_field: Option<String>,
    /// A line of a text file that equals one of these ends a document; it belongs to none.
    pub separators: Vec<String>,
    /// The longest line of a JSON Lines file, the longest element of a JSON file, and the most text of a row of a Parquet
    /// file, in bytes.
    pub longest_line: usize,
    /// Whether records are prompts to be answered, and not texts, conversations or pairs.
    pub prompts: bool,
}

impl Default for ReadOptions {
    fn default() -> ReadOptions {
        ReadOptions {
            text_field: None,
            separators: ["<|endoftext|>", "<|endofdoc|>", "<|endofbook|>"].map(String::from).to_vec(),
            longest_line: 16 << 20,
            prompts: false,
        }
    }
}

/// Opens a file and gives its records in the file's order.
///
/// # Errors
///
/// The file cannot be opened, or is none. What is wrong inside it comes from the iterator.
pub fn read(file: &DataFile, options: &ReadOptions) -> Result<Records, DataError> {
    let io = |source| DataError::Io { path: file.path.to_path_buf(), source };
    // Before it is opened: opening a pipe waits for a writer.
    find::regular(&file.path, &std::fs::metadata(&file.path).map_err(io)?)?;
    let opened = File::open(&file.path).map_err(io)?;
    // A file of no bytes is empty, as in any other format.
    if file.format == Format::Parquet && opened.metadata().map_err(io)?.len() > 0 {
        let rows = Rows::new(opened, options.text_field.clone(), options.longest_line);
        return Ok(Records::new(Source::Values(Box::new(rows)), file, options));
    }
    Ok(read_from(Box::new(opened), file, options))
}

/// Records of bytes that come from elsewhere. `file` says what they are and which name problems give them. A table is not
/// read as a stream: its bytes are held, at most 64 MiB of them.
pub fn read_from(bytes: Box<dyn Read + Send>, file: &DataFile, options: &ReadOptions) -> Records {
    let limit = options.longest_line;
    let source = match file.format {
        Format::Parquet => {
            let mut held = Vec::new();
            match bytes.take(LARGEST_TABLE).read_to_end(&mut held) {
                Ok(0) => Source::Values(Box::new(std::iter::empty())),
                Ok(_) => {
                    Source::Values(Box::new(Rows::new(Bytes::from(held), options.text_field.clone(), limit)))
                }
                Err(e) => {
                    let fault = Fault::Io { reason: e.to_string() };
                    Source::Values(Box::new(std::iter::once(Err((At::File, fault)))))
                }
            }
        }
        Format::Text => {
            let lines = Lines::new(bytes, file.compression);
            Source::Text(Documents::new(lines, &options.separators, PIECE))
        }
        Format::JsonLines => {
            Source::Values(Box::new(JsonLines::new(Lines::new(bytes, file.compression), limit)))
        }
        Format::Json => {
            Source::Values(Box::new(JsonElements::new(Lines::new(bytes, file.compression), limit)))
        }
    };
    Records::new(source, file, options)
}

/// The most bytes of a table that is not in a file.
const LARGEST_TABLE: u64 = 64 << 20;

/// What a reader of one format gives: something and where it begins, or what is wrong there.
type Item<T> = Result<(At, T), (At, Fault)>;

enum Source {
    Text(Documents),
    Values(Box<dyn Iterator<Item = Item<Value>> + Send>),
}

/// The records of a file, from [`read`]. A problem that ends the file is the last item.
pub struct Records {
    source: Source,
    file: Arc<std::path::Path>,
    text_field: Option<String>,
    prompts: bool,
    /// What is left of a long text of one record.
    rest: Option<(At, String)>,
    shapes: BTreeMap<Shape, u64>,
    /// Records and problems until now, pieces of a text counted singly.
    items: u64,
}

impl Records {
    fn new(source: Source, file: &DataFile, options: &ReadOptions) -> Records {
        Records {
            source,
            file: file.path.clone(),
            text_field: options.text_field.clone(),
            prompts: options.prompts,
            rest: None,
            shapes: BTreeMap::new(),
            items: 0,
        }
    }

    /// How many records of each shape there were until now: more than one shape may be a mistake. A document counts once.
    pub fn shapes(&self) -> &BTreeMap<Shape, u64> {
        &self.shapes
    }

    fn pull(&mut self) -> Option<Item<Content>> {
        if let Some((at, text)) = self.rest.take() {
            return Some(Ok((at, self.piece(at, text))));
        }
        let item = match &mut self.source {
            Source::Text(documents) => {
                let item = documents.next()?;
                if matches!(&item, Ok((_, Content::Text { ends: true, .. }))) {
                    *self.shapes.entry(Shape::Text).or_default() += 1;
                }
                return Some(item);
            }
            Source::Values(values) => values.next()?,
        };
        let (at, value) = match item {
            Ok(value) => value,
            Err(problem) => return Some(Err(problem)),
        };
        let recognised = match self.prompts {
            true => shapes::asked(value),
            false => shapes::recognise(value, self.text_field.as_deref()),
        };
        Some(match recognised {
            Ok((shape, content)) => {
                *self.shapes.entry(shape).or_default() += 1;
                match content {
                    Content::Text { text, .. } => Ok((at, self.piece(at, text))),
                    content => Ok((at, content)),
                }
            }
            Err(fault) => Err((at, fault)),
        })
    }

    /// The first piece of `text`; what follows it is kept for the next call.
    fn piece(&mut self, at: At, mut text: String) -> Content {
        let end = piece_end(&text, PIECE);
        let rest = text.split_off(end);
        let ends = rest.is_empty();
        if !ends {
            self.rest = Some((at, rest));
        }
        Content::Text { text, ends }
    }
}

impl Iterator for Records {
    type Item = Result<Record, Problem>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = match self.pull() {
            None if self.items == 0 => Err((At::File, Fault::EmptyFile)),
            None => return None,
            Some(item) => item,
        };
        self.items += 1;
        let place = |at| Place { file: self.file.clone(), at };
        Some(match item {
            Ok((at, content)) => Ok(Record { content, place: place(at) }),
            Err((at, what)) => Err(Problem { place: place(at), what }),
        })
    }
}
