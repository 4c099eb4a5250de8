//! Model graphs: what a model computes, said once, for every reader.
//!
//! A [`Graph`] is a list of [`Op`]s, each a step that a paper would name, over a flat ragged batch of tokens.
//! Sizes that change from step to step are [`Symbol`]s, so a graph is built and compiled once for a model and a
//! device. Readers: the [`mod@reference`] interpreter (what is right), devices (through [`Device`] and [`Program`]),
//! the planner (through [`cost`]), training (through [`derivative`]), and, later, export.
//!
//! Module map: [`dim`] sizes and shapes · [`op`] the ops · [`mod@graph`] the graph · [`Builder`] builds it, checked · [`cost`]
//! operations and bytes of every op · [`derivative`] the graph that trains a model, from the one that runs it · [`device`] the seam between graph and device · [`mod@reference`] the interpreter ·
//! [`conformance`] the suite that every device must pass.

pub mod adapt;
mod builder;
pub mod conformance;
pub mod cost;
pub mod derivative;
pub mod device;
pub mod dim;
mod error;
pub mod graph;
pub mod op;
pub mod reference;

pub use builder::Builder;
pub use cost::Cost;
pub use device::{
    Abilities, Activations, BLOCK, CACHE_GROUP, CacheDType, Device, Limits, MemoryUse, Program, SequenceStep,
    Step, Tensor, Weights, to_lend,
};
pub use dim::{Dim, Shape, Sizes, Symbol};
pub use error::{CompileError, GraphError, RunError, WeightError};
pub use graph::{CacheId, CacheSpec, Graph, Node, ValueId, WeightId, WeightSpec};
pub use op::{
    ActivationKind, Attention, Experts, GroupScore, Groups, Norm, NormKind, Op, Pairing, Rope, Route, Scoring,
};
