//! The tokens of `tokenizer.json`: its model's and the added ones.

use std::fmt;

use serde::Deserialize;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};

use super::bounded::List;
use super::fields::TOKENIZER;
use crate::error::TokenizerError;
use crate::pipeline::Strip;
use crate::spec::{Model, Spec, TokenType};
use crate::vocabulary::{META_SPACE, MOST_MERGES, MOST_TOKENS};

/// An entry of `added_tokens`.
#[derive(Deserialize)]
pub(super) struct AddedToken {
    id: u32,
    content: String,
    #[serde(default)]
    special: bool,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
}

impl AddedToken {
    /// How the token treats its surroundings, if it does.
    pub(super) fn strip(&self) -> Option<Strip> {
        let strip =
            Strip { id: self.id, left: self.lstrip, right: self.rstrip, single_word: self.single_word };
        (self.lstrip || self.rstrip || self.single_word).then_some(strip)
    }
}

/// The object `model`.
#[derive(Deserialize)]
pub(super) struct ModelJson {
    #[serde(rename = "type")]
    kind: Option<String>,
    vocab: Entries,
    #[serde(default)]
    merges: Option<List<Merge, MOST_MERGES>>,
    unk_token: Option<String>,
    unk_id: Option<u32>,
    #[serde(default)]
    pub(super) byte_fallback: bool,
    #[serde(default)]
    pub(super) fuse_unk: bool,
    #[serde(default)]
    pub(super) ignore_merges: bool,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
}

/// The entries of `vocab`.
enum Entries {
    /// Texts and their ids.
    Ids(Vec<(String, u32)>),
    /// Texts and their scores, in the order of the ids.
    Scores(Vec<(String, f64)>),
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor;

        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a vocabulary: {\"text\": id, ...} or [[\"text\", score], ...]")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    if entries.len() == MOST_TOKENS {
                        let problem = format_args!("a vocabulary of more than {MOST_TOKENS} tokens");
                        return Err(serde::de::Error::custom(problem));
                    }
                    entries.push(entry);
                }
                Ok(Entries::Ids(entries))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, sequence: A) -> Result<Entries, A::Error> {
                let entries = List::<_, MOST_TOKENS>::deserialize(SeqAccessDeserializer::new(sequence))?;
                Ok(Entries::Scores(entries.0))
            }
        }

        deserializer.deserialize_any(EntriesVisitor)
    }
}

/// A merge in GGUF's form, "left right"; files have it so, or as a pair.
struct Merge(String);

impl<'de> Deserialize<'de> for Merge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MergeVisitor;

        impl<'de> Visitor<'de> for MergeVisitor {
            type Value = Merge;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a merge: \"left right\" or [\"left\", \"right\"]")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Merge, E> {
                Ok(Merge(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Merge, A::Error> {
                let missing = || serde::de::Error::custom("a merge of fewer than two tokens");
                let left: String = sequence.next_element()?.ok_or_else(missing)?;
                let right: String = sequence.next_element()?.ok_or_else(missing)?;
                if sequence.next_element::<serde::de::IgnoredAny>()?.is_some() {
                    return Err(serde::de::Error::custom("a merge of more than two tokens"));
                }
                // In the form with one space, another would make the merge ambiguous.
                if left.contains(' ') || right.contains(' ') {
                    return Err(serde::de::Error::custom("a merge of tokens with spaces is not supported"));
                }
                Ok(Merge(format!("{left} {right}")))
            }
        }

        deserializer.deserialize_any(MergeVisitor)
    }
}

