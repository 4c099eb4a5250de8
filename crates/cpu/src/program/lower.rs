//! From a graph to tasks: which values are needed in which form, and what runs as one.

mod attention;
mod derivative;
mod gates;
mod kept;

pub(super) use attention::span_records;

use std::collections::{HashMap, HashSet};

use autarky_graph::{
    CompileError, Experts, Graph, Limits, NormKind, Op, Rope, Route, Symbol, ValueId, WeightId,
};

use crate::isa::Isa;
use crate::kernels::elementwise::{Binary, Unary};
use crate::kernels::{rope, route};
use crate::matmul::{ActivationKind, CHUNK, Rounding};

use super::derivative::Pairs;
use super::experts;
use super::products::ROWS;
use super::task::{BufferId, Grouping, Matrix, Operand, Routing, Rows, Sink, Task};
use super::weights::{Loaded, LoadedWeights};

/// What a graph becomes.
pub(super) struct Lowered {
    pub(super) tasks: Vec<Task>,
    /// Bytes of every buffer.
    pub(super) sizes: Vec<usize>,
    /// The graph's outputs.
    pub(super) outputs: Vec<Matrix>,
    /// Tokens of a tile, for each division of the step into tiles.
    pub(super) tilings: Vec<usize>,
    /// Numbers of scratch that each thread needs.
    pub(super) scratch: usize,
}

/// A form in which products read a value: kind, heads, and numbers in a row of a head.
type Form = (ActivationKind, usize, usize);

/// Who reads a value.
#[derive(Clone, Debug, Default)]
struct Needs {
    /// As numbers.
    numbers: usize,
    /// By products, in these forms.
    forms: Vec<Form>,
    /// In pairs or quads of rows, by gradients of weights.
    pairs: usize,
    /// Readers of any kind.
    readers: usize,
}

/// What the compiler knows of the device.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub(super) isa: Isa,
    /// Whether products with BF16 weights round what they multiply them by.
    pub(super) bf16: bool,
    pub(super) threads: usize,
}

/// Rows times columns of a gated linear that one thread computes at most before it applies the gate.
pub(super) const GATE_WINDOW: usize = 128 * ROWS;

pub(super) struct Lowering<'a> {
    graph: &'a Graph,
    weights: &'a [Loaded],
    /// For every weight of the graph where it is, packed the other way, among the loaded ones.
    transposed: &'a [Option<usize>],
    limits: Limits,
    target: Target,
    /// For every value the one whose numbers it has: itself, but for reshapes.
    roots: Vec<usize>,
    needs: Vec<Needs>,
    /// Nodes that are computed as part of another.
    absorbed: Vec<bool>,
    values: Vec<Option<Matrix>>,
    operands: HashMap<(usize, Form), Operand>,
    routings: HashMap<usize, Routing>,
    groupings: HashMap<(usize, usize), Grouping>,
    angles: Vec<(Rope, Matrix)>,
    /// What the arguments of norms were normed by, for their derivatives.
    stats: Vec<((usize, NormKind, u32), Matrix)>,
    /// What derivatives of experts share, by their arguments.
    chosen: HashMap<Vec<usize>, derivative::Chosen>,
    /// By their last node, derivatives of gates that are computed at once.
    gates: HashMap<usize, gates::Gate>,
    /// The loss, when it is computed a few rows at a time.
    loss: Option<derivative::Loss>,
    /// Values whose pairs of rows a gradient reads, or quads of 8-bit integers.
    to_pair: HashSet<(usize, Option<Rounding>)>,
    /// Values with rows together.
    paired: HashMap<(BufferId, Rows, Option<Rounding>), Pairs>,
    /// Values that are kept for the backward pass in BF16, and those that are.
    to_keep: HashSet<usize>,
    kept: HashMap<usize, Operand>,
    /// The last node before the backward pass.
    pass: usize,
    out: Lowered,
}

/// Numbers of a buffer overflow the machine's words.
fn too_large(what: &str) -> CompileError {
    CompileError::Limits(format!("{what} is too large for this machine's addresses"))
}

