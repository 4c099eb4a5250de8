//! Finding special tokens in text, and knowing which of them end a generation.

use std::ops::Range;

use aho_corasick::{AhoCorasick, MatchKind};

use crate::classes::WORD;
use crate::error::TokenizerError;
use crate::pipeline::Strip;
use crate::spec::{Spec, TokenType};
use crate::vocabulary::TextIds;

/// A stretch of the input.
pub(crate) enum Segment {
    /// Text for the model, as a range of bytes.
    Text(Range<usize>),
    /// A special token.
    Token(u32),
}

/// Finds the tokens that are split off before the model sees the text.
pub(crate) struct SpecialTokens {
    // Control, unknown and user-defined tokens; and user-defined tokens alone.
    all: Option<Matcher>,
    user_defined: Option<Matcher>,
    strips: Vec<Strip>,
}

struct Matcher {
    automaton: AhoCorasick,
    ids: Vec<u32>,
}

impl Matcher {
    fn new(spec: &Spec, wanted: impl Fn(TokenType) -> bool) -> Result<Option<Self>, TokenizerError> {
        let (ids, texts): (Vec<u32>, Vec<&str>) = (0..)
            .zip(&spec.tokens)
            .zip(&spec.token_types)
            .filter(|((_, text), kind)| wanted(**kind) && !text.is_empty())
            .map(|((id, text), _)| (id, text.as_str()))
            .unzip();
        if ids.is_empty() {
            return Ok(None);
        }
        // The longest token wins where several begin at the same place.
        let automaton =
            AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(texts).map_err(|_| {
                TokenizerError::TooLarge {
                    what: "the set of special tokens",
                    size: ids.len(),
                    limit: u32::MAX as usize,
                }
            })?;
        Ok(Some(Self { automaton, ids }))
    }
}

impl SpecialTokens {
    /// Collects the special tokens of `spec`.
    pub(crate) fn new(spec: &Spec, strips: &[Strip]) -> Result<Self, TokenizerError> {
        let user_defined = |kind| kind == TokenType::UserDefined;
        let all = |kind| matches!(kind, TokenType::Control | TokenType::Unknown | TokenType::UserDefined);
        let mut strips = strips.to_vec();
        strips.sort_unstable_by_key(|strip| strip.id);
        Ok(Self { all: Matcher::new(spec, all)?, user_defined: Matcher::new(spec, user_defined)?, strips })
    }

    /// Cuts `text` into special tokens and what lies between. Control tokens count only if `parse_special`.
    pub(crate) fn segments(&self, text: &str, parse_special: bool) -> Vec<Segment> {
        let matcher = if parse_special { &self.all } else { &self.user_defined };
        let mut segments = Vec::new();
        let mut done = 0;
        for found in matcher.iter().flat_map(|matcher| matcher.automaton.find_iter(text)) {
            let Some(&id) = matcher.as_ref().and_then(|matcher| matcher.ids.get(found.pattern().as_usize()))
            else {
                continue;
            };
            let (mut begin, mut end) = (found.start(), found.end());
            if begin < done {
                // A token before it has swallowed the blanks that this one begins with.
                continue;
            }
            let strip = self.strips.binary_search_by_key(&id, |strip| strip.id).ok();
            if let Some(strip) = strip.and_then(|place| self.strips.get(place)) {
                let (before, after) =
                    (text.get(done..begin).unwrap_or_default(), text.get(end..).unwrap_or_default());
                let in_word = |c: Option<char>| c.is_some_and(|c| WORD.contains(c));
                if strip.single_word && (in_word(before.chars().next_back()) || in_word(after.chars().next()))
                {
                    continue;
                }
                if strip.left {
                    begin = done + before.trim_end().len();
                }
                if strip.right {
                    end = text.len() - after.trim_start().len();
                }
            }
            if begin > done {
                segments.push(Segment::Text(done..begin));
            }
            segments.push(Segment::Token(id));
            done = end;
        }
        if done < text.len() {
            segments.push(Segment::Text(done..text.len()));
        }
        segments
    }
}

/// Texts of tokens that end a turn, a message or a text, whatever their declared type: files often leave
/// them out of the metadata or declare them as ordinary.
const ENDS: &[&str] = &[
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|calls|>",
    "<|flush|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<end_of_turn>",
    "<turn|>",
    "<|tool_response>",
    "<end_of_utterance>",
    "<｜end▁of▁sentence｜>",
    "<|end▁of▁sentence|>",
    "[e~[",
];

/// The same for texts that could also be ordinary words of a vocabulary: these count as control tokens only.
const ENDS_IF_CONTROL: &[&str] = &[
    "</s>",
    "<eos>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    // A code model that begins another file has finished this one.
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
];

/// The ids after which a model has nothing more to say, sorted.
pub(crate) fn end_of_generation(spec: &Spec, ids: &TextIds<'_>) -> Vec<u32> {
    let kind = |id: u32| spec.token_types.get(id as usize).copied().unwrap_or_default();
    let by_text = ENDS.iter().filter_map(|text| ids.get(text).copied());
    let by_type = ENDS_IF_CONTROL.iter().filter_map(|text| ids.get(text).copied());
    let mut ends: Vec<u32> = by_text
        .chain(by_type.filter(|&id| kind(id) == TokenType::Control))
        .chain([spec.special.eos, spec.special.eot, spec.special.eom].into_iter().flatten())
        .chain(spec.end_of_generation.iter().copied())
        .collect();
    ends.sort_unstable();
    ends.dedup();
    // In these dialects `<|end|>` separates the parts of one answer, and `</s>` is plain text.
    let has = |text: &str| ids.contains_key(text);
    if has("<|return|>") && has("<|call|>") || has("<|calls|>") && has("<|flush|>") {
        ends.retain(|id| ids.get("<|end|>") != Some(id));
    }
    if has("<|tool_response>") {
        ends.retain(|id| ids.get("</s>") != Some(id) || spec.special.eos == Some(*id));
    }
    ends
}
