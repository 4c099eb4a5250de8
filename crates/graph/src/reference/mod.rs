//! The reference interpreter: short, f32, obviously right, never optimised. Other devices are checked against it.

mod backward;
pub(crate) mod ops;
mod real;

use std::sync::Arc;

use autarky_quant::DType;

use crate::device::{
    Abilities, Activations, BLOCK, CACHE_GROUP, CacheDType, Device, Limits, MemoryUse, Program, Step,
    Weights, fetch,
};
use crate::error::{CompileError, RunError};
use crate::graph::{CacheSpec, Graph, ValueId, WeightId};
use crate::op::Op;
use real::Real;

/// The device that says what is right.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reference;

/// The reference with one thing added: what is multiplied by quantized weights is first rounded to 8-bit integers in
/// groups, as [`Activations::Int8`] says, and so are queries beside a cache of [`CacheDType::I8`]. What a device with
/// such products differs from this by is its own fault; what this differs from [`Reference`] by is the price of the
/// rounding.
#[derive(Clone, Copy, Debug)]
pub struct RoundedReference {
    /// Neighbours that share a scale.
    pub group: usize,
}

impl Device for RoundedReference {
    fn name(&self) -> &str {
        "reference with rounded activations"
    }

    fn abilities(&self) -> Abilities {
        Abilities { activations: Activations::Int8 { group: self.group }, ..Reference.abilities() }
    }

    fn compile(
        &self,
        graph: Arc<Graph>,
        weights: &dyn Weights,
        limits: Limits,
    ) -> Result<Box<dyn Program>, CompileError> {
        Ok(Box::new(Interpreter::<f32>::new(graph, weights, limits, Some(self.group))?))
    }
}

impl Device for Reference {
    fn name(&self) -> &str {
        "reference"
    }

    fn abilities(&self) -> Abilities {
        Abilities {
            dtypes: DType::ALL.to_vec(),
            activations: Activations::F32,
            bf16_products: false,
            int8_training: false,
            instruction_set: "scalar".to_owned(),
            largest_allocation: u64::MAX,
        }
    }

    fn compile(
        &self,
        graph: Arc<Graph>,
        weights: &dyn Weights,
        limits: Limits,
    ) -> Result<Box<dyn Program>, CompileError> {
        Ok(Box::new(Interpreter::<f32>::new(graph, weights, limits, None)?))
    }
}

/// What a node made: numbers, and for a routing also the experts that they weigh.
#[derive(Debug, Default)]
struct Value<R> {
    numbers: Vec<R>,
    experts: Vec<u32>,
}

pub(crate) struct Interpreter<R> {
    graph: Arc<Graph>,
    limits: Limits,
    weights: Vec<Vec<R>>,
    /// For every weight, what was gathered of the derivative by it; empty for those that no op gathers.
    gradients: Vec<Vec<R>>,
    /// The group in which activations are rounded beside quantized weights.
    group: Option<usize>,
    /// For every weight, the group in which what it multiplies is rounded.
    rounding: Vec<Option<usize>>,
    /// One a layer: position by position, keys of all heads and then values of all heads.
    caches: Vec<Vec<R>>,
    values: Vec<Value<R>>,
}

/// The place of every token of a step.
struct Place {
    sequence: usize,
    position: usize,
}

impl<R: Real> Interpreter<R> {
    pub(crate) fn new(
        graph: Arc<Graph>,
        source: &dyn Weights,
        limits: Limits,
        group: Option<usize>,
    ) -> Result<Interpreter<R>, CompileError> {
        let (mut weights, mut rounding) = (Vec::new(), Vec::new());
        for spec in graph.weights() {
            let tensor = fetch(source, &spec.name, &spec.shape)?;
            weights.push(tensor.to_f32(&spec.name)?.into_iter().map(R::from).collect::<Vec<R>>());
            rounding.push(group.filter(|_| !tensor.dtype.is_float()));
            source.release(&spec.name);
        }
        let caches = graph.caches().iter().map(|c| cache(c, &limits)).collect::<Result<_, _>>()?;
        let values = graph.nodes().iter().map(|_| Value::default()).collect();
        let mut gradients = vec![Vec::new(); weights.len()];
        for node in graph.nodes() {
            if let Op::Gradient(gradient) = &node.op {
                for id in gradient.of() {
                    gradients[id.index()] = vec![R::default(); weights[id.index()].len()];
                }
            }
        }
        Ok(Interpreter { graph, limits, weights, gradients, group, rounding, caches, values })
    }