impl<'a> Lowering<'a> {
    pub(super) fn run(
        graph: &'a Graph,
        LoadedWeights { all: weights, transposed }: &'a LoadedWeights,
        limits: Limits,
        target: Target,
    ) -> Result<Lowered, CompileError> {
        let n = graph.nodes().len();
        let mut lowering = Lowering {
            graph,
            weights,
            transposed,
            limits,
            target,
            roots: Vec::with_capacity(n),
            needs: vec![Needs::default(); n],
            absorbed: vec![false; n],
            values: vec![None; n],
            operands: HashMap::new(),
            routings: HashMap::new(),
            groupings: HashMap::new(),
            angles: Vec::new(),
            stats: Vec::new(),
            chosen: HashMap::new(),
            gates: HashMap::new(),
            loss: None,
            to_pair: HashSet::new(),
            paired: HashMap::new(),
            to_keep: HashSet::new(),
            kept: HashMap::new(),
            pass: n,
            out: Lowered {
                tasks: Vec::new(),
                sizes: Vec::new(),
                outputs: Vec::new(),
                tilings: Vec::new(),
                scratch: 0,
            },
        };
        lowering.find_needs();
        for index in 0..n {
            if !lowering.absorbed[index] {
                match lowering.gates.get(&index).copied() {
                    Some(gate) => lowering.gate(index, gate)?,
                    None => {
                        lowering.bring_back(index)?;
                        lowering.node(index)?;
                    }
                }
            }
            lowering.pair_early(index)?;
            lowering.keep(index)?;
        }
        for &output in graph.outputs() {
            let Some(matrix) = lowering.values[lowering.root(output)] else {
                let node = graph.node(output);
                return Err(CompileError::Unsupported {
                    device: "cpu".to_owned(),
                    op: node.op.name(),
                    label: node.label.clone(),
                    what: "a routing cannot be an output; give the router's logits".to_owned(),
                });
            };
            let width = graph.node(output).shape.width();
            lowering.out.outputs.push(Matrix { width, ..matrix });
        }
        Ok(lowering.out)
    }

    fn root(&self, value: ValueId) -> usize {
        self.roots[value.index()]
    }

    fn kind(&self, weight: WeightId) -> ActivationKind {
        self.kind_of(weight.index())
    }

    /// The form in which products read what they multiply a loaded weight by.
    fn kind_of(&self, loaded: usize) -> ActivationKind {
        if let Some(lent) = self.weights[loaded].lent().filter(|lent| lent.int8) {
            // What is multiplied by transposes is a derivative.
            let rounding = if lent.transposed { Rounding::Dithered } else { Rounding::Nearest };
            return ActivationKind::Int8Rows(rounding);
        }
        let dtype = self.weights[loaded].dtype();
        ActivationKind::for_weight(dtype, self.target.isa, self.target.bf16)
    }

    /// The form in which a linear reads its argument.
    fn linear_form(&self, weight: WeightId) -> Form {
        (self.kind(weight), 1, self.graph.weight(weight).shape[1])
    }

