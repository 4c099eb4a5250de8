//! The training graph of a model, derived from the graph that runs it: the model's nodes, the loss, and behind them the
//! derivatives in reverse (reverse-mode differentiation; Griewank & Walther, Evaluating Derivatives, 2nd ed. 2008, ch. 3).

mod op;
#[cfg(test)]
mod tests;

pub use op::{Backward, Gradient};

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::dim::{Shape, Symbol};
use crate::graph::{CacheId, CacheSpec, Graph, Node, ValueId, WeightId, WeightSpec};
use crate::op::{Norm, Op, Rope};

/// The step's input that has the target of every token, as a number: `[tokens, 1]`.
pub const TARGETS: usize = 0;
/// The step's input that has what the loss of every token is multiplied by before the sum that is differentiated
/// (1 / tokens for a mean): `[tokens, 1]`.
pub const FACTORS: usize = 1;

/// The graph that computes, for the wanted tokens of a step, the cross entropy between the model's first output (its
/// logits) and the tokens' targets, `[outputs, 1]`; and adds to the gradients of the weights for which `trained` says so
/// the derivative of Σ loss · factor.
///
/// Every sequence of a step begins at position 0. The step's inputs are [`TARGETS`] and [`FACTORS`]; a graph that has
/// inputs of its own gives `None`.
///
/// With `recompute`, of what a layer computes only its result and that of its attention is kept for the derivatives; the
/// rest is computed again (Chen et al. 2016, arXiv:1604.06174): the same numbers in less memory and more time.
pub fn training(graph: &Graph, trained: impl Fn(&WeightSpec) -> bool, recompute: bool) -> Option<Graph> {
    let mut derivation = Derivation::of(graph, trained)?;
    if recompute {
        derivation.forgotten = forgotten(graph);
    }
    let logits = *graph.outputs.first()?;
    let [targets, factors] = [TARGETS, FACTORS].map(|slot| derivation.given(logits, slot));
    derivation.loss(logits, targets);
    let shape = derivation.shape(logits).clone();
    let by_logits = Op::Backward(Backward::CrossEntropy);
    let dy = derivation.push(by_logits, &[logits, targets, factors], shape);
    derivation.add(logits, dy);
    for index in (0..graph.nodes.len()).rev() {
        if let Some(dy) = derivation.derivatives[index] {
            derivation.enter_layer(index, dy);
            derivation.differentiate(ValueId(index), dy);
        }
    }
    Some(derivation.graph)
}

/// The graph that computes the losses of [`training`] and nothing else, from the input [`TARGETS`]: to tell how well a model
/// does.
pub fn losses(graph: &Graph) -> Option<Graph> {
    let mut derivation = Derivation::of(graph, |_| false)?;
    let logits = *graph.outputs.first()?;
    let targets = derivation.given(logits, TARGETS);
    derivation.loss(logits, targets);
    Some(derivation.graph)
}

/// The graph that adds Aᵀ B to the gradient of its one weight `[m, n]`. The step's inputs are A `[tokens, m]` and B
/// `[tokens, n]`: a product of two matrices that both change from step to step.
pub fn product(m: usize, n: usize) -> Graph {
    let weights = vec![WeightSpec { name: "product".to_owned(), shape: vec![m, n] }];
    let mut graph = Graph { nodes: Vec::new(), weights, caches: Vec::new(), outputs: Vec::new() };
    let mut push = |op, args: &[ValueId], width| {
        let shape = Shape::new(Symbol::Tokens, [width]);
        graph.nodes.push(Node { op, args: args.to_vec(), shape, label: "product".to_owned() });
        ValueId(graph.nodes.len() - 1)
    };
    let [a, b] = [(0, m), (1, n)].map(|(slot, width)| push(Op::Input { slot }, &[], width));
    push(Op::Gradient(Gradient::Linear { weight: Some(WeightId(0)), bias: None }), &[b, a], 0);
    graph
}

/// The layer that a node is of.
fn layer_of(node: &Node) -> Option<&str> {
    node.label.strip_prefix("layers.")?.split('.').next()
}

