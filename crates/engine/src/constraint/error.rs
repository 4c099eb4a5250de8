//! What can be wrong with a constraint, and with what is asked of it.

use thiserror::Error;

/// Why output cannot be constrained as asked. Every message names the place and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConstraintError {
    /// The tokenizer's vocabulary cannot be used.
    #[error("the vocabulary cannot be used for constrained output: {0}")]
    Vocabulary(String),
    /// A JSON Schema is wrong, contradicts itself, or uses what is not supported.
    #[error("JSON Schema{}{}: {what}", if .at.is_empty() { "" } else { " at " }, .at)]
    Schema {
        /// Where: a JSON Pointer (RFC 6901) into the schema; empty for the schema as a whole.
        at: String,
        /// What is wrong there.
        what: String,
    },
    /// A regular expression is wrong, or uses what is not supported.
    #[error("regular expression: {0}")]
    Regex(String),
    /// A grammar is wrong, or uses what is not supported.
    #[error("grammar: {0}")]
    Grammar(String),
    /// A tool cannot be called.
    #[error("tool `{name}`: {what}")]
    Tool {
        /// The tool's name.
        name: String,
        /// What is wrong with it.
        what: String,
    },
    /// More than is taken from a client.
    #[error("{what} has {size} {unit}, and at most {limit} are taken; make it smaller")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size, or the point where counting stopped.
        size: usize,
        /// What the size counts.
        unit: &'static str,
        /// The most that is taken.
        limit: usize,
    },
    /// Following the constraint would take more time or memory than one client may have.
    #[error("the constraint is too complex: {0}; simplify it")]
    TooComplex(String),
    /// A token was accepted that the constraint does not allow.
    #[error("token {token} does not continue the constrained text; choose among what `mask` leaves")]
    Refused {
        /// The token.
        token: u32,
    },
    /// No token of the vocabulary continues the text.
    #[error("no token of the vocabulary continues the constrained text; loosen the constraint")]
    DeadEnd,
    /// The text is complete, and something was asked of what would follow.
    #[error("the constrained text is complete: no token may follow; ask `is_done` before choosing a token")]
    Complete,
    /// The system could not give the thread that compiles grammars.
    #[error("no thread to compile the constraint: {0}; try again later")]
    Thread(String),
}
