//! From a graph to tasks: which values are needed in which form, and what runs as one.

use std::collections::HashMap;

use autarky_graph::{
    CacheDType, CompileError, Experts, Graph, Limits, Op, Rope, Route, Symbol, ValueId, WeightId,
};

use crate::isa::Isa;
use crate::kernels::attention::{SPAN, TILE};
use crate::kernels::cache::Layout;
use crate::kernels::elementwise::{Binary, Unary};
use crate::kernels::lanes::LANES;
use crate::kernels::{rope, route};
use crate::matmul::{ActivationKind, CHUNK, LINE};

use super::attention::tile_numbers;
use super::experts;
use super::products::ROWS;
use super::task::{Attend, BufferId, Grouping, Matrix, Operand, Routing, Rows, Sink, Task};
use super::weights::Loaded;

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
    /// Readers of any kind.
    readers: usize,
}

/// What the compiler knows of the device.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub(super) isa: Isa,
    pub(super) bf16_tiles: bool,
    pub(super) threads: usize,
}

/// Bytes of a tile's queries, records and scores that should stay in a core's own cache.
const TILE_BYTES: usize = 96 << 10;
/// Rows of a tile at most.
const TILE_ROWS: usize = 32;
/// Records of spans for which memory is planned, in tokens · spans, beyond what one token can need.
const SPAN_RECORDS: usize = 64;
/// Rows times columns of a gated linear that one thread computes at most before it applies the gate.
pub(super) const GATE_WINDOW: usize = 128 * ROWS;

pub(super) struct Lowering<'a> {
    graph: &'a Graph,
    weights: &'a [Loaded],
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
    out: Lowered,
}

/// Numbers of a buffer overflow the machine's words.
fn too_large(what: &str) -> CompileError {
    CompileError::Limits(format!("{what} is too large for this machine's addresses"))
}