/// The values that are computed again where a derivative reads them: all that only their own layer reads, but for what
/// attention gave.
fn forgotten(graph: &Graph) -> Vec<bool> {
    let mut forgotten: Vec<bool> = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        let is_kept = match &node.op {
            Op::Attention(_) => true,
            // The same numbers as its argument.
            Op::Reshape { .. } => !forgotten[node.args[0].0],
            _ => layer_of(node).is_none(),
        };
        forgotten.push(!is_kept);
    }
    for node in &graph.nodes {
        for arg in &node.args {
            forgotten[arg.0] &= layer_of(node) == layer_of(&graph.nodes[arg.0]);
        }
    }
    graph.outputs.iter().for_each(|output| forgotten[output.0] = false);
    forgotten
}

struct Derivation {
    graph: Graph,
    trained: HashSet<WeightId>,
    /// Whether a trained weight is behind a value.
    needed: Vec<bool>,
    /// What is known so far of the derivative by a value.
    derivatives: Vec<Option<ValueId>>,
    label: String,
    /// For every value of the model whether it is computed again; empty: none is.
    forgotten: Vec<bool>,
    /// What was computed again for the layer whose derivatives are being found.
    again: HashMap<ValueId, ValueId>,
    layer: Option<String>,
    /// The derivative by that layer's result: nothing of it is computed again before.
    entered: Option<ValueId>,
}

impl Derivation {
    /// Of a graph that has no inputs of its own.
    fn of(graph: &Graph, trained: impl Fn(&WeightSpec) -> bool) -> Option<Derivation> {
        if graph.nodes.iter().any(|n| matches!(n.op, Op::Input { .. })) {
            return None;
        }
        let weights = graph.weights.iter().enumerate();
        let trained = weights.filter(|(_, spec)| trained(spec)).map(|(i, _)| WeightId(i)).collect();
        let mut derivation = Derivation {
            graph: Graph { outputs: Vec::new(), ..graph.clone() },
            trained,
            needed: Vec::new(),
            derivatives: vec![None; graph.nodes.len()],
            label: "loss".to_owned(),
            forgotten: Vec::new(),
            again: HashMap::new(),
            layer: None,
            entered: None,
        };
        derivation.share_caches();
        derivation.find_needed();
        Some(derivation)
    }

    /// Lets all layers that keep alike keep it in one place: none reads what another layer or an earlier step has written.
    fn share_caches(&mut self) {
        let caches = std::mem::take(&mut self.graph.caches);
        let mut kept: Vec<CacheSpec> = Vec::new();
        for node in &mut self.graph.nodes {
            let Op::Attention(attention) = &mut node.op else { continue };
            let spec = caches[attention.cache.0];
            let place = kept.iter().position(|other| *other == spec).unwrap_or_else(|| {
                kept.push(spec);
                kept.len() - 1
            });
            attention.cache = CacheId(place);
        }
        self.graph.caches = kept;
    }

    fn find_needed(&mut self) {
        for node in &self.graph.nodes {
            let own = node.op.weights().iter().any(|w| self.trained.contains(w));
            let needed = own || node.args.iter().any(|a| self.needed[a.0]);
            self.needed.push(needed);
        }
    }

    /// What a step gives with every token, for the rows of `logits`.
    fn given(&mut self, logits: ValueId, slot: usize) -> ValueId {
        let row = |rows| Shape::new(rows, [1]);
        let given = self.push(Op::Input { slot }, &[], row(Symbol::Tokens));
        match self.shape(logits).rows() {
            Symbol::Outputs => self.push(Op::Select, &[given], row(Symbol::Outputs)),
            _ => given,
        }
    }

    /// Makes the loss of `logits` the graph's output.
    fn loss(&mut self, logits: ValueId, targets: ValueId) {
        let shape = Shape::new(self.shape(logits).rows(), [1]);
        let loss = self.push(Op::CrossEntropy, &[logits, targets], shape);
        self.graph.outputs = vec![loss];
    }

    fn shape(&self, value: ValueId) -> &Shape {
        &self.graph.nodes[value.0].shape
    }

    fn push(&mut self, op: Op, args: &[ValueId], shape: Shape) -> ValueId {
        let is_forgotten = |v: &ValueId| self.forgotten.get(v.0).copied().unwrap_or(false);
        let (forgotten, args): (Vec<bool>, Vec<ValueId>) = args.iter().map(|v| (is_forgotten(v), *v)).unzip();
        let args = args.into_iter().zip(forgotten);
        let args = args.map(|(v, forgotten)| if forgotten { self.compute_again(v) } else { v }).collect();
        self.put(op, args, shape)
    }

