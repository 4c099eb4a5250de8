//! The ops: each is a step that a paper would name, and each acts on every row (token) by itself, except
//! [`Op::Attention`], which also reads the sequence's KV cache.
//!
//! In the shapes below `R` is the rows of the argument (tokens or outputs).

use std::fmt;
use std::sync::Arc;

use crate::derivative::{Backward, Gradient};
use crate::graph::{CacheId, WeightId};

/// A step of a model. Arguments are values of the graph; weights and caches are named by their ids.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Numbers that the caller gives with the step (embeddings, images): `[tokens, width]`. `slot` counts from 0.
    Input {
        /// Which of the step's inputs.
        slot: usize,
    },
    /// Rows of a table, one a token of the step: table `[vocabulary, D]` → `[tokens, D]`.
    Embed {
        /// The table.
        table: WeightId,
    },
    /// y = W x (+ b): `[R, in]`, W `[out, in]`, b `[out]` → `[R, out]`.
    Linear {
        /// W.
        weight: WeightId,
        /// b.
        bias: Option<WeightId>,
    },
    /// y_h = W_h x_h for every head: `[R, H, in]`, W `[H, out, in]` → `[R, H, out]`.
    HeadLinear {
        /// W.
        weight: WeightId,
    },
    /// Normalisation over the last dimension.
    Norm(Norm),
    /// Rotary position embedding of every head: `[tokens, H, D]` → the same shape.
    Rope(Rope),
    /// Appends the step's keys and values to the KV cache, then attends: q `[tokens, H, Dk]`, k `[tokens, G, Dk]`,
    /// v `[tokens, G, Dv]` → `[tokens, H, Dv]`.
    Attention(Attention),
    /// f(x) of every number.
    Activation(ActivationKind),
    /// f(gate) · up, number by number: two arguments of one shape.
    GatedActivation(ActivationKind),
    /// Sum of two values of one shape.
    Add,
    /// Product, number by number, of two values of one shape.
    Multiply,
    /// x · factor.
    Scale {
        /// The factor.
        factor: f32,
    },
    /// cap · tanh(x / cap).
    Softcap {
        /// The largest magnitude that comes out.
        cap: f32,
    },
    /// Two values joined along the last dimension; the other dimensions agree.
    Concat,
    /// `length` numbers of the last dimension from `start`.
    Slice {
        /// The first number.
        start: usize,
        /// How many.
        length: usize,
    },
    /// The same numbers under other feature dimensions, such as `[R, H·D]` → `[R, H, D]`.
    Reshape {
        /// The new features.
        features: Vec<usize>,
    },
    /// Chooses experts for every token: logits `[R, E]` → a routing `[R, K]` (expert ids with weights).
    Route(Route),
    /// The chosen experts' gated feed-forward, weighted and summed: x `[R, D]` and a routing `[R, K]` → `[R, D]`.
    Experts(Experts),
    /// The rows whose results are wanted: `[tokens, ...]` → `[outputs, ...]`.
    Select,
    /// x, y → x, but not before y is there: what is computed from it takes no memory until then.
    After,
    /// −ln of the softmax of the logits at the target: logits `[R, V]`, targets (whole numbers below V) `[R, 1]` → `[R, 1]`.
    CrossEntropy,
    /// Part of a derivative by values.
    Backward(Backward),
    /// Part of a derivative by weights; gives no numbers: `[R, 0]`.
    Gradient(Gradient),
}

impl Op {
    /// The op's name, as errors and listings write it.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Input { .. } => "input",
            Op::Embed { .. } => "embed",
            Op::Linear { .. } => "linear",
            Op::HeadLinear { .. } => "head linear",
            Op::Norm(_) => "norm",
            Op::Rope(_) => "rope",
            Op::Attention(_) => "attention",
            Op::Activation(_) => "activation",
            Op::GatedActivation(_) => "gated activation",
            Op::Add => "add",
            Op::Multiply => "multiply",
            Op::Scale { .. } => "scale",
            Op::Softcap { .. } => "softcap",
            Op::Concat => "concat",
            Op::Slice { .. } => "slice",
            Op::Reshape { .. } => "reshape",
            Op::Route(_) => "route",
            Op::Experts(_) => "experts",
            Op::Select => "select",
            Op::After => "after",
            Op::CrossEntropy => "cross entropy",
            Op::Backward(b) => b.name(),
            Op::Gradient(g) => g.name(),
        }
    }

    /// The weights that the op reads.
    pub fn weights(&self) -> Vec<WeightId> {
        match self {
            Op::Embed { table } => vec![*table],
            Op::Linear { weight, bias } => [Some(*weight), *bias].into_iter().flatten().collect(),
            Op::HeadLinear { weight } => vec![*weight],
            Op::Norm(n) => [n.weight, n.bias].into_iter().flatten().collect(),
            Op::Attention(a) => a.sinks.into_iter().collect(),
            Op::Route(r) => r.bias.into_iter().collect(),
            Op::Experts(e) => vec![e.gate, e.up, e.down],
            Op::Backward(b) => b.weights(),
            _ => Vec::new(),
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// x / √(mean(x²) + ε) (Zhang & Sennrich 2019, arXiv:1910.07467).
    Rms,
    /// (x − mean) / √(variance + ε) (Ba et al. 2016, arXiv:1607.06450).
    Layer,
}

/// Normalisation over the last dimension `D`, then · weight + bias (each `[D]`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Norm {
    /// Which.
    pub kind: NormKind,
    /// ε.
    pub epsilon: f32,
    /// The gain.
    pub weight: Option<WeightId>,
    /// The shift.
    pub bias: Option<WeightId>,
}

