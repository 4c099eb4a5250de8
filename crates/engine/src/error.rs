//! What can go wrong between a prompt and its logits.

use autarky_graph::{CompileError, RunError};
use thiserror::Error;

use crate::sampling::SamplingError;

/// Why the engine could not do what it was asked. Every message says what to do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The device cannot run this model.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// A step failed; the sequences are as they were before it.
    #[error(transparent)]
    Run(#[from] RunError),
    /// No token could be chosen.
    #[error(transparent)]
    Sampling(#[from] SamplingError),
    /// A token has no text.
    #[error(transparent)]
    Text(#[from] autarky_text::TokenizerError),
    /// The engine's options contradict each other or ask for nothing.
    #[error("engine options: {0}")]
    Options(String),
    /// The graph is not one that makes logits.
    #[error("the graph does not make logits: {0}")]
    Graph(String),
    /// A sequence would outgrow the context.
    #[error(
        "the text needs {needed} positions, and the context has {context}; shorten it, or load with a larger context"
    )]
    ContextFull {
        /// Positions that the sequence's tokens call for.
        needed: usize,
        /// Positions that one sequence may have.
        context: usize,
    },
    /// All sequences together would outgrow the KV cache.
    #[error(
        "the KV cache has {free} free blocks, and the step needs {needed}; end another sequence first, or load with a larger cache"
    )]
    CacheFull {
        /// Blocks that the step needs beyond those that its sequences hold.
        needed: usize,
        /// Blocks that no sequence holds.
        free: usize,
    },
    /// A step was asked of a sequence that has nothing left to compute.
    #[error("a sequence has {pending} tokens to compute, and {asked} were asked for; push tokens first")]
    Nothing {
        /// Tokens not computed yet.
        pending: usize,
        /// Tokens that the step wanted.
        asked: usize,
    },
    /// The text is too short to measure.
    #[error(
        "the text has {found} tokens, and a window of {window} needs at least as many; use a longer text, or a smaller context"
    )]
    TextTooShort {
        /// Tokens in the text.
        found: usize,
        /// Tokens in a window.
        window: usize,
    },
    /// Two models cannot be compared.
    #[error("the models cannot be compared: {0}; KL divergence needs two models with one vocabulary")]
    Vocabulary(String),
    /// The machine has not the memory for it.
    #[error(
        "{what} needs {} and {} are available ({source_of_limit}): {hint}",
        crate::memory::human(*.needed), crate::memory::human(*.available)
    )]
    Memory {
        /// What for.
        what: String,
        /// Bytes that are needed.
        needed: u64,
        /// Bytes that are available.
        available: u64,
        /// What sets the limit.
        source_of_limit: &'static str,
        /// What to do.
        hint: String,
    },
}
