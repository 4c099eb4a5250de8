//! What training has to hold.

use super::Training;
use crate::model::Model;

/// What the backward pass computes again instead of keeping it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recompute {
    /// Nothing.
    None,
    /// Attention's scores (arXiv:2205.05198), or kernels that never store them.
    Selective,
    /// Whole layers.
    Full,
}

/// Bytes that training holds on a device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainingMemory {
    /// Weights in half precision.
    pub weights: f64,
    /// Gradients.
    pub gradients: f64,
    /// Master weights and the two moments of Adam, in FP32.
    pub optimizer: f64,
    /// Activations kept for the backward pass.
    pub activations: f64,
}

impl TrainingMemory {
    /// All of it.
    pub fn total(&self) -> f64 {
        self.weights + self.gradients + self.optimizer + self.activations
    }
}

/// Bytes of activations that one layer keeps for a microbatch of `sequences` on each of `tensor` devices
/// (arXiv:2205.05198, equations 1 to 5, for blocks of the same shape as GPT's).
pub fn activation_bytes(
    model: &Model,
    length: f64,
    sequences: f64,
    tensor: f64,
    sequence_parallel: bool,
    recompute: Recompute,
) -> f64 {
    let tokens = length * sequences;
    let scores = 5.0 * model.heads * length * length * sequences;
    // 34 bytes a token and hidden number: 11 of attention, 19 of the block (16 are four times as wide), 4 of the norms.
    let wide = 16.0 * model.feed_forward / 4.0;
    let narrow = (34.0 - 16.0 - 10.0) * model.width;
    let outside = 10.0 * model.width;
    match recompute {
        Recompute::Full => 2.0 * tokens * model.width / if sequence_parallel { tensor } else { 1.0 },
        _ => {
            let scores = if recompute == Recompute::None { scores } else { 0.0 };
            let whole = if sequence_parallel { tensor } else { 1.0 };
            tokens * (outside / whole + (wide + narrow) / tensor) + scores / tensor
        }
    }
}

/// Bytes that a device holds in training `t` of `model`: weights and gradients of 2 and 4 bytes a number, the optimizer's
/// 12, cut as `t` says; the optimizer is spread over data-parallel devices (ZeRO-1).
pub fn training_memory(model: &Model, t: &Training) -> TrainingMemory {
    let experts = model.experts();
    let cut = t.tensor * t.pipeline;
    let held = (model.total() - experts) / cut + experts / (cut * t.expert.max(1.0));
    let spread = if t.sharded { t.data() } else { 1.0 };
    let trained = if t.adapters_only { 0.01 } else { 1.0 };
    let layers = (model.layers / t.pipeline).max(1.0);
    let layer = activation_bytes(
        model,
        t.length / t.context,
        t.micro_batch,
        t.tensor,
        t.tensor > 1.0,
        // Attention's scores are never stored by today's kernels.
        if t.recompute == Recompute::None { Recompute::Selective } else { t.recompute },
    );
    // The first stage holds as many microbatches as there are stages.
    let in_flight = t.pipeline.min(t.microbatches());
    let logits = t.micro_batch * t.length / t.context * model.vocabulary * 4.0 / t.tensor;
    TrainingMemory {
        weights: 2.0 * held / spread,
        gradients: 4.0 * held * trained / spread,
        optimizer: 12.0 * held * trained / t.data(),
        activations: layer * layers * in_flight + logits / t.pipeline,
    }
}
