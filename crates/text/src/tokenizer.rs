//! The tokenizer: text to ids and back.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::bpe::Bpe;
use crate::error::TokenizerError;
use crate::hash::FastMap;
use crate::merge::Merger;
use crate::normalizer::Normalizer;
use crate::pattern::Pattern;
use crate::pipeline::{Pipeline, Template};
use crate::pre;
use crate::pre_tokenizer::{Behavior, Pieces, PreTokenizer};
use crate::sampling_hints::SamplingHints;
use crate::sentencepiece::SentencePiece;
use crate::spec::{Model, Spec, SpecialIds, TokenType};
use crate::special::{Segment, SpecialTokens, end_of_generation};
use crate::stream::{StreamDecoder, Utf8Assembler};
use crate::unigram::Unigram;
use crate::vocabulary::{META_SPACE, TextIds, Vocabulary};
use crate::wordpiece;

/// How to encode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Add what the model wants around a text: BOS, EOS, CLS, SEP.
    pub add_special: bool,
    /// Recognise control tokens such as `<|im_start|>` in the text. Never for text from a user: it could
    /// forge the structure of a conversation.
    pub parse_special: bool,
}

/// A tokenizer. Cloning is cheap: clones share one vocabulary. It can be used from several threads at once.
#[derive(Clone)]
pub struct Tokenizer {
    inner: Arc<Inner>,
}

/// What the clones and decoders of a tokenizer share.
pub(crate) struct Inner {
    vocabulary: Vocabulary,
    engine: Engine,
    normalizers: Vec<Normalizer>,
    pre_tokenizers: Vec<PreTokenizer>,
    specials: SpecialTokens,
    special_ids: SpecialIds,
    sampling: SamplingHints,
    // Text and id of every token that is not normal.
    by_name: FastMap<Box<str>, u32>,
    end_of_generation: Vec<u32>,
    template: Template,
    strips_first_space: bool,
    chat_template: Option<String>,
}

/// The model's algorithm.
enum Engine {
    Bpe(Bpe),
    SentencePiece(SentencePiece),
    Unigram(Unigram),
    WordPiece,
}

/// Texts are limited so that positions fit in 32 bits after any normalization.
const LONGEST_TEXT: usize = 1 << 28;