    /// W x for every row of `x`, with x rounded where that is asked for.
    fn product(&self, x: &[R], id: WeightId, w: &[R], inner: usize) -> Vec<R> {
        match self.rounding[id.index()] {
            None => ops::linear(x, w, inner),
            Some(group) => ops::linear(&rounded(x, |x| ops::round(x, inner, group, ops::step)), w, inner),
        }
    }

    fn numbers(&self, value: ValueId) -> &[R] {
        &self.values[value.index()].numbers
    }

    /// A weight's numbers.
    #[cfg(test)]
    pub(crate) fn weight_mut(&mut self, id: WeightId) -> &mut [R] {
        &mut self.weights[id.index()]
    }

    /// As [`Program::gradient`].
    pub(crate) fn gathered(&self, id: WeightId) -> &[R] {
        &self.gradients[id.index()]
    }

    /// As [`Program::output`].
    pub(crate) fn result(&self, index: usize) -> &[R] {
        self.numbers(self.graph.outputs()[index])
    }

    fn compute(&mut self, index: usize, step: &Step<'_>, places: &[Place]) -> Value<R> {
        let graph = Arc::clone(&self.graph);
        let node = &graph.nodes()[index];
        let arg = |i: usize| self.numbers(node.args[i]);
        let shape = |i: usize| &graph.node(node.args[i]).shape;
        let weight = |id: WeightId| self.weights[id.index()].as_slice();
        let numbers = match &node.op {
            Op::Input { slot } => step.inputs[*slot].iter().map(|&x| R::from(x)).collect(),
            Op::Embed { table } => {
                let width = node.shape.width();
                let row = |t: &u32| &weight(*table)[*t as usize * width..][..width];
                step.tokens.iter().flat_map(row).copied().collect()
            }
            Op::Linear { weight: w, bias } => {
                let mut y = self.product(arg(0), *w, weight(*w), shape(0).width());
                if let Some(b) = bias {
                    y.chunks_exact_mut(node.shape.width()).for_each(|row| ops::add_to(row, weight(*b)));
                }
                y
            }
            Op::HeadLinear { weight: w } => {
                let (inner, out) = (shape(0).last(), node.shape.last());
                let heads = node.shape.features()[0];
                let head = |(h, x): (usize, &[R])| {
                    self.product(x, *w, &weight(*w)[h % heads * out * inner..][..out * inner], inner)
                };
                arg(0).chunks_exact(inner).enumerate().flat_map(head).collect()
            }
            Op::Norm(n) => {
                let last = node.shape.last();
                let row = |x| ops::norm(x, n, n.weight.map(weight), n.bias.map(weight));
                arg(0).chunks_exact(last).flat_map(row).collect()
            }
            Op::Rope(r) => {
                let mut y = arg(0).to_vec();
                for (row, place) in y.chunks_exact_mut(node.shape.width()).zip(places) {
                    row.chunks_exact_mut(node.shape.last())
                        .for_each(|head| ops::rope(head, r, place.position));
                }
                y
            }
            Op::Attention(a) => {
                let spec = graph.caches()[a.cache.index()];
                let mut cache = std::mem::take(&mut self.caches[a.cache.index()]);
                let [q, k, v] = [0, 1, 2].map(|arg| self.numbers(node.args[arg]));
                let rounds = self.limits.cache == CacheDType::I8;
                let round = |x: &[R], width, group, wanted| match wanted {
                    true => rounded(x, |x| round_cached(x, width, group)),
                    false => x.to_vec(),
                };
                let k = round(k, spec.key_width, CACHE_GROUP, rounds);
                let v = round(v, spec.value_width, spec.value_width, rounds);
                let q = round(q, spec.key_width, CACHE_GROUP, rounds && self.group.is_some());
                let at = |place: &Place, position: usize| {
                    let block = step.sequences[place.sequence].blocks[position / BLOCK] as usize;
                    (block * BLOCK + position % BLOCK) * spec.width()
                };
                let (kw, vw) = (spec.heads * spec.key_width, spec.heads * spec.value_width);
                for (i, place) in places.iter().enumerate() {
                    let entry = &mut cache[at(place, place.position)..][..spec.width()];
                    entry[..kw].copy_from_slice(&k[i * kw..][..kw]);
                    entry[kw..].copy_from_slice(&v[i * vw..][..vw]);
                }
                let heads = node.shape.features()[0];
                let mut y = Vec::with_capacity(q.len());
                for (i, place) in places.iter().enumerate() {
                    let first = a.window.map_or(0, |w| (place.position + 1).saturating_sub(w));
                    for h in 0..heads {
                        let g = h / (heads / spec.heads);
                        let query = &q[(i * heads + h) * spec.key_width..][..spec.key_width];
                        let entries = (first..=place.position).map(|p| {
                            let entry = &cache[at(place, p)..][..spec.width()];
                            let key = &entry[g * spec.key_width..][..spec.key_width];
                            (key, &entry[kw + g * spec.value_width..][..spec.value_width])
                        });
                        let sink = a.sinks.map(|s| self.weights[s.index()][h]);
                        y.extend(ops::attend(query, entries, spec.value_width, a, sink));
                    }
                }
                self.caches[a.cache.index()] = cache;
                y
            }
            Op::Activation(kind) => arg(0).iter().map(|&x| ops::activation(*kind, x)).collect(),
            Op::GatedActivation(kind) => {
                arg(0).iter().zip(arg(1)).map(|(&g, &u)| ops::activation(*kind, g) * u).collect()
            }
            Op::Add => arg(0).iter().zip(arg(1)).map(|(a, b)| *a + *b).collect(),
            Op::Multiply => arg(0).iter().zip(arg(1)).map(|(a, b)| *a * *b).collect(),
            Op::After => arg(0).to_vec(),
            Op::Scale { factor } => arg(0).iter().map(|x| *x * R::from(*factor)).collect(),
            Op::Softcap { cap } => arg(0).iter().map(|x| ops::softcap(*x, *cap)).collect(),
            Op::Concat => {
                let rows = arg(0).chunks_exact(shape(0).last()).zip(arg(1).chunks_exact(shape(1).last()));
                rows.flat_map(|(a, b)| a.iter().chain(b)).copied().collect()
            }
            Op::Slice { start, length } => {
                let rows = arg(0).chunks_exact(shape(0).last());
                rows.flat_map(|row| &row[*start..start + length]).copied().collect()
            }
            Op::Reshape { .. } => arg(0).to_vec(),
            Op::Route(r) => {
                let mut value = Value::default();
                for logits in arg(0).chunks_exact(shape(0).width()) {
                    for (expert, share) in ops::route(logits, r, r.bias.map(weight)) {
                        value.experts.push(expert);
                        value.numbers.push(share);
                    }
                }
                return value;
            }
            Op::Experts(e) => {
                let (width, top) = (node.shape.width(), shape(1).width());
                let inner = graph.weight(e.gate).shape[1];
                let of = |id, expert: u32| &weight(id)[expert as usize * inner * width..][..inner * width];
                let routing = &self.values[node.args[1].index()];
                let mut y = vec![R::default(); arg(0).len()];
                for (i, x) in arg(0).chunks_exact(width).enumerate() {
                    for j in i * top..(i + 1) * top {
                        let (expert, share) = (routing.experts[j], routing.numbers[j]);
                        let gate = self.product(x, e.gate, of(e.gate, expert), width);
                        let up = self.product(x, e.up, of(e.up, expert), width);
                        let hidden: Vec<R> = gate
                            .iter()
                            .zip(&up)
                            .map(|(&g, u)| ops::activation(e.activation, g) * *u)
                            .collect();
                        let down = self.product(&hidden, e.down, of(e.down, expert), inner);
                        y[i * width..][..width].iter_mut().zip(down).for_each(|(y, d)| *y = *y + share * d);
                    }
                }
                y
            }
            Op::Select => {
                let width = node.shape.width();
                step.outputs.iter().flat_map(|&o| &arg(0)[o as usize * width..][..width]).copied().collect()
            }
            Op::CrossEntropy => {
                let rows = arg(0).chunks_exact(shape(0).width()).zip(arg(1));
                rows.map(|(logits, target)| backward::cross_entropy(logits, *target)).collect()
            }
            Op::Backward(op) => self.backward(op, node, step, places),
            Op::Gradient(op) => {
                self.gather(op, node, step, places);
                Vec::new()
            }
        };
        Value { numbers, experts: Vec::new() }
    }
}

