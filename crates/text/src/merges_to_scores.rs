//! SentencePiece's scores from a list of merges.
//!
//! Files that carry SentencePiece BPE as a `tokenizer.json` list every split of every token as a merge, in
//! the order of the tokens' scores. Then the rank of a token's first merge, negated, is a score that gives
//! the same tokens. A list that says more than scores can (a token that may be merged from one split but
//! not from another) cannot be written as scores and is refused.

use crate::error::TokenizerError;
use crate::hash::FastMap;
use crate::spec::{Model, Spec, TokenType};

/// Turns rank-based BPE over characters into [`Model::SentencePiece`].
pub(crate) fn apply(spec: &mut Spec) -> Result<(), TokenizerError> {
    let refuse = |value: String| TokenizerError::Unsupported {
        file: "tokenizer.json".into(),
        field: "model.merges".into(),
        value,
    };
    // The ranks of each token's merges: the first, the last, and how many.
    let mut ranks: FastMap<String, (usize, usize, usize)> = FastMap::default();
    for (rank, merge) in spec.merges.iter().enumerate() {
        let token = merge.replacen(' ', "", 1);
        let entry = ranks.entry(token).or_insert((rank, rank, 0));
        entry.1 = rank;
        entry.2 += 1;
    }
    let known = |text: &str, kinds: &FastMap<&str, TokenType>| {
        kinds.get(text).is_some_and(|kind| matches!(kind, TokenType::Normal | TokenType::UserDefined))
    };
    let kinds: FastMap<&str, TokenType> = spec
        .tokens
        .iter()
        .enumerate()
        .map(|(id, text)| (text.as_str(), spec.token_types.get(id).copied().unwrap_or_default()))
        .collect();
    let mut scores = Vec::with_capacity(spec.tokens.len());
    for text in &spec.tokens {
        let splits = text.char_indices().skip(1).filter(|&(place, _)| {
            let (left, right) = text.split_at_checked(place).unwrap_or_default();
            known(left, &kinds) && known(right, &kinds)
        });
        // Tokens that are no text are never merged, whatever the list says.
        if !known(text, &kinds) {
            scores.push(0.0);
            continue;
        }
        let splits = splits.count();
        match ranks.get(text) {
            None if splits == 0 => scores.push(0.0),
            None => return Err(refuse(format!("a list without a merge for the token {text:?}"))),
            Some(&(first, last, count)) => {
                if count != splits || last - first + 1 != count {
                    return Err(refuse(format!(
                        "a list that ranks the splits of {text:?} apart, not by a score"
                    )));
                }
                scores.push(-(first as f32));
            }
        }
    }
    // Beyond 2^24 neighbouring ranks would round to one score.
    if spec.merges.len() > 1 << 24 {
        return Err(refuse(format!("a list of {} merges", spec.merges.len())));
    }
    spec.model = Model::SentencePiece;
    spec.scores = scores;
    spec.merges = Vec::new();
    spec.pre = None;
    Ok(())
}