/// Pieces of up to this many bytes are remembered within one text.
const MEMO_PIECE: usize = 48;
/// How many pieces are remembered within one text.
const MEMO_SIZE: usize = 1 << 14;

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer").field("vocab_size", &self.vocabulary.size()).finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Builds the tokenizer that `spec` describes.
    ///
    /// # Errors
    /// Everything that can be wrong with a vocabulary: duplicate tokens, merges of unknown tokens, ids out
    /// of range, lists of unequal lengths, an unknown pre-tokenizer, a damaged normalization table.
    pub fn new(spec: &Spec) -> Result<Self, TokenizerError> {
        let default_pipeline;
        let pipeline = match &spec.pipeline {
            Some(pipeline) => pipeline,
            None => {
                default_pipeline = default_pipeline_of(spec)?;
                &default_pipeline
            }
        };
        let (vocabulary, ids) = Vocabulary::new(spec, pipeline)?;
        let mut pre_tokenizers = pipeline.pre_tokenizers.clone();
        let engine = match spec.model {
            Model::Bpe => Engine::Bpe(Bpe::new(spec, pipeline, &ids)?),
            Model::SentencePiece => {
                if SentencePiece::cuts_at_spaces(&vocabulary) {
                    pre_tokenizers.push(PreTokenizer::BeforeRuns { mark: META_SPACE });
                }
                Engine::SentencePiece(SentencePiece::new(spec))
            }
            Model::Unigram => Engine::Unigram(Unigram::new(spec, &vocabulary, pipeline.byte_fallback)?),
            Model::WordPiece => Engine::WordPiece,
        };
        let by_name = spec
            .tokens
            .iter()
            .zip(0_u32..)
            .filter(|&(_, id)| vocabulary.kind(id).is_some_and(|kind| kind != TokenType::Normal))
            .map(|(text, id)| (Box::from(text.as_str()), id))
            .collect();
        let inner = Inner {
            engine,
            normalizers: pipeline.normalizers.clone(),
            pre_tokenizers,
            specials: SpecialTokens::new(spec, &pipeline.strips)?,
            special_ids: special_ids(spec, &ids),
            sampling: spec.sampling,
            by_name,
            end_of_generation: end_of_generation(spec, &ids),
            template: template(spec, pipeline)?,
            strips_first_space: pipeline.strips_first_space,
            chat_template: spec.chat_template.clone(),
            vocabulary,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The ids of `text`.
    ///
    /// # Errors
    /// [`TokenizerError::Unspellable`] if a character has no token and the vocabulary no unknown token;
    /// [`TokenizerError::TooLarge`] for texts beyond 256 MiB.
    pub fn encode(&self, text: &str, options: EncodeOptions) -> Result<Vec<u32>, TokenizerError> {
        self.encode_restored(text, options, &|piece| Cow::Borrowed(piece))
    }

    /// The ids of a rendered template. Its control tokens are found first; what stands between them becomes tokens as
    /// plain text, as `restore` gives it.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub(crate) fn encode_template(
        &self,
        text: &str,
        restore: &dyn Fn(&str) -> String,
    ) -> Result<Vec<u32>, TokenizerError> {
        let options = EncodeOptions { add_special: false, parse_special: true };
        self.encode_restored(text, options, &|piece| Cow::Owned(restore(piece)))
    }

    fn encode_restored(
        &self,
        text: &str,
        options: EncodeOptions,
        restore: &dyn for<'a> Fn(&'a str) -> Cow<'a, str>,
    ) -> Result<Vec<u32>, TokenizerError> {
        let inner = &*self.inner;
        if text.len() > LONGEST_TEXT {
            return Err(TokenizerError::TooLarge { what: "the text", size: text.len(), limit: LONGEST_TEXT });
        }
        let mut out = Vec::new();
        if options.add_special {
            out.extend_from_slice(&inner.template.prefix);
        }
        let mut merger = Merger::default();
        let mut at_start = true;
        for segment in inner.specials.segments(text, options.parse_special) {
            match segment {
                Segment::Token(id) => out.push(id),
                Segment::Text(range) => {
                    let piece = restore(text.get(range).unwrap_or_default());
                    inner.encode_text(&piece, at_start, &mut merger, &mut out)?;
                }
            }
            at_start = false;
        }
        if options.add_special {
            out.extend_from_slice(&inner.template.suffix);
        }
        Ok(out)
    }

    /// The text of `ids`. Bytes that are no UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// [`TokenizerError::TokenIdOutOfRange`] if an id is not in the vocabulary.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, TokenizerError> {
        let bytes = self.decode_bytes(ids, skip_special)?;
        let mut out = String::with_capacity(bytes.len());
        let mut assembler = Utf8Assembler::default();
        assembler.push(&bytes, &mut out);
        assembler.finish(&mut out);
        Ok(out)
    }

    /// The bytes of `ids`, which need not be UTF-8.
    ///
    /// # Errors
    /// [`TokenizerError::TokenIdOutOfRange`] if an id is not in the vocabulary.
    pub fn decode_bytes(&self, ids: &[u32], skip_special: bool) -> Result<Vec<u8>, TokenizerError> {
        let mut out = Vec::new();
        let mut at_start = true;
        for &id in ids {
            out.extend_from_slice(self.inner.decoded(id, skip_special, &mut at_start)?);
        }
        Ok(out)
    }

    /// A decoder for ids that come one by one. It leaves special tokens out and stands at the begin of a
    /// text; [`StreamDecoder::skip_special`], [`StreamDecoder::showing`] and [`StreamDecoder::continuing`] change that.
    #[must_use]
    pub fn decoder(&self) -> StreamDecoder {
        StreamDecoder::new(Arc::clone(&self.inner))
    }

    /// The bytes that token `id` adds within a text (a special token's are its name), `None` beyond the
    /// vocabulary.
    #[must_use]
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        self.inner.vocabulary.bytes(id)
    }

    /// The type of token `id`, `None` beyond the vocabulary.
    #[must_use]
    pub fn token_type(&self, id: u32) -> Option<TokenType> {
        self.inner.vocabulary.kind(id)
    }

    /// The number of tokens. A model's matrices may have more rows than that.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.inner.vocabulary.size()
    }

    /// The token before a text.
    #[must_use]
    pub fn bos(&self) -> Option<u32> {
        self.inner.special_ids.bos
    }

    /// The token after a text.
    #[must_use]
    pub fn eos(&self) -> Option<u32> {
        self.inner.special_ids.eos
    }

    /// How the model's makers would have tokens drawn.
    #[must_use]
    pub fn sampling(&self) -> &SamplingHints {
        &self.inner.sampling
    }

    /// All ids with a role.
    #[must_use]
    pub fn special_ids(&self) -> &SpecialIds {
        &self.inner.special_ids
    }

    /// Whether a generation ends with `id`: the end of a text, a turn or a message.
    #[must_use]
    pub fn is_eog(&self, id: u32) -> bool {
        self.inner.end_of_generation.binary_search(&id).is_ok()
    }

    /// All ids that end a generation, sorted.
    #[must_use]
    pub fn eog(&self) -> &[u32] {
        &self.inner.end_of_generation
    }

    /// The id of the special (not normal) token that is written `name`, for instance `<|im_end|>`.
    #[must_use]
    pub fn special_id(&self, name: &str) -> Option<u32> {
        self.inner.by_name.get(name).copied()
    }

    /// Whether `id` is a control or unknown token, which stands for no text.
    #[must_use]
    pub fn is_special(&self, id: u32) -> bool {
        self.inner.is_special(id)
    }

    /// The texts that give a conversation its structure: control tokens, what ends a generation, and what is written
    /// like a control token (`<|...`), since files often declare those as ordinary.
    pub(crate) fn structural_texts(&self) -> impl Iterator<Item = &str> {
        let looks = |text: &str| text.starts_with("<|") || text.starts_with("<｜");
        let structural = move |text: &str, id| self.is_special(id) || self.is_eog(id) || looks(text);
        let named = self.inner.by_name.iter().map(|(text, id)| (&**text, *id));
        named.filter(move |(text, id)| !text.is_empty() && structural(text, *id)).map(|(text, _)| text)
    }

    /// The ids that [`EncodeOptions::add_special`] puts before and after a text.
    #[must_use]
    pub fn added_ids(&self) -> (&[u32], &[u32]) {
        (&self.inner.template.prefix, &self.inner.template.suffix)
    }

    /// The model's own chat template, in Jinja.
    #[must_use]
    pub fn chat_template(&self) -> Option<&str> {
        self.inner.chat_template.as_deref()
    }
}

