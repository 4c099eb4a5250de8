//! Learning a byte-level BPE vocabulary from text (Sennrich et al. 2016, arXiv:1508.07909; over bytes as in
//! GPT-2, Radford et al. 2019).
//!
//! Text is cut into pieces by a pre-tokenizer, and equal pieces are counted (this module). Every piece begins
//! as its bytes. Then, again and again, the pair of neighbouring tokens that is most frequent in all pieces
//! becomes a token (`merges`), in every piece that has it (`words`).

mod error;
mod merges;
mod words;

use std::fmt;

pub use error::LearnError;

use crate::byte_alphabet::ByteAlphabet;
use crate::hash::FastMap;
use crate::normalizer::Normalizer;
use crate::pattern::Pattern;
use crate::pre;
use crate::spec::{Model, Spec, SpecialIds, TokenType};
use crate::vocabulary::MOST_TOKENS;

use merges::Merges;
use words::Words;

/// What vocabulary to learn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LearnOptions {
    /// The number of tokens: control tokens, the 256 bytes, and merged ones. Text with too few pairs gives
    /// fewer.
    pub vocabulary: usize,
    /// The texts of the control tokens, in the order of their ids, which begin at 0.
    pub control: Vec<String>,
    /// The control token that begins a text.
    pub bos: Option<String>,
    /// The control token that ends a text.
    pub eos: Option<String>,
    /// The control token that ends a turn of a conversation.
    pub eot: Option<String>,
    /// The control token that fills up a batch.
    pub pad: Option<String>,
    /// Whether BOS goes before an encoded text.
    pub add_bos: bool,
    /// The Jinja source that turns a conversation into text.
    pub chat_template: Option<String>,
    /// GGUF's name of the pre-tokenizer that cuts text into pieces; no token crosses their borders.
    ///
    /// `llama-bpe`, the default, is Llama 3's: words with the blank before them, numbers in groups of three
    /// digits. `deepseek-r1-qwen` takes every digit alone. Both change no character of a text. `qwen2`
    /// cuts like the latter, but composes characters first (NFC), which programs that read GGUF often leave out.
    pub pre: String,
    /// A pair becomes a token only if it occurs this often.
    pub lowest_count: u64,
}

impl LearnOptions {
    /// A vocabulary of `vocabulary` tokens without control tokens, cut as Llama 3's, of pairs that occur twice.
    #[must_use]
    pub fn new(vocabulary: usize) -> Self {
        Self {
            vocabulary,
            control: Vec::new(),
            bos: None,
            eos: None,
            eot: None,
            pad: None,
            add_bos: false,
            chat_template: None,
            pre: "llama-bpe".into(),
            lowest_count: 2,
        }
    }
}

/// Counts the pieces of text, then learns a vocabulary from the counts.
///
/// Memory grows with the distinct pieces, not with the text: while counting, each takes its own bytes and about
/// 60 more; while learning, about eight times its bytes and 24 more. The result depends on the counts alone:
/// neither on the order of texts, nor on how they were divided among learners.
///
/// Counting takes linear time. Learning takes, for every new token, the lengths of the distinct pieces that have
/// its pair; a piece of a million letters is gone through again for every token in it.
#[derive(Clone)]
pub struct Learner {
    options: LearnOptions,
    special: SpecialIds,
    normalizers: Vec<Normalizer>,
    patterns: Vec<Pattern>,
    counts: FastMap<Box<str>, u64>,
}

impl fmt::Debug for Learner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Learner")
            .field("options", &self.options)
            .field("pieces", &self.counts.len())
            .finish_non_exhaustive()
    }
}

impl Learner {
    /// A learner that has seen no text.
    ///
    /// # Errors
    /// [`LearnError::TooSmall`] or [`LearnError::TooLarge`] for the size; [`LearnError::Control`] for control
    /// tokens that are empty, equal, or the token of a byte; [`LearnError::Role`] and [`LearnError::NoBos`] for
    /// roles of no control token; [`LearnError::Tokenizer`] for an unknown pre-tokenizer and
    /// [`LearnError::NotByteLevel`] for one of other vocabularies.
    pub fn new(options: LearnOptions) -> Result<Self, LearnError> {
        let (vocabulary, control) = (options.vocabulary, options.control.len());
        if vocabulary > MOST_TOKENS {
            return Err(LearnError::TooLarge { vocabulary, most: MOST_TOKENS });
        }
        if vocabulary < control.saturating_add(256) {
            return Err(LearnError::TooSmall { vocabulary, control });
        }
        let special = special_ids(&options)?;
        let named = pre::named(&options.pre)?;
        if named.meta_space {
            return Err(LearnError::NotByteLevel { pre: options.pre });
        }
        let patterns = named.patterns.iter().map(|source| Pattern::new(source)).collect::<Result<_, _>>()?;
        let normalizers = named.pipeline()?.normalizers;
        Ok(Self { options, special, normalizers, patterns, counts: FastMap::default() })
    }

