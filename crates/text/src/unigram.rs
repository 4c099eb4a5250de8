//! The unigram language model: the segmentation with the highest sum of scores, by Viterbi's algorithm
//! (Kudo 2018, arXiv:1804.10959; `unigram_model.cc` of SentencePiece, `EncodeOptimized`).

use crate::error::TokenizerError;
use crate::spec::{Spec, TokenType};
use crate::vocabulary::{Vocabulary, unspellable};

/// Longer tokens than this are refused: the search's cost is the text's length times the longest token.
const LONGEST_TOKEN: usize = 4096;

/// How much less an unknown character scores than the worst token.
const UNKNOWN_PENALTY: f64 = 10.0;

/// The tokens sorted by their bytes, to be searched byte by byte, with their scores.
pub(crate) struct Unigram {
    entries: Vec<Entry>,
    // For each first byte, where its tokens begin in `entries`; 257 numbers.
    first_bytes: Vec<usize>,
    unknown_score: f64,
    byte_fallback: bool,
}

struct Entry {
    text: Box<[u8]>,
    id: u32,
    score: f64,
}

/// The best way to a place in the text.
#[derive(Clone, Copy)]
struct Best {
    score: f64,
    from: usize,
    // `None`: an unknown character.
    id: Option<u32>,
}

impl Unigram {
    /// Sorts the tokens of `vocabulary` and takes the scores of `spec`.
    pub(crate) fn new(
        spec: &Spec,
        vocabulary: &Vocabulary,
        byte_fallback: bool,
    ) -> Result<Self, TokenizerError> {
        let mut lowest = f64::INFINITY;
        let mut entries = Vec::new();
        for (text, id) in vocabulary.entries() {
            if text.len() > LONGEST_TOKEN {
                let what = "a token of a unigram model";
                return Err(TokenizerError::TooLarge { what, size: text.len(), limit: LONGEST_TOKEN });
            }
            let mut score = f64::from(spec.scores.get(id as usize).copied().unwrap_or_default());
            if vocabulary.kind(id) == Some(TokenType::UserDefined) {
                // Scores are log probabilities, so 0 is what no path without the token can beat.
                score = 0.0;
            } else {
                lowest = lowest.min(score);
            }
            entries.push(Entry { text: Box::from(text), id, score });
        }
        entries.sort_unstable_by(|a, b| a.text.cmp(&b.text));
        let first_bytes = (0..=256)
            .map(|byte| {
                entries
                    .partition_point(|entry| entry.text.first().is_some_and(|&first| u32::from(first) < byte))
            })
            .collect();
        let unknown_score = if lowest.is_finite() { lowest } else { 0.0 } - UNKNOWN_PENALTY;
        Ok(Self { entries, first_bytes, unknown_score, byte_fallback })
    }

    /// Calls `each` with every token that `text` begins with, shortest first.
    fn prefixes(&self, text: &[u8], mut each: impl FnMut(&Entry)) {
        let Some(&first) = text.first() else { return };
        let bound = |place: usize| self.first_bytes.get(place).copied().unwrap_or_default();
        let mut rest =
            self.entries.get(bound(first.into())..bound(usize::from(first) + 1)).unwrap_or_default();
        for length in 1..=text.len() {
            // All of `rest` begin with the `length` bytes; the one that is no longer stands first.
            let Some(entry) = rest.first() else { return };
            if entry.text.len() == length {
                each(entry);
                rest = rest.get(1..).unwrap_or_default();
            }
            let Some(&next) = text.get(length) else { return };
            let at = |entry: &Entry| entry.text.get(length).copied();
            let begin = rest.partition_point(|entry| at(entry) < Some(next));
            let end = rest.partition_point(|entry| at(entry) <= Some(next));
            rest = rest.get(begin..end).unwrap_or_default();
        }
    }

