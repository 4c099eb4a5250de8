//! Decoding token by token, in whole characters.

use std::sync::Arc;

use crate::error::TokenizerError;
use crate::tokenizer::Inner;

/// Collects bytes and gives them out as characters; what is no UTF-8 becomes U+FFFD, one for each
/// maximal part of a character (Unicode 16, section 3.9), as [`String::from_utf8_lossy`] does.
#[derive(Debug, Clone, Default)]
pub(crate) struct Utf8Assembler {
    // At most the first three bytes of a character.
    pending: Vec<u8>,
}

impl Utf8Assembler {
    /// Adds bytes and puts the characters that are complete behind `out`.
    pub(crate) fn push(&mut self, bytes: &[u8], out: &mut String) {
        self.pending.extend_from_slice(bytes);
        let mut rest: &[u8] = &self.pending;
        loop {
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    out.push_str(text);
                    rest = &[];
                    break;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at_checked(error.valid_up_to()).unwrap_or((rest, &[]));
                    out.push_str(std::str::from_utf8(valid).unwrap_or_default());
                    rest = after;
                    let Some(bad) = error.error_len() else { break };
                    out.push(char::REPLACEMENT_CHARACTER);
                    rest = rest.get(bad..).unwrap_or_default();
                }
            }
        }
        let kept = rest.len();
        self.pending.drain(..self.pending.len() - kept);
    }

    /// Ends the text: an unfinished character becomes U+FFFD.
    pub(crate) fn finish(&mut self, out: &mut String) {
        if !self.pending.is_empty() {
            self.pending.clear();
            out.push(char::REPLACEMENT_CHARACTER);
        }
    }
}

/// Turns the ids of one text into characters as they come; see [`crate::Tokenizer::decoder`].
///
/// All chunks together are the same text as [`crate::Tokenizer::decode`] of all ids.
#[derive(Debug, Clone)]
pub struct StreamDecoder {
    inner: Arc<Inner>,
    assembler: Utf8Assembler,
    skip_special: bool,
    // Special tokens that are not left out, sorted.
    shown: Vec<u32>,
    at_start: bool,
}

impl StreamDecoder {
    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        Self {
            inner,
            assembler: Utf8Assembler::default(),
            skip_special: true,
            shown: Vec::new(),
            at_start: true,
        }
    }

    /// Whether special tokens are left out, as they are unless this says otherwise.
    #[must_use]
    pub fn skip_special(mut self, skip: bool) -> Self {
        self.skip_special = skip;
        self
    }

    /// Shows these special tokens although others are left out.
    #[must_use]
    pub fn showing(mut self, ids: impl IntoIterator<Item = u32>) -> Self {
        self.shown = ids.into_iter().collect();
        self.shown.sort_unstable();
        self
    }

    /// Declares that text came before, so that a first space is kept even where the tokenizer put one
    /// before every text.
    #[must_use]
    pub fn continuing(mut self) -> Self {
        self.at_start = false;
        self
    }

    /// Adds a token; gives the characters that are complete now, `None` if there are none.
    ///
    /// # Errors
    /// [`TokenizerError::TokenIdOutOfRange`] if the id is not in the vocabulary.
    pub fn push(&mut self, id: u32) -> Result<Option<String>, TokenizerError> {
        let skip = self.skip_special && self.shown.binary_search(&id).is_err();
        let bytes = self.inner.decoded(id, skip, &mut self.at_start)?;
        let mut out = String::new();
        self.assembler.push(bytes, &mut out);
        Ok(Some(out).filter(|text| !text.is_empty()))
    }

    /// Ends the text: U+FFFD if a character is unfinished, else `None`. The decoder then begins a new text.
    pub fn flush(&mut self) -> Option<String> {
        let mut out = String::new();
        self.assembler.finish(&mut out);
        self.at_start = true;
        Some(out).filter(|text| !text.is_empty())
    }
}
