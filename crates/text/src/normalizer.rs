//! Steps that change the text before it is cut.

use std::borrow::Cow;

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use crate::charsmap::Charsmap;
use crate::classes::{NONSPACING_MARK, OTHER};
use crate::pattern::Pattern;

/// One step, named as in `tokenizer.json`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Normalizer {
    Nfc,
    Nfd,
    Nfkc,
    Nfkd,
    Lowercase,
    /// Drops nonspacing marks; meant for decomposed text.
    StripAccents,
    /// Drops blanks at the ends.
    Strip {
        left: bool,
        right: bool,
    },
    /// Puts text before a text that is not empty.
    Prepend(String),
    /// Replaces every match.
    Replace {
        pattern: Pattern,
        with: String,
    },
    /// Replaces a literal string.
    ReplaceText {
        text: String,
        with: String,
    },
    /// BERT's cleaning, as in its `BasicTokenizer`.
    Bert {
        clean: bool,
        space_chinese: bool,
        strip_accents: bool,
        lowercase: bool,
    },
    /// SentencePiece's compiled table.
    Charsmap(Charsmap),
    /// SentencePiece's treatment of blanks for unigram models: runs count as one, none at the ends.
    MergeSpaces,
}

impl Normalizer {
    /// The text after this step.
    pub(crate) fn apply<'a>(&self, text: Cow<'a, str>) -> Cow<'a, str> {
        match self {
            Self::Nfc if is_nfc_quick(text.chars()) == IsNormalized::Yes => text,
            Self::Nfc => Cow::Owned(text.nfc().collect()),
            Self::Nfd => Cow::Owned(text.nfd().collect()),
            Self::Nfkc => Cow::Owned(text.nfkc().collect()),
            Self::Nfkd => Cow::Owned(text.nfkd().collect()),
            Self::Lowercase => Cow::Owned(text.to_lowercase()),
            Self::StripAccents => {
                Cow::Owned(text.chars().filter(|&c| !NONSPACING_MARK.contains(c)).collect())
            }
            Self::Strip { left, right } => {
                let mut kept: &str = &text;
                if *left {
                    kept = kept.trim_start();
                }
                if *right {
                    kept = kept.trim_end();
                }
                Cow::Owned(kept.to_owned())
            }
            Self::Prepend(_) if text.is_empty() => text,
            Self::Prepend(prefix) => Cow::Owned(format!("{prefix}{text}")),
            Self::ReplaceText { text: from, .. } if !text.contains(from.as_str()) => text,
            Self::ReplaceText { text: from, with } => Cow::Owned(text.replace(from.as_str(), with)),
            Self::Replace { pattern, with } => {
                let mut out = String::with_capacity(text.len());
                pattern.parts(&text, |range, matched| {
                    out.push_str(if matched { with } else { text.get(range).unwrap_or_default() });
                });
                Cow::Owned(out)
            }
            Self::Bert { clean, space_chinese, strip_accents, lowercase } => {
                Cow::Owned(bert(&text, *clean, *space_chinese, *strip_accents, *lowercase))
            }
            Self::Charsmap(map) => Cow::Owned(map.normalize(&text)),
            Self::MergeSpaces => {
                let mut out = String::with_capacity(text.len());
                for word in text.split(' ').filter(|word| !word.is_empty()) {
                    if !out.is_empty() {
                        out.push(' ');
                    }
                    out.push_str(word);
                }
                Cow::Owned(out)
            }
        }
    }
}

/// BERT's `BasicTokenizer` up to the splitting.
fn bert(text: &str, clean: bool, space_chinese: bool, strip_accents: bool, lowercase: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if clean
            && (matches!(c, '\0' | '\u{fffd}') || (OTHER.contains(c) && !matches!(c, '\t' | '\n' | '\r')))
        {
            continue;
        }
        if clean && c.is_whitespace() {
            out.push(' ');
        } else if space_chinese && is_chinese(c) {
            out.extend([' ', c, ' ']);
        } else {
            out.push(c);
        }
    }
    if strip_accents {
        out = out.nfd().filter(|&c| !NONSPACING_MARK.contains(c)).collect();
    }
    if lowercase {
        out = out.to_lowercase();
    }
    out
}

/// The CJK blocks that BERT cuts into single characters.
fn is_chinese(c: char) -> bool {
    matches!(u32::from(c),
        0x4e00..=0x9fff | 0x3400..=0x4dbf | 0x2_0000..=0x2_a6df | 0x2_a700..=0x2_b73f | 0x2_b740..=0x2_b81f
        // BERT's own code has 0x2b820; the `tokenizers` package, and so every file made by it, 0x2b920.
        | 0x2_b920..=0x2_ceaf | 0xf900..=0xfaff | 0x2_f800..=0x2_fa1f)
}
