//! Running the derivatives of a model: what a training graph has beside the model's own tasks. The transposes of products
//! are products themselves, with weights that are packed the other way.
//!
//! Every number of a gradient is one thread's, who adds the rows of the step in their order: it has the same bits
//! whatever the number of threads.

mod attention;
mod attention_bf16;
mod experts;
mod run;

pub(super) use attention::AttentionBackward;
pub(super) use experts::{ExpertsBackward, Hidden};

use autarky_graph::{ActivationKind as Function, NormKind};

use crate::matmul::Rounding;

use super::task::{Accesses, BufferId, Matrix, Operand, Rows, Sink, Vector};

/// A task of a derivative. `gradient`s are named by their weight.
#[derive(Clone, Debug)]
pub(super) enum Derivative {
    /// −ln of the softmax at the target, of every row.
    CrossEntropy { logits: Matrix, targets: Matrix, to: Matrix },
    /// (softmax − one at the target) · factor; and the cross entropy, where it is not there yet.
    CrossEntropyBackward {
        logits: Matrix,
        targets: Matrix,
        factors: Matrix,
        losses: Option<Matrix>,
        to: Sink,
    },
    /// What every `last` numbers are normed by: mean and factor.
    NormStats { kind: NormKind, epsilon: f32, from: Matrix, last: usize, to: Matrix },
    /// By the gate and by what it gates, from that by their product.
    Gated(Box<GatedBackward>),
    /// By the norm's argument x, from that by its result.
    NormBackward {
        kind: NormKind,
        stats: Matrix,
        weight: Vector,
        x: Matrix,
        dy: Matrix,
        last: usize,
        to: Sink,
    },
    /// Of a norm's gain and shift, or of anything's shift: sums over all groups of `last` numbers.
    Columns { normed: Option<Normed>, dy: Matrix, last: usize, gain: Vector, shift: Vector },
    /// Σ dy xᵀ over the rows, of each of some heads.
    Outer { gradient: usize, heads: usize, x: Matrix, dy: Matrix },
    /// A weight that the step lends as bytes for many products, when what `after` has is there.
    Pack { weight: usize, after: BufferId, to: BufferId },
    /// Rows in the form that products read, when what `after` has is there: it keeps tasks that come one after another
    /// for the sake of memory from beginning together.
    Operand { from: Matrix, to: Operand, after: Option<BufferId> },
    /// Rows of BF16 numbers as floats, when what `after` has is there.
    Widened { from: Operand, to: Matrix, after: Option<BufferId> },
    /// A matrix in BF16, pairs of rows together, or in bytes, four together.
    Pair { from: Stored, to: Pairs },
    /// [`Derivative::Outer`] of one head, of those.
    OuterPairs { gradient: usize, x: Pairs, dy: Pairs },
    /// dy, added to the rows of the step's tokens.
    Embed { gradient: usize, dy: Matrix },
    /// `length` numbers, with zeros before and behind them, `last` in all.
    Widen { from: Matrix, start: usize, length: usize, last: usize, to: Sink },
    /// The wanted rows where they were among the tokens, and zero in the others.
    Scatter { from: Matrix, to: Sink },
    /// By queries, keys and values.
    Attention(AttentionBackward),
    /// Of mixtures of experts.
    Experts(ExpertsBackward),
}

/// A matrix in the form of [`Paired`](crate::matmul::Paired), or rounded so of [`Quads`](crate::matmul::Quads).
#[derive(Clone, Copy, Debug)]
pub(super) struct Pairs {
    pub(super) buffer: BufferId,
    pub(super) rows: Rows,
    pub(super) width: usize,
    pub(super) rounding: Option<Rounding>,
}

/// A norm's arguments, and what they are normed by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Normed {
    pub(super) x: Matrix,
    pub(super) stats: Matrix,
}

