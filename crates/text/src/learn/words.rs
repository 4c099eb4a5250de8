//! The distinct pieces as runs of tokens, and the merge of a pair in one of them.

use super::LearnError;
use crate::hash::FastMap;

/// A pair of tokens as one number that orders by the left id, then by the right one.
pub(super) fn key(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

/// All pieces of more than one byte.
pub(super) struct Words {
    // The tokens of all words, one word after the other.
    tokens: Vec<u32>,
    words: Vec<Word>,
}

/// One piece: where its tokens lie, and how often it occurs.
struct Word {
    start: usize,
    length: usize,
    count: u64,
}

/// What a merge does to one pair in a word.
pub(super) enum Change {
    /// The pair is there once less.
    Lost(u64),
    /// The pair is there once more.
    Gained(u64),
}

impl Words {
    /// The pieces in `counts` as the tokens of their bytes.
    pub(super) fn new(counts: FastMap<Box<str>, u64>, of_byte: &[u32; 256]) -> Result<Self, LearnError> {
        let pieces = counts.len();
        if u32::try_from(pieces).is_err() {
            return Err(LearnError::TooManyPieces { pieces });
        }
        let (mut tokens, mut words) = (Vec::new(), Vec::with_capacity(pieces));
        // A single byte has no pair.
        for (piece, count) in counts.into_iter().filter(|(piece, _)| piece.len() > 1) {
            words.push(Word { start: tokens.len(), length: piece.len(), count });
            tokens.extend(piece.bytes().filter_map(|byte| of_byte.get(usize::from(byte))));
        }
        Ok(Self { tokens, words })
    }

    /// Every word's number, count and tokens.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, u64, &[u32])> {
        (0..).zip(&self.words).map(|(number, word)| {
            let tokens = self.tokens.get(word.start..word.start + word.length).unwrap_or_default();
            (number, word.count, tokens)
        })
    }

    /// Writes `merged` for each `left` with `right` behind it in word `number`, from left to right. Calls `change`
    /// with the word's count for the pairs with the neighbours that go and come. The merged pair itself is gone
    /// from the word afterwards, which is not reported.
    pub(super) fn merge(
        &mut self,
        number: u32,
        (left, right): (u32, u32),
        merged: u32,
        mut change: impl FnMut(Change, u64),
    ) {
        let Some(word) = self.words.get_mut(number as usize) else { return };
        let Some(tokens) = self.tokens.get_mut(word.start..word.start + word.length) else { return };
        let (mut from, mut to, mut previous) = (0, 0, None);
        while let Some(&token) = tokens.get(from) {
            let mut now = token;
            from += 1;
            if token == left && tokens.get(from) == Some(&right) {
                now = merged;
                from += 1;
                if let Some(previous) = previous {
                    change(Change::Lost(key(previous, left)), word.count);
                    change(Change::Gained(key(previous, merged)), word.count);
                }
                if let Some(&next) = tokens.get(from) {
                    change(Change::Lost(key(right, next)), word.count);
                    change(Change::Gained(key(merged, next)), word.count);
                }
            }
            if let Some(slot) = tokens.get_mut(to) {
                *slot = now;
            }
            to += 1;
            previous = Some(now);
        }
        word.length = to;
    }
}
