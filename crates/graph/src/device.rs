//! The seam between graph and device.
//!
//! A device compiles a graph with its weights once and runs the program once a step. Whatever can fail for a reason
//! in the graph, the weights or the device's abilities fails in [`Device::compile`], by name.

use std::borrow::Cow;
use std::sync::Arc;

use autarky_quant::DType;

use crate::derivative::Backward;
use crate::error::{CompileError, RunError, WeightError};
use crate::graph::{CacheSpec, Graph, Node, WeightId};
use crate::op::Op;

/// Positions in one block of the KV cache.
pub const BLOCK: usize = 32;

/// A weight's bytes, row-major, possibly in several pieces that follow one another along the first dimension (a
/// stack of experts, the rows of some heads).
#[derive(Clone, Debug)]
pub struct Tensor<'a> {
    /// How its numbers are stored.
    pub dtype: DType,
    /// Its dimensions, outermost first. Rows of the last dimension are whole blocks.
    pub shape: Vec<usize>,
    /// Its bytes, each piece a whole number of rows.
    pub parts: Vec<Cow<'a, [u8]>>,
}

impl Tensor<'static> {
    /// The tensor of these numbers, row-major, as 32-bit floats.
    pub fn of_f32(shape: &[usize], numbers: &[f32]) -> Tensor<'static> {
        let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
        Tensor { dtype: DType::F32, shape: shape.to_vec(), parts: vec![bytes.into()] }
    }
}

impl Tensor<'_> {
    /// Numbers in all.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes in all.
    pub fn bytes(&self) -> usize {
        self.parts.iter().map(|p| p.len()).sum()
    }

    /// All numbers as f32, row-major.
    ///
    /// # Errors
    /// When a piece is not whole blocks, or the pieces do not add up to the shape.
    pub fn to_f32(&self, name: &str) -> Result<Vec<f32>, WeightError> {
        let data = |what: String| WeightError::Data { name: name.to_owned(), what };
        let mut out = Vec::new();
        for part in &self.parts {
            let blocks = part.len() / self.dtype.block_bytes();
            let start = out.len();
            out.resize(start + blocks * self.dtype.block_len(), 0.0);
            autarky_quant::dequantize(self.dtype, part, &mut out[start..])
                .map_err(|e| data(e.to_string()))?;
        }
        match out.len() == self.elements() {
            true => Ok(out),
            false => {
                Err(data(format!("{} numbers where the shape {:?} calls for others", out.len(), self.shape)))
            }
        }
    }
}

/// Where a compiler gets weights from, by the graph's names.
pub trait Weights {
    /// The weight called `name`.
    ///
    /// # Errors
    /// When it is missing or cannot be read.
    fn get(&self, name: &str) -> Result<Tensor<'_>, WeightError>;

    /// Says that the weight called `name` was copied and that its pages need not stay resident.
    fn release(&self, _name: &str) {}

    /// Whether products with the weight called `name`, which is trained, may round it and what they multiply it by to 8-bit
    /// integers, where [`Abilities::int8_training`] has them.
    fn in_int8(&self, _name: &str) -> bool {
        false
    }
}

impl<W: Weights + ?Sized> Weights for &W {
    fn get(&self, name: &str) -> Result<Tensor<'_>, WeightError> {
        (**self).get(name)
    }

    fn release(&self, name: &str) {
        (**self).release(name);
    }

    fn in_int8(&self, name: &str) -> bool {
        (**self).in_int8(name)
    }
}

/// How a device keeps activations while it multiplies them by quantized weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activations {
    /// As they are.
    F32,
    /// Rounded to 8-bit integers in steps of each `group` of neighbours: of the row's largest magnitude / 127, halved
    /// as often, up to 11 times, as the group's numbers then still fit ±127 steps. So a step is less than twice the
    /// group's largest magnitude / 127 (or the row's / 127 / 2048), and the error of a product at most
    /// Σ_k |w_k| · step_k / 2.
    Int8 {
        /// Neighbours that share a step.
        group: usize,
    },
}

