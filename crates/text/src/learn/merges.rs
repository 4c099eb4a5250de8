//! The merges, most frequent pair first.
//!
//! A step costs the words that have the pair, not all words: an index says for every pair which those are, and
//! its count is kept up to date. All pairs that a step makes have the new token in them, so once a pair is in
//! the queue its count only falls: what comes out with too large a count goes back with the right one.
//!
//! No token comes out of two different pairs. As long as no token reaches across the ends of a stretch of text,
//! what the merges made of it does not depend on what is beside it, so equal stretches are equal tokens: when
//! the first pair was merged, the second one's text was that pair as well.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::words::{Change, Words, key};
use crate::hash::FastMap;

/// How often a pair occurs, and in which words.
#[derive(Default)]
struct Pair {
    count: u64,
    // Every word that has the pair, and some that have lost it.
    words: Vec<u32>,
}

impl Pair {
    /// Counts the pair `count` times more in `word`. The calls for one word follow each other.
    fn gain(&mut self, word: u32, count: u64) {
        self.count = self.count.saturating_add(count);
        if self.words.last() != Some(&word) {
            self.words.push(word);
        }
    }
}

/// The vocabulary as it grows, and what is known of the pairs in the words.
pub(super) struct Merges {
    tokens: Vec<String>,
    control: usize,
    merges: Vec<String>,
    words: Words,
    pairs: FastMap<u64, Pair>,
    // The largest count first, among equals the smallest pair.
    queue: BinaryHeap<(u64, Reverse<u64>)>,
}

impl Merges {
    /// Counts the pairs of `words`; `tokens` are the control tokens, `control` of them, and the bytes.
    pub(super) fn new(tokens: Vec<String>, control: usize, words: Words) -> Self {
        let mut pairs: FastMap<u64, Pair> = FastMap::default();
        for (number, count, tokens) in words.iter() {
            for (&left, &right) in tokens.iter().zip(tokens.iter().skip(1)) {
                pairs.entry(key(left, right)).or_default().gain(number, count);
            }
        }
        let queue = pairs.iter().map(|(&pair, known)| (known.count, Reverse(pair))).collect();
        Self { tokens, control, merges: Vec::new(), words, pairs, queue }
    }

    /// The tokens so far.
    pub(super) fn tokens(&self) -> &[String] {
        &self.tokens
    }

    /// The tokens and the merges, in the form of [`crate::Spec`].
    pub(super) fn into_parts(self) -> (Vec<String>, Vec<String>) {
        (self.tokens, self.merges)
    }

    /// Makes a token of the next pair, if there is one that occurs `lowest_count` times. Says whether there was.
    pub(super) fn step(&mut self, lowest_count: u64) -> bool {
        while let Some((believed, Reverse(pair))) = self.queue.pop() {
            let count = self.pairs.get(&pair).map_or(0, |known| known.count);
            if count == 0 {
                self.pairs.remove(&pair);
                continue;
            }
            if count != believed {
                self.queue.push((count, Reverse(pair)));
                continue;
            }
            if count < lowest_count {
                return false;
            }
            let words = self.pairs.remove(&pair).unwrap_or_default().words;
            let (left, right) = ((pair >> 32) as u32, pair as u32);
            if let Some(merged) = self.add_token(left, right) {
                self.merge_in(&words, (left, right), merged);
                return true;
            }
        }
        false
    }

    /// Enters the token of `left` and `right`, and its merge. There is none if it would be spelt like a control
    /// token, which text must not give.
    fn add_token(&mut self, left: u32, right: u32) -> Option<u32> {
        let (first, second) = (self.tokens.get(left as usize)?, self.tokens.get(right as usize)?);
        let text = [first.as_str(), second.as_str()].concat();
        if self.tokens.get(..self.control)?.contains(&text) {
            return None;
        }
        self.merges.push([first.as_str(), " ", second.as_str()].concat());
        self.tokens.push(text);
        u32::try_from(self.tokens.len() - 1).ok()
    }

    /// Merges `pair` in `words` and brings the counts up to date.
    fn merge_in(&mut self, words: &[u32], pair: (u32, u32), merged: u32) {
        let Self { words: all, pairs, queue, .. } = self;
        let mut new = Vec::new();
        for &word in words {
            all.merge(word, pair, merged, |change, count| match change {
                Change::Lost(pair) => {
                    if let Some(known) = pairs.get_mut(&pair) {
                        known.count = known.count.saturating_sub(count);
                    }
                }
                Change::Gained(pair) => {
                    let known = pairs.entry(pair).or_default();
                    if known.words.is_empty() {
                        new.push(pair);
                    }
                    known.gain(word, count);
                }
            });
        }
        let counts = new.into_iter().filter_map(|pair| Some((pairs.get(&pair)?.count, Reverse(pair))));
        queue.extend(counts);
    }
}