/// Which two numbers of a head make a rotated pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairing {
    /// (0, 1), (2, 3), ...: the paper's, and GGUF's for Llama.
    Adjacent,
    /// (0, n/2), (1, n/2 + 1), ...: GPT-NeoX's, and Hugging Face's for Llama.
    Halves,
}

/// Rotary position embedding (Su et al. 2021, arXiv:2104.09864): pair `i` of the rotated part of a head turns by
/// position · `frequencies[i]` radians (the product rounded to f32), and is multiplied by `scale`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Which numbers make a pair.
    pub pairing: Pairing,
    /// The first rotated number of a head.
    pub start: usize,
    /// Radians a position, one a pair: the rotated part has twice as many numbers. Position scalings (linear,
    /// llama3, YaRN) are in here.
    pub frequencies: Arc<[f32]>,
    /// What YaRN calls the attention factor; 1 without it.
    pub scale: f32,
}

impl Rope {
    /// Numbers of a head that turn.
    pub fn rotated(&self) -> usize {
        2 * self.frequencies.len()
    }

    /// The two numbers of a head that pair `i` turns.
    pub fn pair(&self, i: usize) -> (usize, usize) {
        match self.pairing {
            Pairing::Adjacent => (self.start + 2 * i, self.start + 2 * i + 1),
            Pairing::Halves => (self.start + i, self.start + i + self.frequencies.len()),
        }
    }
}

/// Causal softmax attention over the sequence's cache. Query head `h` reads the key and value head `h / (H / G)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// Where this layer's keys and values are kept.
    pub cache: CacheId,
    /// Scores are q·k · scale.
    pub scale: f32,
    /// A query at position p sees positions p−window+1 ..= p; none: all up to p.
    pub window: Option<usize>,
    /// Scores pass through cap · tanh(score / cap) before the softmax.
    pub softcap: Option<f32>,
    /// One more logit a head, `[H]`, that takes a share of the softmax and gives no value.
    pub sinks: Option<WeightId>,
}

/// Activation functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActivationKind {
    /// x · sigmoid(x).
    Silu,
    /// x · Φ(x), with the error function.
    Gelu,
    /// GELU's tanh approximation: 0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³))).
    GeluTanh,
    /// max(x, 0).
    Relu,
    /// 1 / (1 + e^−x).
    Sigmoid,
}

/// How router logits become scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scoring {
    /// Softmax over all experts.
    Softmax,
    /// Sigmoid of each.
    Sigmoid,
}

/// How a group of experts is scored for group-limited routing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupScore {
    /// Its best expert (DeepSeek-V2, arXiv:2405.04434).
    Best,
    /// The sum of its two best (DeepSeek-V3, arXiv:2412.19437).
    BestTwo,
}

/// Group-limited routing: experts stand in `count` equal groups, and a token chooses within its best `keep`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Groups {
    /// Groups.
    pub count: usize,
    /// Groups that a token may use.
    pub keep: usize,
    /// How groups are ranked.
    pub score: GroupScore,
}

/// Top-K routing. Ties go to the lower expert id; the chosen are listed from best to worst.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Route {
    /// Experts that a token uses: K.
    pub top: usize,
    /// Logits to scores.
    pub scoring: Scoring,
    /// Added to the scores, `[E]`, for choosing only; the weights stay without it.
    pub bias: Option<WeightId>,
    /// Group limits.
    pub groups: Option<Groups>,
    /// Divide the K weights by their sum.
    pub normalize: bool,
    /// Multiplies the weights at the end.
    pub scale: f32,
}

/// Σ over chosen experts e: weight_e · W_down,e ( f(W_gate,e x) · W_up,e x ).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Experts {
    /// f.
    pub activation: ActivationKind,
    /// W_gate `[E, F, D]`.
    pub gate: WeightId,
    /// W_up `[E, F, D]`.
    pub up: WeightId,
    /// W_down `[E, D, F]`.
    pub down: WeightId,
}
