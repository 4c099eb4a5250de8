//! A model in training.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use autarky_graph::derivative::training;
use autarky_graph::{
    CompileError, Device, Graph, MemoryUse, Program, RunError, Tensor, WeightError, WeightId, WeightSpec,
    Weights,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::adamw::{AdamWOptions, Update};
use crate::average::Average;
use crate::dora;
use crate::muon::MuonOptions;
use crate::optimizer::Optimizer;
use crate::parallel::sum_of_squares;
use crate::ranks::{RanksError, Share};
use crate::spikes::Norms;
use crate::step::{Laid, With, compile, losses, parts};

/// Why a model cannot be trained, or not on this.
#[derive(Debug, Error)]
pub enum TrainError {
    /// The graph has inputs of its own.
    #[error("this model takes more than tokens, and cannot be trained yet")]
    Inputs,
    /// The device does not multiply 8-bit integers for training, or other numbers faster.
    #[error(
        "precision \"int8\" is for processors with AVX-512 and VNNI and without matrix units; the kernels here are {0}: \
         use \"bf16\""
    )]
    NoInt8(String),
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
    /// No token of a step is to be learned.
    #[error("a step has no token that is to be learned")]
    Nothing,
    /// A state is not of this model and optimizer.
    #[error("the state of {name} has {found} numbers, the model {expected}: it is another model's")]
    State {
        /// The weight.
        name: String,
        /// Numbers that the model has of it.
        expected: usize,
        /// Numbers that came.
        found: usize,
    },
    /// The loss or a gradient is not a number: no weight was changed.
    #[error("the {0} of this step is not a number; no weight was changed: try a lower learning rate")]
    NotANumber(&'static str),
    /// The gradients are far longer than they were: no weight was changed.
    #[error(
        "the gradients of this step have a norm of {norm:.3}, where {usual:.3} is usual; no weight was changed"
    )]
    Spike {
        /// Their norm.
        norm: f32,
        /// The median of the last steps' norms.
        usual: f32,
    },
    /// The ranks that share the steps do not go on together.
    #[error(transparent)]
    Ranks(#[from] RanksError),
}

/// How a model is trained.
#[derive(Clone, Copy, Debug)]
pub struct TrainerOptions {
    /// Tokens that are read at a time, at most: memory grows with them.
    pub tokens: usize,
    /// Sequences that they are of, at most.
    pub sequences: usize,
    /// The optimizer.
    pub adamw: AdamWOptions,
    /// Another one for the matrices of the layers.
    pub muon: Option<MuonOptions>,
    /// Gradients are scaled down to this norm where theirs is larger.
    pub largest_norm: Option<f32>,
    /// Steps whose gradients' norm is more than this many times the usual one change nothing.
    pub largest_jump: Option<f32>,
    /// What products are computed in.
    pub precision: Precision,
    /// Whether most of what layers compute is computed again for the derivatives, and not kept: less memory, more time.
    pub recompute: bool,
    /// The decay of a running mean of the weights, where one is kept.
    pub ema: Option<f32>,
}

/// What products are computed in. Sums, and the weights that the optimizer changes, are 32-bit floats in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// 32-bit floats.
    F32,
    /// BF16, weights and what they are multiplied by (Micikevicius et al. 2018, arXiv:1710.03740; Kalamkar et al. 2019,
    /// arXiv:1905.12322): faster, and memory for half the numbers, on devices that multiply it.
    #[default]
    Bf16,
    /// 8-bit integers with a scale for each row of a weight and each token, and for each column where tokens are summed over
    /// (after Wortsman et al. 2023, arXiv:2304.13013, and Xi et al. 2024, arXiv:2403.12422); the rest as with `bf16`. Twice as
    /// many products on processors that have such instructions and no matrix units.
    Int8,
}

impl Precision {
    /// # Errors
    /// When a device does not train so.
    pub(crate) fn check(self, device: &dyn Device) -> Result<(), TrainError> {
        let abilities = device.abilities();
        match self {
            Precision::Int8 if !abilities.int8_training => Err(TrainError::NoInt8(abilities.instruction_set)),
            _ => Ok(()),
        }
    }

