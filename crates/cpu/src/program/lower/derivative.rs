//! From the nodes of a derivative to tasks.

use autarky_graph::derivative::{Backward, Gradient};
use autarky_graph::{Attention, CompileError, Experts, Norm, Op, Symbol, WeightId};

use crate::kernels::cache::Layout;
use crate::kernels::elementwise::Binary;
use crate::matmul::{ActivationKind, Int8Panels, PANEL_ROWS, Paired, Quads, Rounding};

use super::super::derivative::{
    AttentionBackward, Derivative, ExpertsBackward, Hidden, Normed, Pairs, Stored,
};
use super::super::task::{BufferId, Grouping, Matrix, Operand, Rows, Sink, Task};
use super::{Form, Lowering, too_large};

/// Logits that are there at a time, about.
const LOSS_NUMBERS: usize = 16 << 20;

/// The nodes of a loss that is computed a few rows at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Loss {
    /// The product that gives the logits.
    pub(super) product: usize,
    /// The cross entropy, and its derivative by the logits.
    entropy: usize,
    by_logits: usize,
    /// What the product's derivatives are computed by, where they are asked for.
    gradient: Option<usize>,
    by_x: Option<usize>,
}

impl Loss {
    /// The nodes that are computed with the cross entropy.
    pub(super) fn absorbed(&self) -> impl Iterator<Item = usize> {
        [Some(self.product), Some(self.by_logits), self.gradient, self.by_x].into_iter().flatten()
    }
}

