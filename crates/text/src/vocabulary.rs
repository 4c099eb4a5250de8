//! The tokens themselves: id → bytes for decoding, and what the model looks up → id for encoding.

use crate::byte_alphabet::ByteAlphabet;
use crate::error::TokenizerError;
use crate::hash::FastMap;
use crate::pipeline::Pipeline;
use crate::spec::{Spec, TokenType};

/// The character that stands for a space in SentencePiece tokens, U+2581.
pub(crate) const META_SPACE: char = '▁';

/// The tokens of a tokenizer.
pub(crate) struct Vocabulary {
    // Decoded tokens one after the other; token `id` lies between offsets `id` and `id + 1`.
    bytes: Vec<u8>,
    offsets: Vec<u32>,
    types: Vec<TokenType>,
    lookup: FastMap<Box<[u8]>, u32>,
    longest: usize,
    byte_tokens: Vec<Option<u32>>,
    unk: Option<u32>,
}

/// The ids by text while a tokenizer is built.
pub(crate) type TextIds<'a> = FastMap<&'a str, u32>;

impl Vocabulary {
    /// Takes in the tokens of `spec`; also gives the ids by the tokens' texts.
    ///
    /// Only normal and user-defined tokens can come out of text: control tokens such as `<s>` must not be
    /// spelt by a user.
    pub(crate) fn new<'a>(
        spec: &'a Spec,
        pipeline: &Pipeline,
    ) -> Result<(Self, TextIds<'a>), TokenizerError> {
        let size = spec.tokens.len();
        check(spec)?;
        let ids = ids_by_text(&spec.tokens)?;
        let mut lookup = FastMap::with_capacity_and_hasher(size, Default::default());
        let mut bytes = Vec::with_capacity(spec.tokens.iter().map(String::len).sum());
        let mut offsets = Vec::with_capacity(size + 1);
        let mut types = Vec::with_capacity(size);
        let mut byte_tokens = vec![None; 256];
        let mut longest = 0;
        offsets.push(0);
        for (id, text) in (0_u32..).zip(&spec.tokens) {
            let declared = spec.token_types.get(id as usize).copied().unwrap_or_default();
            let byte = byte_of(text).filter(|_| !pipeline.byte_level);
            // Vocabularies without types still spell their byte tokens like this.
            let kind =
                if byte.is_some() && declared == TokenType::Normal { TokenType::Byte } else { declared };
            types.push(kind);
            let begin = bytes.len();
            match (kind, byte) {
                (TokenType::Byte, Some(byte)) => {
                    bytes.push(byte);
                    if let Some(slot) = byte_tokens.get_mut(usize::from(byte)) {
                        *slot = Some(id);
                    }
                }
                (TokenType::Normal, _) if pipeline.byte_level => match ByteAlphabet::TABLE.decode(text) {
                    Some(raw) => bytes.extend_from_slice(&raw),
                    None => bytes.extend_from_slice(text.as_bytes()),
                },
                (TokenType::Normal | TokenType::UserDefined | TokenType::Unused, _)
                    if pipeline.meta_space =>
                {
                    bytes.extend_from_slice(text.replace(META_SPACE, " ").as_bytes());
                }
                _ => bytes.extend_from_slice(text.as_bytes()),
            }
            let end = u32::try_from(bytes.len()).map_err(|_| TokenizerError::TooLarge {
                what: "the vocabulary's text",
                size: bytes.len(),
                limit: u32::MAX as usize,
            })?;
            offsets.push(end);
            if matches!(kind, TokenType::Normal | TokenType::UserDefined) && !text.is_empty() {
                let key = if pipeline.byte_level {
                    bytes.get(begin..).unwrap_or_default()
                } else {
                    text.as_bytes()
                };
                longest = longest.max(key.len());
                lookup.entry(Box::from(key)).or_insert(id);
                if let ([byte], true) = (key, pipeline.byte_level)
                    && let Some(slot) = byte_tokens.get_mut(usize::from(*byte))
                {
                    *slot = Some(id);
                }
            }
        }
        let unk = spec.special.unk;
        Ok((Self { bytes, offsets, types, lookup, longest, byte_tokens, unk }, ids))
    }

    /// The number of tokens.
    pub(crate) fn size(&self) -> usize {
        self.types.len()
    }

    /// What token `id` adds to a text.
    pub(crate) fn bytes(&self, id: u32) -> Option<&[u8]> {
        let begin = *self.offsets.get(id as usize)? as usize;
        let end = *self.offsets.get((id as usize).checked_add(1)?)? as usize;
        self.bytes.get(begin..end)
    }

    /// The type of token `id`.
    pub(crate) fn kind(&self, id: u32) -> Option<TokenType> {
        self.types.get(id as usize).copied()
    }

    /// The token that is exactly `piece`: in raw bytes for byte-level models, else as it is spelt.
    #[inline]
    pub(crate) fn find(&self, piece: &[u8]) -> Option<u32> {
        if piece.len() > self.longest { None } else { self.lookup.get(piece).copied() }
    }

    /// The token of a single byte.
    #[inline]
    pub(crate) fn byte_token(&self, byte: u8) -> Option<u32> {
        self.byte_tokens.get(usize::from(byte)).copied().flatten()
    }

    /// The unknown token.
    pub(crate) fn unk(&self) -> Option<u32> {
        self.unk
    }

    /// What text can become, in no particular order: spelling and id.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&[u8], u32)> {
        self.lookup.iter().map(|(text, &id)| (&**text, id))
    }

    /// Puts the tokens of `text`'s bytes, or else the unknown token, behind `out`.
    pub(crate) fn push_bytes(&self, text: &[u8], out: &mut Vec<u32>) -> Result<(), TokenizerError> {
        let before = out.len();
        for &byte in text {
            if let Some(id) = self.byte_token(byte) {
                out.push(id);
            } else if let Some(unk) = self.unk {
                out.truncate(before);
                out.push(unk);
                break;
            } else {
                return Err(unspellable(text));
            }
        }
        Ok(())
    }
}

