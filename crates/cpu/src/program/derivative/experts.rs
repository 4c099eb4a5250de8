//! Derivatives of mixtures of experts, over the step's pairs of a row and a chosen expert, sorted by expert.

use autarky_graph::{ActivationKind as Function, Route, Scoring};

use crate::kernels::elementwise::{Binary, Unary};

use super::super::run::Run;
use super::super::task::{Accesses, Grouping, Matrix, Routing, Sink};

/// A task of these derivatives. Matrices that belong to a grouping have a row for each of its pairs, in its order.
#[derive(Clone, Debug)]
pub(in super::super) enum ExpertsBackward {
    /// By router logits, from that by the weights of the chosen experts.
    Route { route: Route, logits: Matrix, routing: Routing, by_weights: Matrix, to: Sink },
    /// The rows of all pairs.
    Gather { from: Matrix, grouping: Grouping, to: Matrix },
    /// From the products of gate and up and the derivative by f(gate) · up, all before the weights of the routing, what
    /// [`Hidden`] says.
    Hidden { function: Function, gate: Matrix, up: Matrix, by_hidden: Matrix, grouping: Grouping, to: Hidden },
    /// Σ dy xᵀ over the pairs of every expert.
    Outer { gradient: usize, grouping: Grouping, x: Matrix, dy: Matrix },
    /// Of every row the sums of two matrices over its pairs, then the derivatives by its weights.
    Combine { parts: [Matrix; 2], by_weights: Matrix, grouping: Grouping, to: Matrix },
}

/// What is known of every pair.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Hidden {
    /// f(gate) · up, times the weight of the routing.
    pub(in super::super) hidden: Matrix,
    /// Derivatives by the products of gate and up.
    pub(in super::super) by_gate: Matrix,
    pub(in super::super) by_up: Matrix,
    /// The derivative by the weight of the routing.
    pub(in super::super) by_weight: Matrix,
}

impl ExpertsBackward {
    pub(super) fn accesses(&self, a: &mut Accesses) {
        match self {
            ExpertsBackward::Route { logits, routing, by_weights, to, .. } => {
                a.reads.extend([logits.buffer, routing.experts, by_weights.buffer]);
                a.sink(to, &[]);
            }
            ExpertsBackward::Gather { from, grouping, to } => {
                a.reads.push(from.buffer);
                a.grouping(grouping);
                a.writes.push(to.buffer);
            }
            ExpertsBackward::Hidden { gate, up, by_hidden, grouping, to, .. } => {
                a.reads.extend([gate.buffer, up.buffer, by_hidden.buffer]);
                a.grouping(grouping);
                a.writes.extend([to.hidden, to.by_gate, to.by_up, to.by_weight].map(|m| m.buffer));
            }
            ExpertsBackward::Outer { gradient, grouping, x, dy } => {
                a.reads.extend([x.buffer, dy.buffer]);
                a.grouping(grouping);
                a.gradients.push(*gradient);
            }
            ExpertsBackward::Combine { parts, by_weights, grouping, to } => {
                a.reads.extend(parts.map(|m| m.buffer));
                a.reads.push(by_weights.buffer);
                a.grouping(grouping);
                a.writes.push(to.buffer);
            }
        }
    }
}

impl Run<'_, '_> {
    pub(super) fn experts_backward(&self, task: &ExpertsBackward) {
        match task {
            ExpertsBackward::Route { route, logits, routing, by_weights, to } => {
                let top = routing.top;
                self.rows(to, |row, out| {
                    // SAFETY: the rows have these lengths, and were written in earlier stages.
                    let (logits, chosen, by_weights, out) = unsafe {
                        let chosen = self.buffer(routing.experts).cast::<u32>().add(row * top);
                        (
                            std::slice::from_raw_parts(self.row(logits, row), logits.width),
                            std::slice::from_raw_parts(chosen, top),
                            std::slice::from_raw_parts(self.row(by_weights, row), top),
                            std::slice::from_raw_parts_mut(out, to.width),
                        )
                    };
                    route_backward(route, logits, chosen, by_weights, out);
                });
            }
            ExpertsBackward::Gather { from, grouping, to } => {
                let (_, _, _, rows) = self.grouped(grouping);
                self.worker.for_each(rows.len(), 4, |range| {
                    for slot in range {
                        // SAFETY: both rows have the width, and the slot is this thread's.
                        unsafe {
                            let x = self.row(from, rows[slot] as usize);
                            x.copy_to_nonoverlapping(self.row(to, slot), to.width);
                        }
                    }
                });
            }
            ExpertsBackward::Hidden { function, gate, up, by_hidden, grouping, to } => {
                self.hidden(*function, [gate, up, by_hidden], grouping, to);
            }
            ExpertsBackward::Outer { gradient, grouping, x, dy } => {
                let (active, starts, _, _) = self.grouped(grouping);
                let pieces = self.outer_pieces(x.width, dy.width);
                self.worker.for_each(active.len() * pieces, 1, |range| {
                    for i in range {
                        let expert = active[i / pieces] as usize;
                        let rows = starts[expert] as usize..starts[expert + 1] as usize;
                        // SAFETY: the piece is inside the expert's part of the gradient, and this thread's.
                        unsafe {
                            let to = self.gradient(*gradient).add(expert * x.width * dy.width);
                            let (dys, xs) = (self.row(dy, rows.start), self.row(x, rows.start));
                            let dys = (dys.cast_const(), dy.width, dy.width);
                            let xs = (xs.cast_const(), x.width, x.width);
                            self.outer_piece(to, dys, xs, rows.len(), i % pieces);
                        }
                    }
                });
            }
            ExpertsBackward::Combine { parts, by_weights, grouping, to } => {
                let (_, _, slots, _) = self.grouped(grouping);
                let top = grouping.routing.top;
                let width = to.width - top;
                self.each_row(to, |row, out| {
                    // SAFETY: `out` has the sums and a derivative for each of the row's pairs.
                    unsafe {
                        std::ptr::write_bytes(out, 0, width);
                        for j in 0..top {
                            let slot = slots[row * top + j] as usize;
                            for part in parts {
                                (self.kernels().add_scaled)(1.0, self.row(part, slot), out, width);
                            }
                            *out.add(width + j) = *self.row(by_weights, slot);
                        }
                    }
                });
            }
        }
    }

