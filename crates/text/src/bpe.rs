//! Byte-pair encoding by the rank of merges (Sennrich et al. 2016, arXiv:1508.07909), over bytes as in GPT-2
//! or over characters with bytes for the unknown ones.

use crate::byte_alphabet::ByteAlphabet;
use crate::error::TokenizerError;
use crate::hash::FastMap;
use crate::merge::{Candidate, Merger, NO_TOKEN, Pairing, Symbol};
use crate::pipeline::Pipeline;
use crate::spec::Spec;
use crate::vocabulary::{TextIds, Vocabulary, unspellable};

/// The merges of a vocabulary.
pub(crate) struct Bpe {
    // Left id in the upper half, right id in the lower.
    merges: FastMap<u64, Candidate>,
    byte_level: bool,
    byte_fallback: bool,
    fuse_unk: bool,
    ignore_merges: bool,
}

fn key(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

impl Bpe {
    /// Resolves the merges of `spec` to ids.
    pub(crate) fn new(spec: &Spec, pipeline: &Pipeline, ids: &TextIds<'_>) -> Result<Self, TokenizerError> {
        let mut merges = FastMap::with_capacity_and_hasher(spec.merges.len(), Default::default());
        let mut merged = String::new();
        for (index, text) in spec.merges.iter().enumerate() {
            // The first token may itself begin with a space, but is not empty.
            let malformed =
                || TokenizerError::MalformedMerge { index, text: crate::error::shorten(text, 100) };
            let first = text.chars().next().map_or(0, char::len_utf8);
            let space = text.get(first..).and_then(|rest| rest.find(' ')).ok_or_else(malformed)? + first;
            let (left, right) =
                (text.get(..space).unwrap_or_default(), text.get(space + 1..).unwrap_or_default());
            if right.is_empty() {
                return Err(malformed());
            }
            let id = |token: &str| {
                let missing = || TokenizerError::UnknownMergeToken { index, token: token.to_owned() };
                // Converters to GGUF write added tokens as plain text, but leave the merges that lead to them.
                let plain = || {
                    ids.get(ByteAlphabet::TABLE.decode_text(token)?.as_str()).filter(|_| pipeline.byte_level)
                };
                ids.get(token).or_else(plain).copied().ok_or_else(missing)
            };
            merged.clear();
            merged.push_str(left);
            merged.push_str(right);
            let candidate =
                Candidate { priority: u32::try_from(index).unwrap_or(u32::MAX), id: id(&merged)? };
            // A merge that is listed twice keeps its first rank.
            merges.entry(key(id(left)?, id(right)?)).or_insert(candidate);
        }
        Ok(Self {
            merges,
            byte_level: pipeline.byte_level,
            byte_fallback: pipeline.byte_fallback,
            fuse_unk: pipeline.fuse_unk,
            ignore_merges: pipeline.ignore_merges,
        })
    }

    /// Puts the tokens of `piece` behind `out`.
    pub(crate) fn encode(
        &self,
        vocabulary: &Vocabulary,
        piece: &str,
        merger: &mut Merger,
        out: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        let bytes = piece.as_bytes();
        if self.ignore_merges
            && let Some(id) = vocabulary.find(bytes)
        {
            out.push(id);
            return Ok(());
        }
        merger.symbols.clear();
        if self.byte_level {
            merger.symbols.extend((0_u32..).zip(bytes).map(|(start, &byte)| Symbol {
                start,
                end: start + 1,
                id: vocabulary.byte_token(byte).unwrap_or(NO_TOKEN),
            }));
        } else {
            self.characters(vocabulary, piece, &mut merger.symbols)?;
        }
        merger.run(bytes, self);
        for symbol in &merger.symbols {
            match (symbol.id, vocabulary.unk()) {
                (NO_TOKEN, None) => {
                    return Err(unspellable(
                        bytes.get(symbol.start as usize..symbol.end as usize).unwrap_or_default(),
                    ));
                }
                (NO_TOKEN, Some(unk)) => out.push(unk),
                (id, _) => out.push(id),
            }
        }
        Ok(())
    }

    /// The symbols of a piece that is merged from characters.
    fn characters(
        &self,
        vocabulary: &Vocabulary,
        piece: &str,
        symbols: &mut Vec<Symbol>,
    ) -> Result<(), TokenizerError> {
        let mut after_unknown = false;
        for (start, c) in piece.char_indices() {
            let text = piece.as_bytes().get(start..start + c.len_utf8()).unwrap_or_default();
            let (start, end) = (start as u32, (start + c.len_utf8()) as u32);
            let was_unknown = std::mem::take(&mut after_unknown);
            if let Some(id) = vocabulary.find(text) {
                symbols.push(Symbol { start, end, id });
            } else if self.byte_fallback && text.iter().all(|&byte| vocabulary.byte_token(byte).is_some()) {
                symbols.extend((start..).zip(text).map(|(place, &byte)| Symbol {
                    start: place,
                    end: place + 1,
                    id: vocabulary.byte_token(byte).unwrap_or(NO_TOKEN),
                }));
            } else {
                let id = vocabulary.unk().ok_or_else(|| unspellable(text))?;
                after_unknown = true;
                match symbols.last_mut() {
                    Some(last) if was_unknown && self.fuse_unk => last.end = end,
                    _ => symbols.push(Symbol { start, end, id }),
                }
            }
        }
        Ok(())
    }
}

impl Pairing for Bpe {
    #[inline]
    fn pair(&self, _piece: &[u8], left: Symbol, right: Symbol) -> Option<Candidate> {
        self.merges.get(&key(left.id, right.id)).copied()
    }
}
