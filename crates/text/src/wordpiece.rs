//! WordPiece as BERT uses it: in each word, the longest token from the left, again and again; a word that
//! cannot be finished is unknown as a whole (Wu et al. 2016, arXiv:1609.08144).

use crate::error::TokenizerError;
use crate::vocabulary::{META_SPACE, Vocabulary, unspellable};

/// Words of more characters are unknown, as in BERT's own tokenizer; this also bounds the search.
const LONGEST_WORD: usize = 100;

/// Puts the tokens of the word `piece` behind `out`. The token that begins a word is spelt with `▁` before
/// it, one that continues a word without.
pub(crate) fn encode(vocabulary: &Vocabulary, piece: &str, out: &mut Vec<u32>) -> Result<(), TokenizerError> {
    let before = out.len();
    let spelt = piece.chars().nth(LONGEST_WORD).is_none() && spell(vocabulary, piece, out);
    if !spelt {
        out.truncate(before);
        out.push(vocabulary.unk().ok_or_else(|| unspellable(piece.as_bytes()))?);
    }
    Ok(())
}

/// Spells the word; `false` if it has no such tokens.
fn spell(vocabulary: &Vocabulary, piece: &str, out: &mut Vec<u32>) -> bool {
    let word = format!("{META_SPACE}{piece}");
    let mut begin = 0;
    // The mark alone is no beginning of a word.
    let mut shortest = META_SPACE.len_utf8() + 1;
    while begin < word.len() {
        // A `▁` of the text itself must not pass for the mark of a word's begin.
        if begin > 0 && word.get(begin..).is_some_and(|rest| rest.starts_with(META_SPACE)) {
            return false;
        }
        let ends = (begin + shortest..=word.len()).rev().filter(|&end| word.is_char_boundary(end));
        let found =
            ends.filter_map(|end| Some((end, vocabulary.find(word.as_bytes().get(begin..end)?)?))).next();
        let Some((end, id)) = found else { return false };
        out.push(id);
        begin = end;
        shortest = 1;
    }
    true
}
