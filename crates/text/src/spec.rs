//! What a tokenizer is made of, before it is one: the common form of every source.
//!
//! The fields follow the `tokenizer.ggml.*` metadata of GGUF. A `tokenizer.json` says more than those keys
//! can (its own pipeline of normalizers and splits); that part travels as an opaque [`Pipeline`].

use crate::pipeline::Pipeline;
use crate::sampling_hints::SamplingHints;

/// The algorithm that turns a piece of text into tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Model {
    /// Byte-pair encoding by the rank of merges (`gpt2` in GGUF).
    #[default]
    Bpe,
    /// SentencePiece's byte-pair encoding: merges by the score of the merged token, unknown characters as
    /// bytes (`llama` in GGUF).
    SentencePiece,
    /// SentencePiece's unigram language model: the best path by the sum of scores (`t5` in GGUF).
    Unigram,
    /// Greedy longest match within words (`bert` in GGUF).
    WordPiece,
}

impl Model {
    /// GGUF's names of the models, as in `tokenizer.ggml.model`.
    pub const KNOWN: &'static [&'static str] = &["gpt2", "llama", "t5", "bert"];

    /// The model that GGUF calls `name`.
    #[must_use]
    pub fn from_gguf_name(name: &str) -> Option<Self> {
        match name {
            "gpt2" => Some(Self::Bpe),
            "llama" => Some(Self::SentencePiece),
            "t5" => Some(Self::Unigram),
            "bert" => Some(Self::WordPiece),
            _ => None,
        }
    }

    /// GGUF's name of this model.
    #[must_use]
    pub fn gguf_name(self) -> &'static str {
        match self {
            Self::Bpe => "gpt2",
            Self::SentencePiece => "llama",
            Self::Unigram => "t5",
            Self::WordPiece => "bert",
        }
    }
}

/// What kind of token an id is; the numbers are GGUF's (`tokenizer.ggml.token_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(i32)]
pub enum TokenType {
    /// Ordinary text.
    #[default]
    Normal = 1,
    /// Stands for what the vocabulary cannot spell.
    Unknown = 2,
    /// A mark that is no text: beginning, end, roles. Recognised in text only on request.
    Control = 3,
    /// Text that is always one token, found before anything else is split.
    UserDefined = 4,
    /// Reserved, never produced.
    Unused = 5,
    /// One raw byte, written `<0xAB>`.
    Byte = 6,
}

impl Spec {
    /// Takes the scores of SentencePiece from the ranks of merges: the token of an earlier merge scores
    /// higher. Refused where that would not give the same tokens.
    pub(crate) fn merges_to_scores(&mut self) -> Result<(), crate::TokenizerError> {
        crate::merges_to_scores::apply(self)
    }
}

impl TokenType {
    /// The type with GGUF's number `value`; unlisted numbers (0 is "undefined") are ordinary text.
    #[must_use]
    pub fn from_gguf(value: i32) -> Self {
        match value {
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => Self::Normal,
        }
    }
}

/// The ids with a role.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpecialIds {
    /// Beginning of sequence.
    pub bos: Option<u32>,
    /// End of sequence.
    pub eos: Option<u32>,
    /// End of a turn.
    pub eot: Option<u32>,
    /// End of a message.
    pub eom: Option<u32>,
    /// Stands for text that the vocabulary cannot spell.
    pub unk: Option<u32>,
    /// Separates two texts (BERT).
    pub sep: Option<u32>,
    /// Begins a text that is classified (BERT).
    pub cls: Option<u32>,
    /// Fills up a batch.
    pub pad: Option<u32>,
    /// Hides a token (BERT).
    pub mask: Option<u32>,
}

impl SpecialIds {
    /// Every role's name in GGUF (`tokenizer.ggml.{name}_token_id`) with its id.
    #[must_use]
    pub fn named(&self) -> [(&'static str, Option<u32>); 9] {
        [
            ("bos", self.bos),
            ("eos", self.eos),
            ("eot", self.eot),
            ("eom", self.eom),
            ("unknown", self.unk),
            // The key's spelling is GGUF's.
            ("seperator", self.sep),
            ("cls", self.cls),
            ("padding", self.pad),
            ("mask", self.mask),
        ]
    }

    /// As [`SpecialIds::named`], to be filled in.
    pub(crate) fn named_mut(&mut self) -> [(&'static str, &mut Option<u32>); 9] {
        let Self { bos, eos, eot, eom, unk, sep, cls, pad, mask } = self;
        [
            ("bos", bos),
            ("eos", eos),
            ("eot", eot),
            ("eom", eom),
            ("unknown", unk),
            ("seperator", sep),
            ("cls", cls),
            ("padding", pad),
            ("mask", mask),
        ]
    }
}

/// Everything that a tokenizer is built from.
///
/// Fields that a source does not give keep their defaults (`None`, empty); [`crate::Tokenizer::new`] then
/// takes the model's usual behaviour.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Spec {
    /// The algorithm.
    pub model: Model,
    /// GGUF's name of the pre-tokenizer (`tokenizer.ggml.pre`); only [`Model::Bpe`] reads it.
    pub pre: Option<String>,
    /// The tokens by id: in the byte alphabet of GPT-2 for byte-level BPE, with `▁` for spaces in
    /// SentencePiece models, with `▁` before the first part of a word in WordPiece.
    pub tokens: Vec<String>,
    /// The type of every token, or empty: all are [`TokenType::Normal`].
    pub token_types: Vec<TokenType>,
    /// The score of every token (a log probability, or minus the rank), or empty: all are 0.
    pub scores: Vec<f32>,
    /// The merges of [`Model::Bpe`] from the first to the last to apply: two tokens separated by a space.
    pub merges: Vec<String>,
    /// The ids with a role.
    pub special: SpecialIds,
    /// Further ids that end a generation (`eos_token_id` lists of `generation_config.json`).
    pub end_of_generation: Vec<u32>,
    /// Whether BOS goes before an encoded text.
    pub add_bos: Option<bool>,
    /// Whether EOS goes after an encoded text.
    pub add_eos: Option<bool>,
    /// Whether SEP goes after an encoded text.
    pub add_sep: Option<bool>,
    /// Whether text begins with a space that is not written (SentencePiece).
    pub add_space_prefix: Option<bool>,
    /// Whether runs of spaces count as one (SentencePiece's unigram).
    pub remove_extra_whitespaces: Option<bool>,
    /// Whether text is lower-cased (WordPiece).
    pub lowercase: Option<bool>,
    /// Whether accents are stripped (WordPiece); follows `lowercase` when not given.
    pub strip_accents: Option<bool>,
    /// SentencePiece's compiled table of normalization, or empty.
    pub precompiled_charsmap: Vec<u8>,
    /// The Jinja source that turns a conversation into text.
    pub chat_template: Option<String>,
    /// How the model's makers would have tokens drawn.
    pub sampling: SamplingHints,
    /// What a `tokenizer.json` says beyond the fields above; it then decides instead of `pre`.
    pub pipeline: Option<Pipeline>,
}