    fn find_needs(&mut self) {
        let graph = self.graph;
        for (index, node) in graph.nodes().iter().enumerate() {
            let root = match node.op {
                Op::Reshape { .. } => self.root(node.args[0]),
                _ => index,
            };
            self.roots.push(root);
        }
        self.loss = self.find_loss();
        for (index, node) in graph.nodes().iter().enumerate() {
            if self.reads_pairs(&node.op) {
                for arg in &node.args {
                    let needs = &mut self.needs[self.roots[arg.index()]];
                    (needs.readers, needs.pairs) = (needs.readers + 1, needs.pairs + 1);
                }
                continue;
            }
            let forms: Vec<Option<Form>> = match &node.op {
                Op::Reshape { .. } => continue,
                _ if self.loss.is_some_and(|l| l.product == index) => vec![None],
                Op::Linear { weight, .. } => vec![Some(self.linear_form(*weight))],
                Op::HeadLinear { weight } => {
                    let shape = &graph.weight(*weight).shape;
                    vec![Some((self.kind(*weight), shape[0], shape[2]))]
                }
                Op::Experts(e) => {
                    let width = graph.weight(e.gate).shape[2];
                    let mut forms =
                        vec![Some((self.kind(e.gate), 1, width)), Some((self.kind(e.up), 1, width))];
                    forms.dedup();
                    forms
                }
                Op::Backward(backward) => vec![self.transposed_form(backward)],
                _ => vec![None],
            };
            for arg in &node.args {
                let needs = &mut self.needs[self.roots[arg.index()]];
                needs.readers += 1;
                for form in &forms {
                    match form {
                        Some(form) if !needs.forms.contains(form) => needs.forms.push(*form),
                        Some(_) => {}
                        None => needs.numbers += 1,
                    }
                }
            }
        }
        self.find_to_pair();
        for index in 0..graph.nodes().len() {
            self.find_source_of_pairs(index);
        }
        for index in self.loss.iter().flat_map(derivative::Loss::absorbed) {
            self.absorbed[index] = true;
        }
        for output in graph.outputs() {
            let needs = &mut self.needs[self.roots[output.index()]];
            needs.numbers += 1;
            needs.readers += 1;
        }
        self.find_fusions();
        self.find_gates();
        self.find_to_keep();
    }

    /// A linear whose only reader adds something that is there before it, or gates it, is computed with its reader.
    fn find_fusions(&mut self) {
        let mut level = vec![0usize; self.graph.nodes().len()];
        for (index, node) in self.graph.nodes().iter().enumerate() {
            let below = node.args.iter().map(|a| level[a.index()]).max().unwrap_or(0);
            level[index] = if matches!(node.op, Op::Reshape { .. }) { below } else { below + 1 };
            match node.op {
                Op::Add => {
                    let [a, b] = [node.args[0], node.args[1]];
                    for (linear, other) in [(a, b), (b, a)] {
                        if a != b && self.lone_linear(linear) && level[other.index()] < level[linear.index()]
                        {
                            self.absorbed[linear.index()] = true;
                            break;
                        }
                    }
                }
                Op::GatedActivation(_) => {
                    let [a, b] = [node.args[0], node.args[1]];
                    if a != b && [a, b].iter().all(|v| self.lone_linear(*v) && !self.is_lent(*v)) {
                        self.absorbed[a.index()] = true;
                        self.absorbed[b.index()] = true;
                    }
                }
                _ => {}
            }
        }
    }

    /// Whether the value is a linear's that one node reads, as it is.
    fn lone_linear(&self, value: ValueId) -> bool {
        let is_linear = matches!(self.graph.node(value).op, Op::Linear { .. });
        is_linear && self.needs[value.index()].readers == 1 && !self.absorbed[value.index()]
    }

    /// Whether the value is a linear's whose weight every step lends.
    fn is_lent(&self, value: ValueId) -> bool {
        matches!(self.graph.node(value).op, Op::Linear { weight, .. } if self.weights[weight.index()].lent().is_some())
    }

    fn buffer(&mut self, bytes: Option<usize>, what: &str) -> Result<BufferId, CompileError> {
        self.out.sizes.push(bytes.ok_or_else(|| too_large(what))?);
        Ok(BufferId(self.out.sizes.len() - 1))
    }

    fn most(&self, rows: Rows) -> Option<usize> {
        let most = if rows.of == Symbol::Outputs { self.limits.outputs } else { self.limits.tokens };
        let all = most.checked_mul(rows.times)?;
        Some(rows.window.map_or(all, |(first, most)| all.saturating_sub(first).min(most)))
    }

    fn matrix(&mut self, rows: Rows, width: usize, what: &str) -> Result<Matrix, CompileError> {
        let bytes = self.most(rows).and_then(|r| r.checked_mul(width)).and_then(|n| n.checked_mul(4));
        Ok(Matrix { buffer: self.buffer(bytes, what)?, offset: 0, rows, width })
    }

