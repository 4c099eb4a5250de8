//! The regular expressions of pre-tokenizers, in linear time.
//!
//! Tokenizers publish their splits as expressions for backtracking engines. Their only use of backtracking
//! is the alternative `\s+(?!\S)`: whitespace up to, but without, the last blank before a word. Here the
//! alternatives are compiled for an automaton, that one as plain `\s+`, and its match gives the last
//! character back when a word follows. So no text, however hostile, costs more than linear time.

use std::ops::Range;

use regex_automata::meta::Regex;
use regex_automata::{Anchored, Input};
use regex_syntax::hir::Hir;

use crate::error::{TokenizerError, shorten};

/// The largest compiled automaton: patterns from a file must not take all memory. Published ones need up to
/// 300 kB.
const SIZE_LIMIT: usize = 1 << 20;

/// A compiled pattern.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    regex: Regex,
    alternatives: Vec<Hir>,
    // For each alternative: whether it is `\s+(?!\S)`.
    gives_back: Vec<bool>,
}

/// Patterns are equal when they mean the same expression, however it is written (`\n` or a line feed).
impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.alternatives == other.alternatives && self.gives_back == other.gives_back
    }
}

impl Pattern {
    /// Compiles `source`: Rust's `regex` syntax, `\s+(?!\S)` as an alternative at the top level, and
    /// possessive quantifiers, which are read as greedy ones (they differ only in what a failing match
    /// costs, where the parts of an alternative share no characters, as in all published pre-tokenizers).
    pub(crate) fn new(source: &str) -> Result<Self, TokenizerError> {
        let fail = |message: String| TokenizerError::Pattern { pattern: shorten(source, 200), message };
        let mut alternatives = Vec::new();
        let mut gives_back = Vec::new();
        for alternative in split_alternatives(source) {
            let is_tail = alternative == r"\s+(?!\S)";
            let plain = if is_tail { r"\s+".to_owned() } else { drop_possessive(alternative) };
            if ["(?!", "(?=", "(?<!", "(?<="].iter().any(|look| plain.contains(look)) {
                return Err(fail(format!(
                    "look-around other than `\\s+(?!\\S)` is not supported: `{alternative}`"
                )));
            }
            alternatives.push(regex_syntax::parse(&plain).map_err(|error| fail(error.to_string()))?);
            gives_back.push(is_tail);
        }
        // Groups are only brackets here, and need no memory at each step.
        let captures = regex_automata::nfa::thompson::WhichCaptures::Implicit;
        let config = Regex::config().nfa_size_limit(Some(SIZE_LIMIT)).which_captures(captures);
        let regex = Regex::builder()
            .configure(config)
            .build_many_from_hir(&alternatives)
            .map_err(|error| fail(error.to_string()))?;
        Ok(Self { regex, alternatives, gives_back })
    }

    /// A pattern that matches exactly `text`.
    pub(crate) fn literal(text: &str) -> Result<Self, TokenizerError> {
        Self::new(&regex_syntax::escape(text))
    }

    /// The first match in `text` at or after byte `from`.
    fn find(&self, text: &str, from: usize) -> Option<Range<usize>> {
        // Matches mostly follow each other without a gap: trying at `from` only spares the search backwards
        // for the match's begin.
        let anchored = Input::new(text).range(from..).anchored(Anchored::Yes);
        let found = self.regex.find(anchored).or_else(|| self.regex.find(Input::new(text).range(from..)))?;
        let range = found.range();
        if self.gives_back.get(found.pattern().as_usize()) == Some(&true)
            && text.get(range.end..).is_some_and(|rest| !rest.is_empty())
            && let Some((last, _)) =
                text.get(range.clone()).and_then(|blank| blank.char_indices().next_back())
            && last > 0
        {
            return Some(range.start..range.start + last);
        }
        Some(range)
    }