    /// Puts the tokens of `piece` behind `out`.
    pub(crate) fn encode(
        &self,
        vocabulary: &Vocabulary,
        piece: &str,
        out: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        let bytes = piece.as_bytes();
        let unreached = Best { score: f64::NEG_INFINITY, from: 0, id: None };
        let mut best = vec![unreached; bytes.len() + 1];
        if let Some(start) = best.first_mut() {
            start.score = 0.0;
        }
        for (from, c) in piece.char_indices() {
            let here = best.get(from).map_or(0.0, |best| best.score);
            let width = c.len_utf8();
            let mut spelt = false;
            self.prefixes(bytes.get(from..).unwrap_or_default(), |entry| {
                spelt |= entry.text.len() == width;
                let score = here + entry.score;
                if let Some(place) = best.get_mut(from + entry.text.len())
                    && score > place.score
                {
                    *place = Best { score, from, id: Some(entry.id) };
                }
            });
            let unknown = here + self.unknown_score;
            if !spelt
                && let Some(place) = best.get_mut(from + width)
                && unknown > place.score
            {
                *place = Best { score: unknown, from, id: None };
            }
        }
        self.trace_back(vocabulary, bytes, &best, out)
    }

    /// Follows the best path from the end; unknown neighbours become one unknown token.
    fn trace_back(
        &self,
        vocabulary: &Vocabulary,
        bytes: &[u8],
        best: &[Best],
        out: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        let mut path = Vec::new();
        let mut end = bytes.len();
        while end > 0 {
            let Some(step) = best.get(end) else { break };
            path.push((step.from..end, step.id));
            end = step.from;
        }
        let mut after_unknown = false;
        for (range, id) in path.into_iter().rev() {
            let text = bytes.get(range).unwrap_or_default();
            let was_unknown = std::mem::replace(&mut after_unknown, id.is_none());
            if let Some(id) = id {
                out.push(id);
            } else if self.byte_fallback && text.iter().all(|&byte| vocabulary.byte_token(byte).is_some()) {
                vocabulary.push_bytes(text, out)?;
            } else if !was_unknown {
                out.push(vocabulary.unk().ok_or_else(|| unspellable(text))?);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pipeline::Pipeline;
    use crate::spec::SpecialIds;

    /// The best score of all segmentations, tried out.
    fn best_score(spec: &Spec, unknown: f64, text: &str) -> f64 {
        if text.is_empty() {
            return 0.0;
        }
        let mut best = f64::NEG_INFINITY;
        let width = text.chars().next().map_or(0, char::len_utf8);
        let mut spelt = false;
        for (token, score) in spec.tokens.iter().zip(&spec.scores).skip(1) {
            if let Some(rest) = text.strip_prefix(token.as_str()) {
                spelt |= token.len() == width;
                best = best.max(f64::from(*score) + best_score(spec, unknown, rest));
            }
        }
        if !spelt {
            best = best.max(unknown + best_score(spec, unknown, &text[width..]));
        }
        best
    }

    proptest! {
        /// No segmentation scores higher than the one found.
        #[test]
        fn the_path_found_is_the_best(
            text in "[abé]{0,9}",
            tokens in prop::collection::btree_map("[abé]{1,4}", -9.0_f32..0.0, 1..12),
        ) {
            let (mut texts, mut scores): (Vec<String>, Vec<f32>) = (vec!["<unk>".into()], vec![0.0]);
            for (text, score) in tokens {
                texts.push(text);
                scores.push(score);
            }
            let types = [vec![TokenType::Unknown], vec![TokenType::Normal; texts.len() - 1]].concat();
            let special = SpecialIds { unk: Some(0), ..SpecialIds::default() };
            let spec = Spec { tokens: texts, scores, token_types: types, special, ..Spec::default() };
            let (vocabulary, _) = Vocabulary::new(&spec, &Pipeline::default()).unwrap();
            let model = Unigram::new(&spec, &vocabulary, false).unwrap();
            let mut ids = Vec::new();
            model.encode(&vocabulary, &text, &mut ids).unwrap();
            // Unknown neighbours are one token, so only paths without them have a plain sum.
            if !ids.contains(&0) {
                let score: f64 = ids.iter().map(|&id| f64::from(spec.scores[id as usize])).sum();
                prop_assert!((score - best_score(&spec, model.unknown_score, &text)).abs() < 1e-9);
                let spelt: String = ids.iter().map(|&id| spec.tokens[id as usize].as_str()).collect();
                prop_assert_eq!(spelt, text);
            }
        }
    }
}
