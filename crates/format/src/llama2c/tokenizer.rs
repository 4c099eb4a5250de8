//! llama2.c tokenizers: every token's score and bytes.

use std::path::Path;

use crate::cursor::Cursor;
use crate::error::Error;
use crate::map::Map;

/// Bytes of a token with no text: score and length.
const LEAST_PIECE_BYTES: usize = 8;

/// A token of the vocabulary.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// The token's bytes; mostly but not surely UTF-8. `<0x0A>` and its like stand for single bytes.
    pub bytes: Box<[u8]>,
    /// How early the token is merged: the pair with the highest score first.
    pub score: f32,
}

/// A llama2.c vocabulary, by token id.
#[derive(Clone, Debug, PartialEq)]
pub struct Tokenizer {
    /// Bytes of the longest token, as the file says.
    pub max_token_length: usize,
    /// The tokens in the order of their ids.
    pub pieces: Vec<Piece>,
}

impl Tokenizer {
    /// Reads the file of a vocabulary of `vocab_size` tokens (which only the model's header says).
    ///
    /// # Errors
    /// When the file cannot be opened, is not a regular file, or does not hold exactly so many tokens; the error names
    /// file, offset and field.
    pub fn read(path: impl AsRef<Path>, vocab_size: usize) -> Result<Tokenizer, Error> {
        let path = path.as_ref();
        let map = Map::open(path)?;
        let tokenizer = Tokenizer::parse(Cursor::new(map.bytes(), Some(path)), vocab_size)?;
        map.check_unchanged()?;
        Ok(tokenizer)
    }

    fn parse(mut cursor: Cursor<'_>, vocab_size: usize) -> Result<Tokenizer, Error> {
        let max_token_length = length(&mut cursor, format_args!("max_token_length"))?;
        let needed = vocab_size.saturating_mul(LEAST_PIECE_BYTES);
        if needed > cursor.remaining() {
            return Err(cursor.truncated(needed as u64, format_args!("{vocab_size} tokens")));
        }
        let mut pieces = Vec::with_capacity(vocab_size);
        for id in 0..vocab_size {
            let score = cursor.f32(format_args!("score of token {id}"))?;
            let length = length(&mut cursor, format_args!("length of token {id}"))?;
            let bytes = cursor.take(length, format_args!("bytes of token {id}"))?.into();
            pieces.push(Piece { bytes, score });
        }
        if cursor.remaining() > 0 {
            let problem = format!("{} bytes follow token {vocab_size}, the model's last", cursor.remaining());
            return Err(cursor.invalid(cursor.at(), "end of file", problem));
        }
        Ok(Tokenizer { max_token_length, pieces })
    }
}

fn length(cursor: &mut Cursor<'_>, field: std::fmt::Arguments<'_>) -> Result<usize, Error> {
    let at = cursor.at();
    let value = cursor.i32(field)?;
    usize::try_from(value).map_err(|_| cursor.invalid(at, field, format!("{value} is below 0")))
}