/// Reads tokens, types, scores and merges.
pub(super) fn read(model: &ModelJson, added: &[AddedToken]) -> Result<Spec, TokenizerError> {
    let kind = match (model.kind.as_deref(), &model.vocab, &model.merges) {
        (Some("BPE"), ..) | (None, Entries::Ids(_), Some(_)) => Model::Bpe,
        (Some("Unigram"), ..) | (None, Entries::Scores(_), _) => Model::Unigram,
        (Some("WordPiece"), ..) | (None, ..) => Model::WordPiece,
        (Some(_), ..) => {
            return Err(TOKENIZER.unsupported("model.type", model.kind.as_deref().unwrap_or_default()));
        }
    };
    let (mut tokens, scores) = match (&model.vocab, kind) {
        (Entries::Ids(entries), Model::Bpe | Model::WordPiece) => (by_id(entries, added)?, Vec::new()),
        (Entries::Scores(entries), Model::Unigram) => scored(entries, added)?,
        _ => return Err(TOKENIZER.problem("model.vocab", "does not fit the model's type")),
    };
    let mut types = vec![TokenType::Normal; tokens.len()];
    for token in added {
        let place = token.id as usize;
        let (Some(slot), Some(kind)) = (tokens.get_mut(place), types.get_mut(place)) else {
            return Err(TOKENIZER.problem("added_tokens", format!("has the id {place} twice")));
        };
        match slot {
            Some(text) if *text != token.content => {
                let problem =
                    format!("has {:?} where the vocabulary has {text:?}, id {place}", token.content);
                return Err(TOKENIZER.problem("added_tokens", problem));
            }
            _ => *slot = Some(token.content.clone()),
        }
        *kind = if token.special { TokenType::Control } else { TokenType::UserDefined };
    }
    let tokens = (0_usize..)
        .zip(tokens)
        .zip(&mut types)
        .map(|((id, token), kind)| {
            token.unwrap_or_else(|| {
                // Ids without a token, which some vocabularies leave.
                *kind = TokenType::Unused;
                format!("[PAD{id}]")
            })
        })
        .collect();
    let mut spec = Spec { model: kind, tokens, token_types: types, scores, ..Spec::default() };
    let unk = model.unk_token.as_deref();
    let id_of =
        |text: &str| spec.tokens.iter().position(|token| token == text).and_then(|id| u32::try_from(id).ok());
    spec.special.unk = model.unk_id.or_else(|| unk.and_then(id_of));
    match kind {
        Model::WordPiece => {
            continue_words(&mut spec, model.continuing_subword_prefix.as_deref().unwrap_or("##"))
        }
        _ => {
            for (field, affix) in [
                ("model.continuing_subword_prefix", &model.continuing_subword_prefix),
                ("model.end_of_word_suffix", &model.end_of_word_suffix),
            ] {
                if let Some(affix) = affix.as_deref().filter(|affix| !affix.is_empty()) {
                    return Err(TOKENIZER.unsupported(field, affix));
                }
            }
        }
    }
    if kind == Model::Bpe {
        let merges = model.merges.as_ref().ok_or_else(|| TOKENIZER.problem("model.merges", "is missing"))?;
        spec.merges = merges.0.iter().map(|merge| merge.0.clone()).collect();
    }
    if model.byte_fallback {
        let is_byte = |text: &str| text.len() == 6 && text.starts_with("<0x") && text.ends_with('>');
        for (text, kind) in spec.tokens.iter().zip(&mut spec.token_types) {
            if *kind == TokenType::Normal && is_byte(text) {
                *kind = TokenType::Byte;
            }
        }
    }
    Ok(spec)
}

/// The largest id that is believed: a few names must not ask for gigabytes of empty tokens.
fn id_limit(count: usize) -> usize {
    count.saturating_mul(4).saturating_add(1 << 16)
}

/// An empty vocabulary with room for all ids.
fn empty(largest: Option<u32>, count: usize) -> Result<Vec<Option<String>>, TokenizerError> {
    let size = largest.map_or(0, |id| id as usize + 1);
    if size > id_limit(count) {
        let problem = format!("has the id {} with only {count} tokens", size - 1);
        return Err(TOKENIZER.problem("model.vocab", problem));
    }
    Ok(vec![None; size])
}

/// A vocabulary of texts to ids.
fn by_id(entries: &[(String, u32)], added: &[AddedToken]) -> Result<Vec<Option<String>>, TokenizerError> {
    let largest = entries.iter().map(|(_, id)| *id).chain(added.iter().map(|token| token.id)).max();
    let mut tokens = empty(largest, entries.len() + added.len())?;
    for (text, id) in entries {
        if let Some(slot) = tokens.get_mut(*id as usize)
            && let Some(first) = slot.replace(text.clone())
        {
            return Err(
                TOKENIZER.problem("model.vocab", format!("has the id {id} for {first:?} and {text:?}"))
            );
        }
    }
    Ok(tokens)
}

/// Tokens by id, where an id may have none, and their scores.
type Scored = (Vec<Option<String>>, Vec<f32>);

/// A vocabulary of pairs of text and score.
fn scored(entries: &[(String, f64)], added: &[AddedToken]) -> Result<Scored, TokenizerError> {
    let beyond = added.iter().map(|token| token.id).max().filter(|&id| id as usize >= entries.len());
    let last = u32::try_from(entries.len()).ok().and_then(|count| count.checked_sub(1));
    let mut tokens = empty(beyond.or(last), entries.len() + added.len())?;
    let mut scores = vec![0.0; tokens.len()];
    for ((text, number), (slot, score)) in entries.iter().zip(tokens.iter_mut().zip(&mut scores)) {
        *slot = Some(text.clone());
        *score = *number as f32;
    }
    Ok((tokens, scores))
}

/// Spells WordPiece tokens as GGUF does: `▁` begins a word, where BERT marks the tokens that continue one.
fn continue_words(spec: &mut Spec, prefix: &str) {
    for (text, kind) in spec.tokens.iter_mut().zip(&spec.token_types) {
        if *kind != TokenType::Normal || text.starts_with('[') && text.ends_with(']') && text.len() > 2 {
            continue;
        }
        *text = match text.strip_prefix(prefix) {
            Some(rest) if !prefix.is_empty() && !rest.is_empty() => rest.to_owned(),
            _ => format!("{META_SPACE}{text}"),
        };
    }
}