    fn put(&mut self, op: Op, args: Vec<ValueId>, shape: Shape) -> ValueId {
        self.graph.nodes.push(Node { op, args, shape, label: self.label.clone() });
        ValueId(self.graph.nodes.len() - 1)
    }

    /// Begins with the derivatives of another layer, where the node is the last one of it.
    fn enter_layer(&mut self, node: usize, dy: ValueId) {
        let layer = layer_of(&self.graph.nodes[node]).map(str::to_owned);
        if layer != self.layer {
            (self.layer, self.entered) = (layer, Some(dy));
            self.again.clear();
        }
    }

    /// A value of the model once more, from what was kept.
    fn compute_again(&mut self, value: ValueId) -> ValueId {
        if let Some(again) = self.again.get(&value) {
            return *again;
        }
        let Node { op, args, shape, label } = self.graph.nodes[value.0].clone();
        let again = match (self.forgotten[value.0], self.entered) {
            (true, _) => {
                let args = args.into_iter().map(|v| self.compute_again(v)).collect();
                let label = std::mem::replace(&mut self.label, label);
                let again = self.put(op, args, shape);
                self.label = label;
                again
            }
            (false, Some(dy)) => self.put(Op::After, vec![value, dy], shape),
            (false, None) => value,
        };
        self.again.insert(value, again);
        again
    }

    /// A derivative by a value, which has the value's shape.
    fn backward(&mut self, of: ValueId, op: Backward, args: &[ValueId]) {
        let shape = self.shape(of).clone();
        let dx = self.push(Op::Backward(op), args, shape);
        self.add(of, dx);
    }

    /// Adds to the gradients of weights.
    fn gradient(&mut self, op: Gradient, args: &[ValueId]) {
        let rows = self.shape(args[0]).rows();
        self.push(Op::Gradient(op), args, Shape::new(rows, [0]));
    }

    /// Adds `dx` to what is known of the derivative by `of`.
    fn add(&mut self, of: ValueId, dx: ValueId) {
        if !self.needed[of.0] {
            return;
        }
        let shape = self.shape(of).clone();
        let sum = match self.derivatives[of.0] {
            None => dx,
            Some(others) => self.push(Op::Add, &[others, dx], shape),
        };
        self.derivatives[of.0] = Some(sum);
    }

    fn is_trained(&self, weight: WeightId) -> bool {
        self.trained.contains(&weight)
    }