/// What `round` makes of numbers.
fn rounded<R: Real>(x: &[R], round: impl Fn(&[f32]) -> Vec<f32>) -> Vec<R> {
    let x: Vec<f32> = x.iter().map(|&x| x.into() as f32).collect();
    round(&x).into_iter().map(R::from).collect()
}

/// Keys, values or queries (each `width` numbers), rounded in groups as [`CacheDType::I8`] says.
fn round_cached(x: &[f32], width: usize, group: usize) -> Vec<f32> {
    ops::round(x, width, group, |_, of_group| of_group / 127.0)
}

/// A layer's KV cache, zero.
fn cache<R: Real>(spec: &CacheSpec, limits: &Limits) -> Result<Vec<R>, CompileError> {
    let positions = limits.blocks.saturating_mul(BLOCK);
    let numbers = positions.saturating_mul(spec.width());
    // `vec!` ends the process where there is not the memory, so that is asked for first.
    match Vec::<R>::new().try_reserve_exact(numbers) {
        Ok(()) => Ok(vec![R::default(); numbers]),
        Err(_) => Err(CompileError::Memory {
            what: format!("a layer's KV cache of {positions} positions"),
            bytes: (numbers as u64).saturating_mul(4),
            hint: "ask for a shorter context or fewer sequences".to_owned(),
        }),
    }
}