    /// The bytes of a number.
    pub fn bytes(self) -> u64 {
        match self {
            Precision::F32 => 4,
            Precision::Bf16 | Precision::Int8 => 2,
        }
    }
}

/// A text that a step learns from. Its tokens attend to it alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Example {
    /// Its tokens. Each but the first is predicted from those before it.
    pub tokens: Vec<u32>,
    /// For each token whether its prediction is learned; empty: all are.
    pub learned: Vec<bool>,
}

impl Example {
    /// Tokens that a step reads of it: the last one is predicted only.
    pub fn read(&self) -> usize {
        self.tokens.len().saturating_sub(1)
    }

    /// The places of the tokens that are predicted, and for each whether that is learned.
    pub fn predicted(&self) -> impl Iterator<Item = (usize, bool)> {
        (1..self.tokens.len()).map(|i| (i, self.learned.get(i).copied().unwrap_or(true)))
    }

    /// Tokens whose prediction is learned.
    pub fn learned(&self) -> usize {
        self.predicted().filter(|(_, learned)| *learned).count()
    }
}

impl From<&[u32]> for Example {
    fn from(tokens: &[u32]) -> Example {
        Example { tokens: tokens.to_vec(), learned: Vec::new() }
    }
}

/// What a step found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// The mean cross entropy of the learned tokens, in nats, before the step.
    pub loss: f32,
    /// The Euclidean norm of all gradients, before they were scaled down.
    pub norm: f32,
    /// Tokens that it learned.
    pub tokens: usize,
}

/// A model in training: its weights as 32-bit floats, a program that finds their gradients, and the optimizer.
pub struct Trainer {
    pub(crate) program: Box<dyn Program>,
    pub(crate) options: TrainerOptions,
    pub(crate) trained: Vec<Trained>,
    pub(crate) optimizer: Optimizer,
    /// The running mean of what this trainer keeps the optimizer's state of.
    pub(crate) average: Option<Average>,
    norms: Norms,
    /// The norms of rows beside which magnitudes are trained.
    pub(crate) row_norms: Option<dora::Norms>,
    /// Whose optimizer's state this trainer keeps, where several share it.
    pub(crate) shared: Option<Share>,
    /// Space for the tables of a step.
    blocks: Vec<u32>,
    /// Weights of the graph.
    weights: usize,
}

pub(crate) struct Trained {
    pub(crate) id: WeightId,
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) numbers: Vec<f32>,
    /// Matrices decay; gains, shifts and other vectors do not.
    pub(crate) decays: bool,
    /// Whether the optimizer changes it as a whole, with no running mean of squares.
    pub(crate) whole: bool,
}

/// A trained weight, with what the optimizer remembers of it.
#[derive(Clone, Copy, Debug)]
pub struct WeightState<'a> {
    /// The name that the graph gives it.
    pub name: &'a str,
    /// Its shape.
    pub shape: &'a [usize],
    /// Its numbers, row-major.
    pub numbers: &'a [f32],
    /// The running mean of its gradients.
    pub first: &'a [f32],
    /// The running mean of their squares; empty where the optimizer has none.
    pub second: &'a [f32],
    /// The running mean of its numbers; empty where none is kept.
    pub average: &'a [f32],
}

