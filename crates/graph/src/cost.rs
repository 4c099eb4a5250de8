//! What an op costs: operations and bytes, as linear functions of the symbols.
//!
//! Counts are of the work that the mathematics calls for: a multiplication and an addition are two operations;
//! weights are read once a step; activations are f32 and go through memory once each way. What a device saves by
//! fusion, or wastes, is the device's business.

use std::collections::BTreeMap;
use std::fmt;

use autarky_quant::DType;

use crate::derivative::{Backward, Gradient};
use crate::dim::{Sizes, Symbol};
use crate::graph::{Graph, Node, WeightId};
use crate::op::Op;

/// constant + Σ coefficient · symbol.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Linear {
    constant: f64,
    terms: BTreeMap<Symbol, f64>,
}

impl Linear {
    /// A number that no symbol changes.
    pub fn constant(n: f64) -> Linear {
        Linear { constant: n, terms: BTreeMap::new() }
    }

    /// `coefficient` · `symbol`.
    pub fn of(symbol: Symbol, coefficient: f64) -> Linear {
        Linear { constant: 0.0, terms: BTreeMap::from([(symbol, coefficient)]) }
    }

    /// The sum of two.
    pub fn plus(mut self, other: &Linear) -> Linear {
        self.constant += other.constant;
        for (s, c) in &other.terms {
            *self.terms.entry(*s).or_default() += c;
        }
        self
    }

    /// Its value with the symbols bound.
    pub fn value(&self, sizes: &Sizes) -> f64 {
        self.constant + self.terms.iter().map(|(s, c)| c * sizes.value(*s)).sum::<f64>()
    }
}

impl fmt::Display for Linear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts: Vec<String> = self.terms.iter().map(|(s, c)| format!("{c}·{s}")).collect();
        if self.constant != 0.0 || parts.is_empty() {
            parts.push(format!("{}", self.constant));
        }
        f.write_str(&parts.join(" + "))
    }
}

/// Operations and bytes of one op, or of several.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cost {
    /// Floating-point operations, or the integer ones that stand in for them.
    pub flops: Linear,
    /// Bytes read: weights, KV cache and arguments.
    pub read: Linear,
    /// Bytes written: results and KV cache.
    pub written: Linear,
}

impl Cost {
    /// The sum of two.
    pub fn plus(self, other: &Cost) -> Cost {
        Cost {
            flops: self.flops.plus(&other.flops),
            read: self.read.plus(&other.read),
            written: self.written.plus(&other.written),
        }
    }
}

/// How numbers are stored, which decides bytes.
pub struct Storage<'a> {
    /// Each weight's type.
    pub weights: &'a dyn Fn(WeightId) -> DType,
    /// Bytes of one number of KV cache.
    pub cache_bytes: f64,
}

impl Storage<'_> {
    fn weight_bytes(&self, graph: &Graph, id: WeightId) -> f64 {
        let elements: f64 = graph.weight(id).shape.iter().map(|&n| n as f64).product();
        elements * (self.weights)(id).bits_per_element() / 8.0
    }
}

const F32: f64 = 4.0;

