//! Examples as a step of a program takes them, and programs that take them.

use std::sync::Arc;

use autarky_graph::derivative::{FACTORS, TARGETS};
use autarky_graph::{
    BLOCK, CacheDType, CompileError, Device, Graph, Limits, Program, RunError, SequenceStep, Step, Tensor,
    WeightError, Weights,
};
use autarky_quant::DType;
use half::bf16;

use crate::trainer::{Example, Precision};

/// What a program's steps are run with, beside examples.
#[derive(Clone, Copy)]
pub(crate) struct With<'a> {
    /// The blocks of its cache.
    pub(crate) blocks: &'a [u32],
    /// The weights that steps change, as [`Step::weights`] has them.
    pub(crate) weights: &'a [&'a [f32]],
}

/// Examples, one after another.
#[derive(Debug, Default)]
pub(crate) struct Laid {
    tokens: Vec<u32>,
    targets: Vec<f32>,
    /// For every target whether it is learned.
    pub(crate) learned: Vec<bool>,
    /// Tokens of each example.
    read: Vec<usize>,
}

impl Laid {
    pub(crate) fn new(examples: &[Example]) -> Laid {
        let mut laid = Laid::default();
        for example in examples.iter().filter(|e| e.read() > 0) {
            let read = example.read();
            laid.tokens.extend_from_slice(&example.tokens[..read]);
            laid.targets.extend(example.tokens[1..].iter().map(|&t| t as f32));
            laid.learned.extend(example.predicted().map(|(_, learned)| learned));
            laid.read.push(read);
        }
        laid
    }

    /// Runs a program whose losses all are wanted; what is learned counts with `factor` in what is differentiated. Gives the
    /// sum of the losses of what is learned.
    ///
    /// # Errors
    /// When the examples do not fit the program.
    pub(crate) fn run(
        &self,
        program: &mut dyn Program,
        with: With<'_>,
        factor: f32,
    ) -> Result<f64, RunError> {
        let factors: Vec<f32> = self.learned.iter().map(|&l| if l { factor } else { 0.0 }).collect();
        self.compute(program, with, &factors)?;
        let losses = program.output(0).iter().zip(&self.learned).filter(|(_, learned)| **learned);
        Ok(losses.map(|(&loss, _)| f64::from(loss)).sum())
    }

    /// Runs a program whose losses are its first output, with a factor for each target.
    ///
    /// # Errors
    /// When the examples do not fit the program.
    pub(crate) fn compute(
        &self,
        program: &mut dyn Program,
        with: With<'_>,
        factors: &[f32],
    ) -> Result<(), RunError> {
        self.bind(with, factors, &mut |step| program.run(step))
    }

    fn bind(
        &self,
        With { blocks, weights }: With<'_>,
        factors: &[f32],
        run: &mut dyn FnMut(&Step<'_>) -> Result<(), RunError>,
    ) -> Result<(), RunError> {
        let mut free = blocks;
        let mut sequences = Vec::with_capacity(self.read.len());
        for &read in &self.read {
            // Too many are refused by the program's own check of the step.
            let blocks;
            (blocks, free) = free.split_at(read.div_ceil(BLOCK).min(free.len()));
            sequences.push(SequenceStep { position: 0, tokens: read, blocks });
        }
        let outputs: Vec<u32> = (0..self.tokens.len() as u32).collect();
        let mut inputs = [&[][..]; 2];
        inputs[TARGETS] = &self.targets;
        inputs[FACTORS] = factors;
        let (tokens, sequences, outputs) = (&self.tokens, &sequences, &outputs);
        run(&Step { tokens, sequences, outputs, inputs: &inputs, weights })
    }
}

/// The losses of every token that is predicted, one example after another, by a program that takes so many tokens of so many
/// sequences at a time. One that gathers gradients leaves them as they are.
///
/// # Errors
/// When an example does not fit the program.
pub(crate) fn losses(
    program: &mut dyn Program,
    with: With<'_>,
    examples: &[Example],
    (tokens, sequences): (usize, usize),
) -> Result<Vec<f32>, RunError> {
    let mut losses = Vec::with_capacity(examples.iter().map(Example::read).sum());
    for part in parts(examples, tokens, sequences) {
        let laid = Laid::new(part);
        let count = laid.learned.len();
        if count > 0 {
            laid.bind(with, &vec![0.0; count], &mut |step| program.run_outputs(step))?;
            losses.extend_from_slice(&program.output(0)[..count]);
        }
    }
    Ok(losses)
}

/// A program that takes so many tokens of so many sequences at a time, with weights in a precision, and the blocks of its
/// cache.
///
/// # Errors
/// When the device does not run the graph, or a weight cannot be had.
pub(crate) fn compile(
    device: &dyn Device,
    graph: Arc<Graph>,
    weights: &dyn Weights,
    precision: Precision,
    (tokens, sequences): (usize, usize),
) -> Result<(Box<dyn Program>, Vec<u32>), CompileError> {
    let blocks = tokens.div_ceil(BLOCK) + sequences;
    let limits = Limits { tokens, sequences, outputs: tokens, blocks, cache: CacheDType::F32 };
    let rounded = AsBf16 { weights, int8: precision == Precision::Int8 };
    let compiled: &dyn Weights = if precision == Precision::F32 { weights } else { &rounded };
    let program = device.compile(graph, compiled, limits)?;
    Ok((program, (0..blocks as u32).collect()))
}

/// Weights whose matrices are BF16.
pub(crate) struct AsBf16<'a> {
    pub(crate) weights: &'a dyn Weights,
    /// Whether products may take 8-bit integers.
    pub(crate) int8: bool,
}

impl Weights for AsBf16<'_> {
    fn get(&self, name: &str) -> Result<Tensor<'_>, WeightError> {
        let tensor = self.weights.get(name)?;
        if tensor.shape.len() < 2 || !tensor.dtype.is_float() || tensor.dtype == DType::BF16 {
            return Ok(tensor);
        }
        let numbers = tensor.to_f32(name)?;
        let bytes = numbers.into_iter().flat_map(|x| bf16::from_f32(x).to_le_bytes()).collect::<Vec<u8>>();
        Ok(Tensor { dtype: DType::BF16, shape: tensor.shape, parts: vec![bytes.into()] })
    }

    fn release(&self, name: &str) {
        self.weights.release(name);
    }

    fn in_int8(&self, _name: &str) -> bool {
        self.int8
    }
}

/// Examples in parts that a program of so many tokens and sequences takes at a time. One that is longer is a part of its own.
pub(crate) fn parts(examples: &[Example], tokens: usize, sequences: usize) -> Vec<&[Example]> {
    let mut parts = Vec::new();
    let mut rest = examples;
    while !rest.is_empty() {
        let mut read = 0;
        let fits = |e: &&Example| {
            read += e.read();
            read <= tokens
        };
        let count = rest.iter().take(sequences).take_while(fits).count();
        let part;
        (part, rest) = rest.split_at(count.max(1));
        parts.push(part);
    }
    parts
}
