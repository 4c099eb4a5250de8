//! Constrained output: JSON, JSON Schema, regular expressions, grammars and tool calls, token by token.
//!
//! Module map: [`ConstraintVocabulary`] what is made once of a model's tokens · [`ConstraintSpec`] what a client asks
//! for, and its grammar · `schema` what is checked of a client's JSON Schema before anything is compiled ·
//! [`Constraint`] the state of one text: which tokens may come next.
//!
//! Grammars are compiled and followed by the crate `llguidance` (an Earley parser over lexemes of derivatives of
//! regular expressions, Brzozowski 1964; masks from a trie of the vocabulary). This module is what stands between it
//! and a client: what may be asked, bounds on time and memory, and which tokens count as text.
//!
//! A token that is text may always come where its bytes fit the grammar, however the tokenizer would have cut the
//! text. Control tokens never stand for the text of their names, and tokens that end a generation are allowed only
//! where the grammar may end.

mod error;
mod schema;
mod spec;
mod state;
mod vocabulary;

#[cfg(test)]
mod tests;

pub use error::ConstraintError;
pub use spec::{ConstraintSpec, ToolSchema, ToolSyntax};
pub use state::Constraint;
pub use vocabulary::ConstraintVocabulary;
