//! A model in training.

use std::sync::Arc;

use autarky_graph::derivative::{FACTORS, TARGETS, training};
use autarky_graph::{
    BLOCK, CacheDType, CompileError, Device, Graph, Limits, MemoryUse, Program, RunError, SequenceStep, Step,
    Tensor, WeightError, WeightId, Weights,
};
use autarky_quant::DType;
use half::bf16;
use thiserror::Error;

use crate::adamw::{AdamW, AdamWOptions, Update};
use crate::parallel::sum_of_squares;

/// Why a model cannot be trained, or not on this.
#[derive(Debug, Error)]
pub enum TrainError {
    /// The graph has inputs of its own.
    #[error("this model takes more than tokens, and cannot be trained yet")]
    Inputs,
    /// The device does not take the training graph.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// A weight is not there or not right.
    #[error(transparent)]
    Weight(#[from] WeightError),
    /// A step does not fit.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A sequence has nothing to be learned from.
    #[error("sequence {0} has fewer than two tokens: there is none that follows another")]
    Short(usize),
    /// The loss or a gradient is not a number: no weight was changed.
    #[error("the {0} of this step is not a number; no weight was changed: try a lower learning rate")]
    NotANumber(&'static str),
}

/// How a model is trained.
#[derive(Clone, Copy, Debug)]
pub struct TrainerOptions {
    /// Sequences of a step, at most.
    pub sequences: usize,
    /// Tokens of a sequence that are learned from, at most.
    pub length: usize,
    /// The optimizer.
    pub adamw: AdamWOptions,
    /// Gradients are scaled down to this norm where theirs is larger.
    pub largest_norm: Option<f32>,
    /// What products are computed in.
    pub precision: Precision,
}

/// What products are computed in. Sums, and the weights that the optimizer changes, are 32-bit floats in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// 32-bit floats.
    F32,
    /// BF16, weights and what they are multiplied by (Micikevicius et al. 2018, arXiv:1710.03740; Kalamkar et al. 2019,
    /// arXiv:1905.12322): faster, and memory for half the numbers, on devices that multiply it.
    #[default]
    Bf16,
}

/// Weights whose matrices are BF16.
struct AsBf16<'a>(&'a dyn Weights);

impl Weights for AsBf16<'_> {
    fn get(&self, name: &str) -> Result<Tensor<'_>, WeightError> {
        let tensor = self.0.get(name)?;
        if tensor.shape.len() < 2 || !tensor.dtype.is_float() || tensor.dtype == DType::BF16 {
            return Ok(tensor);
        }
        let numbers = tensor.to_f32(name)?;
        let bytes = numbers.into_iter().flat_map(|x| bf16::from_f32(x).to_le_bytes()).collect::<Vec<u8>>();
        Ok(Tensor { dtype: DType::BF16, shape: tensor.shape, parts: vec![bytes.into()] })
    }

    fn release(&self, name: &str) {
        self.0.release(name);
    }
}

/// What a step found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// The mean cross entropy of the tokens, in nats, before the step.
    pub loss: f32,
    /// The Euclidean norm of all gradients.
    pub norm: f32,
    /// Tokens that it was learned from.
    pub tokens: usize,
}

/// A model in training: its weights as 32-bit floats, a program that finds their gradients, and the optimizer.
pub struct Trainer {
    program: Box<dyn Program>,
    options: TrainerOptions,
    trained: Vec<Trained>,
    optimizer: AdamW,
}

struct Trained {
    id: WeightId,
    numbers: Vec<f32>,
    /// Matrices decay; gains, shifts and other vectors do not.
    decays: bool,
}