impl Inner {
    fn is_special(&self, id: u32) -> bool {
        matches!(self.vocabulary.kind(id), Some(TokenType::Control | TokenType::Unknown))
    }

    /// What `id` adds to a text that so far is empty if `at_start`, which this keeps up to date.
    pub(crate) fn decoded(
        &self,
        id: u32,
        skip_special: bool,
        at_start: &mut bool,
    ) -> Result<&[u8], TokenizerError> {
        let bytes = self
            .vocabulary
            .bytes(id)
            .ok_or(TokenizerError::TokenIdOutOfRange { id, size: self.vocabulary.size() })?;
        if skip_special && self.is_special(id) {
            return Ok(&[]);
        }
        let first = *at_start;
        *at_start &= bytes.is_empty();
        match bytes.strip_prefix(b" ") {
            Some(rest) if first && self.strips_first_space => Ok(rest),
            _ => Ok(bytes),
        }
    }

    /// Puts the ids of a stretch of text without special tokens behind `out`.
    fn encode_text(
        &self,
        text: &str,
        at_start: bool,
        merger: &mut Merger,
        out: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        let normal = self.normalizers.iter().fold(text.into(), |text, step| step.apply(text));
        let pieces = Pieces::new(normal.into_owned(), at_start);
        let pieces = self.pre_tokenizers.iter().fold(pieces, Pieces::apply);
        // Where the tokens of a piece lie in `out`: words repeat.
        let mut memo: FastMap<&str, Range<usize>> = FastMap::default();
        for range in &pieces.ranges {
            let piece = pieces.text.get(range.clone()).unwrap_or_default();
            if let Some(known) = memo.get(piece) {
                out.extend_from_within(known.clone());
                continue;
            }
            let before = out.len();
            match &self.engine {
                Engine::Bpe(bpe) => bpe.encode(&self.vocabulary, piece, merger, out)?,
                Engine::SentencePiece(model) => model.encode(&self.vocabulary, piece, merger, out)?,
                Engine::Unigram(model) => model.encode(&self.vocabulary, piece, out)?,
                Engine::WordPiece => wordpiece::encode(&self.vocabulary, piece, out)?,
            }
            if piece.len() <= MEMO_PIECE && memo.len() < MEMO_SIZE {
                memo.insert(piece, before..out.len());
            }
        }
        Ok(())
    }
}