    /// Counts the pieces of `text`. A piece does not reach from one text into the next.
    ///
    /// Control tokens are not looked for: where the text has one, it is counted as what it is spelt with.
    pub fn add(&mut self, text: &str) {
        let normal = self.normalizers.iter().fold(text.into(), |text, step| step.apply(text));
        let counts = &mut self.counts;
        cut(&self.patterns, &normal, &mut |piece| match counts.get_mut(piece) {
            Some(count) => *count = count.saturating_add(1),
            None => _ = counts.insert(piece.into(), 1),
        });
    }

    /// Adds what `other` has counted; its options are dropped. So threads can count apart, each with a clone of
    /// a learner that has seen no text.
    ///
    /// # Errors
    /// [`LearnError::OtherPieces`] if the other's pre-tokenizer is not this one's.
    pub fn merge(&mut self, other: Self) -> Result<(), LearnError> {
        if self.options.pre != other.options.pre {
            let (ours, theirs) = (self.options.pre.clone(), other.options.pre);
            return Err(LearnError::OtherPieces { ours, theirs });
        }
        let mut fewer = other.counts;
        // The larger map stays where it is.
        if fewer.len() > self.counts.len() {
            std::mem::swap(&mut fewer, &mut self.counts);
        }
        for (piece, count) in fewer {
            let sum = self.counts.entry(piece).or_default();
            *sum = sum.saturating_add(count);
        }
        Ok(())
    }

    /// The number of distinct pieces that were counted.
    #[must_use]
    pub fn pieces(&self) -> usize {
        self.counts.len()
    }

    /// Learns the vocabulary. `progress` gets the number of tokens so far and [`LearnOptions::vocabulary`], for
    /// every new token.
    ///
    /// The ids are: the control tokens; the 256 bytes in the order of GPT-2's byte alphabet; the merged tokens, in
    /// the order in which they were learned. Of pairs that are equally frequent the one with the smaller left id
    /// is merged first, then the one with the smaller right id, as in the trainer of the package `tokenizers`.
    /// No pair becomes a token that is spelt like a control token.
    ///
    /// # Errors
    /// [`LearnError::TooManyPieces`] for more than 2³² - 1 distinct pieces.
    pub fn learn(self, progress: &mut dyn FnMut(usize, usize)) -> Result<Spec, LearnError> {
        let Self { options, special, counts, .. } = self;
        let mut tokens = options.control.clone();
        let mut of_byte = [0_u32; 256];
        for ((c, byte), id) in ByteAlphabet::TABLE.in_order().zip(options.control.len() as u32..) {
            if let Some(slot) = of_byte.get_mut(usize::from(byte)) {
                *slot = id;
            }
            tokens.push(c.to_string());
        }
        let words = Words::new(counts, &of_byte)?;
        let mut merges = Merges::new(tokens, options.control.len(), words);
        while merges.tokens().len() < options.vocabulary && merges.step(options.lowest_count) {
            progress(merges.tokens().len(), options.vocabulary);
        }
        let (tokens, merges) = merges.into_parts();
        let mut token_types = vec![TokenType::Control; options.control.len()];
        token_types.resize(tokens.len(), TokenType::Normal);
        Ok(Spec {
            model: Model::Bpe,
            pre: Some(options.pre),
            tokens,
            token_types,
            merges,
            special,
            add_bos: Some(options.add_bos),
            add_eos: Some(false),
            chat_template: options.chat_template,
            ..Spec::default()
        })
    }
}

/// Checks the control tokens and finds those with a role.
fn special_ids(options: &LearnOptions) -> Result<SpecialIds, LearnError> {
    let mut ids: FastMap<&str, u32> = FastMap::default();
    for (text, id) in options.control.iter().zip(0..) {
        let fail = |problem| Err(LearnError::Control { text: text.clone(), problem });
        if text.is_empty() {
            return fail("is empty");
        }
        if ByteAlphabet::TABLE.in_order().any(|(c, _)| text.chars().eq([c])) {
            return fail("is the token of a byte");
        }
        if ids.insert(text, id).is_some() {
            return fail("is there twice");
        }
    }
    let find = |role, text: &Option<String>| match text {
        None => Ok(None),
        Some(text) => match ids.get(text.as_str()) {
            Some(&id) => Ok(Some(id)),
            None => Err(LearnError::Role { role, text: text.clone() }),
        },
    };
    let special = SpecialIds {
        bos: find("bos", &options.bos)?,
        eos: find("eos", &options.eos)?,
        eot: find("eot", &options.eot)?,
        pad: find("pad", &options.pad)?,
        ..SpecialIds::default()
    };
    if options.add_bos && special.bos.is_none() {
        return Err(LearnError::NoBos);
    }
    Ok(special)
}

/// Calls `each` with the pieces of `text` by all patterns, one after the other. Matches and what lies between
/// them are pieces, as in every named pre-tokenizer. Nothing is copied and no list made: a text may be large.
fn cut(patterns: &[Pattern], text: &str, each: &mut dyn FnMut(&str)) {
    match patterns.split_first() {
        Some((pattern, rest)) => {
            pattern.parts(text, |range, _| cut(rest, text.get(range).unwrap_or_default(), each));
        }
        None => each(text),
    }
}