/// What a device can do, as data.
#[derive(Clone, Debug)]
pub struct Abilities {
    /// Weight types that linear ops take.
    pub dtypes: Vec<DType>,
    /// Activations beside quantized weights.
    pub activations: Activations,
    /// Whether products with BF16 weights round activations to bf16 (8 significant bits).
    pub bf16_products: bool,
    /// Whether weights can be trained with products of 8-bit integers.
    pub int8_training: bool,
    /// What it computes with, such as `avx512-vnni`.
    pub instruction_set: String,
    /// The largest single allocation in bytes.
    pub largest_allocation: u64,
}

/// Numbers of a key that share a scale in a KV cache of [`CacheDType::I8`]; the last of a key may be fewer.
pub const CACHE_GROUP: usize = 32;

/// How keys and values are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum CacheDType {
    /// 16-bit floats.
    #[default]
    F16,
    /// 32-bit floats.
    F32,
    /// 8-bit integers: keys in groups of [`CACHE_GROUP`] numbers, a value as a whole, each scaled by its largest
    /// magnitude / 127 (the scale is a 32-bit float). A device that rounds activations ([`Activations::Int8`]) rounds
    /// queries, too, in groups of as many.
    I8,
}

impl CacheDType {
    /// Bytes of a number, scales apart.
    pub fn bytes(self) -> usize {
        match self {
            CacheDType::F16 => 2,
            CacheDType::F32 => 4,
            CacheDType::I8 => 1,
        }
    }

    /// Bytes of one position's keys and values, with their scales.
    pub fn position_bytes(self, spec: &CacheSpec) -> usize {
        let scales = match self {
            CacheDType::F16 | CacheDType::F32 => 0,
            CacheDType::I8 => spec.heads * (spec.key_width.div_ceil(CACHE_GROUP) + 1) * size_of::<f32>(),
        };
        spec.width() * self.bytes() + scales
    }

    /// The name that flags take: `f16`, `f32` or `i8`.
    pub fn name(self) -> &'static str {
        match self {
            CacheDType::F16 => "f16",
            CacheDType::F32 => "f32",
            CacheDType::I8 => "i8",
        }
    }
}

/// The most that a program must take in one step, fixed at compile so that a step allocates nothing.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Tokens in a step.
    pub tokens: usize,
    /// Sequences in a step.
    pub sequences: usize,
    /// Wanted outputs in a step.
    pub outputs: usize,
    /// Blocks of KV cache in all ([`BLOCK`] positions each).
    pub blocks: usize,
    /// How keys and values are kept.
    pub cache: CacheDType,
}

impl Limits {
    /// For one sequence of up to `context` positions, prefilled `chunk` tokens at a time.
    pub fn single(context: usize, chunk: usize, cache: CacheDType) -> Limits {
        Limits { tokens: chunk, sequences: 1, outputs: chunk, blocks: context.div_ceil(BLOCK), cache }
    }
}

/// One sequence's share of a step.
#[derive(Clone, Copy, Debug)]
pub struct SequenceStep<'a> {
    /// Positions that are cached already; the step's first token has this position.
    pub position: usize,
    /// Tokens of this step.
    pub tokens: usize,
    /// The sequence's blocks in the order of positions: block `i` holds positions `i · BLOCK ..`. They cover
    /// `position + tokens` positions.
    pub blocks: &'a [u32],
}

/// What binds the symbols for one run: a flat, ragged batch.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// All sequences' tokens, one sequence after another. Empty when the graph embeds nothing.
    pub tokens: &'a [u32],
    /// Whose they are.
    pub sequences: &'a [SequenceStep<'a>],
    /// The tokens (by place in the step, ascending) whose results are wanted.
    pub outputs: &'a [u32],
    /// What [`Op::Input`]s read: slot by slot, `[tokens, width]` row-major.
    pub inputs: &'a [&'a [f32]],
    /// The weights that a training step changes: those whose gradients the graph gathers, each at its place among the graph's
    /// and row-major, as they were compiled or last set ([`Program::set_weight`]). So whoever changes them holds them alone:
    /// programs may keep copies in forms of their own, and may do without. Empty where the graph gathers no gradients.
    pub weights: &'a [&'a [f32]],
}

