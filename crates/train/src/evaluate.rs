//! How well a model does on texts that it does not learn from.

use std::sync::Arc;

use autarky_graph::derivative::losses;
use autarky_graph::{BLOCK, Device, Graph, Weights};

use crate::step::{Laid, With, compile, parts};
use crate::trainer::{Example, Precision, TrainError};

/// Tokens that are read at a time: their logits are all there at once.
const AT_ONCE: usize = 512;

/// What an evaluation found.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Evaluation {
    /// The sum of the cross entropies, in nats.
    pub sum: f64,
    /// Tokens that were predicted.
    pub tokens: usize,
}

impl Evaluation {
    /// The mean cross entropy, in nats a token; none of no token.
    pub fn loss(&self) -> Option<f64> {
        (self.tokens > 0).then(|| self.sum / self.tokens as f64)
    }
}

/// The losses of a model on examples, with products in the precision in which it is trained.
///
/// # Errors
/// When the device does not run the model, or an example does not fit into memory.
pub fn evaluate(
    device: &dyn Device,
    graph: &Graph,
    weights: &dyn Weights,
    precision: Precision,
    examples: &[Example],
) -> Result<Evaluation, TrainError> {
    let graph = Arc::new(losses(graph).ok_or(TrainError::Inputs)?);
    let longest = examples.iter().map(Example::read).max().unwrap_or(0);
    let tokens = longest.max(AT_ONCE);
    let sequences = tokens.div_ceil(BLOCK);
    let (mut program, blocks) = compile(device, graph, weights, precision, (tokens, sequences))?;
    let mut found = Evaluation::default();
    let examples: Vec<Example> = examples.iter().filter(|e| e.read() > 0).cloned().collect();
    for part in parts(&examples, tokens, sequences) {
        let laid = Laid::new(part);
        found.sum += laid.run(&mut *program, With { blocks: &blocks, weights: &[] }, 1.0)?;
        found.tokens += laid.learned.iter().filter(|&&learned| learned).count();
    }
    Ok(found)
}
