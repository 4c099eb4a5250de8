//! Keeping control tokens that someone wrote apart from those that a template writes.
//!
//! A template writes control tokens as text, such as `<|im_end|>`, and so could anyone who writes a message, a tool's
//! description or its result; that would forge the structure of the conversation. Before the template sees such a
//! text, the first character of every control token in it is replaced by a private-use character that nothing else
//! has. The rendered text is then cut at the control tokens that are left, which are the template's own, and the
//! pieces between get their characters back and become tokens as plain text.
//!
//! Texts can also be halves of a control token that a template puts side by side; so the beginning of one at the
//! end of a text is broken in the same way.

use std::collections::{BTreeSet, HashSet};

use aho_corasick::AhoCorasick;
use serde_json::Map as JsonMap;
use serde_json::Value as Json;

use super::error::ChatError;
use crate::tokenizer::Tokenizer;

/// The control tokens of a model.
#[derive(Debug, Clone)]
pub(super) struct Guard {
    /// Finds where one begins. Of tokens that begin alike it has the shortest, so no two begin at one place.
    beginnings: Option<AhoCorasick>,
    /// All of them, sorted.
    texts: Vec<String>,
    longest: usize,
}

/// Which character stands for which.
#[derive(Debug, Default)]
pub(super) struct Marks {
    pairs: Vec<(char, char)>,
    free: Option<char>,
}

impl Marks {
    /// A character that occurs nowhere, for another purpose.
    pub(super) fn free(&self) -> Option<char> {
        self.free
    }

    /// Puts the characters back that were replaced.
    pub(super) fn restore(&self, text: &str) -> String {
        let original =
            |c| self.pairs.iter().find(|(mark, _)| *mark == c).map_or(c, |(_, original)| *original);
        text.chars().map(original).collect()
    }
}

/// A string that cannot hold a control token of any sane vocabulary, but that templates compare: a role, a type, a key.
fn is_plain_word(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
}

/// Whether `c` can stand for another.
fn is_private(c: char) -> bool {
    // Supplementary private use areas A and B (Unicode 16, section 23.5).
    matches!(c, '\u{F0000}'..='\u{FFFFD}' | '\u{100000}'..='\u{10FFFD}')
}

impl Guard {
    pub(super) fn new(tokenizer: &Tokenizer) -> Self {
        let mut texts: Vec<String> = tokenizer.structural_texts().map(str::to_owned).collect();
        texts.sort_unstable();
        texts.dedup();
        let mut shortest: Vec<&str> = Vec::new();
        for text in &texts {
            // What begins with a text stands right behind it in the order.
            if shortest.last().is_none_or(|last| !text.starts_with(last)) {
                shortest.push(text);
            }
        }
        // Building fails beyond 2^31 states only, and a vocabulary's names are far from it.
        let beginnings = AhoCorasick::new(&shortest).ok().filter(|_| !texts.is_empty());
        let longest = texts.iter().map(String::len).max().unwrap_or(0);
        Self { beginnings, texts, longest }
    }

    /// Where in `text` a control token begins, or may begin if another text follows.
    fn places(&self, text: &str) -> BTreeSet<usize> {
        let found = self.beginnings.iter().flat_map(|automaton| automaton.find_overlapping_iter(text));
        let mut places: BTreeSet<usize> = found.map(|found| found.start()).collect();
        let tail = text.len().saturating_sub(self.longest);
        let ends = text.char_indices().rev().take_while(|(at, _)| *at > tail || tail == 0);
        for (at, first) in ends {
            let end = text.get(at..).unwrap_or_default();
            let place = self.texts.partition_point(|text| text.as_str() < end);
            let begins = self.texts.get(place).is_some_and(|text| text.starts_with(end));
            // A word's last letter is no attempt.
            if begins && !first.is_alphanumeric() {
                places.insert(at);
            }
        }
        places
    }

    /// Breaks the control tokens in all strings of `values`, and says how to restore them. `source` is the template,
    /// whose characters are its own.
    pub(super) fn hide(&self, values: &mut [&mut Json], source: &str) -> Result<Marks, ChatError> {
        let mut used: HashSet<char> = source.chars().filter(|c| is_private(*c)).collect();
        let mut broken: BTreeSet<char> = BTreeSet::new();
        for value in values.iter() {
            each_string(value, &mut |text, place| {
                used.extend(text.chars().filter(|c| is_private(*c)));
                if !place.is_structure(text) {
                    let first = |at: usize| text.get(at..).and_then(|rest| rest.chars().next());
                    broken.extend(self.places(text).into_iter().filter_map(first));
                }
            });
        }
        let private = ('\u{F0000}'..='\u{10FFFD}').filter(|c| is_private(*c));
        let mut free = private.filter(|c| !used.contains(c));
        let mut pairs = Vec::new();
        for original in broken {
            pairs.push((free.next().ok_or(ChatError::NoFreeCharacter)?, original));
        }
        let marks = Marks { pairs, free: free.next() };
        if !marks.pairs.is_empty() {
            values.iter_mut().for_each(|value| self.replace(value, Place::Value, &marks));
        }
        Ok(marks)
    }

    fn replace(&self, value: &mut Json, place: Place, marks: &Marks) {
        match value {
            Json::String(text) => {
                if let Some(hidden) = self.hidden(text, place, marks) {
                    *text = hidden;
                }
            }
            Json::Array(items) => items.iter_mut().for_each(|item| self.replace(item, Place::Value, marks)),
            Json::Object(entries) => {
                let hidden = std::mem::take(entries).into_iter().map(|(key, mut value)| {
                    self.replace(&mut value, Place::of(&key), marks);
                    (self.hidden(&key, Place::Key, marks).unwrap_or(key), value)
                });
                *entries = hidden.collect::<JsonMap<_, _>>();
            }
            _ => {}
        }
    }

    fn hidden(&self, text: &str, place: Place, marks: &Marks) -> Option<String> {
        if place.is_structure(text) {
            return None;
        }
        let places = self.places(text);
        let mark =
            |c: char| marks.pairs.iter().find(|(_, original)| *original == c).map_or(c, |(mark, _)| *mark);
        let hide = |(at, c)| if places.contains(&at) { mark(c) } else { c };
        (!places.is_empty()).then(|| text.char_indices().map(hide).collect())
    }
}

/// Where in a conversation a string stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Key,
    /// The value of `role` or `type`.
    Word,
    Value,
}

impl Place {
    fn of(key: &str) -> Self {
        if matches!(key, "role" | "type") { Self::Word } else { Self::Value }
    }

    fn is_structure(self, text: &str) -> bool {
        self != Self::Value && is_plain_word(text)
    }
}

/// Shows every string in `value`, keys included.
fn each_string(value: &Json, see: &mut impl FnMut(&str, Place)) {
    fn walk(value: &Json, place: Place, see: &mut impl FnMut(&str, Place)) {
        match value {
            Json::String(text) => see(text, place),
            Json::Array(items) => items.iter().for_each(|item| walk(item, Place::Value, see)),
            Json::Object(entries) => entries.iter().for_each(|(key, value)| {
                see(key, Place::Key);
                walk(value, Place::of(key), see);
            }),
            _ => {}
        }
    }
    walk(value, Place::Value, see);
}