    fn hidden(
        &self,
        function: Function,
        [gate, up, by_hidden]: [&Matrix; 3],
        grouping: &Grouping,
        to: &Hidden,
    ) {
        let (_, _, slots, _) = self.grouped(grouping);
        let inner = gate.width;
        let multiply = Binary::Multiply;
        self.worker.for_each(slots.len(), 1, |range| {
            for pair in range {
                let slot = slots[pair] as usize;
                // SAFETY: all rows have `inner` numbers, as has the scratch; the pair's slot is this thread's.
                unsafe {
                    let share = *self.buffer(grouping.routing.weights).cast::<f32>().add(pair);
                    let [g, u, d] = [gate, up, by_hidden].map(|m| self.row(m, slot));
                    let [hidden, by_gate, by_up] =
                        [&to.hidden, &to.by_gate, &to.by_up].map(|m| self.row(m, slot));
                    let (unary, binary) = (self.kernels().unary, self.kernels().binary);
                    let active = self.scratch();
                    unary(Unary::Activation(function), g, active, inner);
                    binary(multiply, active, u, hidden, inner);
                    let along: f64 =
                        (0..inner).map(|i| f64::from(*hidden.add(i)) * f64::from(*d.add(i))).sum();
                    *self.row(&to.by_weight, slot) = along as f32;
                    binary(multiply, d, active, by_up, inner);
                    binary(multiply, d, u, by_gate, inner);
                    binary(Binary::Slope(function), g, by_gate, by_gate, inner);
                    for x in [hidden, by_gate, by_up] {
                        unary(Unary::Scale(share), x, x, inner);
                    }
                }
            }
        });
    }
}

/// The derivatives by a row's router logits from those by the weights of the experts that were chosen.
fn route_backward(route: &Route, logits: &[f32], chosen: &[u32], by_weights: &[f32], out: &mut [f32]) {
    let largest = logits.iter().fold(f64::NEG_INFINITY, |m, &x| m.max(f64::from(x)));
    let raw = |x: f32| match route.scoring {
        Scoring::Softmax => libm::exp(f64::from(x) - largest),
        Scoring::Sigmoid => 1.0 / (1.0 + libm::exp(-f64::from(x))),
    };
    let total = match route.scoring {
        Scoring::Softmax => logits.iter().map(|&x| raw(x)).sum(),
        Scoring::Sigmoid => 1.0,
    };
    let score = |expert: usize| raw(logits[expert]) / total;
    let of_chosen = || {
        let pairs = chosen.iter().zip(by_weights);
        pairs.map(|(&e, &d)| (e as usize, f64::from(d) * f64::from(route.scale)))
    };
    // As the weights were divided by their sum.
    let sum: f64 = of_chosen().map(|(e, _)| score(e)).sum::<f64>() + 1e-20;
    let along = of_chosen().map(|(e, d)| score(e) * d).sum::<f64>() / sum;
    let by_score = |d: f64| if route.normalize { (d - along) / sum } else { d };
    let mean: f64 = of_chosen().map(|(e, d)| score(e) * by_score(d)).sum();
    for (expert, out) in out.iter_mut().enumerate() {
        let d = of_chosen().find(|(e, _)| *e == expert).map_or(0.0, |(_, d)| by_score(d));
        let s = score(expert);
        *out = match route.scoring {
            Scoring::Sigmoid => s * (1.0 - s) * d,
            Scoring::Softmax => s * (d - mean),
        } as f32;
    }
}