impl Lowering<'_> {
    /// The weight packed the other way: where it is among the loaded ones.
    fn transposed(&self, weight: WeightId) -> usize {
        self.transposed[weight.index()].expect("what a transposed product reads was packed for it")
    }

    /// The form in which the transpose of a product reads its argument; `None` for other derivatives.
    pub(super) fn transposed_form(&self, backward: &Backward) -> Option<Form> {
        let shape = |weight: &WeightId| &self.graph.weight(*weight).shape;
        let (weight, heads, out) = match backward {
            Backward::Linear { weight } => (weight, 1, shape(weight)[0]),
            Backward::HeadLinear { weight } => (weight, shape(weight)[0], shape(weight)[1]),
            _ => return None,
        };
        Some((self.kind_of(self.transposed(*weight)), heads, out))
    }

    /// The loss, when its logits are a product that nothing else reads: then they need not all be there at once.
    pub(super) fn find_loss(&self) -> Option<Loss> {
        let nodes = self.graph.nodes();
        let entropy = nodes.iter().position(|n| n.op == Op::CrossEntropy)?;
        let product = nodes[entropy].args[0];
        let Op::Linear { bias: None, .. } = nodes[product.index()].op else { return None };
        let readers = |value: usize| -> Vec<usize> {
            let reads = |n: &autarky_graph::Node| n.args.iter().any(|a| self.root(*a) == value);
            (0..nodes.len()).filter(|i| reads(&nodes[*i])).collect()
        };
        let by_logits = nodes.iter().position(|n| n.op == Op::Backward(Backward::CrossEntropy))?;
        if readers(product.index()) != [entropy, by_logits] {
            return None;
        }
        let mut loss = Loss { product: product.index(), entropy, by_logits, gradient: None, by_x: None };
        for reader in readers(by_logits) {
            match nodes[reader].op {
                Op::Gradient(Gradient::Linear { weight: Some(_), bias: None }) => {
                    loss.gradient = Some(reader)
                }
                Op::Backward(Backward::Linear { .. }) => loss.by_x = Some(reader),
                _ => return None,
            }
        }
        Some(loss)
    }

    /// Whether the gradient of a weight is computed from pairs of rows, or quads of 8-bit integers.
    pub(super) fn is_paired(&self, weight: WeightId) -> bool {
        match self.kind(weight) {
            ActivationKind::Bf16 => self.target.isa.has_bf16_products(),
            kind => matches!(kind, ActivationKind::Int8Rows(_)),
        }
    }

    /// How the operands x and dy of a weight's gradient become 8-bit integers, if they do.
    fn roundings(&self, weight: WeightId) -> [Option<Rounding>; 2] {
        match self.kind(weight) {
            ActivationKind::Int8Rows(_) => [Rounding::Nearest, Rounding::Dithered].map(Some),
            _ => [None; 2],
        }
    }

    /// Whether the model is trained with products of BF16 numbers: those with weights are, as far as these are floats.
    pub(super) fn multiplies_bf16(&self) -> bool {
        let linears = self.graph.nodes().iter().filter_map(|node| match node.op {
            Op::Linear { weight, .. } if self.kind(weight) != ActivationKind::Int8 => Some(weight),
            _ => None,
        });
        let mut paired = linears.map(|weight| self.is_paired(weight)).peekable();
        paired.peek().is_some() && paired.all(|p| p) && self.target.isa.has_bf16_products()
    }

    /// Finds what products had as arguments whose pairs of rows their weights' gradients read.
    pub(super) fn find_to_pair(&mut self) {
        let of_loss = self.loss.and_then(|l| l.gradient);
        for (index, node) in self.graph.nodes().iter().enumerate() {
            let Op::Gradient(Gradient::Linear { weight: Some(weight), .. }) = node.op else { continue };
            if self.is_paired(weight) && Some(index) != of_loss {
                self.to_pair.insert((self.root(node.args[0]), self.roundings(weight)[0]));
            }
        }
    }

    /// Whether an op reads its arguments in pairs of rows, and not at all as numbers.
    pub(super) fn reads_pairs(&self, op: &Op) -> bool {
        matches!(op, Op::Gradient(Gradient::Linear { weight: Some(w), bias: None }) if self.is_paired(*w))
    }

    /// Asks for a value in the form of which pairs of rows are put together: as numbers, unless products read another; or
    /// rounded to BF16 on the way to 8-bit integers, where nobody else wants numbers.
    pub(super) fn find_source_of_pairs(&mut self, index: usize) {
        if self.needs[index].pairs == 0 || self.paired_form(index).is_some() {
            return;
        }
        let to_int8 = |f: &Form| matches!(f.0, ActivationKind::Int8Rows(_));
        let needs = &mut self.needs[index];
        if needs.numbers == 0 && needs.forms.iter().any(to_int8) && self.target.isa.has_bf16_products() {
            needs.forms.push((ActivationKind::Bf16, 1, self.graph.nodes()[index].shape.width()));
        } else {
            needs.numbers += needs.pairs;
        }
    }

    /// The form in which products read a value and of which pairs of rows are put together, too.
    pub(super) fn paired_form(&self, root: usize) -> Option<Form> {
        let form = (ActivationKind::Bf16, 1, self.graph.nodes()[root].shape.width());
        self.needs[root].forms.contains(&form).then_some(form)
    }

    /// Puts pairs of rows together as soon as a value is there: half its bytes, where nothing else keeps it for long.
    pub(super) fn pair_early(&mut self, index: usize) -> Result<(), CompileError> {
        for rounding in [None, Some(Rounding::Nearest)] {
            if self.to_pair.contains(&(index, rounding)) && !self.absorbed[index] {
                self.pairs_of(index, rounding)?;
            }
        }
        Ok(())
    }

    /// Logits, their loss, and what follows of its derivative, a few rows at a time.
    fn loss(&mut self, loss: Loss) -> Result<(), CompileError> {
        let graph = self.graph;
        let logits = &graph.nodes()[loss.product];
        let Op::Linear { weight, .. } = logits.op else { unreachable!("found as a linear") };
        let (width, label) = (logits.shape.last(), &logits.label);
        let x = self.numbers(loss.product, 0);
        let targets = self.numbers(loss.entropy, 1);
        let factors = self.numbers(loss.by_logits, 2);
        let to = self.value(loss.entropy)?;
        let by_x = loss.by_x.map(|index| self.value(index)).transpose()?;
        let most = self.most(x.rows).ok_or_else(|| too_large(label))?;
        // Products with rows lose less by few rows than gradients, which sum over them.
        let numbers = if loss.gradient.is_some() { LOSS_NUMBERS } else { LOSS_NUMBERS / 2 };
        let rows = (numbers / width).clamp(32, 480);
        let packed = self.pack(weight.index(), x.buffer, label)?;
        let packed_across = match by_x {
            Some(_) => self.pack(self.transposed(weight), x.buffer, label)?,
            None => None,
        };
        let mut after = None;
        for first in (0..most).step_by(rows) {
            let part = |matrix: Matrix| matrix.window(first, rows);
            let (x, targets, factors, to) = (part(x), part(targets), part(factors), part(to));
            let form = self.linear_form(weight);
            let from = self.new_operand(x.rows, form, label)?;
            self.derive(Derivative::Operand { from: x, to: from, after });
            let logits = self.matrix(x.rows, width, label)?;
            self.push(Task::Linear {
                weight: weight.index(),
                packed,
                bias: None,
                from,
                add: None,
                to: logits,
            });
            let mut sink = Sink { width, rows: x.rows, value: None, operands: Vec::new() };
            let mut by_product = None;
            if let Some(by_x) = by_x {
                let weight = self.transposed(weight);
                let from = self.new_operand(x.rows, (self.kind_of(weight), 1, width), label)?;
                sink.operands.push(from);
                by_product = Some(Task::Linear {
                    weight,
                    packed: packed_across,
                    bias: None,
                    from,
                    add: None,
                    to: part(by_x),
                });
            }
            let (gradient, paired) = (loss.gradient.map(|_| weight.index()), self.is_paired(weight));
            let [round_x, round_dy] = self.roundings(weight);
            if round_dy.is_some() && gradient.is_some() && self.target.isa.has_bf16_products() {
                sink.operands.push(self.new_operand(x.rows, (ActivationKind::Bf16, 1, width), label)?);
            }
            let is_bf16 = |o: &&Operand| o.kind == ActivationKind::Bf16;
            let rounded = sink.operands.iter().find(is_bf16).copied().filter(|_| paired);
            let by_logits = match rounded {
                Some(operand) => {
                    self.scratch(width);
                    Stored::Rounded(operand)
                }
                None => {
                    // In the place of the logits.
                    let numbers = self.matrix(x.rows, width, label)?;
                    sink.value = Some(numbers);
                    Stored::Numbers(numbers)
                }
            };
            after = Some(by_x.map_or(by_logits.place().0, |m| m.buffer));
            let losses = Some(to);
            self.derive(Derivative::CrossEntropyBackward { logits, targets, factors, losses, to: sink });
            by_product.into_iter().for_each(|task| self.push(task));
            match (gradient, by_logits) {
                (None, _) => {}
                (Some(gradient), Stored::Numbers(dy)) if !paired => {
                    self.derive(Derivative::Outer { gradient, heads: 1, x, dy });
                }
                (Some(gradient), dy) => {
                    let x = if round_x.is_some() { Stored::Numbers(x) } else { Stored::Rounded(from) };
                    let (x, dy) = (self.pairs(x, round_x, label)?, self.pairs(dy, round_dy, label)?);
                    self.derive(Derivative::OuterPairs { gradient, x, dy });
                }
            }
        }
        Ok(())
    }

    /// Packs a weight for more than one product, if it is rounded to 8-bit integers, when what `after` has is there.
    fn pack(&mut self, weight: usize, after: BufferId, what: &str) -> Result<Option<BufferId>, CompileError> {
        let Some(lent) = self.weights[weight].lent().filter(|lent| lent.int8) else { return Ok(None) };
        let panels = lent.shape.0.div_ceil(PANEL_ROWS);
        let bytes = Int8Panels::panel_bytes(lent.shape.1).and_then(|panel| panel.checked_mul(panels));
        let to = self.buffer(bytes, what)?;
        self.derive(Derivative::Pack { weight, after, to });
        Ok(Some(to))
    }

    /// A value with pairs of rows together.
    fn pairs_of(&mut self, root: usize, rounding: Option<Rounding>) -> Result<Pairs, CompileError> {
        let from = match (self.paired_form(root), self.values[root]) {
            // Not by way of BF16 where the numbers are there.
            (_, Some(numbers)) if rounding.is_some() => Stored::Numbers(numbers),
            (Some(form), _) => Stored::Rounded(self.operand_of(root, form)?),
            (None, numbers) => Stored::Numbers(numbers.expect("pairs of numbers are asked for as numbers")),
        };
        self.pairs(from, rounding, &self.graph.nodes()[root].label)
    }

    /// A matrix with pairs of rows together, or quads of 8-bit integers, made now unless it is there.
    fn pairs(&mut self, from: Stored, rounding: Option<Rounding>, what: &str) -> Result<Pairs, CompileError> {
        let ((buffer, rows), width) = (from.place(), from.width());
        let key = (buffer, rows, rounding);
        if let Some(pairs) = self.paired.get(&key) {
            return Ok(*pairs);
        }
        let bytes = self.most(rows).and_then(|rows| match rounding {
            None => Paired::bytes(rows, width),
            Some(_) => Quads::bytes(rows, width),
        });
        let to = Pairs { buffer: self.buffer(bytes, what)?, rows, width, rounding };
        self.paired.insert(key, to);
        self.derive(Derivative::Pair { from, to });
        Ok(to)
    }

    pub(super) fn derive(&mut self, derivative: Derivative) {
        self.push(Task::Derivative(Box::new(derivative)));
    }

    pub(super) fn cross_entropy(&mut self, index: usize) -> Result<(), CompileError> {
        if let Some(loss) = self.loss {
            return self.loss(loss);
        }
        let [logits, targets] = [0, 1].map(|arg| self.numbers(index, arg));
        let to = self.value(index)?;
        self.derive(Derivative::CrossEntropy { logits, targets, to });
        Ok(())
    }

    pub(super) fn backward(&mut self, index: usize, backward: &Backward) -> Result<(), CompileError> {
        let node = &self.graph.nodes()[index];
        let (last, shape) = (node.shape.last(), node.shape.clone());
        match backward {
            Backward::Linear { weight } => {
                let form = self.transposed_form(backward).expect("a product");
                let from = self.operand(node.args[0], form)?;
                let (weight, to) = (self.transposed(*weight), self.value(index)?);
                self.push(Task::Linear { weight, packed: None, bias: None, from, add: None, to });
            }
            Backward::HeadLinear { weight } => {
                let form = self.transposed_form(backward).expect("a product");
                let from = self.operand(node.args[0], form)?;
                let (weight, to) = (self.transposed(*weight), self.value(index)?);
                self.push(Task::HeadLinear { weight, from, out: shape.last(), to });
            }
            Backward::Norm(norm) => {
                let stats = self.stats(index, norm)?;
                let [x, dy] = [0, 1].map(|arg| self.numbers(index, arg));
                let (weight, to) = (Self::vector(norm.weight), self.sink(index)?);
                self.derive(Derivative::NormBackward { kind: norm.kind, stats, weight, x, dy, last, to });
            }
            Backward::Attention(attention) => self.attention_backward(index, attention)?,
            Backward::Activation(kind) => self.binary(index, Binary::Slope(*kind))?,
            Backward::Softcap { cap } => self.binary(index, Binary::CapSlope(*cap))?,
            Backward::Slice { start } => {
                let length = self.graph.node(node.args[0]).shape.last();
                let from = self.numbers(index, 0);
                let to = self.sink(index)?;
                self.derive(Derivative::Widen { from, start: *start, length, last, to });
            }
            Backward::Select => {
                let from = self.numbers(index, 0);
                let to = self.sink(index)?;
                self.derive(Derivative::Scatter { from, to });
            }
            Backward::CrossEntropy => {
                let [logits, targets, factors] = [0, 1, 2].map(|arg| self.numbers(index, arg));
                let to = self.sink(index)?;
                self.derive(Derivative::CrossEntropyBackward { logits, targets, factors, losses: None, to });
            }
            Backward::Route(route) => {
                let [logits, by_weights] = [0, 2].map(|arg| self.numbers(index, arg));
                let routing = self.routings[&self.root(node.args[1])];
                let (route, to) = (*route, self.sink(index)?);
                let task = ExpertsBackward::Route { route, logits, routing, by_weights, to };
                self.derive(Derivative::Experts(task));
            }
            Backward::Experts(experts) => self.experts_backward(index, experts)?,
        }
        Ok(())
    }

    pub(super) fn gradient(&mut self, index: usize, gradient: &Gradient) -> Result<(), CompileError> {
        match gradient {
            Gradient::Embed { table } => {
                let dy = self.numbers(index, 0);
                self.derive(Derivative::Embed { gradient: table.index(), dy });
            }
            Gradient::Linear { weight, bias } => {
                let [x, dy] = [0, 1].map(|arg| self.root(self.graph.nodes()[index].args[arg]));
                if let Some(weight) = weight {
                    let gradient = weight.index();
                    if self.is_paired(*weight) {
                        let [by_x, by_dy] = self.roundings(*weight);
                        let (x, dy) = (self.pairs_of(x, by_x)?, self.pairs_of(dy, by_dy)?);
                        self.derive(Derivative::OuterPairs { gradient, x, dy });
                    } else {
                        let [x, dy] = [0, 1].map(|arg| self.numbers(index, arg));
                        self.derive(Derivative::Outer { gradient, heads: 1, x, dy });
                    }
                }
                if let Some(bias) = bias {
                    let dy = self.numbers(index, 1);
                    self.columns(None, dy, dy.width, (None, Some(*bias)));
                }
            }
            Gradient::HeadLinear { weight } => {
                let [x, dy] = [0, 1].map(|arg| self.numbers(index, arg));
                let heads = self.graph.weight(*weight).shape[0];
                self.derive(Derivative::Outer { gradient: weight.index(), heads, x, dy });
            }
            Gradient::Norm(norm) => {
                let last = self.graph.node(self.graph.nodes()[index].args[0]).shape.last();
                let [x, dy] = [0, 1].map(|arg| self.numbers(index, arg));
                let stats = self.stats(index, norm)?;
                self.columns(Some(Normed { x, stats }), dy, last, (norm.weight, norm.bias));
            }
            // Comes with the attention's derivative by its arguments.
            Gradient::Sinks(_) => {}
            Gradient::Experts(experts) => {
                let c = self.chosen(index, experts)?;
                let parts = [
                    (experts.gate, c.x, c.hidden.by_gate),
                    (experts.up, c.x, c.hidden.by_up),
                    (experts.down, c.hidden.hidden, c.dy),
                ];
                for (weight, x, dy) in parts {
                    let (gradient, grouping) = (weight.index(), c.grouping);
                    let task = ExpertsBackward::Outer { gradient, grouping, x, dy };
                    self.derive(Derivative::Experts(task));
                }
            }
        }
        Ok(())
    }

    fn columns(
        &mut self,
        normed: Option<Normed>,
        dy: Matrix,
        last: usize,
        (gain, shift): (Option<WeightId>, Option<WeightId>),
    ) {
        let (gain, shift) = (Self::vector(gain), Self::vector(shift));
        self.derive(Derivative::Columns { normed, dy, last, gain, shift });
    }

    /// What the first argument of a norm's derivative was normed by: found once for all that ask.
    fn stats(&mut self, index: usize, norm: &Norm) -> Result<Matrix, CompileError> {
        let value = self.graph.nodes()[index].args[0];
        let key = (self.root(value), norm.kind, norm.epsilon.to_bits());
        if let Some((_, stats)) = self.stats.iter().find(|(other, _)| *other == key) {
            return Ok(*stats);
        }
        let shape = &self.graph.node(value).shape;
        let (last, groups) = (shape.last(), shape.width() / shape.last());
        let from = self.numbers(index, 0);
        let to = self.matrix(from.rows, 2 * groups, "norm stats")?;
        self.stats.push((key, to));
        self.derive(Derivative::NormStats { kind: norm.kind, epsilon: norm.epsilon, from, last, to });
        Ok(to)
    }

    fn attention_backward(&mut self, index: usize, a: &Attention) -> Result<(), CompileError> {
        let node = &self.graph.nodes()[index];
        let layout = Layout::of(&self.graph.caches()[a.cache.index()]);
        let heads = self.graph.node(node.args[0]).shape.features()[0];
        let [queries, keys, values, dy] = [0, 1, 2, 3].map(|arg| self.numbers(index, arg));
        let bf16 = self.multiplies_bf16();
        let scratch = AttentionBackward::scratch(&layout, &self.limits, bf16);
        self.scratch(scratch.ok_or_else(|| too_large(&node.label))?);
        let asks =
            |n: &&autarky_graph::Node| n.op == Op::Gradient(Gradient::Sinks(*a)) && n.args == node.args;
        let by_sinks = match self.graph.nodes().iter().find(asks) {
            Some(_) => Some(self.matrix(Rows::each(Symbol::Tokens), heads, &node.label)?),
            None => None,
        };
        let [by_queries, by_keys, by_values] = self.attention_parts(index, [queries, keys, values])?;
        self.derive(Derivative::Attention(AttentionBackward {
            layout,
            heads,
            scale: a.scale,
            softcap: a.softcap,
            window: a.window,
            sinks: Self::vector(a.sinks),
            queries,
            keys,
            values,
            dy,
            by_queries,
            by_keys,
            by_values,
            by_sinks,
            bf16,
        }));
        if let Some(by_sinks) = by_sinks {
            self.columns(None, by_sinks, heads, (None, a.sinks));
        }
        Ok(())
    }

    /// Where the derivatives by queries, keys and values go: they are one value in the graph, of which slices are read.
    fn attention_parts(&mut self, index: usize, of: [Matrix; 3]) -> Result<[Matrix; 3], CompileError> {
        let nodes = self.graph.nodes();
        let (label, mut start) = (&nodes[index].label, 0);
        let mut parts = of;
        for (part, of) in parts.iter_mut().zip(of) {
            *part = self.matrix(of.rows, of.width, label)?;
            let slice = Op::Slice { start, length: of.width };
            start += of.width;
            for (reader, node) in nodes.iter().enumerate().skip(index) {
                if node.op == slice && self.root(node.args[0]) == index {
                    self.values[reader] = Some(*part);
                    self.absorbed[reader] = true;
                }
            }
        }
        Ok(parts)
    }

    /// What is needed of the pairs of rows and chosen experts, made now unless it is there.
    fn chosen(&mut self, index: usize, e: &Experts) -> Result<Chosen, CompileError> {
        let node = &self.graph.nodes()[index];
        let key: Vec<usize> = node.args.iter().map(|a| self.root(*a)).chain([e.gate.index()]).collect();
        if let Some(chosen) = self.chosen.get(&key) {
            return Ok(*chosen);
        }
        let shape = &self.graph.weight(e.gate).shape;
        let (count, inner, width) = (shape[0], shape[1], shape[2]);
        let grouping = self.grouping(node.args[1], count, &node.label)?;
        let pairs = grouping.pairs();
        let gather = |lowering: &mut Self, arg: usize| -> Result<Matrix, CompileError> {
            let from = lowering.numbers(index, arg);
            let to = lowering.matrix(pairs, width, &node.label)?;
            lowering.derive(Derivative::Experts(ExpertsBackward::Gather { from, grouping, to }));
            Ok(to)
        };
        let (x, dy) = (gather(self, 0)?, gather(self, 2)?);
        let gate = self.expert_products(e.gate.index(), x, grouping, inner, &node.label)?;
        let up = self.expert_products(e.up.index(), x, grouping, inner, &node.label)?;
        let by_hidden = self.expert_products(self.transposed(e.down), dy, grouping, inner, &node.label)?;
        let mut matrix = |width: usize| self.matrix(pairs, width, &node.label);
        let hidden = Hidden {
            hidden: matrix(inner)?,
            by_gate: matrix(inner)?,
            by_up: matrix(inner)?,
            by_weight: matrix(1)?,
        };
        self.scratch(inner);
        let (function, to) = (e.activation, hidden);
        let task = ExpertsBackward::Hidden { function, gate, up, by_hidden, grouping, to };
        self.derive(Derivative::Experts(task));
        let chosen = Chosen { grouping, x, dy, hidden };
        self.chosen.insert(key, chosen);
        Ok(chosen)
    }

    /// The products of each pair's expert with a row of `x`.
    fn expert_products(
        &mut self,
        weight: usize,
        x: Matrix,
        grouping: Grouping,
        width: usize,
        what: &str,
    ) -> Result<Matrix, CompileError> {
        let from = self.new_operand(x.rows, (self.kind_of(weight), 1, x.width), what)?;
        self.push(Task::Operand { from: x, to: from });
        let to = self.matrix(x.rows, width, what)?;
        self.push(Task::ExpertsDown { weight, from, grouping, to });
        Ok(to)
    }

    fn experts_backward(&mut self, index: usize, e: &Experts) -> Result<(), CompileError> {
        let label = &self.graph.nodes()[index].label;
        let Chosen { grouping, x, hidden, .. } = self.chosen(index, e)?;
        let (gate, up) = (self.transposed(e.gate), self.transposed(e.up));
        let by_gate = self.expert_products(gate, hidden.by_gate, grouping, x.width, label)?;
        let by_up = self.expert_products(up, hidden.by_up, grouping, x.width, label)?;
        let (parts, by_weights, to) = ([by_gate, by_up], hidden.by_weight, self.value(index)?);
        let task = ExpertsBackward::Combine { parts, by_weights, grouping, to };
        self.derive(Derivative::Experts(task));
        Ok(())
    }
}

/// What the derivatives of experts by their arguments and by their weights share, of every pair.
#[derive(Clone, Copy)]
pub(super) struct Chosen {
    grouping: Grouping,
    x: Matrix,
    dy: Matrix,
    hidden: Hidden,
}