impl<'a> Lowering<'a> {
    pub(super) fn run(
        graph: &'a Graph,
        weights: &'a [Loaded],
        limits: Limits,
        target: Target,
    ) -> Result<Lowered, CompileError> {
        let n = graph.nodes().len();
        let mut lowering = Lowering {
            graph,
            weights,
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
                lowering.node(index)?;
            }
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
        let dtype = self.weights[weight.index()].dtype();
        ActivationKind::for_weight(dtype, self.target.isa, self.target.bf16_tiles)
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
        for node in graph.nodes() {
            let forms: Vec<Option<Form>> = match &node.op {
                Op::Reshape { .. } => continue,
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
        for output in graph.outputs() {
            let needs = &mut self.needs[self.roots[output.index()]];
            needs.numbers += 1;
            needs.readers += 1;
        }
        self.find_fusions();
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
                    if a != b && self.lone_linear(a) && self.lone_linear(b) {
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

    fn buffer(&mut self, bytes: Option<usize>, what: &str) -> Result<BufferId, CompileError> {
        self.out.sizes.push(bytes.ok_or_else(|| too_large(what))?);
        Ok(BufferId(self.out.sizes.len() - 1))
    }

    fn most(&self, rows: Rows) -> Option<usize> {
        let most = if rows.of == Symbol::Outputs { self.limits.outputs } else { self.limits.tokens };
        most.checked_mul(rows.times)
    }

    fn matrix(&mut self, rows: Rows, width: usize, what: &str) -> Result<Matrix, CompileError> {
        let bytes = self.most(rows).and_then(|r| r.checked_mul(width)).and_then(|n| n.checked_mul(4));
        Ok(Matrix { buffer: self.buffer(bytes, what)?, rows, width })
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
        Rows { of: self.graph.nodes()[index].shape.rows(), times: 1 }
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
        let value = self.root(self.graph.nodes()[index].args[arg]);
        self.values[value].expect("needs were found before: the value is kept as numbers")
    }

    /// A value in the form that a product reads, made now unless it is there.
    fn operand(&mut self, value: ValueId, form: Form) -> Result<Operand, CompileError> {
        let root = self.root(value);
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
                self.push(Task::Linear { weight, bias, from, add: None, to });
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
                        self.push(Task::Linear { weight, bias, from, add, to });
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
            Op::CrossEntropy | Op::Backward(_) | Op::Gradient(_) => {
                let node = &self.graph.nodes()[index];
                return Err(CompileError::Unsupported {
                    device: "cpu".to_owned(),
                    op: node.op.name(),
                    label: node.label.clone(),
                    what: "it runs models and does not train them yet; the reference device does".to_owned(),
                });
            }
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
        let to = self.matrix(Rows { of: Symbol::Tokens, times: 1 }, rope::table_width(r), "rope")?;
        self.angles.push((r.clone(), to));
        self.push(Task::Angles { rope: r.clone(), to });
        Ok(to)
    }

    fn attention(&mut self, index: usize) -> Result<(), CompileError> {
        let node = &self.graph.nodes()[index];
        let Op::Attention(a) = &node.op else { unreachable!("called for attention only") };
        let spec = self.graph.caches()[a.cache.index()];
        let layout = Layout { heads: spec.heads, key_width: spec.key_width, value_width: spec.value_width };
        let heads = node.shape.features()[0];
        let [queries, keys, values] = [0, 1, 2].map(|arg| self.numbers(index, arg));
        let cache = a.cache.index();
        self.push(Task::WriteCache { cache, layout, keys, values });

        let group = heads / spec.heads;
        let row_bytes = 4 * (spec.key_width + 2 * layout.record() + TILE + LANES);
        let rows = (TILE_BYTES / row_bytes).clamp(4, TILE_ROWS);
        let tile_heads = group.min(rows);
        let tokens = if tile_heads == group { rows / group } else { 1 };
        let tiling = self.out.tilings.iter().position(|t| *t == tokens).unwrap_or_else(|| {
            self.out.tilings.push(tokens);
            self.out.tilings.len() - 1
        });
        let tile_rows = tile_heads * tokens;
        self.scratch(tile_scratch(self.limits.cache, &layout, tile_rows));

        let records = self.span_records().checked_mul(heads);
        let bytes = records.and_then(|n| n.checked_mul(4 * layout.record()));
        let spans = self.buffer(bytes, &node.label)?;
        let to = self.value(index)?;
        let attend = Attend {
            cache,
            layout,
            heads,
            scale: a.scale,
            softcap: a.softcap,
            window: a.window,
            sinks: Self::vector(a.sinks),
            queries,
            to,
            spans,
            tiling,
            tile_heads,
            tile_rows,
        };
        self.push(Task::Attend(attend.clone()));
        self.push(Task::MergeSpans(attend));
        Ok(())
    }

    fn span_records(&self) -> usize {
        span_records(&self.limits)
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

    fn experts(&mut self, index: usize, e: &Experts) -> Result<(), CompileError> {
        let node = &self.graph.nodes()[index];
        let shape = &self.graph.weight(e.gate).shape;
        let (count, inner, width) = (shape[0], shape[1], shape[2]);
        let routing_node = self.root(node.args[1]);
        let routing = self.routings[&routing_node];
        let pairs = Rows { of: routing.rows.of, times: routing.top };
        let grouping = match self.groupings.get(&(routing_node, count)) {
            Some(grouping) => *grouping,
            None => {
                let most = self.most(routing.rows).ok_or_else(|| too_large(&node.label))?;
                let bytes = experts::grouping_bytes(most, routing.top, count);
                let buffer = self.buffer(bytes, &node.label)?;
                let grouping = Grouping { buffer, routing, experts: count };
                self.groupings.insert((routing_node, count), grouping);
                self.push(Task::Group { to: grouping });
                grouping
            }
        };
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

/// Numbers of scratch for a tile: queries, what the kernel needs, and the records of a span and of all before it.
pub(super) fn tile_scratch(cache: CacheDType, layout: &Layout, rows: usize) -> usize {
    let padded = |n: usize| n.next_multiple_of(LINE / 4);
    padded(rows * layout.key_width)
        + padded(tile_numbers(cache, rows, layout.key_width))
        + 2 * rows * layout.record()
}

/// The most tokens · spans whose records are kept side by side.
pub(super) fn span_records(limits: &Limits) -> usize {
    (limits.blocks * autarky_graph::BLOCK).div_ceil(SPAN).max(SPAN_RECORDS)
}