impl Step<'_> {
    /// Tokens in the step.
    pub fn rows(&self) -> usize {
        self.sequences.iter().map(|s| s.tokens).sum()
    }

    /// Checks the step against the graph and the limits: what every program does first.
    ///
    /// # Errors
    /// Names the first thing that is wrong.
    pub fn check(&self, graph: &Graph, limits: &Limits) -> Result<(), RunError> {
        let mut rows = 0usize;
        for (i, s) in self.sequences.iter().enumerate() {
            let wrong = |what: String| Err(RunError::Step(format!("sequence {i}: {what}")));
            rows = rows.saturating_add(s.tokens);
            let Some(end) = s.position.checked_add(s.tokens) else {
                return wrong(format!(
                    "position {} + {} tokens is beyond all counting",
                    s.position, s.tokens
                ));
            };
            if s.tokens == 0 {
                return wrong("no tokens".to_owned());
            }
            if !graph.caches().is_empty() {
                if s.blocks.len() < end.div_ceil(BLOCK) {
                    return wrong(format!("{} blocks of cache do not cover {end} positions", s.blocks.len()));
                }
                if let Some(b) = s.blocks.iter().find(|&&b| b as usize >= limits.blocks) {
                    return wrong(format!("block {b} where the cache has {}", limits.blocks));
                }
            }
        }
        let limit = |what, found, limit| match found > limit {
            true => Err(RunError::Limit { what, found, limit }),
            false => Ok(()),
        };
        limit("tokens", rows, limits.tokens)?;
        limit("sequences", self.sequences.len(), limits.sequences)?;
        limit("outputs", self.outputs.len(), limits.outputs)?;
        if !graph.caches().is_empty() {
            self.check_writes()?;
        }
        if !self.outputs.is_sorted_by(|a, b| a < b)
            || self.outputs.last().is_some_and(|&o| o as usize >= rows)
        {
            return Err(RunError::Step(format!("outputs must ascend and lie below the {rows} tokens")));
        }
        for node in graph.nodes() {
            match &node.op {
                Op::Embed { table } => {
                    let vocabulary = graph.weight(*table).shape[0];
                    if self.tokens.len() != rows {
                        return Err(RunError::Step(format!(
                            "{} tokens for {rows} places",
                            self.tokens.len()
                        )));
                    }
                    if let Some(index) = self.tokens.iter().position(|&t| t as usize >= vocabulary) {
                        return Err(RunError::Token { index, token: self.tokens[index], vocabulary });
                    }
                }
                Op::Input { slot } => {
                    let expected = rows * node.shape.width();
                    let found = self.inputs.get(*slot).map_or(0, |x| x.len());
                    if found != expected {
                        return Err(RunError::Step(format!(
                            "input {slot} has {found} numbers, not {expected}"
                        )));
                    }
                }
                Op::CrossEntropy => self.check_targets(graph, node)?,
                Op::Backward(Backward::Attention(_)) => {
                    if let Some(i) = self.sequences.iter().position(|s| s.position > 0) {
                        let what = "positions before the step's have no derivatives; begin at position 0";
                        return Err(RunError::Step(format!("sequence {i}: {what}")));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The numbers that are lent of a weight.
    ///
    /// # Errors
    /// When they are not as many as the weight has.
    pub fn lent(&self, graph: &Graph, weight: WeightId) -> Result<&[f32], RunError> {
        let (found, spec) =
            (self.weights.get(weight.index()).copied().unwrap_or_default(), graph.weight(weight));
        if found.len() == spec.shape.iter().product::<usize>() {
            return Ok(found);
        }
        let (name, shape) = (&spec.name, &spec.shape);
        let what = format!("{} numbers are lent of \"{name}\", which is {shape:?}", found.len());
        Err(RunError::Step(what))
    }

    /// Every wanted token's target is in the vocabulary.
    fn check_targets(&self, graph: &Graph, loss: &Node) -> Result<(), RunError> {
        let vocabulary = graph.node(loss.args[0]).shape.last();
        let mut given = graph.node(loss.args[1]);
        if given.op == Op::Select {
            given = graph.node(given.args[0]);
        }
        let targets = match given.op {
            Op::Input { slot } => self.inputs.get(slot).copied().unwrap_or_default(),
            _ => &[],
        };
        let good = |o: &&u32| {
            let target = targets.get(**o as usize).copied().unwrap_or(-1.0);
            target >= 0.0 && target < vocabulary as f32 && target.fract() == 0.0
        };
        match self.outputs.iter().find(|o| !good(o)) {
            None => Ok(()),
            Some(o) => {
                let what = format!("the target of token {o} is none of the {vocabulary} of the vocabulary");
                Err(RunError::Step(what))
            }
        }
    }

    /// No block is written in two places: sequences may share what they read, but not what threads write side by side.
    fn check_writes(&self) -> Result<(), RunError> {
        for (i, s) in self.sequences.iter().enumerate() {
            let mut written = s.written();
            while let [block, rest @ ..] = written {
                let others = self.sequences.iter().skip(i + 1).flat_map(SequenceStep::written);
                if rest.iter().chain(others).any(|other| other == block) {
                    let what = format!("sequence {i}: block {block} is written in two places of the step");
                    return Err(RunError::Step(what));
                }
                written = rest;
            }
        }
        Ok(())
    }
}

impl SequenceStep<'_> {
    /// The blocks that the step's tokens are written to. The table has passed [`Step::check`] so far.
    fn written(&self) -> &[u32] {
        &self.blocks[self.position / BLOCK..(self.position + self.tokens).div_ceil(BLOCK)]
    }
}

/// What a program holds, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// Weights in the device's form.
    pub weights: u64,
    /// KV cache.
    pub cache: u64,
    /// Activations and scratch: the arena.
    pub arena: u64,
}

impl MemoryUse {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.weights + self.cache + self.arena
    }
}

/// A graph made ready to run, with its weights and its KV cache.
pub trait Program: Send {
    /// Runs one step.
    ///
    /// # Errors
    /// When the step does not fit the graph or the limits (nothing changed), or the device is lost.
    fn run(&mut self, step: &Step<'_>) -> Result<(), RunError>;

    /// Runs one step for its outputs alone: they have the same bits as after [`Program::run`], and gradients stay as they are.
    ///
    /// # Errors
    /// As [`Program::run`].
    fn run_outputs(&mut self, step: &Step<'_>) -> Result<(), RunError>;

    /// Output `index` of the graph, as the last step left it: `[rows, width]` row-major, rows being the tokens or
    /// the wanted outputs.
    fn output(&self, index: usize) -> &[f32];

    /// What the steps have gathered of the derivative by a weight since the program was compiled, or since
    /// [`Program::clear_gradients`]: row-major in the weight's shape. Empty where the graph gathers none.
    fn gradient(&self, _weight: WeightId) -> &[f32] {
        &[]
    }

    /// Sets all gradients to zero.
    fn clear_gradients(&mut self) {}

    /// Changes a weight whose gradient is gathered to these numbers, row-major in its shape. Others stay as they are.
    fn set_weight(&mut self, _weight: WeightId, _numbers: &[f32]) {}

    /// The memory that it holds.
    fn memory(&self) -> MemoryUse;
}

/// What runs graphs.
pub trait Device {
    /// Its name, such as `cpu`.
    fn name(&self) -> &str;

    /// What it can do.
    fn abilities(&self) -> Abilities;

    /// Makes a graph ready to run within `limits`.
    ///
    /// # Errors
    /// Whatever is wrong with the graph, the weights, the limits or the device's abilities, by name.
    fn compile(
        &self,
        graph: Arc<Graph>,
        weights: &dyn Weights,
        limits: Limits,
    ) -> Result<Box<dyn Program>, CompileError>;
}

/// The numbers of all weights whose gradients a graph gathers, each at its place: what steps lend ([`Step::weights`]).
///
/// # Errors
/// When one is missing or cannot be read.
pub fn to_lend(graph: &Graph, weights: &dyn Weights) -> Result<Vec<Vec<f32>>, WeightError> {
    let mut numbers = vec![Vec::new(); graph.weights().len()];
    for node in graph.nodes() {
        let Op::Gradient(gradient) = &node.op else { continue };
        for id in gradient.of() {
            let spec = graph.weight(id);
            numbers[id.index()] = fetch(weights, &spec.name, &spec.shape)?.to_f32(&spec.name)?;
        }
    }
    Ok(numbers)
}

/// Gets a weight and checks its shape and size against the graph: what every compiler does with each.
///
/// # Errors
/// When it is missing, has another shape, or its bytes are not what the shape calls for.
pub fn fetch<'a>(weights: &'a dyn Weights, name: &str, shape: &[usize]) -> Result<Tensor<'a>, WeightError> {
    let tensor = weights.get(name)?;
    if tensor.shape != shape {
        return Err(WeightError::Shape {
            name: name.to_owned(),
            expected: shape.to_vec(),
            found: tensor.shape,
        });
    }
    let row = shape.last().copied().unwrap_or(1);
    let Some(row_bytes) = tensor.dtype.bytes(row) else {
        let what = format!("rows of {row} numbers are not whole {} blocks", tensor.dtype);
        return Err(WeightError::Data { name: name.to_owned(), what });
    };
    let rows = tensor.elements() / row.max(1);
    if tensor.bytes() != rows * row_bytes
        || tensor.parts.iter().any(|p| row_bytes == 0 || p.len() % row_bytes != 0)
    {
        let what = format!("{} bytes where {rows} rows of {row_bytes} are called for", tensor.bytes());
        return Err(WeightError::Data { name: name.to_owned(), what });
    }
    Ok(tensor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Attention, Builder};

    #[test]
    fn a_block_is_written_in_one_place_of_a_step() {
        let mut b = Builder::new();
        let x = b.input(0, 2);
        let x = b.reshape(x, &[1, 2]).unwrap();
        let cache = b.cache(1, 2, 2);
        let attention = Attention { cache, scale: 1.0, window: None, softcap: None, sinks: None };
        let y = b.attention(x, x, x, attention).unwrap();
        let graph = b.finish(&[y]);
        let limits = Limits { tokens: 256, sequences: 4, outputs: 1, blocks: 8, cache: CacheDType::F32 };
        let numbers = [0.0; 512];
        let check = |sequences: &[SequenceStep<'_>]| {
            let rows: usize = sequences.iter().map(|s| s.tokens).sum();
            let step =
                Step { tokens: &[], sequences, outputs: &[], inputs: &[&numbers[..2 * rows]], weights: &[] };
            step.check(&graph, &limits)
        };
        let at = |position, tokens, blocks| SequenceStep { position, tokens, blocks };
        // A prefix may be read by both; what they write lies apart.
        assert_eq!(check(&[at(BLOCK, 1, &[0, 1]), at(BLOCK, 1, &[0, 2])]), Ok(()));
        assert_eq!(check(&[at(0, 2 * BLOCK, &[3, 4])]), Ok(()));
        for twice in [
            &[at(0, 1, &[5]), at(0, 1, &[5])][..],
            &[at(BLOCK, 1, &[0, 5]), at(0, 1, &[6]), at(BLOCK, 1, &[0, 5])],
            &[at(0, 2 * BLOCK, &[5, 5])],
        ] {
            let error = check(twice).unwrap_err().to_string();
            assert!(error.contains("block 5 is written in two places"), "{error}");
        }
    }
}
