//! What happens to text before the model sees it: the steps that normalize it and cut it into pieces.

use crate::normalizer::Normalizer;
use crate::pre_tokenizer::{PreTokenizer, Prepend};

/// A tokenizer's steps around its model, as `tokenizer.json` spells them out and GGUF's `pre` names them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Pipeline {
    /// Change the text, one after the other.
    pub(crate) normalizers: Vec<Normalizer>,
    /// Cut it into pieces, one after the other.
    pub(crate) pre_tokenizers: Vec<PreTokenizer>,
    /// Whether tokens are spelt in GPT-2's byte alphabet.
    pub(crate) byte_level: bool,
    /// Whether characters without a token become `<0xAB>` tokens.
    pub(crate) byte_fallback: bool,
    /// Whether neighbouring unknown characters become one unknown token.
    pub(crate) fuse_unk: bool,
    /// Whether a piece that is a token is taken whole without applying merges.
    pub(crate) ignore_merges: bool,
    /// Whether `▁` stands for a space in tokens.
    pub(crate) meta_space: bool,
    /// Whether decoding drops the one space that encoding put before the text.
    pub(crate) strips_first_space: bool,
    /// The ids before and after an encoded text; `None` follows the spec's `add_bos`, `add_eos`, `add_sep`.
    pub(crate) template: Option<Template>,
    /// Which special tokens swallow the blanks beside them.
    pub(crate) strips: Vec<Strip>,
}

impl Pipeline {
    /// The same with a single [`PreTokenizer::MetaSpace`] written as normalizers, as GGUF implies them.
    ///
    /// Both forms come from SentencePiece models, which always put a space before the text. The step in
    /// `tokenizer.json` differs from that only where a text itself begins with a space, or follows a special
    /// token; the original is what GGUF keeps.
    pub(crate) fn with_spelt_spaces(mut self) -> Self {
        if let [PreTokenizer::MetaSpace { mark, prepend, split: false }] = self.pre_tokenizers.as_slice() {
            let mark = mark.to_string();
            if *prepend != Prepend::Never {
                self.normalizers.push(Normalizer::Prepend(mark.clone()));
            }
            self.normalizers.push(Normalizer::ReplaceText { text: " ".into(), with: mark });
            self.pre_tokenizers.clear();
        }
        self
    }
}

/// The ids that frame an encoded text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Template {
    pub(crate) prefix: Vec<u32>,
    pub(crate) suffix: Vec<u32>,
}

/// How a special token treats its surroundings in text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Strip {
    pub(crate) id: u32,
    /// Blanks before it belong to it.
    pub(crate) left: bool,
    /// Blanks after it belong to it.
    pub(crate) right: bool,
    /// It counts only where no word character is beside it.
    pub(crate) single_word: bool,
}