impl Derivative {
    /// The name under which its time is counted.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Derivative::CrossEntropy { .. } | Derivative::CrossEntropyBackward { .. } => "cross entropy",
            Derivative::Gated(_) => "elementwise",
            Derivative::NormStats { .. } | Derivative::NormBackward { .. } => "norm backward",
            Derivative::Columns { .. } => "column sums",
            Derivative::Outer { .. } | Derivative::OuterPairs { .. } => "outer products",
            Derivative::Pack { .. } => "packing",
            Derivative::Operand { .. } | Derivative::Widened { .. } | Derivative::Pair { .. } => "operand",
            Derivative::Embed { .. } => "embed gradient",
            Derivative::Widen { .. } | Derivative::Scatter { .. } => "layout",
            Derivative::Attention(_) => "attention backward",
            Derivative::Experts(_) => "experts backward",
        }
    }

    /// Adds what it reads and writes.
    pub(super) fn accesses(&self, a: &mut Accesses) {
        if let Derivative::Experts(experts) = self {
            return experts.accesses(a);
        }
        let mut reads = |all: &[Matrix]| a.reads.extend(all.iter().map(|m| m.buffer));
        match self {
            Derivative::CrossEntropy { logits, targets, to } => {
                reads(&[*logits, *targets]);
                a.writes.push(to.buffer);
            }
            Derivative::CrossEntropyBackward { logits, targets, factors, losses, to } => {
                reads(&[*logits, *targets, *factors]);
                a.writes.extend(losses.map(|m| m.buffer));
                a.sink(to, &[*logits]);
            }
            Derivative::Gated(g) => {
                a.reads.extend([g.gate.place().0, g.up.place().0, g.dy.buffer]);
                a.sink(&g.by_up, &[g.dy]);
                a.sink(&g.by_gate, &[]);
            }
            Derivative::NormStats { from, to, .. } => {
                reads(&[*from]);
                a.writes.push(to.buffer);
            }
            Derivative::NormBackward { stats, x, dy, to, .. } => {
                reads(&[*stats, *x, *dy]);
                a.sink(to, &[*dy]);
            }
            Derivative::Columns { normed, dy, gain, shift, .. } => {
                reads(&[*dy]);
                normed.iter().for_each(|n| reads(&[n.x, n.stats]));
                a.gradients.extend([*gain, *shift].into_iter().flatten());
            }
            Derivative::Outer { gradient, x, dy, .. } => {
                reads(&[*x, *dy]);
                a.gradients.push(*gradient);
            }
            Derivative::Pack { after, to, .. } => {
                a.reads.push(*after);
                a.after.push(*after);
                a.writes.push(*to);
            }
            Derivative::Operand { from, to, after } => {
                reads(&[*from]);
                a.reads.extend(*after);
                a.after.extend(*after);
                a.writes.push(to.buffer);
            }
            Derivative::Widened { from, to, after } => {
                a.reads.push(from.buffer);
                a.reads.extend(*after);
                a.after.extend(*after);
                a.writes.push(to.buffer);
            }
            Derivative::Pair { from, to } => {
                a.reads.push(from.place().0);
                a.writes.push(to.buffer);
            }
            Derivative::OuterPairs { gradient, x, dy } => {
                a.reads.extend([x.buffer, dy.buffer]);
                a.gradients.push(*gradient);
            }
            Derivative::Embed { gradient, dy } => {
                reads(&[*dy]);
                a.gradients.push(*gradient);
            }
            Derivative::Widen { from, to, .. } | Derivative::Scatter { from, to } => {
                reads(&[*from]);
                a.sink(to, &[]);
            }
            Derivative::Attention(attention) => {
                reads(&attention.read());
                a.writes.extend(attention.written());
            }
            Derivative::Experts(_) => unreachable!("said above"),
        }
    }
}

/// The derivatives of f(gate) · up.
#[derive(Clone, Debug)]
pub(super) struct GatedBackward {
    pub(super) function: Function,
    pub(super) gate: Stored,
    pub(super) up: Stored,
    pub(super) dy: Matrix,
    pub(super) by_gate: Sink,
    pub(super) by_up: Sink,
}

/// A matrix as it is there.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stored {
    Numbers(Matrix),
    /// Rounded to BF16, and not divided into heads.
    Rounded(Operand),
}

impl Stored {
    /// The buffer, and which of its rows.
    pub(super) fn place(&self) -> (BufferId, Rows) {
        match self {
            Stored::Numbers(matrix) => (matrix.buffer, matrix.rows),
            Stored::Rounded(operand) => (operand.buffer, operand.rows),
        }
    }

    pub(super) fn width(&self) -> usize {
        match self {
            Stored::Numbers(matrix) => matrix.width,
            Stored::Rounded(operand) => operand.width,
        }
    }
}

/// The buffers of matrices.
fn buffers(matrices: impl IntoIterator<Item = Matrix>) -> Vec<BufferId> {
    matrices.into_iter().map(|m| m.buffer).collect()
}