/// The steps that a model has when its file does not spell them out.
pub(crate) fn default_pipeline_of(spec: &Spec) -> Result<Pipeline, TokenizerError> {
    let escape = || Normalizer::ReplaceText { text: " ".into(), with: META_SPACE.into() };
    let prefix = || Normalizer::Prepend(META_SPACE.into());
    let split = |source: &str, behavior| {
        Ok::<_, TokenizerError>(PreTokenizer::Split {
            pattern: Pattern::new(source)?,
            behavior,
            invert: false,
        })
    };
    match spec.model {
        Model::Bpe => pre::named(spec.pre.as_deref().unwrap_or("default"))?.pipeline(),
        Model::SentencePiece => {
            let space_prefix = spec.add_space_prefix.unwrap_or(true);
            let normalizers = if space_prefix { vec![prefix(), escape()] } else { vec![escape()] };
            Ok(Pipeline {
                normalizers,
                byte_fallback: true,
                meta_space: true,
                strips_first_space: space_prefix,
                ..Pipeline::default()
            })
        }
        Model::Unigram => {
            let space_prefix = spec.add_space_prefix.unwrap_or(true);
            let mut normalizers = Vec::new();
            if !spec.precompiled_charsmap.is_empty() {
                normalizers
                    .push(Normalizer::Charsmap(crate::charsmap::Charsmap::new(&spec.precompiled_charsmap)?));
            }
            if spec.remove_extra_whitespaces.unwrap_or(false) {
                normalizers.push(Normalizer::MergeSpaces);
            }
            if space_prefix {
                normalizers.push(prefix());
            }
            normalizers.push(escape());
            Ok(Pipeline {
                normalizers,
                meta_space: true,
                strips_first_space: space_prefix,
                ..Pipeline::default()
            })
        }
        Model::WordPiece => {
            let lowercase = spec.lowercase.unwrap_or(true);
            let strip_accents = spec.strip_accents.unwrap_or(lowercase);
            Ok(Pipeline {
                normalizers: vec![Normalizer::Bert {
                    clean: true,
                    space_chinese: true,
                    strip_accents,
                    lowercase,
                }],
                pre_tokenizers: vec![
                    split(r"\s+", Behavior::Removed)?,
                    split(r"[\p{P}!-/:-@\[-`{-~]", Behavior::Isolated)?,
                ],
                meta_space: true,
                strips_first_space: true,
                ..Pipeline::default()
            })
        }
    }
}

/// The ids with a role, completed from the tokens' names where the file leaves the end of a turn out.
fn special_ids(spec: &Spec, ids: &TextIds<'_>) -> SpecialIds {
    let by_name = |names: &[&str]| names.iter().find_map(|name| ids.get(name).copied());
    let mut special = spec.special.clone();
    special.eot = special.eot.or_else(|| by_name(&["<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>"]));
    special.eom = special.eom.or_else(|| by_name(&["<|eom_id|>"]));
    special
}

/// What goes around an encoded text.
fn template(spec: &Spec, pipeline: &Pipeline) -> Result<Template, TokenizerError> {
    if let Some(template) = &pipeline.template {
        return Ok(template.clone());
    }
    let special = &spec.special;
    let named = |id: Option<u32>, name| id.ok_or(TokenizerError::MissingSpecial { name });
    let mut template = Template::default();
    let bos_by_default = match spec.model {
        Model::Bpe => {
            spec.pipeline.is_none() && pre::named(spec.pre.as_deref().unwrap_or("default"))?.add_bos
        }
        Model::SentencePiece | Model::WordPiece => true,
        Model::Unigram => false,
    };
    let first = if spec.model == Model::WordPiece { special.cls.or(special.bos) } else { special.bos };
    match spec.add_bos {
        Some(true) => template.prefix.push(named(first, "BOS")?),
        // A default is no demand: a vocabulary without the token goes without.
        None if bos_by_default => template.prefix.extend(first),
        _ => {}
    }
    match spec.add_eos {
        Some(true) => template.suffix.push(named(special.eos, "EOS")?),
        None if spec.model == Model::Unigram => template.suffix.extend(special.eos),
        _ => {}
    }
    match spec.add_sep {
        Some(true) => template.suffix.push(named(special.sep, "SEP")?),
        None if spec.model == Model::WordPiece => template.suffix.extend(special.sep),
        _ => {}
    }
    Ok(template)
}