    fn new_operand(&mut self, rows: Rows, form: Form, what: &str) -> Result<Operand, CompileError> {
        let (kind, heads, width) = form;
        // An operand takes less than 16 bytes a number, and whole chunks.
        let most = self.most(rows).filter(|r| r.checked_mul(16 * (width + CHUNK)).is_some());
        let stride = Operand::stride(kind, most.ok_or_else(|| too_large(what))?, width);
        let buffer = self.buffer(stride.checked_mul(heads), what)?;
        Ok(Operand { buffer, kind, rows, heads, width, stride })
    }

    fn rows(&self, index: usize) -> Rows {
        Rows::each(self.graph.nodes()[index].shape.rows())
    }

    /// The value of a node as numbers, to be written by the task that the caller adds.
    fn value(&mut self, index: usize) -> Result<Matrix, CompileError> {
        let node = &self.graph.nodes()[index];
        let matrix = self.matrix(self.rows(index), node.shape.width(), &node.label)?;
        self.values[index] = Some(matrix);
        Ok(matrix)
    }

    /// The places of a node's value, for a task that makes whole rows.
    fn sink(&mut self, index: usize) -> Result<Sink, CompileError> {
        let (rows, width) = (self.rows(index), self.graph.nodes()[index].shape.width());
        let needs = self.needs[index].clone();
        let value = match needs.numbers > 0 || needs.forms.is_empty() {
            true => Some(self.value(index)?),
            false => None,
        };
        let mut operands = Vec::new();
        for form in needs.forms {
            let operand = self.new_operand(rows, form, &self.graph.nodes()[index].label)?;
            self.operands.insert((index, form), operand);
            operands.push(operand);
        }
        if value.is_none() {
            self.scratch(width);
        }
        Ok(Sink { width, rows, value, operands })
    }

    fn scratch(&mut self, numbers: usize) {
        self.out.scratch = self.out.scratch.max(numbers);
    }

    fn push(&mut self, task: Task) {
        self.out.tasks.push(task);
    }

    /// An argument as numbers.
    fn numbers(&self, index: usize, arg: usize) -> Matrix {
        self.value_of(self.graph.nodes()[index].args[arg])
    }

    fn value_of(&self, value: ValueId) -> Matrix {
        self.values[self.root(value)].expect("needs were found before: the value is kept as numbers")
    }

    /// A value in the form that a product reads, made now unless it is there.
    fn operand(&mut self, value: ValueId, form: Form) -> Result<Operand, CompileError> {
        self.operand_of(self.root(value), form)
    }

    fn operand_of(&mut self, root: usize, form: Form) -> Result<Operand, CompileError> {
        if let Some(operand) = self.operands.get(&(root, form)) {
            return Ok(*operand);
        }
        let from = self.values[root].expect("a task that makes no whole rows keeps its value as numbers");
        let to = self.new_operand(from.rows, form, &self.graph.nodes()[root].label)?;
        self.operands.insert((root, form), to);
        self.push(Task::Operand { from, to });
        Ok(to)
    }

    fn vector(weight: Option<WeightId>) -> Option<usize> {
        weight.map(WeightId::index)
    }

    /// Weight, bias and operand of a linear node.
    fn linear(&mut self, index: usize) -> Result<(usize, Option<usize>, Operand), CompileError> {
        let node = &self.graph.nodes()[index];
        let Op::Linear { weight, bias } = node.op else { unreachable!("only linears are absorbed") };
        let operand = self.operand(node.args[0], self.linear_form(weight))?;
        Ok((weight.index(), Self::vector(bias), operand))
    }