impl<'a> WeightState<'a> {
    /// All numbers: the weight's own, the two running means of the optimizer, and that of the weight.
    pub fn kinds(&self) -> [&'a [f32]; 4] {
        [self.numbers, self.first, self.second, self.average]
    }
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
        Trainer::of(device, graph, weights, options, |_| true)
    }

    /// The same of those weights for which `trained` says so. The others are kept as they are stored.
    ///
    /// # Errors
    /// As [`Trainer::new`].
    pub fn of(
        device: &dyn Device,
        graph: &Graph,
        weights: &dyn Weights,
        options: TrainerOptions,
        trained: impl Fn(&WeightSpec) -> bool,
    ) -> Result<Trainer, TrainError> {
        options.precision.check(device)?;
        let graph = Arc::new(training(graph, trained, options.recompute).ok_or(TrainError::Inputs)?);
        let size = (options.tokens, options.sequences);
        let (program, blocks) = compile(device, Arc::clone(&graph), weights, options.precision, size)?;
        let mut trained = Vec::new();
        for (id, spec) in graph.weight_ids().zip(graph.weights()) {
            if !program.gradient(id).is_empty() {
                let numbers = weights.get(&spec.name)?.to_f32(&spec.name)?;
                let (name, shape, decays) = (spec.name.clone(), spec.shape.clone(), spec.shape.len() > 1);
                trained.push(Trained { id, name, shape, numbers, decays, whole: false });
            }
        }
        let weights = trained.iter().map(|t: &Trained| (&t.name[..], &t.shape[..]));
        let optimizer = Optimizer::new(device, (options.adamw, options.muon), weights)?;
        for (t, whole) in trained.iter_mut().zip(optimizer.by_muon()) {
            t.whole = *whole;
        }
        let average = options.ema.map(|decay| Average::new(decay, trained.iter().map(|t| &t.numbers[..])));
        let norms = Norms::default();
        let (row_norms, shared, weights) = (None, None, graph.weights().len());
        Ok(Trainer {
            program,
            options,
            trained,
            optimizer,
            average,
            norms,
            row_norms,
            shared,
            blocks,
            weights,
        })
    }

    /// The memory that the program holds: beside it are the optimizer's state and the weights as 32-bit floats.
    pub fn memory(&self) -> MemoryUse {
        self.program.memory()
    }

    /// Steps that the optimizer has taken.
    pub fn steps(&self) -> u32 {
        self.optimizer.steps()
    }

    /// The names and shapes of the trained weights, and which of [`WeightState::kinds`] there are of each.
    pub fn kept(&self) -> impl Iterator<Item = (&str, &[usize], [bool; 4])> {
        let average = self.average.is_some();
        self.trained.iter().map(move |t| (&t.name[..], &t.shape[..], [true, true, !t.whole, average]))
    }

    /// Everything that a later step depends on, beside [`Trainer::steps`], of a trainer that keeps all of it.
    pub fn state(&self) -> impl Iterator<Item = WeightState<'_>> {
        let kept = self.trained.iter().zip(self.optimizer.means()).enumerate();
        kept.map(|(i, (t, (first, second)))| WeightState {
            name: &t.name,
            shape: &t.shape,
            numbers: &t.numbers,
            first,
            second,
            average: self.average.as_ref().map_or(&[], |average| average.part(i)),
        })
    }

    /// The names and numbers of the trained weights.
    pub fn numbers(&self) -> impl Iterator<Item = (&str, &[f32])> {
        self.trained.iter().map(|t| (&t.name[..], &t.numbers[..]))
    }

    /// The names and numbers of the trained weights. All else is let go.
    pub fn into_numbers(self) -> Vec<(String, Vec<f32>)> {
        self.trained.into_iter().map(|t| (t.name, t.numbers)).collect()
    }

    /// The parts of weights whose optimizer's state this trainer keeps: which weight, and which of its numbers.
    pub(crate) fn parts(&self) -> Vec<(usize, Range<usize>)> {
        match &self.shared {
            Some(share) => share.parts(),
            None => self.trained.iter().enumerate().map(|(i, t)| (i, 0..t.numbers.len())).collect(),
        }
    }

    /// The norms of the last steps' gradients, oldest first, by which spikes are told.
    pub fn norms(&self) -> Vec<f32> {
        self.norms.all()
    }

    /// Goes on after steps whose gradients had these norms, oldest first.
    pub fn restore_norms(&mut self, norms: &[f32]) {
        self.norms = Norms::of(norms);
    }

    /// Goes on from a state: `numbers` gives of every weight, by its name, [`WeightState::kinds`], as [`Trainer::state`] has
    /// them.
    ///
    /// # Errors
    /// Those of `numbers`, and for numbers that are not as many as the weight's. Nothing is changed then that the next
    /// call does not change again.
    pub fn restore<E: From<TrainError>>(
        &mut self,
        steps: u32,
        mut numbers: impl FnMut(&str) -> Result<[Vec<f32>; 4], E>,
    ) -> Result<(), E> {
        let (mut means, mut averages) = (Vec::new(), Vec::new());
        let mut parts = self.parts().into_iter().peekable();
        let keeps_average = self.average.is_some();
        for (i, t) in self.trained.iter_mut().enumerate() {
            let state = numbers(&t.name)?;
            let all = t.numbers.len();
            let squares = if t.whole { 0 } else { all };
            let average = if keeps_average { all } else { 0 };
            for (expected, found) in [all, all, squares, average].into_iter().zip(state.each_ref()) {
                if found.len() != expected {
                    let (name, found) = (t.name.clone(), found.len());
                    return Err(TrainError::State { name, expected, found }.into());
                }
            }
            let [weight, first, second, average] = state;
            t.numbers = weight;
            let Some((_, part)) = parts.next_if(|(weight, _)| *weight == i) else { continue };
            let own = |numbers: Vec<f32>| match numbers.is_empty() || part == (0..all) {
                true => numbers,
                false => numbers[part.clone()].to_vec(),
            };
            means.push((own(first), own(second)));
            averages.push(own(average));
        }
        self.optimizer.restore(steps, means);
        if let Some(average) = &mut self.average {
            average.restore(averages);
        }
        self.put_weights()?;
        self.program.clear_gradients();
        Ok(())
    }

    /// One step that learns all tokens of every sequence but the first.
    ///
    /// # Errors
    /// As [`Trainer::gather`] and [`Trainer::update`]; weights are as they were then.
    pub fn step(&mut self, sequences: &[&[u32]], learning_rate: f32) -> Result<StepReport, TrainError> {
        let examples: Vec<Example> = sequences.iter().map(|&s| Example::from(s)).collect();
        let tokens = examples.iter().map(Example::learned).sum();
        let sum = self.gather(&examples, tokens)?;
        let norm = self.update(learning_rate)?;
        Ok(StepReport { loss: (sum / tokens as f64) as f32, norm, tokens })
    }

    /// Adds the gradients of the examples' losses, divided by `of` tokens, to those that are there, and gives the sum of
    /// the losses. `of` is how many tokens the step learns in all.
    ///
    /// # Errors
    /// When the examples do not fit the options, or the loss is not a number: gradients are zero then.
    pub fn gather(&mut self, examples: &[Example], of: usize) -> Result<f64, TrainError> {
        let result = self.add(examples, of);
        if result.is_err() {
            self.discard();
        }
        result
    }

    fn add(&mut self, examples: &[Example], of: usize) -> Result<f64, TrainError> {
        if let Some(short) = examples.iter().position(|e| e.tokens.len() < 2) {
            return Err(TrainError::Short(short));
        }
        if of == 0 {
            return Err(TrainError::Nothing);
        }
        let sum = self.run(|program, with| Laid::new(examples).run(program, with, 1.0 / of as f32))?;
        if sum.is_finite() { Ok(sum) } else { Err(TrainError::NotANumber("loss")) }
    }

    /// Runs a step of the program, with the weights as they are.
    fn run<T>(
        &mut self,
        step: impl FnOnce(&mut dyn Program, With<'_>) -> Result<T, RunError>,
    ) -> Result<T, RunError> {
        let all = self.trained.iter().enumerate();
        let numbers: Vec<_> =
            all.map(|(i, t)| dora::programmed(self.row_norms.as_ref(), i, &t.numbers)).collect();
        let mut weights = vec![&[][..]; self.weights];
        self.trained.iter().zip(&numbers).for_each(|(t, numbers)| weights[t.id.index()] = numbers);
        step(&mut *self.program, With { blocks: &self.blocks, weights: &weights })
    }

    /// Adds the gradients of Σ factor · loss to those that are there, with a factor for every token that is predicted, one
    /// example after another, and gives the losses. Which are learned the factors alone say.
    ///
    /// # Errors
    /// As [`Trainer::gather`].
    pub fn gather_weighted(&mut self, examples: &[Example], factors: &[f32]) -> Result<Vec<f32>, TrainError> {
        let (mut losses, mut rest) = (Vec::with_capacity(factors.len()), factors);
        for part in parts(examples, self.options.tokens, self.options.sequences) {
            let factors;
            (factors, rest) = rest.split_at(part.iter().map(Example::read).sum());
            losses.extend(self.add_weighted(part, factors).inspect_err(|_| self.discard())?);
        }
        Ok(losses)
    }

    fn add_weighted(&mut self, examples: &[Example], factors: &[f32]) -> Result<Vec<f32>, TrainError> {
        if let Some(short) = examples.iter().position(|e| e.tokens.len() < 2) {
            return Err(TrainError::Short(short));
        }
        self.run(|program, with| Laid::new(examples).compute(program, with, factors))?;
        let losses = self.program.output(0)[..factors.len()].to_vec();
        match losses.iter().all(|loss| loss.is_finite()) {
            true => Ok(losses),
            false => Err(TrainError::NotANumber("loss")),
        }
    }

    /// The losses of every token that is predicted, one example after another. Gradients stay as they are.
    ///
    /// # Errors
    /// When an example does not fit the options.
    pub fn losses(&mut self, examples: &[Example]) -> Result<Vec<f32>, TrainError> {
        let size = (self.options.tokens, self.options.sequences);
        Ok(self.run(|program, with| losses(program, with, examples, size))?)
    }

    /// Forgets the gradients that were gathered.
    pub fn discard(&mut self) {
        self.program.clear_gradients();
    }

    /// Changes the weights by the gathered gradients, which are zero after it, and gives the gradients' norm.
    ///
    /// # Errors
    /// When the norm or the rate is not a number, or the norm a spike: weights are as they were, gradients zero.
    pub fn update(&mut self, learning_rate: f32) -> Result<f32, TrainError> {
        let norm = sum_of_squares(self.gradients().iter().map(|g| &**g)).sqrt() as f32;
        let scale = self.scale_for(norm, learning_rate).inspect_err(|_| self.program.clear_gradients())?;
        let (program, norms) = (&*self.program, self.row_norms.as_ref());
        let all = self.trained.iter().enumerate();
        let gradients: Vec<Cow<'_, [f32]>> = all.map(|it| dora::gradient(norms, program, it)).collect();
        let updates = self.trained.iter_mut().zip(&gradients).map(|(t, gradients)| Update {
            parameters: &mut t.numbers,
            gradients,
            decays: t.decays,
        });
        self.optimizer.step(updates, learning_rate, scale)?;
        if let Some(average) = &mut self.average {
            average.add(self.trained.iter().map(|t| &t.numbers[..]));
        }
        self.put_weights()?;
        self.discard();
        Ok(norm)
    }

    /// What gradients of this norm are multiplied by.
    ///
    /// # Errors
    /// When the norm or the rate is not a number, or the norm far above what is usual.
    pub(crate) fn scale_for(&mut self, norm: f32, learning_rate: f32) -> Result<f32, TrainError> {
        for (number, what) in [(norm, "gradient"), (learning_rate, "learning rate")] {
            if !number.is_finite() {
                return Err(TrainError::NotANumber(what));
            }
        }
        let usual = self.norms.add(norm);
        if let (Some(usual), Some(jump)) = (usual, self.options.largest_jump)
            && norm > jump * usual
        {
            return Err(TrainError::Spike { norm, usual });
        }
        // As PyTorch's clip_grad_norm_.
        let most = self.options.largest_norm.map_or(f32::INFINITY, |most| most / (norm + 1e-6));
        Ok(most.min(1.0))
    }
}

/// The weights as they are now, as a graph takes them, in 32-bit floats.
impl Weights for Trainer {
    fn get(&self, name: &str) -> Result<Tensor<'_>, WeightError> {
        let found = self.trained.iter().enumerate().find(|(_, t)| t.name == name);
        let (i, t) = found.ok_or_else(|| WeightError::Missing {
            name: name.to_owned(),
            hint: "it is not among the weights that are trained".to_owned(),
        })?;
        Ok(Tensor::of_f32(&t.shape, &dora::programmed(self.row_norms.as_ref(), i, &t.numbers)))
    }
}