impl<R: Real> Interpreter<R> {
    /// Runs a step, and adds to the gradients if it `gathers`.
    pub(crate) fn step(&mut self, step: &Step<'_>, gathers: bool) -> Result<(), RunError> {
        step.check(&self.graph, &self.limits)?;
        let places: Vec<Place> = (step.sequences.iter().enumerate())
            .flat_map(|(i, s)| (0..s.tokens).map(move |t| Place { sequence: i, position: s.position + t }))
            .collect();
        let last = self.graph.last_uses();
        for i in 0..self.graph.nodes().len() {
            if gathers || !matches!(self.graph.nodes()[i].op, Op::Gradient(_)) {
                self.values[i] = self.compute(i, step, &places);
            }
            // Free what no later node reads.
            for a in self.graph.nodes()[i].args.clone() {
                if last[a.index()] == i {
                    self.values[a.index()] = Value::default();
                }
            }
        }
        Ok(())
    }
}

impl Program for Interpreter<f32> {
    fn run(&mut self, step: &Step<'_>) -> Result<(), RunError> {
        self.step(step, true)
    }

    fn run_outputs(&mut self, step: &Step<'_>) -> Result<(), RunError> {
        self.step(step, false)
    }

    fn output(&self, index: usize) -> &[f32] {
        self.result(index)
    }

    fn gradient(&self, weight: WeightId) -> &[f32] {
        self.gathered(weight)
    }

    fn clear_gradients(&mut self) {
        self.gradients.iter_mut().for_each(|g| g.fill(0.0));
    }

    fn set_weight(&mut self, weight: WeightId, numbers: &[f32]) {
        if !self.gathered(weight).is_empty() {
            self.weights[weight.index()].copy_from_slice(numbers);
        }
    }

    fn memory(&self) -> MemoryUse {
        let bytes = |v: &[Vec<f32>]| v.iter().map(|x| 4 * x.len() as u64).sum();
        let weights = bytes(&self.weights) + bytes(&self.gradients);
        MemoryUse { weights, cache: bytes(&self.caches), arena: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Attention, Builder, Tensor, WeightError};

    struct NoWeights;

    impl Weights for NoWeights {
        fn get(&self, name: &str) -> Result<Tensor<'_>, WeightError> {
            Err(WeightError::Missing { name: name.to_owned(), hint: String::new() })
        }
    }

    #[test]
    fn a_cache_that_no_machine_has_is_an_error() {
        let mut b = Builder::new();
        let x = b.input(0, 8);
        let x = b.reshape(x, &[2, 4]).unwrap();
        let attention =
            Attention { cache: b.cache(2, 4, 4), scale: 1.0, window: None, softcap: None, sinks: None };
        let y = b.attention(x, x, x, attention).unwrap();
        let graph = Arc::new(b.finish(&[y]));
        for blocks in [u32::MAX as usize * 1024, usize::MAX / 2, usize::MAX] {
            let limits = Limits { blocks, ..Limits::single(32, 1, CacheDType::F32) };
            let error = Reference.compile(Arc::clone(&graph), &NoWeights, limits).err().unwrap();
            assert!(matches!(error, CompileError::Memory { .. }), "{blocks} blocks: {error}");
        }
    }
}
