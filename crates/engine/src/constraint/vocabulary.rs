//! What constraints need of a model's vocabulary: a trie of the tokens that are text.

use std::fmt;
use std::sync::Arc;

use autarky_text::{TokenType, Tokenizer};
use llguidance::api::ParserLimits;
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{
    ApproximateTokEnv, INVALID_TOKEN, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie,
};
use llguidance::{ParserFactory, TokenParser};

use super::error::ConstraintError;

/// Bytes of the longest token that may come in constrained text; the trie has room for 1,024.
const LONGEST_TOKEN: usize = 512;
/// Nodes that the trie has room for.
const MOST_NODES: usize = (1 << 22) - 1;
/// No text has this byte, and `llguidance` marks tokens that are no text with it.
const MARK: u8 = TokTrie::SPECIAL_TOKEN_MARKER;

/// The tokens of a model, made ready for constraints once and shared by all of them.
pub struct ConstraintVocabulary {
    factory: ParserFactory,
    /// A bit for each token that is text.
    text: Arc<[u32]>,
    /// Sorted.
    eog: Vec<u32>,
    /// Names and ids of control tokens, longest name first.
    control: Vec<(String, u32)>,
}

impl fmt::Debug for ConstraintVocabulary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConstraintVocabulary").field("eog", &self.eog).finish_non_exhaustive()
    }
}

impl ConstraintVocabulary {
    /// Takes in the tokens of `tokenizer`: half a second and some tens of MB for 128 thousand tokens.
    ///
    /// Text are normal, user-defined and byte tokens of up to 512 bytes that do not end a generation.
    ///
    /// # Errors
    /// [`ConstraintError::Vocabulary`] if the tokens have more text than any model's.
    pub fn new(tokenizer: &Tokenizer) -> Result<Arc<Self>, ConstraintError> {
        let size = u32::try_from(tokenizer.vocab_size())
            .map_err(|_| ConstraintError::Vocabulary("its tokens cannot be counted in 32 bits".into()))?;
        let mut text = vec![0; tokenizer.vocab_size().div_ceil(32)];
        let mut control = Vec::new();
        let mut words = Vec::with_capacity(tokenizer.vocab_size());
        for id in 0..size {
            let bytes = tokenizer.token_bytes(id).unwrap_or_default();
            let kind = tokenizer.token_type(id).unwrap_or_default();
            let is_text = matches!(kind, TokenType::Normal | TokenType::UserDefined | TokenType::Byte)
                && !tokenizer.is_eog(id)
                && (1..=LONGEST_TOKEN).contains(&bytes.len())
                && !bytes.contains(&MARK);
            if is_text {
                if let Some(word) = text.get_mut(id as usize / 32) {
                    *word |= 1 << (id % 32);
                }
            } else if kind == TokenType::Control
                && let Ok(name) = std::str::from_utf8(bytes)
                && !name.is_empty()
            {
                control.push((name.to_owned(), id));
            }
            words.push(if is_text { bytes.to_vec() } else { Vec::new() });
        }
        control.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        let nodes: usize = words.iter().map(Vec::len).sum();
        if nodes > MOST_NODES {
            return Err(ConstraintError::Vocabulary(format!(
                "its tokens have {nodes} bytes, and at most {MOST_NODES} are taken"
            )));
        }
        let eog = tokenizer.eog().to_vec();
        let info = TokRxInfo::new(size, eog.first().copied().unwrap_or(INVALID_TOKEN));
        let mut trie = TokTrie::from(&info, &words);
        if !eog.is_empty() {
            trie = trie.with_eos_tokens(&eog);
        }
        let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let slices = SlicedBiasComputer::general_slices();
        let mut factory = ParserFactory::new(&environment, InferenceCapabilities::default(), &slices)
            .map_err(|e| ConstraintError::Vocabulary(e.to_string()))?;
        *factory.quiet().limits_mut() = limits();
        Ok(Arc::new(Self { factory, text: text.into(), eog, control }))
    }

    /// A parser of `grammar`, or what the compiler says.
    pub(super) fn parser(&self, grammar: llguidance::api::TopLevelGrammar) -> Result<TokenParser, String> {
        self.factory.create_parser(grammar).map_err(|e| format!("{e:#}"))
    }

    /// Whether a generation ends with `id`.
    pub(super) fn is_eog(&self, id: u32) -> bool {
        self.eog.binary_search(&id).is_ok()
    }

    /// The tokens that end a generation, sorted.
    pub(super) fn eog(&self) -> &[u32] {
        &self.eog
    }

    /// A bit for each token that is text.
    pub(super) fn text(&self) -> &Arc<[u32]> {
        &self.text
    }

    /// The control token that `text` begins with, the longest if several do: its name and id.
    pub(super) fn control_at(&self, text: &str) -> Option<(&str, u32)> {
        let (name, id) = self.control.iter().find(|(name, _)| text.starts_with(name.as_str()))?;
        Some((name, *id))
    }
}

/// What one constraint may cost. Times are of one core, after `llguidance`'s own figures.
fn limits() -> ParserLimits {
    ParserLimits {
        // Earley items of one position: the ways in which a text can be read so far.
        max_items_in_row: 2_000,
        // Building the lexer: 20 ms.
        initial_lexer_fuel: 1_000_000,
        // The lexer's part of one mask: 15 ms.
        step_lexer_fuel: 200_000,
        // The parser's part of one mask: 3 ms.
        step_max_items: 50_000,
        // 1 to 2 kB each.
        max_lexer_states: 30_000,
        // Symbols of all productions.
        max_grammar_size: 200_000,
        precompute_large_lexemes: true,
        verbose_errors: false,
    }
}