/// The cost of one node of `graph`.
pub fn node(graph: &Graph, node: &Node, storage: &Storage<'_>) -> Cost {
    let rows = node.shape.rows();
    let width = node.shape.width() as f64;
    let argument = |i: usize| &graph.node(node.args[i]).shape;
    let read_arguments = node.args.iter().fold(Linear::default(), |sum, a| {
        let shape = &graph.node(*a).shape;
        sum.plus(&Linear::of(shape.rows(), F32 * shape.width() as f64))
    });
    let weights: f64 = node.op.weights().iter().map(|w| storage.weight_bytes(graph, *w)).sum();
    let written = Linear::of(rows, F32 * width);
    let per_row = |flops: f64| Linear::of(rows, flops);
    let plain = |flops: f64| Cost {
        flops: per_row(flops),
        read: read_arguments.clone().plus(&Linear::constant(weights)),
        written: written.clone(),
    };
    match &node.op {
        Op::Input { .. } | Op::Reshape { .. } => Cost::default(),
        Op::Embed { table } => {
            let row = storage.weight_bytes(graph, *table) / graph.weight(*table).shape[0] as f64;
            Cost { flops: Linear::default(), read: Linear::of(rows, row), written }
        }
        Op::Linear { bias, .. } => {
            plain(2.0 * argument(0).width() as f64 * width + if bias.is_some() { width } else { 0.0 })
        }
        Op::HeadLinear { .. } => plain(2.0 * argument(0).last() as f64 * width),
        Op::Norm(_) => plain(5.0 * width),
        Op::Rope(r) => plain(3.0 * (r.rotated() * node.shape.features()[0]) as f64),
        Op::Attention(a) => {
            let (q, spec) = (argument(0), graph.caches()[a.cache.index()]);
            let heads = q.features()[0] as f64;
            let pair = heads * (2.0 * spec.key_width as f64 + 2.0 * spec.value_width as f64 + 5.0);
            let position = spec.width() as f64 * storage.cache_bytes;
            Cost {
                flops: Linear::of(Symbol::Attended { window: a.window }, pair),
                read: read_arguments.plus(&Linear::of(Symbol::Cached { window: a.window }, position)),
                written: written.plus(&Linear::of(rows, position)),
            }
        }
        Op::Activation(_) | Op::Softcap { .. } => plain(4.0 * width),
        Op::GatedActivation(_) => plain(5.0 * width),
        Op::Add | Op::Multiply | Op::Scale { .. } => plain(width),
        Op::CrossEntropy => plain(4.0 * argument(0).width() as f64),
        Op::Concat => plain(0.0),
        // Of the other argument nothing is read.
        Op::After => Cost { flops: Linear::default(), read: written.clone(), written },
        // Only the chosen part is read.
        Op::Slice { .. } | Op::Select => Cost { flops: Linear::default(), read: written.clone(), written },
        Op::Route(_) => plain(4.0 * argument(0).width() as f64),
        Op::Experts(e) => {
            let shape = &graph.weight(e.gate).shape;
            let (count, inner, width) = (shape[0], shape[1] as f64, shape[2] as f64);
            let top = argument(1).width();
            let reached = Symbol::Reached { experts: count, per_token: top };
            Cost {
                flops: per_row(top as f64 * (6.0 * inner * width + 5.0 * inner + 2.0 * width)),
                read: read_arguments.plus(&Linear::of(reached, weights / count as f64)),
                written,
            }
        }
        Op::Backward(op) => {
            let flops = match op {
                Backward::Linear { .. } | Backward::HeadLinear { .. } => {
                    2.0 * argument(0).last() as f64 * width
                }
                Backward::Norm(_) => 10.0 * width,
                Backward::Activation(_) | Backward::Softcap { .. } => 6.0 * width,
                Backward::Slice { .. } | Backward::Select => 0.0,
                Backward::Route(_) => 8.0 * width,
                Backward::CrossEntropy => 5.0 * width,
                // The forward products again, and two backward for each.
                Backward::Experts(e) => {
                    argument(1).width() as f64 * 12.0 * expert_weights(graph, e.gate) + 10.0 * width
                }
                Backward::Attention(a) => {
                    let (spec, heads) = (graph.caches()[a.cache.index()], argument(0).features()[0] as f64);
                    // Scores again, then derivatives by weights and values, and by queries and keys.
                    let pair = heads * (6.0 * spec.key_width as f64 + 4.0 * spec.value_width as f64 + 10.0);
                    return Cost {
                        flops: Linear::of(Symbol::Attended { window: a.window }, pair),
                        read: read_arguments,
                        written,
                    };
                }
            };
            plain(flops)
        }
        Op::Gradient(op) => {
            let numbers: f64 = (op.of().iter())
                .map(|w| graph.weight(*w).shape.iter().map(|&n| n as f64).product::<f64>())
                .sum();
            let flops = match op {
                Gradient::Embed { .. } => argument(0).width() as f64,
                Gradient::Linear { .. } => 2.0 * argument(0).width() as f64 * argument(1).width() as f64,
                Gradient::HeadLinear { .. } => 2.0 * argument(0).width() as f64 * argument(1).last() as f64,
                Gradient::Norm(_) => 4.0 * argument(0).width() as f64,
                Gradient::Sinks(_) => argument(0).features()[0] as f64,
                Gradient::Experts(e) => argument(1).width() as f64 * 6.0 * expert_weights(graph, e.gate),
            };
            // What was gathered is read and written.
            let gathered = Linear::constant(F32 * numbers);
            Cost { flops: per_row(flops), read: read_arguments.plus(&gathered), written: gathered }
        }
    }
}

/// Numbers in one of an expert's matrices.
fn expert_weights(graph: &Graph, gate: WeightId) -> f64 {
    graph.weight(gate).shape[1..].iter().map(|&n| n as f64).product()
}

/// The cost of a whole step.
pub fn graph(graph: &Graph, storage: &Storage<'_>) -> Cost {
    graph.nodes().iter().fold(Cost::default(), |sum, n| sum.plus(&node(graph, n, storage)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builder::Builder;

    #[test]
    fn a_linear_layer_costs_two_operations_a_weight_and_token() {
        let mut b = Builder::new();
        let x = b.input(0, 64);
        let w = b.weight("w", &[32, 64]).unwrap();
        let y = b.linear(x, w, None).unwrap();
        let g = b.finish(&[y]);
        let storage = Storage { weights: &|_| DType::Q4_0, cache_bytes: 2.0 };
        let cost = graph(&g, &storage);
        let sizes = Sizes::new([(0, 10)], 1);
        assert_eq!(cost.flops.value(&sizes), 10.0 * 2.0 * 64.0 * 32.0);
        assert_eq!(cost.read.value(&sizes), 32.0 * 64.0 * 18.0 / 32.0 + 10.0 * 64.0 * 4.0);
        assert_eq!(cost.written.value(&sizes), 10.0 * 32.0 * 4.0);
    }
}