/// The error for text without tokens.
pub(crate) fn unspellable(text: &[u8]) -> TokenizerError {
    TokenizerError::Unspellable { text: crate::error::shorten(&String::from_utf8_lossy(text), 20) }
}

/// The byte that a token `<0xAB>` stands for.
fn byte_of(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() != 2 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    u8::from_str_radix(digits, 16).ok()
}

/// The ids by the tokens' texts, made first so that a vocabulary with duplicates costs little.
fn ids_by_text(tokens: &[String]) -> Result<TextIds<'_>, TokenizerError> {
    let mut ids = TextIds::with_capacity_and_hasher(tokens.len(), Default::default());
    for (text, second) in tokens.iter().zip(0_u32..) {
        if !text.is_empty()
            && let Some(first) = ids.insert(text.as_str(), second)
        {
            return Err(TokenizerError::DuplicateToken { text: text.clone(), first, second });
        }
    }
    Ok(ids)
}

/// Tokens of a vocabulary; the largest in use have 262 thousand.
pub(crate) const MOST_TOKENS: usize = 1 << 19;
/// Merges; the largest vocabularies in use have 515 thousand.
pub(crate) const MOST_MERGES: usize = 5 << 17;

/// Refuses more tokens or merges than any model has, before they are copied.
pub(crate) fn check_counts(tokens: usize, merges: usize) -> Result<(), TokenizerError> {
    let counts = [("the vocabulary", tokens, MOST_TOKENS), ("the list of merges", merges, MOST_MERGES)];
    match counts.into_iter().find(|(_, size, limit)| size > limit) {
        Some((what, size, limit)) => Err(TokenizerError::TooLarge { what, size, limit }),
        None => Ok(()),
    }
}

/// Checks the lists that go beside the tokens, and the ids that point into them.
fn check(spec: &Spec) -> Result<(), TokenizerError> {
    let size = spec.tokens.len();
    if size == 0 {
        return Err(TokenizerError::EmptyVocabulary);
    }
    check_counts(size, spec.merges.len())?;
    for (field, found) in [("token_type", spec.token_types.len()), ("scores", spec.scores.len())] {
        if found != 0 && found != size {
            return Err(TokenizerError::LengthMismatch { field, expected: size, found });
        }
    }
    if let Some((id, _)) = (0..).zip(&spec.scores).find(|(_, score)| score.is_nan()) {
        return Err(TokenizerError::ScoreNotANumber { id });
    }
    let named = spec.special.named();
    let ends = spec.end_of_generation.iter().map(|&id| ("end of generation", Some(id)));
    for (field, id) in named.into_iter().chain(ends) {
        if let Some(id) = id.filter(|&id| id as usize >= size) {
            return Err(TokenizerError::SpecialIdOutOfRange { field, id, size });
        }
    }
    Ok(())
}
