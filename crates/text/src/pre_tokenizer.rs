//! Steps that cut text into the pieces that no token crosses.

use std::ops::Range;

use crate::pattern::Pattern;

/// What becomes of the matches of a split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behavior {
    /// Matches and what lies between are pieces.
    Isolated,
    /// Only what lies between are pieces.
    Removed,
    /// A match ends the piece before it.
    MergedWithPrevious,
    /// A match begins the piece after it.
    MergedWithNext,
    /// Neighbouring matches are one piece.
    Contiguous,
}

/// Where a [`PreTokenizer::MetaSpace`] puts its mark without a space in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prepend {
    /// Before every stretch of text.
    Always,
    /// Only at the begin of the whole text.
    First,
    /// Nowhere.
    Never,
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum PreTokenizer {
    /// Cuts at the matches of a pattern; inverted, at what lies between them.
    Split { pattern: Pattern, behavior: Behavior, invert: bool },
    /// Puts a space before every piece that has none.
    SpacePrefix,
    /// Writes spaces as `mark` and cuts before each.
    MetaSpace { mark: char, prepend: Prepend, split: bool },
    /// Cuts before every run of `mark`.
    BeforeRuns { mark: char },
}

/// Text and the pieces that it is cut into.
pub(crate) struct Pieces {
    pub(crate) text: String,
    pub(crate) ranges: Vec<Range<usize>>,
    /// Whether the text begins the whole input (no special token before it).
    pub(crate) at_start: bool,
}

impl Pieces {
    /// One piece: all of `text`.
    pub(crate) fn new(text: String, at_start: bool) -> Self {
        let whole = 0..text.len();
        let ranges = Some(whole).filter(|whole| !whole.is_empty()).into_iter().collect();
        Self { text, ranges, at_start }
    }

    /// Applies one step.
    pub(crate) fn apply(self, step: &PreTokenizer) -> Self {
        match step {
            PreTokenizer::Split { pattern, behavior, invert } => self.split(pattern, *behavior, *invert),
            PreTokenizer::SpacePrefix => self.rewrite(|piece, _, out| {
                if !piece.starts_with(' ') {
                    out.push(' ');
                }
                out.push_str(piece);
            }),
            PreTokenizer::MetaSpace { mark, prepend, split } => {
                let marked = self.rewrite(|piece, first, out| {
                    let begins = match prepend {
                        Prepend::Always => true,
                        Prepend::First => first,
                        Prepend::Never => false,
                    };
                    if begins && !piece.starts_with([' ', *mark]) {
                        out.push(*mark);
                    }
                    out.extend(piece.chars().map(|c| if c == ' ' { *mark } else { c }));
                });
                if *split { marked.split_before(*mark, false) } else { marked }
            }
            PreTokenizer::BeforeRuns { mark } => self.split_before(*mark, true),
        }
    }

    /// Cuts every piece before each `mark`, or before each run of them.
    fn split_before(self, mark: char, runs: bool) -> Self {
        let mut ranges = Vec::with_capacity(self.ranges.len());
        for range in &self.ranges {
            let mut begin = range.start;
            let mut run_end = begin;
            for (place, _) in self.text.get(range.clone()).unwrap_or_default().match_indices(mark) {
                let place = range.start + place;
                let continues = runs && place == run_end;
                run_end = place + mark.len_utf8();
                if place > begin && !continues {
                    ranges.push(begin..place);
                    begin = place;
                }
            }
            ranges.push(begin..range.end);
        }
        Self { ranges, ..self }
    }

    /// Rewrites every piece; `write` gets the piece, whether it begins the whole input, and the output.
    fn rewrite(self, write: impl Fn(&str, bool, &mut String)) -> Self {
        let mut text = String::with_capacity(self.text.len() + 8);
        let mut ranges = Vec::with_capacity(self.ranges.len());
        for range in self.ranges {
            let begin = text.len();
            let first = self.at_start && range.start == 0;
            write(self.text.get(range).unwrap_or_default(), first, &mut text);
            ranges.push(begin..text.len());
        }
        Self { text, ranges, at_start: self.at_start }
    }

    fn split(self, pattern: &Pattern, behavior: Behavior, invert: bool) -> Self {
        let mut ranges: Vec<Range<usize>> = Vec::with_capacity(self.ranges.len());
        for outer in &self.ranges {
            let piece = self.text.get(outer.clone()).unwrap_or_default();
            let floor = ranges.len();
            // Whether the last piece of this range was, or ends with, a match; a match that waits for its
            // successor begins at `waiting`.
            let mut last_matched = false;
            let mut waiting: Option<usize> = None;
            pattern.parts(piece, |part, matched| {
                let part = outer.start + part.start..outer.start + part.end;
                let matched = matched != invert;
                let grows = match behavior {
                    Behavior::Isolated => false,
                    Behavior::Removed => {
                        if !matched {
                            ranges.push(part);
                        }
                        return;
                    }
                    Behavior::MergedWithPrevious => matched && !last_matched,
                    Behavior::Contiguous => matched == last_matched,
                    Behavior::MergedWithNext => {
                        match (matched, waiting.take()) {
                            (true, before) => {
                                // A match after a match: the first is a piece of its own.
                                if let Some(begin) = before {
                                    ranges.push(begin..part.start);
                                }
                                waiting = Some(part.start);
                            }
                            (false, Some(begin)) => ranges.push(begin..part.end),
                            (false, None) => ranges.push(part),
                        }
                        return;
                    }
                };
                last_matched = matched;
                if grows
                    && ranges.len() > floor
                    && let Some(last) = ranges.last_mut()
                {
                    last.end = part.end;
                } else {
                    ranges.push(part);
                }
            });
            if let Some(begin) = waiting {
                ranges.push(begin..outer.end);
            }
        }
        Self { ranges, ..self }
    }
}
