//! The ops that a derivative needs beside those of models.

use crate::graph::WeightId;
use crate::op::{ActivationKind, Attention, Experts, Norm, Route};

/// The derivative of the loss by an op's argument, from `dy`, that by its result.
#[derive(Clone, Debug, PartialEq)]
pub enum Backward {
    /// dx = Wᵀ dy: dy `[R, out]` → `[R, in]`.
    Linear {
        /// W `[out, in]`.
        weight: WeightId,
    },
    /// dx_h = W_hᵀ dy_h: dy `[R, H, out]` → `[R, H, in]`.
    HeadLinear {
        /// W `[H, out, in]`.
        weight: WeightId,
    },
    /// x, dy → dx, over the last dimension.
    Norm(Norm),
    /// q, k, v, dy → dq, dk and dv of every token, one after another: `[tokens, H·Dk + G·Dk + G·Dv]`. All positions that
    /// a token sees must be in the step.
    Attention(Attention),
    /// x, dy → f′(x) · dy.
    Activation(ActivationKind),
    /// x, dy → dy · (1 − tanh²(x / cap)).
    Softcap {
        /// The largest magnitude that came out.
        cap: f32,
    },
    /// dy, with zeros before and behind it: `[R, ..., length]` → `[R, ..., width]`.
    Slice {
        /// Where dy begins.
        start: usize,
    },
    /// dy in the rows whose results were wanted, zero in the others: `[outputs, ...]` → `[tokens, ...]`.
    Select,
    /// Router logits `[R, E]`, the routing, and the derivatives by its weights `[R, K]` → `[R, E]`.
    Route(Route),
    /// x, the routing, dy → dx and the derivatives by the routing's weights, one after another: `[R, D + K]`.
    Experts(Experts),
    /// Logits `[outputs, V]`, targets and factors `[outputs, 1]` → (softmax(logits) − one at the target) · factor.
    CrossEntropy,
}

impl Backward {
    /// The op's name.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Backward::Linear { .. } => "backward of linear",
            Backward::HeadLinear { .. } => "backward of head linear",
            Backward::Norm(_) => "backward of norm",
            Backward::Attention(_) => "backward of attention",
            Backward::Activation(_) => "backward of activation",
            Backward::Softcap { .. } => "backward of softcap",
            Backward::Slice { .. } => "backward of slice",
            Backward::Select => "backward of select",
            Backward::Route(_) => "backward of route",
            Backward::Experts(_) => "backward of experts",
            Backward::CrossEntropy => "backward of cross entropy",
        }
    }

    /// The weights that it reads.
    pub(crate) fn weights(&self) -> Vec<WeightId> {
        match self {
            Backward::Linear { weight } | Backward::HeadLinear { weight } => vec![*weight],
            Backward::Norm(n) => n.weight.into_iter().collect(),
            Backward::Attention(a) => a.sinks.into_iter().collect(),
            Backward::Route(r) => r.bias.into_iter().collect(),
            Backward::Experts(e) => vec![e.gate, e.up, e.down],
            _ => Vec::new(),
        }
    }
}

/// Adds the derivative of the loss by weights, over all rows of the step, to what the program has gathered of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Gradient {
    /// dy, added to the rows of the tokens.
    Embed {
        /// The table.
        table: WeightId,
    },
    /// x, dy: dW = Σ dy xᵀ, db = Σ dy.
    Linear {
        /// W, if it is trained.
        weight: Option<WeightId>,
        /// b, if it is trained.
        bias: Option<WeightId>,
    },
    /// x, dy: dW_h = Σ dy_h x_hᵀ.
    HeadLinear {
        /// W.
        weight: WeightId,
    },
    /// x, dy: by gain and shift, those of the norm that are trained.
    Norm(Norm),
    /// q, k, v, dy: by the sinks.
    Sinks(Attention),
    /// x, the routing, dy: by all three weights.
    Experts(Experts),
}

impl Gradient {
    /// The op's name.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Gradient::Embed { .. } => "gradient of embed",
            Gradient::Linear { .. } => "gradient of linear",
            Gradient::HeadLinear { .. } => "gradient of head linear",
            Gradient::Norm(_) => "gradient of norm",
            Gradient::Sinks(_) => "gradient of sinks",
            Gradient::Experts(_) => "gradient of experts",
        }
    }

    /// The weights whose gradient it adds to.
    pub fn of(&self) -> Vec<WeightId> {
        match self {
            Gradient::Embed { table } => vec![*table],
            Gradient::Linear { weight, bias } => [*weight, *bias].into_iter().flatten().collect(),
            Gradient::HeadLinear { weight } => vec![*weight],
            Gradient::Norm(n) => [n.weight, n.bias].into_iter().flatten().collect(),
            Gradient::Sinks(a) => a.sinks.into_iter().collect(),
            Gradient::Experts(e) => vec![e.gate, e.up, e.down],
        }
    }
}