    /// Carries the derivative `dy` by a value on to its arguments and weights.
    fn differentiate(&mut self, value: ValueId, dy: ValueId) {
        let Node { op, args, shape, label } = self.graph.nodes[value.0].clone();
        self.label = label;
        let needed = |derivation: &Self, i: usize| derivation.needed[args[i].0];
        match op {
            Op::Embed { table } => {
                if self.is_trained(table) {
                    self.gradient(Gradient::Embed { table }, &[dy]);
                }
            }
            Op::Linear { weight, bias } => {
                let [weight_of, bias] = [Some(weight), bias].map(|w| w.filter(|w| self.is_trained(*w)));
                if weight_of.or(bias).is_some() {
                    self.gradient(Gradient::Linear { weight: weight_of, bias }, &[args[0], dy]);
                }
                if needed(self, 0) {
                    self.backward(args[0], Backward::Linear { weight }, &[dy]);
                }
            }
            Op::HeadLinear { weight } => {
                if self.is_trained(weight) {
                    self.gradient(Gradient::HeadLinear { weight }, &[args[0], dy]);
                }
                if needed(self, 0) {
                    self.backward(args[0], Backward::HeadLinear { weight }, &[dy]);
                }
            }
            Op::Norm(norm) => {
                let [weight, bias] = [norm.weight, norm.bias].map(|w| w.filter(|w| self.is_trained(*w)));
                if weight.or(bias).is_some() {
                    self.gradient(Gradient::Norm(Norm { weight, bias, ..norm }), &[args[0], dy]);
                }
                if needed(self, 0) {
                    self.backward(args[0], Backward::Norm(norm), &[args[0], dy]);
                }
            }
            // The transpose of a rotation turns back.
            Op::Rope(rope) => {
                let back: Arc<[f32]> = rope.frequencies.iter().map(|f| -f).collect();
                let dx = self.push(Op::Rope(Rope { frequencies: back, ..rope }), &[dy], shape);
                self.add(args[0], dx);
            }
            Op::Attention(attention) => {
                let args = [args[0], args[1], args[2], dy];
                if attention.sinks.is_some_and(|s| self.is_trained(s)) {
                    self.gradient(Gradient::Sinks(attention), &args);
                }
                let widths = [0, 1, 2].map(|i| self.shape(args[i]).width());
                let joined = Shape::new(shape.rows(), [widths.iter().sum::<usize>()]);
                let joined = self.push(Op::Backward(Backward::Attention(attention)), &args, joined);
                self.part(args[0], joined, 0);
                self.part(args[1], joined, widths[0]);
                self.part(args[2], joined, widths[0] + widths[1]);
            }
            Op::Activation(kind) => self.backward(args[0], Backward::Activation(kind), &[args[0], dy]),
            Op::GatedActivation(kind) => {
                let (gate, up) = (args[0], args[1]);
                if needed(self, 1) {
                    let active = self.push(Op::Activation(kind), &[gate], shape.clone());
                    let dx = self.push(Op::Multiply, &[dy, active], shape.clone());
                    self.add(up, dx);
                }
                if needed(self, 0) {
                    let by_active = self.push(Op::Multiply, &[dy, up], shape);
                    self.backward(gate, Backward::Activation(kind), &[gate, by_active]);
                }
            }
            Op::Add => {
                self.add(args[0], dy);
                self.add(args[1], dy);
            }
            Op::Multiply => {
                for (of, other) in [(args[0], args[1]), (args[1], args[0])] {
                    if self.needed[of.0] {
                        let dx = self.push(Op::Multiply, &[dy, other], shape.clone());
                        self.add(of, dx);
                    }
                }
            }
            Op::Scale { factor } => {
                let dx = self.push(Op::Scale { factor }, &[dy], shape);
                self.add(args[0], dx);
            }
            Op::Softcap { cap } => self.backward(args[0], Backward::Softcap { cap }, &[args[0], dy]),
            Op::Concat => {
                let mut start = 0;
                for of in args {
                    let (length, shape) = (self.shape(of).last(), self.shape(of).clone());
                    if self.needed[of.0] {
                        let dx = self.push(Op::Slice { start, length }, &[dy], shape);
                        self.add(of, dx);
                    }
                    start += length;
                }
            }
            Op::Slice { start, .. } => self.backward(args[0], Backward::Slice { start }, &[dy]),
            Op::Reshape { .. } => {
                let shape = self.shape(args[0]).clone();
                let dx = self.push(Op::Reshape { features: shape.features().to_vec() }, &[dy], shape);
                self.add(args[0], dx);
            }
            Op::Route(route) => self.backward(args[0], Backward::Route(route), &[args[0], value, dy]),
            Op::Experts(experts) => {
                let args = [args[0], args[1], dy];
                if [experts.gate, experts.up, experts.down].iter().any(|w| self.is_trained(*w)) {
                    self.gradient(Gradient::Experts(experts), &args);
                }
                let width = shape.width();
                let joined = Shape::new(shape.rows(), [width + self.shape(args[1]).width()]);
                let joined = self.push(Op::Backward(Backward::Experts(experts)), &args, joined);
                self.part(args[0], joined, 0);
                self.part(args[1], joined, width);
            }
            Op::Select => self.backward(args[0], Backward::Select, &[dy]),
            // Nothing is behind these, or they are derivatives themselves.
            Op::Input { .. } | Op::CrossEntropy | Op::After | Op::Backward(_) | Op::Gradient(_) => {}
        }
    }

    /// The derivative by `of` is a part of `joined`.
    fn part(&mut self, of: ValueId, joined: ValueId, start: usize) {
        if !self.needed[of.0] {
            return;
        }
        let shape = self.shape(of).clone();
        let flat = Shape::new(shape.rows(), [shape.width()]);
        let mut dx = self.push(Op::Slice { start, length: shape.width() }, &[joined], flat);
        if shape.features().len() > 1 {
            dx = self.push(Op::Reshape { features: shape.features().to_vec() }, &[dx], shape);
        }
        self.add(of, dx);
    }
}
