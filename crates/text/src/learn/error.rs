//! What can be wrong with what a vocabulary is to be.

use crate::error::TokenizerError;

/// Why a vocabulary could not be learned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LearnError {
    /// The bytes and the control tokens alone need more tokens.
    #[error(
        "a vocabulary of {vocabulary} tokens is too small: 256 bytes and {control} control tokens need {least}",
        least = 256 + control
    )]
    TooSmall {
        /// The size that was asked for.
        vocabulary: usize,
        /// The number of control tokens.
        control: usize,
    },
    /// No tokenizer of this crate has so many tokens.
    #[error("a vocabulary of {vocabulary} tokens is too large: at most {most}")]
    TooLarge {
        /// The size that was asked for.
        vocabulary: usize,
        /// The largest size.
        most: usize,
    },
    /// A control token that cannot be one.
    #[error("the control token {text:?} {problem}")]
    Control {
        /// Its text.
        text: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A role is given to a token that is not among the control tokens.
    #[error("`{role}` is {text:?}, which is not among the control tokens")]
    Role {
        /// The role: `bos`, `eos`, `eot` or `pad`.
        role: &'static str,
        /// The text that was named.
        text: String,
    },
    /// BOS is to go before every text, but no token has that role.
    #[error("BOS is to go before a text, but `bos` names no token")]
    NoBos,
    /// A pre-tokenizer of vocabularies that are not spelt in bytes.
    #[error("the pre-tokenizer `{pre}` is not one of byte-level vocabularies")]
    NotByteLevel {
        /// Its name.
        pre: String,
    },
    /// Counts of pieces that another pre-tokenizer cut.
    #[error("pieces that `{theirs}` cut cannot be added to those of `{ours}`")]
    OtherPieces {
        /// The pre-tokenizer of the learner that was added to.
        ours: String,
        /// The other's.
        theirs: String,
    },
    /// More distinct pieces than 32 bits can number.
    #[error("{pieces} distinct pieces are too many: at most 4294967295")]
    TooManyPieces {
        /// How many there are.
        pieces: usize,
    },
    /// An unknown pre-tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}