    fn node(&mut self, index: usize) -> Result<(), CompileError> {
        let node = &self.graph.nodes()[index];
        let last = node.shape.last();
        match &node.op {
            Op::Reshape { .. } => {}
            Op::Input { slot } => {
                let to = self.sink(index)?;
                self.push(Task::Input { slot: *slot, to });
            }
            Op::Embed { table } => {
                let to = self.sink(index)?;
                self.push(Task::Embed { table: table.index(), to });
            }
            Op::Linear { .. } => {
                let (weight, bias, from) = self.linear(index)?;
                let to = self.value(index)?;
                self.push(Task::Linear { weight, packed: None, bias, from, add: None, to });
            }
            Op::HeadLinear { weight } => {
                let shape = &self.graph.weight(*weight).shape;
                let (heads, out, inner) = (shape[0], shape[1], shape[2]);
                let from = self.operand(node.args[0], (self.kind(*weight), heads, inner))?;
                let to = self.value(index)?;
                self.push(Task::HeadLinear { weight: weight.index(), from, out, to });
            }
            Op::Norm(n) => {
                let from = self.numbers(index, 0);
                let to = self.sink(index)?;
                let (weight, bias) = (Self::vector(n.weight), Self::vector(n.bias));
                self.push(Task::Norm { kind: n.kind, epsilon: n.epsilon, weight, bias, from, last, to });
            }
            Op::Rope(r) => {
                let angles = self.angles(r)?;
                let from = self.numbers(index, 0);
                let to = self.value(index)?;
                self.push(Task::Rope { rope: r.clone(), angles, last, from, to });
            }
            Op::Attention(_) => self.attention(index)?,
            Op::Activation(kind) => self.unary(index, Unary::Activation(*kind))?,
            Op::After => {
                let (from, after) = (self.numbers(index, 0), self.numbers(index, 1));
                let to = self.sink(index)?;
                self.push(Task::After { from, after, to });
            }
            Op::Scale { factor } => self.unary(index, Unary::Scale(*factor))?,
            Op::Softcap { cap } => self.unary(index, Unary::Softcap(*cap))?,
            Op::Multiply => self.binary(index, Binary::Multiply)?,
            Op::Add => {
                let [a, b] = [node.args[0], node.args[1]];
                match [(a, b), (b, a)].into_iter().find(|(l, _)| self.absorbed[l.index()]) {
                    None => self.binary(index, Binary::Add)?,
                    Some((linear, other)) => {
                        let add = self.values[self.root(other)];
                        let (weight, bias, from) = self.linear(linear.index())?;
                        let to = self.value(index)?;
                        self.push(Task::Linear { weight, packed: None, bias, from, add, to });
                    }
                }
            }
            Op::GatedActivation(kind) => {
                if self.absorbed[node.args[0].index()] && self.absorbed[node.args[1].index()] {
                    let (gate, up) = (self.linear(node.args[0].index())?, self.linear(node.args[1].index())?);
                    let to = self.value(index)?;
                    self.scratch(GATE_WINDOW);
                    self.push(Task::GatedLinear { function: *kind, gate, up, to });
                } else {
                    self.binary(index, Binary::Gated(*kind))?;
                }
            }
            Op::Concat => {
                let width = |i: usize| self.graph.node(node.args[i]).shape.last();
                let (a, b) = ((self.numbers(index, 0), width(0)), (self.numbers(index, 1), width(1)));
                let to = self.sink(index)?;
                self.push(Task::Concat { a, b, to });
            }
            Op::Slice { start, length } => {
                let last = self.graph.node(node.args[0]).shape.last();
                let from = self.numbers(index, 0);
                let to = self.sink(index)?;
                self.push(Task::Slice { from, last, start: *start, length: *length, to });
            }
            Op::Route(r) => self.route(index, r)?,
            Op::Experts(e) => self.experts(index, e)?,
            Op::Select => {
                let from = self.numbers(index, 0);
                let to = self.sink(index)?;
                self.push(Task::Select { from, to });
            }
            Op::CrossEntropy => self.cross_entropy(index)?,
            Op::Backward(backward) => self.backward(index, backward)?,
            Op::Gradient(gradient) => self.gradient(index, gradient)?,
        }
        Ok(())
    }

    fn unary(&mut self, index: usize, op: Unary) -> Result<(), CompileError> {
        let from = self.numbers(index, 0);
        let to = self.sink(index)?;
        self.push(Task::Unary { op, from, to });
        Ok(())
    }

    fn binary(&mut self, index: usize, op: Binary) -> Result<(), CompileError> {
        let (a, b) = (self.numbers(index, 0), self.numbers(index, 1));
        let to = self.sink(index)?;
        self.push(Task::Binary { op, a, b, to });
        Ok(())
    }

