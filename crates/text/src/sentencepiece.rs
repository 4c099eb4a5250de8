//! SentencePiece's byte-pair encoding: two neighbours merge when their text is a token, the highest score
//! first (Kudo & Richardson 2018, arXiv:1808.06226; `bpe_model.cc` of the project).

use crate::error::TokenizerError;
use crate::merge::{Candidate, Merger, NO_TOKEN, Pairing, Symbol};
use crate::spec::Spec;
use crate::vocabulary::{META_SPACE, Vocabulary};

/// The priorities of the tokens.
pub(crate) struct SentencePiece {
    // By id: smaller for higher scores.
    priorities: Vec<u32>,
}

/// Orders scores downwards: a higher score gives a smaller number.
fn priority(score: f32) -> u32 {
    // Adding 0 makes one zero of the two. Then the usual order-preserving map of floats to integers.
    let bits = (score + 0.0).to_bits();
    let rising = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    !rising
}

impl SentencePiece {
    /// Takes the scores of `spec`.
    pub(crate) fn new(spec: &Spec) -> Self {
        let scores = spec.scores.iter().copied().map(priority);
        let missing = spec.tokens.len().saturating_sub(spec.scores.len());
        Self { priorities: scores.chain(std::iter::repeat_n(priority(0.0), missing)).collect() }
    }

    /// Whether no token has a space behind another character, so that a text may be cut before every run
    /// of spaces without changing its tokens.
    pub(crate) fn cuts_at_spaces(vocabulary: &Vocabulary) -> bool {
        vocabulary.entries().all(|(text, _)| {
            let text = std::str::from_utf8(text).unwrap_or_default();
            !text.trim_start_matches(META_SPACE).contains(META_SPACE)
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
        merger.symbols.clear();
        merger.symbols.extend(piece.char_indices().map(|(start, c)| {
            let end = start + c.len_utf8();
            let id = bytes.get(start..end).and_then(|text| vocabulary.find(text));
            Symbol { start: start as u32, end: end as u32, id: id.unwrap_or(NO_TOKEN) }
        }));
        merger.run(bytes, &Scored { vocabulary, priorities: &self.priorities });
        for symbol in &merger.symbols {
            if symbol.id == NO_TOKEN {
                let text = bytes.get(symbol.start as usize..symbol.end as usize).unwrap_or_default();
                vocabulary.push_bytes(text, out)?;
            } else {
                out.push(symbol.id);
            }
        }
        Ok(())
    }
}

/// The rule of merging by score.
struct Scored<'a> {
    vocabulary: &'a Vocabulary,
    priorities: &'a [u32],
}

impl Pairing for Scored<'_> {
    #[inline]
    fn pair(&self, piece: &[u8], left: Symbol, right: Symbol) -> Option<Candidate> {
        let id = self.vocabulary.find(piece.get(left.start as usize..right.end as usize)?)?;
        Some(Candidate { priority: *self.priorities.get(id as usize)?, id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn higher_scores_come_first() {
        let scores = [f32::INFINITY, 3.5, 1e-40, 0.0, -1e-40, -1.0, -2.0, -1e9, f32::NEG_INFINITY];
        for pair in scores.windows(2) {
            assert!(priority(pair[0]) < priority(pair[1]), "{pair:?}");
        }
        assert_eq!(priority(0.0), priority(-0.0));
    }
}