impl Trainer {
    /// Makes the model of `graph` ready to be trained on `device`, all of its weights.
    ///
    /// # Errors
    /// When the graph cannot be trained, the device does not run it, or a weight cannot be had.
    pub fn new(
        device: &dyn Device,
        graph: &Graph,
        weights: &dyn Weights,
        options: TrainerOptions,
    ) -> Result<Trainer, TrainError> {
        let graph = Arc::new(training(graph, |_| true).ok_or(TrainError::Inputs)?);
        let tokens = options.sequences * options.length;
        let blocks = options.sequences * options.length.div_ceil(BLOCK);
        let limits =
            Limits { tokens, sequences: options.sequences, outputs: tokens, blocks, cache: CacheDType::F32 };
        let rounded = AsBf16(weights);
        let compiled: &dyn Weights = if options.precision == Precision::Bf16 { &rounded } else { weights };
        let program = device.compile(Arc::clone(&graph), compiled, limits)?;
        let mut trained = Vec::new();
        for (id, spec) in graph.weight_ids().zip(graph.weights()) {
            if !program.gradient(id).is_empty() {
                let numbers = weights.get(&spec.name)?.to_f32(&spec.name)?;
                trained.push(Trained { id, numbers, decays: spec.shape.len() > 1 });
            }
        }
        let optimizer = AdamW::new(options.adamw, trained.iter().map(|t| t.numbers.len()));
        Ok(Trainer { program, options, trained, optimizer })
    }

    /// The memory that the program holds: beside it are the optimizer's state and the weights as 32-bit floats.
    pub fn memory(&self) -> MemoryUse {
        self.program.memory()
    }

    /// One step: every token of every sequence but the first is learned from those before it.
    ///
    /// # Errors
    /// When the sequences do not fit the options, or the step gave no numbers; weights are as they were then.
    pub fn step(&mut self, sequences: &[&[u32]], learning_rate: f32) -> Result<StepReport, TrainError> {
        if let Some(short) = sequences.iter().position(|s| s.len() < 2) {
            return Err(TrainError::Short(short));
        }
        let tokens: Vec<u32> = sequences.iter().flat_map(|s| &s[..s.len() - 1]).copied().collect();
        let targets: Vec<f32> = sequences.iter().flat_map(|s| &s[1..]).map(|&t| t as f32).collect();
        let factors = vec![1.0 / tokens.len() as f32; tokens.len()];
        let outputs: Vec<u32> = (0..tokens.len() as u32).collect();
        let each = self.options.length.div_ceil(BLOCK);
        let blocks: Vec<u32> = (0..(each * sequences.len()) as u32).collect();
        let sequence = |(i, s): (usize, &&[u32])| SequenceStep {
            position: 0,
            tokens: s.len() - 1,
            blocks: &blocks[i * each..(i + 1) * each],
        };
        let sequences: Vec<SequenceStep<'_>> = sequences.iter().enumerate().map(sequence).collect();
        let mut inputs = [&[][..]; 2];
        inputs[TARGETS] = &targets;
        inputs[FACTORS] = &factors;
        self.program.clear_gradients();
        self.program.run(&Step {
            tokens: &tokens,
            sequences: &sequences,
            outputs: &outputs,
            inputs: &inputs,
        })?;
        let loss = self.program.output(0).iter().map(|&x| f64::from(x)).sum::<f64>() / tokens.len() as f64;
        let norm = sum_of_squares(self.trained.iter().map(|t| self.program.gradient(t.id))).sqrt();
        for (number, what) in [(loss, "loss"), (norm, "gradient")] {
            if !number.is_finite() {
                return Err(TrainError::NotANumber(what));
            }
        }
        let report = StepReport { loss: loss as f32, norm: norm as f32, tokens: tokens.len() };
        // As PyTorch's clip_grad_norm_.
        let most = self.options.largest_norm.map_or(f32::INFINITY, |most| most / (report.norm + 1e-6));
        let program = &self.program;
        let updates = self.trained.iter_mut().map(|t| Update {
            parameters: &mut t.numbers,
            gradients: program.gradient(t.id),
            decays: t.decays,
        });
        self.optimizer.step(updates, learning_rate, most.min(1.0));
        for t in &self.trained {
            self.program.set_weight(t.id, &t.numbers);
        }
        Ok(report)
    }
}