    /// The table of a rope's angles: one for all layers that turn alike.
    fn angles(&mut self, r: &Rope) -> Result<Matrix, CompileError> {
        let same = |other: &Rope| {
            other.pairing == r.pairing && other.frequencies == r.frequencies && other.scale == r.scale
        };
        if let Some((_, matrix)) = self.angles.iter().find(|(other, _)| same(other)) {
            return Ok(*matrix);
        }
        let to = self.matrix(Rows::each(Symbol::Tokens), rope::table_width(r), "rope")?;
        self.angles.push((r.clone(), to));
        self.push(Task::Angles { rope: r.clone(), to });
        Ok(to)
    }

    fn route(&mut self, index: usize, r: &Route) -> Result<(), CompileError> {
        let node = &self.graph.nodes()[index];
        if let Some(groups) = r.groups.filter(|g| g.count > route::MOST_GROUPS) {
            return Err(CompileError::Unsupported {
                device: "cpu".to_owned(),
                op: node.op.name(),
                label: node.label.clone(),
                what: format!("{} groups of experts; at most {} are", groups.count, route::MOST_GROUPS),
            });
        }
        let from = self.numbers(index, 0);
        self.scratch(route::scratch(from.width));
        let rows = self.rows(index);
        let experts = self.matrix(rows, r.top, &node.label)?.buffer;
        let weights = self.matrix(rows, r.top, &node.label)?.buffer;
        let to = Routing { experts, weights, rows, top: r.top };
        self.routings.insert(index, to);
        self.push(Task::Route { route: *r, bias: Self::vector(r.bias), from, to });
        Ok(())
    }

    /// The pairs of a routing over `count` experts, made now unless they are there.
    fn grouping(&mut self, routing: ValueId, count: usize, what: &str) -> Result<Grouping, CompileError> {
        let key = (self.root(routing), count);
        if let Some(grouping) = self.groupings.get(&key) {
            return Ok(*grouping);
        }
        let routing = self.routings[&key.0];
        let most = self.most(routing.rows).ok_or_else(|| too_large(what))?;
        let bytes = experts::grouping_bytes(most, routing.top, count);
        let grouping = Grouping { buffer: self.buffer(bytes, what)?, routing, experts: count };
        self.groupings.insert(key, grouping);
        self.push(Task::Group { to: grouping });
        Ok(grouping)
    }

    fn experts(&mut self, index: usize, e: &Experts) -> Result<(), CompileError> {
        let node = &self.graph.nodes()[index];
        let shape = &self.graph.weight(e.gate).shape;
        let (count, inner, width) = (shape[0], shape[1], shape[2]);
        let grouping = self.grouping(node.args[1], count, &node.label)?;
        let pairs = grouping.pairs();
        let mut gathered: Vec<Operand> = Vec::new();
        let mut operand = |lowering: &mut Self, weight: WeightId| -> Result<Operand, CompileError> {
            let form = (lowering.kind(weight), 1, width);
            if let Some(same) = gathered.iter().find(|o| o.kind == form.0) {
                return Ok(*same);
            }
            let from = lowering.operand(node.args[0], form)?;
            let to = lowering.new_operand(pairs, form, &node.label)?;
            lowering.push(Task::Gather { from, grouping, to });
            gathered.push(to);
            Ok(to)
        };
        let gate = (e.gate.index(), operand(self, e.gate)?);
        let up = (e.up.index(), operand(self, e.up)?);
        let hidden = self.matrix(pairs, inner, &node.label)?;
        self.scratch(GATE_WINDOW);
        self.push(Task::ExpertsUp { function: e.activation, gate, up, grouping, to: hidden });
        let from = self.new_operand(pairs, (self.kind(e.down), 1, inner), &node.label)?;
        self.push(Task::Operand { from: hidden, to: from });
        let down = self.matrix(pairs, width, &node.label)?;
        self.push(Task::ExpertsDown { weight: e.down.index(), from, grouping, to: down });
        let to = self.sink(index)?;
        self.push(Task::Combine { from: down, grouping, to });
        Ok(())
    }
}