    /// Calls `each` with the parts of `text` in order: its matches (`true`) and what lies between (`false`).
    /// Empty matches are passed over.
    pub(crate) fn parts(&self, text: &str, mut each: impl FnMut(Range<usize>, bool)) {
        let mut done = 0;
        let mut from = 0;
        while from < text.len() {
            let Some(found) = self.find(text, from) else { break };
            if found.is_empty() {
                from = next_boundary(text, found.end);
                continue;
            }
            if found.start > done {
                each(done..found.start, false);
            }
            done = found.end;
            from = found.end;
            each(found, true);
        }
        if done < text.len() {
            each(done..text.len(), false);
        }
    }
}

/// The end of the character that begins at `at`.
fn next_boundary(text: &str, at: usize) -> usize {
    at + text.get(at..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8)
}

/// Splits an expression at the `|` that are in no group and no class.
fn split_alternatives(source: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut groups, mut classes, mut begin, mut escaped) = (0_usize, 0_usize, 0, false);
    for (place, c) in source.char_indices() {
        if escaped {
            escaped = false;
            continue;
        }
        match c {
            '\\' => escaped = true,
            '[' => classes += 1,
            ']' => classes = classes.saturating_sub(1),
            '(' if classes == 0 => groups += 1,
            ')' if classes == 0 => groups = groups.saturating_sub(1),
            '|' if classes == 0 && groups == 0 => {
                parts.push(source.get(begin..place).unwrap_or_default());
                begin = place + 1;
            }
            _ => {}
        }
    }
    parts.push(source.get(begin..).unwrap_or_default());
    parts
}

/// Turns the possessive quantifiers `?+`, `*+`, `++` into greedy ones.
fn drop_possessive(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let (mut classes, mut escaped, mut after_quantifier) = (0_usize, false, false);
    for c in source.chars() {
        let quantifier = !escaped && classes == 0 && matches!(c, '?' | '*' | '+');
        if quantifier && c == '+' && after_quantifier {
            after_quantifier = false;
            continue;
        }
        after_quantifier = quantifier && !out.ends_with('(');
        if escaped {
            escaped = false;
        } else {
            match c {
                '\\' => escaped = true,
                '[' => classes += 1,
                ']' => classes = classes.saturating_sub(1),
                _ => {}
            }
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(pattern: &str, text: &str) -> Vec<String> {
        let mut out = Vec::new();
        Pattern::new(pattern).unwrap().parts(text, |range, matched| {
            out.push(if matched { text[range].to_owned() } else { format!("<{}>", &text[range]) });
        });
        out
    }

    #[test]
    fn blanks_before_a_word_leave_it_its_last_one() {
        let pattern = r" ?\p{L}+|\s+(?!\S)|\s+";
        assert_eq!(parts(pattern, "a   b"), ["a", "  ", " b"]);
        assert_eq!(parts(pattern, "a\tb"), ["a", "\t", "b"]);
        assert_eq!(parts(pattern, "a  \u{3000}b"), ["a", "  ", "\u{3000}", "b"]);
        assert_eq!(parts(pattern, "a   "), ["a", "   "]);
        assert_eq!(parts(pattern, " !"), [" ", "<!>"]);
    }

    #[test]
    fn possessive_quantifiers_match_as_greedy_ones() {
        assert_eq!(parts(r"[^\r\n\p{L}\p{N}]?+\p{L}++|[?+]++|\++", "-ab?+ ++"), ["-ab", "?+", "< >", "++"]);
    }

    #[test]
    fn what_the_engine_lacks_is_refused_by_name() {
        for pattern in
            [r"\d{1,3}(?=(?:\d{3})*\b)", r"a(?!b)", r"(?<=a)b", r"(a", r"\p{Nonsense}", "a{9999999}"]
        {
            let error = Pattern::new(pattern).unwrap_err();
            assert!(matches!(error, TokenizerError::Pattern { .. }), "{pattern}: {error}");
        }
    }

    #[test]
    fn hostile_blanks_are_linear() {
        // A backtracking engine would need 10^12 steps for some of these.
        let llama3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
        for text in
            [" ".repeat(1 << 20) + "x", "\n ".repeat(1 << 19), "A".repeat(1 << 20), "' ".repeat(1 << 19)]
        {
            let mut total = 0;
            Pattern::new(llama3).unwrap().parts(&text, |range, _| total += range.len());
            assert_eq!(total, text.len());
        }
    }
}
