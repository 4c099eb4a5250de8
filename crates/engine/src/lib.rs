//! Runs a model: sequences over a paged KV cache, steps, sampling, generation, and measures of quality.
//!
//! Module map: [`Engine`] owns a compiled program and its cache and runs steps · [`Sequence`] is one text's tokens
//! and its blocks of cache · [`sampling`] logits to tokens · [`generate()`] the loop from prompt to text ·
//! [`service`] many answers at once, with continuous batching and a cache of prompts ·
//! [`speculation`] several tokens in a step, guessed from the text itself · [`stop`] stop strings in a stream ·
//! [`constraint`] JSON,
//! grammars and tool calls, enforced token by token · [`quality`] perplexity and KL divergence · [`memory`] what a model needs and what the machine has, asked before
//! anything is allocated.
//!
//! The engine knows graphs and devices only through [`autarky_graph`]'s seam, and no HTTP and no files.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod blocks;
pub mod constraint;
mod engine;
mod error;
pub mod generate;
pub mod memory;
pub mod quality;
pub mod sampling;
mod sequence;
pub mod service;
pub mod speculation;
pub mod stop;
#[cfg(test)]
mod testing;
mod writer;

pub use constraint::{
    Constraint, ConstraintError, ConstraintSpec, ConstraintVocabulary, ToolSchema, ToolSyntax,
};
pub use engine::{EachLogits, Engine, Options, Outputs, Work};
pub use error::EngineError;
pub use generate::{Event, Generated, Request, StopReason, generate};
pub use sampling::{Sampler, Sampling, SamplingError};
pub use sequence::Sequence;
pub use speculation::Speculation;
